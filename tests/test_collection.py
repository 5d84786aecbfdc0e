"""Collecting from hostile and damaged sources, interrupted collecting, and the whole real collection."""

import gzip
import io
import os
import signal
import socket
import stat
import subprocess
import sys
import tarfile
import threading
import time
import unicodedata
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from builders import END, encrypted, lying, make_zip, meta, off, on, overlapping, piece, scale, smf, without_utf8_flag
from composer_classify import collection
from composer_classify.archives import list_members
from composer_classify.collection import _forget_pieces, collect, counts, summary
from composer_classify.corpus import Corpus, validate
from composer_classify.files import CollectionError, atomic_write
from composer_classify.midi import AUGMENTED


@pytest.fixture
def gather(tmp_path):
    """A function that collects an archive, given as bytes or as its members, and looks at the folder around it for what
    escaped."""

    def gather(archive, name: str = "source.zip") -> Corpus:
        (tmp_path / name).write_bytes(archive if isinstance(archive, bytes) else make_zip(archive))
        corpus = collect(tmp_path / name, dest=tmp_path / "room" / "corpus", n_jobs=1)
        assert {p.name for p in tmp_path.iterdir()} == {name, "room"} and {
            p.name for p in (tmp_path / "room").iterdir()
        } == {"corpus"}
        assert validate(corpus) == ([], [])
        assert files_of(corpus.path) == {
            *corpus.files["path"],
            "manifest.parquet",
            "notes.npy",
            "offsets.npy",
            "works.npz",
            "duplicates.csv",
            "review.csv",
        }
        return corpus

    return gather


def files_of(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def said(corpus: Corpus) -> dict[str, str]:
    "What became of each member, or the error."
    return {row.source: row.error or row.status for row in corpus.manifest.itertuples()}


# ---------------------------------------------------------------- hostile archives


@pytest.mark.parametrize(
    "name",
    [
        "../evil.mid",
        "Bach/../../evil.mid",
        "/evil.mid",
        "C:\\evil.mid",
        "C:evil.mid",
        "..\\..\\evil.mid",
        "Bach\\..\\..\\evil.mid",
        "\\\\host\\share\\evil.mid",
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_names_that_lead_out_are_refused(gather, name, nested):
    hostile = [(name, piece(70))]
    corpus = gather([("Bach/a.mid", piece()), *([("Bach/b.zip", make_zip(hostile))] if nested else hostile)])
    assert corpus.files["path"].tolist() == ["Bach/a.mid"]
    assert "leads out of the archive" in " ".join(said(corpus).values())


def test_links_are_refused(gather):
    link = zipfile.ZipInfo("Bach/link.mid")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    corpus = gather([("Bach/a.mid", piece()), (link, b"/etc/passwd")])
    assert said(corpus) == {"Bach/a.mid": "ok", "Bach/link.mid": "was refused: it is a link"}


def test_encrypted_members_are_refused(gather):
    assert said(gather(encrypted(make_zip([("Bach/a.mid", piece())])))) == {
        "Bach/a.mid": "was refused: it is encrypted"
    }


def test_a_bomb_is_refused_unread(gather):
    corpus = gather(
        [
            ("Bach/a.mid", piece()),
            ("Bach/bomb.mid", bytes(17 << 20)),
            ("Bach/bomb.zip", make_zip([("b.mid", bytes(65 << 20))])),
        ]
    )
    assert corpus.files["path"].tolist() == ["Bach/a.mid"]
    assert (
        said(corpus)["Bach/bomb.mid"]
        == "was refused: it unpacks to 17,825,792 bytes, more than the limit of 16,777,216"
    )


@pytest.mark.parametrize("size", [100, 0])
def test_a_bomb_that_lies_about_its_size_is_no_piece(gather, size):
    corpus = gather(lying(make_zip([("Bach/bomb.mid", smf([bytes(17 << 20)]))]), size))
    assert len(corpus.files) == 0 and corpus.manifest["status"].tolist() == ["unreadable"]


def test_many_members_of_the_same_bytes_are_a_bomb(tmp_path):
    (tmp_path / "a.zip").write_bytes(
        overlapping(make_zip([("Bach/b.mid", bytes(16 << 20))]), 600)
    )  # 16 KiB that unpack to 9 GiB
    with pytest.raises(CollectionError, match="zip bomb"):
        collect(tmp_path / "a.zip", dest=tmp_path / "corpus")


def test_many_small_archives_of_the_same_bytes_are_a_bomb(tmp_path):
    inner = overlapping(make_zip([("b.mid", bytes(16 << 20))]), 60)
    (tmp_path / "a.zip").write_bytes(make_zip([(f"Bach/{i}.zip", inner) for i in range(10)]))
    with pytest.raises(CollectionError, match="zip bomb"):
        collect(tmp_path / "a.zip", dest=tmp_path / "corpus")


@pytest.mark.slow
def test_too_many_members_are_a_bomb(tmp_path):
    (tmp_path / "a.zip").write_bytes(overlapping(make_zip([("b", b"")]), 200_001))
    with pytest.raises(CollectionError, match="zip bomb"):
        list_members(tmp_path / "a.zip")


def test_archives_in_archives_are_opened_three_deep(gather):
    archive = make_zip([("x.mid", piece(20))])
    for depth in range(6):
        archive = make_zip([("in.zip", archive), (f"{depth}.mid", piece(30 + depth))])
    corpus = gather([("Bach/a.zip", archive)])
    assert len(corpus.files) == 3
    assert "too many archives" in " ".join(said(corpus).values())


# ---------------------------------------------------------------- damaged archives


@pytest.mark.parametrize(
    "archive",
    [b"", b"PK", make_zip([("Bach/a.mid", piece())])[:-30], make_zip([("Bach/a.mid", piece())])[:60]],
    ids=["nothing", "two bytes", "no end", "cut off"],
)
def test_what_is_no_archive_gets_one_sentence(tmp_path, archive):
    (tmp_path / "a.zip").write_bytes(archive)
    with pytest.raises(CollectionError, match="neither a folder nor a zip or tar archive"):
        collect(tmp_path / "a.zip", dest=tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()


def test_an_archive_without_its_beginning_gives_what_is_whole(gather):
    corpus = gather(make_zip([("Bach/a.mid", piece()), ("Bach/b.mid", piece(70, 40))])[40:])
    assert corpus.files["path"].tolist() == ["Bach/b.mid"] and said(corpus)["Bach/a.mid"].startswith("cannot be read")


def scrambled(archive: bytes, after: bytes) -> bytes:
    "The archive with the compressed bytes of one member spoilt."
    at = archive.index(after) + len(after)
    return archive[:at] + bytes(b ^ 0xFF for b in archive[at : at + 20]) + archive[at + 20 :]


def test_one_spoilt_member_costs_no_other(gather):
    corpus = gather(scrambled(make_zip([("Bach/a.mid", piece()), ("Bach/b.mid", piece(70))]), b"Bach/a.mid"))
    assert said(corpus)["Bach/a.mid"].startswith("cannot be read") and corpus.files["path"].tolist() == ["Bach/b.mid"]


def test_one_spoilt_member_of_an_inner_archive_costs_no_other(gather):
    inner = scrambled(make_zip([("a.mid", piece()), ("b.mid", piece(70))]), b"a.mid")
    assert gather([("Bach/in.zip", inner), ("Chopin/c.mid", piece(50))]).files["path"].tolist() == [
        "Bach/in/b.mid",
        "Chopin/c.mid",
    ]


def test_one_spoilt_inner_archive_costs_no_other_member(gather):
    corpus = gather(
        scrambled(
            make_zip([("Bach/in.zip", make_zip([("a.mid", piece())])), ("Bach/c.mid", piece(50))]), b"Bach/in.zip"
        )
    )
    assert corpus.files["path"].tolist() == ["Bach/c.mid"] and "damaged archive" in said(corpus)["Bach/in.zip"]


@pytest.mark.parametrize("method", [1, 97])
def test_compression_that_is_unknown_is_said(gather, method):
    archive = make_zip([("Bach/a.mid", piece())]).replace(b"\x08\x00", bytes([method, 0]))
    corpus = gather(archive)
    assert corpus.manifest["status"].tolist() == ["unreadable"]


def test_an_archive_with_a_name_that_is_no_utf8_gets_one_sentence(tmp_path):
    (tmp_path / "a.zip").write_bytes(make_zip([("Bach/é.mid", piece())]).replace("é".encode(), b"\xff\xfe"))
    with pytest.raises(CollectionError, match="damaged archive"):
        collect(tmp_path / "a.zip", dest=tmp_path / "corpus")


def test_an_inner_archive_with_a_name_that_is_no_utf8_costs_no_other_member(gather):
    inner = make_zip([("é.mid", piece())]).replace("é".encode(), b"\xff\xfe")
    assert gather([("Bach/in.zip", inner), ("Bach/c.mid", piece(50))]).files["path"].tolist() == ["Bach/c.mid"]


def test_a_source_without_midi_is_no_corpus(tmp_path):
    (tmp_path / "a.zip").write_bytes(make_zip([("Bach/cover.jpg", b"\xff\xd8")]))
    with pytest.raises(CollectionError, match="holds no music files"):
        collect(tmp_path / "a.zip", dest=tmp_path / "corpus", n_jobs=1)
    assert not (tmp_path / "corpus/manifest.parquet").exists()


# ---------------------------------------------------------------- names


def test_unicode_names_survive_composed(gather):
    corpus = gather(
        [
            ("Albe\u0301niz/Ma\u0301laga.mid", piece()),
            ("Albéniz/Córdoba.mid", piece(50)),
            ("Дворжак/Русалка.mid", piece(40)),
            ("武満/夢.mid", piece(30)),
        ]
    )
    assert set(corpus.files["path"]) == {
        "Albéniz/Málaga.mid",
        "Albéniz/Córdoba.mid",
        "Дворжак/Русалка.mid",
        "武満/夢.mid",
    }
    assert files_of(corpus.path) >= set(corpus.files["path"])


def test_utf8_without_the_flag_is_read_as_utf8(gather):
    assert gather(without_utf8_flag(make_zip([("Albéniz/Córdoba.mid", piece())]))).files["path"].tolist() == [
        "Albéniz/Córdoba.mid"
    ]


def test_other_bytes_without_the_flag_are_read_somehow(gather):
    archive = without_utf8_flag(make_zip([("Bach/Präludium.mid", piece())]).replace("ä".encode(), b"\xe4_"))  # Latin-1
    assert len(gather(archive).files) == 1


def test_long_and_deep_names_are_shortened(gather):
    corpus = gather(
        [
            ("Bach/" + "é" * 3000 + ".mid", piece()),
            ("Bach/" + "é" * 3000 + "2.mid", piece(50)),
            ("Bach/" + "a/" * 2100 + "x.mid", piece(40)),
        ]
    )
    assert len(corpus.files) == 3


def test_names_that_file_systems_refuse_are_changed(gather):
    corpus = gather(
        [
            ("Bach/a\nb\tc.mid", piece()),
            ('Bach/what?*<>|:".mid', piece(50)),
            ("Bach/ . .mid", piece(40)),
            ("Bach/. ./x.mid", piece(30)),
            (" /y.mid", piece(20)),
        ]
    )
    assert len(corpus.files) == 5
    assert not any(
        set(path) & set('\n\t?*<>|:"\\') or any(part.strip(" .") != part for part in path.split("/"))
        for path in corpus.files["path"]
    )


def distinct(corpus: Corpus, n: int):
    assert (
        len(corpus.files) == n
        and corpus.files["path"].str.lower().nunique() == n
        and corpus.files["sha256"].nunique() == n
    )


def test_two_pieces_of_one_name_are_numbered(gather):
    distinct(
        gather(
            [
                ("Bach/x.mid", piece()),
                ("Bach/x.MID", piece(50)),
                ("midiclassics/Bach/x.mid", piece(40)),
                ("Bach/X.mid", piece(30)),
            ]
        ),
        4,
    )


def test_numbers_do_not_run_into_names_that_have_one(gather):
    distinct(
        gather(
            [
                ("Bach/x (2).mid", piece()),
                ("Bach/x.MID", piece(50)),
                ("Bach/x.mid", piece(40)),
                ("Bach/x (2).MID", piece(30)),
            ]
        ),
        4,
    )


def test_two_members_of_the_very_same_name_are_both_read(gather):
    distinct(gather([("Bach/x.mid", piece()), ("Bach/x.mid", piece(50))]), 2)


def test_names_that_become_one_when_made_safe_are_numbered(gather):
    distinct(
        gather(
            [
                ("Bach/a?.mid", piece()),
                ("Bach/a*.mid", piece(50)),
                ("Bach/a_.mid", piece(40)),
                ("Bach/" + "é" * 150 + "1.mid", piece(30)),
                ("Bach/" + "é" * 150 + "2.mid", piece(20)),
            ]
        ),
        5,
    )


@pytest.mark.parametrize(
    "names",
    [
        ("Bach/a.mid", "Bach//a.mid"),
        ("Bach/a.mid", "Bach/./a.mid"),
        ("Bach/a.mid", "Bach/a.mid/b.mid"),
        ("Bach/a", "Bach/a.mid/b.mid"),
    ],
)
def test_paths_that_collide_are_kept_apart(gather, names):
    distinct(gather([(name, piece(50 + i)) for i, name in enumerate(names)]), 2)


@pytest.mark.parametrize(
    "folder",
    ["notes.npy", "offsets.npy", "works.npz", "manifest.parquet", "duplicates.csv", "review.csv", ".collecting"],
)
def test_a_composer_named_like_a_file_of_the_corpus_harms_nothing(gather, folder):
    corpus = gather([(f"{folder}/x.mid", piece()), ("Bach/a.mid", piece(50))])
    assert "Bach/a.mid" in set(corpus.files["path"])


def test_the_root_that_holds_all_is_left_out(gather):
    members = [("Bach/a.mid", piece()), ("Bach/b.mid", piece(50)), ("Chopin/c.mid", piece(40))]
    assert set(gather([(f"my music/{name}", content) for name, content in members]).files["path"]) == {
        name for name, _ in members
    }


def test_one_composers_folders_are_no_composers(gather):
    corpus = gather([("Bach/Inventions/a.mid", piece()), ("Bach/Partitas/b.mid", piece(50))])
    assert set(corpus.files["path"]) == {"Bach/Inventions/a.mid", "Bach/Partitas/b.mid"}


def test_what_no_name_tells_is_uncategorised_and_augmented_copies_are_no_pieces(gather):
    augmented = smf([meta(1, AUGMENTED) + scale(50) + END])
    corpus = gather(
        [
            ("untitled.mid", piece()),
            ("Bach/a.mid", piece(40)),
            ("Bach/a up 2.mid", augmented),
            ("augmented/b.mid", smf([scale(51) + meta(1, AUGMENTED) + END])),
        ]
    )
    assert dict(zip(corpus.manifest["source"], corpus.manifest["status"])) == {
        "untitled.mid": "uncategorised",
        "Bach/a.mid": "ok",
        "Bach/a up 2.mid": "augmented",
        "augmented/b.mid": "augmented",
    }
    assert (
        corpus.composers == ["Bach"]
        and counts(corpus)["by_composer"] == {"Bach": 1}
        and summary(corpus).index.tolist() == ["Bach"]
    )


def test_what_is_no_midi_is_left_alone_and_midi_is_known_by_its_content(gather):
    corpus = gather(
        [
            ("Bach/cover.jpg", b"\xff\xd8"),
            ("Bach/film.avi", b"RIFF\0\0\0\0AVI "),
            ("Bach/Mov.H", piece()),
            ("Bach/empty.mid", b""),
            ("Bach/rest.mid", smf([END])),
            ("__MACOSX/Bach/._a.mid", b"x"),
        ]
    )
    assert said(corpus) == {"Bach/Mov.H": "ok", "Bach/empty.mid": "is empty", "Bach/rest.mid": "holds no notes"}


# ---------------------------------------------------------------- folders


MANY = [
    (f"{composer}/{i}.mid", piece(20 + i % 50, 5 + 6 * j + i // 50))
    for j, composer in enumerate(["Bach", "Chopin/op. 1", "Mozart"])
    for i in range(100)
]


def write_folder(folder: Path, members: list[tuple[str, bytes]]) -> Path:
    for name, content in members:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def assert_same_corpus(one: Corpus, other: Corpus):
    pd.testing.assert_frame_equal(one.manifest, other.manifest)
    for name in ("notes.npy", "offsets.npy"):
        assert (one.path / name).read_bytes() == (other.path / name).read_bytes()
    assert files_of(one.path) == files_of(other.path)


def test_a_folder_gives_what_its_zip_gives(tmp_path):
    members = [
        *MANY,
        ("Bach/in.zip", make_zip([("a.mid", piece(90)), ("b.mid", piece(91))])),
        ("Bach/damaged.mid", b"MThd"),
        ("untitled.mid", piece(99)),
        ("readme.txt", b""),
    ]
    (tmp_path / "a.zip").write_bytes(make_zip(members))
    write_folder(tmp_path / "folder", members)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "folder").rglob("*")}
    one, other = (
        collect(tmp_path / source, dest=tmp_path / f"from {source}", n_jobs=2) for source in ("a.zip", "folder")
    )
    for corpus in (one, other):  # what they were made from
        corpus.manifest.attrs = {}
        corpus.manifest["collection"] = "mine"
    assert_same_corpus(one, other)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "folder").rglob("*")} == before  # the source is never changed


def run(code: str, *args, timeout: float, **env) -> subprocess.CompletedProcess:
    "Run code in a process of its own."
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **env},
    )


COLLECT = """
import sys
from composer_classify.collection import collect
print(len(collect(sys.argv[1], dest=sys.argv[2], n_jobs=1).files))
"""


def test_a_pipe_among_the_files_is_not_waited_for(tmp_path):
    write_folder(tmp_path / "folder", [("Bach/a.mid", piece())])
    os.mkfifo(tmp_path / "folder/Bach/b.mid")
    assert run(COLLECT, tmp_path / "folder", tmp_path / "corpus", timeout=20).stdout == "1\n"


def test_links_in_a_folder_lead_to_no_endless_walk(tmp_path):
    folder = write_folder(tmp_path / "folder", [("Bach/a.mid", piece())])
    (folder / "Bach/up").symlink_to(folder)
    (folder / "Bach/nowhere.mid").symlink_to(folder / "nothing")
    assert collect(folder, dest=tmp_path / "corpus").files["path"].tolist() == ["Bach/a.mid"]


def test_names_on_disk_that_are_no_utf8_are_collected(tmp_path):
    folder = write_folder(tmp_path / "folder", [("Bach/a.mid", piece())])
    try:
        Path(os.fsdecode(os.fsencode(folder) + b"/Bach/caf\xe9.mid")).write_bytes(piece(50))
    except OSError:
        pytest.skip("this file system takes no such names")
    assert len(collect(folder, dest=tmp_path / "corpus").files) == 2


# ---------------------------------------------------------------- tar archives


def make_tar(members: list[tuple[str, bytes] | tarfile.TarInfo], compression: str = "xz") -> bytes:
    "A tar archive; names go in as they are. A `TarInfo` becomes a header with nothing behind it."
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=f"w:{compression}") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            archive.addfile(info, io.BytesIO(member[1]))
    return out.getvalue()


def special(name: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    return info


@pytest.mark.parametrize("compression", ["", "gz", "bz2", "xz"])
def test_a_tar_gives_what_its_zip_gives(gather, tmp_path, compression):
    members = [("Bach/a.mid", piece()), ("Bach/in.zip", make_zip([("b.mid", piece(70))])), ("Chopin/é.mid", piece(50))]
    corpus = gather(make_tar(members, compression), "source.tar")
    assert corpus.files["path"].tolist() == ["Bach/a.mid", "Bach/in.mid", "Chopin/é.mid"]
    assert corpus.manifest["nested"].tolist() == [False, True, False]
    assert set(corpus.manifest["collection"]) == {"source"}


@pytest.mark.parametrize("name", ["../evil.mid", "Bach/../../evil.mid", "/evil.mid", "C:\\evil.mid"])
def test_names_in_a_tar_that_lead_out_are_refused(gather, name):
    corpus = gather(make_tar([("Bach/a.mid", piece()), (name, piece(70))]), "source.tar.xz")
    assert corpus.files["path"].tolist() == ["Bach/a.mid"]
    assert "leads out of the archive" in " ".join(said(corpus).values())


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(gather, kind):
    corpus = gather(make_tar([("Bach/a.mid", piece()), special("Bach/b.mid", kind)]), "source.tar.gz")
    reason = "it is a link" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else "it is no file but a device or the like"
    assert said(corpus) == {"Bach/a.mid": "ok", "Bach/b.mid": f"was refused: {reason}"}


def test_a_large_member_of_a_tar_is_refused_unread(gather):
    corpus = gather(make_tar([("Bach/a.mid", piece()), ("Bach/bomb.mid", bytes(17 << 20))]), "source.tar.bz2")
    assert "more than the limit" in said(corpus)["Bach/bomb.mid"] and len(corpus.files) == 1


@pytest.mark.parametrize("compression", ["", "xz"])
def test_a_tar_that_unpacks_to_too_much_is_a_bomb(tmp_path, monkeypatch, compression):
    monkeypatch.setattr("composer_classify.archives.MAX_UNPACKED", 1 << 20)
    (tmp_path / "a.tar").write_bytes(make_tar([("b.bin", bytes(2 << 20))], compression))
    with pytest.raises(CollectionError, match="zip bomb"):
        collect(tmp_path / "a.tar", dest=tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()


def damaged_tars() -> dict[str, bytes]:
    "Tar archives that no honest program writes."
    sound = make_tar([("Bach/a.mid", piece()), ("Bach/b.mid", piece(70))], "")
    huge = tarfile.TarInfo("name")
    huge.type, huge.size = tarfile.XHDTYPE, 2**33
    negative = tarfile.TarInfo("Bach/c.mid")
    negative.pax_headers = {"size": "-1536"}  # back to this header
    backwards = negative.tobuf(tarfile.PAX_FORMAT)
    return {
        "cut off": sound[:1200],
        "cut off when compressed": make_tar([("Bach/a.mid", os.urandom(5000))])[:2000],
        "a header of eight gigabytes": huge.tobuf(tarfile.GNU_FORMAT) + sound,
        "a file of negative size": sound[:1024] + backwards + sound,
    }


@pytest.mark.parametrize("name", damaged_tars())
def test_a_damaged_tar_gets_one_sentence(tmp_path, name):
    (tmp_path / "a.tar").write_bytes(damaged_tars()[name])
    with pytest.raises(CollectionError, match="a.tar: is a damaged archive"):
        collect(tmp_path / "a.tar", dest=tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()


def test_a_compressed_file_that_is_no_tar_gets_one_sentence(tmp_path):
    (tmp_path / "a.mid.gz").write_bytes(gzip.compress(piece()))
    with pytest.raises(CollectionError, match="neither a folder nor a zip or tar archive"):
        collect(tmp_path / "a.mid.gz", dest=tmp_path / "corpus")


# ---------------------------------------------------------------- scores


NOTE = "<note><pitch><step>{}</step><octave>{}</octave></pitch><duration>1</duration><voice>1</voice></note>"


def score(pitches: list[int]) -> bytes:
    "A melody of quarter notes as MusicXML, in measures of four."
    steps = [("C", "D", "E", "F", "G", "A", "B")[(0, 2, 4, 5, 7, 9, 11).index(pitch % 12)] for pitch in pitches]
    notes = [NOTE.format(step, pitch // 12 - 1) for step, pitch in zip(steps, pitches)]
    measures = ["".join(notes[i : i + 4]) for i in range(0, len(notes), 4)]
    facts = "<attributes><divisions>1</divisions><time><beats>4</beats><beat-type>4</beat-type></time></attributes>"
    inside = "".join(
        f'<measure number="{n + 1}">{"" if n else facts}{measure}</measure>' for n, measure in enumerate(measures)
    )
    parts = '<part-list><score-part id="P1"><part-name>P</part-name></score-part></part-list>'
    return f'<score-partwise version="4.0">{parts}<part id="P1">{inside}</part></score-partwise>'.encode()


def compressed(content: bytes) -> bytes:
    "A score as MusicXML programs compress it."
    container = (
        '<container><rootfiles><rootfile full-path="score.xml" media-type="application/vnd.recordare.musicxml+xml"/>'
        "</rootfiles></container>"
    )
    return make_zip([("META-INF/container.xml", container.encode()), ("score.xml", content)])


MELODY = [60, 62, 64, 65, 67, 69, 71, 72, 67, 64, 60, 65, 69, 72, 71, 67]


def melody() -> bytes:
    "The same melody as MIDI."
    return smf([b"".join(on(key) + off(key, 480) for key in MELODY) + END])


def test_a_piece_in_three_formats_is_one_work(gather):
    members = [
        ("Bach/Air.mid", melody()),
        ("Bach/Air.musicxml", score(MELODY)),
        ("Bach/Song.MXL", compressed(score(MELODY))),
        ("Chopin/x.mid", piece(50)),
        ("Bach/index.xml", b"<html><body>no music</body></html>"),
    ]
    corpus = gather(members)
    assert dict(zip(corpus.files["path"], corpus.files["format"])) == {
        "Bach/Air.mid": "midi",
        "Bach/Air.musicxml": "musicxml",
        "Bach/Song.mxl": "mxl",
        "Chopin/x.mid": "midi",
    }
    assert corpus.files["work_id"].tolist() == ["Bach/Air.mid"] * 3 + ["Chopin/x.mid"]
    assert (corpus.path / "Bach/Song.mxl").read_bytes() == members[2][1]


def test_a_score_that_cannot_be_read_costs_no_other(gather):
    corpus = gather([("Bach/a.mid", piece()), ("Bach/b.musicxml", score(MELODY)[:-50]), ("Bach/c.mxl", b"PK")])
    assert corpus.files["path"].tolist() == ["Bach/a.mid"]
    assert set(corpus.manifest["status"]) == {"ok", "unreadable"} and len(corpus.manifest) == 3


def test_a_compressed_score_is_no_collection(tmp_path):
    (tmp_path / "a.mxl").write_bytes(compressed(score(MELODY)))
    with pytest.raises(CollectionError, match="is a score, not a collection"):
        collect(tmp_path / "a.mxl", dest=tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()


SLOW = """
import sys
from composer_classify import collection
collection.MAX_READING_SECONDS = 1
load = collection.load
def slow(content, name, incomplete):
    while "slow" in name:
        pass
    return load(content, name=name, incomplete=incomplete)
collection.load = slow
corpus = collection.collect(sys.argv[1], dest=sys.argv[2], n_jobs=1)
print(corpus.manifest["error"].tolist())
"""


def test_a_file_that_takes_too_long_costs_no_other(tmp_path):
    write_folder(tmp_path / "folder", [("Bach/a.mid", piece()), ("Bach/slow.mid", piece(50))])
    done = run(SLOW, tmp_path / "folder", tmp_path / "corpus", timeout=60)
    assert done.stdout == "['', 'was refused: it takes longer than 1 seconds']\n"


# ---------------------------------------------------------------- several sources


@pytest.fixture
def three(tmp_path) -> list[Path]:
    "Three sources that share a composer, a file, a name and a work."
    first = write_folder(
        tmp_path / "first", [("Bach/a.mid", piece()), ("Bach/b.mid", piece(50)), ("Chopin/c.mid", piece(40, 9))]
    )
    (tmp_path / "second.zip").write_bytes(make_zip([("Bach/b.mid", piece(51, 7)), ("Bach/copy.mid", piece())]))
    licences = b"file,licence\nmusic/Bach/d.mid,Public  Domain\nmusic/Bach/e.mid,\n"
    third = [("Bach/d.mid", piece(52, 7)), ("Bach/e.mid", piece(30, 12))]
    (tmp_path / "third.tar.gz").write_bytes(
        make_tar([("licences.csv", licences), *((f"music/{name}", content) for name, content in third)], "gz")
    )
    return [first, tmp_path / "second.zip", tmp_path / "third.tar.gz"]


def test_several_sources_make_one_corpus(three, tmp_path):
    corpus = collect(*three, dest=tmp_path / "corpus", n_jobs=1)
    found = corpus.manifest.set_index("source")
    assert found["collection"].tolist() == ["first"] * 3 + ["second"] * 2 + ["third"] * 2
    assert corpus.files["path"].tolist() == [
        "Bach/a.mid",
        "Bach/b.mid",
        "Chopin/c.mid",
        "Bach/b (2).mid",
        "Bach/d.mid",
        "Bach/e.mid",
    ]
    assert found.loc["Bach/copy.mid", ["path", "status"]].tolist() == ["Bach/a.mid", "duplicate"]
    assert found.loc["music/Bach/d.mid", ["work_id", "licence"]].tolist() == ["Bach/b (2).mid", "Public Domain"]
    assert found["licence"].value_counts().to_dict() == {"not stated": 6, "Public Domain": 1}
    listed = pd.read_csv(corpus.path / "duplicates.csv")
    assert listed.groupby("work_id")["collection"].agg(set).tolist() == [{"first", "second"}, {"second", "third"}]
    assert counts(corpus)["by_collection"] == {"first": 3, "second": 2, "third": 2}
    assert validate(corpus) == ([], [])


def test_sources_of_one_name_get_names_of_their_own(tmp_path):
    for i in (1, 2):
        write_folder(tmp_path / f"{i}/music", [("Bach/a.mid", piece(50 + i))])
    corpus = collect(tmp_path / "1/music", tmp_path / "2/music", tmp_path / "1/music", dest=tmp_path / "c", n_jobs=1)
    assert corpus.manifest["collection"].tolist() == ["music", "music (2)"]


def test_no_source_at_all_gets_a_sentence(tmp_path):
    with pytest.raises(CollectionError, match="at least one source"):
        collect(dest=tmp_path / "corpus")


def test_a_source_without_music_is_named_and_nothing_is_left(three, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CollectionError, match="empty: holds no music files"):
        collect(*three, tmp_path / "empty", dest=tmp_path / "corpus", n_jobs=1)
    assert not (tmp_path / "corpus").exists()


def test_a_folder_of_music_as_the_last_name_gets_a_sentence(three, tmp_path):
    write_folder(tmp_path / "fourth", [("Bach/a.mid", piece())])
    with pytest.raises(CollectionError, match="fourth: holds other files; the last name is the corpus to make"):
        collect(*three, dest=tmp_path / "fourth", n_jobs=1)


# ---------------------------------------------------------------- updates


def reads(monkeypatch) -> list[str]:
    "The names of the files that are parsed from now on."
    names, load = [], collection.load
    monkeypatch.setattr(
        collection, "load", lambda content, name, **how: names.append(name) or load(content, name, **how)
    )
    return names


@pytest.mark.parametrize("incomplete", [False, True])
def test_an_updated_corpus_is_as_if_collected_at_once(three, tmp_path, monkeypatch, incomplete):
    write_folder(three[0], [("Bach/cut.mid", piece(60, 30)[:-20])])
    at_once = collect(*three, dest=tmp_path / "at once", n_jobs=1, incomplete=incomplete)
    collect(three[0], dest=tmp_path / "corpus", n_jobs=1, incomplete=incomplete)
    parsed = reads(monkeypatch)
    updated = collect(*three[1:], dest=tmp_path / "corpus", n_jobs=1, incomplete=incomplete, update=True)
    assert len(parsed) == 4
    assert_same_corpus(updated, at_once)
    assert updated.manifest.attrs == at_once.manifest.attrs and validate(updated) == ([], [])


def test_a_source_that_has_not_changed_is_skipped(three, tmp_path, monkeypatch):
    corpus = collect(*three, dest=tmp_path / "corpus", n_jobs=1)
    before = {p: p.stat().st_mtime_ns for p in corpus.path.rglob("*")}
    parsed = reads(monkeypatch)
    collect(three[1], three[0], dest=tmp_path / "corpus", n_jobs=1, update=True)
    assert {p: p.stat().st_mtime_ns for p in corpus.path.rglob("*")} == before and parsed == []


def test_a_source_that_has_changed_is_brought_up_to_date(three, tmp_path, monkeypatch):
    collect(*three, dest=tmp_path / "corpus", n_jobs=1)
    (three[0] / "Bach/a.mid").unlink()  # the copy in the second source becomes the piece
    (three[0] / "Bach/b.mid").write_bytes(piece(55, 11))
    write_folder(three[0], [("Bach/new.mid", piece(33, 8))])
    parsed = reads(monkeypatch)
    updated = collect(three[0], dest=tmp_path / "corpus", n_jobs=1, update=True)
    assert sorted(parsed) == ["Bach/b.mid", "Bach/new.mid"]
    assert_same_corpus(updated, collect(*three, dest=tmp_path / "at once", n_jobs=1))
    assert validate(updated) == ([], [])


def test_adding_a_source_copies_no_notes_and_compares_only_new_pieces(three, tmp_path, monkeypatch):
    corpus = collect(three[0], dest=tmp_path / "corpus", n_jobs=1)
    store, size = (corpus.path / "notes.npy").stat().st_ino, (corpus.path / "notes.npy").stat().st_size
    lined, outer_lines = [], collection.outer_lines
    monkeypatch.setattr(collection, "outer_lines", lambda notes: lined.append(len(notes)) or outer_lines(notes))
    updated = collect(three[1], dest=corpus.path, n_jobs=1, update=True)
    assert (corpus.path / "notes.npy").stat().st_ino == store and (corpus.path / "notes.npy").stat().st_size > size
    assert lined == [7]  # of the two new files one has the bytes of an old one
    assert [len(corpus.notes(row)) for row in corpus.files.index] == corpus.files["n_notes"].tolist()  # opened before
    assert validate(updated) == ([], [])


@pytest.mark.parametrize("damage", ["gone", "cut", "another"])
def test_an_update_needs_no_lines_of_before(three, tmp_path, damage):
    at_once = collect(*three[:2], dest=tmp_path / "at once", n_jobs=1)
    held = collect(three[0], dest=tmp_path / "corpus", n_jobs=1).path / "works.npz"
    held.unlink() if damage == "gone" else held.write_bytes(held.read_bytes()[:100])
    if damage == "another":
        np.savez(held, pitches=np.zeros(0, np.int16), lengths=np.zeros(0, np.int64))
    assert_same_corpus(collect(three[1], dest=tmp_path / "corpus", n_jobs=1, update=True), at_once)


def test_updating_makes_a_corpus_where_there_is_none(three, tmp_path):
    updated = collect(*three, dest=tmp_path / "corpus", n_jobs=1, update=True)
    assert_same_corpus(updated, collect(*three, dest=tmp_path / "at once", n_jobs=1))


def test_without_update_other_sources_are_refused(three, tmp_path):
    collect(three[0], dest=tmp_path / "corpus", n_jobs=1)
    with pytest.raises(CollectionError, match=r"made from something else \(first\); add to it with --update"):
        collect(*three, dest=tmp_path / "corpus", n_jobs=1)


def test_a_damaged_corpus_is_not_updated(three, tmp_path):
    corpus = collect(three[0], dest=tmp_path / "corpus", n_jobs=1)
    (corpus.path / "Bach/a.mid").unlink()
    with pytest.raises(CollectionError, match="cannot be updated"):
        collect(three[1], dest=corpus.path, n_jobs=1, update=True)
    with pytest.raises(CollectionError, match="cannot be updated"):
        collect(three[1], dest=corpus.path, n_jobs=1, incomplete=True, update=True)


# Dies of `kill -9` when it is about to move the named file into place, or right after.
DIE_AT = """
import os, signal, sys
from composer_classify.collection import collect
source, dest, name, moment, *update = sys.argv[1:]
replace = os.replace
def dying(part, whole):
    if moment == "after":
        replace(part, whole)
    if str(whole).endswith(name):
        os.kill(os.getpid(), signal.SIGKILL)
    if moment == "before":
        replace(part, whole)
os.replace = dying
collect(source, dest=dest, n_jobs=1, update=bool(update))
"""
UPDATE_STEPS = [
    (name, moment)
    for name in (
        "00000.json",
        "ready/notes.npy",
        "ready/manifest.parquet",
        "b (2).mid",
        "up/notes.npy",
        "up/manifest.parquet",
    )
    for moment in ("before", "after")
]
QUICK_UPDATE = [("ready/manifest.parquet", "after"), ("up/notes.npy", "after")]


@pytest.mark.parametrize(
    ("name", "moment"),
    [pytest.param(*step, marks=[] if step in QUICK_UPDATE else pytest.mark.slow) for step in UPDATE_STEPS],
)
def test_an_update_killed_at_each_step_ends_the_same(three, tmp_path, name, moment):
    old = collect(three[0], dest=tmp_path / "up", n_jobs=1)
    at_once = collect(*three[:2], dest=tmp_path / "at once", n_jobs=1)
    killed = run(DIE_AT, three[1], tmp_path / "up", name, moment, "update", timeout=60)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    if not name.startswith("up/"):  # until then the old corpus can be read
        pd.testing.assert_frame_equal(Corpus.open(tmp_path / "up").manifest, old.manifest)
    again = collect(three[1], dest=tmp_path / "up", n_jobs=1, update=True)
    assert_same_corpus(again, at_once)
    assert validate(again) == ([], []) and not (again.path / ".collecting").exists()


# ---------------------------------------------------------------- destinations


@pytest.mark.parametrize(
    ("dest", "reason"),
    [
        ("file", "is a file"),
        ("file/below", "folder"),
        ("full", "holds other files"),
        ("folder", "lies in the source"),
        ("folder/Bach/corpus", "lies in the source"),
        ("foreign", None),
    ],
)
def test_destinations_that_would_do_harm_are_refused(tmp_path, dest, reason):
    write_folder(tmp_path, [("folder/Bach/a.mid", piece()), ("full/diary.txt", b""), ("file", b"")])
    (tmp_path / "foreign").mkdir()
    pd.DataFrame({"mine": [1]}).to_parquet(tmp_path / "foreign/manifest.parquet")
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    with pytest.raises(CollectionError, match=reason):
        collect(tmp_path / "folder", dest=tmp_path / dest)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


def test_another_source_does_not_overwrite_a_corpus(tmp_path):
    for i in (1, 2):
        (tmp_path / f"{i}.zip").write_bytes(make_zip([("Bach/a.mid", piece(50 + i))]))
    collect(tmp_path / "1.zip", dest=tmp_path / "corpus")
    with pytest.raises(CollectionError, match="made from something else"):
        collect(tmp_path / "2.zip", dest=tmp_path / "corpus")


def test_a_source_that_was_replaced_is_read_anew(tmp_path):
    for i in (1, 2):  # archives are kept open for a while
        (tmp_path / "a.zip").write_bytes(make_zip([(f"Bach/{i}.mid", piece(50 + i))]))
        assert collect(tmp_path / "a.zip", dest=tmp_path / f"corpus {i}", n_jobs=1).files["path"].tolist() == [
            f"Bach/{i}.mid"
        ]


def test_missing_and_changed_pieces_are_told_apart(tmp_path):
    (tmp_path / "a.zip").write_bytes(make_zip([(f"Bach/{i}.mid", piece(50 + i)) for i in range(3)]))
    corpus = collect(tmp_path / "a.zip", dest=tmp_path / "corpus", n_jobs=1)
    (corpus.path / "Bach/0.mid").unlink()
    (corpus.path / "Bach/1.mid").write_bytes(piece(70))
    assert validate(corpus) == (["Bach/0.mid"], ["Bach/1.mid"])


def test_a_manifest_that_names_files_elsewhere_removes_none_of_them(tmp_path):
    "Pieces of an earlier corpus are removed, as its manifest names them; a manifest can come from a stranger."
    for name in ("precious.mid", "corpus/Bach/old.mid", "corpus/Bach/kept.mid"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    pd.DataFrame(dict(path=["../precious.mid", str(tmp_path / "precious.mid"), "Bach/old.mid", ""])).to_parquet(
        tmp_path / "corpus/manifest.parquet"
    )
    _forget_pieces(tmp_path / "staging", tmp_path / "corpus", {"Bach/kept.mid"})
    assert sorted(p.name for p in tmp_path.rglob("*.mid")) == ["kept.mid", "precious.mid"]


# ---------------------------------------------------------------- room


@pytest.mark.parametrize(("what", "much"), [("disk_usage", "GB of disk"), ("free_memory", "GB of memory")])
def test_too_little_room_is_said_before_anything_is_read(three, tmp_path, monkeypatch, what, much):
    parsed = reads(monkeypatch)
    if what == "disk_usage":
        monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=100))
    else:
        monkeypatch.setattr("composer_classify.files.free_memory", lambda: 100)
    with pytest.raises(
        CollectionError, match=rf"corpus: collecting 8 files needs about 0.0 {much}, and 0.0 GB are free"
    ):
        collect(*three, dest=tmp_path / "corpus", n_jobs=1)
    assert parsed == [] and not (tmp_path / "corpus").exists()


FULL = """
import resource, signal, sys
from composer_classify.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), -1))
sys.exit(main(["collect", sys.argv[1], sys.argv[2], "--jobs", "1"]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no limits of this kind")
def test_a_disk_that_is_full_midway_ends_in_one_sentence_and_goes_on(many, tmp_path):
    source, corpus, _ = many
    full = run(FULL, source, tmp_path / "corpus", 100_000, timeout=60)  # the note store is larger
    assert full.returncode == 1 and "Traceback" not in full.stderr
    assert "notes.npy: File too large" in full.stderr.splitlines()[-1]
    staged = list((tmp_path / "corpus").rglob("0*.json"))
    assert staged and not list((tmp_path / "corpus").rglob("*.partial"))
    assert_same_corpus(collect(source, dest=tmp_path / "corpus", n_jobs=1), corpus)


# ---------------------------------------------------------------- interrupted


def test_a_file_is_written_all_at_once_or_not_at_all(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def interrupted(file):
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"  # as others see it meanwhile
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        atomic_write(path, interrupted)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
    atomic_write(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"new" and list(tmp_path.iterdir()) == [path]


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> tuple[Path, Corpus, float]:
    "An archive of 300 pieces, its corpus made without trouble, and the seconds that takes."
    folder = tmp_path_factory.mktemp("many")
    (folder / "many.zip").write_bytes(make_zip(MANY))
    start = time.perf_counter()
    corpus = collect(folder / "many.zip", dest=folder / "corpus", n_jobs=1)
    assert len(corpus.files) == len(MANY)
    return folder / "many.zip", corpus, time.perf_counter() - start


def test_a_second_run_touches_nothing(many):
    source, corpus, _ = many
    before = {p: p.stat().st_mtime_ns for p in [corpus.path, *corpus.path.rglob("*")]}
    assert_same_corpus(collect(source, dest=corpus.path), corpus)
    assert {p: p.stat().st_mtime_ns for p in [corpus.path, *corpus.path.rglob("*")]} == before


def test_more_processes_make_the_same_corpus(many, tmp_path):
    source, corpus, _ = many
    assert_same_corpus(collect(source, dest=tmp_path / "corpus", n_jobs=2), corpus)


STEPS_TO_DIE_AT = [
    (name, moment)
    for name in ("00002.notes", "00002.json", "Mozart/7.mid", "notes.npy", "manifest.parquet")
    for moment in ("before", "after")
]
QUICK = [("00002.json", "after"), ("manifest.parquet", "before")]


@pytest.mark.parametrize(
    ("name", "moment"),
    [pytest.param(*step, marks=[] if step in QUICK else pytest.mark.slow) for step in STEPS_TO_DIE_AT],
)
def test_killed_at_each_step_it_ends_the_same(many, tmp_path, name, moment):
    source, corpus, _ = many
    run_ = run(DIE_AT, source, tmp_path / "corpus", name, moment, timeout=60)
    assert run_.returncode == -signal.SIGKILL, run_.stderr
    again = collect(source, dest=tmp_path / "corpus", n_jobs=1)
    assert_same_corpus(again, corpus)  # and nothing half written is left lying about
    assert {p.name for p in again.path.iterdir()} == {p.name for p in corpus.path.iterdir()}


SAY_WHEN = """
import sys
from composer_classify.collection import collect
print('now', flush=True)
collect(sys.argv[1], dest=sys.argv[2], n_jobs=int(sys.argv[3]))
"""


@pytest.mark.parametrize(
    ("n_jobs", "times"),
    [(2, 2), pytest.param(1, 4, marks=pytest.mark.slow), pytest.param(2, 4, marks=pytest.mark.slow)],
)
def test_killed_again_and_again_at_any_time_it_ends_the_same(many, tmp_path, n_jobs, times):
    source, corpus, seconds = many
    for share in np.random.default_rng(n_jobs).uniform(0.02, 0.6, times):
        with subprocess.Popen(
            [sys.executable, "-c", SAY_WHEN, source, tmp_path / "corpus", str(n_jobs)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as process:
            process.stdout.readline()
            time.sleep(share * seconds)
            process.kill()  # its workers may live a little longer and write
    assert_same_corpus(collect(source, dest=tmp_path / "corpus", n_jobs=1), corpus)


DAMAGE = [
    (name, damage)
    for name in ("notes.npy", "offsets.npy", "manifest.parquet", "Bach/1.mid")
    for damage in ("gone", "cut")
]
DAMAGE.remove(("manifest.parquet", "gone"))  # a folder without a manifest may be anyone's: it is refused
QUICK_DAMAGE = [("notes.npy", "cut"), ("manifest.parquet", "cut"), ("Bach/1.mid", "gone")]


@pytest.mark.parametrize(
    ("name", "damage"), [pytest.param(*each, marks=[] if each in QUICK_DAMAGE else pytest.mark.slow) for each in DAMAGE]
)
def test_collecting_again_mends_a_damaged_corpus(many, tmp_path, name, damage):
    source, corpus, _ = many
    damaged = collect(source, dest=tmp_path / "corpus", n_jobs=1).path / name
    damaged.unlink() if damage == "gone" else damaged.write_bytes(damaged.read_bytes()[:100])
    assert_same_corpus(collect(source, dest=tmp_path / "corpus", n_jobs=1), corpus)


def test_dask_makes_the_same_corpus_though_it_loses_a_worker(many, tmp_path):
    distributed = pytest.importorskip("distributed")
    from joblib import parallel_config

    source, corpus, _ = many
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        first = client.run(os.getpid)

        def kill_one():
            while not list((tmp_path / "corpus").rglob("0*.json")):
                time.sleep(0.001)
            os.kill(next(iter(first.values())), signal.SIGKILL)

        killer = threading.Thread(target=kill_one, daemon=True)
        killer.start()
        with parallel_config(backend="dask"):
            assert_same_corpus(collect(source, dest=tmp_path / "corpus"), corpus)
        killer.join(timeout=1)
        assert not killer.is_alive() and set(client.run(os.getpid).values()) != set(first.values())


# ---------------------------------------------------------------- kaggle

KAGGLE = """
import sys
from composer_classify.collection import CollectionError, collect
try:
    collect("kaggle", dest=sys.argv[1])
except CollectionError as error:
    print(error)
"""


@pytest.fixture
def silent_port():
    "A port that takes connections and never answers."
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        yield server.getsockname()[1]


@pytest.mark.sampled
@pytest.mark.parametrize("network", ["none", "silent"])
def test_kaggle_without_a_network_gets_one_sentence(tmp_path, network, silent_port):
    pytest.importorskip("kagglehub")
    proxy = f"http://127.0.0.1:{silent_port if network == 'silent' else 9}"  # nobody listens on port 9
    proxies = {name: proxy for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")}
    answer = run(
        KAGGLE,
        tmp_path / "corpus",
        timeout=60,
        KAGGLEHUB_CACHE=str(tmp_path / "cache"),
        NO_PROXY="",
        no_proxy="",
        **proxies,
    )
    assert answer.returncode == 0, answer.stderr
    sentence = answer.stdout.strip().splitlines()
    assert len(sentence) == 1 and sentence[0].startswith("kaggle: ") and "network" in sentence[0]
    assert not (tmp_path / "corpus").exists()


# ---------------------------------------------------------------- the real collection


def test_real_collecting_takes_half_a_minute_and_a_gigabyte_and_a_half(real_run):
    _, said = real_run
    assert said["seconds"] <= 30
    if sys.platform == "linux":  # elsewhere there is no PSS
        assert 0 < said["peak"] <= 1.5 * 2**30


def test_real_files_are_all_read_but_the_one_of_zeros(real_run):
    corpus, said = real_run
    top = corpus.manifest[~corpus.manifest["nested"]]
    failed = top[top["status"] == "unreadable"]
    assert (len(top), len(top) - len(failed)) == (3940, 3939)
    assert (
        "German" in failed["source"].item()
        and "Overture to Princess of Kensington" in failed["source"].item()
        and "zero bytes" in failed["error"].item()
    )
    nested = corpus.manifest[corpus.manifest["nested"]]
    assert (len(nested), int((nested["status"] != "unreadable").sum())) == (86, 86)
    assert (said["files"], said["readable"], said["unreadable"], said["nested"]) == (4026, 4025, 1, 86)


def test_real_folders_hold_what_the_report_counts(real_run):
    counted = summary(real_run[0])["from its folder"][["Bach", "Beethoven", "Chopin", "Mozart"]].tolist()
    assert counted == [1024, 213, 136, 257 - 1]  # one of Mozart's is a rondo by Beethoven, and has been corrected


def test_real_corpus_is_whole_and_opens_at_once(real_run):
    corpus, _ = real_run
    start = time.perf_counter()
    Corpus.open(corpus.path)
    assert time.perf_counter() - start < 1
    assert validate(corpus) == ([], [])
    assert corpus.files["path"].str.lower().is_unique
    assert all(unicodedata.is_normalized("NFC", path) for path in corpus.manifest["path"])
    row = corpus.files.iloc[1000]
    assert len(corpus.notes(row.name)) == row["n_notes"]

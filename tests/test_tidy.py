"""A heap of files is put in order: copied, never moved, nothing written over."""

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer_classify.files import free_name, safe_name
from composer_classify.recognition import Recognition
from composer_classify.tidy import place_of, tidy

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = ROOT / "composer_classify" / "samples"


def answer(piece: dict | None, error: str = None) -> Recognition:
    "An answer that rests on a piece, on the style, or is none."
    by = None if error else "piece" if piece else "style"
    return Recognition("x.mid", "Bach", 0.5, [], bool(piece), by, piece, None, [], [], error)


def piece(title: str, work: str = None, catalogue: str = None, movement: str = None) -> dict:
    "A piece as it is found."
    found = dict(composer="Mozart", title=title, work=work, catalogue=catalogue, movement=movement, key=None)
    return dict(**found, score=1.0, offset_sec=0.0, after=False)


@pytest.mark.parametrize(
    ("found", "place"),
    [
        (piece("Sonata, K. 545: I", "Sonata", "K. 545", "I. Allegro"), "Mozart/Sonata, K. 545/I. Allegro"),
        (piece("Requiem", "Requiem"), "Mozart/Requiem/Requiem"),
        (piece("Ave", "Ave", "K. 618") | dict(after=True), "Mozart/after Ave, K. 618/Ave"),
        (piece("k545 1/2?"), "Mozart/k545 1_2_"),
        (None, "Unknown/some/folder/tune"),
    ],
)
def test_a_file_belongs_where_its_piece_does(found, place):
    assert place_of(answer(found), "some/folder/tune.MID") == place


@given(st.text(max_size=300))
def test_no_name_leads_elsewhere(name):
    "Whatever a title holds, it is one name, of a length that file systems take."
    safe = safe_name(name)
    assert "/" not in safe and safe not in ("", ".", "..") and len(safe.encode()) <= 120
    assert free_name(safe, ".mid", set()) == f"{safe}.mid"


@pytest.fixture
def heap(tmp_path) -> Path:
    "Files in folders: two encodings of a work, a copy, one that is no music."
    folder = tmp_path / "heap"
    (folder / "deep").mkdir(parents=True)
    for name in ("a.mid", "deep/b.MID"):
        shutil.copy(SAMPLES / "bach_bwv772.mid", folder / name)
    (folder / "deep" / "c.mid").write_bytes((SAMPLES / "bach_bwv772.mid").read_bytes() + b"\0")
    (folder / "bad.mid").write_bytes(b"no music")
    return folder


def answers(folder: Path) -> list[tuple[str, Recognition]]:
    "The same piece for all files but the one that is no music."
    found = piece("Invention", "Invention", "BWV 772")
    paths = sorted(str(path) for path in folder.rglob("*") if path.is_file())
    return [(path, answer(None, "is no music") if "bad" in path else answer(found)) for path in paths]


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_equal_files_become_one_and_others_get_a_number(heap, tmp_path):
    before = files(heap)
    rows = list(tidy(answers(heap), heap, tmp_path / "new"))
    assert [row.done for row in rows] == ["copied", "not read", "there already", "copied"]
    made = files(tmp_path / "new")
    log = list(csv.DictReader(made.pop("tidy.csv").decode("utf-8-sig").splitlines()))
    place = "Mozart/Invention, BWV 772/Invention"
    assert made == {f"{place}.mid": before["a.mid"], f"{place} (2).mid": before["deep/c.mid"]} and files(heap) == before
    assert [row["done"] for row in log] == [row.done for row in rows] and log[1]["why"] == "is no music"


def test_it_can_be_repeated_and_writes_nothing_over(heap, tmp_path):
    taken = tmp_path / "new" / "Mozart" / "Invention, BWV 772" / "invention.mid"
    taken.parent.mkdir(parents=True)
    taken.write_bytes(b"mine")
    list(tidy(answers(heap), heap, tmp_path / "new"))
    once = files(tmp_path / "new")
    assert all(row.done != "copied" for row in tidy(answers(heap), heap, tmp_path / "new"))
    again = files(tmp_path / "new")
    assert taken.read_bytes() == b"mine" and {k for k in again} == {k for k in once}
    assert all(again[name] == once[name] for name in again if name != "tidy.csv")


def test_a_run_that_is_cut_off_leaves_a_log_and_goes_on(heap, tmp_path):
    running = tidy(answers(heap), heap, tmp_path / "new")
    next(running)
    running.close()
    assert (tmp_path / "new" / "tidy.csv").read_text(encoding="utf-8-sig").count("copied") == 1
    assert [row.done for row in tidy(answers(heap), heap, tmp_path / "new")].count("copied") == 1


@pytest.mark.parametrize("dest", ["heap", "heap/inside", "."])
def test_a_folder_in_the_other_is_refused(heap, tmp_path, dest):
    with pytest.raises(ValueError, match="name a folder elsewhere"):
        tidy([], heap, tmp_path / dest)


def test_on_the_command_line(heap, tmp_path):
    code = "import sys; from composer_classify.cli import main; sys.exit(main())"

    def run(*arguments: str | Path) -> subprocess.CompletedProcess:
        command = [sys.executable, "-c", code, "tidy", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)

    dry = run(heap, tmp_path / "new", "--dry-run")
    assert dry.returncode == 1 and not (tmp_path / "new").exists() and dry.stdout.count("would be copied (Bach, ") == 2
    done = run(heap, tmp_path / "new")
    place = "Bach/Two-Part Invention No. 1 in C major, BWV 772/Two-Part Invention No. 1 in C major.mid"
    assert done.returncode == 1 and f"a.mid -> {place}: copied (" in done.stdout
    assert (tmp_path / "new" / place).exists()
    assert done.stdout.splitlines()[-1].startswith("2 copied, 1 not read, 1 there already; see ")
    missing = run(tmp_path / "none", tmp_path / "new")
    assert missing.returncode == 1 and len(missing.stderr.splitlines()) == 1

"""Whatever the bytes, `load_midi` gives a sound `NoteArray` or a `MidiLoadError`, and collecting gives a sound corpus
or a `CollectionError`.

Always the same examples (`derandomize`), so that CI is stable. `make test` takes a quarter of them. To look further:
`FUZZ=100 pytest tests/test_fuzz.py` takes a hundred times as many, at random.
"""

import io
import resource
import tempfile
from pathlib import Path

import mido
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from builders import END, MORE, examples, make_zip, off, on, piece, riff, scale, smf, tempo, varlen
from composer_classify.archives import list_members
from composer_classify.collection import collect
from composer_classify.corpus import validate
from composer_classify.files import CollectionError
from composer_classify.midi import NOTE_DTYPE, Limits, MidiLoadError, NoteArray, load_midi, piano_roll

SAMPLE = (Path(__file__).resolve().parent.parent / "composer_classify" / "samples" / "bach_bwv846.mid").read_bytes()
SMALL = Limits(max_seconds=600)  # rolls of six hours would take the time, not the reading


def fuzz(n: int, deadline: int = 1000):
    "Settings for `n` examples, each of which must be done within a second."
    return settings(
        max_examples=examples(n),
        derandomize=MORE < 2,
        deadline=deadline,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )


@pytest.fixture(autouse=True)
def little_memory():
    "A file of a few kilobytes has no business asking for hundreds of megabytes."
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 300


def check(data: bytes) -> NoteArray | None:
    "Read, and if it can be read, is it what the rest of the library relies on?"
    try:
        notes = load_midi(data, limits=SMALL)
    except MidiLoadError as error:
        assert "\n" not in str(error) and str(error).startswith("MIDI data: ")
        return None
    assert type(notes) is NoteArray and notes.dtype == NOTE_DTYPE
    assert np.array_equal(np.lexsort((notes["pitch"], notes["onset_beat"])), np.arange(len(notes)))
    assert all(np.isfinite(notes[field]).all() and (notes[field] >= 0).all() for field in ("onset_sec", "onset_beat"))
    assert all(
        np.isfinite(notes[field]).all() and (notes[field] > 0).all() for field in ("duration_sec", "duration_beat")
    )
    assert (
        (notes["pitch"] < 128).all()
        and (notes["velocity"] > 0).all()
        and (notes["velocity"] < 128).all()
        and (notes["program"] < 128).all()
    )
    assert notes.duration <= SMALL.max_seconds + 1e-3
    assert notes.tempos["onset_sec"][0] == 0 and (np.diff(notes.tempos["onset_beat"]) > 0).all()
    assert np.isfinite(notes.tempos["bpm"]).all() and (notes.tempos["bpm"] > 0).all()
    assert (notes.pedals["onset_sec"] <= notes.pedals["offset_sec"]).all() and (
        np.abs(notes.key_signatures["fifths"]) <= 7
    ).all()
    roll = piano_roll(notes, 4, pedals=notes.pedals)
    assert roll.shape[0] == 128 and roll.max(initial=0) <= 1
    return notes


# ---------------------------------------------------------------- bytes


@fuzz(400)
@given(
    st.binary(max_size=300),
    st.sampled_from([b"", b"MThd", SAMPLE[:14], SAMPLE[:22], SAMPLE[:66], b"RIFF\0\0\0\0RMIDdata"]),
)
def test_random_bytes(tail, head):
    check(head + tail)


@fuzz(600)
@given(st.data(), st.sampled_from([SAMPLE, riff(piece()), smf([tempo(400_000) + scale(n=12) + END], format=0)]))
def test_mutated_files(data, content):
    content = bytearray(content)
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(content) - 1))
        match data.draw(st.sampled_from(["flip", "set", "insert", "delete", "repeat"])):
            case "flip":
                content[at] ^= 1 << data.draw(st.integers(0, 7))
            case "set":
                content[at] = data.draw(st.sampled_from([0, 0x7F, 0x80, 0x90, 0xF0, 0xF7, 0xFF]))
            case "insert":
                content[at:at] = data.draw(st.binary(min_size=1, max_size=8))
            case "delete":
                del content[at : at + data.draw(st.integers(1, 40))]
            case "repeat":
                content[at:at] = content[at : at + data.draw(st.integers(1, 40))]
        if not content:
            break
    check(bytes(content))


# ---------------------------------------------------------------- events

byte = st.integers(0, 255)
key = st.integers(59, 62)  # few keys, so that they meet
delta = st.one_of(st.integers(0, 500), st.sampled_from([0, 0, 0, 1, 127, 128, 16_383, 16_384, 2**21, 0x0FFFFFFF])).map(
    varlen
)
event = st.one_of(
    st.builds(
        lambda s, c, k, v: bytes([s | c, k, v]),
        st.sampled_from([0x80, 0x90, 0x90, 0x90, 0xA0]),
        st.sampled_from([0, 0, 1, 9]),
        key,
        st.sampled_from([0, 1, 80, 127]),
    ),
    st.builds(lambda k, v: bytes([k, v]), key, st.sampled_from([0, 80])),  # under whatever status runs
    st.builds(lambda p, c: bytes([0xC0 | c, p]), st.integers(0, 127), st.sampled_from([0, 1])),
    st.builds(lambda v: bytes([0xB0, 64, v]), st.sampled_from([0, 63, 64, 127, 200])),
    st.builds(lambda t: b"\xff\x51\3" + t, st.one_of(st.binary(min_size=3, max_size=3), st.just(bytes(3)))),
    st.builds(lambda t: b"\xff\x58\4" + t, st.binary(min_size=4, max_size=4)),
    st.builds(lambda k: b"\xff\x59\2" + k, st.binary(min_size=2, max_size=2)),
    st.builds(
        lambda kind, n, text: bytes([0xFF, kind]) + varlen(n) + text,
        byte,
        st.one_of(st.integers(0, 9), st.just(0x0FFFFFFF)),
        st.binary(max_size=9),
    ),
    st.builds(lambda text: b"\xf0" + varlen(len(text) + 1) + text + b"\xf7", st.binary(max_size=9)),
    st.sampled_from([b"\xff\x2f\0", b"\xf1\0", b"\xf4", b"\xf7\0", b"\xf8", b"\xff"]),
)
track = st.lists(st.tuples(delta, event), max_size=12).map(lambda events: b"".join(d + e for d, e in events))
division = st.one_of(
    st.sampled_from([0, 1, 24, 480, 0x7FFF, 0x8000, 0xFFFF, 0xE728, 0xE800, 0xE250, 0xE301]), st.integers(0, 0xFFFF)
)


@fuzz(1500)
@given(
    st.lists(st.tuples(track, st.sampled_from([END, END, b""])), max_size=4),
    division,
    st.sampled_from([0, 0, 1, 1, 1, 2, 3]),
    st.integers(-1, 1),
)
def test_random_events(tracks, division, format, miscount):
    check(smf([events + end for events, end in tracks], division, format, n_tracks=max(0, len(tracks) + miscount)))


good_event = st.one_of(
    st.builds(lambda k, d: on(k, d), key, st.integers(0, 300)),
    st.builds(lambda k, d: off(k, d), key, st.integers(0, 300)),
    st.builds(
        tempo, st.sampled_from([100_000, 250_000, 500_000, 1_000_000, 0xFFFFFF]), st.sampled_from([0, 0, 1, 96, 480])
    ),
)


@fuzz(300)
@given(st.lists(st.lists(good_event, max_size=30), min_size=1, max_size=3))
@example(
    [[tempo(100_000 + i, 0) for i in range(20)] + [on(60), off(60, 100)], [tempo(1_000_000), on(62, 480), off(62, 10)]]
)  # many tempos at one tick
def test_every_onset_is_where_mido_plays_it(tracks):
    content = smf([b"".join(events) + END for events in tracks], division=96)
    notes, played, now = check(content), [], 0.0
    for message in mido.MidiFile(file=io.BytesIO(content)):
        now += message.time
        if message.type == "note_on" and message.velocity:
            played.append((message.note, now))
    for note in [] if notes is None else notes:  # keys that are never let go are no notes, so not the other way round
        assert min(abs(note["onset_sec"] - time) for key, time in played if key == note["pitch"]) < 1e-6


# ---------------------------------------------------------------- archives

part = st.one_of(
    st.sampled_from(
        [
            "Bach",
            "Chopin",
            "midiclassics",
            "..",
            ".",
            "",
            "C:",
            "a.zip",
            "B\u0301ach",
            "x.mid",
            "notes.npy",
            "__MACOSX",
            "CON",
        ]
    ),
    st.text(max_size=6),
)
name = st.builds(
    lambda parts, end: "/".join(parts) + end,
    st.lists(part, min_size=1, max_size=4),
    st.sampled_from([".mid", ".MID", ".mid", ".zip", "", "/"]),
).filter(
    lambda name: (
        name and len(name.encode("utf-8", "surrogatepass")) < 200 and not any("\ud800" <= c <= "\udfff" for c in name)
    )
)
content = st.one_of(
    st.builds(piece, st.integers(20, 100)),
    st.sampled_from([b"", bytes(50), b"text", SAMPLE[:200]]),
    st.binary(max_size=40),
)
archive = st.recursive(
    st.lists(st.tuples(name, content), max_size=5).map(make_zip),
    lambda inner: st.lists(st.tuples(name, st.one_of(content, inner)), max_size=4).map(make_zip),
    max_leaves=4,
)


def collected(content: bytes) -> None:
    "Collect an archive: a sound corpus, all of it inside its folder, or a `CollectionError`."
    with tempfile.TemporaryDirectory() as folder:
        source, dest = Path(folder, "source.zip"), Path(folder, "corpus")
        source.write_bytes(content)
        try:
            for member in list_members(source):
                assert member.refused or not ({".."} & set(member.name.split("/")) or member.name.startswith("/"))
            corpus = collect(source, dest=dest, n_jobs=1)
        except CollectionError as error:
            assert "\n" not in str(error)
        else:
            assert validate(corpus) == ([], [])
            assert {p.relative_to(dest).as_posix() for p in dest.rglob("*") if p.is_file()} == {
                *corpus.files["path"],
                "manifest.parquet",
                "notes.npy",
                "offsets.npy",
                "works.npz",
                "duplicates.csv",
                "review.csv",
            }
            assert (np.diff(corpus.offsets) >= 0).all() and len(corpus.offsets) == len(corpus.manifest)
            assert all(len(corpus.notes(row.Index)) == row.n_notes for row in corpus.files.itertuples())
        assert {p.name for p in Path(folder).iterdir()} <= {"source.zip", "corpus"}


@fuzz(50, deadline=5000)
@given(archive)
def test_random_archives(content):
    collected(content)


@fuzz(60, deadline=5000)
@given(st.data())
def test_mutated_archives(data):
    content = bytearray(
        make_zip(
            [("Bach/é.mid", piece()), ("Bach/inner.zip", make_zip([("x.mid", piece(70))])), ("Chopin/y.mid", SAMPLE)]
        )
    )
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(byte)
    collected(bytes(content))


@fuzz(100)
@given(st.binary(max_size=200), st.sampled_from([b"", b"PK\3\4", b"PK\5\6" + bytes(18)]))
def test_random_bytes_are_no_archive(tail, head):
    collected(tail + head)

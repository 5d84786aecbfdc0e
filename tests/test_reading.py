"""`load_midi` against a second reader written from the standard, and on every kind of file that real writers make."""
import gzip
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builders import END, control, meta, off, on, riff, scale, smf, tempo, varlen
from composer_classify import midi
from composer_classify.collection import list_members
from composer_classify.midi import Limits, MidiLoadError, load_midi, piano_roll
from reference_reader import read_notes

CASES = Path(__file__).parent / "cases"
SAMPLES = Path(__file__).resolve().parent.parent / "composer_classify" / "samples"


def ticks(content: bytes, **kwargs) -> list[tuple[int, int, int]]:
    "Pitch, onset and release of all notes, in ticks, sorted."
    notes = load_midi(content, limits=Limits(max_seconds=1e9), **kwargs)
    onset, release = notes["onset_beat"], notes["onset_beat"] + notes["duration_beat"]
    in_ticks = [np.round(beats * notes.ticks_per_beat).astype(int).tolist() for beats in (onset, release)]
    return sorted(zip(notes["pitch"].tolist(), *in_ticks))


def expected(content: bytes) -> list[tuple[int, int, int]]:
    "The same by the reference reader; notes of no length are none."
    return sorted((note.pitch, note.onset, note.release) for note in read_notes(content) if note.release > note.onset)


# ---------------------------------------------------------------- the cases

KEYS_60_62 = [(60, 0, 480), (62, 480, 960)]
CORRECT = {  # notes, and a word of the repair that must be reported
    "02_f7_escape.mid": (KEYS_60_62, ""),
    "02_f7_split_sysex.mid": ([(60, 0, 480)], ""),
    "02_f7_packet_data.mid": (KEYS_60_62, ""),
    "03_two_strikes.mid": ([(60, 0, 960), (60, 480, 960)], ""),
    "04_running_over_f8.mid": (KEYS_60_62, ""),
    "14_length_3_too_many.mid": ([(60, 0, 480)], "wrong length"),
    "14_second_track_length_0.mid": ([(40, 0, 480), (42, 480, 960), (60, 0, 480)], "wrong length"),
    "14_second_track_length_half.mid": ([(60, 0, 120), (60, 0, 480), *((61 + k, 120 * k + 120, 120 * k + 240) for k in range(7))], "wrong length"),
}


@pytest.mark.parametrize(("name", "notes", "repair"), [(name, *case) for name, case in CORRECT.items()], ids=CORRECT)
def test_each_case_gives_its_correct_notes(name, notes, repair):
    content = (CASES / name).read_bytes()
    assert ticks(content) == notes
    repairs = load_midi(content).repairs
    assert (repair in " ".join(repairs)) if repair else repairs == ()


def test_sixteen_notes_with_an_end_of_track_among_them():
    content = (CASES / "15_end_of_track_in_the_middle.mid").read_bytes()
    assert len(load_midi(content)) == 16
    assert load_midi(content).repairs == ("1 end-of-track event in the middle of a track passed over",)


def test_running_status_goes_on_behind_a_gm_reset():
    assert len(load_midi(CASES / "04_running_over_gm_reset.mid")) == 61


def test_a_split_sysex_in_each_track_takes_no_note_away():
    sample = load_midi(SAMPLES / "bach_bwv772.mid")
    notes = load_midi(CASES / "02_f7_bach.mid")
    assert notes["pitch"].tolist() == sample["pitch"][:len(notes)].tolist() and len(notes) > 100
    assert np.allclose(notes["onset_beat"], sample["onset_beat"][:len(notes)])


def test_what_pretty_midi_writes_for_three_notes_is_three_notes():
    notes = load_midi(CASES / "03_pretty_midi_written.mid")
    assert len(notes) == 3 and notes["onset_sec"][-1] == pytest.approx(3) and notes.duration == pytest.approx(3.5)


def test_65_601_tracks_are_read():
    notes = load_midi(gzip.decompress((CASES / "01_many_tracks.mid.gz").read_bytes()))
    assert len(notes) == 1 and "65,601" in notes.repairs[0]


# ---------------------------------------------------------------- random streams, against the reference reader

key = st.integers(59, 62)  # few keys and channels, so that strokes meet
channel = st.sampled_from([0, 0, 1, 9])
delta = st.one_of(st.integers(0, 3).map(lambda n: 120 * n), st.sampled_from([0, 0, 0, 1, 127, 128, 16_383, 16_384, 300_000]))
low = st.binary(max_size=6).map(lambda text: bytes(byte & 0x7F for byte in text))
message = st.one_of(
    st.builds(lambda kind, c, k, v: bytes([kind | c, k, v]), st.sampled_from([0x90, 0x90, 0x90, 0x80, 0x80, 0xA0]), channel, key, st.sampled_from([0, 0, 1, 80, 127])),
    st.builds(lambda c, n, v: bytes([0xB0 | c, n, v]), channel, st.sampled_from([7, 64, 120, 121, 123, 124, 127]), st.sampled_from([0, 63, 64, 127])),
    st.builds(lambda kind, c, p: bytes([kind | c, p]), st.sampled_from([0xC0, 0xD0]), channel, st.integers(0, 127)),
    st.builds(lambda c, p: bytes([0xE0 | c, p, p]), channel, st.integers(0, 127)),
)
other = st.one_of(
    st.builds(lambda kind, text: b"\xff" + bytes([kind]) + varlen(len(text)) + text, st.integers(0, 0x2E), st.binary(max_size=200)),
    st.builds(lambda micros: b"\xff\x51\3" + micros.to_bytes(3, "big"), st.integers(200_000, 0xFFFFFF)),
    st.builds(lambda text: b"\xff\x7f" + varlen(len(text)) + text, st.binary(max_size=9)),
    low.map(lambda data: b"\xf0" + varlen(len(data) + 1) + data + b"\xf7"),                      # SysEx
    low.map(lambda data: b"\xf0" + varlen(len(data)) + data),                                    # its first packet
    st.binary(max_size=9).map(lambda data: b"\xf7" + varlen(len(data)) + data),                  # a further packet, or an escape
)


@st.composite
def events(draw) -> bytes:
    "The events of a track; a status byte that goes on may be left out, also behind SysEx and meta events."
    out, running = bytearray(), 0
    for _ in range(draw(st.integers(0, 40))):
        out += varlen(draw(delta))
        event = draw(st.one_of(message, message, message, other))
        if event[0] < 0xF0:
            out += event[event[0] == running and draw(st.booleans()):]
            running = event[0]
        else:
            out += event
    return bytes(out) + varlen(draw(delta)) + b"\xff\x2f\0"


streams = st.builds(smf, st.lists(events(), min_size=1, max_size=4), st.sampled_from([96, 480, 1024]), st.sampled_from([0, 1]))
QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]


@pytest.mark.parametrize("n", [400, pytest.param(5000, marks=pytest.mark.slow)])
def test_random_streams_are_read_like_by_the_reference_reader(n):
    seen = dict(notes=0, regular=0)

    @settings(max_examples=n, deadline=None, derandomize=True, database=None, suppress_health_check=QUIET)
    @given(streams)
    def check(content):
        assert ticks(content) == expected(content)
        seen["notes"] += len(expected(content))
        seen["regular"] += midi._read_regular(midi._split(content, "")) is not None

    check()
    assert seen["notes"] > n and seen["regular"] > n / 2  # most go the fast way, so that it is tested


@given(streams)
@settings(max_examples=200, deadline=None, derandomize=True, database=None, suppress_health_check=QUIET)
def test_both_ways_of_reading_agree(content):
    stream = midi._split(content, "")
    fast, slow = midi._read_regular(stream), midi._Walk(stream).events
    if fast is not None:
        of_channels = fast.status < 0xF0
        for field in ("tick", "status", "first", "second", "track", "place"):
            assert np.array_equal(getattr(fast, field)[of_channels], getattr(slow, field)[slow.status < 0xF0]), field
        assert np.array_equal(fast.end, slow.end)


EXCEPTIONS = {  # streams of the real collection that break the standard, and how: the reference reader refuses them
    "Piano Concerto n2 op19 1mov.mid": "behind the last track", "Piano Concerto n2 op19 2mov.mid": "behind the last track",
}


def compare(files: dict[str, bytes]) -> list[tuple[str, str]]:
    "Assert that the notes of files are those of the reference reader. Returns those it refuses, and why."
    refused = []
    for name, content in files.items():
        content = midi._unwrap_riff(content, name)[0] if content[:4] == b"RIFF" else content
        try:
            notes = expected(content)
        except (ValueError, IndexError) as error:
            refused.append((name, str(error)))
            continue
        if content[12] < 0x80 and content[9] < 2:  # frames and patterns have other ticks
            assert ticks(content) == notes, name
        else:
            assert len(load_midi(content)) == len(notes), name
    return refused


def test_real_files_are_read_like_by_the_reference_reader(real_files):
    assert len(compare(dict(list(real_files.items())[:60]))) <= 2

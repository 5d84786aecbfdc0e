"""`load_midi` and `piano_roll` against pretty_midi and mido on real files; and everything that can be wrong with a
file."""

import copy
import io
import pickle
import subprocess
import sys
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import mido
import numpy as np
import pretty_midi
import pytest

from builders import END, control, meta, off, on, riff, scale, smf, tempo, varlen
from composer_classify.midi import (
    CHANNELS,
    NOTE_DTYPE,
    ROUNDING,
    Limits,
    MidiLoadError,
    NoteArray,
    load_midi,
    piano_roll,
)

# ---------------------------------------------------------------- against pretty_midi


@dataclass
class Pair:
    "One real file, read twice."

    name: str
    content: bytes
    ours: NoteArray
    theirs: pretty_midi.PrettyMIDI
    tempos_elsewhere: bool  # tempo changes stand behind the first track, where pretty_midi does not look

    @property
    def notes(self) -> tuple[np.ndarray, np.ndarray]:
        "Pitch, velocity, onset and offset of all notes by us and by them, each in the same order."
        ours = np.stack(
            [
                self.ours["pitch"],
                self.ours["velocity"],
                self.ours["onset_sec"],
                self.ours["onset_sec"] + self.ours["duration_sec"],
            ],
            1,
        )
        theirs = np.array(
            [(n.pitch, n.velocity, n.start, n.end) for i in self.theirs.instruments for n in i.notes]
        ).reshape(-1, 4)
        return ours[np.lexsort(ours.T[::-1])], theirs[np.lexsort(theirs.T[::-1])]

    @property
    def agrees(self) -> bool:
        ours, theirs = self.notes
        return (
            ours.shape == theirs.shape
            and np.array_equal(ours[:, :2], theirs[:, :2])
            and np.abs(ours - theirs).max(initial=0) < 1e-3
        )


@pytest.fixture(scope="module")
def pairs(real_files) -> list[Pair]:
    pairs = []
    for name, content in real_files.items():
        try:
            midi = mido.MidiFile(file=io.BytesIO(content))
            elsewhere = any(message.type == "set_tempo" for track in midi.tracks[1:] for message in track)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # "Tempo ... may be wrong"
                theirs = pretty_midi.PrettyMIDI(mido_object=midi)
        except Exception as error:  # it refuses key signatures that do not exist, and bytes over 127
            print(f"pretty_midi refuses {name}: {error}")
            continue
        pairs.append(Pair(name, content, load_midi(content, name), theirs, elsewhere))
    assert len(real_files) - len(pairs) <= max(1, len(real_files) // 40)
    return pairs


def test_notes_are_those_of_pretty_midi(pairs):
    # Where several voices strike one key on one channel at the same tick, pretty_midi keeps or drops one more than the
    # events say.
    as_counter = lambda notes: Counter(
        map(tuple, np.floor(notes * [1, 1, 1000, 1000] + 0.317).astype(int))
    )  # 0.317: off the grid that notes lie on
    pairs = [pair for pair in pairs if not pair.tempos_elsewhere]
    n_notes = n_same = n_agree = 0
    for pair in pairs:
        ours, theirs = pair.notes
        n_notes += len(theirs)
        if pair.agrees:
            n_agree, n_same = n_agree + 1, n_same + len(theirs)
        else:
            mine, yours = as_counter(ours), as_counter(theirs)
            n_same += (mine & yours).total()
            print(
                f"{pair.name}: {(mine - yours).total()} notes only ours, "
                f"{(yours - mine).total()} only pretty_midi's, of {len(theirs)}"
            )
    print(f"{n_agree} of {len(pairs)} files and {n_same} of {n_notes} notes agree")
    assert n_agree >= 0.97 * len(pairs)
    assert n_same >= 0.999 * n_notes


def steps(seconds, bpm) -> np.ndarray:
    """A tempo map as `(time, bpm)` where the tempo really changes: of several at one time the last holds, and repeats
    say nothing."""
    out = [(0.0, 120.0)]
    for time, value in zip(seconds, bpm):
        if abs(time - out[-1][0]) < 1e-9:
            out.pop()
        if not out or abs(value - out[-1][1]) > 1e-6:
            out.append((time, value))
    return np.array(out)


def assert_same_tempos(ours: NoteArray, seconds, bpm, name: str):
    mine, yours = steps(ours.tempos["onset_sec"], ours.tempos["bpm"]), steps(seconds, bpm)
    assert mine.shape == yours.shape and np.allclose(mine, yours, rtol=1e-6, atol=1e-3), name


def test_tempo_map_is_that_of_pretty_midi(pairs):
    for pair in pairs:
        if not pair.tempos_elsewhere:
            assert_same_tempos(pair.ours, *pair.theirs.get_tempo_changes(), pair.name)


def playback(content: bytes) -> tuple[list, list, list]:
    "Times and bpm of tempo changes, and `(pitch, time)` of onsets, as mido plays a file: all tracks merged."
    seconds, bpm, onsets, now = [], [], [], 0.0
    for message in mido.MidiFile(file=io.BytesIO(content)):
        now += message.time
        if message.type == "set_tempo":
            seconds, bpm = [*seconds, now], [*bpm, mido.tempo2bpm(message.tempo)]
        elif message.type == "note_on" and message.velocity:
            onsets.append((message.note, now))
    return seconds, bpm, onsets


def test_tempo_changes_behind_the_first_track_hold_for_all(real_zip, pairs):
    elsewhere = [pair for pair in pairs if pair.tempos_elsewhere]
    assert elsewhere, "the sample holds no such file: draw another"
    for pair in elsewhere:
        seconds, bpm, onsets = playback(pair.content)
        assert_same_tempos(pair.ours, seconds, bpm, pair.name)
        mine = sorted(zip(pair.ours["pitch"].tolist(), pair.ours["onset_sec"].tolist()))
        assert np.allclose(mine, sorted(onsets), atol=1e-3), pair.name


def test_tempo_changes_behind_the_first_track_hold_for_all_in_a_small_file():
    content = smf(
        [tempo(500_000) + END, scale(n=2) + tempo(1_000_000) + tempo(250_000, 480) + END, scale(72, n=8) + END]
    )
    seconds, bpm, onsets = playback(content)
    assert_same_tempos(load_midi(content), seconds, bpm, "small")
    assert np.allclose(sorted(load_midi(content)["onset_sec"]), sorted(time for _, time in onsets))


# ---------------------------------------------------------------- piano rolls


def reference_roll(midi: pretty_midi.PrettyMIDI, fs: float, **kwargs) -> np.ndarray:
    """The binary roll of pretty_midi with all times moved by our rounding, and put back; pitch bends left out (we have
    none)."""
    events = [(event, dict(vars(event))) for i in midi.instruments for event in (*i.notes, *i.control_changes)]
    for event, was in events:
        vars(event).update({field: was[field] + ROUNDING / fs for field in ("start", "end", "time") if field in was})
    bends = [instrument.pitch_bends for instrument in midi.instruments]
    for instrument in midi.instruments:
        instrument.pitch_bends = []
    roll = midi.get_piano_roll(fs, **kwargs)
    for event, was in events:
        vars(event).update(was)
    for instrument, was in zip(midi.instruments, bends):
        instrument.pitch_bends = was
    return roll


@pytest.mark.parametrize("pedal", [True, False])
@pytest.mark.parametrize("fs", [4, 10])
def test_binary_roll_is_that_of_pretty_midi(pairs, fs, pedal):
    pairs, n_pairs = [pair for pair in pairs if pair.agrees], len(pairs)
    assert len(pairs) >= 0.95 * n_pairs
    if pedal:
        assert sum(len(pair.ours.pedals) > 0 for pair in pairs) >= n_pairs / 10, "pedals are hardly tested"
    differ = []
    for pair in pairs:
        reference = reference_roll(pair.theirs, fs, pedal_threshold=64 if pedal else None) > 0
        roll = piano_roll(
            pair.ours, fs, n_frames=reference.shape[1], pedals=pair.ours.pedals if pedal else None
        ).astype(bool)
        if not np.array_equal(roll, reference):
            differ.append((pair.name, int((roll != reference).sum())))
    assert not differ


def test_velocity_roll_is_that_of_pretty_midi(pairs):
    "To the last digit, pedals and all: the report's velocity channel is that roll over 127."
    for pair in pairs[:60]:
        if pair.agrees:
            reference = reference_roll(pair.theirs, 10) / 127
            roll = piano_roll(pair.ours, 10, "velocity", reference.shape[1], pair.ours.pedals)
            assert np.allclose(roll, reference, atol=1e-5), pair.name


# ---------------------------------------------------------------- what can be repaired


TEMPO = tempo(500_000) + END
PIECE = smf([TEMPO, scale() + END])
RUNNING = (
    b"\0\x90" + b"".join(bytes([60 + i, 80]) + varlen(240) + bytes([60 + i, 0]) + b"\0" for i in range(4))[:-1]
)  # no status byte but the first

# A flaw, and a word of the repair that must be reported; no word where the file is in order.
REPAIRABLE = {
    "two gigabytes claimed": (PIECE[:18] + b"\x7f\xff\xff\xff" + PIECE[22:], "wrong length"),
    "RIFF": (riff(PIECE), "RIFF"),
    "RIFF, another chunk before": (b"RIFF\0\0\0\0RMIDLIST\3\0\0\0abc\0" + riff(PIECE)[12:], "RIFF"),
    "velocity over 127": (PIECE.replace(on(60), on(60, velocity=208)), "clipped"),
    "key signature of 9 sharps": (smf([meta(0x59, b"\x09\0") + TEMPO, scale() + END]), "key signature"),
    "key signature of mode 255": (smf([meta(0x59, b"\0\xff") + TEMPO, scale() + END]), "key signature"),
    "key signature of mode 2": (smf([meta(0x59, b"\0\2") + TEMPO, scale() + END]), "key signature"),
    "header counts too few tracks": (smf([TEMPO, scale() + END], n_tracks=1), "track"),
    "header counts no tracks": (smf([TEMPO, scale() + END], n_tracks=0), "track"),
    "junk behind the end": (PIECE + b"\x1a\0\0", "ignored"),
    "tempo of zero": (smf([tempo(500_000) + tempo(0, 240) + END, scale() + END]), "tempo"),
    "RIFF, velocity over 127, junk": (riff(PIECE.replace(on(60), on(60, velocity=208)) + b"\x1a\0"), "clipped"),
    "no end of track, velocity over 127": (smf([TEMPO, scale().replace(on(60), on(60, velocity=208))]), "clipped"),
    "no end of track": (smf([TEMPO[:-4], scale()]), "2 tracks without an end"),
    "running status": (smf([TEMPO, RUNNING + END]), ""),
    "a private chunk between the tracks": (
        smf([TEMPO], n_tracks=2) + b"XFIH\0\0\0\2ab" + smf([scale() + END])[14:],
        "",
    ),
    "a longer header": (PIECE[:4] + b"\0\0\0\x08" + PIECE[8:14] + b"\0\0" + PIECE[14:], "header of 8 bytes"),
    "format 0": (smf([TEMPO[:-4] + scale() + END], format=0), ""),
    "format 2 of one pattern": (smf([TEMPO[:-4] + scale() + END], format=2), ""),
    "private messages": (
        smf(
            [
                TEMPO,
                b"\0\xf0\3\x7e\x09\xf7"
                + meta(0x7F, b"\xff\x59\x02\x09")
                + meta(1, "Präludium".encode("latin1"))
                + scale()
                + END,
            ]
        ),
        "",
    ),
}


@pytest.mark.parametrize(("content", "repair"), REPAIRABLE.values(), ids=REPAIRABLE)
def test_what_can_be_read_is_read_whole_and_repairs_are_named(content, repair):
    notes, sound = load_midi(content), load_midi(PIECE)
    for field in ("onset_sec", "duration_sec", "onset_beat", "duration_beat", "pitch"):
        assert np.allclose(notes[field], sound[field]), field
    assert (repair in " ".join(notes.repairs)) if repair else notes.repairs == ()


def test_a_clipped_velocity_is_127_and_the_others_stay():
    assert load_midi(REPAIRABLE["velocity over 127"][0])["velocity"].tolist() == [127, 80, 80, 80]


@pytest.mark.parametrize(("frames", "frames_a_second"), [(24, 24), (25, 25), (29, 30 / 1.001), (30, 30)])
def test_smpte_time_counts_frames_not_beats(frames, frames_a_second):
    division = (256 - frames) << 8 | 40  # 40 ticks a frame
    content = smf(
        [tempo(250_000) + END, on(60, delta=1000) + off(60, 500) + END], division
    )  # the tempo means nothing here
    notes = load_midi(content)
    assert np.allclose(notes["onset_sec"], 1000 / 40 / frames_a_second)
    assert np.allclose(notes["duration_sec"], 500 / 40 / frames_a_second)
    assert "SMPTE" in " ".join(notes.repairs)


@pytest.mark.parametrize("division", [(256 - 23) << 8 | 40, (256 - 25) << 8, 0])
def test_divisions_that_do_not_exist_are_refused(division):
    with pytest.raises(MidiLoadError, match="time division"):
        load_midi(smf([scale() + END], division))


def test_format_0_keeps_its_channels_apart():
    content = smf(
        [
            on(60)
            + on(60, channel=1)
            + off(60, 240)
            + off(60, 240, channel=1)
            + on(36, channel=9)
            + off(36, 10, channel=9)
            + END
        ],
        format=0,
    )
    notes = load_midi(content)
    assert sorted(notes["duration_beat"].tolist()) == pytest.approx([10 / 480, 0.5, 1.0])
    assert len(set(notes["track"].tolist())) == 3
    assert notes["is_drum"].tolist() == (notes["pitch"] == 36).tolist()


def test_format_2_plays_its_patterns_one_after_another():
    # The end of a track is there to give patterns that are put together an exact length (the standard says so): half a
    # second of rest
    first, second = tempo(250_000) + scale(60, 2) + meta(0x2F, b"", delta=480), scale(72, 2) + END
    notes = load_midi(smf([first, second], format=2))
    assert notes["pitch"].tolist() == [60, 61, 72, 73]
    assert np.allclose(notes["onset_sec"], [0, 0.125, 0.5, 0.75])  # the second at the default tempo
    assert "format 2" in " ".join(notes.repairs)


@pytest.mark.parametrize("content", [smf([END]), smf([b""]), smf([TEMPO, END]), smf([control(64, 127) + END])])
def test_no_notes_are_no_error(content):
    notes = load_midi(content)
    assert (len(notes), notes.duration, piano_roll(notes).shape, piano_roll(notes, pedals=notes.pedals).shape) == (
        0,
        0.0,
        (128, 0),
        (128, 0),
    )
    assert len(notes.between(0, 10)) == 0


def test_a_file_of_nothing_but_a_tempo_of_zero_runs_at_the_default():
    notes = load_midi(smf([tempo(0) + scale() + END]))
    assert np.allclose(notes["onset_sec"], [0, 0.25, 0.5, 0.75])


# ---------------------------------------------------------------- never half a file


def test_no_prefix_of_a_file_is_read(prelude):
    for length in range(0, len(prelude), 7):
        with pytest.raises(MidiLoadError):
            load_midi(prelude[:length])


def test_no_prefix_of_a_wrapped_file_is_read():
    for length in range(20 + len(PIECE)):  # behind that only the envelope's padding may be missing
        with pytest.raises(MidiLoadError):
            load_midi(riff(PIECE)[:length])


@pytest.mark.parametrize("n_tracks", [1, 2, 5])
def test_a_file_cut_between_two_tracks_is_not_read(n_tracks):
    tracks = [scale(60 + i) + END for i in range(n_tracks)]
    for kept in range(n_tracks):
        with pytest.raises(MidiLoadError, match="cut off"):
            load_midi(smf(tracks[:kept], n_tracks=n_tracks))


UNREADABLE = {
    "empty": (b"", "empty"),
    "zeros": (bytes(1000), "zero bytes"),
    "text": (b"Dear diary", "not MIDI"),
    "zip": (b"PK\3\4", "zip archive"),
    "another RIFF": (b"RIFF\0\0\0\0WAVEfmt ", "another kind"),
    "RIFF with nothing in it": (b"RIFF\0\0\0\0RMID", "no MIDI inside"),
    "RIFF in a RIFF": (riff(riff(PIECE)), "not MIDI"),
    "format 3": (smf([scale() + END], format=3), "format 3"),
    "no tracks": (smf([]), "announces 0 tracks"),
    "more tracks announced": (smf([scale() + END], n_tracks=2), "announces 2 tracks"),
    "an event cut off": (smf([scale() + b"\0\x90\x3c"]), "cut off at 0:01"),
    "a data byte with no status": (smf([b"\0\x40\x40" + scale() + END]), "makes no sense from 0:00 on"),
    "a status that does not exist": (
        smf([b"\0\xf4" + scale() + END, END]),
        "makes no sense from 0:00 on in track 1 of 2",
    ),
    "text longer than its track": (smf([b"\0\xff\1\x8f\xff\xff\x7f" + scale() + END, END]), "makes no sense"),
}


@pytest.mark.parametrize(("content", "reason"), UNREADABLE.values(), ids=UNREADABLE)
def test_what_cannot_be_read_gets_one_sentence(content, reason):
    with pytest.raises(MidiLoadError) as caught:
        load_midi(content, name="tune.mid")
    message = str(caught.value)
    assert message.startswith("tune.mid: ") and reason in message and "\n" not in message
    assert "()" not in message  # no reason inside the brackets
    assert str(pickle.loads(pickle.dumps(caught.value))) == message  # as it comes back from a worker


@pytest.mark.parametrize(
    ("path", "reason"), [("nowhere.mid", "does not exist"), (".", "folder"), ("/dev/null", "not a regular file")]
)
def test_what_is_no_file_gets_one_sentence(path, reason, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MidiLoadError, match=reason):
        load_midi(path)


# ---------------------------------------------------------------- limits

LONGEST = varlen(0x0FFFFFFF)  # the longest delta time
WAIT = LONGEST + b"\xff\1\0"  # an empty text after it


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(max_bytes=3354), "larger than the limit of 3,354 bytes"),
        (Limits(max_notes=548), "holds 549 notes"),
        (Limits(max_seconds=116), "lasts 117 seconds"),
    ],
)
def test_each_limit_is_kept(prelude, limits, reason, tmp_path):
    (tmp_path / "tune.mid").write_bytes(prelude)
    for source in (prelude, tmp_path / "tune.mid"):
        with pytest.raises(MidiLoadError, match=reason):
            load_midi(source, limits=limits)


def test_what_just_keeps_the_limits_is_read(prelude):
    assert len(load_midi(prelude, limits=Limits(max_bytes=3355, max_notes=549, max_seconds=117))) == 549


@pytest.mark.sampled(2)
@pytest.mark.parametrize("channels", CHANNELS)
def test_a_thousand_voices_at_once_are_read_and_painted(channels):
    "More notes sound at once than MIDI has keys: legal, and painted in no more memory than one voice takes."
    notes = load_midi(smf([on(60) + off(60, 480) + END] * 1000))
    assert len(notes) == 1000 and notes.repairs == ()
    one = piano_roll(notes[:1], 10_000, channels)
    roll = piano_roll(notes, 10_000, channels)  # five million cells, were each voice painted
    assert roll.shape == one.shape and np.array_equal(roll > 0, one > 0)
    if channels in ("velocity", "instrumentation"):
        assert np.allclose(roll, 1000 * one)


# Ticks are counted in 32 bits: past 2**31 they turn negative, past 2**32 they begin again.
@pytest.mark.parametrize(
    "content",
    [
        smf([scale() + WAIT * 2 + scale() + END]),  # 310 hours
        smf([scale() + WAIT * 8 + scale() + END]),  # just past 2**31
        smf([scale() + WAIT * 9 + scale() + END]),
        smf([scale() + WAIT * 16 + varlen(16 + 960) + b"\xff\1\0" + scale() + END]),  # round to the beginning
        smf([scale() + on(72) + WAIT * 9 + off(72) + END]),  # a note that long
        smf([scale() + on(72) + WAIT * 16 + varlen(16 + 960) + b"\xff\1\0" + off(72) + END]),
        smf(
            [tempo(500_000) + WAIT * 16 + varlen(16) + b"\xff\1\0" + tempo(1_000_000) + END, scale() + END]
        ),  # a tempo change from beyond the end
    ],
    ids=["2**29", "2**31", "past 2**31", "past 2**32", "note past 2**31", "note past 2**32", "tempo past 2**32"],
)
def test_huge_delta_times_are_refused_or_harmless(content):
    try:
        notes = load_midi(content)
    except MidiLoadError:
        return
    # only a tempo change beyond the last note may be there and do no harm
    assert notes["pitch"].tolist() == [60, 61, 62, 63] and np.allclose(notes["onset_sec"], [0, 0.25, 0.5, 0.75])


HOSTILE = """
import re, struct, sys, time
from pathlib import Path
from composer_classify.midi import Limits, MidiLoadError, load_midi
events = eval(sys.argv[1])
track = events[0] + events[1] * ((Limits.max_bytes - 100) // len(events[1])) + b"\\0\\xff\\x2f\\0"
data = struct.pack(">4sIHHH4sI", b"MThd", 6, 1, 1, 480, b"MTrk", len(track)) + track
start = time.perf_counter()
try:
    load_midi(data)
except MidiLoadError as error:
    print(error)
seconds = time.perf_counter() - start
# ru_maxrss would begin with the memory of the process that started this one
print(seconds, int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024)
"""


@pytest.mark.alone
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize(
    "events",
    [
        (b"\0\x90\x3c\x50", b"\1\x3c\x40\1\x3c\0"),  # plain notes, six times the limit
        (b"\0\x90\x3c\xd0", b"\1\x3c\x40\1\x3c\0"),  # and one byte that wants clipping
        (b"\0\x90\x3c\xd0\0\xd0\1", b"\0\1"),  # the most events a byte
        (b"\0\x90\x3c\x50", b"\0\xff\x51\3\1\1\1\0\xff\x51\3\1\1\2"),  # tempo changes at one tick
    ],
    ids=["notes", "notes to clip", "pressure to clip", "tempos"],
)
def test_the_largest_hostile_file_takes_bounded_time_and_memory(events):
    run = subprocess.run([sys.executable, "-c", HOSTILE, repr(events)], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    seconds, mebibytes = map(float, run.stdout.split("\n")[-2].split())
    assert seconds < 10 and mebibytes < 1024, f"{seconds:.1f} s, {mebibytes:.0f} MiB"


# ---------------------------------------------------------------- the note array

ATTRIBUTES = (
    "tempos",
    "time_signatures",
    "key_signatures",
    "pedals",
    "ticks_per_beat",
    "repairs",
    "lost",
    "transcribed",
    "sung",
)


@pytest.mark.parametrize(
    "change",
    [
        lambda n: n[:10],
        lambda n: n[::-2],
        lambda n: n[n["pitch"] > 60],
        lambda n: n[[3, 1, 2]],
        lambda n: n[:0],
        lambda n: n.copy(),
        copy.copy,
        copy.deepcopy,
        lambda n: pickle.loads(pickle.dumps(n)),
        lambda n: pickle.loads(pickle.dumps(n[5:9])),
        lambda n: n.between(10, 5),
    ],
    ids=[
        "slice",
        "stride",
        "mask",
        "list",
        "nothing",
        "copy",
        "copy.copy",
        "deepcopy",
        "pickle",
        "pickled slice",
        "between",
    ],
)
def test_the_attributes_stay_with_the_notes(prelude, change):
    changed = change(load_midi(riff(prelude)))
    assert type(changed) is NoteArray and changed.dtype == NOTE_DTYPE
    assert set(vars(changed)) == set(ATTRIBUTES)
    assert (
        changed.ticks_per_beat == 480
        and changed.repairs == ("taken out of its RIFF envelope",)
        and len(changed.time_signatures) == 1
    )


def test_one_field_is_a_plain_array(prelude):
    notes = load_midi(prelude)
    assert type(notes["pitch"]) is np.ndarray and type(notes[["pitch", "velocity"]]) is np.ndarray
    assert notes[0]["pitch"] == 60 and notes.duration == pytest.approx(350 / 3)


def test_notes_are_sorted_by_onset_then_pitch(real_files):
    for name, content in real_files.items():
        notes = load_midi(content)
        assert np.array_equal(np.lexsort((notes["pitch"], notes["onset_beat"])), np.arange(len(notes))), name


LONG_NOTE = smf([on(60) + on(64, 480) + off(60, 480) + off(64, 480) + END])  # 60 from 0.0 to 1.0, 64 from 0.5 to 1.5


def test_between_cuts_notes_and_begins_at_zero():
    part = load_midi(LONG_NOTE).between(0.25, 1.0)
    assert part["pitch"].tolist() == [60, 64]
    assert np.allclose(part["onset_sec"], [0, 0.25]) and np.allclose(part["duration_sec"], [0.75, 0.75])
    assert np.allclose(part["onset_beat"], [0, 0.5]) and np.allclose(part["duration_beat"], [1.5, 1.5])


def test_between_leaves_out_what_only_touches():
    notes = load_midi(PIECE)  # a key each quarter of a second
    assert notes.between(0.25, 0.25)["pitch"].tolist() == [61]
    assert notes.between(0.5)["pitch"].tolist() == [62, 63]
    assert len(notes.between(100, 10)) == 0
    assert np.array_equal(np.asarray(notes.between(0)), np.asarray(notes))


def test_between_leaves_its_source_alone(prelude):
    notes = load_midi(prelude)
    before = notes.copy()
    notes.between(3.3, 7)
    assert np.array_equal(np.asarray(notes), np.asarray(before))


def test_between_cuts_pedals_and_tempos_with_the_notes():
    # a part is a piece of its own: what its attributes say of times must hold for it
    content = smf(
        [
            tempo(500_000) + tempo(1_000_000, 960) + END,
            on(60) + off(60, 120) + on(72, 840) + control(64, 127, 60) + off(72, 60) + control(64, 0, 360) + END,
        ]
    )
    notes = load_midi(content)  # 72 from 1.0 to 1.25; pedal from 1.125 to 2.0
    part = notes.between(1)
    whole, cut = (piano_roll(n, 8, pedals=n.pedals) for n in (notes, part))
    assert np.array_equal(cut, whole[:, 8:])
    assert part.tempos[["onset_sec", "bpm"]].tolist() == [(0.0, 60.0)]


def test_the_tick_counter_does_not_wrap_on_three_byte_delta_times():
    rest = varlen(2**21 - 1) + b"\xff\x01\0"  # the longest delta time of three bytes, before an empty text
    with pytest.raises(MidiLoadError, match="longer than MIDI can count"):
        load_midi(smf([scale() + rest * 2049 + scale() + END]))

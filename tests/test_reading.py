"""`load_midi` against a second reader written from the standard, and on every kind of file that real writers make."""

import gzip
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builders import END, control, examples, meta, off, on, riff, scale, smf, tempo, varlen
from composer_classify import midi
from composer_classify.archives import list_members
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
    "14_second_track_length_half.mid": (
        [(60, 0, 120), (60, 0, 480), *((61 + k, 120 * k + 120, 120 * k + 240) for k in range(7))],
        "wrong length",
    ),
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
    assert notes["pitch"].tolist() == sample["pitch"][: len(notes)].tolist() and len(notes) > 100
    assert np.allclose(notes["onset_beat"], sample["onset_beat"][: len(notes)])


def test_what_pretty_midi_writes_for_three_notes_is_three_notes():
    notes = load_midi(CASES / "03_pretty_midi_written.mid")
    assert len(notes) == 3 and notes["onset_sec"][-1] == pytest.approx(3) and notes.duration == pytest.approx(3.5)


def test_65_601_tracks_are_read():
    notes = load_midi(gzip.decompress((CASES / "01_many_tracks.mid.gz").read_bytes()))
    assert len(notes) == 1 and "65,601" in notes.repairs[0]


# ---------------------------------------------------------------- random streams, against the reference reader

key = st.integers(59, 62)  # few keys and channels, so that strokes meet
channel = st.sampled_from([0, 0, 1, 9])
delta = st.one_of(
    st.integers(0, 3).map(lambda n: 120 * n), st.sampled_from([0, 0, 0, 1, 127, 128, 16_383, 16_384, 300_000])
)
low = st.binary(max_size=6).map(lambda text: bytes(byte & 0x7F for byte in text))
message = st.one_of(
    st.builds(
        lambda kind, c, k, v: bytes([kind | c, k, v]),
        st.sampled_from([0x90, 0x90, 0x90, 0x80, 0x80, 0xA0]),
        channel,
        key,
        st.sampled_from([0, 0, 1, 80, 127]),
    ),
    st.builds(
        lambda c, n, v: bytes([0xB0 | c, n, v]),
        channel,
        st.sampled_from([7, 64, 120, 121, 123, 124, 127]),
        st.sampled_from([0, 63, 64, 127]),
    ),
    st.builds(lambda kind, c, p: bytes([kind | c, p]), st.sampled_from([0xC0, 0xD0]), channel, st.integers(0, 127)),
    st.builds(lambda c, p: bytes([0xE0 | c, p, p]), channel, st.integers(0, 127)),
)
other = st.one_of(
    st.builds(
        lambda kind, text: b"\xff" + bytes([kind]) + varlen(len(text)) + text,
        st.integers(0, 0x2E),
        st.binary(max_size=200),
    ),
    st.builds(lambda micros: b"\xff\x51\3" + micros.to_bytes(3, "big"), st.integers(200_000, 0xFFFFFF)),
    st.builds(lambda text: b"\xff\x7f" + varlen(len(text)) + text, st.binary(max_size=9)),
    low.map(lambda data: b"\xf0" + varlen(len(data) + 1) + data + b"\xf7"),  # SysEx
    low.map(lambda data: b"\xf0" + varlen(len(data)) + data),  # its first packet
    st.binary(max_size=9).map(lambda data: b"\xf7" + varlen(len(data)) + data),  # a further packet, or an escape
)


@st.composite
def events(draw) -> bytes:
    "The events of a track; a status byte that goes on may be left out, also behind SysEx and meta events."
    out, running = bytearray(), 0
    for _ in range(draw(st.integers(0, 40))):
        out += varlen(draw(delta))
        event = draw(st.one_of(message, message, message, other))
        if event[0] < 0xF0:
            out += event[event[0] == running and draw(st.booleans()) :]
            running = event[0]
        else:
            out += event
    return bytes(out) + varlen(draw(delta)) + b"\xff\x2f\0"


streams = st.builds(
    smf, st.lists(events(), min_size=1, max_size=4), st.sampled_from([96, 480, 1024]), st.sampled_from([0, 1])
)
QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]


@pytest.mark.parametrize("n", [200, pytest.param(5000, marks=pytest.mark.slow)])
def test_random_streams_are_read_like_by_the_reference_reader(n):
    seen = dict(notes=0, regular=0)

    @settings(max_examples=n, deadline=None, derandomize=True, database=None, suppress_health_check=QUIET)
    @given(streams)
    def check(content):
        assert ticks(content) == expected(content)
        seen["notes"] += len(expected(content))
        seen["regular"] += midi._read_regular(midi._split(content, "")) is not None

    check()
    assert seen["notes"] > n / 2 and seen["regular"] > n / 2  # most go the fast way, so that it is tested


@given(streams)
@settings(max_examples=examples(200), deadline=None, derandomize=True, database=None, suppress_health_check=QUIET)
def test_both_ways_of_reading_agree(content):
    stream = midi._split(content, "")
    fast, slow = midi._read_regular(stream), midi._Walk(stream).events
    if fast is not None:
        of_channels = fast.status < 0xF0
        for field in ("tick", "status", "first", "second", "channel", "place"):
            assert np.array_equal(getattr(fast, field)[of_channels], getattr(slow, field)[slow.status < 0xF0]), field
        assert np.array_equal(fast.end, slow.end)


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


EXCEPTIONS = {  # streams of the real collection that break the standard, and how: the reference reader refuses them
    "bytes behind the last track, which are ignored": {
        "Piano Concerto n2 op19 1mov.mid",
        "Piano Concerto n2 op19 2mov.mid",
        "Piano Concerto n3 op37 1mov.mid",
        "Piano Concerto n3 op37 2mov.mid",
        "Buxethude Buxwv138 Prelude.mid",
        "K618 Ave Verum Corpus.mid",
        *(
            f"13 Variations on a Theme by Anselm Hu_ttenbrenner D576 {part}.mid"
            for part in ("Theme", "1var", "2var", "3var")
        ),
        "Concerto Grosso op6 n05 3mov.mid",
        "Concerto Grosso op6 n05 4mov.mid",
    },
    "a header that counts a track too few": {
        "Symphony n7 2mov.mid",
        "K495 Horn Concerto n4 1mov.mid",
        "K495 Horn Concerto n4 2mov.mid",
        "Carnaval Op.9 No.1.mid",
        "Scenes from Childhood Op. 15 No.2.mid",
        "The Aspen.mid",
        "The Birch Tree.mid",
        "The Solitary Fir Tree.mid",
        "The Spruce.mid",
        "When the Roan-tree Flowers.mid",
    },
    "velocities over 127, which are clipped": {"Concerto Grosso op6 n05 2mov.mid"},
}


def test_what_is_left_over_behind_the_last_track_is_no_music():
    """An older, longer version of a file may go on behind the new one, as in four piano concertos of the real
    collection."""
    content = smf([scale() + END, scale(72) + END]) + b"z\0" + smf([scale(90) + END])[14:]
    assert len(load_midi(content)) == 8 and "behind the last track ignored" in load_midi(content).repairs[0]


def test_real_files_are_read_like_by_the_reference_reader(real_files):
    assert len(compare(dict(list(real_files.items())[:60]))) <= 2


@pytest.mark.slow
def test_all_real_streams_are_read_like_by_the_reference_reader(real_zip):
    opened, files = {}, {}
    for n, member in enumerate(list_members(real_zip)):
        content = b"" if member.refused else member.read(opened)
        if content[:4] in (b"MThd", b"RIFF"):
            files[f"{n} {member.name}"] = content
    assert len(files) == 4025
    refused = {Path(name).name for name, _ in compare(files)}
    print(refused)
    assert refused == set().union(*EXCEPTIONS.values())


# ---------------------------------------------------------------- whole classes of files

NOTE = on(60) + off(60, 480)
LATER = on(62) + off(62, 480)


@pytest.mark.parametrize(
    "between",
    [
        b"\0\xf0\5\x7e\x7f\x09\1\xf7",  # a whole message
        b"\0\xf0\3\x7e\x7f\x09\0\xf7\2\1\xf7",  # in two packets
        b"\0\xf7\1\xf8",
        b"\0\xf7\2\xf3\1",
        b"\0\xf7\0",  # escapes
        b"\0\xf0\0",
        b"\0\xf0\x7e\x7f\x09\1\xf7",  # empty; without its length, as through a cable
        b"\0\xf8",
        b"\0\xfe",
        b"\0\xf6",
        b"\0\xf3\1",
        b"\0\xf2\1\2",  # what belongs on a cable, not into a file
        meta(1, b"\xff\x2f\0 is no end"),
        meta(0x7F, bytes(range(256))),
    ],
    ids=lambda content: content[1:9].hex(),
)
@pytest.mark.parametrize("running", [False, True])
def test_nothing_between_two_notes_takes_one_away(between, running):
    later = on(62) + b"\x83\x60\x3e\0" if running else LATER
    content = smf([NOTE + between + later + END])
    assert ticks(content) == KEYS_60_62


@pytest.mark.parametrize("between", [b"\0\xf8", b"\0\xf0\5\x7e\x7f\x09\1\xf7", b"\0\xf7\1\xf8", meta(1, b"text")])
def test_running_status_crosses_what_is_no_message(between):
    content = smf([b"\0\x90\x3c\x50" + b"\x83\x60\x3c\0" + between + b"\0\x3e\x50" + b"\x83\x60\x3e\0" + END])
    assert ticks(content) == KEYS_60_62


@pytest.mark.parametrize("kind", [0xC0, 0xD0])
def test_running_status_of_one_data_byte(kind):
    content = smf([NOTE + bytes([0, kind, 5, 0, 6, 0, 7]) + LATER + END])
    assert ticks(content) == KEYS_60_62
    assert midi._read_regular(midi._split(content, "")) is not None  # played music is full of it, and must be read fast


@pytest.mark.parametrize("off_by", [-40, -7, -1, 1, 2, 5, 1000])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_track_of_a_wrong_length_is_read_whole(off_by, which):
    tracks = [scale(40 + 20 * k, 8) + END for k in range(3)]
    content = bytearray(smf(tracks))
    at = 14 + sum(8 + len(track) for track in tracks[:which]) + 4
    content[at : at + 4] = (len(tracks[which]) + off_by).to_bytes(4, "big")
    assert ticks(bytes(content)) == ticks(smf(tracks))
    assert "wrong length" in " ".join(load_midi(bytes(content)).repairs)


@pytest.mark.parametrize("padding", [bytes(5), b"\x1a\x1a\x1a", b"some text that was left in a buffer"])
def test_bytes_behind_the_end_of_a_track_are_ignored(padding):
    notes = load_midi(smf([scale() + END + padding, scale(72) + END]))
    assert sorted(notes["pitch"].tolist()) == [*range(60, 64), *range(72, 76)]
    assert notes.repairs == (f"{len(padding)} bytes behind the end of a track ignored",)


def test_a_key_struck_again_before_its_release():
    assert ticks(smf([on(60) + on(60, 240) + on(60, 240) + off(60, 240) + END])) == [
        (60, 0, 720),
        (60, 240, 720),
        (60, 480, 720),
    ]


def test_two_voices_on_one_key_lose_no_note():
    """Both end and both begin at one tick: two releases, the second of which must not take the new notes away, as it
    does in pretty_midi."""
    content = smf([on(60) + on(60) + on(60, 480) + off(60) + on(60) + off(60) + off(60, 480) + off(60) + END])
    assert ticks(content) == [(60, 0, 480), (60, 0, 480), (60, 480, 960), (60, 480, 960)] == expected(content)


def test_what_is_never_released_lasts_to_the_end_of_its_track_and_is_told():
    notes = load_midi(smf([on(60) + LATER + meta(0x2F, b"", 480), on(40) + off(40, 9600) + END]))
    assert ticks(smf([on(60) + LATER + meta(0x2F, b"", 480)])) == [(60, 0, 960), (62, 0, 480)]
    assert notes.repairs == ("1 note never released, held to the end of the track",)


def test_a_note_of_no_length_is_dropped_and_told():
    notes = load_midi(smf([NOTE + on(62) + off(62) + END]))
    assert notes["pitch"].tolist() == [60] and notes.repairs == ("1 note without length dropped",)


@pytest.mark.parametrize("number", [120, 123, 124, 125, 126, 127])
def test_all_notes_off_ends_the_notes_of_its_channel(number):
    content = smf([on(60) + on(64) + on(67, channel=1) + control(number, 0, 240) + off(67, 240, channel=1) + END])
    assert ticks(content) == [(60, 0, 240), (64, 0, 240), (67, 0, 480)]
    assert load_midi(content).repairs == ()


def test_resetting_controllers_ends_no_note():
    assert ticks(smf([on(60) + control(121, 0, 240) + off(60, 240) + END])) == [(60, 0, 480)]


def test_a_program_set_in_another_track_counts():
    setup = b"\0\xc0\x13" + b"\0\xc2\5" + b"\0\xc1\x28" + b"\x83\x60\xc1\x29" + END  # violin, after a beat viola
    violin = on(72, channel=1) + off(72, 480, channel=1) + on(74, channel=1) + off(74, 480, channel=1) + END
    flute = b"\0\xc2\x49" + on(84, channel=2) + off(84, 480, channel=2) + END  # its own track counts more
    notes = load_midi(smf([setup, NOTE + END, violin, flute]))
    assert dict(zip(notes["pitch"].tolist(), notes["program"].tolist())) == {60: 19, 72: 40, 74: 41, 84: 73}


def test_the_one_unreadable_file_of_the_real_collection_is_told_of_in_our_own_words(real_zip):
    opened = {}
    zeros = next(
        member for member in list_members(real_zip) if member.name.endswith("Overture to Princess of Kensington.mid")
    )
    with pytest.raises(MidiLoadError, match="is all zero bytes, so nothing of it can be read"):
        load_midi(zeros.read(opened))


# ---------------------------------------------------------------- what is cut off

PIECE = (SAMPLES / "bach_bwv846.mid").read_bytes()


@pytest.mark.parametrize("length", [500, 1000, 2000, 3300])
def test_what_is_there_of_a_file_is_read_if_asked(length):
    whole, part = load_midi(PIECE), load_midi(PIECE[:length], incomplete=True)
    n = len(part) - 20  # the last ones may lack their release
    assert n > 20 and np.array_equal(np.asarray(part[:n]), np.asarray(whole[:n]))
    assert part.lost.startswith(f"cut off at {midi.clock(part.duration)}") and part.repairs[0] == part.lost
    with pytest.raises(MidiLoadError, match="is incomplete: cut off at "):
        load_midi(PIECE[:length])


def test_a_missing_track_is_told():
    notes = load_midi(smf([scale() + END, scale(72) + END], n_tracks=3), incomplete=True)
    assert len(notes) == 8 and notes.lost == "cut off: the header announces 3 tracks, 2 found"


def test_mido_gets_no_half_a_file():
    assert len(midi.read_mido(PIECE).tracks) == 2
    for length in (1000, len(PIECE) - 1):
        with pytest.raises(MidiLoadError, match="is incomplete: cut off"):
            midi.read_mido(PIECE[:length])


def test_one_damaged_track_leaves_the_others():
    notes = load_midi(smf([scale() + b"\0\xf4" + END, scale(72, 8) + END]), incomplete=True)
    assert len(notes) == 12 and notes.lost == "makes no sense from 0:01 on in track 1 of 2"


@pytest.mark.parametrize("content", [PIECE[:14], PIECE[:60], smf([END], n_tracks=2)])
def test_a_file_of_which_no_note_is_there_is_refused(content):
    with pytest.raises(MidiLoadError, match="is incomplete: cut off"):
        load_midi(content, incomplete=True)


@pytest.mark.parametrize("end", [5, 100, -1])
def test_a_wrapped_file_that_is_cut_off_is_read_if_asked(end):
    wrapped = riff(PIECE)[: -end if end > 0 else None]
    assert (len(load_midi(wrapped, incomplete=True)) > 400) and bool(load_midi(wrapped, incomplete=True).lost) == (
        end > 0
    )


def test_messages_are_in_our_own_words():
    "Whatever the damage, no text of a library, and no name of an exception."
    rng, sentences = np.random.default_rng(0), set()
    for _ in range(400):
        content = bytearray(PIECE)
        for at in rng.integers(0, len(content), 3):
            content[at] = rng.integers(256)
        try:
            load_midi(bytes(content))
        except MidiLoadError as error:
            sentences.add(error.reason)
    ours = (
        "is incomplete: ",
        "lasts ",
        "is longer than MIDI can count",
        "has a time division",
        "has an SMPTE",
        "is of MIDI format",
        "is not MIDI",
        "holds ",
    )
    assert len(sentences) > 20 and all(sentence.startswith(ours) for sentence in sentences)
    assert not any(word in sentence for sentence in sentences for word in ("Error", "MiniMidi", "invalid", "mido"))


# ---------------------------------------------------------------- what takes long only for those who mean harm

MANY = Limits.max_irregular // 8
PILE = b"\0\x90\x3c\x50" + b"\0\x3c\x50" * 200_000 + b"\0\x3c\0" * 200_000  # struck and released at one tick
HARMFUL = {
    "SysEx that claims the rest of the file": smf([b"\0\xf0\x8f\xff\x7f" * MANY + END]),
    "SysEx that never ends": smf([b"\0\xf0\1\xf0" * MANY + END]),
    "SysEx without lengths": smf([b"\0\xf0\x7f\x09\1\xf7" * MANY + END]),
    "tracks that claim the rest of the file": smf([]) + b"MTrk\0\x30\0\0" * MANY,
    "each key released when it is struck": smf(
        [
            b"".join(on(n % 128, channel=n // 128 % 16) + off(n % 128, channel=n // 128 % 16) for n in range(200_000))
            + END
        ]
    ),
    "the same in many tracks": smf([on(60) + off(60) + END] * 60_000, n_tracks=60_000),
    "one key, and all strokes before all releases": smf([PILE + END]),
    "the same, let go by and by": smf([PILE[: -200_000 * 3] + b"\1\x3c\0" * 100_000 + PILE + END]),
    "all notes off again and again": smf([(on(60) + control(123, 0) + control(123, 0)) * 100_000 + END]),
}


@pytest.mark.alone
@pytest.mark.parametrize("content", HARMFUL.values(), ids=HARMFUL)
def test_a_file_of_a_few_megabytes_takes_a_few_seconds(content):
    begin = time.perf_counter()
    try:
        load_midi(content, incomplete=True)
    except MidiLoadError:
        pass
    assert time.perf_counter() - begin < 15


# ---------------------------------------------------------------- stretches and frames


def test_a_stretch_holds_no_ghosts():
    notes = load_midi(CASES / "05_between.mid")
    assert notes.between(0.1, 0.2)["pitch"].tolist() == [61, 62]


@given(st.integers(0, 12), st.integers(1, 6))
@settings(deadline=None, derandomize=True)
def test_stretches_of_whole_notes_hold_these_notes(first, n):
    notes = load_midi(smf([tempo(333_333) + scale(60, 20, 100) + END]))
    each = 100 / 480 / 3 * 0.999999
    part = notes.between(first * each, n * each)
    assert part["pitch"].tolist() == list(range(60 + first, 60 + first + n))
    assert part["duration_sec"].min() > 1e-4


def test_a_note_shorter_than_a_ghost_is_heard_where_it_is():
    notes = load_midi(smf([tempo(1000) + on(60, 480) + off(60, 10) + END]))  # of 0.02 milliseconds
    assert len(notes.between(0, 1)) == len(notes.between(0.001, 0.5)) == 1 and len(notes.between(0.5, 1)) == 0


@pytest.mark.parametrize("fs", [10, 100, 1000, 44_100])
@pytest.mark.parametrize("second", [0, 7200])
def test_a_long_note_ends_in_the_right_frame(fs, second):
    "Ten minutes and a third of a frame, far into the piece."
    length = 600 + 1 / 3 / fs
    notes = midi.NoteArray(np.zeros(1, midi.NOTE_DTYPE))
    notes["onset_sec"], notes["duration_sec"], notes["pitch"] = second, length, 60
    start = second * fs
    roll = piano_roll(notes, fs) if second * fs < 1e6 else None
    assert midi.frames_of(notes["onset_sec"] + notes["duration_sec"], fs)[0] == start + 600 * fs
    if roll is not None:
        assert roll.shape[1] == start + 600 * fs and roll[60].sum() == 600 * fs

"""Scores in every format: notes equal to those of MIDI, and what is hostile, damaged or foreign refused."""

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import END, make_zip, meta, off, on, smf, tempo, thorough
from composer_classify import scores
from composer_classify.files import MIDI_SUFFIXES, MUSIC_SUFFIXES, SCORE_SUFFIXES
from composer_classify.midi import Limits, MidiLoadError, MusicLoadError, load_midi
from composer_classify.scores import GRACE, VELOCITY, format_of, load, load_score

# The same four bars by hand in each format: a pickup, a tie over a bar line, a triplet, a chord, a second part.
DOCTYPE = '<!DOCTYPE score-partwise PUBLIC "-//Recordare//DTD MusicXML 4.0 Partwise//EN" "http://www.musicxml.org/dtds/partwise.dtd">'


def note(key: str, length: int, *more: str, chord: bool = False, rest: bool = False) -> str:
    "A note of MusicXML: a key such as `Bb4`, a length in divisions, other elements."
    alter = {"#": "<alter>1</alter>", "b": "<alter>-1</alter>"}.get(key[1:-1], "")
    pitch = "<rest/>" if rest else f"<pitch><step>{key[0]}</step>{alter}<octave>{key[-1]}</octave></pitch>"
    return f"<note>{'<chord/>' * chord}{pitch}<duration>{length}</duration>{''.join(more)}</note>"


def attributes(divisions: int = 6, more: str = "") -> str:
    return f"<attributes><divisions>{divisions}</divisions>{more}</attributes>"


def musicxml(*parts: list[str], head: str = "", lists: str = "") -> str:
    "A score of parts, each a list of the contents of its measures."
    listed = "".join(
        f'<score-part id="P{i}"><part-name>Part</part-name>{lists}</score-part>' for i in range(len(parts))
    )
    body = "".join(
        f'<part id="P{i}">'
        + "".join(f'<measure number="{n}">{content}</measure>' for n, content in enumerate(measures))
        + "</part>"
        for i, measures in enumerate(parts)
    )
    return f'{head}<score-partwise version="4.0"><part-list>{listed}</part-list>{body}</score-partwise>'


TIE, TIED = '<tie type="start"/>', '<tie type="stop"/>'
SIGNATURES = "<key><fifths>-2</fifths><mode>minor</mode></key><time><beats>3</beats><beat-type>4</beat-type></time>"
UPPER = [
    attributes(more=SIGNATURES) + '<sound tempo="90"/>' + note("D5", 6),
    note("G4", 6) + note("Bb4", 6) + note("D5", 6, TIE),
    note("D5", 6, TIED) + note("C5", 4) + note("Bb4", 4) + note("A4", 4),
    note("G4", 12) + note("D4", 12, chord=True),
]
LOWER = [attributes() + note("", 6, rest=True), note("G3", 18), note("F#3", 18), note("G2", 12)]
MUSICXML = musicxml(UPPER, LOWER, head='<?xml version="1.0" encoding="UTF-8"?>\n' + DOCTYPE)
KERN = """!!!COM: nobody
**kern\t**kern
*M3/4\t*M3/4
*k[b-e-]\t*k[b-e-]
*g:\t*g:
*MM90\t*MM90
4r\t4dd
=1\t=1
2.G\t4g
.\t4b-
.\t[4dd
=2\t=2
2.F#\t4dd]
.\t6cc
.\t6b-
.\t6a
=3\t=3
2GG\t2d 2g
==\t==
*-\t*-
"""
ABC = """X:1
T:The same
M:3/4
L:1/4
Q:1/4=90
K:Gm
V:1
d|GBd-|d (3c2/B2/A2/|[DG]2|]
V:2
z|G,3|^F,3|G,,2|]
""".replace("(3c2/B2/A2/", "(3cBA")
STAFF = '<staffDef n="{}" lines="5" meter.count="3" meter.unit="4" key.sig="2f"/>'


def mei_note(name: str, octave: int, dur: str, more: str = "") -> str:
    return f'<note pname="{name}" oct="{octave}" dur="{dur}" {more}/>'


MEI_BARS = [
    (mei_note("d", 5, "4"), '<rest dur="4"/>'),
    (
        mei_note("g", 4, "4")
        + "<beam>"
        + mei_note("b", 4, "4", 'accid.ges="f"')
        + mei_note("d", 5, "4", 'tie="i"')
        + "</beam>",
        mei_note("g", 3, "2", 'dots="1"'),
    ),
    (
        mei_note("d", 5, "4", 'tie="t"')
        + '<tuplet num="3" numbase="2">'
        + mei_note("c", 5, "4")
        + mei_note("b", 4, "4", 'accid.ges="f"')
        + mei_note("a", 4, "4")
        + "</tuplet>",
        '<note pname="f" oct="3" dur="2" dots="1"><accid accid="s"/></note>',
    ),
    ('<chord dur="2">' + mei_note("d", 4, "2") + mei_note("g", 4, "2") + "</chord>", mei_note("g", 2, "2")),
]
MEI = (
    '<?xml version="1.0" encoding="UTF-8"?><mei xmlns="http://www.music-encoding.org/ns/mei" meiversion="5.0">'
    "<meiHead/><music><body><mdiv><score>"
    '<scoreDef midi.bpm="90" key.mode="minor" key.sig="2f" meter.count="3" meter.unit="4">'
    f"<staffGrp>{STAFF.format(1)}{STAFF.format(2)}</staffGrp></scoreDef><section>"
    + "".join(
        f'<measure n="{n}"><staff n="1"><layer n="1">{upper}</layer></staff>'
        f'<staff n="2"><layer n="1">{lower}</layer></staff></measure>'
        for n, (upper, lower) in enumerate(MEI_BARS)
    )
    + "</section></score></mdiv></body></music></mei>"
)


def midi() -> bytes:
    "The same as MIDI, in 6 ticks a quarter note."
    upper = b"".join(
        on(key, wait) + off(key, length)
        for key, wait, length in [(74, 0, 6), (67, 0, 6), (70, 0, 6), (74, 0, 12), (72, 0, 4), (70, 0, 4), (69, 0, 4)]
    )
    upper += on(67) + on(62) + off(67, 12) + off(62)
    lower = b"".join(on(key, wait) + off(key, length) for key, wait, length in [(55, 6, 18), (54, 0, 18), (43, 0, 12)])
    signatures = meta(0x58, bytes([3, 2, 24, 8])) + meta(0x59, bytes([254, 1]))
    return smf([tempo(666_667) + signatures + upper + END, lower + END], division=6)


def mxl(score: str | bytes, name: str = "score.xml", container: str = None, more=()) -> bytes:
    "A compressed MusicXML file."
    container = container or f'<container><rootfiles><rootfile full-path="{name}"/></rootfiles></container>'
    content = score.encode() if isinstance(score, str) else score
    return make_zip([("META-INF/container.xml", container.encode()), (name, content), *more])


SAMPLES = {
    "musicxml": MUSICXML.encode(),
    "mxl": mxl(MUSICXML),
    "kern": KERN.encode(),
    "mei": MEI.encode(),
    "abc": ABC.encode(),
    "midi": midi(),
}
FIELDS = ["onset_beat", "duration_beat", "pitch"]


def listed(notes: np.ndarray, *fields: str) -> list:
    "The notes as sorted rows."
    return sorted(notes[list(fields or FIELDS)].tolist())


@pytest.mark.parametrize("kind", SAMPLES)
def test_a_file_is_recognised_by_its_content(kind):
    assert format_of(SAMPLES[kind]) == kind


@pytest.mark.parametrize("kind", SAMPLES)
def test_the_same_music_in_each_format_has_equal_notes(kind):
    notes, wanted = load(SAMPLES[kind]), load_midi(midi())
    assert np.allclose(listed(notes), listed(wanted))
    assert np.allclose(
        listed(notes, "onset_sec", "duration_sec"), listed(wanted, "onset_sec", "duration_sec"), atol=1e-4
    )
    assert len(set(notes["track"].tolist())) == 2


@pytest.mark.parametrize("kind", SAMPLES)
def test_the_same_music_in_each_format_has_equal_signatures(kind):
    notes = load(SAMPLES[kind])
    assert notes.time_signatures[["onset_beat", "beats", "beat_type"]].tolist() == [(0, 3, 4)]
    assert notes.key_signatures[["onset_beat", "fifths", "is_minor"]].tolist() == [(0, -2, True)]
    assert np.allclose(notes.tempos["bpm"], 90)


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parent / "cases" / "scores").iterdir()), ids=lambda path: path.name
)
def test_what_verovio_makes_of_it_has_equal_notes(path):
    assert np.allclose(listed(load(path)), listed(load_midi(midi())))  # by verovio 6.4.1, ids and dates taken out


@pytest.mark.parametrize("kind", ["humdrum", "abc"])
def test_what_music21_makes_of_it_has_equal_notes(kind):
    music21 = pytest.importorskip("music21")
    score = music21.converter.parseData({"humdrum": KERN, "abc": ABC}[kind], format=kind)
    content = music21.musicxml.m21ToXml.GeneralObjectExporter(score).parse()
    assert format_of(content) == "musicxml" and np.allclose(listed(load(content)), listed(load_midi(midi())))


def test_beats_are_exact():
    for kind in ("musicxml", "kern", "mei", "abc"):
        assert {5 + 2 / 3, 6 + 1 / 3} < set(load(SAMPLES[kind])["onset_beat"].tolist())


@pytest.mark.parametrize("kind", ["musicxml", "mei", "kern", "abc"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1"])
def test_any_encoding_is_read(kind, encoding):
    text = SAMPLES[kind].decode().replace("nobody", "Dvořák").replace("Part<", "für<")
    content = text.encode(encoding, "replace")
    if encoding == "utf-16-le" and kind in ("kern", "abc"):
        content = b"\xff\xfe" + content
    assert listed(load(content)) == listed(load(SAMPLES[kind]))


def test_windows_line_ends_are_read():
    for kind in ("kern", "abc", "musicxml", "mei"):
        assert listed(load(SAMPLES[kind].replace(b"\n", b"\r\n"))) == listed(load(SAMPLES[kind]))


def test_a_score_by_measures_is_read():
    measures = "".join(
        f'<measure number="{n}"><part id="P0">{u}</part><part id="P1">{v}</part></measure>'
        for n, (u, v) in enumerate(zip(UPPER, LOWER))
    )
    score = (
        f'<score-timewise><part-list><score-part id="P0"/><score-part id="P1"/></part-list>{measures}</score-timewise>'
    )
    assert load(score.encode()).tolist() == load(SAMPLES["musicxml"]).tolist()


def test_all_of_it_is_as_documented():
    notes = load(SAMPLES["musicxml"])
    assert set(notes["velocity"].tolist()) == {VELOCITY} and not notes["is_drum"].any()
    assert notes.ticks_per_beat == 6 and not len(notes.pedals) and notes.repairs == () and notes.lost == ""
    order = np.lexsort((notes["pitch"], notes["onset_sec"]))
    assert (order == np.arange(len(notes))).all()


def one(*elements: str, first: str = attributes(), lists: str = "") -> np.ndarray:
    "A score of one bar."
    return load(musicxml([first + "".join(elements)], lists=lists).encode())


def grace(key: str, *more: str) -> str:
    return note(key, 0, *more).replace("<note>", "<note><grace/>").replace("<duration>0</duration>", "")


def test_grace_notes_end_where_their_note_begins():
    notes = one(note("C4", 6), grace("D4"), grace("E4"), note("F4", 6))
    assert listed(notes) == [(0, 1, 60), (1 - 2 * GRACE, GRACE, 62), (1 - GRACE, GRACE, 64), (1, 1, 65)]


def test_grace_notes_of_a_chord_sound_together():
    chord = grace("E4").replace("<grace/>", "<grace/><chord/>")
    assert listed(one(note("C4", 6), grace("D4"), chord, note("F4", 6)))[1:3] == [
        (1 - GRACE, GRACE, 62),
        (1 - GRACE, GRACE, 64),
    ]


def test_many_grace_notes_take_a_quarter_note_together():
    notes = one(note("C4", 12), *[grace("D4")] * 16, note("F4", 6))
    assert np.allclose(notes["onset_beat"], [0, *(1 + np.arange(16) / 16), 2])


def test_grace_notes_at_the_beginning_begin_with_it():
    assert listed(one(grace("D4"), note("F4", 6))) == [(0, GRACE, 62), (0, 1, 65)]


def test_grace_notes_at_the_end_of_a_bar_come_before_the_next():
    notes = load(musicxml([attributes() + note("C4", 6) + grace("D4"), note("E4", 6)]).encode())
    assert listed(notes) == [(0, 1, 60), (1 - GRACE, GRACE, 62), (1, 1, 64)]


def test_voices_and_backup():
    back, skip = "<backup><duration>12</duration></backup>", "<forward><duration>6</duration></forward>"
    notes = one(note("C5", 12, "<voice>1</voice>"), back, skip, note("C4", 6, "<voice>2</voice>"))
    assert listed(notes) == [(0, 2, 72), (1, 1, 60)]


def test_a_short_part_does_not_move_the_bars_of_others():
    notes = load(
        musicxml([attributes() + note("C4", 12), note("D4", 6)], [attributes() + note("E4", 6), note("F4", 6)]).encode()
    )
    assert listed(notes) == [(0, 1, 64), (0, 2, 60), (2, 1, 62), (2, 1, 65)]


def test_divisions_may_differ_and_change():
    notes = load(
        musicxml(
            [attributes(4) + note("C4", 4), attributes(3) + note("D4", 1)], [attributes(10) + note("E4", 10)]
        ).encode()
    )
    assert listed(notes) == [(0, 1, 60), (0, 1, 64), (1, 1 / 3, 62)] and notes.ticks_per_beat == 60


@pytest.mark.parametrize(
    ("transpose", "pitch", "fifths"),
    [
        ("<diatonic>-1</diatonic><chromatic>-2</chromatic>", 58, 0),  # clarinet in B flat
        ("<diatonic>-2</diatonic><chromatic>-3</chromatic>", 57, 5),  # clarinet in A
        ("<chromatic>-7</chromatic>", 53, 1),  # horn
        ("<chromatic>0</chromatic><octave-change>-1</octave-change>", 48, 2),  # double bass
    ],
)
def test_transposing_instruments_sound_as_they_sound(transpose, pitch, fifths):
    notes = one(
        note("C4", 6), first=attributes(more=f"<key><fifths>2</fifths></key><transpose>{transpose}</transpose>")
    )
    assert notes["pitch"].tolist() == [pitch] and notes.key_signatures["fifths"].tolist() == [fifths]


def test_a_transposition_of_all_staves_counts_on_each():
    transpose = attributes(more="<transpose><chromatic>-2</chromatic></transpose>")
    assert listed(load(musicxml([transpose + note("C4", 6, "<staff>2</staff>")]).encode())) == [(0, 1, 58)]


def test_tempo_changes():
    mark = "<metronome><beat-unit>half</beat-unit><per-minute>ca. 60</per-minute></metronome>"
    metronome = f"<direction><direction-type>{mark}</direction-type></direction>"
    notes = one(note("C4", 6), '<direction><sound tempo="60"/></direction>', note("D4", 6), metronome, note("E4", 6))
    assert np.allclose(notes["onset_sec"], [0, 0.5, 1.5]) and np.allclose(notes["duration_sec"], [0.5, 1, 0.5])
    assert notes.tempos["bpm"].tolist() == [120, 60, 120]


def test_a_tempo_that_is_none_is_left_out():
    for number in ("0", "-4", "nan", "inf", "1e9", "fast", ""):
        assert one(f'<sound tempo="{number}"/>', note("C4", 6)).tempos["bpm"].tolist() == [120]


def test_instruments_and_drums():
    lists = '<midi-instrument id="I1"><midi-channel>{}</midi-channel><midi-program>41</midi-program></midi-instrument>'
    violin = one(note("C4", 6), lists=lists.format(1))
    assert violin["program"].tolist() == [40] and not violin["is_drum"].any()
    assert one(note("C4", 6), lists=lists.format(10))["is_drum"].all()
    key = '<midi-instrument id="I2"><midi-unpitched>39</midi-unpitched></midi-instrument>'
    display = "<unpitched><display-step>C</display-step><display-octave>5</display-octave></unpitched>"
    snare = f"<note>{display}<duration>6</duration>{{}}</note>"
    notes = one(snare.format('<instrument id="I2"/>'), lists=lists.format(1) + key)
    assert notes["is_drum"].all() and notes["pitch"].tolist() == [38]


def test_cue_notes_do_not_sound():
    assert listed(one(note("C4", 6).replace("<note>", "<note><cue/>"), note("D4", 6))) == [(1, 1, 62)]


def test_repeats_are_not_unfolded():
    repeat = '<barline><repeat direction="backward"/></barline>'
    assert listed(one(note("C4", 6), repeat)) == [(0, 1, 60)]
    for kind, text in (("kern", KERN.replace("=2\t=2", "=2:|!\t=2:|!")), ("abc", ABC.replace("BA|[DG]", "BA:|[DG]"))):
        assert len(load(text.encode())) == len(load(SAMPLES[kind]))


def test_a_tie_that_no_note_continues():
    assert listed(one(note("C4", 6, TIE), note("D4", 6), note("C4", 6, TIED))) == [(0, 1, 60), (1, 1, 62), (2, 1, 60)]


def test_spines_divide_and_join():
    kern = "**kern\n4c\n*^\n4e\t8g\n.\t8f\n*v\t*v\n4c\n*-\n"
    assert listed(load(kern.encode())) == [(0, 1, 60), (1, 0.5, 67), (1, 1, 64), (1.5, 0.5, 65), (2, 1, 60)]


def test_kern_grace_notes_and_other_spines():
    kern = "**dynam\t**kern\t**text\np\t4c\tla\n.\t8ddq\t.\nf\t4e\tla\n*-\t*-\t*-\n"
    assert listed(load(kern.encode())) == [(0, 1, 60), (1 - GRACE, GRACE, 74), (1, 1, 64)]


def test_mei_without_sounding_accidentals_is_read_like_a_player_does():
    bar = mei_note("b", 4, "4") + mei_note("f", 4, "4", 'accid="s"') + mei_note("f", 4, "4")
    head, tail = MEI.split("<section>")[0], "</section></score></mdiv></body></music></mei>"
    staff = '<measure><staff n="1"><layer>{}</layer></staff></measure>'
    notes = load((head + "<section>" + staff.format(bar) + staff.format(mei_note("f", 4, "4")) + tail).encode())
    assert notes["pitch"].tolist() == [70, 66, 66, 65]


def test_mei_with_prefix_and_several_movements():
    prefixed = (
        MEI.replace("</", "</mei:").replace("<", "<mei:").replace("<mei:/mei:", "</mei:").replace("<mei:?xml", "<?xml")
    )
    assert listed(load(prefixed.replace("xmlns=", "xmlns:mei=").encode())) == listed(load(SAMPLES["mei"]))
    score = MEI[MEI.index("<mdiv>") : MEI.index("</body>")]
    assert len(load(MEI.replace("</body>", score + "</body>").encode())) == 2 * len(load(SAMPLES["mei"]))


def tune(body: str, key: str = "C", head: str = "M:4/4\nL:1/4\n") -> bytes:
    "A tune of ABC."
    return f"X:1\n{head}K:{key}\n{body}\n".encode()


@pytest.mark.parametrize(
    ("key", "body", "pitches", "signature"),
    [
        ("C", "C, C c c'", [48, 60, 72, 84], (0, False)),
        ("D", "F C G A", [66, 61, 67, 69], (2, False)),
        ("Gm", "B E A G", [70, 63, 69, 67], (-2, True)),
        ("C", "F ^F F2 | F _B B =B", [65, 66, 66, 65, 70, 70, 71], (0, False)),  # accidentals hold for the bar
        ("F", "B =B ^c d", [70, 71, 73, 74], (-1, False)),
    ],
)
def test_abc_keys_and_accidentals(key, body, pitches, signature):
    notes = load(tune(body, key))
    assert notes["pitch"].tolist() == pitches
    assert notes.key_signatures[["fifths", "is_minor"]].tolist() == [signature]


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ("C2 D E/ F/2 G3/2 z/|A", [(0, 2, 60), (2, 1, 62), (3, 0.5, 64), (3.5, 0.5, 65), (4, 1.5, 67), (6, 1, 69)]),
        ("C>D E<F", [(0, 1.5, 60), (1.5, 0.5, 62), (2, 0.5, 64), (2.5, 1.5, 65)]),
        ("C4-|C4-|C2 C2", [(0, 10, 60), (10, 2, 60)]),
        ("(3CDE F2", [(0, 2 / 3, 60), (2 / 3, 2 / 3, 62), (4 / 3, 2 / 3, 64), (2, 2, 65)]),
        ("C {d}E z2", [(0, 1, 60), (1 - GRACE, GRACE, 74), (1, 1, 64)]),
        ("|:C D E F|1 G4:|2 A4|]", [(0, 1, 60), (1, 1, 62), (2, 1, 64), (3, 1, 65), (4, 4, 67), (8, 4, 69)]),
    ],
    ids=["lengths", "broken rhythm", "ties", "triplet", "grace note", "repeat as written"],
)
def test_abc_lengths(body, wanted):
    assert np.allclose(listed(load(tune(body))), wanted)


def test_abc_voices():
    notes = load(tune("V:1\nC D E F|G4|\nV:2\nC,4|z2 G,2|"))
    assert listed(notes, "track", *FIELDS) == [
        (0, 0, 1, 60),
        (0, 1, 1, 62),
        (0, 2, 1, 64),
        (0, 3, 1, 65),
        (0, 4, 4, 67),
        (1, 0, 4, 48),
        (1, 6, 2, 55),
    ]


@pytest.mark.parametrize(("field", "bpm"), [("Q:1/4=90\n", 90), ("Q:3/8=60\n", 90), ("", 120)])
def test_abc_tempo(field, bpm):
    notes = load(tune("C D", head=f"M:4/4\nL:1/4\n{field}"))
    assert notes.tempos["bpm"].tolist() == [bpm]
    assert np.allclose(notes["onset_sec"], [0, 60 / bpm])


def test_abc_takes_bounded_time(monkeypatch):
    tune = "X:1\nL:1/4\nK:C\nCDEF|\n\n"
    assert "501 bar lines" in refusal((tune + "C|" * 500).encode())
    monkeypatch.setattr(scores, "MAX_ABC_SECONDS", 0.0)
    assert "takes longer" in refusal((tune * 2).encode())


HARD = {
    "comments": b"<?xml version='1.0'?>" + b"<!-- -->" * 100_000 + b"<score-partwise/>",
    "empty lines": b"\n" * 2_000_000,
    "fractions": b"**kern\n" + b"".join(b"%dc\n" % n for n in range(1, 99_999, 2)) + b"*-\n",
    "columns": b"".join(b"\t".join([b"*^"] * 2**k) + b"\n" for k in range(16)).join([b"**kern\n", b""]),
    "divisions": musicxml([attributes(n) for n in range(1, 20_000)]).encode(),
    "headers": b"X:1\n" * 30_000 + b"K:C\n",
}


@pytest.mark.alone
@pytest.mark.parametrize("name", HARD)
def test_what_is_made_to_take_long_does_not(name):
    begin = time.process_time()
    try:
        load(HARD[name])
    except MusicLoadError:
        pass
    assert time.process_time() - begin < 10


def test_a_book_of_tunes_is_read_one_after_another():
    tune = "X:{}\nM:2/4\nL:1/4\nK:C\nCD|E2|]\n\n"
    notes = load((tune.format(1) + tune.format(2)).encode())
    assert listed(notes) == [(0, 1, 60), (1, 1, 62), (2, 2, 64), (4, 1, 60), (5, 1, 62), (6, 2, 64)]


def test_the_ending_of_the_name_does_not_matter(tmp_path):
    for kind, content in SAMPLES.items():
        path = tmp_path / f"{kind}.mid"
        path.write_bytes(content)
        assert len(load(path)) == 12
    assert MUSIC_SUFFIXES == MIDI_SUFFIXES | SCORE_SUFFIXES and not MIDI_SUFFIXES & SCORE_SUFFIXES


# What is refused


def refusal(content: bytes | Path, reader=load, **more) -> str:
    "The sentence with which a file is refused."
    with pytest.raises(MusicLoadError) as caught:
        reader(content, "piece", **more)
    message = str(caught.value)
    assert message.startswith("piece: ") and "\n" not in message and len(message) < 250
    return message


BILLION = '<!DOCTYPE lolz [<!ENTITY lol "lol">' + "".join(f'<!ENTITY lol{i} "{"&lol;" * 10}">' for i in range(9)) + "]>"
EXTERNAL = '<!DOCTYPE score-partwise [<!ENTITY file SYSTEM "file:///etc/passwd">]>'
PARAMETER = '<!DOCTYPE score-partwise [<!ENTITY % far SYSTEM "http://localhost/evil.dtd"> %far;]>'


@pytest.mark.parametrize("kind", ["musicxml", "mei"])
@pytest.mark.parametrize("doctype", [BILLION, EXTERNAL, PARAMETER])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-7"])
def test_entities_are_refused(kind, doctype, encoding):
    text = SAMPLES[kind].decode().replace(DOCTYPE, "")
    content = (text[: text.index("?>") + 2] + doctype + text[text.index("?>") + 2 :]).encode(encoding)
    refusal(content)
    if encoding != "utf-7":
        assert "entities" in refusal(content)


def test_an_external_doctype_is_not_opened(tmp_path, monkeypatch):
    import socket

    monkeypatch.setattr(socket, "socket", None)
    for place in (tmp_path.as_uri() + "/missing.dtd", "http://localhost:1/evil.dtd"):
        doctype = f'<!DOCTYPE score-partwise SYSTEM "{place}">'
        assert len(load(MUSICXML.replace(DOCTYPE, doctype).encode())) == 12


def test_deep_xml_is_refused():
    deep = musicxml([attributes() + "<note>" * 200 + "</note>" * 200]).encode()
    assert "deep" in refusal(deep)
    assert "deep" in refusal(b"<score-partwise>" + b"<a>" * 300_000 + b"</a>" * 300_000 + b"</score-partwise>")


def test_a_bomb_in_an_mxl_is_refused():
    assert "unpacks to more" in refusal(mxl(MUSICXML.encode() + b" " * scores.MAX_TEXT))
    assert "unpacks to more" in refusal(mxl(MUSICXML, container=" " * (scores.MAX_TEXT + 1)))


def test_an_mxl_whose_container_points_nowhere_is_refused():
    for path in ("missing.xml", "../../etc/passwd", "/etc/passwd", "", "META-INF"):
        container = f'<container><rootfiles><rootfile full-path="{path}"/></rootfiles></container>'
        assert "names no score" in refusal(mxl(MUSICXML, container=container))
    assert "names no score" in refusal(mxl(MUSICXML, container="<container/>"))
    assert "entities" in refusal(mxl(MUSICXML, container=BILLION + "<container/>"))


def test_an_mxl_of_many_members_is_refused():
    assert "1,003 files" in refusal(mxl(MUSICXML, more=[(f"{i}.png", b"") for i in range(1001)]))


def test_an_mxl_inside_an_mxl_is_refused():
    refusal(mxl(mxl(MUSICXML)))


def test_members_of_an_mxl_are_written_nowhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert len(load(mxl(MUSICXML, name="../../out.xml"))) == 12
    assert list(tmp_path.iterdir()) == []


def test_limits():
    for kind in ("musicxml", "mei", "kern", "mxl", "abc"):
        assert "notes" in refusal(SAMPLES[kind], limits=Limits(max_notes=5))
        assert "larger than the limit" in refusal(SAMPLES[kind], limits=Limits(max_bytes=80))
        assert "seconds, longer" in refusal(SAMPLES[kind], limits=Limits(max_seconds=3))


def test_what_takes_long_is_refused_before_it_is_parsed(monkeypatch):
    assert "parts" in refusal(musicxml(*[[""]] * 1001).encode())
    monkeypatch.setattr(scores, "MAX_TAGS", 50)
    assert "tags" in refusal(SAMPLES["musicxml"]) and "tags" in refusal(SAMPLES["mei"])
    monkeypatch.setattr(scores, "MAX_ABC", 50)
    assert "for ABC" in refusal(SAMPLES["abc"])


def test_divisions_without_a_common_measure_are_refused():
    primes = [9973, 9967, 9949, 9941, 9931]
    assert "common measure" in refusal(musicxml([attributes(prime) for prime in primes]).encode())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"%PDF-1.7\n", "PDF"),
        (make_zip([("piece.mscx", b"<museScore/>"), ("META-INF/container.xml", b"<container/>")]), "MuseScore"),
        (b'<?xml version="1.0"?><museScore version="4.20">', "MuseScore"),
        (b'\\version "2.24.0"\n\\relative c\' { c d e }', "LilyPond"),
        (b"\x0fSIBELIUS\x00\x00", "Sibelius"),
        (b"ENIGMA BINARY FILE\x1a", "Finale"),
        (make_zip([("NotationMetadata.xml", b""), ("score.dat", b""), ("META-INF/container.xml", b"")]), "Finale"),
        (make_zip([("score.xml", b"<score/>")]), "Capella"),
        (b"\x18FICHIER GUITAR PRO v5.10", "Guitar Pro"),
        (make_zip([("Content/score.gpif", b"")]), "Guitar Pro"),
    ],
)
def test_other_programs_files_are_explained(content, words):
    assert format_of(content) is None
    for reader in (load, load_score):
        message = refusal(content, reader)
        assert words in message and ("MusicXML" in message or "MIDI" in message)


def test_what_is_no_music_is_refused():
    assert "not MIDI" in refusal(b"Dear diary") and "not a score" in refusal(b"Dear diary")
    assert "is empty" in refusal(b"") and "zero bytes" in refusal(bytes(100))
    for content in (
        b"<html><body/></html>",
        b"\x89PNG\r\n\x1a\n",
        b"**dynam\np\n*-\n",
        b"X:1\nT:no key\n",
        b"PK\x03\x04",
    ):
        refusal(content)
    with pytest.raises(MidiLoadError):
        load(b"MThd\0\0\0\6")


def test_files_that_cannot_be_opened(tmp_path):
    for path, words in ((tmp_path / "none.krn", "does not exist"), (tmp_path, "is a folder")):
        for reader in (load, load_score):
            with pytest.raises(MusicLoadError, match=words):
                reader(path)


def test_a_missing_package_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "music21", None)
    assert "pip install 'composer_classify[scores]'" in refusal(SAMPLES["abc"])
    assert len(load(SAMPLES["kern"])) == len(load(SAMPLES["mei"])) == len(load(SAMPLES["mxl"])) == 12


def test_reading_midi_or_musicxml_imports_nothing_heavy():
    import subprocess
    import sys

    code = "import sys; from composer_classify.scores import load; load(sys.stdin.buffer.read()); "
    code += "print({'music21', 'pandas', 'sklearn', 'partitura', 'lxml', 'matplotlib'} & set(sys.modules))"
    for kind in ("midi", "musicxml", "kern", "mei"):
        done = subprocess.run([sys.executable, "-c", code], input=SAMPLES[kind], capture_output=True, check=True)
        assert done.stdout.strip() == b"set()"


def read_or_refuse(content: bytes) -> None:
    "Read it, or refuse it with one sentence: nothing else may happen."
    try:
        notes = load(content)
    except MusicLoadError as error:
        assert "\n" not in str(error)
    else:
        assert np.isfinite(notes["onset_sec"]).all() and (notes["duration_sec"] > 0).all()


QUICK = [kind for kind in SAMPLES if kind != "abc"]  # music21 takes a while for each


@pytest.mark.parametrize("kind", ["musicxml", "mei", "kern", "mxl"])
def test_no_prefix_of_a_score_is_read(kind):
    content = SAMPLES[kind].rstrip()
    for end in range(1, len(content), 97):
        refusal(content[:end])


@thorough(400)
@given(st.sampled_from(QUICK), st.data())
def test_damaged_bytes_never_end_in_another_error(kind, data):
    content = bytearray(SAMPLES[kind])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    read_or_refuse(bytes(content))


@thorough(400)
@given(st.sampled_from(["musicxml", "mei", "kern"]), st.data())
def test_changed_values_never_end_in_another_error(kind, data):
    import re

    text = SAMPLES[kind].decode()
    numbers = [found.span() for found in re.finditer(r"(?<![A-Za-z])-?\d+", text)]
    begin, end = data.draw(st.sampled_from(numbers))
    odd = ["", "-1", "0", "1e9", "nan", "inf", "9" * 40, "9" * 5000, "½", "٣", "1.5", "-0.0", "x"]
    read_or_refuse((text[:begin] + data.draw(st.sampled_from(odd)) + text[end:]).encode())


@thorough(40)
@given(st.data())
def test_damaged_abc_never_ends_in_another_error(data):
    content = bytearray(ABC.encode())
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    read_or_refuse(bytes(content[: data.draw(st.integers(1, len(content)))]))

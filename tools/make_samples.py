"""Write the sample MIDI files of composer_classify/samples from notes in code: `python tools/make_samples.py`.

All of them are in the public domain. J. S. Bach: the Prelude in C major BWV 846, as it is taught, a chord of five notes
a bar, broken up; and the first six bars of the Invention in C major BWV 772. Mozart: the beginning of the Sonata in C
major K. 545. Beethoven: that of *Für Elise* WoO 59.
"""

from pathlib import Path

import mido

SAMPLES = Path(__file__).resolve().parent.parent / "composer_classify" / "samples"
TICKS = 480  # a quarter note

CHORDS = """
60 64 67 72 76  60 62 69 74 77  59 62 67 74 77  60 64 67 72 76  60 64 69 76 81  60 62 66 69 74  59 62 67 74 79
59 60 64 67 72  57 60 64 67 72  50 57 62 66 72  55 59 62 67 71  55 58 64 67 73  53 57 62 69 74  53 56 62 65 71
52 55 60 67 72  52 53 57 60 65  50 53 57 60 65  43 50 55 59 65  48 52 55 60 64  48 55 58 60 64  41 53 57 60 64
42 48 57 60 64  44 53 59 60 62  43 53 55 59 62  43 52 55 60 64  43 50 55 60 65  43 50 55 59 65  43 51 57 60 66
43 52 55 60 67  43 50 55 60 65  43 50 55 59 65  36 48 55 58 64
"""
ENDING = ["36 48 53 57 60 65 60 57 60 57 53 57 53 50 53 50", "36 47 67 71 74 77 74 71 74 71 67 71 62 65 64 62"]
LAST = "36 48 64 67 72"


def prelude() -> list[tuple[int, int, int]]:
    "The prelude as (onset in ticks, duration in ticks, key)."
    sixteenth, notes, bar = TICKS // 4, [], 0
    keys = [int(k) for k in CHORDS.split()]
    for chord in zip(*[iter(keys)] * 5):
        for half in (0, 8):
            bass, tenor, *upper = chord
            at = (16 * bar + half) * sixteenth
            notes += [(at, 8 * sixteenth, bass), (at + sixteenth, 7 * sixteenth, tenor)]
            notes += [(at + (2 + i) * sixteenth, sixteenth, upper[i % 3]) for i in range(6)]
        bar += 1
    for line in ENDING:
        bass, tenor, *run = [int(k) for k in line.split()]
        at = 16 * bar * sixteenth
        notes += [(at, 16 * sixteenth, bass), (at + sixteenth, 15 * sixteenth, tenor)]
        notes += [(at + (2 + i) * sixteenth, sixteenth, key) for i, key in enumerate(run)]
        bar += 1
    return notes + [(16 * bar * sixteenth, 16 * sixteenth, int(key)) for key in LAST.split()]


# Two voices; a number of sixteenths after a name, one if there is none; `r` is a rest
INVENTION = {
    "right": """r C4 D4 E4 F4 D4 E4 C4  G4:2 C5:2 B4:2 C5:2     D5 G4 A4 B4 C5 A4 B4 G4  D5:2 G5:2 F5:2 G5:2
                E5 A5 G5 F5 E5 G5 F5 A5  G5 F5 E5 D5 C5 E5 D5 F5  E5 D5 C5 B4 A4 C5 B4 D5  C5 B4 A4 G4 F#4 A4 G4 B4
                A4:2 D4:2 C5:3 D5  B4 A4 G4 F#4 E4 G4 F#4 A4    G4 B4 A4 C5 B4 D5 C5 E5  D5 B4 C5 D5 G4:4""",
    "left": """r:8 r C3 D3 E3 F3 D3 E3 C3                       G3:2 G2:2 r:4 r G3 A3 B3 C4 A3 B3 G3
               C4:2 B3:2 C4:2 D4:2 E4:2 G3:2 A3:2 B3:2         C4:2 E3:2 F#3:2 G3:2 A3:2 B3:2 C4:4
               r D3 E3 F#3 G3 E3 F#3 D3 G3:2 B2:2 C3:2 D3:2    E3 F#3 G3 E3 B3:2 C4:2 D4:2 D3:2 G3:4""",
}
SONATA = {
    "right": """C5:8 E5:4 G5:4  B4:6 C5 D5 C5:4 r:4  A5:8 G5:4 C6:4  G5:4 F5:2 E5 F5 E5:4 r:4
                A4:2 B4 C5 D5 E5 F5 G5 A5 G5 F5 E5 D5 C5 B4 A4  G4:2 A4 B4 C5 D5 E5 F5 G5 F5 E5 D5 C5 B4 A4 G4
                F4:2 G4 A4 B4 C5 D5 E5 F5 E5 D5 C5 B4 A4 G4 F4  E4:2 F4 G4 A4 B4 C5 D5 E5 D5 C5 B4 A4 G4 F4 E4""",
    "left": """C4:2 G4:2 E4:2 G4:2 C4:2 G4:2 E4:2 G4:2  D4:2 G4:2 F4:2 G4:2 C4:2 G4:2 E4:2 G4:2
               C4:2 A4:2 F4:2 A4:2 C4:2 G4:2 E4:2 G4:2  B3:2 G4:2 D4:2 G4:2 C4:2 G4:2 E4:2 G4:2
               F3:4 r:12  E3:4 r:12  D3:4 r:12  C3:4 r:12""",
}
ELISE = {
    "right": """E5 D#5  E5 D#5 E5 B4 D5 C5  A4:2 r C4 E4 A4  B4:2 r E4 G#4 B4  C5:2 r E4 E5 D#5
                E5 D#5 E5 B4 D5 C5  A4:2 r C4 E4 A4  B4:2 r E4 C5 B4  A4:4  E5 D#5
                E5 D#5 E5 B4 D5 C5  A4:2 r C4 E4 A4  B4:2 r E4 G#4 B4  C5:2 r E4 E5 D#5
                E5 D#5 E5 B4 D5 C5  A4:2 r C4 E4 A4  B4:2 r E4 C5 B4  A4:4""",
    "left": """r:2  r:6  A2 E3 A3 r:3  E2 E3 G#3 r:3  A2 E3 A3 r:3  r:6  A2 E3 A3 r:3  E2 E3 G#3 r:3  A2 E3 A3 r:3
               r:6  A2 E3 A3 r:3  E2 E3 G#3 r:3  A2 E3 A3 r:3  r:6  A2 E3 A3 r:3  E2 E3 G#3 r:3  A2 E3 A3 r""",
}
STEPS = {"C": 0, "D": 2, "D#": 3, "E": 4, "F": 5, "F#": 6, "G": 7, "G#": 8, "A": 9, "B": 11}


def voices(piece: dict[str, str]) -> list[tuple[int, int, int]]:
    "A piece written in voices as (onset in ticks, duration in ticks, key)."
    notes = []
    for voice in piece.values():
        at = 0
        for word in voice.split():
            name, _, length = word.partition(":")
            ticks = int(length or 1) * TICKS // 4
            if name != "r":
                notes.append((at, ticks, STEPS[name[:-1]] + 12 * (int(name[-1]) + 1)))
            at += ticks
    return notes


def write(
    notes: list[tuple[int, int, int]], path: Path, bpm: float, meter: tuple[int, int] = (4, 4), key: str = "C"
) -> None:
    "Write notes as a MIDI file of format 1: a track for tempo and signatures, a track for the piano."
    midi = mido.MidiFile(ticks_per_beat=TICKS)
    conductor, piano = midi.add_track(), midi.add_track()
    conductor += [
        mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(bpm)),
        mido.MetaMessage("time_signature", numerator=meter[0], denominator=meter[1]),
        mido.MetaMessage("key_signature", key=key),
    ]
    events = sorted([(on, 1, key) for on, _, key in notes] + [(on + length, 0, key) for on, length, key in notes])
    now = 0
    for tick, is_on, pitch in events:
        piano.append(mido.Message("note_on", note=pitch, velocity=80 * is_on, time=tick - now))
        now = tick
    midi.save(path)


if __name__ == "__main__":
    SAMPLES.mkdir(exist_ok=True)
    write(prelude(), SAMPLES / "bach_bwv846.mid", bpm=72)
    write(voices(INVENTION), SAMPLES / "bach_bwv772.mid", bpm=72)
    write(voices(SONATA), SAMPLES / "mozart_k545.mid", bpm=126)
    write(voices(ELISE), SAMPLES / "beethoven_woo59.mid", bpm=72, meter=(3, 8), key="Am")

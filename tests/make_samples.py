"""Write the sample MIDI files of tests/samples from notes in code: `python tests/make_samples.py`.

J. S. Bach, Prelude in C major BWV 846 (public domain), as it is taught: a chord of five notes a bar, broken up.
"""
from pathlib import Path

import mido

SAMPLES = Path(__file__).parent / "samples"
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


def write(notes: list[tuple[int, int, int]], path: Path, bpm: float) -> None:
    "Write notes as a MIDI file of format 1: a track for tempo and signatures, a track for the piano."
    midi = mido.MidiFile(ticks_per_beat=TICKS)
    conductor, piano = midi.add_track(), midi.add_track()
    conductor += [mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(bpm)), mido.MetaMessage("time_signature", numerator=4, denominator=4),
                  mido.MetaMessage("key_signature", key="C")]
    events = sorted([(on, 1, key) for on, _, key in notes] + [(on + length, 0, key) for on, length, key in notes])
    now = 0
    for tick, is_on, key in events:
        piano.append(mido.Message("note_on", note=key, velocity=80 * is_on, time=tick - now))
        now = tick
    midi.save(path)


if __name__ == "__main__":
    SAMPLES.mkdir(exist_ok=True)
    write(prelude(), SAMPLES / "bach_bwv846.mid", bpm=72)

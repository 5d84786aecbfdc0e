"""Music of a few notes that come again and again: tremolos, trills, ostinati, chords, scales. None of it is a piece."""

import numpy as np

from composer_classify.midi import NOTE_DTYPE

Rng = np.random.Generator
SCALES = [[0, 2, 4, 5, 7, 9, 11], [0, 2, 3, 5, 7, 8, 11], [0, 2, 3, 5, 7, 8, 10], [0, 2, 4, 7, 9], list(range(12))]
CHORDS = [[0, 4, 7], [0, 3, 7], [0, 3, 6, 9], [0, 4, 7, 10], [0, 3, 7, 10], [0, 4, 7, 11], [0, 4, 8]]


def tremolo(rng: Rng) -> list[int]:
    "Two keys in turn, any interval to two octaves apart."
    return [0, int(rng.integers(1, 25)) * int(rng.choice([-1, 1]))]


def trill(rng: Rng) -> list[int]:
    "A key and its neighbour; sometimes with a turn at the end."
    step = int(rng.integers(1, 3))
    return [0, step] * int(rng.integers(2, 9)) + ([-1, 0] if rng.random() < 0.5 else [])


def alberti(rng: Rng) -> list[int]:
    "Low, high, middle, high of a chord."
    low, middle, high, *_ = CHORDS[rng.integers(len(CHORDS))]
    return [low, high, middle, high]


def ostinato(rng: Rng) -> list[int]:
    "Three to eight notes of a scale in any order, to two octaves wide."
    scale = np.array(SCALES[rng.integers(len(SCALES))])
    keys = np.concatenate([scale, scale + 12])[: int(rng.integers(3, 2 * len(scale) + 1))]
    return rng.choice(keys, int(rng.integers(3, 9))).tolist()


def broken_chord(rng: Rng) -> list[int]:
    "A chord over one to three octaves, up, or up and down."
    chord = np.array(CHORDS[rng.integers(len(CHORDS))])
    up = np.concatenate([chord + 12 * octave for octave in range(int(rng.integers(1, 4)))]).tolist()
    return up + up[-2:0:-1] if rng.random() < 0.6 else up


def scale(rng: Rng) -> list[int]:
    "A scale over one or two octaves, up and down, or up again and again."
    steps = np.array(SCALES[rng.integers(len(SCALES))])
    octaves = int(rng.integers(1, 3))
    up = [*np.concatenate([steps + 12 * octave for octave in range(octaves)]).tolist(), 12 * octaves]
    return up + up[-2:0:-1] if rng.random() < 0.7 else up


def repeated_note(rng: Rng) -> list[int]:
    "One key."
    return [0]


FIGURES = (tremolo, tremolo, trill, alberti, ostinato, ostinato, broken_chord, scale, repeated_note)


def _notes(onsets: np.ndarray, pitches: np.ndarray, seconds: float) -> np.ndarray:
    notes = np.zeros(len(onsets), NOTE_DTYPE)
    notes["onset_sec"], notes["pitch"], notes["duration_sec"] = onsets, np.clip(pitches, 0, 127), seconds
    return notes


def repeat(figure: list[int], lowest: int, gap: float, end: float) -> np.ndarray:
    "A figure again and again, a note each `gap` seconds, until `end`."
    onsets = np.arange(0, end, gap)
    return _notes(onsets, lowest + np.resize(figure, len(onsets)), gap)


def _chords(rng: Rng, notes: np.ndarray) -> np.ndarray:
    "The notes as chords of one kind."
    chord = CHORDS[rng.integers(len(CHORDS))]
    return np.concatenate([_notes(notes["onset_sec"], notes["pitch"].astype(int) + step, 0.2) for step in chord])


def _second_voice(rng: Rng, notes: np.ndarray, gap: float, end: float) -> np.ndarray:
    "A slow drone, a slow figure of its own, or the figure in parallel a third, sixth or octave away."
    lowest = int(notes["pitch"].min())
    kind = rng.integers(3)
    if kind == 0:
        return repeat([0], lowest - 12, gap * int(rng.integers(4, 17)), end)
    if kind == 1:
        return repeat(FIGURES[rng.integers(len(FIGURES))](rng), lowest - 20, gap * int(rng.integers(1, 9)), end)
    return _notes(notes["onset_sec"], notes["pitch"].astype(int) - int(rng.choice([3, 4, 8, 9, 12])), gap)


def pattern(rng: Rng) -> np.ndarray:
    "Notes of 5 to 60 s: a figure again and again, 1.5 to 14 notes a second, some as chords or with a second voice."
    figure = FIGURES[rng.integers(len(FIGURES))]
    gap, end, lowest = 1 / np.exp(rng.uniform(np.log(1.5), np.log(14))), rng.uniform(5, 60), int(rng.integers(48, 73))
    notes = repeat(figure(rng), lowest, gap, end)
    if figure is repeated_note or rng.random() < 0.1:
        notes = _chords(rng, notes)
    if rng.random() < 0.3:
        notes = np.concatenate([notes, _second_voice(rng, notes, gap, end)])
    return notes[np.lexsort((notes["pitch"], notes["onset_sec"]))]


def patterns(seed: int, n: int) -> list[np.ndarray]:
    "Some patterns, always the same of one seed."
    rng = np.random.default_rng(seed)
    return [pattern(rng) for _ in range(n)]

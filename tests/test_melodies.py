"""Melodies: what is typed, what an index keeps of a piece, and whether a tune finds it."""

import re
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from composer_classify.corpus import Corpus
from composer_classify.files import ModelError, sha256
from composer_classify.index import Index, make_index, merge_indexes, verify_index
from composer_classify.melodies import (
    BLOCK,
    LEGATO,
    LONGEST,
    NEAR,
    STEPS,
    alignment_costs,
    kept_melody,
    melody_scores,
    parse_melody,
    step_codes,
    typed_bits,
    upper_voice,
)
from composer_classify.midi import NOTE_DTYPE
from composer_classify.recognition import PIECES


def note_array(onset, pitch, duration=0.25) -> np.ndarray:
    notes = np.zeros(len(onset), NOTE_DTYPE)
    notes["onset_sec"], notes["pitch"], notes["duration_sec"] = onset, pitch, duration
    return notes


def tune(seed: int, n: int = 200) -> np.ndarray:
    "A piece of one voice, which moves like a tune."
    rng = np.random.default_rng(seed)
    pitch = 72 + np.abs(np.cumsum(rng.integers(-4, 5, n)) % 24 - 12)  # never a dip
    return note_array(np.arange(n) * 0.5, pitch)


def corpus_of(pieces: list[np.ndarray]) -> Corpus:
    "As much of a corpus as an index needs."
    titles = [f"{k}" for k in range(len(pieces))]
    hashes = [sha256(notes.tobytes()) for notes in pieces]
    about = dict(composer="A", title=titles, source="", work_id=titles, status="ok", sha256=hashes, notes_hash=hashes)
    ends = np.cumsum([0, *map(len, pieces)])
    store = np.concatenate(pieces)
    return Corpus(Path("corpus"), pd.DataFrame(about), np.stack([ends[:-1], ends[1:]], axis=1), store)


TUNES = [tune(seed) for seed in range(12)]


@pytest.fixture(scope="module")
def index() -> Index:
    return make_index(corpus_of(TUNES))


@pytest.mark.parametrize(
    "text, pitches",
    [
        ("C4 D4 E4 F4 G4", [60, 62, 64, 65, 67]),
        ("c d e f g", [60, 62, 64, 65, 67]),
        ("60,62, 64 |65;67|", [60, 62, 64, 65, 67]),
        ("C#4 Db4 C♯4 D♭4 Bx3", [61, 61, 61, 61, 61]),
        ("Dbb4 D♭♭4 C##4 C♯♯4 B𝄪3 D𝄫4", [60, 60, 62, 62, 61, 60]),
        ("bb b bb4 B5 bbb5", [70, 71, 70, 83, 81]),
        ("E5:1 D#5:0.5 E:1/2 D# 60:2", [76, 75, 76, 75, 60]),
        ("B4 C D C B", [71, 72, 74, 72, 71]),
        ("C4 G C4 F C-1:1 C#-1", None),
    ],
)
def test_melodies_as_people_type_them(text, pitches):
    if pitches is None:
        with pytest.raises(ValueError, match="'C-1:1' is out of range"):
            parse_melody(text)
    else:
        assert parse_melody(text).tolist() == pitches


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("C4 D4 H4 E4 F4", "'H4' is not a note; allowed are names such as C4"),
        ("C4 D4 E4:x E4 F4", "'E4:x' is not a note"),
        ("C4 D4 E4# E4 F4", "'E4#' is not a note"),
        ("60 61 200 64 65", "'200' is out of range"),
        ("60 61 0 64 65", "'0' is out of range"),
        ("C4 D4 E4 F4", "a melody of 4 notes cannot be looked up; 5 to 200 can"),
        ("", "a melody of 0 notes"),
        ("C4 " * 201, "a melody of 201 notes"),
    ],
)
def test_what_is_no_melody_is_named_in_a_sentence(text, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)) as error:
        parse_melody(text)
    assert "\n" not in str(error.value)


@given(st.text(max_size=60))
@settings(deadline=None)
def test_any_text_is_a_melody_or_a_sentence(text):
    try:
        pitches = parse_melody(text)
    except ValueError as error:
        assert str(error)
    else:
        assert pitches.dtype == np.int64 and pitches.min() >= 1 and pitches.max() <= 127


@given(st.lists(st.integers(1, 127), min_size=5, max_size=20))
@settings(deadline=None)
def test_names_and_numbers_mean_the_same(pitches):
    names = "C C# D Eb E F F♯ G A♭ A Bb B".split()
    text = " ".join(f"{names[pitch % 12]}{pitch // 12 - 1}" for pitch in pitches)
    assert parse_melody(text).tolist() == parse_melody(" ".join(map(str, pitches))).tolist() == pitches


EVENTS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 20), st.integers(30, 90)), max_size=40)


@given(EVENTS)
@settings(deadline=None)
def test_the_upper_voice_has_no_higher_note_above_it(events):
    notes = note_array(*(np.array([each[k] / s for each in events]) for k, s in ((0, 8), (2, 1), (1, 8))))
    onset, pitch = upper_voice(notes)
    assert np.all(np.diff(onset) >= 0)
    ends = notes["onset_sec"] + notes["duration_sec"] - np.minimum(LEGATO, notes["duration_sec"] / 2)
    for second, key in zip(onset, pitch):
        begun = (notes["onset_sec"] <= second) & ((ends > second) | (notes["onset_sec"] == second))
        assert notes["pitch"][begun].max() == key
        assert not np.any((np.abs(notes["onset_sec"] - second) < NEAR) & (notes["pitch"] > key))


def test_a_held_note_hides_what_moves_below_it_and_legato_hides_nothing():
    held = note_array([0, 0, 1, 2, 3], [76, 60, 62, 64, 72], [2.95, 1, 1, 1, 1])
    assert upper_voice(held)[1].tolist() == [76, 72]
    legato = note_array([0, 1, 2], [76, 74, 72], [1.05, 1.05, 1.05])
    assert upper_voice(legato)[1].tolist() == [76, 74, 72]


def test_drums_and_the_bass_in_a_rest_are_no_tune():
    notes = note_array([0, 1, 2, 3, 4], [72, 74, 40, 76, 90])
    notes["is_drum"][4] = True
    assert upper_voice(notes)[1].tolist() == [72, 74, 76]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=300), st.integers(0, 2**32))
@settings(deadline=None)
def test_every_short_run_of_a_melody_is_kept(steps, seed):
    "However much the piece repeats itself, in this key or another one."
    pitch = 50 + np.cumsum(steps) % 12
    kept, times = kept_melody(note_array(np.arange(len(pitch)) * 0.5, pitch))
    assert len(kept) == BLOCK * len(times)
    text = kept.tobytes()
    for first in np.random.default_rng(seed).integers(0, len(pitch), 5):
        assert step_codes(pitch[first : first + LONGEST])[:-STEPS].tobytes() in text


def plain_cost(window: list[int], query: list[int]) -> float:
    "The codes that do not agree, by loops: the query is cut in two at every place, and the second part moved."
    n, best = len(query), 0.0
    for cut in range(n + 1):
        first = sum(window[2 + k] == query[k] for k in range(cut))
        for shift in range(5):
            second = sum(window[shift + k] == query[k] for k in range(cut, n))
            best = max(best, first + second - (0 if shift == 2 else 2))
    return n - best


CODE = st.integers(1, 5)


@given(st.lists(CODE, min_size=5, max_size=9), st.data())
@settings(deadline=None)
def test_alignments_cost_what_loops_say(query, data):
    width = len(query) + 4
    windows = data.draw(st.lists(st.lists(CODE, min_size=width, max_size=width), min_size=1, max_size=6))
    costs = alignment_costs(np.array(windows, np.uint8), typed_bits(np.array(query, np.uint8), np.ones(256)))
    assert costs == pytest.approx([plain_cost(window, query) for window in windows])


@given(st.lists(st.integers(40, 90), min_size=3, max_size=30), st.integers(-20, 20))
@settings(deadline=None, max_examples=20)
def test_codes_are_of_steps_and_tell_no_notes(pitches, semitones):
    codes = step_codes(np.array(pitches))
    assert np.array_equal(codes, step_codes(np.array(pitches) + semitones)) and np.all(codes[-STEPS:] == 0)
    steps = list(zip(np.diff(pitches), np.diff(pitches)[1:]))
    for (first, a), (second, b) in zip(zip(steps, codes), zip(steps[1:], codes[1:])):
        assert a == b or first != second
    span = np.arange(-24, 25)
    pairs = np.stack(np.meshgrid(span, span), -1).reshape(-1, 2)
    shared = np.bincount([step_codes(np.array([64, 64 + a, 64 + a + b]))[0] for a, b in pairs], minlength=256)
    assert shared[codes[0]] >= 2  # other steps have the same code


@given(st.integers(0, 11), st.integers(0, 180), st.integers(-12, 12), st.integers(0, 2**32), st.integers(0, 3))
@settings(deadline=None)
def test_a_melody_is_found_in_any_key_with_a_note_wrong_missing_or_extra(index, piece, first, semitones, seed, how):
    query = TUNES[piece]["pitch"][first : first + 20].astype(np.int64) + semitones
    k = np.random.default_rng(seed).integers(1, len(query) - 1)
    other = query[k] + 6
    query = [query, np.delete(query, k), np.insert(query, k, other), np.r_[query[:k], other, query[k + 1 :]]][how]
    assume(len(query) >= 19)
    found = index.find_melody(query)
    assert found[0]["title"] == f"{piece}"
    assert abs(found[0]["offset_sec"] - first / 2) < 3
    scores = [each["score"] for each in found]
    assert scores == sorted(scores, reverse=True)
    assert set(found[0]) == {*index.piece(0), "score", "offset_sec", "after"}


def test_rows_are_as_many_as_are_asked_for_and_few_notes_are_refused(index):
    query = TUNES[3]["pitch"][:12]
    assert len(index.find_melody(query, top=2)) <= 2
    for wrong in ([60, 62], [60.5] * 6, [0] * 6, [128] * 6, np.full((5, 2), 60)):
        with pytest.raises(ValueError, match="a melody"):
            index.find_melody(wrong)


def test_more_notes_than_are_looked_up_do_no_harm(index):
    assert index.find_melody(TUNES[5]["pitch"][:150])[0]["title"] == "5"


@given(st.lists(st.integers(0, 40), max_size=30), st.integers(5, 200))
def test_what_costs_more_scores_less(quarters, n_notes):
    cost = np.sort(quarters) / 4
    scores = melody_scores(cost, n_notes)
    assert scores.shape == cost.shape and np.all(np.diff(scores) <= 0)
    assert np.all((scores >= 0) & (scores <= 1))


def test_a_melody_of_many_works_is_sure_of_none():
    assert melody_scores(np.zeros(1), 12)[0] > 0.9
    assert melody_scores(np.zeros(50), 12).max() < 0.1
    assert melody_scores(np.array([5.0, 5.0]), 12)[0] < 0.05


def test_melodies_are_kept_by_save_remove_and_merge(index, tmp_path):
    index.save(tmp_path / "i")
    again = Index.load(tmp_path / "i")
    assert isinstance(again.melodies.code, np.memmap) and isinstance(again.melodies.onset, np.memmap)
    query = TUNES[3]["pitch"][40:52]
    assert again.find_melody(query) == index.find_melody(query)
    assert "3" not in [each["title"] for each in again.remove([3]).find_melody(query)]
    one, other = make_index(corpus_of(TUNES[:4])), make_index(corpus_of([tune(77), *TUNES[2:8]]))
    merged = merge_indexes(one.remove([3]), other)
    for seed in (0, 2, 3, 7, 77):
        found = merged.find_melody(tune(seed)["pitch"][40:56])
        assert found[0]["score"] > 0.5 and found[0]["offset_sec"] == pytest.approx(20, abs=3)
    held = merged.table["melody"] > 0
    assert held.tolist() == (~merged.removed).tolist()
    merged.save(tmp_path / "m")
    assert Index.load(tmp_path / "m").find_melody(query) == merged.find_melody(query)


def test_pieces_without_a_tune_are_kept_and_never_found(tmp_path):
    drums = tune(1)
    drums["is_drum"] = True
    index = make_index(corpus_of([drums, tune(2), tune(3)[:1]]))
    index.save(tmp_path / "i")
    assert [each["title"] for each in Index.load(tmp_path / "i").find_melody(tune(2)["pitch"][:9], top=9)] == ["1"]
    silent = make_index(corpus_of([drums]))
    assert silent.find_melody(tune(2)["pitch"][:9]) == []


@pytest.mark.parametrize(
    "name, array",
    [
        ("code", np.zeros(3, np.uint8)),
        ("code", np.zeros(16, np.int64)),
        ("onset", np.zeros(3, np.uint16)),
        ("onset", np.zeros((), np.uint16)),
        ("code", np.array([{}], object)),
    ],
)
def test_damaged_melodies_are_refused_in_one_sentence(index, tmp_path, name, array):
    index.save(tmp_path / "i")
    np.save(next((tmp_path / "i").glob(f"*.{name}.npy")), array)
    with pytest.raises(ModelError, match="is not an index") as error:
        Index.load(tmp_path / "i")
    assert "\n" not in str(error.value)


@given(st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_damage_inside_melodies_is_noticed_or_harmless(index, seed):
    rng, melodies = np.random.default_rng(seed), index.melodies
    pitch = rng.integers(0, 256, len(melodies.code), np.uint8)
    onset = rng.integers(0, 65536, len(melodies.onset), np.uint16)
    damaged = type(index)(index.table, index.names, index.segments, type(melodies)(melodies.name, pitch, onset))
    assert verify_index(damaged) == [melodies.name] and verify_index(index) == []
    assert len(damaged.find_melody(rng.integers(40, 80, 12))) <= 5


THEMES = {
    "Bagatelle in A minor, WoO 59": "E5 D#5 E5 D#5 E5 B4 D5 C5 A4",
    "Symphony No. 5 in C minor, Op. 67": "G4 G4 G4 Eb4 F4 F4 F4 D4 G4 G4 G4 Eb4 Ab4 Ab4 Ab4 G4 Eb5 Eb5 Eb5 C5",
    "Serenade No. 13 in G major, K. 525": "G5 D5 G5 D5 G5 D5 G5 B5 D6 C6 A5 C6 A5 C6 A5 F#5 A5 D5",
    "Piano Sonata No. 16 in C major, K. 545": "C5 E5 G5 B4 C5 D5 C5 A5 G5 C6 G5 F5 E5",
    "Herz und Mund und Tat und Leben, BWV 147": "G4 A4 B4 D5 C5 C5 E5 D5 D5 G5 F#5 G5 D5 B4 G4 A4 B4",
    "Wiegenlied, Op. 49 No. 4": "E4 E4 G4 E4 E4 G4 E4 G4 C5 B4 A4 A4 G4",
    "Symphony No. 9 in E minor, Op. 95": "F4 Ab4 Ab4 F4 Eb4 Db4 Eb4 F4 Ab4 F4 Eb4",
    "Swan Lake, Op. 20": "F#5 B4 C#5 D5 E5 F#5 D5 F#5 D5 F#5 B4 D5 B4 G4 D5 B4",
    "Gymnopédie No. 1": "F#5 A5 G5 F#5 C#5 B4 C#5 D5 A4 F#4",
    "Träumerei": "C4 F4 E4 F4 A4 C5 F5 F5 E5 D5 C5 F5",
}


@pytest.mark.parametrize("title", THEMES)
def test_famous_themes_are_found_in_the_index_that_ships(title):
    found = Index.load(PIECES).find_melody(parse_melody(THEMES[title]))
    assert title in found[0]["title"]


@pytest.mark.alone
def test_a_query_takes_a_fifth_of_a_second_at_most():
    index, took = Index.load(PIECES), []
    for seed in range(10):
        begin = time.perf_counter()
        index.find_melody(tune(seed)["pitch"][:LONGEST])
        took.append(time.perf_counter() - begin)
    assert np.median(took) < 0.2

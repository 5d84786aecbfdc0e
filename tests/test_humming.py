"""Hummed and whistled tunes: the pitch, the notes, what is no tune, and the answers by the real ways."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import audio_file, play_notes, thorough
from composer_classify.audio import BEGINNING, SAMPLE_RATE
from composer_classify.cli import main
from composer_classify.humming import (
    FRAME_SECONDS,
    LEGATO,
    SYLLABLES,
    Contour,
    pitch_contour,
    segment_notes,
    sung_readings,
)
from composer_classify.index import Index
from composer_classify.melodies import code_probabilities, step_codes, sung_bits, tuned
from composer_classify.midi import NOTE_DTYPE, load_midi
from composer_classify.recognition import PIECES, Recognizer

ELISE = np.array([76, 75, 76, 75, 76, 71, 74, 72, 69, 60, 64, 69, 71])
RATE = 44_100
SAMPLES = Path(__file__).resolve().parent.parent / "composer_classify" / "samples"


def sung(pitch: np.ndarray, overtones: int, seconds: float = 0.4, seed: int = 0) -> np.ndarray:
    "A voice, or a whistle without overtones, that is off key by 20 cents, glides, trembles and breathes."
    rng = np.random.default_rng(seed)
    n = int(seconds * RATE)
    t = np.arange(n * len(pitch)) / RATE
    keys = np.repeat(pitch + rng.normal(0, 0.2, len(pitch)), n)
    window = np.hanning(int(0.08 * RATE))
    keys = np.convolve(np.pad(keys, len(window) // 2, "edge"), window / window.sum(), "valid")[: len(t)]
    hertz = 440 * 2 ** ((keys + 0.4 * np.sin(2 * np.pi * 5.5 * t) - 69) / 12)
    phase = 2 * np.pi * np.cumsum(hertz) / RATE
    tone = sum(np.sin(k * phase) / k**1.5 for k in range(1, overtones + 1))
    syllables = 1 - 0.9 * np.exp(-((((t + seconds / 2) % seconds) - seconds / 2) ** 2) / 0.025**2)
    sound = 0.2 * tone * syllables + 0.004 * rng.normal(size=len(t))
    return np.pad(sound, RATE // 2).astype(np.float32)


VOICES = {"hummed": (-24, 12), "whistled": (9, 1)}


def titles(answer: dict) -> list[str]:
    return [each["title"] for each in answer["candidates"]]


@pytest.mark.parametrize("voice", VOICES)
def test_a_theme_is_found_by_the_command(voice, tmp_path, capsys):
    octave, overtones = VOICES[voice]
    path = tmp_path / "hum.wav"
    path.write_bytes(audio_file(sung(ELISE + octave, overtones)))
    assert main(["predict", str(path), "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert answer["piece"] is None and any("Elise" in title for title in titles(answer))


@pytest.mark.parametrize("format", ["FLAC", "MP3"])
def test_a_theme_is_found_from_python_in_a_part_of_a_recording(format):
    noise = 0.1 * np.random.default_rng(0).normal(size=5 * RATE)
    sound = np.concatenate([noise, sung(ELISE - 24, 12), noise])
    answer = Recognizer.load().predict(audio_file(sound, format=format), start=5, duration=6)
    assert any("Elise" in title for title in titles(answer.to_dict()))


def samples_of(sound: np.ndarray) -> np.ndarray:
    return sound[::2].astype(np.float32)


NO_TUNE = {
    "silence": np.zeros(10 * RATE),
    "noise": 0.1 * np.random.default_rng(0).normal(size=10 * RATE),
    "one note": 0.1 * np.sin(2 * np.pi * 220 * np.arange(10 * RATE) / RATE),
    "babble": sung(np.random.default_rng(1).uniform(45, 60, 100), 12, seconds=0.09),
    "three voices": sum(sung(ELISE - 24 + step, 12, seed=step) for step in (0, 4, 7)),
    "a piano": play_notes(load_midi(SAMPLES / "bach_bwv772.mid").between(0, 12)),
    "a moment": sung(ELISE[:2], 12, seconds=0.1)[: RATE // 2],
}


@pytest.mark.parametrize("kind", NO_TUNE)
def test_other_sounds_are_no_tune(kind):
    assert sung_readings([samples_of(NO_TUNE[kind])]) == ()


@pytest.mark.parametrize("kind, reason", [("silence", "is silent"), ("noise", "no music is heard in it")])
def test_what_is_no_music_is_a_sentence(kind, reason, tmp_path, capsys):
    path = tmp_path / "a.wav"
    path.write_bytes(audio_file(NO_TUNE[kind]))
    assert main(["predict", str(path)]) == 1
    assert reason in capsys.readouterr().err


def test_speech_is_no_music(tmp_path, capsys):
    path = tmp_path / "a.wav"
    path.write_bytes(audio_file(NO_TUNE["babble"]))
    main(["predict", str(path), "--json"])
    (answer,) = json.loads(capsys.readouterr().out)
    assert "candidates" not in answer


@pytest.mark.parametrize("middle", [48, 60, 70, 74, 90])
def test_every_pitch_is_heard(middle):
    "Also on both sides of the pitch from which on a tune is heard an octave lower."
    pitch = middle + np.array([0, 2, 4, 5, 4, 2, 0, -1])
    contour = pitch_contour(samples_of(sung(pitch, 1 if middle > 72 else 12)))
    notes = segment_notes(contour)
    assert len(notes.pitch) == len(pitch) and np.abs(tuned(notes.pitch) - pitch).max() < 0.9
    begin = 0.5 + 0.4 * np.arange(len(pitch))
    assert np.abs(notes.begin * FRAME_SECONDS - begin).max() < 0.12


def test_repeated_notes_are_counted_by_their_syllables():
    notes = segment_notes(pitch_contour(samples_of(sung(np.full(7, 55), 12))))
    assert len(notes.pitch) == 7


def test_only_the_first_minute_counts():
    sound = samples_of(sung(np.tile(ELISE - 24, 20), 12))
    assert len(sound) > BEGINNING * SAMPLE_RATE
    cut = sound[: int(BEGINNING * SAMPLE_RATE)]
    split, whole = sung_readings(np.array_split(sound, 9)), sung_readings([cut])
    assert len(whole) == 2 and all(np.array_equal(*pair) for pair in zip(split, whole))


FRAMES = st.lists(st.tuples(st.integers(400, 700), st.integers(0, 100), st.integers(-60, 0)), min_size=1, max_size=80)


@given(FRAMES, st.sampled_from([SYLLABLES, LEGATO]))
@thorough(60)
def test_notes_of_any_contour_follow_each_other(frames, dip):
    pitch, confidence, level = np.array(frames, float).T
    notes = segment_notes(Contour(pitch / 10, confidence / 100, level), dip)
    assert np.all(notes.begin < notes.after) and np.all(notes.after[:-1] <= notes.begin[1:])
    assert np.all(notes.after <= len(frames)) and np.all(np.abs(notes.pitch - 55) <= 15.1)


@given(st.lists(st.integers(40, 90), min_size=5, max_size=20))
@thorough(40)
def test_notes_in_tune_are_read_as_they_are(pitches):
    "The likeliest code at each place is that of the same notes typed."
    likely = code_probabilities(np.array(pitches) + 0.3)
    assert likely.sum(axis=1) == pytest.approx(1)
    assert likely.argmax(axis=1).tolist() == step_codes(np.array(pitches))[:-2].tolist()
    assert np.all(sung_bits(likely, np.full(256, 8.0)).max(axis=1) > 7)


def test_a_sung_tune_is_found_as_the_typed_one():
    index = Index.load(PIECES)
    typed, off = index.find_melody(ELISE), index.find_melody(ELISE + 0.4, sung=True)
    assert typed[0]["title"] == off[0]["title"]
    rough = index.find_melody(ELISE + np.random.default_rng(3).normal(0, 0.25, len(ELISE)), sung=True)
    assert any("Elise" in each["title"] for each in rough)


def test_a_played_tune_is_still_found():
    tune = np.zeros(12, NOTE_DTYPE)
    tune["pitch"] = [64, 64, 65, 67, 67, 65, 64, 62, 60, 60, 62, 64]
    tune["onset_sec"], tune["duration_sec"] = 0.45 * np.arange(12), 0.4
    answer = Recognizer.load().predict(audio_file(play_notes(tune)))
    assert any("Symphony No. 9" in title for title in titles(answer.to_dict()))

"""What onsets say, windows of them, fair batches, folds that are kept, model files that are not believed, and
`composer-classify train` as a user has it."""

import json
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from keras import layers

from builders import CONTRACT, by_hand, in_other_clothes, pieces, thorough
from composer_classify import lstm, training
from composer_classify.augment import transpose
from composer_classify.calibration import TemperatureScaling
from composer_classify.cli import main
from composer_classify.evaluation import assert_no_leak, get_splits
from composer_classify.features import onset_steps
from composer_classify.lstm import build_lstm, build_published_lstm, published_table, windows_of_files
from composer_classify.midi import load_midi
from composer_classify.probabilities import with_temperature
from composer_classify.training import (
    ABOUT,
    OutOfFold,
    TrainingBatches,
    cross_validate_network,
    fit,
    load_network,
    predict_proba_files,
    save_network,
    steps_for,
)
from composer_classify.windows import Sequences
from networks import NAMES, SHORT, build_tiny, corpus_of, melody

ROOT = Path(__file__).resolve().parent.parent
CONFIG = "config.json"


@pytest.fixture
def trainings(monkeypatch) -> list[int]:
    "How many files each network learned from that was really trained."
    learned = []

    def counting_fit(build, parts, files, *others, **settings):
        learned.append(len(files))
        return fit(build, parts, files, *others, **settings)

    monkeypatch.setattr(training, "fit", counting_fit)
    return learned


@pytest.fixture(scope="module")
def parts(small) -> Sequences:
    return Sequences(small, length=16)


# ---------------------------------------------------------------- onsets


WIDTHS = {name: flags.shape[1] for name, flags in onset_steps(by_hand((0, 60, False))).items()}


def differing(one: dict, other: dict) -> list[str]:
    "The groups of steps that are not the same."
    assert list(one) == list(other)
    return [name for name in one if not np.array_equal(one[name], other[name])]


@thorough(200)
@given(pieces())
@example(by_hand())
@example(by_hand((0, 60, False)))
@example(by_hand((0, 0, False), (0, 127, False)))
@example(by_hand(*((k, 35 + k, True) for k in range(20))))
def test_steps_of_any_piece_are_yes_or_no_and_one_row_an_onset(notes):
    said = onset_steps(notes)
    assert (
        {name: flags.shape[1] for name, flags in said.items()} == WIDTHS
        and sum(WIDTHS.values()) == 190 + 128
        and WIDTHS["keys"] == 128
    )
    assert all(flags.dtype == bool for flags in said.values())
    onsets = np.unique(notes["onset_beat"][~notes["is_drum"]])
    n_rows = 1 + int((np.diff(onsets) > 0.05).sum())
    assert {len(flags) for flags in said.values()} == {n_rows}
    for name in ("bass", "top", "low", "step", "top_length", "low_length", "place", "n_struck", "n_sounding", "spread"):
        assert (said[name].sum(axis=1) == 1).all(), name
    assert (said["struck"] <= said["sounding"]).all() and said["keys"].any(axis=1).all()


@thorough(200)
@given(pieces(), st.integers(0, 2**32 - 1))
def test_steps_see_nothing_but_notes(notes, seed):
    assert differing(onset_steps(notes), onset_steps(in_other_clothes(notes, np.random.default_rng(seed)))) == []


@thorough(200)
@given(pieces())
def test_drums_play_no_part_in_steps(notes):
    assert differing(onset_steps(notes), onset_steps(notes[~notes["is_drum"]])) == []


@pytest.mark.slow
@thorough(300)
@given(pieces(), st.integers(-127, 127))
@example(by_hand((0, 60, False), (1, 66, False)), 3)
@example(by_hand((0, 60, False), (1, 64, False), (2, 68, False)), 1)
def test_only_the_keys_of_steps_know_the_key(notes, semitones):
    moved, dropped = transpose(notes, semitones)
    assume(dropped == 0)
    assert set(differing(onset_steps(notes), onset_steps(moved))) <= {"keys"}


def test_steps_of_a_real_piece_in_another_key(prelude):
    notes = np.asarray(load_midi(prelude))
    for semitones in (-12, -7, -1, 1, 3, 12):
        assert differing(onset_steps(notes), onset_steps(transpose(notes, semitones)[0])) == ["keys"]
    assert differing(onset_steps(notes), onset_steps(notes[::2])) != []


def test_steps_of_real_pieces_see_nothing_but_notes_and_only_the_keys_know_the_key(real_files):
    rng = np.random.default_rng(0)
    for name, content in list(real_files.items())[:80]:
        notes = np.asarray(load_midi(content))
        said = onset_steps(notes)
        assert differing(said, onset_steps(in_other_clothes(notes, rng))) == [], name
        for semitones in (-5, 1, 6):
            moved, dropped = transpose(notes, semitones)
            assert dropped or set(differing(said, onset_steps(moved))) <= {"keys"}, name


def test_silence_counts_as_one_note():
    drums = by_hand(*((k, 35 + k, True) for k in range(20)))
    assert differing(onset_steps(by_hand()), onset_steps(drums)) == [] and len(onset_steps(drums)["keys"]) == 1


# ---------------------------------------------------------------- windows


def window_by_hand(notes: np.ndarray, start: int, length: int, semitones: int = 0) -> np.ndarray:
    "A window of a piece, onset by onset and key by key."
    said, rows = onset_steps(notes), []
    for k in range(start, start + length):
        at = k % len(said["keys"])
        keys = {key + semitones for key in np.flatnonzero(said["keys"][at]) if 0 <= key + semitones < 128}
        register = [any(6 * half <= key < 6 * half + 6 for key in keys) for half in range(22)]
        rows.append(np.concatenate([*(flags[at] for name, flags in said.items() if name != "keys"), register]))
    return np.array(rows, np.float32)


def starts_by_hand(notes: np.ndarray, length: int) -> list[int]:
    n = len(onset_steps(notes)["keys"])
    starts = list(range(0, n, length))
    return starts[:-1] + [max(n - length, 0)]


@thorough(40)
@given(st.lists(pieces(), min_size=1, max_size=4), st.integers(1, 40), st.integers(-140, 140))
@example([by_hand(), melody(0), by_hand((0, 60, False), (1, 64, False))], 16, 0)
@example([melody(0, n=32), melody(1, n=33)], 16, 6)
def test_windows_are_those_cut_by_hand(notes, length, semitones):
    sequences = Sequences(corpus_of(notes), length)
    starts = [starts_by_hand(part, length) for part in notes]
    assert sequences.counts.tolist() == [len(each) for each in starts] and len(sequences) == sum(sequences.counts)
    assert sequences.file.tolist() == [file for file, each in enumerate(starts) for _ in each]
    windows = sequences.batch(np.arange(len(sequences)), semitones)
    assert (
        windows.shape == (len(sequences), *sequences.shape)
        and sequences.shape == (length, 212)
        and windows.dtype == np.float32
    )
    by_literal = [
        window_by_hand(notes[file], start, length, semitones) for file, each in enumerate(starts) for start in each
    ]
    assert np.array_equal(windows, by_literal)


def test_each_window_of_a_batch_has_its_own_key_and_any_order():
    notes = [melody(seed) for seed in range(3)]
    sequences = Sequences(corpus_of(notes), 16)
    numbers, semitones = np.array([8, 0, 4, 4, 0]), np.array([5, -60, 0, 127, -6])
    starts = [(file, start) for file, part in enumerate(notes) for start in starts_by_hand(part, 16)]
    assert np.array_equal(
        sequences.batch(numbers, semitones),
        [window_by_hand(notes[starts[n][0]], starts[n][1], 16, move) for n, move in zip(numbers, semitones)],
    )


def test_a_transposed_window_is_that_of_the_transposed_piece():
    notes = melody(0)
    assert np.array_equal(
        Sequences(corpus_of([notes]), 16).batch(range(3), -20),
        Sequences(corpus_of([transpose(notes, -20)[0]]), 16).batch(range(3)),
    )


def test_chance_loses_onsets_and_moves_windows_by_half_an_octave_within_their_file():
    notes = [melody(seed, n=20) for seed in range(3)] + [melody(3, n=5)]
    sequences = Sequences(corpus_of(notes), 16)
    numbers = np.tile([0, 2, 5, 6], 100)
    windows = sequences.augmented(numbers, np.random.default_rng(1))
    assert windows.shape == (400, *sequences.shape) and windows.dtype == np.float32
    assert np.array_equal(windows, sequences.augmented(numbers, np.random.default_rng(1)))
    assert not np.array_equal(windows, sequences.augmented(numbers, np.random.default_rng(2)))
    lost, starts, moves = [], set(), set()
    for number, file in {0: 0, 2: 1, 5: 2, 6: 3}.items():
        n = len(onset_steps(notes[file])["keys"])
        moved = {move: window_by_hand(notes[file], 0, n, move) for move in range(-6, 7)}
        onset_of = {row[:190].tobytes(): k for k, row in enumerate(moved[0])}
        assert len(onset_of) == n  # no two onsets of a piece are alike
        for window in windows[numbers == number]:
            onsets = np.array([onset_of[row[:190].tobytes()] for row in window])
            steps = np.diff(onsets) % n
            assert set(steps) <= {1, 2}
            possible = [move for move, rows in moved.items() if np.array_equal(rows[onsets], window)]
            assert possible
            lost.append((steps == 2).mean())
            if n > 16:
                starts.add(onsets[0])
            if len(possible) == 1:
                moves.add(possible[0])
    assert (
        np.mean(lost) == pytest.approx(0.05, abs=0.01) and starts == set(range(6)) and moves == set(range(-6, 7))
    )  # 5: the first onset after 4 was lost


# ---------------------------------------------------------------- batches


SIZES = slice(
    sum(list(WIDTHS.values())[: list(WIDTHS).index("n_struck")]),
    sum(list(WIDTHS.values())[: list(WIDTHS).index("n_sounding")]),
)


@pytest.fixture(scope="module")
def chords() -> tuple[Sequences, np.ndarray]:
    """Eight pieces of three composers, and the composer of each; the first is of single notes, the last of chords of
    eight notes."""
    notes = [
        by_hand(*((onset, 40 + onset % 12 + 3 * k, False) for onset in range(30) for k in range(voices)))
        for voices in range(1, 9)
    ]
    composers = ["Ada", "Bob", "Bob", "Eve", "Bob", "Bob", "Ada", "Eve"]
    return Sequences(corpus_of(notes, composers), 16), np.searchsorted(["Ada", "Bob", "Eve"], composers)


def drawn(batches: TrainingBatches, labels: np.ndarray, epochs: int = 1) -> np.ndarray:
    "The files of all batches, told by the size of their chords, with the labels checked."
    files = []
    for _ in range(epochs):
        for step in range(len(batches)):
            windows, answers = batches[step]
            assert len(windows) == len(answers) == training.BATCH
            files.append(windows[:, 0, SIZES].argmax(axis=1))
            assert np.array_equal(labels[files[-1]], answers)
        batches.on_epoch_end()
    return np.concatenate(files)


def test_composers_count_the_same_and_so_do_their_files(chords):
    sequences, labels = chords
    files = drawn(TrainingBatches(sequences, np.arange(8), labels, steps=100, seed=3), labels)
    assert np.bincount(labels[files]) / len(files) == pytest.approx(np.full(3, 1 / 3), abs=0.04)
    for composer in range(3):
        own = np.flatnonzero(labels == composer)
        assert np.bincount(files[labels[files] == composer], minlength=8)[own] / (
            labels[files] == composer
        ).sum() == pytest.approx(np.full(len(own), 1 / len(own)), abs=0.06)


@thorough(20)
@given(st.sets(st.integers(0, 7), min_size=1), st.integers(0, 2**32 - 1))
def test_only_training_files_are_drawn(chords, allowed, seed):
    sequences, labels = chords
    files = drawn(TrainingBatches(sequences, np.array(sorted(allowed)), labels, steps=4, seed=seed), labels, epochs=2)
    assert set(files) <= allowed and set(labels[files]) == set(labels[sorted(allowed)])


def test_the_same_seed_draws_the_same_batches(chords):
    sequences, labels = chords
    one, same, other = (TrainingBatches(sequences, np.arange(8), labels, steps=5, seed=seed) for seed in (1, 1, 2))
    first = [one[step] for step in range(5)]
    backwards = [same[step] for step in reversed(range(5))][::-1]  # a batch does not depend on those before
    assert all(np.array_equal(a, b) for x, y in zip(first, backwards) for a, b in zip(x, y))
    one.on_epoch_end()
    different = [*first, *(one[step] for step in range(5)), *(other[step] for step in range(5))]
    assert len({windows.tobytes() for windows, _ in different}) == 15


def test_training_again_gives_the_same_network(parts):
    labels = np.repeat([0, 1], 6)
    (one, history), (same, again), (other, _) = (
        fit(build_tiny, parts, np.arange(12), labels, epochs=2, steps=3, seed=seed) for seed in (5, 5, 6)
    )
    assert history == again and len(history["loss"]) == 2
    assert all(np.array_equal(a, b) for a, b in zip(one.get_weights(), same.get_weights()))
    assert not all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights()))


@pytest.mark.slow
def test_few_batches_teach_the_same_without_compiling(parts, monkeypatch):
    learn = lambda: fit(build_tiny, parts, np.arange(12), np.repeat([0, 1], 6), epochs=2, steps=5)
    soon, soon_history = learn()
    monkeypatch.setattr(training, "is_soon_over", lambda batches: False)
    compiled, history = learn()
    assert (soon.run_eagerly, compiled.run_eagerly) == (keras.backend.backend() == "tensorflow", False)
    assert soon_history["loss"] == pytest.approx(history["loss"], rel=1e-4)
    assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(soon.get_weights(), compiled.get_weights()))


def test_a_network_learns_steps_from_leaps(parts):
    labels = np.repeat([0, 1], 6)
    model, _ = fit(build_tiny, parts, np.arange(12), labels, epochs=2, steps=100)
    assert (predict_proba_files(model, parts, np.arange(12)).argmax(axis=1) == labels).all()


def test_the_answer_of_a_file_is_the_mean_over_its_windows(small):
    shorter = Sequences(small, length=2)
    notes = keras.Input(shorter.shape)
    keras.utils.set_random_seed(0)
    model = keras.Model(notes, layers.Dense(2, activation="softmax")(layers.GlobalMaxPooling1D()(notes)))
    files = np.array([0, 3, 4, 5, 6, 7, 11])
    assert shorter.counts[files].sum() > 128
    by_literal = [
        model.predict_on_batch(shorter.batch(np.flatnonzero(shorter.file == file))).mean(axis=0) for file in files
    ]
    assert np.allclose(predict_proba_files(model, shorter, files), by_literal, atol=1e-6)


def test_batches_an_epoch_suit_the_corpus():
    assert [steps_for(range(n)) for n in (0, 12, 3263, 3264, 6400, 12800, 10**6)] == [50, 50, 50, 51, 100, 200, 200]


@thorough(20)
@given(st.floats(0.3, 3), st.integers(0, 2**32 - 1))
def test_the_temperature_is_found_again(temperature, seed):
    rng = np.random.default_rng(seed)
    honest = rng.dirichlet(np.ones(4), 3000)
    truth = (honest.cumsum(axis=1) > rng.random((3000, 1))).argmax(axis=1)
    scaling = TemperatureScaling().fit(np.log(with_temperature(honest, 1 / temperature)), truth)
    assert np.exp(scaling.coef_) == pytest.approx([temperature, 1], rel=0.25)


# ---------------------------------------------------------------- model files


@pytest.fixture(scope="module")
def trained(parts, tmp_path_factory) -> tuple[keras.Model, Path]:
    "A network that was trained for a moment, and its file."
    model, _ = fit(build_tiny, parts, np.arange(12), np.repeat([0, 1], 6), epochs=1, steps=2)
    path = tmp_path_factory.mktemp("trained") / "model.keras"
    save_network(model, path, dict(composers=NAMES, score=0.5, note="schön"))
    return model, path


def rewritten(path: Path, dest: Path, members: dict[str, bytes | None]) -> Path:
    "A copy of a model file with members replaced, or left out if None."
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(dest, "w") as new:
        for name in {*old.namelist(), *members}:
            content = members.get(name, old.read(name) if name in old.namelist() else None)
            if content is not None:
                new.writestr(name, content)
    return dest


def assert_refused(path: Path, *words: str, **expected):
    with pytest.raises(ValueError) as caught:
        load_network(path, **expected)
    sentence = str(caught.value)
    assert sentence.startswith(f"{path}: ") and "\n" not in sentence and all(word in sentence for word in words), (
        sentence
    )


def test_a_model_comes_back_from_its_file(trained, parts):
    model, path = trained
    again, about = load_network(path, parts, NAMES)
    assert about == dict(composers=NAMES, score=0.5, note="schön")
    assert np.array_equal(
        predict_proba_files(again, parts, np.arange(12)), predict_proba_files(model, parts, np.arange(12))
    )
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert load_network(str(path))[1] == about


@pytest.mark.parametrize(
    "composers",
    [["Ada"], ["Ada", "Bob", "Eve"], ["Ada", "Ada"], ["Ada", "Bob", "Ada"], [], None, "AB", {"Ada": 0, "Bob": 1}],
)
def test_composers_that_do_not_fit_the_network_are_not_written(trained, tmp_path, composers):
    with pytest.raises(ValueError, match="the network has 2 answers"):
        save_network(trained[0], tmp_path / "model.keras", dict(composers=composers))
    assert list(tmp_path.iterdir()) == []


def test_a_model_for_something_else_is_refused(trained, small):
    path = trained[1]
    assert_refused(path, "reads parts of shape (16, 212), not (17, 212)", parts=Sequences(small, length=17))
    for composers in (["Bob", "Ada"], ["Ada", "Eve"], ["Ada"], ["Ada", "Bob", "Eve"]):
        assert_refused(path, f"tells Ada, Bob apart, not {', '.join(composers)}", composers=composers)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"{",
        b"3",
        b"null",
        b"[]",
        b"{}",
        b'"composers"',
        b'{"composers": null}',
        b'{"composers": "AB"}',
        b'{"composers": ["Ada"]}',
        b'{"composers": ["Ada", "Ada"]}',
        b'{"composers": ["Ada", "Bob", "Bob"]}',
        b'{"composers": ["Ada", 2]}',
        b'{"composers": [["Ada"], ["Bob"]]}',
        b"[" * 100_000,
    ],
)
def test_a_list_of_composers_that_is_none_is_refused(trained, tmp_path, content):
    assert_refused(rewritten(trained[1], tmp_path / "model.keras", {ABOUT: content}), composers=NAMES)


def test_a_file_without_composers_is_refused(trained, tmp_path):
    assert_refused(rewritten(trained[1], tmp_path / "model.keras", {ABOUT: None}), f"holds no {ABOUT}")
    trained[0].save(tmp_path / "plain.keras")
    assert_refused(tmp_path / "plain.keras", f"holds no {ABOUT}")


@pytest.mark.parametrize("member", [CONFIG, "model.weights.h5", "metadata.json"])
def test_a_file_without_its_network_does_not_say_that_composers_are_missing(trained, tmp_path, member):
    path = rewritten(trained[1], tmp_path / "model.keras", {member: None})
    try:
        load_network(path)
    except ValueError as error:
        assert str(error).startswith(f"{path}: ") and ABOUT not in str(error)
    else:
        assert member == "metadata.json"  # Keras can do without


@pytest.mark.parametrize(
    "config",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'{"class_name": "Dense"}',
        b'{"module": "keras", "class_name": "Functional", "config": {}, "registered_name": null}',
        b'{"module": "keras.layers", "class_name": "Dense", "config": {"units": 2}, "registered_name": null}',
        b'{"module": "keras", "class_name": "Sequential", "config": {"name": "s", "layers": []}, '
        b'"registered_name": null}',
    ],
)
def test_what_is_no_network_is_refused(trained, tmp_path, config):
    assert_refused(rewritten(trained[1], tmp_path / "model.keras", {CONFIG: config}))


def test_what_is_no_file_is_refused(tmp_path):
    (tmp_path / "folder.keras").mkdir()
    (tmp_path / "empty.keras").write_bytes(b"")
    (tmp_path / "text.keras").write_bytes(b"hello")
    assert_refused(tmp_path / "none.keras", "does not exist")
    for name in ("folder", "empty", "text"):
        assert_refused(tmp_path / f"{name}.keras", "is not a Keras model")


def assert_read_or_refused(path: Path, never: str = "\n"):
    try:
        _, about = load_network(path)
    except ValueError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error) and never not in str(error)
    else:
        assert about["composers"] == NAMES


@thorough(25)
@given(st.data())
def test_half_a_file_is_refused(trained, tmp_path_factory, data):
    content = trained[1].read_bytes()
    path = tmp_path_factory.getbasetemp() / "half.keras"
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    assert_refused(path, "is not a Keras model")


@thorough(60)
@given(st.data())
def test_a_damaged_file_is_read_or_refused(trained, tmp_path_factory, data):
    "Half of the damage goes where it hurts: into the headers and the directory of the archive."
    content = bytearray(trained[1].read_bytes())
    with zipfile.ZipFile(trained[1]) as archive:
        headers = [
            member.header_offset + k for member in archive.infolist() for k in range(30 + len(member.filename))
        ] + list(range(archive.start_dir, len(content)))
    at = st.one_of(st.sampled_from(headers), st.integers(0, len(content) - 1))
    for place, value in data.draw(st.lists(st.tuples(at, st.integers(0, 255)), min_size=1, max_size=3)):
        content[place] = value
    path = tmp_path_factory.getbasetemp() / "damaged.keras"
    path.write_bytes(content)
    assert_read_or_refused(path)


@thorough(40)
@given(st.data())
@pytest.mark.parametrize("member", [CONFIG, "model.weights.h5"])
def test_a_damaged_network_is_read_or_refused(trained, tmp_path_factory, member, data):
    "The archive is sound; what lies in it is not."
    with zipfile.ZipFile(trained[1]) as archive:
        content = bytearray(archive.read(member))
    for place, value in data.draw(
        st.lists(st.tuples(st.integers(0, min(len(content), 8000) - 1), st.integers(0, 255)), min_size=1, max_size=3)
    ):
        content[place] = value
    path = tmp_path_factory.getbasetemp() / "changed.keras"
    assert_read_or_refused(rewritten(trained[1], path, {member: bytes(content)}), never=f"holds no {ABOUT}")


def test_a_file_that_unpacks_to_too_much_is_refused(trained, monkeypatch):
    with zipfile.ZipFile(trained[1]) as archive:
        size = sum(member.file_size for member in archive.infolist())
    monkeypatch.setattr(training, "LARGEST_NETWORK", size)
    load_network(trained[1])
    monkeypatch.setattr(training, "LARGEST_NETWORK", size - 1)
    assert_refused(trained[1], f"it unpacks to more than {size - 1:,} bytes")


def test_code_of_a_stranger_is_not_run(trained, tmp_path):
    ran = tmp_path / "ran"
    notes = keras.Input((16, 212))
    pooled = layers.GlobalAveragePooling1D()(
        layers.Lambda(lambda x, path=str(ran): (open(path, "w").close(), x)[1], output_shape=(16, 212))(notes)
    )
    save_network(keras.Model(notes, layers.Dense(2)(pooled)), tmp_path / "lambda.keras", dict(composers=NAMES))
    ran.unlink(missing_ok=True)
    assert_refused(tmp_path / "lambda.keras", "is not a Keras model that can be read")
    shell = {"module": "os", "class_name": "system", "config": {"command": f"touch {ran}"}, "registered_name": None}
    assert_refused(
        rewritten(trained[1], tmp_path / "shell.keras", {CONFIG: json.dumps(shell).encode()}),
        "is not a Keras model that can be read",
    )
    assert not ran.exists()


# ---------------------------------------------------------------- folds


def assert_same_run(one: OutOfFold, other: OutOfFold):
    for name in ("files", "probabilities", "truth", "works"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    assert one.histories == other.histories and one.composers == other.composers
    assert all(
        np.array_equal(a, b) for x, y in zip(one.models, other.models) for a, b in zip(x.get_weights(), y.get_weights())
    )


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_and_ends_as_if_nothing_had_been(small, parts, tmp_path, trainings):
    "And in another process the same folds have the same names."
    code = """
import os, signal, sys
sys.path.insert(0, "tests")
from networks import SHORT, build_tiny
from composer_classify.training import Corpus, Sequences, cross_validate
built = []
def build(n_composers):
    built.append(n_composers)
    if len(built) == 3:  # for the name of the folds, for the first fold, for the second
        os.killpg(0, signal.SIGKILL)  # with its workers, who would hold on to its output
    return build_tiny(n_composers)
corpus = Corpus.open(sys.argv[1])
cross_validate(corpus, Sequences(corpus, length=16), build, **SHORT, keep=sys.argv[2])
"""
    killed = subprocess.run(
        [sys.executable, "-c", code, small.path, tmp_path / "kept"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        start_new_session=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert [p.name[:6] for p in (tmp_path / "kept").iterdir()] == ["fold1-"]
    whole = cross_validate_network(small, parts, build_tiny, **SHORT)
    trainings.clear()
    assert_same_run(cross_validate_network(small, parts, build_tiny, **SHORT, keep=tmp_path / "kept"), whole)
    assert trainings == [8, 8]
    assert_same_run(cross_validate_network(small, parts, build_tiny, **SHORT, keep=tmp_path / "kept"), whole)
    assert trainings == [8, 8] and sorted(p.name[:6] for p in (tmp_path / "kept").iterdir()) == [
        "fold1-",
        "fold2-",
        "fold3-",
    ]


def build_by_peaks(n_composers: int) -> keras.Model:
    "As `build_tiny`, but for one layer."
    notes = keras.Input((16, 212), name="notes")
    return keras.Model(notes, layers.Dense(n_composers, activation="softmax")(layers.GlobalMaxPooling1D()(notes)))


def same_name(edited: type | Callable, original: type | Callable):
    "What an editor leaves behind: the old name, and something else under it."
    edited.__name__ = edited.__qualname__ = original.__name__
    return edited


class Backwards(Sequences):
    "Another preprocessing under the old name: windows run backwards."

    def batch(self, windows, semitones=0):
        return super().batch(windows, semitones)[:, ::-1]


class Trained(Exception):
    "A network would be trained now."


def refuse_to_train(*_, **__):
    raise Trained


def test_another_run_never_takes_up_kept_folds(small, tmp_path, monkeypatch):
    def trains(corpus=small, length=16, build=build_tiny, kind=Sequences, **settings) -> bool:
        "Whether a network has to be trained."
        try:
            cross_validate_network(corpus, kind(corpus, length), build, **{**SHORT, **settings}, only=1, keep=tmp_path)
        except Trained:
            return True
        return False

    def build_shorter(n_composers: int) -> keras.Model:
        notes = keras.Input((8, 212))
        return keras.Model(
            notes, layers.Dense(n_composers, activation="softmax")(layers.GlobalAveragePooling1D()(notes))
        )

    assert not trains()  # the folds are kept now
    monkeypatch.setattr(training, "fit", refuse_to_train)
    other = small.manifest.copy()
    other.attrs = {**small.manifest.attrs, "data_hash": "0" * 64}
    renamed = small.manifest.assign(composer=small.manifest["composer"].replace("Bob", "Eve"))
    renamed.attrs = small.manifest.attrs
    changes = [
        dict(seed=1),
        dict(epochs=2),
        dict(steps=2),
        dict(folds=2),
        dict(length=8, build=build_shorter),
        dict(balance=0.5),
        dict(start=build_tiny(2)),
        dict(corpus=replace(small, manifest=other)),
        dict(corpus=replace(small, manifest=renamed)),
        dict(build=same_name(build_by_peaks, build_tiny)),
        dict(kind=same_name(Backwards, Sequences)),
    ]
    assert [change for change in changes if not trains(**change)] == []
    assert not trains() and not trains(build=lambda n: build_tiny(n))  # another name for the same layers


def test_a_network_of_all_files_is_learned_again_after_an_edit(small, tmp_path, monkeypatch):
    def build_whole(n_composers: int) -> keras.Model:
        notes = keras.Input((256, 212))
        return keras.Model(
            notes, layers.Dense(n_composers, activation="softmax")(layers.GlobalAveragePooling1D()(notes))
        )

    def build_edited(n_composers: int) -> keras.Model:
        notes = keras.Input((256, 212))
        return keras.Model(notes, layers.Dense(n_composers, activation="softmax")(layers.GlobalMaxPooling1D()(notes)))

    learn = lambda build: (
        training.fit_final_network(small, build, epochs=1, steps=1, keep=tmp_path)[0].get_weights()[0].tolist()
    )
    learned = learn(build_whole)
    monkeypatch.setattr(training, "fit", refuse_to_train)
    assert learn(build_whole) == learned
    with pytest.raises(Trained):
        learn(same_name(build_edited, build_whole))


FEEDS_A_NETWORK = ["midi", "works", "corpus", "features", "windows", "evaluation", "training"]


@pytest.mark.parametrize("module", FEEDS_A_NETWORK)
def test_an_edit_of_what_feeds_a_network_changes_the_hash_of_the_code(monkeypatch, module):
    before, name = training.code_hash(), f"composer_classify.{module}"
    edited = training._SOURCES[name].replace("return ", "return not ", 1)
    assert edited != training._SOURCES[name]
    monkeypatch.setitem(training._SOURCES, name, edited)
    assert training.code_hash() != before


@pytest.mark.parametrize("module", ["app", "cli", "fingerprints", "index", "cnn"])
def test_an_edit_of_what_feeds_no_network_changes_nothing(monkeypatch, module):
    before, of_lstm = training.code_hash(), training.code_hash(build_lstm)
    monkeypatch.setitem(training._SOURCES, f"composer_classify.{module}", "print('something else')")
    training._imports.cache_clear()
    assert (training.code_hash(), training.code_hash(build_lstm)) == (before, of_lstm)
    training._imports.cache_clear()


def test_the_module_of_a_builder_counts(monkeypatch):
    before = training.code_hash(build_lstm)
    assert before != training.code_hash() == training.code_hash(Sequences)
    monkeypatch.setitem(
        training._SOURCES, "composer_classify.lstm", training._SOURCES["composer_classify.lstm"] + "\nUNITS = 97\n"
    )
    assert training.code_hash(build_lstm) != before


def test_the_same_source_collected_otherwise_never_takes_up_kept_folds(small, parts, tmp_path, monkeypatch):
    "With or without corrections, a source has the same hash, but other composers and other works."
    cross_validate_network(small, parts, build_tiny, **SHORT, only=1, keep=tmp_path)
    labels = small.manifest["composer"].to_numpy().copy()
    labels[[0, -1]] = labels[[-1, 0]]
    otherwise = small.manifest.assign(composer=labels)
    otherwise.attrs = {**small.manifest.attrs, "recipe": small.manifest.attrs["recipe"].split("/")[0] + "/as found"}
    corpus = replace(small, manifest=otherwise)
    monkeypatch.setattr(training, "fit", refuse_to_train)
    with pytest.raises(Trained):
        cross_validate_network(corpus, Sequences(corpus, 16), build_tiny, **SHORT, only=1, keep=tmp_path)


def test_a_damaged_kept_fold_is_named(small, parts, tmp_path):
    cross_validate_network(small, parts, build_tiny, **SHORT, only=1, keep=tmp_path)
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(kept.read_bytes()[:-100])
    with pytest.raises(ValueError) as caught:
        cross_validate_network(small, parts, build_tiny, **SHORT, only=1, keep=tmp_path)
    assert str(caught.value).startswith(f"{kept}: is not a Keras model") and "\n" not in str(caught.value)


class Watched(Sequences):
    "Sequences that write down which files were trained on, and which were answered."

    seen = []

    def augmented(self, windows, rng):
        self.seen.append(("trained", self.file[windows]))
        return super().augmented(windows, rng)

    def batch(self, windows, semitones=0):
        self.seen.append(("answered", self.file[windows]))
        return super().batch(windows, semitones)


def test_no_work_that_is_answered_was_trained_on():
    works = [f"{composer} {k}" for composer in NAMES for k in range(6) for _ in range(1 + k % 3)]
    corpus = corpus_of([melody(seed) for seed in range(len(works))], [work[:3] for work in works], works)
    Watched.seen.clear()
    found = cross_validate_network(corpus, Watched(corpus, 16), build_tiny, folds=3, epochs=1, steps=10)
    sides, answered = [(set(), set())], []
    for what, files in Watched.seen:
        if what == "trained" and sides[-1][1]:
            sides.append((set(), set()))
        sides[-1][what == "answered"].update(files.tolist())
    assert len(sides) == 3
    for (trained, tested), (train, test) in zip(sides, get_splits(corpus, 3)):
        assert trained <= set(train.tolist()) and tested == set(test.tolist())
        assert len(trained) > 0.8 * len(train) and not trained & tested
        assert_no_leak(works, sorted(trained), sorted(tested))
        answered += sorted(tested)
    assert found.files.tolist() == answered and sorted(answered) == list(range(len(works)))
    assert found.truth.tolist() == [NAMES.index(works[file][:3]) for file in answered] and found.works.tolist() == [
        works[file] for file in answered
    ]
    assert found.probabilities.shape == (len(works), 2) and found.probabilities.sum(axis=1) == pytest.approx(1)


def test_a_model_file_knows_nineteen_of_twenty_right_answers(small, parts):
    "Of 200 unseen files, of which the network has named the composer with growing certainty, and one in ten wrongly."
    rng = np.random.default_rng(0)
    truth, sure = rng.integers(0, 2, 200), np.linspace(0.55, 0.95, 200)
    named = np.where(np.arange(200) % 10 == 0, 1 - truth, truth)
    probabilities = np.where(named[:, None] == np.arange(2), sure[:, None], 1 - sure[:, None])
    files = np.arange(200)
    found = OutOfFold(files, probabilities, truth, files, NAMES, [build_tiny(2)], histories=[{}], seconds=[0.0])
    about = training.model_metadata(small, parts, found, {})
    logs = np.log(np.maximum(probabilities, 1e-9))
    highest = TemperatureScaling().fit(logs, truth).transform(logs).max(axis=1)
    assert (highest[named == truth] >= about["known_above"]).mean() == pytest.approx(0.95, abs=0.01)


# ---------------------------------------------------------------- the report's network


def test_the_published_network_has_the_weights_of_the_report():
    assert build_published_lstm(4).count_params() == 116_740
    assert build_published_lstm(4).output_shape == (None, 4) and build_published_lstm(7, length=5).input_shape == (
        None,
        5,
        2,
    )


@thorough(50)
@given(st.integers(1, 12), st.integers(0, 12), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_windows_of_files_are_those_of_a_loop(length, more, columns, seed):
    rng = np.random.default_rng(seed)
    table, labels = rng.random((length + more, columns), np.float32), rng.integers(0, 4, length + more)
    windows, answers = windows_of_files(table, labels, length)
    assert np.array_equal(windows, [table[k : k + length] for k in range(more + 1)]) and windows.flags.c_contiguous
    assert answers.tolist() == [labels[k + length - 1] for k in range(more + 1)]


def test_the_published_table_is_filled_clipped_and_scaled():
    corpus = corpus_of([melody(seed) for seed in range(40)])
    rng = np.random.default_rng(0)
    files = corpus.manifest["status"] == "ok"
    for column, scale in (("duration_sec", 100), ("n_notes", 1000)):
        corpus.manifest.loc[files, column] = rng.gamma(2, scale, files.sum())
    rows = corpus.files.index
    corpus.manifest.loc[rows[3], "duration_sec"], corpus.manifest.loc[rows[5], "n_notes"] = np.nan, 1e6
    table = published_table(corpus)
    assert table.shape == (40, 2) and table.dtype == np.float32
    assert table.mean(axis=0) == pytest.approx(0, abs=1e-5) and table.std(axis=0) == pytest.approx(1, abs=1e-5)
    for k, column in enumerate(("duration_sec", "n_notes")):
        values = corpus.files[column].to_numpy()
        values = np.where(np.isnan(values), np.nanmean(values), values)
        low, high = np.quantile(values, [0.25, 0.75])
        values = np.clip(values, low - 1.5 * (high - low), high + 1.5 * (high - low))
        assert np.allclose(table[:, k], (values - values.mean()) / values.std(), atol=1e-5)


def test_the_network_that_listens_reads_windows_and_answers_with_probabilities(small):
    sequences = Sequences(small)
    network = build_lstm(5)
    assert network.input_shape[1:] == sequences.shape and network.count_params() == pytest.approx(330_000, rel=0.02)
    assert network.predict_on_batch(sequences.batch([0, 1])).sum(axis=1) == pytest.approx(1)


# ---------------------------------------------------------------- training for use


def never(n_composers: int):
    raise AssertionError("nothing must be trained")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("model.txt", "a model is a .keras or a .onnx file"),
        ("model", "a model is a .keras or a .onnx file"),
        ("folder.keras", "is a folder"),
        ("folder", "is a folder"),
    ],
)
def test_what_cannot_be_written_is_said_before_training(parts, small, tmp_path, name, words):
    for folder in ("folder", "folder.keras"):
        (tmp_path / folder).mkdir()
    with pytest.raises(ValueError) as caught:
        training.train(small, parts, never, tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path / name}: ") and words in str(caught.value)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["folder", "folder.keras"]


def test_a_place_where_nothing_can_be_written_is_found_before_training(parts, small, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError):
        training.train(small, parts, never, tmp_path / "file" / "model.keras")


def test_training_that_fails_leaves_things_as_they_were(parts, small, tmp_path):
    (tmp_path / "old.keras").write_bytes(b"old")
    for name in ("old.keras", "new.keras"):
        with pytest.raises(AssertionError, match="nothing must be trained"):
            training.train(small, parts, never, tmp_path / name)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("old.keras", b"old")]


def test_a_model_is_trained_scored_and_written(small, tmp_path):
    about = lstm.train(small, tmp_path / "new" / "model.keras", epochs=1, steps=2, seed=4)
    model, read = load_network(tmp_path / "new" / "model.keras", Sequences(small), NAMES)
    assert read == json.loads(json.dumps(about))
    train, test = next(get_splits(small, 5, 4))
    assert (about["composers"], about["length"], about["n_test_files"], about["n_files"], about["data_hash"]) == (
        NAMES,
        256,
        len(test),
        12,
        small.data_hash,
    )
    assert about["parameters"] == dict(epochs=1, steps=2, seed=4) and about["weights"] == model.count_params()
    assert (
        set(about["score"]) == {"accuracy", "balanced_accuracy", "macro_f1", "top5"}
        and 0.2 <= about["temperature"] <= 5
        and 0 <= about["known_above"] <= 1
    )


def test_onnx_files_know_their_composers(small, parts, tmp_path):
    import onnx

    about = training.train(small, parts, build_tiny, tmp_path / "model.onnx", epochs=1, steps=2)
    assert about == training.train(small, parts, build_tiny, tmp_path / "model.onnx", epochs=1, steps=2)
    (written,) = onnx.load(tmp_path / "model.onnx").metadata_props
    assert (written.key, json.loads(written.value)) == ("composer_classify", json.loads(json.dumps(about)))
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]
    with pytest.raises(ValueError, match="there are 1 composers"):
        training.export_onnx(build_tiny(2), tmp_path / "other.onnx", dict(composers=["Ada"]))


ONE_BATCH = "from composer_classify import training; training.steps_for = lambda parts: 1"


def run_in_a_process(cache: Path, *arguments) -> tuple[int, str, str]:
    "`composer-classify` as a user has it, with one batch an epoch: exit status, output, and what was said beside it."
    code = f"import sys; {ONE_BATCH}; from composer_classify.cli import main; sys.exit(main())"
    env = {**os.environ, "COMPOSER_CLASSIFY_CACHE": str(cache), "TF_CPP_MIN_LOG_LEVEL": "3"}
    env["OMP_NUM_THREADS"] = "1"  # for so few files threads cost more than they save
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=600, env=env)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(params=["here", pytest.param("in a process", marks=pytest.mark.slow)])
def run(request, monkeypatch, capfd) -> Callable[..., tuple[int, str, str]]:
    "The same, and in `make test` without a new process and with a tiny network in place of the LSTM."

    def run_here(cache: Path, *arguments) -> tuple[int, str, str]:
        monkeypatch.setenv("COMPOSER_CLASSIFY_CACHE", str(cache))
        monkeypatch.setattr(training, "steps_for", lambda parts: 1)
        monkeypatch.setattr(lstm, "build_lstm", lambda n_composers: build_tiny(n_composers, 256))
        capfd.readouterr()
        return main(list(map(str, arguments))), *capfd.readouterr()

    return run_here if request.param == "here" else run_in_a_process


def test_train_writes_a_model(run, small, tmp_path):
    status, out, said = run(tmp_path / "cache", "train", small.path, "--model", "lstm", "--out", tmp_path / "m.keras")
    assert status == 0, said
    assert (
        out.startswith(f"{tmp_path / 'm.keras'}: 2 composers, trained on ")
        and "accuracy" in out
        and len(out.splitlines()) == 1
    )
    _, about = load_network(tmp_path / "m.keras", Sequences(small), NAMES)
    assert about["parameters"] == dict(epochs=20, steps=1, seed=0)


@pytest.mark.parametrize(("name", "words"), [("m.txt", "a model is a .keras or a .onnx file"), ("", "is a folder")])
def test_train_says_at_once_where_it_cannot_write(run, small, tmp_path, name, words):
    status, out, said = run(tmp_path / "cache", "train", small.path, "--model", "lstm", "--out", tmp_path / name)
    assert (status, out) == (1, "") and "Traceback" not in said
    (sentence,) = (line for line in said.splitlines() if line.startswith("composer-classify: "))
    assert sentence.startswith(f"composer-classify: {tmp_path / name}: ") and words in sentence


@pytest.mark.slow
def test_evaluate_prints_the_contract(run, small, tmp_path):
    status, out, said = run(tmp_path / "cache", "evaluate", small.path, "--model", "lstm", "--folds", 2, "--json")
    assert status == 0, said
    found = json.loads(out)
    assert list(found) == CONTRACT
    assert (found["n_files"], found["n_works"], found["confusion"]["composers"]) == (12, 12, NAMES)
    assert np.array(found["confusion"]["counts"]).sum(axis=1).tolist() == [6, 6]
    assert list(found["baselines"]) == ["always Ada", "metadata only", "note features"]

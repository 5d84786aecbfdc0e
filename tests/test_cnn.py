"The CNN: the report's network and its batches, ours and what it says, learning from others first, folds side by side."

import random
import threading
import time
from functools import partial

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from joblib import parallel_config

from builders import pieces, thorough
from composer_classify import cnn
from composer_classify.augment import transpose
from composer_classify.cnn import (
    ChunkBatches,
    build_cnn,
    build_published_cnn,
    evidence,
    evidence_of_notes,
    fit_by_epochs,
)
from composer_classify.features import onset_of_notes, onset_steps
from composer_classify.files import ModelError
from composer_classify.lstm import build_lstm
from composer_classify.midi import MusicLoadError, load_midi
from composer_classify.recognition import Recognizer
from composer_classify.training import cross_validate_network, export_onnx, fit, pretrain, pretraining_corpus, seeded
from composer_classify.windows import N_FLAGS, Chunks, Sequences, step_windows
from networks import NAMES, SHORT, build_tiny, corpus_of, melody


@pytest.fixture(scope="module")
def network() -> keras.Model:
    "Our network as it is before training, with batch statistics that are not all alike."
    keras.utils.set_random_seed(0)
    model = build_cnn(3)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights(
                [np.abs(w + np.random.default_rng(0).normal(0, 0.1, w.shape)) for w in layer.get_weights()]
            )
    return model


# ---------------------------------------------------------------- the report's network


def test_the_published_network_has_the_weights_of_the_report():
    model = build_published_cnn(4)
    assert (model.count_params(), model.input_shape, model.output_shape) == (8_866_820, (None, 128, 150, 1), (None, 4))


@thorough(30)
@given(
    st.lists(st.integers(0, 11), min_size=1, unique=True),
    st.integers(1, 8),
    st.one_of(st.none(), st.integers(0, 2**31)),
)
def test_an_epoch_shows_every_chunk_once_with_its_composer(numbers, batch_size, seed):
    corpus = corpus_of([melody(k, 90) for k in range(4)])
    chunks = Chunks(corpus, n_frames=150)
    numbers = np.array(numbers) % len(chunks)
    answers = np.eye(len(chunks))
    batches = ChunkBatches(chunks, np.unique(numbers), answers, seed, batch_size)
    for _ in range(2):
        shown = [batches[k] for k in range(len(batches))]
        order = np.concatenate([rows.argmax(axis=1) for _, rows in shown])
        assert sorted(order) == np.unique(numbers).tolist()
        assert np.array_equal(np.concatenate([rolls for rolls, _ in shown]), chunks.batch(order))
        assert seed is not None or order.tolist() == np.unique(numbers).tolist()
        batches.on_epoch_end()


def test_each_epoch_has_another_order_and_the_same_seed_the_same():
    chunks = Chunks(corpus_of([melody(k, 300) for k in range(6)]))
    one, same = (ChunkBatches(chunks, np.arange(len(chunks)), np.eye(len(chunks)), seed=3) for _ in range(2))
    first = one.order.tolist()
    assert first == same.order.tolist() and len(first) > 20
    one.on_epoch_end()
    assert one.order.tolist() != first


def build_with_chance(n_composers: int) -> keras.Model:
    "In place of the report's network: its loss and optimizer, and dropout, on fewer weights."
    rolls = keras.Input((128, 150, 1))
    pooled = keras.layers.Dropout(0.5)(keras.layers.Flatten()(keras.layers.AveragePooling2D((8, 25))(rolls)))
    model = keras.Model(rolls, keras.layers.Dense(n_composers, activation="softmax")(pooled))
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    return model


@pytest.fixture
def training() -> tuple:
    "A function that trains the same network on the same chunks, and the chunks to validate on."
    chunks = Chunks(corpus_of([melody(k, 300) for k in range(6)]))
    answers = np.eye(2, dtype=np.float32)[chunks.file % 2]
    batches = lambda numbers, **how: ChunkBatches(chunks, numbers, answers, batch_size=4, **how)
    learned, watched = np.arange(0, len(chunks), 2), np.arange(1, len(chunks), 2)
    return lambda epochs, kept=None: fit_by_epochs(
        build_with_chance, NAMES, batches(learned, seed=0), epochs, batches(watched), kept
    )


def test_a_training_that_was_interrupted_ends_as_one_that_was_not(training, tmp_path):
    "Order of chunks, dropout and the optimizer's moments are those of the third epoch, not of the first."
    whole, about = training(3)
    training(2, tmp_path / "so_far.keras")
    gone_on, about_too = training(3, tmp_path / "so_far.keras")
    assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(whole.get_weights(), gone_on.get_weights()))
    assert set(about["history"]) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    for name, values in about["history"].items():
        assert len(values) == 3 and about_too["history"][name] == pytest.approx(values, abs=1e-5)


def test_a_training_in_other_epochs_is_another(training):
    "So that the test above can fail: each epoch has an order and a dropout of its own."
    (once, _), (twice, _) = training(1), training(2)
    assert not any(np.allclose(a, b, atol=1e-6) for a, b in zip(once.get_weights(), twice.get_weights()))


def test_a_training_that_is_finished_is_not_trained_again(training, tmp_path):
    kept = tmp_path / "so_far.keras"
    _, about = training(2, kept)
    written = kept.read_bytes()
    assert training(2, kept)[1] == about and kept.read_bytes() == written


# ---------------------------------------------------------------- windows of a piece that lies in no corpus


@thorough(40)
@given(pieces(), st.integers(1, 40))
def test_windows_of_a_piece_are_those_of_the_corpus(notes, length):
    notes = notes[~notes["is_drum"]]
    sequences = Sequences(corpus_of([notes]), length)
    windows, start = step_windows(notes, length)
    assert np.array_equal(windows, sequences.batch(np.arange(len(sequences))))
    n = len(onset_steps(notes)["keys"])
    assert (
        start[0] == 0
        and (start[-1] + length == n or (n < length and len(start) == 1))
        and (np.diff(start) <= length).all()
    )


def test_notes_struck_together_have_one_onset(prelude):
    notes = load_midi(prelude)
    onset = onset_of_notes(notes)
    assert onset[0] == 0 and set(np.diff(onset)) == {0, 1} and onset[-1] + 1 == len(onset_steps(notes)["keys"])
    assert all(np.ptp(notes["onset_beat"][onset == k]) < 0.05 for k in range(0, onset[-1], 7))


# ---------------------------------------------------------------- our network


def test_our_network_is_small_and_answers_with_probabilities(network):
    assert network.count_params() < 1_000_000 and network.input_shape == (None, 256, N_FLAGS)
    said = network.predict_on_batch((np.random.default_rng(0).random((3, 256, N_FLAGS)) < 0.1).astype(np.float32))
    assert said.shape == (3, 3) and said.sum(axis=1) == pytest.approx(1) and np.ptp(said, axis=0).max() > 1e-4


@thorough(10)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.floats(0.01, 0.5))
def test_evidence_adds_up_to_the_answer(network, seed, n, density):
    windows = (np.random.default_rng(seed).random((n, 256, N_FLAGS)) < density).astype(np.float32)
    said = evidence(network, windows)
    assert said.shape == (n, 64, 3)
    scores = said.sum(axis=1) + network.get_layer("composer").get_weights()[1]
    whole = np.exp(scores - scores.max(axis=1, keepdims=True))
    assert whole / whole.sum(axis=1, keepdims=True) == pytest.approx(network.predict_on_batch(windows), abs=1e-4)


def test_evidence_of_notes_is_that_of_their_onsets(network, prelude):
    notes = load_midi(prelude)
    said, onset = evidence_of_notes(network, notes), onset_of_notes(notes)
    assert said.shape == (len(notes), 3) and np.abs(said.sum(axis=1)).max() < 1e-4
    windows, start = step_windows(notes)
    assert len(start) > 2 and start[-1] < 256 * (len(start) - 1)  # the last window reaches back
    for k in (0, 100, 300, len(notes) - 1):
        window = max(w for w, first in enumerate(start) if first <= onset[k])
        cell = evidence(network, windows[window : window + 1])[0, (onset[k] - start[window]) // 4]
        assert said[k] == pytest.approx(cell - cell.mean(), abs=1e-5)


def test_another_key_changes_the_register_and_little_else(prelude):
    keys = slice(N_FLAGS - 22, N_FLAGS)
    windows, moved = (step_windows(notes)[0] for notes in (load_midi(prelude), transpose(load_midi(prelude), 4)[0]))
    differ = (windows != moved).any(axis=(0, 1))
    assert differ[keys].any() and not np.delete(differ, np.arange(N_FLAGS)[keys]).any()


# ---------------------------------------------------------------- learning from others first


def everyone():
    "Six composers; an arrangement of a work of Ada's lies under Cid, and Fay is too small."
    composers = ["Ada"] * 6 + ["Bob"] * 6 + ["Cid"] * 6 + ["Dan"] * 5 + ["Eve"] * 5 + ["Fay"] * 2
    works = [f"{c} {k}" for k, c in enumerate(composers)]
    works[12] = works[0]
    return corpus_of([melody(k) for k in range(len(works))], composers, works)


def test_others_share_no_composer_and_no_work_with_the_tested():
    corpus = everyone()
    tested = corpus.select(NAMES)
    rest = pretraining_corpus(corpus, tested, at_least=5)
    assert rest.composers == ["Cid", "Dan", "Eve"] and len(rest.files) == 15
    assert not set(rest.files["work_id"]) & set(tested.files["work_id"])
    assert rest.data_hash == corpus.data_hash
    with pytest.raises(ValueError, match="holds 0 other composers with 6 works"):
        pretraining_corpus(corpus, tested, at_least=6)
    with pytest.raises(ValueError, match="holds 1 other composers"):
        pretraining_corpus(corpus, corpus.select(["Ada", "Bob", "Cid", "Dan"]), at_least=5)


def test_a_start_gives_all_but_its_answers(small):
    corpus, parts = everyone().select(["Cid", "Dan", "Eve"]), Sequences(small, 256)
    build = partial(build_cnn, width=16)
    begun, _ = fit(
        build,
        Sequences(corpus),
        np.arange(len(corpus.files)),
        np.searchsorted(corpus.composers, corpus.files["composer"]),
        epochs=1,
        steps=1,
    )
    labels = np.repeat([0, 1], 6)
    model, _ = fit(
        build, parts, np.arange(12), labels, epochs=1, steps=1, start=begun, rate=1e-9
    )  # so slowly that nothing moves
    assert model.output_shape == (None, 2)
    moved = [
        np.abs(mine - theirs).max()
        for mine, theirs in zip(model.trainable_weights[:-2], begun.trainable_weights[:-2], strict=True)
    ]
    assert max(moved) < 1e-6
    with pytest.raises(ValueError):
        fit(build_tiny, Sequences(small, 16), np.arange(12), labels, epochs=1, steps=1, start=begun)


def test_what_is_learned_from_others_is_kept_under_all_that_made_it(tmp_path):
    corpus = everyone()
    tested = corpus.select(NAMES)

    def build(n_composers, width=4):
        steps = keras.Input((256, N_FLAGS))
        return keras.Model(
            steps,
            keras.layers.Dense(n_composers, activation="softmax")(
                keras.layers.Dense(width)(keras.layers.GlobalAveragePooling1D()(steps))
            ),
        )

    learn = lambda build=build, epochs=1, at_least=5: pretrain(
        corpus, tested, build, at_least, epochs=epochs, steps=1, keep=tmp_path
    )
    model, about = learn()
    assert about["composers"] == ["Cid", "Dan", "Eve"] and about["files"] == 15 and len(about["history"]["loss"]) == 1
    again, same = learn()
    assert (
        same == about
        and all(np.array_equal(a, b) for a, b in zip(model.get_weights(), again.get_weights()))
        and len(list(tmp_path.iterdir())) == 1
    )
    for n, other in enumerate(
        (dict(build=partial(build, width=5)), dict(build=partial(build, width=6)), dict(epochs=2), dict(at_least=4))
    ):
        learn(**other)
        assert len(list(tmp_path.iterdir())) == n + 2 - (n > 2), "Fay has too few works either way"
    assert [f.name for f in tmp_path.iterdir() if not f.name.startswith("all-")] == []


# ---------------------------------------------------------------- chance


@pytest.mark.sampled
@pytest.mark.parametrize("build", [build_cnn, build_published_cnn, build_lstm, build_tiny])
def test_chance_depends_on_the_seed_and_on_nothing_else(build):
    random.seed(1)
    one = seeded(build(3), 7)
    random.seed(2)
    keras.utils.set_random_seed(5)
    same, other = seeded(build(3), 7), seeded(build(3), 8)
    weights = lambda model: [part for part in model.get_weights() if part.dtype == np.float32 and part.ndim > 1]
    assert one.count_params() == build(3).count_params() and len(weights(one))
    assert all(np.array_equal(a, b) for a, b in zip(one.get_weights(), same.get_weights()))
    assert not any(np.array_equal(a, b) for a, b in zip(weights(one), weights(other)))
    shown = np.ones((2, *one.input_shape[1:]), np.float32)
    heard = [np.asarray(model(shown, training=True)) for model in (one, same)]
    assert np.array_equal(*heard)
    kernels = [part.ravel()[:4].tolist() for part in weights(one)]
    assert len({tuple(kernel) for kernel in kernels}) == len(kernels), "each layer has a seed of its own"


def test_a_training_comes_out_the_same_beside_a_chattering_thread(small):
    "On a cluster a worker talks to its scheduler meanwhile, and both draw from Python's one generator."
    parts, labels, over = Sequences(small, 16), np.repeat([0, 1], 6), threading.Event()

    def chatter():
        while not over.is_set():
            random.random()
            time.sleep(1e-4)

    train = lambda: fit(build_tiny, parts, np.arange(12), labels, epochs=2, steps=8)[0].get_weights()
    alone = train()
    thread = threading.Thread(target=chatter, daemon=True)
    thread.start()
    beside = train()
    over.set()
    thread.join()
    assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(alone, beside))


def test_a_small_rate_learns_little(small):
    parts, labels = Sequences(small, 16), np.repeat([0, 1], 6)
    moved = {}
    for rate in (1e-6, 1e-2):
        model, _ = fit(build_tiny, parts, np.arange(12), labels, epochs=1, steps=5, rate=rate, weight_decay=0)
        moved[rate] = np.abs(model.get_weights()[0] - seeded(build_tiny(2), 0).get_weights()[0]).max()
    assert moved[1e-6] < 1e-4 < moved[1e-2]


# ---------------------------------------------------------------- folds side by side


@pytest.mark.slow
def test_folds_side_by_side_give_what_they_give_one_after_another(small, tmp_path):
    parts = Sequences(small, length=16)
    alone = cross_validate_network(small, parts, build_tiny, **SHORT)
    with parallel_config(n_jobs=2):
        together = cross_validate_network(small, parts, build_tiny, keep=tmp_path, **SHORT)
    assert together.files.tolist() == alone.files.tolist()
    assert together.probabilities == pytest.approx(alone.probabilities, abs=1e-4)
    assert len(list(tmp_path.iterdir())) == 3
    again = cross_validate_network(
        small, parts, build_tiny, keep=tmp_path, **SHORT
    )  # one after another takes up what was trained side by side
    assert again.probabilities.tolist() == together.probabilities.tolist()


# ---------------------------------------------------------------- from a corpus to an answer


@pytest.fixture(scope="module")
def recognizer(network, tmp_path_factory) -> Recognizer:
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    export_onnx(network, path, dict(composers=["Ada", "Bob", "Cid"], length=256, temperature=1.0, known_above=0.0))
    return Recognizer.load(path)


def test_a_recogniser_says_what_the_network_says(recognizer, network, prelude):
    answer = recognizer.predict(prelude, top=3)
    expected = network.predict_on_batch(step_windows(load_midi(prelude))[0]).mean(axis=0)
    assert {r["composer"]: r["probability"] for r in answer.style["ranking"]} == pytest.approx(
        dict(zip(["Ada", "Bob", "Cid"], expected)), abs=1e-3
    )


@pytest.mark.parametrize(("start", "duration"), [(0, None), (7.5, None), (3, 10), (0, 2)])
def test_the_timeline_covers_what_was_heard_without_a_gap(recognizer, prelude, start, duration):
    answer = recognizer.predict(prelude, start, duration)
    heard = load_midi(prelude).between(start, duration)
    begins, ends = ([passage[key] for passage in answer.timeline] for key in ("start_sec", "end_sec"))
    assert begins[1:] == ends[:-1] and begins == sorted(begins) and all(b < e for b, e in zip(begins, ends))
    assert (begins[0], ends[-1]) == pytest.approx((start, start + heard.duration), abs=2e-3)


def test_what_train_writes_the_recogniser_reads(small, prelude, tmp_path):
    about = cnn.train(small, tmp_path / "mine.onnx", epochs=1, steps=1)
    recognizer = Recognizer.load(tmp_path / "mine.onnx")
    assert recognizer.composers == about["composers"] == NAMES and recognizer.about["length"] == 256
    assert {r["composer"] for r in recognizer.predict(prelude).style["ranking"]} == set(NAMES)


@pytest.mark.slow
def test_a_model_of_another_kind_is_refused(network, tmp_path):
    path = tmp_path / "model.onnx"
    for about in (
        dict(composers=["Ada", "Bob", "Cid"], length=128),
        dict(composers=["Ada", "Bob", "Cid"], n_frames=150, fs=10),
    ):
        export_onnx(network, path, about)
        with pytest.raises(ModelError, match="model.onnx: "):
            Recognizer.load(path)


def test_drums_alone_are_nothing_to_listen_to(recognizer, prelude):
    drums = load_midi(prelude).copy()
    drums["is_drum"] = True
    with pytest.raises(MusicLoadError, match="holds nothing with a pitch"):
        recognizer.predict_notes(drums, "drums.mid")

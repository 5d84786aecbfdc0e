"""The shipped model: the same piece otherwise, what a model file may be, how sure it is, and the honest figures on the
real collection."""

import io
import json
import os
import pickle
import signal
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import mido
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score

from builders import thorough, write_tunes
from composer_classify import best, processes
from composer_classify.augment import random_crop, simulate_performance, simulate_sequencing
from composer_classify.best import cross_val_scores_by_view, fit_scorer
from composer_classify.calibration import TemperatureScaling, reliability
from composer_classify.collection import collect
from composer_classify.evaluation import get_splits, scores
from composer_classify.features import corpus_features, extract_features, ngram_counts, note_features, piece_features
from composer_classify.files import ModelError, checksum
from composer_classify.midi import NOTE_DTYPE, load_midi
from composer_classify.probabilities import softmax, temperature_at
from composer_classify.processes import FeatureError, map_pieces
from composer_classify.recognition import MODELS, Recognizer, predict_files
from composer_classify.shipped_model import SHORT, WINDOWS, load_model, save_model

NAMES = ["Ada", "Bob"]

SAMPLES = Path(__file__).resolve().parent.parent / "composer_classify" / "samples"


@st.composite
def any_notes(draw) -> np.ndarray:
    "Up to thirty notes in order, some of them drums, some at the same time."
    n = draw(st.integers(0, 30))
    notes = np.zeros(n, NOTE_DTYPE)
    steps = np.array(draw(st.lists(st.sampled_from([0, 0, 0.25, 0.5, 1, 7]), min_size=n, max_size=n)), float)
    notes["onset_beat"], notes["duration_beat"] = np.cumsum(steps), draw(st.sampled_from([0, 0.25, 1, 50]))
    notes["onset_sec"], notes["duration_sec"] = notes["onset_beat"] * 0.6, notes["duration_beat"] * 0.6
    notes["pitch"] = draw(st.lists(st.integers(0, 127), min_size=n, max_size=n))
    notes["is_drum"] = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    return notes


def is_mapped(values: np.ndarray | None) -> bool:
    "Whether an array is part of a file that is mapped into memory."
    return isinstance(values, np.memmap) or (isinstance(values, np.ndarray) and is_mapped(values.base))


def end_process(pieces: list[np.ndarray]) -> None:
    "As a process that is killed."
    os.kill(os.getpid(), signal.SIGKILL)


# ---------------------------------------------------------------- the same piece, otherwise


@thorough(60)
@given(any_notes(), st.integers(0, 2**32 - 1))
def test_whatever_is_played_can_be_described(notes, seed):
    for view in (
        simulate_sequencing,
        simulate_performance,
        lambda n, r: simulate_performance(n, r, True),
        lambda n, r: simulate_performance(n, r, False),
        random_crop,
        best.performed_crop,
    ):
        other = view(notes, np.random.default_rng(seed))
        assert other.dtype == notes.dtype and len(other) <= len(notes)
        for field in ("onset_sec", "onset_beat", "duration_sec", "duration_beat"):
            assert np.isfinite(other[field]).all() and (other[field] >= 0).all()
        assert (np.diff(other["onset_beat"]) >= 0).all()
        features, ngrams = extract_features(other)
        assert np.isfinite(features).all() and ngrams.min() >= 0


@thorough(30)
@given(any_notes())
def test_one_reading_gives_what_two_give(notes):
    features, ngrams = extract_features(notes)
    assert (ngrams == ngram_counts(notes)).all() and (
        features == np.concatenate(list(note_features(notes).values())).astype(np.float32)
    ).all()


@pytest.mark.parametrize("sample", ["bach_bwv772.mid", "bach_bwv846.mid"])
def test_who_typed_the_file_plays_no_part(sample, tmp_path):
    "A real file with other ticks, tempo, velocities, programs and tracks, written by mido, gets the same answer."
    midi = mido.MidiFile(SAMPLES / sample)
    other, rng = mido.MidiFile(ticks_per_beat=midi.ticks_per_beat * 2), np.random.default_rng(0)
    for number, track in enumerate(midi.tracks):
        copy = mido.MidiTrack([mido.Message("program_change", program=int(rng.integers(128)), channel=number)])
        for message in track:
            message = message.copy(time=message.time * 2)
            if message.type == "set_tempo":
                message.tempo = message.tempo * 3 // 2
            if message.type in ("note_on", "note_off"):
                message.channel = number
                if message.type == "note_on" and message.velocity:
                    message.velocity = int(rng.integers(1, 128))
            if message.type != "program_change":
                copy.append(message)
        other.tracks.append(copy)
    other.save(tmp_path / "other.mid")
    recognizer = Recognizer.load()
    before, after = recognizer.predict(SAMPLES / sample), recognizer.predict(tmp_path / "other.mid")
    assert [r["composer"] for r in before.style["ranking"]] == [r["composer"] for r in after.style["ranking"]]
    assert [r["probability"] for r in before.style["ranking"]] == pytest.approx(
        [r["probability"] for r in after.style["ranking"]], abs=2e-3
    )


@pytest.mark.parametrize("seed", range(5))
def test_an_excerpt_holds_no_ghosts(seed):
    "Notes end to end, and an excerpt that begins and ends between two of them, but for the last digits of its numbers."
    notes = np.zeros(60, NOTE_DTYPE)
    notes["onset_sec"], notes["duration_sec"], notes["onset_beat"], notes["duration_beat"] = (
        np.arange(60) / 10,
        0.1,
        np.arange(60),
        1,
    )

    class Edge:
        "Chance that always falls on an edge."

        def uniform(self, low, high):
            return (10 + seed) / 10 + 1e-9

    part = random_crop(notes, Edge(), 2.0 - 2e-9)
    assert part["duration_sec"].min() > 1e-4 and len(part) == 20


def test_a_performance_is_out_of_time_and_an_excerpt_is_short(prelude):
    notes, rng = load_midi(prelude), np.random.default_rng(0)
    played = simulate_performance(notes, rng, beats=True)
    moved = np.sort(played["onset_sec"]) - np.sort(notes["onset_sec"])
    assert 0.01 < moved.std() < 0.06 and played["duration_sec"].mean() > notes["duration_sec"].mean()
    without = simulate_performance(notes, rng, beats=False)
    assert without["onset_beat"] == pytest.approx(2 * without["onset_sec"], abs=0.01)  # a tick
    assert piece_features([notes, simulate_sequencing(notes, rng), played, without]).on_grid == pytest.approx(
        [1, 1, 0.2, 0.2], abs=0.15
    )  # so one can tell
    piece = random_crop(notes, np.random.default_rng(3), 10)
    assert np.ptp(piece["onset_sec"]) <= 10 and len(piece) < len(notes)


def test_chance_depends_on_the_piece_only(small):
    one, other = (
        corpus_features(small, simulate_performance),
        corpus_features(small.select(["Bob"]), simulate_performance),
    )
    bob = np.flatnonzero(small.files["composer"] == "Bob")
    assert (one.features[bob] == other.features).all()
    assert (corpus_features(small, simulate_performance, seed=1).features != one.features).any()


# ---------------------------------------------------------------- learning and calibration


def test_nothing_of_a_tested_work_is_learned(small):
    "With labels and notes of the test side spoiled in all that is taught, the answers to that side stay what they are."
    taught = [corpus_features(small, view) for view in best.TRAINING_VIEWS.values()]
    labels, splits = np.searchsorted(small.composers, small.files["composer"]), list(get_splits(small, 3))
    answers = cross_val_scores_by_view(taught, dict(typed=taught[0]), labels, splits)["typed"]
    train, test = splits[0]
    spoiled, rng = labels.copy(), np.random.default_rng(0)
    spoiled[test] = 0
    strange = [best.PieceFeatures(pieces.features.copy(), pieces.ngrams.copy(), pieces.on_grid) for pieces in taught]
    for pieces in strange:
        pieces.features[test] = rng.random(pieces.features[test].shape)
        pieces.ngrams.data[np.isin(np.repeat(np.arange(len(labels)), np.diff(pieces.ngrams.indptr)), test)] = 1
    assert cross_val_scores_by_view(strange, dict(typed=taught[0]), spoiled, splits[:1])["typed"][
        test
    ] == pytest.approx(answers[test], abs=1e-6)


def test_calibration_finds_the_temperature_that_was_used():
    rng = np.random.default_rng(0)
    scores, n_onsets = rng.normal(size=(6000, 4)), 2 ** rng.integers(3, 11, 6000)
    used = softmax(scores, temperature_at((np.log(0.4), -0.2), n_onsets)[:, None])
    truth = (used.cumsum(axis=1) > rng.random((6000, 1))).argmax(axis=1)  # as often right as it says
    scaling = TemperatureScaling().fit(scores, truth, n_onsets)
    assert scaling.coef_ == pytest.approx((np.log(0.4), -0.2), abs=0.08)
    assert reliability(truth, scaling.transform(scores, n_onsets))[1] < 0.02
    assert temperature_at((0.0, -0.2), 2048) < temperature_at((0.0, -0.2), 32)


@pytest.mark.parametrize("start", [0, 1, 3.3, 5.37, 7.77, 10])
@pytest.mark.parametrize("sample", ["bach_bwv772.mid", "bach_bwv846.mid"])
def test_a_typed_piece_is_typed_wherever_one_begins_to_listen(sample, start):
    from composer_classify.recognition import listen

    assert piece_features([listen(SAMPLES / sample, sample, start, 10)]).on_grid[0] > 0.8


def test_onsets_are_counted(prelude):
    notes = load_midi(prelude)
    assert piece_features([notes]).n_onsets.tolist() == [len(np.unique(np.round(notes["onset_beat"], 3)))]


@pytest.fixture(scope="module")
def folds(small) -> best.CrossValidation:
    "The small corpus in folds of whole works."
    return best.cross_validate(small)


@pytest.fixture(scope="module")
def doubtful_folds(tmp_path_factory) -> best.CrossValidation:
    "A corpus of two composers who are hard to tell apart, in folds of whole works."
    folder = tmp_path_factory.mktemp("doubtful")
    return best.cross_validate(collect(write_tunes(folder / "tunes", Ada=12, Eve=12), dest=folder / "corpus", n_jobs=1))


def test_answers_are_calibrated_by_other_folds(doubtful_folds):
    "A fold's temperature is fitted on all views of the files that it was trained on, and on no others."
    cv, views = doubtful_folds, ("sequenced", "performed", "crop")
    each = lambda files, table: np.concatenate([table[view][files] for view in views])
    n_onsets = {view: cv.pieces[view].n_onsets for view in views}
    fitted = lambda files: TemperatureScaling().fit(
        each(files, cv.scores), np.tile(cv.truth[files], 3), each(files, n_onsets)
    )
    for train, test in cv.splits:
        for view in views:
            answers = fitted(train).transform(cv.scores[view][test], n_onsets[view][test])
            assert cv.probabilities[view][test] == pytest.approx(answers, abs=1e-6)
            on_itself = fitted(test).transform(cv.scores[view][test], n_onsets[view][test])
            assert np.abs(answers - on_itself).max() > 1e-4  # so that the difference would show
    assert cv.calibration == pytest.approx(fitted(np.arange(len(cv.truth))).coef_)


def test_of_several_collections_each_is_left_out_for_the_calibration(small, monkeypatch):
    "Tested are works that no other collection holds, by composers that another one has; the rest has no score."
    monkeypatch.setattr(best, "_COMPOSERS", 2)
    manifest = small.manifest.sort_values(["composer", "path"])
    manifest = manifest.assign(collection=np.resize(["one", "two"], len(manifest))).sort_index()
    shared = manifest.index[manifest["composer"] == "Ada"][:2]  # of both collections
    manifest.loc[shared, "work_id"] = manifest.loc[shared[0], "work_id"]
    corpus = replace(small, manifest=manifest)
    cv, collection = best.cross_validate(corpus, folds=2), corpus.files["collection"].to_numpy()
    splits = best._collection_splits(corpus)
    for train, test in splits:
        assert set(collection[train]) | set(collection[test]) == {"one", "two"} != set(collection[train])
        assert not set(cv.works[train]) & set(cv.works[test])
    tested = np.concatenate([test for _, test in splits])
    assert sorted([*tested, *np.flatnonzero(corpus.files.index.isin(shared))]) == list(range(len(cv.truth)))
    assert np.isfinite(cv.off_collection["crop"]).all(axis=1).nonzero()[0].tolist() == sorted(tested)
    views = ("sequenced", "performed", "crop")
    scored, onsets = (
        np.concatenate([each(view)[np.sort(tested)] for view in views])
        for each in (cv.off_collection.get, lambda view: cv.pieces[view].n_onsets)
    )
    expected = TemperatureScaling().fit(scored, np.tile(cv.truth[np.sort(tested)], 3), onsets)
    assert cv.calibration == pytest.approx(expected.coef_)


def test_one_collection_is_calibrated_in_folds(folds):
    assert folds.off_collection is None


def test_a_view_is_asked_about_by_other_chances_than_it_was_learned_from(small):
    found = best.cross_validate(small, folds=2, queries=dict(again=simulate_performance))
    assert np.array_equal(found.training_views[1].features, corpus_features(small, simulate_performance).features)
    assert np.array_equal(found.pieces["again"].features, corpus_features(small, simulate_performance, seed=1).features)
    assert not np.array_equal(found.pieces["again"].features, found.training_views[1].features)


def test_nineteen_of_twenty_right_answers_are_known(doubtful_folds):
    cv, answers = doubtful_folds, doubtful_folds.probabilities["sequenced"]
    sure = answers.max(axis=1)[answers.argmax(axis=1) == cv.truth]
    assert len(sure) > 5 and cv.rejection_threshold == pytest.approx(np.quantile(sure, 0.05))
    assert (sure >= cv.rejection_threshold).mean() >= 0.9


def test_training_asks_for_room_first(small, monkeypatch, tmp_path):
    monkeypatch.setattr("composer_classify.files.free_memory", lambda: 1e8)
    with pytest.raises(ValueError, match="training on 12 files needs about 0.7 GB of memory, and 0.1 GB are free; end"):
        best.evaluate(small)
    monkeypatch.undo()
    monkeypatch.setattr(best, "required_room", lambda n_files, n_notes: (0, 1e18))
    with pytest.raises(ValueError, match="needs about 1000000000.0 GB of disk"):
        best.train(small, tmp_path / "mine.npz")
    assert not list(tmp_path.iterdir())


def test_the_room_grows_with_the_files():
    (small, _), (large, disk) = (best.required_room(n, 3000 * n) for n in (10_000, 100_000))
    assert small < 4 * 2**30 and large < 8 * 2**30 and disk < 16e9


def test_features_are_the_same_in_any_number_of_processes(small, monkeypatch):
    one = corpus_features(small, simulate_performance)
    monkeypatch.setattr(processes, "SERIAL_BELOW", 0)
    other = corpus_features(small, simulate_performance)
    assert np.array_equal(one.features, other.features) and np.array_equal(one.on_grid, other.on_grid)
    assert (one.ngrams != other.ngrams).nnz == 0
    assert is_mapped(one.ngrams.data) and is_mapped(one.ngrams.indices) and one.ngrams.data.dtype == np.uint16


def test_a_process_that_ends_names_its_files(small, monkeypatch):
    monkeypatch.setattr(processes, "SERIAL_BELOW", 0)
    with pytest.raises(FeatureError) as raised:
        list(map_pieces(end_process, small, n_jobs=2))
    assert raised.value.rows == small.files.index.tolist()


def test_short_pieces_on_the_grid_are_answered_by_both_halves(small):
    taught, labels = (
        [corpus_features(small, view) for view in best.TRAINING_VIEWS.values()],
        np.searchsorted(small.composers, small.files["composer"]),
    )
    model = fit_scorer(taught, labels)
    short = best.PieceFeatures(taught[0].features, taught[0].ngrams, np.ones(12))
    long, played = (
        best.PieceFeatures(short.features, short.ngrams * 10, short.on_grid),
        best.PieceFeatures(short.features, short.ngrams, np.zeros(12)),
    )
    assert short.n_onsets.max() < SHORT <= long.n_onsets.min()
    by_typed, by_played = (
        half.decision_function(short.features, short.ngrams) for half in (model.sequenced, model.performed)
    )
    assert np.abs(by_typed - by_played).max() > 0.01
    assert model.decision_function(short) == pytest.approx((by_typed + by_played) / 2, abs=1e-6)
    assert model.decision_function(long) == pytest.approx(
        model.sequenced.decision_function(long.features, long.ngrams), abs=1e-6
    )
    assert model.decision_function(played) == pytest.approx(by_played, abs=1e-6)


# ---------------------------------------------------------------- model files


@pytest.fixture(scope="module")
def written(small, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "mine.npz"
    about = best.train(small, path)
    assert about["composers"] == NAMES and about["n_trained"] == len(small.files)
    return path


def test_what_is_written_is_read_again(small, tmp_path):
    taught, labels = (
        [corpus_features(small, view) for view in best.TRAINING_VIEWS.values()],
        np.searchsorted(small.composers, small.files["composer"]),
    )
    model = fit_scorer(taught, labels)
    save_model(model, tmp_path / "m.npz", dict(composers=small.composers, calibration=(-2.0, 0.0), known_above=0.0))
    again, about = load_model(tmp_path / "m.npz")
    assert again.decision_function(taught[1]) == pytest.approx(model.decision_function(taught[1]), abs=1e-4)
    assert about["composers"] == small.composers


def test_a_model_of_ones_own_answers(written, prelude):
    answer = Recognizer.load(written).predict(prelude, top=2)
    ranking = answer.style["ranking"]
    assert sorted(r["composer"] for r in ranking) == NAMES
    assert sum(r["probability"] for r in ranking) == pytest.approx(1, abs=1e-3)
    (many,) = predict_files([str(SAMPLES / "bach_bwv846.mid")], written, top=2, timeline=False)
    assert many.ranking == answer.ranking and many.timeline == []


def rewritten(path: Path, to: Path, **changed) -> Path:
    with np.load(path) as archive:
        arrays = dict(archive)
    np.savez(to, **dict(arrays, **changed))
    return to


def test_a_model_that_does_not_fit_is_refused_in_one_sentence(written, tmp_path):
    with np.load(written) as archive:
        whole = dict(archive)
    whole["tune_features"] = whole["tune_features"] + 1
    text, arrays = (
        str(whole["about"]),
        {name: values for name, values in whole.items() if name not in ("about", "checksum")},
    )
    (tmp_path / "half.npz").write_bytes(written.read_bytes()[:5000])
    np.savez(tmp_path / "pickled.npz", about=np.array([{}], dtype=object))
    for words, path in (
        (
            "its checksum does not fit",
            rewritten(written, tmp_path / "weights.npz", typed_weights=whole["typed_weights"] * 0),
        ),
        (
            "its checksum does not fit",
            rewritten(written, tmp_path / "about.npz", about=np.array(str(whole["about"]).replace("Ada", "Eve"))),
        ),
        (
            "was made by another version",
            rewritten(
                written,
                tmp_path / "tune.npz",
                tune_features=whole["tune_features"],
                checksum=np.array(checksum(text, arrays)),
            ),
        ),
        ("is neither a model file", tmp_path / "none.npz"),
        ("is not a model of composer_classify", SAMPLES / "bach_bwv846.mid"),
        ("is not a model of composer_classify", tmp_path / "half.npz"),
        ("is not a model of composer_classify", tmp_path / "pickled.npz"),
    ):
        with pytest.raises(ModelError, match=words) as raised:
            Recognizer.load(path)
        assert str(path) in str(raised.value) and "\n" not in str(raised.value)


def test_a_bomb_is_not_unpacked(tmp_path):
    content = io.BytesIO()
    np.save(content, np.zeros(4, np.float16))
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("known.npy", "w", force_zip64=True) as member:
            member.write(content.getvalue()[:128])
            for _ in range(300):
                member.write(bytes(1 << 20))
    with pytest.raises(ModelError, match="unpacks to more"):
        load_model(tmp_path / "bomb.npz")


def test_a_pickle_is_never_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    with zipfile.ZipFile(tmp_path / "trap.npz", "w") as archive:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, dict(descr="|O", fortran_order=False, shape=(1,)))
        archive.writestr("about.npy", header.getvalue() + pickle.dumps(Trap()))
    with pytest.raises(ModelError, match="is not a model"):
        load_model(tmp_path / "trap.npz")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("name", "words"), [("m.onnx", "is a .npz file"), ("", "is a folder"), ("no/folder/m.npz", "exists|directory")]
)
def test_train_finds_out_at_once_that_it_cannot_write(small, tmp_path, name, words):
    (tmp_path / "no").write_text("a file where a folder ought to be")
    with pytest.raises((ValueError, OSError), match=words):
        best.train(small, tmp_path / name)


@pytest.mark.parametrize(
    "changed",
    [
        dict(composers="ab"),
        dict(composers=[1, 2]),
        dict(composers=["Ada", "Ada"]),
        dict(calibration=None),
        dict(calibration=[float("nan"), 0]),
        dict(calibration=[-1e9, 0]),
        dict(known_above="x"),
        dict(typed=dict(reach=0.4, median=0)),
        dict(played={}),
    ],
)
def test_a_description_that_makes_no_answer_is_refused(written, tmp_path, changed):
    "As a stranger may write it, checksum and all."
    with np.load(written) as archive:
        arrays = dict(archive)
    del arrays["checksum"]
    text = json.dumps(json.loads(str(arrays.pop("about"))) | changed)
    np.savez(tmp_path / "m.npz", about=np.array(text), checksum=np.array(checksum(text, arrays)), **arrays)
    with pytest.raises(ModelError, match="is not a model"):
        load_model(tmp_path / "m.npz")


# ---------------------------------------------------------------- a second opinion


@pytest.fixture(scope="module")
def doubted(small, folds, tmp_path_factory):
    "A network, and a model with it that is always in doubt: the corpus, the path, the network."
    import keras

    from composer_classify.cnn import build_cnn

    keras.utils.set_random_seed(1)
    network, found = build_cnn(2, width=8), folds
    path = tmp_path_factory.mktemp("doubted") / "m.npz"
    best.fit_final_model(small, replace(found, powers=[0.7, 0.4]), path, network)
    return path, network


def test_the_network_in_the_model_is_that_of_keras(doubted, prelude):
    path, network = doubted
    windows = best.network_windows(load_midi(prelude))
    heard = Recognizer.load(path).model.network.predict_windows(windows)
    assert heard == pytest.approx(network.predict(windows, verbose=0), abs=1e-4) and heard.std() > 0


def test_both_opinions_are_multiplied_where_there_is_doubt(doubted, prelude, monkeypatch):
    from composer_classify import recognition

    path, network = doubted
    model, notes = Recognizer.load(path).model, load_midi(prelude)
    described = piece_features([notes])
    temperature = temperature_at(model.about["calibration"], described.n_onsets)
    first = softmax(model.scorer.decision_function(described), temperature[:, None])
    monkeypatch.setattr(recognition, "needs_second_opinion", lambda probabilities, pieces: np.ones(len(pieces), bool))
    both, known = model.predict_proba([notes])
    second = network.predict(best.network_windows(notes), verbose=0).mean(axis=0, keepdims=True)
    product = first**0.7 * second**0.4
    assert both == pytest.approx(product / product.sum(), abs=1e-4) and both != pytest.approx(first, abs=1e-4)
    assert known == (first.max() >= model.about["known_above"])  # the first opinion's to say
    monkeypatch.setattr(recognition, "needs_second_opinion", lambda probabilities, pieces: np.zeros(len(pieces), bool))
    assert model.predict_proba([notes])[0] == pytest.approx(first)


def test_who_is_in_doubt():
    pieces = best.PieceFeatures(
        np.zeros((4, 1)), np.pad([[200], [200], [200], [50]], ((0, 0), (0, 2047))), np.array([1.0, 1.0, 0.3, 1.0])
    )
    probabilities = np.array([[0.9, 0.1], [0.55, 0.45], [0.55, 0.45], [0.55, 0.45]])
    assert best.needs_second_opinion(probabilities, pieces).tolist() == [
        False,
        True,
        False,
        False,
    ]  # sure; in doubt; played; too short


def test_a_long_piece_is_heard_in_eight_windows_from_all_over_it(prelude):
    notes = load_midi(prelude)
    long = np.concatenate([notes] * 12)
    long["onset_beat"] += np.repeat(np.arange(12) * 200, len(notes))
    assert len(best.network_windows(long, 64)) == WINDOWS
    assert len(best.network_windows(notes[:50], 64)) == 1


def test_each_fold_asks_its_own_network_about_its_own_files(small, folds):
    """Networks that say which fold they belong to: every second opinion comes from the one that was taught nothing of
    the file's work."""

    class OfFold:
        def __init__(self, fold: int):
            self.answer = np.array([0.1 + 0.15 * fold, 0.9 - 0.15 * fold])

        def predict(self, windows, **_):
            return np.tile(self.answer, (len(windows), 1))

    doubtful = np.random.default_rng(0).uniform(0.41, 0.59, len(folds.truth))
    probabilities = {name: np.stack([doubtful, 1 - doubtful], axis=1) for name in folds.probabilities}
    pieces = {
        name: best.PieceFeatures(each.features, each.ngrams * 50, np.ones(len(each)))
        for name, each in folds.pieces.items()
    }
    found = replace(folds, probabilities=probabilities, pieces=pieces)
    networks = [OfFold(fold) for fold in range(5)]
    twice = best.add_second_opinion(small, found, networks)
    assert all(each.all() for each in twice.unsure.values()) and twice.first is found.probabilities
    second = np.empty((len(doubtful), 2))
    for network, (_, test) in zip(networks, found.splits):
        second[test] = network.answer
    expected, _ = best.fit_pool([found.probabilities["sequenced"], second], found.truth, found.splits)
    assert twice.probabilities["sequenced"] == pytest.approx(expected, abs=1e-6)


def test_a_network_for_other_composers_is_refused(doubted, tmp_path, prelude):
    path, network = doubted
    scorer, about = load_model(path)
    scorer.network = best._as_onnx(network, ["Eve", "Dan"])
    save_model(
        scorer,
        tmp_path / "m.npz",
        {name: value for name, value in about.items() if name not in ("format", "typed", "played")},
    )
    with pytest.raises(ModelError, match="tells other composers apart"):
        Recognizer.load(tmp_path / "m.npz").model.network


@pytest.mark.parametrize("powers", [None, [1], [1, "x"], [1, -1], [1, 11]])
def test_powers_that_make_no_answer_are_refused(doubted, tmp_path, powers):
    with np.load(doubted[0]) as archive:
        arrays = dict(archive)
    del arrays["checksum"]
    text = json.dumps(json.loads(str(arrays.pop("about"))) | dict(powers=powers))
    np.savez(tmp_path / "m.npz", about=np.array(text), checksum=np.array(checksum(text, arrays)), **arrays)
    with pytest.raises(ModelError, match="is not a model"):
        load_model(tmp_path / "m.npz")


# ---------------------------------------------------------------- what is shipped


def test_the_shipped_models_are_small_and_say_what_they_are():
    assert sum(path.stat().st_size for path in MODELS.values()) <= 25e6
    recorded = json.loads((Path(__file__).parent.parent / "results/shipped.json").read_text())
    for name, fewest, least in (("all", 70, 0.70), ("four", 4, 0.93)):
        about = Recognizer.load(name).about
        assert len(about["composers"]) >= fewest and about["data_hash"] == recorded["data_hash"]
        assert about["n_trained"] > 1500 and about["score"]["accuracy"] > least
        assert recorded["measured"][name]["written"]["score"] == pytest.approx(about["score"])
    assert max(about["calibration_error"].values()) <= 0.05  # of the four, which is calibrated in folds


def test_the_long_list_promises_little_more_than_it_keeps():
    "Its probabilities are fitted on other collections. In folds most answers are right more often than they say."
    recorded = json.loads((Path(__file__).parent.parent / "results/shipped.json").read_text())
    bins = [row for row in recorded["measured"]["all"]["calibration"]["reliability"] if row["files"] >= 50]
    assert len(bins) >= 5 and all(row["accuracy"] > row["confidence"] - 0.05 for row in bins)


def test_many_files_and_processes_give_the_answers_of_one(tmp_path):
    "A folder that takes several processes, with a bad file in it."
    for k in range(210):
        (tmp_path / f"{k:03d}.mid").write_bytes((SAMPLES / ("bach_bwv772.mid", "bach_bwv846.mid")[k % 2]).read_bytes())
    (tmp_path / "100.mid").write_bytes(b"no music")
    paths = sorted(map(str, tmp_path.iterdir()))
    answers = list(predict_files(paths, timeline=False))
    alone = [Recognizer.load().predict(path) for path in paths[:2]]
    assert [answer.file for answer in answers] == paths
    for k, answer in enumerate(answers):
        assert bool(answer.error) == (k == 100)
        if k != 100:
            assert answer.piece == alone[k % 2].piece is not None
            assert {r["composer"]: r["probability"] for r in answer.ranking} == pytest.approx(
                {r["composer"]: r["probability"] for r in alone[k % 2].ranking}, abs=1e-3
            )


def test_a_folder_on_the_command_line(tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "one.MID").write_bytes((SAMPLES / "bach_bwv772.mid").read_bytes())
    (tmp_path / "deep" / "two.midi").write_bytes((SAMPLES / "bach_bwv846.mid").read_bytes())
    (tmp_path / "deep" / "notes.txt").write_text("not music")
    (tmp_path / "empty").mkdir()
    code = "import sys; from composer_classify.cli import main; sys.exit(main())"
    run = lambda *arguments: subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, timeout=120
    )
    done = run("predict", tmp_path / "deep", "--json", "--model", "four", "--top", 4)
    answers = json.loads(done.stdout)
    assert done.returncode == 0 and [Path(a["file"]).name for a in answers] == ["one.MID", "two.midi"]
    assert {r["composer"] for r in answers[0]["ranking"]} == {"Bach", "Beethoven", "Chopin", "Mozart"} and answers[0][
        "timeline"
    ]
    lines = run("predict", tmp_path / "deep").stdout.splitlines()  # the passages are not shown, so not looked for
    assert sum("Bach, " in line and line.endswith("; certain") for line in lines) == 2
    assert not any("most like" in line for line in lines)
    done = run("predict", tmp_path / "empty")
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and "empty" in done.stderr
    done = run("predict", SAMPLES / "bach_bwv772.mid", "--model", tmp_path / "none.npz")
    assert (
        done.returncode == 1
        and "none.npz: is neither a model file nor one of the shipped models (all, four)" in done.stderr
        and "Traceback" not in done.stderr
    )


# ---------------------------------------------------------------- the real collection


@pytest.mark.slow
def test_the_floors_on_the_real_collection(real_corpus):
    """Four composers, whole works: as typed, played without a beat, typed by another; with some room below what the
    page claims."""
    four = real_corpus.select(["Bach", "Beethoven", "Chopin", "Mozart"])
    labels, splits = np.searchsorted(four.composers, four.files["composer"]), list(get_splits(four))
    taught = [corpus_features(four, view) for view in best.TRAINING_VIEWS.values()]
    asked = dict(
        typed=taught[0],
        other=corpus_features(four, simulate_sequencing, 1),
        played=corpus_features(four, lambda n, r: simulate_performance(n, r, False), 1),
    )
    decided = cross_val_scores_by_view(taught, asked, labels, splits, **best.default_settings(4))
    reached = scores(labels, decided["typed"])
    assert reached["accuracy"] > 0.945 and reached["macro_f1"] > 0.912, reached
    accuracy = {name: accuracy_score(labels, each.argmax(axis=1)) for name, each in decided.items()}
    assert accuracy["typed"] - accuracy["other"] < 0.01 and accuracy["typed"] - accuracy["played"] < 0.06, accuracy

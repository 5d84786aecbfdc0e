"""Searches: trials that are never lost, rounds, folds of whole works, one file of settings, and a cluster that loses a
worker."""

import json
import multiprocessing.forkserver
import os
import signal
import threading
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from joblib import parallel_config
from sklearn.base import clone
from sklearn.model_selection import GroupKFold, RandomizedSearchCV

from builders import kill_search
from composer_classify import optimization, training
from composer_classify.cnn import build_cnn
from composer_classify.corpus import Corpus
from composer_classify.evaluation import get_splits
from composer_classify.optimization import (
    BY_HAND,
    SPACE,
    FileClassifier,
    Trial,
    best_settings,
    cross_validate_settings,
    draw_settings,
    nested_search,
    published_classifier,
    read_chunks,
    read_settings,
    read_trials,
    rounds,
    tune,
    vote,
    watch,
)
from composer_classify.training import save_network, seeded
from composer_classify.windows import Chunks
from networks import NAMES, Counted, build_tiny_rolls, rows, search_slowly

ROOT = Path(__file__).resolve().parent.parent


# ---------------------------------------------------------------- a trial is kept


def test_a_trial_is_trained_once(tmp_path):
    X, y = rows(20)
    counted = Counted(str(tmp_path / "marks"), 0.7)
    ask = lambda seed=0, data="a", scoring="accuracy", X=X, learn=slice(0, 12), **settings: (
        Trial(clone(counted).set_params(**settings), str(tmp_path / "kept"), data, scoring, seed)
        .fit(X[learn], y[learn])
        .score(X[12:], y[12:])
    )
    assert ask() == ask() == pytest.approx(6 / 8) and len(counted.marked()) == 1
    changed = [
        dict(seed=1),
        dict(data="b"),
        dict(scoring="balanced_accuracy"),
        dict(quality=0.8),
        dict(epochs=2),
        dict(learn=slice(0, 11)),
        dict(X=X + [100, 0]),
    ]
    for k, change in enumerate(changed):
        for _ in range(2):
            ask(**change)
        assert len(counted.marked()) == k + 2, f"{change} is another trial"
    table = read_trials(tmp_path / "kept")
    assert (
        len(table) == len(changed) + 1
        and table["quality"].max() == 0.8
        and table.iloc[0]["score"] == pytest.approx(6 / 8)
        and set(table["learned_from"]) == {11, 12}
    )


@pytest.mark.slow
def test_what_is_inside_a_network_is_told_from_what_is_around_it(small, tmp_path):
    "scikeras has an optimizer of its own, which a compiled network does not use."
    y = np.repeat(NAMES, 6)
    X = np.arange(12)[:, None]
    for optimizer in ("adam", "sgd"):
        classifier = published_classifier(small, epochs=1, batch_size=4).set_params(cnn__model__optimizer=optimizer)
        Trial(classifier, str(tmp_path), "a").fit(X, y).score(X, y)
    table = read_trials(tmp_path)
    assert table["optimizer"].tolist() == ["adam", "sgd"] and table["history"].iloc[0] != table["history"].iloc[1]
    assert {"initializer", "dropout", "epochs", "batch_size"} <= set(table.columns)


class Doubtful(Counted):
    "An edited `Counted`: the same settings, another answer."

    def predict(self, X):
        return 1 - super().predict(X)


def test_an_edited_classifier_or_builder_is_another_trial(small, tmp_path):
    X, y = rows(12)
    counted, kept = Counted(str(tmp_path / "marks"), 0.75), str(tmp_path / "kept")
    ask = lambda estimator: Trial(estimator, kept, "a").fit(X, y).score(X, y)
    assert ask(counted) == ask(counted) == 0.75
    Doubtful.__name__ = Doubtful.__qualname__ = "Counted"
    assert ask(Doubtful(str(tmp_path / "marks"), 0.75)) == 0.25

    def build(n_composers: int, optimizer: str, initializer: str, dropout: float):
        model = keras.Sequential(
            [keras.Input((128, 150, 1)), keras.layers.Flatten(), keras.layers.Dense(n_composers, activation="softmax")]
        )
        model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    published, composer = published_classifier(small, epochs=1, batch_size=4), np.repeat(NAMES, 6)
    numbers = np.arange(12)[:, None]
    count = lambda estimator: (
        Trial(estimator, kept, "b").fit(numbers, composer).score(numbers, composer) >= 0 and len(read_trials(kept))
    )
    before = count(published)
    assert count(published) == before
    build.__name__ = build.__qualname__ = "_build"
    assert count(clone(published).set_params(cnn__model=build)) == before + 1


class Listed(Counted):
    "A classifier with a setting that is a list, and one that is a path."

    def __init__(self, marks: Path, quality: float = 0.5, epochs: int = 1, sizes: tuple = (1,)):
        super().__init__(marks, quality, epochs)
        self.sizes = sizes


def test_settings_of_any_kind_tell_trials_apart_and_nothing_else_does(tmp_path):
    X, y = rows(12)

    def kept(estimator):
        Trial(estimator, str(tmp_path / "kept"), "a").fit(X, y).score(X, y)
        return len(list((tmp_path / "kept").iterdir()))

    listed = lambda **settings: Listed(**{"marks": tmp_path / "marks", **settings})
    assert [
        kept(estimator)
        for estimator in (
            listed(),
            listed(sizes=(2,)),
            listed(sizes=[1, 1]),
            listed(epochs=2),
            Counted(str(tmp_path / "marks")),
        )
    ] == [1, 2, 3, 4, 5]
    assert {kept(estimator) for estimator in (listed(epochs=np.int64(2)), listed(marks=tmp_path / "elsewhere"))} == {
        5
    }  # a NumPy number is a number; where things lie does not count


def test_a_trial_that_fails_is_not_kept(tmp_path):
    X, y = rows(8)
    trial = Trial(Counted(str(tmp_path / "nowhere" / "marks")), str(tmp_path / "kept"), "a").fit(X, y)
    with pytest.raises(FileNotFoundError):
        trial.score(X, y)
    assert not (tmp_path / "kept").exists() and not len(read_trials(tmp_path / "kept"))


@pytest.mark.slow
def test_a_killed_search_goes_on_where_it_was(tmp_path):
    "Begun in a process that is killed, and gone on with in this one."
    kill_search("networks", tmp_path / "kept", 4, str(tmp_path), "0.3")
    before = len(read_trials(tmp_path / "kept"))
    assert 4 <= before < 12
    answer = search_slowly(str(tmp_path))
    assert answer[0] == 0.8 and len(read_trials(tmp_path / "kept")) == 12
    marks = (tmp_path / "marks").read_text().splitlines()
    assert 12 <= len(marks) <= 13  # the one that was cut off may have been asked already
    again = search_slowly(str(tmp_path))
    assert again == answer and (tmp_path / "marks").read_text().splitlines() == marks


# ---------------------------------------------------------------- how it goes


def test_progress_names_trial_score_best_and_time_left(tmp_path, capsys):
    X, y = rows(24)
    search = lambda: RandomizedSearchCV(
        Trial(Counted(str(tmp_path / "marks")), str(tmp_path / "kept"), "a"),
        {"estimator__quality": [0.25, 0.5, 0.75]},
        n_iter=3,
        cv=2,
        refit=False,
        random_state=0,
    ).fit(X, y)
    with watch(tmp_path / "kept", [1] * 6):
        search()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6 and all(
        line.startswith(f"trial {k + 1} of 6: 0.") and "best so far" in line for k, line in enumerate(lines)
    )
    assert lines[-1].endswith("best so far 0.750, about 0 min left")
    with watch(tmp_path / "kept", [1] * 6):
        search()
    assert capsys.readouterr().out.splitlines() == ["6 of 6 trials were there already"]


def test_progress_sees_the_trials_of_others_and_stops_with_the_search(tmp_path, capsys):
    with pytest.raises(KeyboardInterrupt), watch(tmp_path, [10] * 4, pause=0.05):
        (tmp_path / "fold1").mkdir()
        (tmp_path / "fold1" / "a.json").write_text(json.dumps(dict(settings=dict(epochs=10), score=0.5, seconds=3.0)))
        time.sleep(0.5)
        assert "trial 1 of 4: 0.500 in 3 s" in capsys.readouterr().out
        raise KeyboardInterrupt
    assert threading.active_count() == 1 or not any(thread.name.endswith("(look)") for thread in threading.enumerate())


# ---------------------------------------------------------------- settings


@given(st.integers(1, 40), st.integers(0, 2**31))
def test_settings_are_drawn_from_the_space_and_begin_by_hand(n, seed):
    drawn = draw_settings(n, [64, 128], seed)
    assert drawn[0] == BY_HAND and len(drawn) == n and drawn == draw_settings(n, [64, 128], seed)
    for settings in drawn[1:]:
        assert (
            settings.keys() == BY_HAND.keys()
            and settings["width"] in (64, 128)
            and settings["dropout"] in SPACE["dropout"]
            and settings["channel_dropout"] in SPACE["channel_dropout"]
        )
        assert 2.9e-4 <= settings["rate"] <= 3.1e-3 and 0.9e-4 <= settings["weight_decay"] <= 0.11
    assert json.loads(json.dumps(drawn)) == drawn


def test_votes_go_to_the_settings_that_won_most_and_then_best():
    a, b, c = (dict(BY_HAND, width=width) for width in (1, 2, 3))
    assert vote([a, b, c, b], [0.9, 0.1, 0.8, 0.1]) == b
    assert vote([a, b, c], [0.7, 0.8, 0.6]) == b
    assert vote([dict(reversed(a.items())), a, b], [0.1, 0.1, 0.9]) == a


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "does not exist"),
        ("", "holds no settings"),
        ("[1]", "holds no settings"),
        ('{"settings": 3}', "holds no settings"),
        ('{"settings": {}}', "holds no channel_dropout, dropout, rate, weight_decay, width"),
        ("\x00\xff", "holds no settings"),
    ],
)
def test_a_file_without_settings_gets_one_sentence(tmp_path, content, said):
    path = tmp_path / "settings.json"
    if content is not None:
        path.write_text(content, encoding="latin-1")
    with pytest.raises(ValueError, match=f"settings.json: {said}.*run 05_optimization"):
        read_settings(path)


def test_the_settings_in_the_repository_are_whole():
    settings = read_settings(ROOT / "results" / "settings.json")
    assert settings.keys() == BY_HAND.keys()


# ---------------------------------------------------------------- rounds, in folds of whole works


def tuned(folder: Path, n: int, epochs: int = 1, inner: int = 2):
    X, y = rows(48)
    works = np.arange(48) // 4
    counted = Counted(str(folder / "marks"), epochs=epochs)
    settings = [dict(quality=quality) for quality in np.linspace(0.1, 0.9, n).round(3).tolist()]
    return tune(Trial(counted, str(folder / "kept"), "a"), settings, X, y, works, inner), counted, works


@pytest.mark.parametrize(("n", "epochs"), [(1, 2), (2, 1), (3, 2), (4, 1), (9, 2), (10, 1), (13, 3)])
def test_each_round_is_the_better_third_with_three_times_the_epochs(tmp_path, n, epochs):
    search, counted, _ = tuned(tmp_path, n, epochs)
    assert rounds(n, epochs) == list(zip(search.n_candidates_, search.n_resources_))
    assert best_settings(search) == dict(quality=0.9 if n > 1 else 0.1)
    asked = {(mark["quality"], mark["epochs"]) for mark in counted.marked()}
    better = lambda k: set(np.linspace(0.1, 0.9, n).round(3)[-k:].tolist())
    assert asked == {(quality, n_epochs) for k, n_epochs in rounds(n, epochs) for quality in better(k)}
    assert len(read_trials(tmp_path / "kept")) == 2 * sum(k for k, _ in rounds(n, epochs))


def test_no_trial_learns_from_a_work_that_it_is_asked_about(tmp_path):
    _, counted, works = tuned(tmp_path, 4, inner=3)
    marks = counted.marked()
    assert len(marks) == 3 * 6
    for mark in marks:
        assert not set(works[mark["learned"]]) & set(works[mark["asked"]])
        assert len(mark["learned"]) + len(mark["asked"]) == 48


def test_no_trial_of_a_fold_has_a_tested_work(tmp_path):
    X, y = rows(60)
    works = np.arange(60) // 3
    splits = list(GroupKFold(3).split(X, y, works))

    class Positions(Counted):
        "Is given positions only."

        def predict(self, X):
            return super().predict(np.column_stack([X[:, 0], y[X[:, 0]]]))

    counted = Positions(str(tmp_path / "marks"))
    trial = Trial(counted, str(tmp_path / "kept"), "a", "f1_macro")
    searches = nested_search(trial, [dict(quality=quality) for quality in (0.1, 0.9)], y, works, splits, inner=2)
    marks = counted.marked()
    assert (
        len(searches) == 3 and len(marks) == 12 and {best_settings(search)["quality"] for search in searches} == {0.9}
    )
    for k, (train, test) in enumerate(splits):
        of_fold = marks[4 * k : 4 * k + 4]
        assert all(
            set(mark["learned"]) | set(mark["asked"]) == set(train.tolist())
            and not set(works[mark["learned"]]) & set(works[mark["asked"]])
            for mark in of_fold
        )
        assert len(read_trials(tmp_path / "kept" / f"fold{k + 1}")) == 4
    with pytest.raises(AssertionError, match="works are also trained on"):
        nested_search(trial, [dict(quality=0.1)], y, works, [(np.arange(31), np.arange(31, 60))])


# ---------------------------------------------------------------- the two classifiers


def test_the_published_classifier_reads_the_chunks_that_it_is_told(small):
    chunks = Chunks(small)
    numbers = np.array([3, 0, 5])
    assert np.array_equal(read_chunks(numbers[:, None], small.path, tuple(NAMES)), chunks.batch(numbers))
    classifier = published_classifier(small, epochs=1, batch_size=4).fit(
        np.arange(12)[:, None] % len(chunks), np.repeat(NAMES, 6)
    )
    said = classifier.predict_proba(numbers[:, None])
    assert (
        said.shape == (3, 2)
        and said.sum(axis=1) == pytest.approx(1)
        and set(classifier.predict(numbers[:, None])) <= set(NAMES)
    )
    assert said == pytest.approx(classifier[-1].model_.predict_on_batch(chunks.batch(numbers)), abs=1e-5)


def test_our_classifier_learns_with_the_settings_that_it_has(small, tmp_path):
    begun = seeded(build_cnn(3, width=16), 5)
    save_network(begun, tmp_path / "start.keras", dict(composers=["Cid", "Dan", "Eve"]))
    X, y = np.arange(12)[:, None], small.files["composer"].to_numpy()
    order = np.random.default_rng(0).permutation(12)
    settings = dict(width=16, dropout=0.45, channel_dropout=0.2, rate=1e-9, weight_decay=0.03, epochs=1, steps=1)
    untrained = FileClassifier(small.path, tuple(NAMES), {16: tmp_path / "start.keras"}, **settings).fit(
        X[order], y[order]
    )
    model = untrained.model_
    left_out = lambda kind: sorted({round(layer.rate, 6) for layer in model.layers if type(layer) is kind})
    assert left_out(keras.layers.Dropout) == [0.3, 0.45] and left_out(keras.layers.SpatialDropout1D) == [0.2]
    assert model.optimizer.weight_decay == 0.03 and len(untrained.history_["loss"]) == 1
    for mine, theirs in zip(model.layers[:-1], begun.layers[:-1]):  # so slow a network is still what it began as
        if not isinstance(mine, keras.layers.BatchNormalization):
            assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(mine.get_weights(), theirs.get_weights()))


@pytest.mark.slow
def test_our_classifier_tells_steps_from_leaps(small):
    X, y = np.arange(12)[:, None], small.files["composer"].to_numpy()
    order = np.random.default_rng(0).permutation(12)
    settings = dict(width=16, dropout=0.45, channel_dropout=0.2, rate=3e-3, weight_decay=0.03, epochs=1, steps=25)
    learned = FileClassifier(small.path, tuple(NAMES), **settings).fit(X[order], y[order])
    assert learned.predict(X).tolist() == y.tolist() and learned.predict_proba(X).shape == (12, 2)


def test_settings_are_tried_and_tested_without_a_leak(small, tmp_path, monkeypatch):
    "The whole way with the real network: a setting, its trials, and the answer to works that no trial has seen."
    works, y = small.files["work_id"].to_numpy(), small.files["composer"].to_numpy()
    (train, test), drawn = next(get_splits(small)), draw_settings(2, [32])[1:]
    classifier = FileClassifier(small.path, tuple(NAMES), epochs=1, steps=1)
    trial = Trial(classifier, str(tmp_path / "trials"), "a", "f1_macro")
    search = tune(trial, drawn, train[:, None], y[train], works[train], inner=2)
    best = best_settings(search)
    assert best == drawn[0] and len(read_trials(tmp_path / "trials")) == 2
    found = cross_validate_settings(small, [best], epochs=1, steps=1, keep=tmp_path / "kept")
    assert found.files.tolist() == test.tolist() and found.probabilities.shape == (len(test), 2)
    assert found.models[0].get_layer("phrase_1").output.shape[-1] == best["width"]
    again = cross_validate_settings(small, [best], epochs=1, steps=1, keep=tmp_path / "kept")
    assert (
        again.probabilities.tolist() == found.probabilities.tolist() and len(list((tmp_path / "kept").iterdir())) == 1
    )

    def build_edited(n_composers: int, **settings):
        model = build_cnn(n_composers, **settings)
        return keras.Model(model.input, keras.layers.Activation("softmax")(model.output))

    def refuse_to_train(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(optimization, "build_cnn", build_edited)
    monkeypatch.setattr(training, "fit", refuse_to_train)
    with pytest.raises(KeyboardInterrupt):
        cross_validate_settings(small, [best], epochs=1, steps=1, keep=tmp_path / "kept")


# ---------------------------------------------------------------- on a cluster


def searched(corpus: Corpus, keep: Path, network: dict) -> RandomizedSearchCV:
    "The report's search, small: two settings in three parts."
    chunks = Chunks(corpus)
    y = chunks.composer
    classifier = published_classifier(corpus, epochs=2, batch_size=8).set_params(**network)
    trial = Trial(classifier, str(keep), corpus.data_hash)
    space = {"estimator__cnn__model__optimizer": ["adam", "sgd"]}
    return RandomizedSearchCV(
        trial, space, n_iter=2, cv=GroupKFold(3), refit=False, random_state=0, error_score="raise"
    ).fit(np.arange(len(chunks))[:, None], y, groups=chunks.file)


@pytest.fixture
def quick_workers():
    """Workers of a cluster are forked from a process that has loaded everything: to load it takes longer than their
    work."""
    dask = pytest.importorskip("dask")
    pytest.importorskip("distributed")  # before a setting of it: its own ones would go with that
    multiprocessing.set_forkserver_preload(["distributed", "composer_classify.optimization"])
    multiprocessing.forkserver.ensure_running()
    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        yield


@pytest.mark.parametrize(
    "network",
    [
        pytest.param(dict(cnn__model=build_tiny_rolls), id="tiny network", marks=pytest.mark.slow),
        pytest.param({}, id="the report's network", marks=pytest.mark.slow),
    ],
)
def test_a_cluster_that_loses_a_worker_finds_the_same(small, tmp_path, quick_workers, network):
    distributed = pytest.importorskip("distributed")
    alone = searched(small, tmp_path / "alone", network)
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        first = client.run(os.getpid)

        def kill_one():
            while not list((tmp_path / "cluster").glob("*.json")):
                time.sleep(0.02)
            busy = [worker for worker, tasks in client.processing().items() if tasks]
            os.kill(first[busy[0]], signal.SIGKILL)

        killer = threading.Thread(target=kill_one, daemon=True)
        killer.start()
        with parallel_config(backend="dask"):
            together = searched(small, tmp_path / "cluster", network)
        killer.join(timeout=1)
        assert not killer.is_alive() and set(client.run(os.getpid).values()) != set(first.values())
    assert together.best_params_ == alone.best_params_
    assert len(list((tmp_path / "alone").iterdir())) == 6
    for part in range(3):
        assert (
            together.cv_results_[f"split{part}_test_score"].tolist()
            == alone.cv_results_[f"split{part}_test_score"].tolist()
        )
    for one in (tmp_path / "alone").iterdir():
        here, there = (json.loads((tmp_path / folder / one.name).read_text()) for folder in ("alone", "cluster"))
        assert here["history"]["loss"] == pytest.approx(there["history"]["loss"], rel=1e-4), (
            "the same to the loss of each epoch"
        )

"""The search for all composers: no trial sees a work that is held out, a killed search goes on, and the settings chosen
by hand stay if no draw is better."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from searches import N_LANDMARKS, Noted, search_slowly, trial_of

from builders import kill_search
from composer_classify import tuning
from composer_classify.collection import open_corpus
from composer_classify.evaluation import get_splits
from composer_classify.features import corpus_features, note_features
from composer_classify.kernel import bhattacharyya_kernel
from composer_classify.midi import NOTE_DTYPE
from composer_classify.optimization import read_trials
from composer_classify.tuning import (
    BY_HAND,
    GROUPS,
    TwoPartClassifier,
    nested_search,
    open_versions,
    paired_difference,
    save_versions,
    scores_of_unseen,
    tune,
    write_settings,
)

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def corpus():
    return open_corpus("embedded")


@pytest.fixture(scope="module")
def store(corpus, tmp_path_factory) -> Path:
    return save_versions(corpus, tmp_path_factory.mktemp("store"), N_LANDMARKS)


def works_of(rows: list[int], store: Path) -> set[int]:
    "The works that rows of all versions belong to."
    versions = open_versions(store)
    return set(versions.works[np.asarray(rows) % versions.n_files].tolist())


@pytest.mark.parametrize("fold", range(3))
def test_no_trial_sees_a_work_that_is_held_out(corpus, store, tmp_path, fold):
    split = list(get_splits(corpus, 3))[fold]
    Noted.marks = tmp_path / "marks"
    (found,) = nested_search(trial_of(store, tmp_path), 3, corpus.labels, [split], inner=2)
    marks = [json.loads(line) for line in Noted.marks.read_text().splitlines()]
    assert len(marks) == 2 * (3 + 2 + 1) and found.settings.keys() == BY_HAND.keys()
    held_out, known = (set(open_versions(store).works[part].tolist()) for part in (split[1], split[0]))
    for mark in marks:
        learned, asked = works_of(mark["learned"], store), works_of(mark["asked"], store)
        assert not (learned | asked) & held_out and not learned & asked and learned | asked == known


def test_a_fold_that_cuts_a_work_is_refused(corpus, store, tmp_path):
    works = open_versions(store).works
    work = np.flatnonzero(np.bincount(works) > 1)
    assert len(work), "some work has two files"
    files = np.flatnonzero(works == work[0])
    split = (np.setdiff1d(np.arange(len(works)), files[:1]), files[:1])
    trial = trial_of(store, tmp_path)
    with pytest.raises(AssertionError, match="also trained on"):
        nested_search(trial, 2, corpus.labels, [split])
    with pytest.raises(AssertionError, match="also trained on"):
        scores_of_unseen(trial.estimator, [BY_HAND], corpus.labels, [split], tmp_path)


def test_a_killed_search_goes_on_where_it_was(corpus, store, tmp_path):
    kill_search("searches", tmp_path / "kept", 4, str(store), str(tmp_path), "0.3")
    finished = {path: path.stat().st_mtime_ns for path in (tmp_path / "kept").glob("*.json")}
    assert 4 <= len(finished) < 22
    found = search_slowly(store, tmp_path, 0)
    assert len(read_trials(tmp_path / "kept")) == 22 and found == search_slowly(store, tmp_path / "whole", 0)
    assert all(path.stat().st_mtime_ns == when for path, when in finished.items())
    marks = (tmp_path / "marks").read_text().splitlines()
    assert 22 <= len(marks) <= 23  # the one that was cut off may have been asked already


def test_settings_chosen_by_hand_stay_if_no_draw_is_better(corpus, store, tmp_path, monkeypatch):
    useless = {name: [value] for name, value in BY_HAND.items()} | dict(alpha=[1e9], performed=[1e-9])
    monkeypatch.setattr(tuning, "SPACE", useless)
    files = np.arange(len(corpus.labels))
    found = tune(trial_of(store, tmp_path), 2, files, corpus.labels, 2)
    assert found.settings == BY_HAND and found.score == found.by_hand
    monkeypatch.setattr(tuning, "BY_HAND", {name: values[0] for name, values in useless.items()})
    monkeypatch.setattr(tuning, "SPACE", {name: [value] for name, value in BY_HAND.items()})
    found = tune(trial_of(store, tmp_path), 2, files, corpus.labels, 2)
    assert found.settings == BY_HAND and found.score > found.by_hand


@pytest.mark.parametrize("without", ["", "rhythm"])
def test_what_is_left_out_plays_no_part(corpus, store, without):
    "Features of a group, and n-grams of a group, that are changed at will."
    versions, files = open_versions(store), np.arange(len(corpus.labels))
    rows = versions.rows(files, ["sequenced", "performed"])[:, None]
    classifier = TwoPartClassifier(store, N_LANDMARKS, without=without, spacing=0.0 if without else 1.0)
    before = classifier.fit(files[:, None], corpus.labels).decision_function(rows)
    names = [name.split()[0] for name, values in note_features(np.empty(0, NOTE_DTYPE)).items() for _ in values]
    rng = np.random.default_rng(0)
    changed = versions.features.copy()
    changed[:, np.array(names) == "rhythm"] = rng.random((len(changed), names.count("rhythm")))
    overlaps = versions.overlaps | dict(spacing=rng.random(versions.overlaps["spacing"].shape).astype(np.float16))
    other = replace(versions, features=changed, overlaps=overlaps)
    classifier = type("Changed", (TwoPartClassifier,), dict(versions=other))(**classifier.get_params())
    after = classifier.fit(files[:, None], corpus.labels).decision_function(rows)
    assert np.allclose(before, after) == bool(without)


def test_groups_of_ngrams_add_up_to_the_kernel_that_ships(corpus, store):
    versions = open_versions(store)
    ngrams = corpus_features(corpus).ngrams
    shipped = bhattacharyya_kernel(ngrams, ngrams[versions.encoded])
    ours = sum(versions.overlaps[group][: versions.n_files, : len(versions.encoded)].astype(float) for group in GROUPS)
    assert np.abs(ours - shipped).max() < 1e-3 and ours.max() > 0.9


def test_a_difference_is_that_of_the_scores_and_its_interval_depends_on_works():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 5, 300)
    scores = np.eye(5)[truth] + rng.normal(0, 0.6, (300, 5))
    others = np.eye(5)[truth] + rng.normal(0, 0.9, (300, 5))
    alone = paired_difference(truth, scores, others, np.arange(300))
    accuracy = (scores.argmax(1) == truth).mean() - (others.argmax(1) == truth).mean()
    assert alone["accuracy"][0] == pytest.approx(accuracy) and alone["accuracy"][1] > 0
    few = paired_difference(truth, scores, others, np.arange(300) // 30)
    assert few["accuracy"][0] == alone["accuracy"][0]
    swapped = paired_difference(truth, others, scores, np.arange(300))
    assert swapped["macro_f1"] == pytest.approx(tuple(-alone["macro_f1"][k] for k in (0, 2, 1)))


def test_the_settings_of_the_network_stay_when_others_are_written(tmp_path):
    path = tmp_path / "deep" / "settings.json"
    write_settings(path, dict(settings=BY_HAND))
    path.write_text(json.dumps(json.loads(path.read_text()) | dict(settings=dict(width=3))))
    write_settings(path, dict(settings=dict(BY_HAND, gamma=0.5)))
    assert json.loads(path.read_text()) == dict(
        settings=dict(width=3), all_composers=dict(settings=dict(BY_HAND, gamma=0.5))
    )

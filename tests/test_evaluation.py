"""Splits, scores and features, each against something slower and plainer, and `composer-classify evaluate` as a user
has it.

Always the same examples (`derandomize`), so that CI is stable; `FUZZ=100` takes a hundred times as many, at random.
"""

import hashlib
import json
import os
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
    top_k_accuracy_score,
)

from builders import CONTRACT, STEPS, by_hand, in_other_clothes, make_zip, piece, pieces, thorough, tune, write_tunes
from composer_classify import benchmarks
from composer_classify.augment import transpose, write_augmented
from composer_classify.benchmarks import BENCHMARKS, load_benchmark, score
from composer_classify.calibration import reliability
from composer_classify.catalogue import find_titled
from composer_classify.collection import collect, open_corpus
from composer_classify.corpus import Corpus
from composer_classify.evaluation import (
    assert_no_leak,
    baselines,
    bootstrap,
    confusion,
    cross_report,
    cross_test,
    cross_val_proba_trees,
    evaluate_on,
    evaluation_report,
    get_splits,
    leave_collection_out,
    open_set,
    per_composer,
    scores,
    top_k,
)
from composer_classify.features import feature_table, metadata, note_features
from composer_classify.files import CollectionError
from composer_classify.midi import NOTE_DTYPE, load_midi
from composer_classify.probabilities import with_temperature

ROOT = Path(__file__).resolve().parent.parent


# ---------------------------------------------------------------- splits


def made_corpus(composers: list[str], works: list[str]) -> Corpus:
    "A corpus without notes: a file for each composer and work, and between them files that no split may hold."
    rows = []
    for k, (composer, work) in enumerate(zip(composers, works)):
        path = f"{composer}/{k}.mid"
        rows += [
            (path, composer, work, "ok" if k % 3 else "recovered"),
            *[(path, composer, work, "duplicate"), ("", None, "", "unreadable")] * (k % 2),
        ]
    manifest = pd.DataFrame(rows, columns=["path", "composer", "work_id", "status"])
    manifest.attrs = dict(data_hash="0", source="made", recipe="made")
    return Corpus(Path("made"), manifest, np.zeros((len(manifest), 2), np.int64), np.empty(0, NOTE_DTYPE))


@st.composite
def tables(draw, shared: bool) -> tuple[Corpus, int]:
    """A corpus of up to four composers with enough works for the folds, and the folds. If shared, a work can lie under
    several composers."""
    folds = draw(st.integers(2, 5))
    own = draw(st.lists(st.lists(st.integers(1, 6), min_size=folds, max_size=folds + 3), min_size=2, max_size=4))
    rows = [
        (f"composer {c}", f"{c}-{w}")
        for c, sizes in enumerate(own)
        for w, size in enumerate(sizes)
        for _ in range(size)
    ]
    if shared:
        names = st.sampled_from(sorted({work for _, work in rows}))
        renamed = draw(st.dictionaries(names, names, max_size=6))
        rows = [(composer, renamed.get(work, work)) for composer, work in rows]
    order = draw(st.randoms(use_true_random=False))
    order.shuffle(rows)
    return made_corpus(*map(list, zip(*rows))), folds


def check_splits(corpus: Corpus, folds: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    splits = list(get_splits(corpus, folds, seed))
    assert len(splits) == folds
    everything, works = np.arange(len(corpus.files)), corpus.files["work_id"].to_numpy()
    assert np.array_equal(np.sort(np.concatenate([test for _, test in splits])), everything)
    for (train, test), (train_again, test_again) in zip(splits, get_splits(corpus, folds, seed)):
        assert np.array_equal(train, train_again) and np.array_equal(test, test_again)
        assert len(test) and np.array_equal(np.sort(np.r_[train, test]), everything)
        assert_no_leak(works, train, test)
    return splits


@thorough(60)
@given(tables(shared=False), st.integers(0, 2**32 - 1))
def test_each_file_is_tested_once_and_each_composer_always_trained_and_tested(table, seed):
    corpus, folds = table
    composers = corpus.files["composer"].to_numpy()
    for train, test in check_splits(corpus, folds, seed):
        assert set(composers[train]) == set(composers[test]) == set(composers)


@thorough(60)
@given(tables(shared=True), st.integers(0, 2**32 - 1))
@example((made_corpus(["A", "A", "B", "B"], ["both", "A's", "B's", "both"]), 2), 0)
def test_where_composers_share_works_each_is_always_trained_or_the_folds_are_refused(table, seed):
    corpus, folds = table
    assume(corpus.files.groupby("composer")["work_id"].nunique().min() >= folds)
    composers = corpus.files["composer"].to_numpy()
    try:
        splits = check_splits(corpus, folds, seed)
    except ValueError as error:  # only where works hang together so much that a fold holds all of a composer's
        assert "share so many works" in str(error) and corpus.files.groupby("work_id")["composer"].nunique().max() > 1
        return
    for train, _ in splits:
        assert set(composers[train]) == set(composers)


@pytest.mark.parametrize(
    ("composers", "sentence"),
    [
        (
            ["Ada"] * 6 + ["Bob"] * 2 + ["Eve"] * 4,
            "Bob (2), Eve (4): fewer works than the 5 folds; leave them out with --composers, or use fewer folds",
        ),
        (["Ada"] * 6, "made: holds 1 composer, and telling composers apart takes two"),
        (["Ada"], "made: holds 1 composer, and telling composers apart takes two"),
        ([], "made: holds 0 composer, and telling composers apart takes two"),
    ],
)
def test_what_cannot_be_split_gets_one_sentence(composers, sentence):
    with pytest.raises(ValueError) as caught:
        list(get_splits(made_corpus(composers, [str(k) for k in range(len(composers))])))
    assert str(caught.value) == sentence


def test_many_files_of_few_works_are_few():
    "Works count, not files."
    with pytest.raises(ValueError, match=r"Bob \(2\): fewer works"):
        list(get_splits(made_corpus(["Ada"] * 10 + ["Bob"] * 10, [*map(str, range(10)), *["x", "y"] * 5])))


def test_a_leak_is_named():
    assert_no_leak(["a", "a", "b"], [0, 1], [2])
    with pytest.raises(AssertionError, match="1 of 2 tested works are also trained on"):
        assert_no_leak(["a", "a", "b", "c"], [0, 3], [1, 2])


def test_composers_with_fewer_works_than_folds_can_be_let_in():
    corpus = made_corpus(["A"] * 8 + ["B"] * 3, [f"A{k}" for k in range(8)] + [f"B{k}" for k in range(3)])
    with pytest.raises(ValueError, match="fewer works than the 5 folds"):
        list(get_splits(corpus))
    with pytest.raises(ValueError, match="fewer works than 4"):
        list(get_splits(corpus, fewest=4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        splits = list(get_splits(corpus, fewest=3))
    assert sorted(np.concatenate([test for _, test in splits])) == list(range(11))
    assert all(set(corpus.files["composer"].iloc[train]) == {"A", "B"} for train, _ in splits)


# ---------------------------------------------------------------- scores


def answers(seed: int, n: int, k: int, right: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    "Composers of random files, and random answers that lean to the right one."
    rng = np.random.default_rng(seed)
    truth, probabilities = rng.integers(0, k, n), rng.dirichlet(np.ones(k), n)
    probabilities[np.arange(n), truth] += right * rng.random(n)
    return truth, probabilities / probabilities.sum(axis=1, keepdims=True)


sizes = dict(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 120), k=st.integers(2, 9))


@thorough(100)
@given(**sizes)
def test_scores_are_those_of_scikit_learn(seed, n, k):
    truth, probabilities = answers(seed, n, k)
    guess, mine = probabilities.argmax(axis=1), scores(truth, probabilities)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # answers can name composers that no file has
        theirs = dict(
            accuracy=accuracy_score(truth, guess),
            balanced_accuracy=balanced_accuracy_score(truth, guess),
            macro_f1=f1_score(
                truth, guess, labels=np.unique(truth), average="macro", zero_division=0
            ),  # a composer without a file is left out
            top5=top_k_accuracy_score(truth, probabilities, k=5, labels=range(k)) if k > 5 else 1.0,
        )
    assert mine == pytest.approx(theirs)
    assert np.array_equal(confusion(truth, probabilities), confusion_matrix(truth, guess, labels=range(k)))
    for m in range(1, k) if k > 2 else ():
        assert top_k(truth, probabilities, m).mean() == pytest.approx(
            top_k_accuracy_score(truth, probabilities, k=m, labels=range(k))
        )


@thorough(50)
@given(**sizes)
def test_scores_by_composer_are_those_of_scikit_learn(seed, n, k):
    truth, probabilities = answers(seed, n, k)
    works = np.random.default_rng(seed).integers(0, 20, n).astype(str)
    table = per_composer(truth, probabilities, works, [f"composer {c}" for c in range(k)])
    precision, recall, f1, files = precision_recall_fscore_support(
        truth, probabilities.argmax(axis=1), labels=range(k), zero_division=0
    )
    there = files > 0
    assert table["files"].tolist() == files.tolist() and np.allclose(table["precision"], precision)
    assert np.allclose(table["recall"][there], recall[there]) and np.allclose(table["f1"][there], f1[there])
    assert table.loc[~there, ["recall", "f1"]].isna().all(axis=None)  # nothing is known of them
    assert table["works"].tolist() == [len(set(works[truth == c])) for c in range(k)]


def families(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    "Files of 150 works, which have one to five files; the answers to the files of a work are alike."
    rng = np.random.default_rng(seed)
    truth, probabilities = answers(seed, 150, 4, right=1.0)
    work = np.repeat(np.arange(150), rng.integers(1, 6, 150))
    order = rng.permutation(len(work))
    work = work[order]
    noise = rng.dirichlet(np.ones(4), len(work))
    return truth[work], 0.8 * probabilities[work] + 0.2 * noise, np.array([f"work {k}" for k in work])


@pytest.mark.parametrize("seed", range(3))
def test_intervals_hold_the_score_and_are_the_same_again(seed):
    truth, probabilities, works = families(seed)
    intervals, measured = bootstrap(truth, probabilities, works), scores(truth, probabilities)
    assert all(intervals[name][0] <= value <= intervals[name][1] for name, value in measured.items())
    each = per_composer(truth, probabilities, works, list("abcd"))["f1"]
    assert all(low <= f1 <= high for (low, high), f1 in zip(intervals["per_composer_f1"], each))
    assert intervals == bootstrap(truth, probabilities, works) != bootstrap(truth, probabilities, works, seed=1)


@pytest.mark.parametrize(("n", "tolerance"), [(250, 0.04), pytest.param(1000, 0.02, marks=pytest.mark.slow)])
def test_intervals_are_those_of_a_literal_bootstrap(n, tolerance):
    "Works drawn one by one, their files put together, scored."
    truth, probabilities, works = families(0)
    files_of = [np.flatnonzero(works == work) for work in np.unique(works)]
    rng, drawn, f1 = np.random.default_rng(7), [], []
    for _ in range(n):
        files = np.concatenate([files_of[k] for k in rng.integers(0, len(files_of), len(files_of))])
        drawn.append(scores(truth[files], probabilities[files]))
        f1.append(f1_score(truth[files], probabilities[files].argmax(axis=1), average=None))
    mine, quantiles = bootstrap(truth, probabilities, works), [0.025, 0.975]
    for name, values in pd.DataFrame(drawn).items():
        assert mine[name] == pytest.approx(values.quantile(quantiles), abs=tolerance)
    assert np.allclose(mine["per_composer_f1"], np.quantile(f1, quantiles, axis=0).T, atol=tolerance)


def test_intervals_are_wider_where_files_come_in_families():
    truth, probabilities = answers(0, 100, 4)
    width = lambda works: np.diff(bootstrap(truth[works], probabilities[works], works)["accuracy"]).item()
    copies = np.repeat(np.arange(100), 5)  # five files of each work tell no more than one
    one_each = np.diff(bootstrap(truth[copies], probabilities[copies], np.arange(500))["accuracy"]).item()
    assert width(copies) == pytest.approx(width(np.arange(100)), abs=0.02) and width(copies) > 1.8 * one_each


def test_what_is_reported_has_the_intervals_of_the_bootstrap(uneven):
    corpus = uneven.select(["Ada", "Bob"])
    truth, works = np.searchsorted(corpus.composers, corpus.files["composer"]), corpus.files["work_id"].to_numpy()
    probabilities = answers(3, 18, 2)[1]
    found, intervals = evaluation_report(corpus, probabilities), bootstrap(truth, probabilities, works)
    of_composers = intervals.pop("per_composer_f1")
    assert found["ci95"] == intervals and all(
        0 < high - low < 1 for name, (low, high) in intervals.items() if name != "top5"
    )
    assert [row["f1_ci95"] for row in found["per_composer"].values()] == of_composers
    assert {name: found[name] for name in intervals} == scores(truth, probabilities)
    part = np.array([1, 4, 9, 15])
    of_part = evaluation_report(corpus, probabilities[part], dict(same=probabilities), part)
    assert of_part["n_files"] == 4 and of_part["baselines"]["same"] == scores(truth[part], probabilities[part])


def test_the_metadata_baseline_hears_no_note(uneven):
    corpus = uneven.select(["Ada", "Bob"])
    scrambled = np.array(corpus.store)
    scrambled["pitch"] = np.random.default_rng(0).integers(30, 90, len(scrambled))
    ours, theirs = (baselines(each, get_splits(corpus, 3)) for each in (corpus, replace(corpus, store=scrambled)))
    assert np.array_equal(ours["metadata only"], theirs["metadata only"])
    assert not np.allclose(ours["note features"], theirs["note features"])


def test_trees_learn_nothing_from_the_files_they_are_asked_about():
    rng = np.random.default_rng(0)
    labels, splits = np.repeat([0, 1], 20), [(np.arange(0, 40, 2), np.arange(1, 40, 2))]
    table = rng.normal(size=(40, 3)) + labels[:, None]
    spoiled = labels.copy()
    spoiled[1::2] = 1 - spoiled[1::2]
    assert np.array_equal(
        cross_val_proba_trees(table, labels, splits)[1::2], cross_val_proba_trees(table, spoiled, splits)[1::2]
    )


@pytest.mark.parametrize(("temperature", "power"), [(0.5, 2), (1, 1), (2, 0.5)])
def test_a_temperature_below_one_sharpens(temperature, power):
    probabilities = np.array([[0.6, 0.3, 0.1], [0.2, 0.2, 0.6]])
    powered = probabilities**power
    assert with_temperature(probabilities, temperature) == pytest.approx(powered / powered.sum(axis=1, keepdims=True))


def test_no_augmented_copy_is_written_into_a_corpus(uneven, tmp_path):
    source = uneven.path / uneven.files["path"].iloc[0]
    with pytest.raises(ValueError, match="lies inside a corpus"):
        write_augmented(source, uneven.path / "Ada" / "deep" / "copy.mid", 2)
    assert not (uneven.path / "Ada" / "deep").exists()
    assert write_augmented(source, tmp_path / "copy.mid", 2) == 0 and (tmp_path / "copy.mid").exists()


def test_answers_that_mean_what_they_say_are_calibrated():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.full(5, 0.5), 20_000)
    truth = (probabilities.cumsum(axis=1) > rng.random((20_000, 1))).argmax(axis=1)
    table, error = reliability(truth, probabilities)
    assert error < 0.015 and table["files"].sum() == 20_000
    assert reliability(truth, np.eye(5)[probabilities.argmax(axis=1)])[1] > 0.2  # never in doubt, often wrong
    assert reliability(np.zeros(9, int), np.eye(2)[[0] * 9])[1] == 0


# ---------------------------------------------------------------- features


@thorough(300)
@given(pieces())
@example(by_hand())
@example(by_hand((0, 60, False)))
@example(by_hand((0, 0, False), (0, 127, False)))
@example(by_hand((0, 60, False), (1, 60, False)))
@example(by_hand(*((k, 35 + k, True) for k in range(20))))
def test_features_of_any_piece_are_finite(notes):
    features, shape_of = note_features(notes), note_features(by_hand((0, 60, False), (1, 64, False), (2, 67, True)))
    assert {name: values.shape for name, values in features.items()} == {
        name: values.shape for name, values in shape_of.items()
    }
    assert all(np.isfinite(values).all() for values in features.values())
    pitched = notes[~notes["is_drum"]]
    assert same(features, note_features(pitched))  # drums are left out


def same(one: dict, other: dict, but: str = "\0") -> bool:
    "Whether all groups of features but those with this beginning are equal; prints those that are not."
    differ = [
        name for name in one if not name.startswith(but) and not np.allclose(one[name], other[name], rtol=0, atol=1e-6)
    ]
    print(*differ)
    return one.keys() == other.keys() and not differ


def transpositions(notes: np.ndarray) -> list[np.ndarray]:
    "As far as an octave up and down, as the keyboard allows."
    pitch = notes["pitch"][~notes["is_drum"]].astype(int)
    return [
        transpose(notes, semitones)[0]
        for semitones in (max(-12, -pitch.min(initial=127)), min(12, 127 - pitch.max(initial=0)))
        if len(pitch)
    ]


def assert_only_notes_and_key_count(name: str, notes: np.ndarray, rng: np.random.Generator):
    features = note_features(notes)
    assert same(features, note_features(in_other_clothes(notes, rng))), name
    for moved in transpositions(notes):
        assert same(features, note_features(moved), but="register"), name


def test_features_see_nothing_but_notes_and_only_the_register_sees_the_key(prelude):
    notes = np.asarray(load_midi(prelude))
    assert_only_notes_and_key_count("the sample", notes, np.random.default_rng(0))
    assert not same(note_features(notes), note_features(transpose(notes, 5)[0]))  # the register does
    assert not same(note_features(notes), note_features(notes[::2]))


def test_features_of_real_pieces_see_nothing_but_notes_and_only_the_register_sees_the_key(real_files):
    rng = np.random.default_rng(0)
    for name, content in list(real_files.items())[:80]:
        assert_only_notes_and_key_count(name, np.asarray(load_midi(content)), rng)


# ---------------------------------------------------------------- the command line


@pytest.fixture
def evaluate(tmp_path):
    "A function that runs `composer-classify evaluate` as a process of its own."

    def evaluate(*arguments) -> subprocess.CompletedProcess:
        code = "import sys; from composer_classify.cli import main; sys.exit(main())"
        env = {
            **os.environ,
            "COMPOSER_CLASSIFY_CACHE": str(tmp_path / "cache"),
            "OMP_NUM_THREADS": "1",
        }  # for so few files threads cost more than they save
        return subprocess.run(
            [sys.executable, "-c", code, "evaluate", *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=300,
            env=env,
        )

    return evaluate


@pytest.fixture(scope="module")
def uneven(tmp_path_factory) -> Corpus:
    "A corpus of two composers with nine works each and a third with one."
    folder = tmp_path_factory.mktemp("uneven")
    return collect(write_tunes(folder / "tunes", Ada=9, Bob=9, Solo=1), dest=folder / "corpus", n_jobs=1)


MEASURES = {"accuracy", "balanced_accuracy", "macro_f1", "top5"}


def test_evaluate_prints_the_contract_and_names_who_is_left_out(evaluate, uneven):
    done = evaluate(uneven.path, "--model", "trees", "--folds", 3, "--json")
    assert done.returncode == 1 and done.stderr.splitlines() == [
        "composer-classify: Solo: left out, 1 work cannot lie in 3 folds"
    ]
    found = json.loads(done.stdout)
    assert list(found) == CONTRACT
    assert (found["n_files"], found["n_works"], found["confusion"]["composers"], set(found["per_composer"])) == (
        18,
        18,
        ["Ada", "Bob"],
        {"Ada", "Bob"},
    )
    assert np.array(found["confusion"]["counts"]).sum(axis=1).tolist() == [9, 9]
    assert set(found["ci95"]) == MEASURES and all(0 <= low <= high <= 1 for low, high in found["ci95"].values())
    assert list(found["baselines"]) == ["always Ada", "metadata only"] and all(
        set(baseline) == MEASURES for baseline in found["baselines"].values()
    )
    assert (
        found["baselines"]["always Ada"]["accuracy"] == 0.5 and found["accuracy"] >= 0.9
    )  # steps and leaps are told apart
    for row in found["per_composer"].values():
        assert (
            list(row) == ["files", "works", "recall", "precision", "f1", "f1_ci95"]
            and row["files"] == row["works"] == 9
        )


FAILING = """
import sys
from composer_classify import features
from composer_classify.cli import main
heard = features.Onsets.__init__
def fail(self, notes):
    if len(notes) in (61, 62):  # as a file that nobody has thought of
        raise ZeroDivisionError
    heard(self, notes)
features.Onsets.__init__ = fail
sys.exit(main())
"""


@pytest.mark.sampled
@pytest.mark.parametrize(("command", "model"), [("evaluate", "trees"), ("train", "best")])
def test_a_file_whose_features_fail_is_named_and_the_rest_is_answered(tmp_path, command, model):
    folder = write_tunes(tmp_path / "tunes", Ada=6, Bob=6)
    for n, name in ((61, "Ada/Tune x.mid"), (62, "Bob/Tune y.mid")):
        (folder / name).write_bytes(tune(n, STEPS["Ada"], n))
    corpus = collect(folder, dest=tmp_path / "corpus", n_jobs=1)
    how = ["--folds", "3", "--json"] if command == "evaluate" else ["--out", tmp_path / "m.npz"]
    done = subprocess.run(
        [sys.executable, "-c", FAILING, command, corpus.path, "--model", model, *how],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=300,
    )
    assert done.stderr.splitlines() == [
        f"composer-classify: {corpus.path / name}: left out, its features cannot be computed"
        for name in ("Ada/Tune x.mid", "Bob/Tune y.mid")
    ]
    assert done.returncode == 1 and (
        json.loads(done.stdout)["n_files"] == 12 if command == "evaluate" else "trained on 12 files" in done.stdout
    )


def test_evaluate_takes_a_folder_and_prints_a_table(evaluate, tmp_path):
    done = evaluate(write_tunes(tmp_path / "tunes", Ada=6, Bob=6), "--model", "trees", "--folds", 3)
    assert (
        done.returncode == 0
        and "12 files, 12 works, 2 composers, 3 folds by work" in done.stdout
        and "metadata only" in done.stdout
    )
    assert "Traceback" not in done.stderr and "composer-classify:" not in done.stderr
    assert [
        p for p in tmp_path.rglob("*.parquet") if "cache" not in p.parts
    ] == []  # nothing is written into the folder


def assert_one_sentence(done: subprocess.CompletedProcess, *parts: str):
    assert done.returncode == 1 and done.stdout == "" and "Traceback" not in done.stderr
    *_, last = done.stderr.splitlines()
    assert last.startswith("composer-classify: ") and all(part in last for part in parts)


def test_one_composer_cannot_be_evaluated(evaluate, uneven):
    done = evaluate(uneven.path, "--model", "trees", "--folds", 3, "--composers", "Ada")
    assert len(done.stderr.splitlines()) == 1
    assert_one_sentence(done, "takes two", "only Ada")


def test_a_folder_of_one_composer_cannot_be_evaluated(evaluate, tmp_path):
    assert_one_sentence(
        evaluate(write_tunes(tmp_path / "tunes", Ada=6), "--model", "trees", "--folds", 3),
        "tunes: ",
        "takes two",
        "only Ada",
    )


def test_too_few_works_get_a_hint(evaluate, tmp_path):
    done = evaluate(write_tunes(tmp_path / "tunes", Ada=3, Bob=3), "--model", "trees")
    assert [line for line in done.stderr.splitlines() if "left out" in line] == [
        f"composer-classify: {c}: left out, 3 works cannot lie in 5 folds" for c in ("Ada", "Bob")
    ]
    assert_one_sentence(done, "fewer than two composers have 5 works", "--folds 3")


def test_composers_that_were_asked_for_are_not_left_out(evaluate, uneven):
    assert_one_sentence(
        evaluate(uneven.path, "--model", "trees", "--folds", 3, "--composers", "Ada,Solo"),
        "Solo (1): fewer works than the 3 folds",
    )
    assert_one_sentence(evaluate(uneven.path, "--model", "trees", "--composers", "Ada,Bobby"), "did you mean Bob?")


def test_tables_of_a_corpus_have_a_row_a_file(uneven):
    table = feature_table(uneven, n_jobs=1)
    assert (
        table.index.equals(uneven.files.index)
        and table.columns.is_unique
        and (table.dtypes == np.float32).all()
        and np.isfinite(table).all(axis=None)
    )
    row = uneven.files.index[7]
    assert np.allclose(table.loc[row], np.concatenate(list(note_features(uneven.notes(row)).values())), atol=1e-4)
    assert metadata(uneven).index.equals(uneven.files.index)


# ---------------------------------------------------------------- corpora of earlier versions


@pytest.mark.parametrize("recipe", [None, "1/as found", "20/as found"])
def test_a_corpus_of_another_layout_is_made_again(tmp_path, evaluate, recipe):
    (tmp_path / "a.zip").write_bytes(
        make_zip(
            [("Bach/a.mid", piece(50, 40)), ("Bach/b.mid", piece(52, 40)), ("Chopin/c.mid", tune(0, STEPS["Ada"]))]
        )
    )
    corpus = collect(tmp_path / "a.zip", dest=tmp_path / "corpus", n_jobs=1)
    older = corpus.manifest.drop(columns="review").assign(work_id="old")
    older.attrs = {name: value for name, value in corpus.manifest.attrs.items() if name != "recipe"} | (
        {"recipe": recipe} if recipe else {}
    )
    older.to_parquet(corpus.path / "manifest.parquet")
    for opened in (Corpus.open, open_corpus):
        with pytest.raises(CollectionError, match="another version of this program; collect it again"):
            opened(corpus.path)
    if recipe is None:
        assert_one_sentence(evaluate(corpus.path, "--model", "trees"), "another version")
    again = collect(tmp_path / "a.zip", dest=tmp_path / "corpus", n_jobs=1)
    pd.testing.assert_frame_equal(again.manifest, corpus.manifest)
    assert again.manifest.attrs == corpus.manifest.attrs


# ---------------------------------------------------------------- off the collection


def written(folder: Path, seed: int, **n_pieces: int) -> Path:
    "Tunes of these composers that no other seed has."
    for k, (composer, n) in enumerate(n_pieces.items()):
        (folder / composer).mkdir(parents=True)
        for i in range(n):
            content = tune(seed + 100 * k + i, STEPS[composer])
            (folder / composer / f"Tune {seed + i}.mid").write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def two_corpora(tmp_path_factory) -> tuple[Corpus, Corpus]:
    "One to train on, and one that holds two of its tunes, six new ones by its composers and three by another."
    folder = tmp_path_factory.mktemp("two")
    here, there = written(folder / "here", 0, Ada=6, Bob=6), written(folder / "there", 5000, Ada=3, Bob=3, Solo=3)
    for composer in ("Ada", "Bob"):
        known = (here / composer / "Tune 0.mid").read_bytes()
        (there / composer / "Another name.mid").write_bytes(known)
    return tuple(collect(each, dest=folder / f"{each.name} corpus", n_jobs=1) for each in (here, there))


def test_a_work_that_is_trained_on_is_no_unseen_work(two_corpora):
    test = cross_test(*two_corpora, n_jobs=1)
    named = lambda files: test.other.files["path"].to_numpy()[files].tolist()
    assert named(test.other_encodings) == ["Ada/Another name.mid", "Bob/Another name.mid"]
    assert {name.split("/")[0] for name in named(test.outsiders)} == {"Solo"} and len(test.outsiders) == 3
    assert len(test.unseen) == 6 and not set(test.unseen) & set(test.other_encodings)
    assert [test.corpus.composers[k] for k in test.truth(test.unseen)] == ["Ada"] * 3 + ["Bob"] * 3


def test_the_report_on_another_corpus_counts_each_kind_of_file_apart(two_corpora):
    "Answers that are right for two of six unseen works, for both that are known, and surest of outsiders."
    test = cross_test(*two_corpora, n_jobs=1)
    answers = np.full((11, 2), 0.5)
    answers[test.other_encodings, test.truth(test.other_encodings)] = 0.9
    for place, file in enumerate(test.unseen):
        answers[file, test.truth(test.unseen)[place] if place < 2 else 1 - test.truth(test.unseen)[place]] = 0.6
    answers[test.outsiders, 0] = 0.8
    found = cross_report(test, answers, {"none": np.full((11, 2), 0.5)})
    assert (found["n_files"], found["n_works"], found["accuracy"]) == (6, 6, pytest.approx(2 / 6))
    assert (found["other_encodings"]["n_files"], found["other_encodings"]["accuracy"]) == (2, 1)
    assert found["open_set"] == dict(outsiders=3, auroc=0, threshold=pytest.approx(0.6), named=1)
    assert found["baselines"]["none"]["accuracy"] == 0.5 and set(found["per_composer"]) == {"Ada", "Bob"}
    json.dumps(found, allow_nan=False)


def test_a_corpus_without_unseen_works_tests_nothing(two_corpora):
    with pytest.raises(ValueError, match="holds no works besides those of"):
        evaluate_on(two_corpora[0], two_corpora[0])


def test_trees_are_tested_on_another_corpus(two_corpora):
    "Ada moves by steps and Bob by leaps, wherever they are."
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = evaluate_on(*two_corpora)
    assert found["accuracy"] > 0.8 and list(found["baselines"]) == ["always Ada", "metadata only"]
    assert found["other_encodings"]["n_files"] == 2 and found["open_set"]["outsiders"] == 3


def test_the_kernel_model_is_tested_on_another_corpus(two_corpora, tmp_path):
    "By the command, whose JSON holds what the contract says."
    code = "import sys; from composer_classify.cli import main; sys.exit(main(sys.argv[1:]))"
    run = lambda *more: subprocess.run(
        [sys.executable, "-c", code, "evaluate", two_corpora[0].path, "--test", two_corpora[1].path, *more],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    found = json.loads(run("--json").stdout)
    assert set(CONTRACT) < set(found) and found["accuracy"] > 0.8 and 0 <= found["calibration_error"] <= 1
    assert found["in_folds"] > 0.8 and found["other_encodings"]["accuracy"] == 1
    said = run()
    assert said.returncode == 0 and "other encodings of works that were trained on: 2 files" in said.stdout
    assert "composers that are not known: 3 files" in said.stdout and "Warning" not in said.stderr
    refused = run("--model", "lstm")
    assert refused.returncode == 1 and "works with --model best and trees" in refused.stderr
    assert "takes no --folds" in run("--folds", "3").stderr


def test_a_collection_is_left_out(two_corpora, tmp_path):
    both = collect(
        *(each.path.parent / name for each, name in zip(two_corpora, ("here", "there"))), dest=tmp_path / "c"
    )
    test = leave_collection_out(both, "there", 5)
    assert test.corpus.composers == ["Ada", "Bob"] and set(test.corpus.files["collection"]) == {"here"}
    assert (len(test.unseen), len(test.other_encodings), len(test.outsiders)) == (
        6,
        0,
        3,
    )  # the same bytes are one file, of the first collection
    assert not set(test.works[test.unseen]) & set(test.corpus.files["work_id"])


# ---------------------------------------------------------------- benchmarks


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_is_sound(name):
    "Each file once, whole works in one fold, no path and no music in the table."
    table = load_benchmark(name)
    assert list(table.columns) == ["sha256", "composer", "work", "held_by" if name == "dcml" else "fold"]
    assert table["sha256"].is_unique and table["sha256"].str.fullmatch(r"[0-9a-f]{64}").all()
    if name != "dcml":
        assert table.groupby("work")["fold"].nunique().max() == 1 and set(table["fold"]) == set(range(5))
    assert table.groupby("composer").size().min() > 1


def test_the_benchmarks_are_of_the_real_collection(real_corpus):
    files = real_corpus.files.set_index("sha256")
    for name, n in (("kaggle-four", 4), ("kaggle-40", 40)):
        table = load_benchmark(name)
        assert table["composer"].nunique() == n and table["sha256"].isin(files.index).all()
        assert (files.loc[table["sha256"], "composer"].to_numpy() == table["composer"].to_numpy()).all()
        works = pd.factorize(files.loc[table["sha256"], "work_id"])[0]
        assert pd.Series(works).groupby(table["work"].to_numpy()).nunique().max() == 1


def test_answers_are_scored_as_scikit_learn_does(tmp_path):
    "Missing answers and unknown names are wrong; names may be spelt otherwise; probabilities give a top 5."
    table, rng = load_benchmark("kaggle-40"), np.random.default_rng(0)
    answered = table["composer"].where(rng.random(len(table)) < 0.7, "Bach")
    answers = pd.DataFrame(dict(sha256=table["sha256"], composer=answered.replace("Dvořák", "Dvorak")))
    answers.loc[::50, "composer"] = "Nobody"
    answers = answers.drop(index=answers.index[1::100])
    answers.sample(frac=1, random_state=0).to_csv(tmp_path / "answers.csv", index=False)
    found = score(tmp_path / "answers.csv", "kaggle-40")
    said = answered.copy()
    said[::50], said[1::100] = "Nobody", "(none)"
    truth = table["composer"]
    assert found["accuracy"] == pytest.approx(accuracy_score(truth, said))
    assert found["macro_f1"] == pytest.approx(f1_score(truth, said, average="macro", labels=sorted(set(truth))))
    assert found["n_missing"] == len(range(1, len(table), 100)) and found["top5"] is None
    columns = {name: rng.random(len(table)) for name in sorted(set(truth))}
    guesses = pd.DataFrame(dict(columns, sha256=table["sha256"], composer="Bach"))
    top = top_k_accuracy_score(truth, pd.DataFrame(columns).to_numpy(), k=5)
    assert score(guesses, "kaggle-40")["top5"] == pytest.approx(top)


def test_the_command_scores_answers(tmp_path):
    table = load_benchmark("dcml")
    table.assign(composer="Bach")[["sha256", "composer"]].to_csv(tmp_path / "a.csv", index=False)
    code = "import sys; from composer_classify.cli import main; sys.exit(main(sys.argv[1:]))"
    run = lambda *more: subprocess.run(
        [sys.executable, "-c", code, "score", *more], capture_output=True, text=True, cwd=tmp_path
    )
    found = json.loads(run("a.csv", "--benchmark", "dcml", "--json").stdout)
    unseen = table[table["held_by"] == ""]
    assert found["accuracy"] == pytest.approx((unseen["composer"] == "Bach").mean())
    assert (found["benchmark"], found["n_files"]) == ("dcml 1", len(unseen))
    assert found["other_encodings"]["n_files"] == len(table) - len(unseen)
    assert run("a.csv", "--benchmark", "dcml").stdout.startswith(f"dcml 1: unseen works: {len(unseen)} files")
    (tmp_path / "b.csv").write_text("name,composer\nx,Bach\n")
    bad = run("b.csv", "--benchmark", "dcml")
    assert bad.returncode == 1 and "b.csv: needs the columns composer, and sha256 or file" in bad.stderr
    assert run("none.csv", "--benchmark", "dcml").returncode == 1
    assert run("a.csv", "--benchmark", "mine").returncode == 2


def test_answers_may_name_files(tmp_path, monkeypatch):
    "As what `predict --csv` writes does; a file without an answer need not exist."
    (tmp_path / "tune.mid").write_bytes(b"MThd")
    table = load_benchmark("kaggle-four")
    table.loc[0, ["sha256", "composer"]] = hashlib.sha256(b"MThd").hexdigest(), "Bach"
    monkeypatch.setattr(benchmarks, "TABLES", tmp_path)
    table.to_csv(tmp_path / f"kaggle-four.{BENCHMARKS['kaggle-four']}.csv", index=False)
    named = pd.DataFrame(dict(file=[str(tmp_path / "tune.mid"), str(tmp_path / "gone.mid")], composer=["Bach", ""]))
    found = score(named, "kaggle-four")
    assert found["n_missing"] == found["n_files"] - 1 and found["accuracy"] == pytest.approx(1 / found["n_files"])


def test_the_name_counts_and_probabilities_only_for_the_top_five(tmp_path):
    "A model that is surest of someone who is not in the benchmark is wrong, whatever it gives the others."
    table = load_benchmark("kaggle-four")
    answers = pd.get_dummies(table["composer"]).astype(float) * 0.3
    answers = answers.assign(Haydn=0.7, sha256=table["sha256"].str.upper(), composer="Haydn")
    answers.loc[3, "Chopin"] = np.nan  # an empty cell
    answers["Fryderyk Chopin"] = 0.0  # the same composer in another spelling
    answers.to_csv(tmp_path / "a.csv", index=False)
    found = score(tmp_path / "a.csv", "kaggle-four")
    assert (found["accuracy"], found["n_missing"]) == (0, 0) and found["top5"] > 0.99


def test_without_outsiders_there_is_no_open_set():
    sure, right = np.array([0.9, 0.2]), np.array([True, False])
    assert open_set(sure, right, np.empty(0)) == dict(outsiders=0)
    assert open_set(sure, ~right & False, np.array([0.5])) == dict(outsiders=1)


def test_only_movements_and_equal_titles_join_works():
    titles = {
        "Chopin": [
            "Finale to B Minor Paino Sonata",
            "Sonata No.3, 2nd Mov, Scherzo",
            "Etude op10 n10",
            "Etude op10 n12",
        ],
        "Beethoven": ["Bagatelle op126 n1", "Bagatelle op126 n2", "Bagatelle op126 n1 (2)"],
        "Nobody": ["tune", "tune"],
    }
    rows = [(composer, title) for composer, some in titles.items() for title in some]
    files = pd.DataFrame(rows, columns=["composer", "title"]).assign(source="", notes_hash=[str(k) for k in range(9)])
    assert find_titled(files)[["first", "second"]].to_numpy().tolist() == [[0, 1], [4, 6]]


def test_a_failing_file_of_the_other_corpus_is_left_out(two_corpora, monkeypatch, capsys):
    from composer_classify import cli
    from composer_classify.processes import FeatureError

    here, there = two_corpora
    bad = int(there.files.index[0])

    def run(first: Corpus, second: Corpus) -> dict:
        if bad in second.files.index:
            raise FeatureError(second, [bad])
        return dict(n=len(second.files))

    assert cli._without_failing(run, here, there) == (dict(n=len(there.files) - 1), 1)
    assert there.manifest.loc[bad, "path"] in capsys.readouterr().err

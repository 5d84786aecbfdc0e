"""Compare the kernel model on landmarks with the exact one, and write results/kernel.json.

Each list of composers is trained and tested in five folds by work, with some numbers of landmarks and with all pieces
as landmarks, which is kernel ridge regression itself. CPU seconds are of the folds; comparing n-grams is not in them.

.venv/bin/python tools/measure_kernel.py CORPUS                                     files as they are encoded
.venv/bin/python tools/measure_kernel.py CORPUS --versions sequenced performed crop  and performances and crops
"""

import argparse
import time
from pathlib import Path

import numpy as np

from composer_classify.best import TRAINING_VIEWS, default_settings, landmarks_of_views
from composer_classify.corpus import Corpus
from composer_classify.evaluation import get_splits, scores, works_by_composer
from composer_classify.features import corpus_features
from composer_classify.kernel import KernelClassifier, Landmarks
from composer_classify.results import write_results
from composer_classify.shipped_model import signed_sqrt, squared_distances

ROOT = Path(__file__).resolve().parent.parent
FOUR = ["Bach", "Beethoven", "Chopin", "Mozart"]
MANY = 10  # works of a composer on the long list
SEED = 0


def out_of_fold(part: Corpus, features: np.ndarray, landmarks: Landmarks) -> tuple[np.ndarray, int]:
    "Scores of all versions one after the other, and how many landmarks lay in a training side at most."
    n, n_composers, most = len(part.labels), len(part.composers), 0
    versions = n * np.arange(len(features) // n)[:, None]
    found = np.zeros((len(features), n_composers))
    for train, test in get_splits(part, 5, SEED):
        rows, tested = (np.ravel(versions + files) for files in (train, test))
        classifier = KernelClassifier(**default_settings(n_composers))
        scorer = classifier.fit_rows(features, part.labels[rows % n], landmarks, rows).scorer_
        columns = np.flatnonzero(np.isin(landmarks.rows, rows))
        points = (signed_sqrt(features[tested]) - scorer.mean_) / scorer.scale_
        near = np.exp(-scorer.gamma / scorer.median_ * squared_distances(points, scorer.X_fit_))
        kernel = near + classifier.ngram_weight * landmarks.overlap(tested, columns)
        found[tested], most = kernel @ scorer.dual_coef_, max(most, len(columns))
    return found, most


def measure(part: Corpus, versions: list[str], features: np.ndarray, landmarks: Landmarks) -> dict:
    "Scores by version, CPU seconds and bytes of kernels."
    begin = time.process_time()
    found, most = out_of_fold(part, features, landmarks)
    measured = dict(landmarks=len(landmarks.rows), in_fold=most, cpu_seconds=time.process_time() - begin)
    measured["kernel_bytes"] = sum(each.nbytes for each in landmarks.overlaps) + 2 * 8 * most**2
    by_version = np.split(found, len(versions))
    return measured | {name: scores(part.labels, each) for name, each in zip(versions, by_version)}


def compare(part: Corpus, versions: list[str], sizes: list[int]) -> dict:
    "What was measured with each number of landmarks, the last of them all pieces."
    pieces = [corpus_features(part, TRAINING_VIEWS[name]) for name in versions]
    features, n, found = np.concatenate([each.features for each in pieces]), len(part.labels) * len(pieces), []
    every = Landmarks.of([each.ngrams for each in pieces], np.arange(n))
    for size in [*(size for size in sizes if size < n), n]:
        rows = landmarks_of_views(part.labels, len(pieces), size)
        landmarks = Landmarks(rows, every.ngrams[rows], [each[:, rows] for each in every.overlaps])
        found.append(measure(part, versions, features, landmarks))
        print(part.path, len(part.composers), found[-1], flush=True)
    return dict(composers=len(part.composers), files=len(part.labels), sizes=found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[500, 1000, 2000, 3000, 6000], help="numbers of landmarks"
    )
    parser.add_argument("--versions", nargs="+", choices=TRAINING_VIEWS, default=["sequenced"], help="of each file")
    args = parser.parse_args()
    corpus = Corpus.open(args.corpus)
    n_works = works_by_composer(corpus)
    lists = dict(all=corpus.select(list(n_works.index[n_works >= MANY])), four=corpus.select(FOUR))
    measured = {name: compare(part, args.versions, args.sizes) for name, part in lists.items()}
    settings = {name: default_settings(each["composers"]) for name, each in measured.items()}
    parameters = dict(corpus=corpus.source, many=MANY, folds=5, seed=SEED, settings=settings, versions=args.versions)
    write_results(ROOT / "results" / "kernel.json", measured, parameters, corpus.data_hash)


if __name__ == "__main__":
    main()

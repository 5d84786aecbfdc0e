"""Compare the kernel model on landmarks with the exact one, and write results/kernel.json.

Each list of composers is trained and tested in five folds by work, with some numbers of landmarks and with all pieces
as landmarks, which is kernel ridge regression itself. CPU seconds are of the folds; comparing n-grams is not in them.

.venv/bin/python tools/measure_kernel.py CORPUS            a corpus of the Kaggle zip
"""

import argparse
import time
from pathlib import Path

import numpy as np

from composer_classify.best import TRAINING_VIEWS, cross_val_scores_by_view, default_settings, landmarks_of_views
from composer_classify.corpus import Corpus
from composer_classify.evaluation import get_splits, scores, works_by_composer
from composer_classify.features import PieceFeatures, corpus_features
from composer_classify.kernel import KernelClassifier, Landmarks
from composer_classify.results import write_results

ROOT = Path(__file__).resolve().parent.parent
FOUR = ["Bach", "Beethoven", "Chopin", "Mozart"]
MANY = 10  # works of a composer on the long list
SEED = 0


def measure(part: Corpus, pieces: dict[str, PieceFeatures], every: Landmarks, n: int) -> dict:
    "Scores by version, CPU seconds and bytes of kernels with so many landmarks."
    rows = landmarks_of_views(part.labels, len(pieces), n)
    landmarks = Landmarks(rows, every.ngrams[rows], [each[:, rows] for each in every.overlaps])
    splits, settings, begin = (
        list(get_splits(part, 5, SEED)),
        default_settings(len(part.composers)),
        time.process_time(),
    )
    found = cross_val_scores_by_view(list(pieces.values()), pieces, part.labels, splits, landmarks, **settings)
    seconds = time.process_time() - begin
    known = max(np.isin(rows % len(part.labels), train).sum() for train, _ in splits)
    kernels = sum(each.nbytes for each in landmarks.overlaps), 2 * 8 * int(known) ** 2
    measured = dict(landmarks=len(rows), in_fold=int(known), cpu_seconds=seconds, kernel_bytes=sum(kernels))
    return measured | {name: scores(part.labels, each) for name, each in found.items()}


def compare(part: Corpus, sizes: list[int]) -> dict:
    "What was measured with each number of landmarks, the last of them all pieces."
    pieces = {name: corpus_features(part, view) for name, view in TRAINING_VIEWS.items()}
    n, begin, found = len(part.labels) * len(pieces), time.process_time(), []
    every = Landmarks.of([each.ngrams for each in pieces.values()], np.arange(n))
    compared = time.process_time() - begin
    for size in [*(size for size in sizes if size < n), n]:
        found.append(measure(part, pieces, every, size))
        print(part.path, len(part.composers), found[-1], flush=True)
    return dict(composers=len(part.composers), files=len(part.labels), compared_cpu_seconds=compared, sizes=found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus")
    parser.add_argument("--sizes", type=int, nargs="+", default=[2000, 6000], help="numbers of landmarks")
    args = parser.parse_args()
    corpus = Corpus.open(args.corpus)
    n_works = works_by_composer(corpus)
    lists = dict(all=corpus.select(list(n_works.index[n_works >= MANY])), four=corpus.select(FOUR))
    measured = {name: compare(part, args.sizes) for name, part in lists.items()}
    settings = {
        name: KernelClassifier(**default_settings(each["composers"])).get_params() for name, each in measured.items()
    }
    parameters = dict(corpus=corpus.source, many=MANY, folds=5, seed=SEED, sizes=args.sizes, settings=settings)
    write_results(ROOT / "results" / "kernel.json", measured, parameters, corpus.data_hash)


if __name__ == "__main__":
    main()

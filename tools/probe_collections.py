"""Ask how well the features of one composer's pieces tell who encoded them; writes results/probes.json.

For each composer with enough files in two or more collections, boosted trees predict the collection of held-out works
from what the style models read of the notes. What they can predict, a style model can rely on by mistake.

.venv/bin/python tools/probe_collections.py CORPUS
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from lightgbm import LGBMClassifier
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedGroupKFold

from composer_classify.corpus import Corpus
from composer_classify.evaluation import cross_val_proba_trees
from composer_classify.features import feature_table
from composer_classify.results import write_results

ROOT = Path(__file__).resolve().parent.parent
FEWEST = 20  # files of a composer in a collection
FOLDS = 5
TOP = 15  # features that are listed


def probe(table: pd.DataFrame, files: pd.DataFrame) -> tuple[dict, np.ndarray]:
    "How well the collection of some files is predicted, and how much each feature contributes."
    collections, label = np.unique(files["collection"], return_inverse=True)
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    splits = list(folds.split(label, label, files["work_id"]))
    answers = cross_val_proba_trees(table, label, splits, what="probe").argmax(axis=1)
    trees = LGBMClassifier(n_estimators=100, num_leaves=7, importance_type="gain", random_state=0, n_jobs=1, verbose=-1)
    gain = trees.fit(table.to_numpy(), label).feature_importances_
    found = dict(
        files={name: int(n) for name, n in zip(collections, np.bincount(label))},
        balanced_accuracy=float(balanced_accuracy_score(label, answers)),
        by_chance=1 / len(collections),
    )
    return found, gain / gain.sum()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    corpus = Corpus.open(parser.parse_args().corpus)
    table, files = feature_table(corpus), corpus.files
    n_files = files.groupby(["composer", "collection"])["path"].transform("size")
    enough = files[n_files >= FEWEST]
    composers, gains = {}, []
    for composer, part in enough.groupby("composer"):
        if part["collection"].nunique() > 1:
            composers[composer], gain = probe(table.loc[part.index], part)
            gains.append(gain)
            print(composer, composers[composer], flush=True)
    mean = pd.Series(np.mean(gains, axis=0), table.columns).nlargest(TOP)
    measured = dict(composers=composers, features={name: float(share) for name, share in mean.items()})
    write_results(ROOT / "results/probes.json", measured, dict(fewest=FEWEST, folds=FOLDS), corpus.data_hash)


if __name__ == "__main__":
    main()

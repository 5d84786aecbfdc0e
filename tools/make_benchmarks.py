"""Make the tables of the benchmarks from the corpora, and write them into the package.

.venv/bin/python tools/make_benchmarks.py KAGGLE REFERENCE DCML     corpora; REFERENCE holds all other collections
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from composer_classify.benchmarks import BENCHMARKS, TABLES
from composer_classify.catalogue import join_corpora
from composer_classify.corpus import Corpus
from composer_classify.evaluation import get_splits
from composer_classify.recognition import Recognizer

FEWEST = 4  # works of a composer: Stravinsky has no more, and is in four of five folds


def with_folds(corpus: Corpus) -> pd.DataFrame:
    "A row a file, with its fold."
    fold = np.zeros(len(corpus.files), np.int64)
    for number, (_, test) in enumerate(get_splits(corpus, fewest=FEWEST)):
        fold[test] = number
    files = corpus.files[["sha256", "composer", "work_id"]].rename(columns=dict(work_id="work"))
    return files.assign(work=pd.factorize(files["work"])[0], fold=fold)


def held_by_others(reference: Corpus, dcml: Corpus) -> pd.DataFrame:
    "A row a file of DCML, with the other collections that hold its work."
    files = join_corpora(reference, dcml)
    holders = files[files["corpus"] == 0].groupby("work")["collection"].agg(lambda names: " ".join(sorted(set(names))))
    mine = files[files["corpus"] == 1]
    held = mine["work"].map(holders).fillna("")
    return mine[["sha256", "composer"]].assign(work=pd.factorize(mine["work"])[0], held_by=held)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", type=Path, nargs=3, metavar="CORPUS")
    kaggle, reference, dcml = map(Corpus.open, parser.parse_args().corpora)
    tables = {
        "kaggle-four": with_folds(kaggle.select(Recognizer.load("four").composers)),
        "kaggle-40": with_folds(kaggle.select(Recognizer.load("all").composers)),
        "dcml": held_by_others(reference, dcml),
    }
    for name, table in tables.items():
        path = TABLES / f"{name}.{BENCHMARKS[name]}.csv"
        content = table.sort_values("sha256").to_csv(index=False)
        if path.exists() and path.read_text() != content:
            parser.error(f"{path}: is published, and would change; give the new table the next number in BENCHMARKS")
        path.write_text(content)
        print(name, len(table), "files", table["work"].nunique(), "works", table["composer"].nunique(), "composers")


if __name__ == "__main__":
    main()

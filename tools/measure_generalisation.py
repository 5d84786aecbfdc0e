"""Measure the shipped kind of model off the collections it is trained on, and write results/generalisation.json.

It is trained on all of CORPUS and tested on DCML, which nothing is ever trained on; then on all collections of CORPUS
but one, and tested on that one. Each finished test is kept in FOLDER, so that a run that was stopped goes on.

.venv/bin/python tools/measure_generalisation.py CORPUS DCML FOLDER
"""

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

from composer_classify.best import cross_evaluate
from composer_classify.corpus import Corpus
from composer_classify.evaluation import CrossTest, cross_test, leave_collection_out, works_by_composer
from composer_classify.results import write_results

ROOT = Path(__file__).resolve().parent.parent
FEWEST = 10  # works of a composer, as for the shipped model
COMPOSERS = 10  # that a collection must have to be left out


def large_enough(corpus: Corpus) -> Corpus:
    "The part of the corpus by composers with enough works."
    n_works = works_by_composer(corpus)
    return corpus.select(n_works.index[n_works >= FEWEST].tolist())


def measured(make_test: Callable[[], CrossTest], kept: Path) -> dict:
    "The report of a test, made once."
    if not kept.exists():
        test = make_test()
        report = cross_evaluate(test)
        report.pop("confusion")
        if report["other_encodings"]:
            report["other_encodings"].pop("confusion")
        kept.write_text(json.dumps(dict(report, trained_composers=len(test.corpus.composers))))
    report = json.loads(kept.read_text())
    encoded = report["other_encodings"] or {}
    shown = {
        name: round(report[name], 3) for name in ("accuracy", "balanced_accuracy", "in_folds", "calibration_error")
    }
    print(
        kept.stem,
        report["n_files"],
        shown,
        encoded.get("n_files"),
        encoded.get("accuracy"),
        report["open_set"],
        flush=True,
    )
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("dcml", type=Path)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    corpus, dcml = Corpus.open(args.corpus), Corpus.open(args.dcml)
    rows = dict(dcml=measured(lambda: cross_test(large_enough(corpus), dcml), args.folder / "dcml.json"))
    composers = corpus.files.groupby("collection")["composer"].nunique()
    for collection in composers.index[composers >= COMPOSERS]:
        test = partial(leave_collection_out, corpus, collection, FEWEST)
        rows[collection] = measured(test, args.folder / f"{collection}.json")
    write_results(ROOT / "results/generalisation.json", rows, dict(fewest=FEWEST), corpus.data_hash)


if __name__ == "__main__":
    main()

"""Measure how often the answer is right, and whether it is as sure as it should be; writes results/answers.json.

The style model answers out of fold. Half of the files are looked up in the shipped index with their work in it, the
others without it; whole, and ten seconds of each.

.venv/bin/python tools/measure_answers.py CORPUS      a corpus whose files are in the shipped index
"""

import argparse
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed

from composer_classify.augment import cut_notes
from composer_classify.best import cross_validate
from composer_classify.calibration import reliability
from composer_classify.corpus import Corpus
from composer_classify.evaluation import works_by_composer
from composer_classify.features import apply_view
from composer_classify.fingerprints import SURE
from composer_classify.index import Index
from composer_classify.recognition import PIECES, combine, describe_piece
from composer_classify.results import write_results

ROOT = Path(__file__).resolve().parent.parent
FEWEST = 10  # works of a composer, as for the shipped model
SECONDS = 10.0


def ten_seconds(notes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    "Ten seconds that begin with a random note, at second 0."
    onset = notes["onset_sec"]
    begin = float(rng.choice(onset[onset <= max(onset.max() - SECONDS, onset.min())]))
    return cut_notes(notes, begin, begin + SECONDS)


VIEWS = dict(whole=None, ten_seconds=ten_seconds)


def same_work(piece: dict, own: dict) -> bool:
    "Whether a piece that was found is of the same work as the file, by title."
    work = lambda each: (each["composer"], each["work"] or each["title"], each["catalogue"])
    return work(piece) == work(own)


def look_up(path: Path, files: list[tuple[int, bool, np.ndarray]]) -> list[dict | None]:
    """The piece that is found for each file, with `right`: whether it is of the same work, and says so.

    `files` holds its number in the index, whether its work counts, and its notes. Another setting of a tune is right
    where the answer says that it is one.
    """
    index, found = Index.load(path), []
    for number, known, notes in files:
        piece = index.identify(notes, None if known else int(index.works[number]))
        if piece:
            piece["right"] = piece["after"] or same_work(piece, index.piece(number))
        found.append(piece)
    return found


def pieces_of(corpus: Corpus, index: Index) -> np.ndarray:
    "The number of each file of a corpus in the index."
    where = {file: k for k, file in enumerate(index.table["file"])}
    return np.array([where[int(content[:16], 16)] for content in corpus.files["sha256"]])


def found_pieces(corpus: Corpus, view, known: np.ndarray) -> list[dict | None]:
    "The piece that is found for each file in one version."
    pieces, rows = pieces_of(corpus, Index.load(PIECES)), corpus.files.index
    asked = [
        (int(piece), bool(knows), np.asarray(apply_view(corpus.notes(row), view, 1)))
        for row, piece, knows in zip(rows, pieces, known)
    ]
    parts = [asked[k : k + 100] for k in range(0, len(asked), 100)]
    return sum(Parallel(-1)(delayed(look_up)(PIECES, part) for part in parts), [])


def measured(corpus: Corpus, style: np.ndarray, found: list[dict | None], known: np.ndarray) -> dict:
    "How often answers are right, how sure they are, and how often they contradict the piece."
    composers, truth = corpus.composers, corpus.files["composer"].to_numpy()
    answers = [combine(composers, probabilities, piece) for probabilities, piece in zip(style, found)]
    said = np.array([names[combined.argmax()] for names, combined in answers])
    sure, right = np.array([combined.max() for _, combined in answers]), said == truth
    bins, error = reliability(np.where(right, 0, 1), np.column_stack([sure, np.zeros(len(sure))]))
    named = np.array([piece is not None for piece in found])
    paths = corpus.files["path"]
    composer_right = np.array([piece is not None and piece["composer"] == name for piece, name in zip(found, truth)])
    return dict(
        files=len(said),
        accuracy=float(right.mean()),
        accuracy_of_style=float((style.argmax(axis=1) == corpus.labels).mean()),
        calibration_error=error,
        reliability=bins.to_dict("list"),
        named_known=float(named[known].mean()),
        named_unknown=float(named[~known].mean()),
        wrong_composer_of_named=float((named & ~composer_right).sum() / max(named.sum(), 1)),
        named=int(named.sum()),
        after=sum(piece["after"] for piece in found if piece),
        wrong_piece_of_named=float(np.mean([not piece["right"] for piece in found if piece])),
        wrong_pieces=[
            f"{path}: {describe_piece(piece)}" for path, piece in zip(paths, found) if piece and not piece["right"]
        ],
        right_composer_of_certain=float(
            composer_right[[bool(piece) and piece["score"] > SURE for piece in found]].mean()
        ),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    whole = Corpus.open(parser.parse_args().corpus)
    counts = works_by_composer(whole)
    corpus = whole.select(sorted(counts.index[counts >= FEWEST]))
    known = np.random.default_rng(0).random(len(corpus.files)) < 0.5
    cv = cross_validate(corpus, queries={name: view for name, view in VIEWS.items() if view})
    rows = {}
    for name, view in VIEWS.items():
        style = cv.probabilities["sequenced" if view is None else name]
        rows[name] = measured(corpus, style, found_pieces(corpus, view, known), known)
        print(name, {key: value for key, value in rows[name].items() if key not in ("reliability", "wrong_pieces")})
    write_results(ROOT / "results/answers.json", rows, dict(fewest=FEWEST, seconds=SECONDS), corpus.data_hash)


if __name__ == "__main__":
    main()

"""How many files of a corpus have a title, whether its key is that of the notes, and movements come in their order.

.venv/bin/python tools/measure_titles.py CORPUS

Writes results/catalogue.json and results/catalogue_keys.csv: the files whose notes speak for another key. Their column
`reason` is written by hand, and kept when this is run again.
"""

import argparse
import csv
import io
import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from composer_classify.catalogue import WorkTitle, title_all
from composer_classify.corpus import Corpus
from composer_classify.features import key_fit
from composer_classify.files import atomic_write
from composer_classify.results import write_results
from composer_classify.works import align, covered, outer_lines

RESULTS = Path(__file__).resolve().parent.parent / "results"
NAMES = ["C", "C-sharp", "D", "E-flat", "E", "F", "F-sharp", "G", "A-flat", "A", "B-flat", "B"]
OTHERWISE = {"D-flat": 1, "D-sharp": 3, "G-flat": 6, "G-sharp": 8, "A-sharp": 10, "C-flat": 11}
MOST = 8  # files of a whole work that its movements are looked for in
OPENING = re.compile(r"(I\b|Prelude$|Fugue$)")  # parts in the key of the work


def key_number(key: str) -> int:
    "The column of `key_fit` for a key such as `E-flat major`."
    tonic, mode = key.rsplit(" ", 1)
    pitch = NAMES.index(tonic) if tonic in NAMES else OTHERWISE[tonic]
    return pitch + 12 * (mode == "minor")


def fits(notes: np.ndarray) -> np.ndarray:
    "How well each key fits notes, weighted by how long they sound, shape `(24,)`."
    return key_fit(np.bincount(notes["pitch"] % 12, np.clip(notes["duration_beat"], 0.05, 4), 12))


def estimates(notes: np.ndarray) -> tuple[np.ndarray, set[int], int]:
    "How well keys fit a piece, the best for the whole, its beginning and its end, and the last bass as a pitch class."
    notes = notes[~notes["is_drum"]]
    onset, end = notes["onset_beat"], notes["onset_beat"] + notes["duration_beat"]
    length = onset.max() - onset.min()
    parts = notes, notes[onset <= onset.min() + 0.12 * length + 4], notes[onset >= onset.max() - 0.05 * length - 8]
    last = notes["pitch"][end >= end.max() - 0.5].min() % 12
    return fits(notes), {int(fits(part).argmax()) for part in parts}, int(last)


def agrees(notes: np.ndarray, key: int) -> bool:
    """Whether notes speak for a key: it fits the piece, its beginning or its end best, or is among the four that fit
    the piece best, and its tonic is the last bass."""
    fit, best, last = estimates(notes)
    return key in best or (key % 12 == last and int((fit > fit[key]).sum()) < 4)


def in_key(files: pd.DataFrame, titles: list[WorkTitle]) -> np.ndarray:
    "Which files hold the whole of a work, or a part in its key, and have a title that says the key; bool `(files,)`."
    stem = files["collection"] + files["title"].str.replace(r"__\d+$", "", regex=True)
    fragment = stem.duplicated(keep=False) & files["title"].str.contains(r"__\d+$")  # an engraving in several files
    whole = np.array([bool(each.key) and (not each.movement or bool(OPENING.match(each.movement))) for each in titles])
    return whole & ~fragment.to_numpy()


def coverage(files: pd.DataFrame, titles: list[WorkTitle]) -> dict[str, dict[str, int]]:
    "For each collection how many files there are, and how many titles were found in each way."
    how = pd.crosstab(files["collection"], np.array([title.how for title in titles]))
    return {name: dict(files=int(row.sum()), **row.to_dict()) for name, row in how.iterrows()}


def write_exceptions(path: Path, found: list[dict[str, str]]) -> None:
    "Write the files whose key is another, with the reasons that the file held before."
    known = {}
    if path.exists():
        known = {(row["composer"], row["file"]): row["reason"] for row in csv.DictReader(path.open(encoding="utf-8"))}
    text = io.StringIO()
    writer = csv.DictWriter(text, ["composer", "file", "title", "notes", "reason"], lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, "reason": known.get((row["composer"], row["file"]), "")} for row in found)
    atomic_write(path, lambda file: file.write(text.getvalue().encode()))


def check_keys(corpus: Corpus, titles: list[WorkTitle]) -> tuple[int, int, list[dict[str, str]]]:
    """How many files were checked, of how many the key fits the whole piece best, and those whose notes speak for
    another key."""
    files, found, fitting = corpus.files, [], 0
    checked = np.flatnonzero(in_key(files, titles))
    for place in checked:
        row, notes, title = files.iloc[place], corpus.notes(int(files.index[place])), titles[place]
        best = int(fits(notes[~notes["is_drum"]]).argmax())
        fitting += best == key_number(title.key)
        if not agrees(notes, key_number(title.key)):
            heard = f"{NAMES[best % 12]} {'minor' if best >= 12 else 'major'}"
            found.append(dict(composer=row["composer"], file=row["title"], title=str(title), notes=heard))
    return len(checked), fitting, sorted(found, key=lambda row: (row["composer"], row["file"]))


def movement_number(movement: str) -> int:
    "The number of a movement or piece such as `II. Andante` or `No. 7`; 0 if it has none, or several."
    if match := re.match(r"No\. (\d+)(?!\d|–)", movement):
        return int(match[1])
    roman = re.match(r"[IVX]+(?=\.|$)", movement)
    values = [dict(I=1, V=5, X=10)[letter] for letter in roman[0]] if roman else []
    return sum(-value if value < after else value for value, after in zip(values, values[1:] + [0]))


def places(lines: dict[int, np.ndarray], whole: np.ndarray) -> dict[int, float]:
    "Where melodies lie in that of a whole work, from 0 to 1; of those that it holds, a third at least."
    found = {}
    for key, line in lines.items():
        agree = align(line, whole)
        if len(agree) and covered(agree[:, 0]) > len(line) / 3:
            found[key] = float(np.median(agree[:, 1])) / len(whole)
    return found


def check_order(corpus: Corpus, titles: list[WorkTitle]) -> tuple[int, list[str]]:
    """How many movements were compared with the next one of the same work, by their places in a file that holds all of
    it, and the titles of works where they come in another order."""
    files = corpus.files[["composer", "n_notes"]].assign(title=titles)
    files = files[[title.how != "unresolved" for title in titles]]
    files["number"] = [movement_number(title.movement) for title in files["title"]]
    melody = cache(lambda row: outer_lines(corpus.notes(row))[0])
    works = files.groupby(["composer", [(title.work, title.catalogue) for title in files["title"]]])
    compared, wrong = 0, []
    for (_, work), found in works:
        wholes = found[[not title.movement for title in found["title"]]]
        for row, notes in zip(wholes.index[:MOST], wholes["n_notes"]):
            parts = found[(found["number"] > 0) & (found["n_notes"] < 0.8 * notes)]
            place = places({part: melody(part) for part in parts.index}, melody(row))
            order = sorted((int(parts["number"][part]), where) for part, where in place.items())
            pairs = [(one, two) for one, two in zip(order, order[1:]) if one[0] < two[0]]
            compared += len(pairs)
            wrong += [", ".join(work) for one, two in pairs if one[1] > two[1]]
    return compared, wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("corpus", help="a corpus, as `composer-classify collect` makes it")
    corpus = Corpus.open(parser.parse_args().corpus)
    titles = title_all(corpus.files)
    checked, fitting, exceptions = check_keys(corpus, titles)
    write_exceptions(RESULTS / "catalogue_keys.csv", exceptions)
    compared, wrong = check_order(corpus, titles)
    works = {(title.work, title.catalogue) for title in titles if title.how != "unresolved"}
    measured = dict(
        coverage=coverage(corpus.files, titles),
        works=len(works),
        keys=dict(checked=checked, fits_best=fitting, other=len(exceptions)),
        order=dict(compared=compared, wrong=wrong),
    )
    write_results(RESULTS / "catalogue.json", measured, {}, corpus.data_hash)
    print(json.dumps(measured, indent=1))


if __name__ == "__main__":
    main()

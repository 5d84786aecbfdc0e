"""Measure how often a melody of twelve notes finds its work, and how sure the answer is; writes results/melodies.json.

Queries are in a random key, as they are or with one note wrong, missing or extra. They are cut from what the index
keeps, from a part of the file by a simpler rule, and from files that are removed, of which another encoding is left.

.venv/bin/python tools/measure_melodies.py CORPUS      a corpus whose files are in the shipped index
"""

import argparse
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from measure_answers import pieces_of
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression

from composer_classify.corpus import Corpus
from composer_classify.index import Index
from composer_classify.melodies import (
    CHANCE,
    Places,
    best_places,
    melody_evidence,
    melody_scores,
    parse_melody,
    upper_voice,
)
from composer_classify.recognition import PIECES
from composer_classify.results import write_results

ROOT = Path(__file__).resolve().parent.parent
QUERIES = 400  # of each kind
N_NOTES = 12
LENGTHS = (6, 8, 12, 20)  # notes of the queries that the scores are fitted to
NEEDED = 30  # notes of a part that has a melody
TOP = 5

# As people remember them, without ornaments: whose, a word of the title or its catalogue number, and the notes
THEMES = {
    "Für Elise": ("Beethoven", "Elise", "E5 D#5 E5 D#5 E5 B4 D5 C5 A4 C4 E4 A4 B4"),
    "Symphony No. 5": ("Beethoven", "Op. 67", "G4 G4 G4 Eb4 F4 F4 F4 D4 G4 G4 G4 Eb4 Ab4 Ab4 Ab4 G4 Eb5 Eb5 Eb5 C5"),
    "Ode to Joy": ("Beethoven", "Op. 125", "E4 E4 F4 G4 G4 F4 E4 D4 C4 C4 D4 E4 E4 D4 D4"),
    "Moonlight Sonata": ("Beethoven", "Op. 27 No. 2", "G#4 G#4 G#4 G#4 G#4 G#4 A4 G#4 F#4 B4 E4"),
    "Eine kleine Nachtmusik": ("Mozart", "K. 525", "G5 D5 G5 D5 G5 D5 G5 B5 D6 C6 A5 C6 A5 C6 A5 F#5 A5 D5"),
    "Sonata facile": ("Mozart", "K. 545", "C5 E5 G5 B4 C5 D5 C5 A5 G5 C6 G5 F5 E5"),
    "Turkish March": ("Mozart", "K. 331", "B4 A4 G#4 A4 C5 D5 C5 B4 C5 E5 F5 E5 D#5 E5 B5 A5 G#5 A5"),
    "Symphony No. 40": ("Mozart", "K. 550", "Eb5 D5 D5 Eb5 D5 D5 Eb5 D5 D5 Bb5 Bb5 A5 G5 G5 F5 Eb5 Eb5 D5 C5 C5"),
    "Toccata in D minor": ("Bach", "BWV 565", "A5 G5 A5 G5 F5 E5 D5 C#5 D5"),
    "Minuet in G": ("", "BWV Anh. 114", "D5 G4 A4 B4 C5 D5 G4 G4 E5 C5 D5 E5 F#5 G5 G4 G4"),
    "Jesu, Joy": ("Bach", "BWV 147", "G4 A4 B4 D5 C5 C5 E5 D5 D5 G5 F#5 G5 D5 B4 G4 A4 B4"),
    "Air": ("Bach", "BWV 1068", "F#5 B5 G5 E5 D5 C#5 D5 C#5 B4 A4"),
    "Spring": ("Vivaldi", "RV 269", "E5 G#5 G#5 G#5 F#5 E5 B5 B5 A5 G#5 G#5 G#5 F#5 E5 B5"),
    "Canon": ("Pachelbel", "Canon", "F#5 E5 D5 C#5 B4 A4 B4 C#5"),
    "Nocturne in E-flat": ("Chopin", "Op. 9 No. 2", "Bb4 G5 F5 G5 F5 Eb5 Bb4 G5 C5 C6 G5 Bb5 Ab5 G5"),
    "Funeral March": ("Chopin", "Op. 35", "Bb4 Bb4 Bb4 Bb4 Db5 C5 C5 Bb4 Bb4 A4 Bb4"),
    "Ave Maria": ("Schubert", "D. 839", "Bb4 A4 Bb4 D5 C5 Bb4 C5 D5 C5 Bb4 A4 G4"),
    "Unfinished Symphony": ("Schubert", "D. 759", "G4 D4 G4 F#4 G4 A4 G4 F#4 G4 A4 D4"),
    "The Trout": ("Schubert", "D. 550", "C4 F4 F4 A4 A4 F4 C4 C4 C4 G4 F4 E4 D4 C4"),
    "Träumerei": ("Schumann", "Träumerei", "C4 F4 E4 F4 A4 C5 F5 F5 E5 D5 C5 F5"),
    "Lullaby": ("Brahms", "Op. 49 No. 4", "E4 E4 G4 E4 E4 G4 E4 G4 C5 B4 A4 A4 G4"),
    "Hungarian Dance No. 5": ("Brahms", "WoO 1 No. 5", "D4 G4 Bb4 G4 F#4 G4 A4 G4 Eb4 F4 Eb4 D4"),
    "Wedding March": ("Mendelssohn", "Op. 61", "C5 C5 C5 C5 C5 C5 C5 C5 C5 B4 F#4 A4 G4 F4 D4"),
    "Morning Mood": ("Grieg", "Op. 46", "B5 G#5 F#5 E5 F#5 G#5 B5 G#5 F#5 E5 F#5 G#5 F#5 G#5 B5"),
    "Mountain King": ("Grieg", "Op. 46", "B2 C#3 D3 E3 F#3 D3 F#3 F3 C#3 F3 E3 C3 E3 B2 C#3 D3 E3 F#3 D3 F#3 B3"),
    "New World, Largo": ("Dvořák", "Op. 95", "F4 Ab4 Ab4 F4 Eb4 Db4 Eb4 F4 Ab4 F4 Eb4"),
    "Swan Lake": ("Tchaikovsky", "Op. 20", "F#5 B4 C#5 D5 E5 F#5 D5 F#5 D5 F#5 B4 D5 B4 G4 D5 B4"),
    "Blue Danube": ("Strauss", "Op. 314", "D4 D4 F#4 A4 A4 A5 A5 F#5 F#5 D4 D4 F#4 A4 A4 A5 A5 G5 G5"),
    "The Entertainer": ("Joplin", "Entertainer", "D4 D#4 E4 C5 E4 C5 E4 C5 C5 D5 D#5 E5 C5 D5 E5 B4 D5 C5"),
    "Clair de lune": ("Debussy", "Clair de lune", "F5 Ab5 F5 Eb5 F5 Eb5 Db5 Eb5 F5 Eb5"),
    "Gymnopédie No. 1": ("Satie", "Gymnopédie No. 1", "F#5 A5 G5 F#5 C#5 B4 C#5 D5 A4 F#4"),
}


@dataclass(frozen=True)
class Asked:
    "A query and what is found."

    own: int  # The work it is from
    n_notes: int
    places: Places  # In all works
    works: np.ndarray  # Of the places
    seconds: float  # That the search took

    @property
    def rank(self) -> float:
        "Of the work that the query is from; infinite if it is not found."
        return float(next(iter(np.flatnonzero(self.works == self.own) + 1), np.inf))

    @property
    def score(self) -> float:
        "Of the first row."
        return float(melody_scores(self.places.cost, self.n_notes).max(initial=0))


@dataclass(frozen=True)
class Collection:
    "The shipped index, and the files of its corpus by their number in it."

    index: Index
    corpus: Corpus
    row: dict[int, int]  # In the corpus, of each piece
    twins: np.ndarray  # Pieces of which another encoding is in the index

    def notes(self, piece: int) -> np.ndarray:
        "The notes of a piece without drums."
        notes = np.asarray(self.corpus.notes(self.row[piece]))
        return notes[~notes["is_drum"]]

    def ask(self, query: np.ndarray, own: int, removed: np.ndarray) -> Asked:
        "Look a melody up."
        index, begin = self.index, time.perf_counter()
        places = best_places(index.melodies, query, index.table["melody"], index.works, removed)
        melody_scores(places.cost, len(query))
        return Asked(own, len(query), places, index.works[places.piece], time.perf_counter() - begin)


def twins_of(corpus: Corpus, number: dict[str, int]) -> np.ndarray:
    "Pieces that share at least half of their music with another file of another encoding."
    pairs = pd.read_csv(corpus.path / "duplicates.csv")
    pairs = pairs[(pairs["because"] == "same music") & (pairs["overlap"] >= 0.5)]
    known = pairs["path"].isin(number) & pairs["like"].isin(number)
    return np.unique([number[path] for name in ("path", "like") for path in pairs.loc[known, name]])


def opened(corpus: Corpus) -> Collection:
    "The shipped index with its corpus."
    index = Index.load(PIECES)
    pieces = pieces_of(corpus, index)
    row = dict(zip(pieces.tolist(), corpus.files.index.tolist()))
    twins = twins_of(corpus, dict(zip(corpus.files["path"], pieces.tolist())))
    return Collection(index, corpus, row, twins)


def heard(notes: np.ndarray) -> np.ndarray:
    "The melody by the rule of the index."
    return upper_voice(notes)[1]


def highest_of(part: Callable[[np.ndarray], int]) -> Callable[[np.ndarray], np.ndarray]:
    "A melody by another rule: of one part of several the highest of the notes that begin at the same moment."

    def melody(notes: np.ndarray) -> np.ndarray:
        tracks, n = np.unique(notes["track"], return_counts=True)
        tracks = tracks[n >= NEEDED]
        if len(tracks) < 2:
            return np.empty(0, np.int64)
        of_part = notes[notes["track"] == part([notes[notes["track"] == track] for track in tracks])]
        moment = np.round(of_part["onset_sec"] / 0.02).astype(np.int64)
        return pd.Series(of_part["pitch"].astype(np.int64)).groupby(moment).max().to_numpy()

    return melody


first_part = highest_of(lambda parts: parts[0]["track"][0])
highest_part = highest_of(lambda parts: max(parts, key=lambda notes: notes["pitch"].mean())["track"][0])


def spoilt(query: np.ndarray, how: str, rng: np.random.Generator) -> np.ndarray:
    "A query with one note other than it should be, not the first or the last."
    k = int(rng.integers(1, len(query) - 1))
    other = query[k] + rng.choice([-3, -2, -1, 1, 2, 3])
    if how == "missing":
        return np.delete(query, k)
    return {"exact": query, "wrong": np.r_[query[:k], other, query[k + 1 :]], "extra": np.insert(query, k, other)}[how]


CHANGES = ("exact", "wrong", "missing", "extra")
KINDS = {  # how the melody is made, whether it begins with the piece, whether the file is removed
    "theme": (heard, True, False),
    "any place": (heard, False, False),
    "first part": (first_part, False, False),
    "highest part": (highest_part, False, False),
    "theme of another encoding": (heard, True, True),
    "any place of another encoding": (heard, False, True),
}


def cut(collection: Collection, kind: str, n_notes: int, rng: np.random.Generator) -> tuple[int, np.ndarray]:
    "A random piece and some notes of its melody in a random key."
    melody_of, begins, twin = KINDS[kind]
    while True:
        piece = int(rng.choice(collection.twins if twin else np.array(list(collection.row))))
        melody = melody_of(collection.notes(piece))
        if len(melody) >= n_notes:
            first = 0 if begins else int(rng.integers(len(melody) - n_notes + 1))
            return piece, np.clip(melody[first : first + n_notes] + rng.integers(-6, 6), 1, 127)


def asked_of(collection: Collection, kind: str, how: str, n: int, seed: int, n_notes: int = N_NOTES) -> list[Asked]:
    "Queries of one kind."
    index, found = collection.index, []
    cutting, spoiling = np.random.default_rng(seed), np.random.default_rng(seed + 1)
    for _ in range(n):
        piece, query = cut(collection, kind, n_notes, cutting)
        removed = index.removed.copy()
        removed[piece] = KINDS[kind][2]
        found.append(collection.ask(spoilt(query, how, spoiling), int(index.works[piece]), removed))
    return found


def without_work(collection: Collection, kind: str, n: int, seed: int, n_notes: int = N_NOTES) -> list[Asked]:
    "Queries whose work is not in the index."
    index, rng, found = collection.index, np.random.default_rng(seed), []
    for _ in range(n):
        piece, query = cut(collection, kind, n_notes, rng)
        work = int(index.works[piece])
        found.append(collection.ask(query, work, index.works == work))
    return found


def random_walks(collection: Collection, n: int, seed: int) -> list[Asked]:
    "Queries of the steps of a melody in random order."
    rng, found = np.random.default_rng(seed), []
    for _ in range(n):
        _, query = cut(collection, "any place", N_NOTES, rng)
        walk = np.clip(np.cumsum(np.r_[query[0], rng.permutation(np.diff(query))]), 1, 127)
        found.append(collection.ask(walk, -1, collection.index.removed))
    return found


def interval(right: int, of: int) -> list[float]:
    "The 95% interval of a share, by Wilson's method."
    return [round(float(each), 4) for each in binomtest(right, of).proportion_ci(method="wilson")]


def summary(found: list[Asked]) -> dict:
    "How often the right work is the first or among the first five, and the time of a query in milliseconds."
    ranks, took = np.array([each.rank for each in found]), 1000 * np.array([each.seconds for each in found])
    n = len(found)
    return dict(
        queries=n,
        top1=float((ranks == 1).mean()),
        top1_ci95=interval(int((ranks == 1).sum()), n),
        top5=float((ranks <= TOP).mean()),
        top5_ci95=interval(int((ranks <= TOP).sum()), n),
        milliseconds=float(np.median(took)),
        milliseconds_p99=float(np.quantile(took, 0.99)),
    )


def reliability(found: list[Asked]) -> dict:
    "In bins of the score of the first row: how many queries, their mean score, and how often the first is right."
    score = np.array([each.score for each in found])
    right = np.array([each.rank == 1 for each in found])
    of_bin = np.minimum((score * 5).astype(int), 4)
    rows = [of_bin == k for k in range(5) if np.any(of_bin == k)]
    return dict(
        queries=[int(row.sum()) for row in rows],
        score=[float(score[row].mean()) for row in rows],
        right=[float(right[row].mean()) for row in rows],
    )


def fitted(known: list[Asked], unknown: list[Asked]) -> tuple[float, ...]:
    "`CHANCE` by the first rows of these queries, of which those of unknown works are all wrong."
    evidence = [melody_evidence(each.places.cost, each.n_notes)[:TOP] for each in known + unknown]
    right = [each.works[:TOP] == each.own for each in known] + [each.works[:TOP] < 0 for each in unknown]
    regression = LogisticRegression(C=100, max_iter=1000).fit(np.concatenate(evidence), np.concatenate(right))
    return tuple(round(float(x), 2) for x in (*regression.intercept_, *regression.coef_[0]))


def fit(collection: Collection, n: int) -> tuple[float, ...]:
    "`CHANCE` from queries of several lengths, half of them in the index, with and without a wrong note."
    kinds = ("any place", "any place of another encoding")
    ways = [(kind, how, n_notes) for kind in kinds for how in ("exact", "wrong") for n_notes in LENGTHS]
    known = [each for kind, how, n_notes in ways for each in asked_of(collection, kind, how, n, 100, n_notes)]
    unknown = [each for kind, _, n_notes in ways for each in without_work(collection, kind, n, 200, n_notes)]
    return fitted(known, unknown)


def typed(collection: Collection) -> dict[str, dict]:
    "What is found for each theme that is typed from memory; `rank` is none if its work is not among the places."
    index, rows = collection.index, {}
    names = [index.piece(k) for k in range(len(index))]
    for name, (composer, word, notes) in THEMES.items():
        pattern = re.compile(re.escape(word) + r"(?!\d)")
        own = [composer in each["composer"] and bool(pattern.search(each["title"])) for each in names]
        found = collection.ask(parse_melody(notes), -1, index.removed)
        ranks = np.flatnonzero(np.isin(found.works, index.works[own])) + 1
        rank = int(ranks[0]) if len(ranks) else None
        rows[name] = dict(notes=notes, in_index=any(own), rank=rank, first=names[found.places.piece[0]]["title"])
        rows[name] |= dict(score=found.score, cost=float(found.places.cost[rank - 1]) if rank else None)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--queries", type=int, default=QUERIES, help="of each kind")
    asked = parser.parse_args()
    corpus = Corpus.open(asked.corpus)
    collection, n = opened(corpus), asked.queries
    chance = fit(collection, n // 8)
    print("CHANCE =", chance)
    found = {kind: {how: asked_of(collection, kind, how, n, 0) for how in CHANGES} for kind in KINDS}
    unknown = {"work removed": without_work(collection, "any place", n, 300), "walk": random_walks(collection, n, 400)}
    known = [each for how in ("exact", "wrong") for each in found["any place of another encoding"][how]]
    quantiles = lambda rows: {
        f"{q:.0%}": float(np.quantile([each.score for each in rows], q)) for q in (0.5, 0.9, 0.99)
    }
    index = collection.index
    measured = dict(
        **index.size(),
        bytes_of_melodies=(index.melodies.code.nbytes + index.melodies.onset.nbytes) / len(index),
        bytes=sum(path.stat().st_size for path in PIECES.iterdir()) / len(index),
        found={kind: {how: summary(rows) for how, rows in ways.items()} for kind, ways in found.items()},
        unknown={kind: quantiles(rows) for kind, rows in unknown.items()},
        reliability=reliability(known + unknown["work removed"] + unknown["walk"]),
        chance=chance,
        themes=typed(collection),
    )
    parameters = dict(queries=n, n_notes=N_NOTES, top=TOP, seed=0, lengths=LENGTHS, chance=CHANCE)
    write_results(ROOT / "results/melodies.json", measured, parameters, corpus.data_hash)


if __name__ == "__main__":
    main()

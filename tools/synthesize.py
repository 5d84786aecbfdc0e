"""Make any number of distinct pieces from a corpus, to measure how the program grows with a collection.

A piece is made of half bars of up to three pieces of one composer, in random order, and each of them is inverted,
reversed or both. So its intervals, rhythms and chords are those of real music, and its fingerprints are not. Whole bars
are too long: two pieces that hold the same few count as one work.

.venv/bin/python tools/synthesize.py CORPUS DEST 10000            a folder of MIDI files, COMPOSER/number.mid
.venv/bin/python tools/synthesize.py CORPUS DEST 10000 --corpus   a corpus, without writing and reading the files
"""

import argparse
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed

from composer_classify.corpus import Corpus
from composer_classify.midi import NOTE_DTYPE

SOURCES = 3  # pieces that a piece is made of
TURNS = [(True, False), (False, True), (True, True)]  # upside down, backwards: never as it was
LONGER = 1.5  # than the first of them: 100,000 pieces are then 10,000 hours
TICKS = 480  # a quarter note
BATCH = 500  # pieces that a process makes at a time


@dataclass(frozen=True)
class Piece:
    "A synthetic piece."

    composer: str
    title: str
    notes: np.ndarray  # Note array
    tempo: float  # Seconds a quarter note


def half_bar(signatures: str) -> float:
    "The length of half a bar in quarter notes, by the time signatures of a manifest, as in '3/4 2/4'."
    beats, _, unit = (signatures.split() or ["4/4"])[0].partition("/")
    length = 4 * int(beats) / int(unit)
    return length / 2 if 1 <= length <= 8 else 2.0


def parts_of(notes: np.ndarray, length: float) -> tuple[np.ndarray, np.ndarray]:
    "Where the half bars with notes begin and end in a note array without drums, each int64 of shape `(half bars,)`."
    bar = np.floor(notes["onset_beat"] / length + 1e-6).astype(np.int64)
    begin = np.flatnonzero(np.diff(bar, prepend=-1) != 0)
    return begin, np.append(begin[1:], len(bar))


def within_parts(notes: np.ndarray, length: float) -> np.ndarray:
    "The notes without drums, cut off at the end of their half bars and counted in beats from its beginning."
    notes = notes[~notes["is_drum"]].copy()
    notes["onset_beat"] = np.maximum(notes["onset_beat"], 0)
    notes = notes[np.argsort(notes["onset_beat"], kind="stable")]
    begins = np.floor(notes["onset_beat"] / length + 1e-6) * length
    notes["onset_sec"] = np.clip(notes["onset_beat"] - begins, 0, length)  # for now, beats of the half bar
    notes["duration_beat"] = np.clip(notes["duration_beat"], 1 / 32, length - notes["onset_sec"])
    return notes


def turned(notes: np.ndarray, length: float, inverted: bool, reversed_: bool) -> np.ndarray:
    "The notes of half bars upside down, backwards, or both."
    notes = notes.copy()
    if inverted:
        axis = int(np.median(notes["pitch"])) * 2
        notes["pitch"] = np.clip(axis - notes["pitch"].astype(np.int64), 0, 127)
    if reversed_:
        notes["onset_sec"] = length - notes["onset_sec"] - notes["duration_beat"]
    return notes


def random_parts(rng: np.random.Generator, sources: list[np.ndarray], length: float) -> list[np.ndarray]:
    "Half bars of all sources in random order, each turned in one way, `LONGER` times as many as the first has."
    found = [parts_of(notes, length) for notes in sources]
    ways = [[turned(notes, length, *how) for how in TURNS] for notes in sources]
    chosen = rng.integers(len(sources), size=max(int(LONGER * len(found[0][0])), 8))
    places = [(source, int(rng.integers(len(found[source][0])))) for source in chosen]
    how = rng.integers(len(TURNS), size=len(places))
    return [ways[source][way][slice(*(edge[bar] for edge in found[source]))] for (source, bar), way in zip(places, how)]


def joined(parts: list[np.ndarray], length: float, tempo: float) -> np.ndarray:
    "The note array of half bars one after the other."
    notes = np.concatenate(parts)
    bar = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    notes["onset_beat"] = np.maximum(bar * length + notes["onset_sec"], 0)
    notes["onset_sec"], notes["duration_sec"] = notes["onset_beat"] * tempo, notes["duration_beat"] * tempo
    return notes[np.lexsort((notes["pitch"], notes["onset_sec"]))]


class Synthesizer:
    "Makes pieces from a corpus. The same number gives the same piece."

    def __init__(self, corpus: Corpus, seed: int = 0):
        self.corpus, self.seed, files = corpus, seed, corpus.files
        self.rows, self.composers = files.index.to_numpy(), files["composer"].to_numpy()
        self.lengths = [half_bar(signatures) for signatures in files["time_signatures"]]
        self.of_composer = {name: np.flatnonzero(self.composers == name) for name in np.unique(self.composers)}

    def _sources(self, rng: np.random.Generator, first: int) -> list[np.ndarray]:
        "A piece and others by its composer, cut into half bars as long as in the first."
        others = rng.choice(self.of_composer[self.composers[first]], SOURCES - 1)
        sources = [within_parts(self.corpus.notes(self.rows[k]), self.lengths[first]) for k in (first, *others)]
        return [notes for notes in sources if len(notes)]

    def _tempo(self, first: int) -> float:
        "Seconds a quarter note of a piece, on average."
        notes = self.corpus.notes(self.rows[first])
        return float(np.clip(np.ptp(notes["onset_sec"]) / (np.ptp(notes["onset_beat"]) or 1), 0.25, 1.5))

    def piece(self, number: int) -> Piece:
        "The piece with this number."
        rng = np.random.default_rng([self.seed, number])
        first = int(rng.integers(len(self.rows)))
        sources, length = self._sources(rng, first), self.lengths[first]
        notes = joined(random_parts(rng, sources, length), length, tempo := self._tempo(first))
        notes["pitch"] = np.clip(notes["pitch"].astype(np.int64) + rng.integers(-5, 7), 0, 127)
        return Piece(self.composers[first], f"{number:06}", notes, tempo)

    def pieces(self, numbers: range) -> Iterator[Piece]:
        "The pieces with these numbers."
        return map(self.piece, numbers)


def varlen(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    "Numbers as MIDI writes them: four bytes each, and which of them count, both of shape `(n, 4)`."
    shifts = np.array([21, 14, 7, 0])
    octets = numbers[:, None] >> shifts & 0x7F
    needed = (numbers[:, None] >> shifts > 0) | (shifts == 0)
    return (octets | np.where(shifts > 0, 0x80, 0)).astype(np.uint8), needed


def midi_file(piece: Piece) -> bytes:
    "A piece as a MIDI file with one track. Tracks of the note array become channels."
    notes = piece.notes
    begin = np.round(notes["onset_beat"] * TICKS).astype(np.int64)
    end = np.maximum(np.round((notes["onset_beat"] + notes["duration_beat"]) * TICKS).astype(np.int64), begin + 1)
    channel = notes["track"] % 9
    on = np.column_stack([0x90 | channel, notes["pitch"], np.clip(notes["velocity"], 1, 127)])
    off = np.column_stack([0x80 | channel, notes["pitch"], np.zeros(len(notes), np.int64)])
    tick, event = np.concatenate([end, begin]), np.concatenate([off, on]).astype(np.uint8)
    order = np.argsort(tick, kind="stable")  # a note ends before the next one begins
    octets, needed = varlen(np.diff(tick[order], prepend=0))
    stream = np.hstack([octets, event[order]])[np.hstack([needed, np.ones((len(order), 3), bool)])].tobytes()
    tempo = b"\0\xff\x51\x03" + round(piece.tempo * 1e6).to_bytes(3, "big")
    track = tempo + stream + b"\0\xff\x2f\0"
    head = b"MThd" + (6).to_bytes(4, "big") + b"\0\0\0\1" + TICKS.to_bytes(2, "big")
    return head + b"MTrk" + len(track).to_bytes(4, "big") + track


def write_files(corpus: Path, seed: int, dest: Path, numbers: range) -> None:
    "Write the pieces with these numbers as MIDI files, a folder for each composer."
    for piece in Synthesizer(Corpus.open(corpus), seed).pieces(numbers):
        path = dest / piece.composer / f"{piece.title}.mid"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(midi_file(piece))


def write_part(corpus: Path, seed: int, path: Path, numbers: range) -> list[tuple[str, str, int, float]]:
    "Write the notes of these pieces to a file. Returns composer, title, number of notes and seconds of each."
    made = []
    with open(path, "wb") as file:
        for piece in Synthesizer(Corpus.open(corpus), seed).pieces(numbers):
            seconds = float((piece.notes["onset_sec"] + piece.notes["duration_sec"]).max())
            made.append((piece.composer, piece.title, len(piece.notes), seconds))
            file.write(piece.notes.tobytes())
    return made


def write_corpus(source: Corpus, dest: Path, rows: list[tuple[str, str, int, float]], parts: list[Path]) -> None:
    "Put the notes of all parts into one store, and write a manifest. Each piece is a work of its own."
    ends = np.cumsum([n for _, _, n, _ in rows])
    with open(dest / "notes.npy", "wb") as file:
        header = dict(descr=np.lib.format.dtype_to_descr(NOTE_DTYPE), fortran_order=False, shape=(int(ends[-1]),))
        np.lib.format.write_array_header_1_0(file, header)
        for part in parts:
            file.write(part.read_bytes())
            part.unlink()
    np.save(dest / "offsets.npy", np.stack([np.append(0, ends)[:-1], ends], axis=1))
    manifest = source.files.iloc[np.zeros(len(rows), int)].reset_index(drop=True)
    paths = [f"{composer}/{title}.mid" for composer, title, _, _ in rows]
    hashes = [hashlib.sha256(path.encode()).hexdigest() for path in paths]
    composers, titles, n_notes, seconds = map(list, zip(*rows))
    manifest = manifest.assign(path=paths, composer=composers, title=titles, n_notes=n_notes, duration_sec=seconds)
    manifest = manifest.assign(source=paths, work_id=paths, sha256=hashes, notes_hash=[h[:16] for h in hashes])
    manifest.attrs = source.manifest.attrs | dict(data_hash=f"synthetic-{len(rows)}", source="synthetic")
    manifest.to_parquet(dest / "manifest.parquet")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="to make pieces from")
    parser.add_argument("dest", type=Path, help="folder to write")
    parser.add_argument("n", type=int, help="how many pieces")
    parser.add_argument("--corpus", dest="as_corpus", action="store_true", help="write a corpus, not MIDI files")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.dest.mkdir(parents=True, exist_ok=True)
    ranges = [range(begin, min(begin + BATCH, args.n)) for begin in range(0, args.n, BATCH)]
    if not args.as_corpus:
        Parallel(-1)(delayed(write_files)(args.corpus, args.seed, args.dest, numbers) for numbers in ranges)
        return
    parts = [args.dest / f"part{numbers.start}" for numbers in ranges]
    jobs = (delayed(write_part)(args.corpus, args.seed, part, numbers) for part, numbers in zip(parts, ranges))
    rows = [row for made in Parallel(-1)(jobs) for row in made]
    write_corpus(Corpus.open(args.corpus), args.dest, rows, parts)


if __name__ == "__main__":
    main()

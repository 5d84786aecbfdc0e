"""Measure how often a hummed or whistled tune finds its work, and what else is taken for one: results/humming.json.

The singers are those of `sing.py`. They sing openings of melodies and other places of them; the melodies are those that
the index keeps. Other sounds are piano and ensembles played by FluidSynth, speech by espeak-ng, applause and noise.

.venv/bin/python tools/measure_humming.py CORPUS SOUNDFONT      needs fluidsynth and espeak-ng
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import soxr
from measure_concert import applause, pop, speech
from measure_melodies import Collection, interval, opened
from render_audio import RATE, clips, render
from sing import SPAN, Tune, as_sung, hum, room, room_noise, whistle

from composer_classify.audio import SAMPLE_RATE, transcribe_samples
from composer_classify.corpus import Corpus
from composer_classify.humming import A_TUNE, LEGATO, SYLLABLES, pitch_contour, segment_notes, sung_readings
from composer_classify.index import Index
from composer_classify.melodies import upper_voice
from composer_classify.midi import NoteArray
from composer_classify.recordings import find_tune
from composer_classify.results import write_results

ROOT = Path(__file__).resolve().parent.parent
LENGTHS, USUAL = (8, 12, 16), 12  # notes that are sung, and those of the comparison
VOICES = dict(hummed=hum, whistled=whistle)
SOUNDS: dict[str, Callable] = {"clean": lambda sound, rng: sound, "noise": room_noise, "room": room}
CASES = [(name, n) for name in SOUNDS for n in (LENGTHS if name == "clean" else (USUAL,))]
METHODS = ("Basic Pitch", "pitch tracker")
PLACES = ("opening", "any place")
TALKERS = ("en-us", "en-gb+f3", "de", "it+m3", "fr+f2", "es+f4", "en-us+m5", "nl")
TOP = 5


def resampled(sound: np.ndarray) -> np.ndarray:
    "The sound as it is listened to."
    return soxr.resample(sound, RATE, SAMPLE_RATE).astype(np.float32)


def melodies(collection: Collection, n: int, rng: np.random.Generator) -> Iterator[tuple[str, int, np.ndarray]]:
    "Place, piece, and onset and pitch of melodies that can be sung, every other one the opening of its piece."
    pieces, longest, found = np.array(list(collection.row)), max(LENGTHS), 0
    while found < n:
        piece = int(rng.choice(pieces))
        melody = np.stack(upper_voice(collection.notes(piece)))
        place, room_left = PLACES[found % 2], melody.shape[1] - longest
        if room_left < 0:
            continue
        first = 0 if place == "opening" else int(rng.integers(room_left + 1))
        part = melody[:, first : first + longest]
        if np.ptp(part[1]) <= SPAN:
            found += 1
            yield place, piece, part


def until(sound: np.ndarray, tune: Tune, n_notes: int) -> np.ndarray:
    "The sound of the first notes of a tune."
    return sound if n_notes == len(tune.onset) else sound[: int((tune.onset[n_notes] - 0.03) * RATE)]


class Works:
    "The names under which a work may be listed."

    def __init__(self, index: Index):
        self.index, self.names = index, defaultdict(set)
        for piece, work in enumerate(index.works):
            self.names[int(work)].add(self.name(index.piece(piece)))

    @staticmethod
    def name(piece: dict) -> tuple[str, str]:
        "Composer, and work or title."
        return piece["composer"], piece["work"] or piece["title"]

    def rank(self, found: list[dict], piece: int) -> float:
        "Of the work of a piece among those that are found; infinite if it is not."
        own = self.names[int(self.index.works[piece])]
        return next((k + 1.0 for k, each in enumerate(found) if self.name(each) in own), np.inf)


def ranks_of(works: Works, sound: np.ndarray, piece: int) -> dict[str, float]:
    "The rank of the right work by each method."
    notes, index = transcribe_samples(sound), works.index
    sung = NoteArray(notes, transcribed=True, sung=sung_readings([sound]))
    return {name: works.rank(find_tune(index, each, TOP), piece) for name, each in zip(METHODS, (notes, sung))}


def ask(collection: Collection, n: int, seed: int) -> list[dict]:
    "Rank of the right work for each melody, voice, sound, length and method."
    index, rng, rows = collection.index, np.random.default_rng(seed), []
    works = Works(index)
    for place, piece, (onset, pitch) in melodies(collection, n, rng):
        exact = {n: works.rank(index.find_melody(pitch[:n].astype(int), TOP), piece) for n in LENGTHS}
        for voice, sing in VOICES.items():
            tune = as_sung(onset, pitch, sing.__name__, rng)
            sung = sing(tune, rng)
            about = dict(voice=voice, place=place)
            for n_notes in LENGTHS:
                rank = works.rank(index.find_melody(tune.pitch[:n_notes], TOP, sung=True), piece)
                rows.append(dict(**about, sound="the notes themselves", notes=n_notes, method="as sung", rank=rank))
                written = dict(sound="the notes themselves", notes=n_notes, method="as written", rank=exact[n_notes])
                rows.append(dict(**about, **written))
            for name, n_notes in CASES:
                sound = resampled(SOUNDS[name](until(sung, tune, n_notes), rng))
                for method, rank in ranks_of(works, sound, piece).items():
                    rows.append(dict(**about, sound=name, notes=n_notes, method=method, rank=rank))
    return rows


def summary(rows: list[dict], by: tuple[str, ...]) -> list[dict]:
    "How often the right work is first, and among the first five."
    groups = defaultdict(list)
    for row in rows:
        groups[tuple(row[name] for name in by)].append(row["rank"])
    found = []
    for key, ranks in groups.items():
        ranks = np.array(ranks)
        shares = {}
        for top in (1, TOP):
            right = int((ranks <= top).sum())
            shares |= {f"top{top}": round(right / len(ranks), 4), f"top{top}_ci95": interval(right, len(ranks))}
        found.append(dict(zip(by, key)) | dict(queries=len(ranks), **shares))
    return found


def other_sounds(corpus: Corpus, soundfont: Path, n: int, seed: int) -> dict[str, list[np.ndarray]]:
    "Sounds of ten seconds that no tune is sung in."
    rng = np.random.default_rng(seed)
    sounds = {"piano": [], "ensemble": []}
    for name, piano in (("piano", True), ("ensemble", False)):
        for clip in clips(corpus, n, 10, piano, rng):
            sounds[name].append(resampled(render(clip.notes, soundfont)[: 10 * RATE]))
    sounds["speech"] = [resampled(speech(talker))[: 10 * SAMPLE_RATE] for talker in TALKERS]
    sounds["applause"] = [resampled(applause(10, rng)) for _ in range(4)]
    sounds["white noise"] = [rng.normal(0, 0.1, 10 * SAMPLE_RATE).astype(np.float32) for _ in range(4)]
    sounds["pop"] = [resampled(pop(soundfont, rng)[: 10 * RATE])]
    return sounds


def mistaken(index: Index, sounds: dict[str, list[np.ndarray]]) -> list[dict]:
    "How many sounds are taken for a tune alone."
    return [
        dict(
            sound=name,
            recordings=len(each),
            basic_pitch=sum(bool(find_tune(index, transcribe_samples(sound), TOP)) for sound in each),
            pitch_tracker=sum(bool(sung_readings([sound])) for sound in each),
        )
        for name, each in sounds.items()
    ]


def milliseconds(collection: Collection, seed: int, n: int = 12) -> dict[str, float]:
    "Median time of each step for twelve notes that are hummed."
    rng, taken = np.random.default_rng(seed), []
    for _, _, (onset, pitch) in melodies(collection, n, rng):
        sound = resampled(hum(as_sung(onset[:USUAL], pitch[:USUAL], "hum", rng), rng))
        moments = [time.perf_counter()]
        contour = pitch_contour(sound)
        moments.append(time.perf_counter())
        readings = [segment_notes(contour, dip).pitch for dip in (SYLLABLES, LEGATO)]
        moments.append(time.perf_counter())
        for reading in readings:
            if len(reading) >= A_TUNE:
                collection.index.find_melody(reading, TOP, sung=True)
        moments.append(time.perf_counter())
        taken.append(np.diff(moments))
    return dict(zip(("pitch", "notes", "search"), (1000 * np.median(taken, axis=0)).round(1).tolist()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("soundfont", type=Path)
    parser.add_argument("--queries", type=int, default=120, help="melodies, each of them hummed and whistled")
    parser.add_argument("--clips", type=int, default=40, help="recordings of piano and of ensembles")
    parser.add_argument("--seed", type=int, default=2028)
    asked = parser.parse_args()
    corpus = Corpus.open(asked.corpus)
    collection = opened(corpus)
    rows = ask(collection, asked.queries, asked.seed)
    usual = [row for row in rows if row["notes"] == USUAL]
    measured = dict(
        found=summary(rows, ("voice", "sound", "method", "notes")),
        found_by_place=summary(usual, ("voice", "sound", "method", "place")),
        others=mistaken(collection.index, other_sounds(corpus, asked.soundfont, asked.clips, asked.seed)),
        milliseconds=milliseconds(collection, asked.seed),
    )
    parameters = dict(queries=asked.queries, clips=asked.clips, seed=asked.seed, soundfont=asked.soundfont.name)
    parameters |= dict(lengths=LENGTHS, span=SPAN, top=TOP)
    write_results(ROOT / "results/humming.json", measured, parameters, corpus.data_hash)


if __name__ == "__main__":
    main()

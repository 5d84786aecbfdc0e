"""Compare the composer that is named for notes and for recordings of them; writes results/audio_style.json.

A minute of each piece is performed, played by FluidSynth, and transcribed. The models are fitted in the folds of the
shipped ones, grouped by work, so that none is trained on a work that it is asked about.

.venv/bin/python tools/measure_audio_style.py CORPUS SOUNDFONT      a soundfont that was used for nothing else
"""

import argparse
from pathlib import Path

import numpy as np
import soxr
from joblib import Parallel, delayed
from measure_melodies import interval
from render_audio import PIANOS, RATE, render

from composer_classify.audio import SAMPLE_RATE, likely_notes, transcribe_samples
from composer_classify.augment import cut_notes, simulate_performance
from composer_classify.best import TRAINING_VIEWS, compare_views, default_settings, fit_scorer
from composer_classify.corpus import Corpus
from composer_classify.evaluation import get_splits
from composer_classify.features import corpus_features, piece_features
from composer_classify.midi import NoteArray
from composer_classify.recognition import MODELS, KernelModel
from composer_classify.results import write_results

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 60.0
EACH = dict(four=40, all=6)  # pieces of each composer, by model


def sample(corpus: Corpus, n: int, seed: int) -> np.ndarray:
    "Positions of `n` files of each composer, of different works."
    files = corpus.files.reset_index(drop=True).sample(frac=1, random_state=seed).drop_duplicates("work_id")
    return np.sort(files.groupby("composer").head(n).index.to_numpy())


def minute(notes: np.ndarray, soundfont: Path, seed: int) -> dict[str, np.ndarray]:
    "A minute from anywhere in a piece: as it is encoded, performed, and transcribed from the sound of that."
    rng, notes = np.random.default_rng(seed), notes[~notes["is_drum"]]
    begin = rng.uniform(0, max(notes["onset_sec"].max() - SECONDS, 0))
    encoded = cut_notes(notes, begin, begin + SECONDS)
    performed = simulate_performance(encoded, rng, beats=False, pedal=notes["program"].max() < PIANOS)
    sound = render(performed, soundfont)[: int((SECONDS + 1) * RATE)]
    heard = transcribe_samples(soxr.resample(sound, RATE, SAMPLE_RATE).astype(np.float32))
    return dict(encoded=encoded, performed=performed, recording=np.asarray(likely_notes(heard)))


def scores_in_folds(corpus: Corpus, positions: np.ndarray, pieces: dict[str, list], seed: int) -> dict[str, np.ndarray]:
    "Scores of each version of the pieces at these positions, `(pieces, composers)`, by models of other works."
    views, truth = [corpus_features(corpus, view) for view in TRAINING_VIEWS.values()], corpus.labels
    landmarks, settings = compare_views(views, truth), default_settings(len(corpus.composers))
    queries = {name: piece_features(each) for name, each in pieces.items()}
    scores = {name: np.full((len(positions), len(corpus.composers)), -np.inf) for name in queries}
    for train, test in get_splits(corpus, 5, seed):
        scorer, known = fit_scorer(views, truth[train], landmarks, train, **settings), np.unique(truth[train])
        asked = np.flatnonzero(np.isin(positions, test))
        for name, features in queries.items():
            scores[name][np.ix_(asked, known)] = scorer.decision_function(features[asked])
    return scores


def summary(scores: np.ndarray, truth: np.ndarray) -> dict:
    "How often the composer is the first, and one of the first five."
    rank = (scores > scores[np.arange(len(truth)), truth][:, None]).sum(axis=1)
    first, among = int((rank == 0).sum()), int((rank < 5).sum())
    shares = dict(accuracy=round(first / len(truth), 4), top5=round(among / len(truth), 4))
    return dict(pieces=len(truth), **shares, ci95=interval(first, len(truth)))


def table(corpus: Corpus, n: int, soundfont: Path, seed: int) -> list[dict]:
    "Rows for each version of the pieces, for keyboard music, for the rest, and for all."
    positions = sample(corpus, n, seed)
    notes = [np.asarray(corpus.notes(row)) for row in corpus.files.index[positions]]
    jobs = (delayed(minute)(each, soundfont, seed + int(k)) for each, k in zip(notes, positions))
    minutes = Parallel(-1, verbose=2)(jobs)
    pieces = {name: [NoteArray(each[name]) for each in minutes] for name in minutes[0]}
    scores, truth = scores_in_folds(corpus, positions, pieces, seed), corpus.labels[positions]
    keyboard = np.array([each["program"].max() < PIANOS for each in notes])
    kinds = {"all": np.ones(len(truth), bool), "keyboard": keyboard, "other": ~keyboard}
    return [
        dict(music=music, notes=name, **summary(each[rows], truth[rows]))
        for music, rows in kinds.items()
        if rows.any()
        for name, each in scores.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("soundfont", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    corpus, found = Corpus.open(args.corpus), {}
    for model, n in EACH.items():
        part = corpus.select(KernelModel.load(MODELS[model]).about["composers"])
        found[model] = table(part, n, args.soundfont, args.seed)
        print(model, *found[model], sep="\n", flush=True)
    parameters = dict(soundfont=args.soundfont.name, seconds=SECONDS, each=EACH, seed=args.seed)
    write_results(ROOT / "results" / "audio_style.json", found, parameters, corpus.data_hash)


if __name__ == "__main__":
    main()

"""Train the small network that decides which onsets are notes; writes weights/transcription/decoder.npz.

Pieces of a corpus are played with soundfonts, clean and spoiled in one of four ways each.

.venv/bin/python tools/train_decoder.py CORPUS SOUNDFONT SOUNDFONT
"""

import argparse
from pathlib import Path

import keras
import numpy as np
import soxr
from joblib import Parallel, delayed
from render_audio import RATE, SOUNDS, Clip, clips, render

from composer_classify.audio import SAMPLE_RATE, TRANSCRIPTION, onset_evidence
from composer_classify.corpus import Corpus
from composer_classify.files import save_sealed

SECONDS, PIANO, ENSEMBLES = 15.0, 250, 350  # of a clip; clips for each soundfont
HELD_OUT = 10  # one clip in ten is not trained on
UNITS, EPOCHS, BATCH = (128, 64), 14, 1024


def is_note(seconds: np.ndarray, pitch: np.ndarray, notes: np.ndarray) -> np.ndarray:
    "Which onsets are notes: for each note the nearest one of its pitch within 50 ms."
    right = np.zeros(len(seconds), bool)
    for key in np.unique(pitch):
        rows = np.flatnonzero(pitch == key)
        for second in notes["onset_sec"][notes["pitch"] == key]:
            away = np.abs(seconds[rows] - second)
            if away.min() <= 0.05:
                right[rows[away.argmin()]] = True
    return right


def examples(clip: Clip, number: int, soundfont: Path) -> list[tuple[np.ndarray, np.ndarray, int]]:
    "Evidence, whether it is a note, and how many notes there are; for the clean and for one spoiled clip."
    rng, found = np.random.default_rng(number), []
    clean = render(clip.notes, soundfont)[: int(SECONDS * RATE)]
    notes = clip.notes[clip.notes["onset_sec"] < SECONDS - 0.1]
    for sound in ("clean", list(SOUNDS)[1 + number % 4]):
        samples = soxr.resample(SOUNDS[sound](clean, rng).astype(np.float32), RATE, SAMPLE_RATE)
        seconds, pitch, evidence = onset_evidence(samples)
        found.append((evidence.astype(np.float16), is_note(seconds, pitch, notes), len(notes)))
    return found


def fitted(evidence: np.ndarray, right: np.ndarray) -> list[np.ndarray]:
    "Weights and biases of the layers, for evidence as it is."
    keras.utils.set_random_seed(0)
    mean, scale = evidence.mean(axis=0), evidence.std(axis=0) + 1e-3
    layers = [keras.layers.Dense(n, "relu") for n in UNITS] + [keras.layers.Dense(1, "sigmoid")]
    network = keras.Sequential([keras.Input(evidence.shape[1:]), *layers])
    rate = keras.optimizers.schedules.CosineDecay(2e-3, EPOCHS * len(evidence) // BATCH)
    network.compile(keras.optimizers.AdamW(rate, weight_decay=1e-4), "binary_crossentropy")
    network.fit((evidence - mean) / scale, right.astype(np.float32), batch_size=BATCH, epochs=EPOCHS, verbose=2)
    weights = network.get_weights()
    weights[0] /= scale[:, None]
    weights[1] -= mean @ weights[0]
    return weights


def probability(weights: list[np.ndarray], evidence: np.ndarray) -> np.ndarray:
    "What the network says."
    for weight, bias in zip(weights[:-2:2], weights[1:-2:2]):
        evidence = np.maximum(evidence @ weight + bias, 0)
    return 1 / (1 + np.exp(-(evidence @ weights[-2] + weights[-1])[:, 0]))


def best_f1(said: np.ndarray, right: np.ndarray, n_notes: int) -> tuple[float, float]:
    "The highest F1 of any threshold, and that threshold."
    order = np.argsort(-said)
    f1 = 2 * np.cumsum(right[order]) / (np.arange(1, len(order) + 1) + n_notes)
    return round(float(f1.max()), 4), round(float(said[order][f1.argmax()]), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("soundfonts", type=Path, nargs="+")
    args = parser.parse_args()
    corpus, rng = Corpus.open(args.corpus), np.random.default_rng(11)
    jobs = [
        (clip, soundfont)
        for soundfont in args.soundfonts
        for piano, n in ((True, PIANO), (False, ENSEMBLES))
        for clip in clips(corpus, n, SECONDS, piano, rng)
    ]
    made = Parallel(-1, verbose=2)(delayed(examples)(clip, k, font) for k, (clip, font) in enumerate(jobs))
    apart = [k % HELD_OUT == 0 for k in range(len(made))]
    trained, held = (
        sum((each for each, is_held in zip(made, apart) if is_held is which), []) for which in (False, True)
    )
    weights = fitted(*(np.concatenate([each[k] for each in trained]).astype(np.float32) for k in (0, 1)))
    evidence, right = (np.concatenate([each[k] for each in held]) for k in (0, 1))
    f1, threshold = best_f1(probability(weights, evidence.astype(np.float32)), right, sum(each[2] for each in held))
    about = dict(soundfonts=[path.name for path in args.soundfonts], clips=len(jobs), data_hash=corpus.data_hash)
    about |= dict(held_out_f1=f1, threshold=threshold)
    arrays = {f"{k // 2}_{'weights' if k % 2 == 0 else 'with_bias'}": each for k, each in enumerate(weights)}
    save_sealed(TRANSCRIPTION / "decoder.npz", about, arrays)
    print(about)


if __name__ == "__main__":
    main()

"""Measure how well recordings are identified; writes results/audio.json.

Pieces of a corpus are played by FluidSynth, in another key and at another tempo, and spoiled in four ways. Each query
is asked of the shipped index with its work in it, and again without it. Without it the same music may still be there:
another setting of the chorale, or a file of a whole set. It counts as the same if the notes themselves are named so.

.venv/bin/python tools/measure_audio.py CORPUS SOUNDFONT           with a soundfont that was used for nothing else
.venv/bin/python tools/measure_audio.py CORPUS SOUNDFONT… --fit    prints the weights of `recordings.CERTAINTY`
.venv/bin/python tools/measure_audio.py CORPUS SOUNDFONT --transcriber transkun --sounds clean --ensembles 0 --out FILE
"""

import argparse
import io
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import soundfile
from joblib import Parallel, delayed
from measure_melodies import interval
from render_audio import RATE, SOUNDS, Clip, clips, render

from composer_classify.audio import TRANSCRIBERS, likely_notes, transcribe
from composer_classify.augment import cut_notes
from composer_classify.corpus import Corpus
from composer_classify.fingerprints import KNOWN
from composer_classify.index import Index
from composer_classify.recognition import PIECES
from composer_classify.recordings import match_recording
from composer_classify.results import write_results

ROOT = Path(__file__).resolve().parent.parent
SECONDS = (10.0, 20.0)


def onset_counts(played: np.ndarray, heard: np.ndarray) -> tuple[int, int, int]:
    "Notes that were heard within 50 ms, that were played, and that were heard at all."
    right = 0
    for pitch in np.unique(played["pitch"]):
        a, b = (np.sort(each["onset_sec"][each["pitch"] == pitch]) for each in (played, heard))
        at = 0
        for second in a:
            at += np.searchsorted(b[at:], second - 0.05)
            if at < len(b) and b[at] <= second + 0.05:
                right, at = right + 1, at + 1
    return right, len(played), len(heard)


def same_music(index: Index, notes: np.ndarray, work: int) -> set[int]:
    "Other works that the notes themselves are named as, if their own is not in the index."
    matches = [index.query(cut_notes(notes, 0, seconds), work) for seconds in SECONDS]
    return {int(index.works[match.piece]) for match in matches if match is not None and match.score >= KNOWN}


def asked(index: Index, query, notes: np.ndarray, work: int, same: set[int]) -> list[dict]:
    "What is found for notes with their work in the index, and without it."
    found = []
    for without in (None, work):
        begin = time.perf_counter()
        match = query(index, notes, without)
        right = match is not None and index.works[match.piece] == work
        score, evidence = (match.score, list(match.evidence)) if match else (0.0, [0.0] * 4)
        row = dict(known=without is None, right=bool(right), score=score, evidence=evidence)
        row["same"] = match is not None and int(index.works[match.piece]) in same
        found.append(dict(row, taken=time.perf_counter() - begin))
    return found


def as_wav(sound: np.ndarray) -> bytes:
    "Sound as the content of a file."
    file = io.BytesIO()
    soundfile.write(file, sound, RATE, format="WAV", subtype="FLOAT")
    return file.getvalue()


def of_clip(
    clip: Clip, work: int, music: str, soundfont: Path, seed: int, sounds: list[str], transcriber: str
) -> list[dict]:
    "What is found for one clip, for each sound and length, and for the notes themselves."
    index, rng, rows = Index.load(PIECES), np.random.default_rng(seed), []
    same = same_music(index, clip.notes, work)

    def ask(sound: str, notes: np.ndarray, query, more: dict) -> None:
        for seconds in SECONDS:
            for found in asked(index, query, cut_notes(notes, 0, seconds), work, same):
                rows.append(dict(music=music, sound=sound, seconds=seconds, **more, **found))

    ask("notes", clip.notes, Index.query, {})
    clean = render(clip.notes, soundfont)[: int((max(SECONDS) + 1) * RATE)]
    for sound in sounds:
        recording, begin = as_wav(SOUNDS[sound](clean, rng)), time.perf_counter()
        notes = transcribe(recording, transcriber=transcriber)
        taken = (time.perf_counter() - begin) / (len(clean) / RATE)
        onsets = onset_counts(cut_notes(clip.notes, 0, 20), cut_notes(likely_notes(notes), 0, 20))
        ask(sound, notes, match_recording, dict(onsets=onsets, transcribed_in=taken))
    return rows


def summary(rows: list[dict]) -> dict:
    "Shares of the queries of one kind, with intervals."
    known, unknown = ([row for row in rows if row["known"] is which] for which in (True, False))
    named = [row["score"] >= KNOWN for row in known]
    counts = dict(
        first=sum(row["right"] for row in known),
        named=sum(row["right"] and is_named for row, is_named in zip(known, named)),
        wrong=sum(not row["right"] and is_named for row, is_named in zip(known, named)),
        unknown_named=sum(row["score"] >= KNOWN and not row["same"] for row in unknown),
        unknown_same=sum(row["score"] >= KNOWN and row["same"] for row in unknown),
    )
    shares = {name: round(n / len(known), 4) for name, n in counts.items()}
    found = dict(queries=len(known), **shares, ci95={name: interval(n, len(known)) for name, n in counts.items()})
    found["query_ms"] = round(1000 * float(np.median([row["taken"] for row in rows])), 1)
    if "onsets" in rows[0]:
        right, played, heard = np.sum([row["onsets"] for row in known], axis=0)
        found["onset_f1"] = round(2 * right / (played + heard), 4)
        found["transcription_ms_per_second"] = round(
            1000 * float(np.median([row["transcribed_in"] for row in known])), 1
        )
    return found


def weights(rows: list[dict]) -> list[float]:
    "A logistic regression of whether a match is right, on its evidence."
    from sklearn.linear_model import LogisticRegression

    heard = [row for row in rows if row["sound"] != "notes"]
    right = [row["known"] and row["right"] for row in heard]
    fitted = LogisticRegression(C=100, max_iter=1000).fit([row["evidence"] for row in heard], right)
    return [round(float(value), 2) for value in (fitted.intercept_[0], *fitted.coef_[0])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("soundfonts", type=Path, nargs="+")
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--piano", type=int, default=200, help="clips of keyboard music")
    parser.add_argument("--ensembles", type=int, default=100, help="clips of several instruments")
    parser.add_argument("--sounds", nargs="+", choices=SOUNDS, default=list(SOUNDS))
    parser.add_argument("--transcriber", choices=TRANSCRIBERS, default=TRANSCRIBERS[0])
    parser.add_argument("--seed", type=int, default=2024)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "audio.json")
    args = parser.parse_args()
    corpus, index, rng = Corpus.open(args.corpus), Index.load(PIECES), np.random.default_rng(args.seed)
    work = dict(zip(index.table["file"].tolist(), index.works.tolist()))
    jobs = [
        (
            clip,
            work[int(corpus.files.at[clip.row, "sha256"][:16], 16)],
            music,
            soundfont,
            args.seed + clip.row,
            args.sounds,
            args.transcriber,
        )
        for soundfont in args.soundfonts
        for music, n in (("piano", args.piano), ("ensemble", args.ensembles))
        for clip in clips(corpus, n, max(SECONDS) + 2, music == "piano", rng)
    ]
    rows = sum(Parallel(-1, verbose=2)(delayed(of_clip)(*job) for job in jobs), [])
    if args.fit:
        print(weights(rows))
        return
    groups = defaultdict(list)
    for row in rows:
        groups[row["music"], row["sound"], row["seconds"]].append(row)
    table = [
        dict(music=music, sound=sound, seconds=seconds, **summary(group))
        for (music, sound, seconds), group in groups.items()
    ]
    parameters = dict(soundfonts=[font.name for font in args.soundfonts], seed=args.seed, pieces=len(index))
    parameters["transcriber"] = args.transcriber
    write_results(args.out, dict(identification=table), parameters, corpus.data_hash)


if __name__ == "__main__":
    main()

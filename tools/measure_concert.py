"""Let a rendered concert of an hour and other sounds be answered; writes results/concert.json.

Ten pieces are played by FluidSynth, with applause and an announcement between them.

.venv/bin/python tools/measure_concert.py CORPUS SOUNDFONT      needs fluidsynth, ffmpeg and espeak-ng
"""

import argparse
import io
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
import soxr
from render_audio import PIANOS, RATE, render

from composer_classify.corpus import Corpus
from composer_classify.index import Index
from composer_classify.midi import NOTE_DTYPE, MusicLoadError
from composer_classify.recognition import PIECES, Recognizer
from composer_classify.results import write_results

ROOT = Path(__file__).resolve().parent.parent
PIECES_PLAYED, SECONDS = 10, (310, 520)  # of a concert, and how long a piece of it lasts
HALL = 0.02  # loudness of noise that is always there
SPEECH = (
    "Thank you very much. The next piece on our programme was written when its composer was still young. "
    "Please switch off your telephones, and enjoy the second half of the concert."
)


def applause(seconds: float, rng: np.random.Generator) -> np.ndarray:
    "Hands of many people: short bursts of noise at random times, that grow and fade."
    sound = np.zeros(int(seconds * RATE), np.float32)
    burst = np.exp(-np.arange(int(0.03 * RATE)) / (0.005 * RATE))
    for at in rng.integers(0, len(sound) - len(burst), int(150 * seconds)):
        sound[at : at + len(burst)] += rng.normal(size=len(burst)) * burst * rng.uniform(0.02, 0.1)
    return sound * np.sin(np.linspace(0, np.pi, len(sound))) ** 0.5


def speech(talker: str = "en") -> np.ndarray:
    "The announcement as a voice of espeak-ng reads it, at `RATE`."
    command = ["espeak-ng", "-v", talker, "--stdout", SPEECH]
    spoken = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    sound, rate = soundfile.read(io.BytesIO(spoken), dtype="float32")
    return 0.5 * soxr.resample(sound, rate, RATE)


def programme(corpus: Corpus, rng: np.random.Generator) -> list[int]:
    "Rows of ten keyboard pieces of different composers."
    rows, composers = [], set()
    for row in rng.permutation(corpus.files.index):
        notes, composer = corpus.notes(row), corpus.files.at[row, "composer"]
        lasts = SECONDS[0] < notes["onset_sec"].max(initial=0) < SECONDS[1]
        if lasts and composer not in composers and notes["program"].max() < PIANOS and not notes["is_drum"].any():
            rows.append(int(row))
            composers.add(composer)
        if len(rows) == PIECES_PLAYED:
            break
    return rows


def concert(
    corpus: Corpus, rows: list[int], soundfont: Path, rng: np.random.Generator
) -> tuple[np.ndarray, list[dict]]:
    "The sound of a concert, and what is played when."
    parts, played, at = [applause(10, rng)], [], 10.0
    for row in rows:
        notes = corpus.notes(row).copy()
        notes["program"], speed = 0, rng.uniform(0.85, 1.15)
        notes["onset_sec"] /= speed
        notes["duration_sec"] /= speed
        notes["velocity"] = np.clip(notes["velocity"].astype(int) + rng.integers(-12, 13, len(notes)), 20, 120)
        music = 2 * render(notes, soundfont)
        begin, end = float(notes["onset_sec"].min()), float((notes["onset_sec"] + notes["duration_sec"]).max())
        played.append(dict(row=row, start_sec=round(at + begin, 1), end_sec=round(at + end, 1)))
        parts += [music[: int((end + 1) * RATE)], applause(12, rng), speech()]
        at += sum(map(len, parts[-3:])) / RATE
    sound = np.concatenate(parts)
    return (sound + HALL * np.abs(sound).mean() * rng.normal(size=len(sound))).astype(np.float32), played


def pop(soundfont: Path, rng: np.random.Generator) -> np.ndarray:
    "Thirty seconds of a song with four chords, bass, drums and a tune of its own."
    rows = []
    chords = [(60, 64, 67), (55, 59, 62), (57, 60, 64), (53, 57, 60)]
    for beat in range(60):
        chord = chords[beat // 4 % 4]
        rows += [(beat / 2, 0.4, pitch, 27, False) for pitch in chord] + [(beat / 2, 0.4, chord[0] - 24, 33, False)]
        rows += [(beat / 2, 0.2, 36 if beat % 2 == 0 else 38, 0, True), (beat / 2 + 0.25, 0.1, 42, 0, True)]
        rows.append((beat / 2, 0.45, int(rng.choice(chord)) + 12, 80, False))
    notes = np.zeros(len(rows), NOTE_DTYPE)
    for name, column in zip(("onset_sec", "duration_sec", "pitch", "program", "is_drum"), zip(*rows)):
        notes[name] = column
    notes["velocity"] = 90
    return render(notes, soundfont)


def answer(recognizer: Recognizer, sound: np.ndarray) -> str:
    "What is said about a sound."
    file = io.BytesIO()
    soundfile.write(file, sound, RATE, format="WAV")
    try:
        found = recognizer.predict(file.getvalue())
    except MusicLoadError as error:
        return error.reason
    if found.by == "piece":
        return f"piece: {found.piece['title']}"
    tunes = f"; {len(found.candidates)} candidates for a tune" if found.candidates else ""
    return f"unknown piece; style {found.composer} {found.probability:.0%}, {'' if found.known else 'not '}known{tunes}"


PROGRAM = """
import sys
from composer_classify.cli import main
main(["predict", "--json", sys.argv[1]])
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")), file=sys.stderr)
"""  # not `ru_maxrss`, which a process inherits from the one that starts it


def answered(path: Path) -> tuple[dict, float, float]:
    "The answer of the command line for a file, in a process of its own; its seconds and its largest memory in MB."
    begin = time.perf_counter()
    run = subprocess.run([sys.executable, "-c", PROGRAM, path], capture_output=True, text=True, check=True)
    taken = round(time.perf_counter() - begin, 1)
    return json.loads(run.stdout)[0], taken, round(int(run.stderr.split()[-1]) / 1000)


def compared(index: Index, played: list[dict], found: list[dict], corpus: Corpus) -> list[dict]:
    "Each piece of the programme with what was found while it was played."
    number = {file: k for k, file in enumerate(index.table["file"].tolist())}
    rows = []
    for each in played:
        own = index.piece(number[int(corpus.files.at[each["row"], "sha256"][:16], 16)])
        inside = [f for f in found if f["start_sec"] < each["end_sec"] and f["end_sec"] > each["start_sec"]]
        right = [
            f
            for f in inside
            if (f["composer"], f["work"] or f["title"]) == (own["composer"], own["work"] or own["title"])
        ]
        row = dict(composer=own["composer"], title=own["title"], start_sec=each["start_sec"], end_sec=each["end_sec"])
        row |= dict(found=[f["title"] for f in inside], right=bool(right), others=len(inside) - len(right))
        if right:
            row |= dict(found_start=right[0]["start_sec"], found_end=right[-1]["end_sec"])
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("soundfont", type=Path)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "concert.json")
    args = parser.parse_args()
    corpus, index, rng = Corpus.open(args.corpus), Index.load(PIECES), np.random.default_rng(args.seed)
    sound, played = concert(corpus, programme(corpus, rng), args.soundfont, rng)
    with tempfile.TemporaryDirectory() as folder:
        path, minute = Path(folder, "concert.flac"), Path(folder, "minute.flac")
        soundfile.write(path, sound, RATE)
        soundfile.write(minute, sound[: 60 * RATE], RATE)
        answer_of_all, taken, megabytes = answered(path)
        _, _, of_minute = answered(minute)
    found = answer_of_all["pieces"]
    rows = compared(index, played, found, corpus)
    recognizer, noise = Recognizer.load(), rng.normal(size=20 * RATE)
    sounds = dict(silence=np.zeros(20 * RATE), noise=0.1 * noise, speech=speech(), applause=applause(20, rng))
    sounds |= dict(pop=pop(args.soundfont, rng), hum=0.1 * np.sin(2 * np.pi * 50 * np.arange(20 * RATE) / RATE))
    said = {name: answer(recognizer, each) for name, each in sounds.items()}
    seconds = dict(concert=round(len(sound) / RATE), all=taken)
    memory = dict(concert=megabytes, minute=of_minute)
    measured = dict(programme=rows, found=found, seconds=seconds, megabytes=memory, other_sounds=said)
    write_results(args.out, measured, dict(soundfont=args.soundfont.name, seed=args.seed), corpus.data_hash)


if __name__ == "__main__":
    main()

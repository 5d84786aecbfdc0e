"""Play pieces of a corpus with FluidSynth, and spoil the sound; for `train_decoder.py` and `measure_audio.py`.

Needs the programs fluidsynth and ffmpeg, and soundfonts, none of which come with this package.
"""

import io
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import mido
import numpy as np
import soundfile
from scipy.signal import butter, fftconvolve, sosfilt

from composer_classify.augment import cut_notes, simulate_performance
from composer_classify.corpus import Corpus

RATE = 44_100
PIANOS = 8  # MIDI programs below this are keyboards


def write_midi(notes: np.ndarray, path: Path) -> None:
    "The notes as a MIDI file, in milliseconds, with a channel for each program."
    programs = np.unique(notes["program"])[:15]
    channel = {int(program): k if k < 9 else k + 1 for k, program in enumerate(programs)}
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=1_000_000)])
    track += [mido.Message("program_change", channel=k, program=program) for program, k in channel.items()]
    events = []
    for note in notes:
        number = 9 if note["is_drum"] else channel.get(int(note["program"]), 0)
        key = dict(channel=number, note=int(note["pitch"]))
        begin, end = (int(1000 * second) for second in (note["onset_sec"], note["onset_sec"] + note["duration_sec"]))
        events += [(begin, 1, dict(key, velocity=int(note["velocity"]))), (max(end, begin + 1), 0, key)]
    now = 0
    for tick, is_on, key in sorted(events, key=lambda event: event[:2]):
        track.append(mido.Message("note_on" if is_on else "note_off", time=tick - now, **key))
        now = tick
    mido.MidiFile(tracks=[track], ticks_per_beat=1000).save(path)


def render(notes: np.ndarray, soundfont: Path) -> np.ndarray:
    "The sound of notes, one channel at `RATE`."
    with tempfile.TemporaryDirectory() as folder:
        midi, sound = Path(folder, "a.mid"), Path(folder, "a.wav")
        write_midi(notes, midi)
        lazily = ("-o", "synth.dynamic-sample-loading=1")  # only what is played, which is far less
        command = ["fluidsynth", "-ni", "-q", *lazily, "-g", "0.6", "-r", str(RATE), "-F", sound, soundfont, midi]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return soundfile.read(sound, dtype="float32", always_2d=True)[0].mean(axis=1)


def reverb(sound: np.ndarray, rng: np.random.Generator, seconds: float = 1.5) -> np.ndarray:
    "The sound in a hall whose echo fades by 60 dB in so many seconds and is half as strong."
    echo = rng.normal(size=int(seconds * RATE)) * 10 ** np.linspace(0, -3, int(seconds * RATE))
    echo *= 0.5 / np.sqrt((echo**2).sum())
    echo[0] = 1
    return fftconvolve(sound, echo)[: len(sound)]


def noise(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    "The sound with white noise 15 dB below it."
    return sound + rng.normal(size=len(sound)) * np.sqrt((sound**2).mean() * 10**-1.5)


def telephone(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    "The sound between 300 and 3,400 Hz."
    return sosfilt(butter(4, [300, 3400], "bandpass", fs=RATE, output="sos"), sound)


def mp3(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    "The sound as MP3 of 64 kbit/s."
    file = io.BytesIO()
    soundfile.write(file, np.clip(sound, -1, 1), RATE, format="WAV")
    command = ["ffmpeg", "-v", "error", "-i", "pipe:0", "-b:a", "64k", "-f", "mp3", "pipe:1"]
    coded = subprocess.run(command, input=file.getvalue(), stdout=subprocess.PIPE, check=True).stdout
    return soundfile.read(io.BytesIO(coded), dtype="float32")[0]


SOUNDS: dict[str, Callable] = {
    "clean": lambda sound, rng: sound,
    "reverb": reverb,
    "noise": noise,
    "telephone": telephone,
    "mp3": mp3,
}


@dataclass(frozen=True)
class Clip:
    "Some seconds of a piece as somebody could play them."

    row: int  # Of the corpus
    notes: np.ndarray
    begin: float  # Second of the piece
    speed: float  # By how much it is played faster


def performed(notes: np.ndarray, rng: np.random.Generator, seconds: float, row: int, piano: bool) -> Clip:
    """Some seconds from anywhere in a piece, in another key and at another tempo, played by `simulate_performance`.

    Only a piano is played with the pedal."""
    speed, step = rng.uniform(0.8, 1.25), int(rng.integers(-5, 7))
    begin = rng.uniform(0, max(notes["onset_sec"].max() - seconds * speed, 0))
    part = cut_notes(notes, begin, begin + seconds * speed)
    part["onset_sec"] /= speed
    part["duration_sec"] /= speed
    part = simulate_performance(part, rng, beats=False, pedal=piano)
    part["pitch"] = np.clip(part["pitch"].astype(int) + step, 0, 127)
    if piano:
        part["program"] = 0
    return Clip(row, part[np.argsort(part["onset_sec"], kind="stable")], float(begin), float(speed))


def clips(corpus: Corpus, n: int, seconds: float, piano: bool, rng: np.random.Generator) -> Iterator[Clip]:
    "`n` clips of different works: of keyboard pieces, or of pieces for several instruments."
    files, works = corpus.files, set()
    for row in rng.permutation(files.index):
        notes = corpus.notes(row)
        notes = notes[~notes["is_drum"]]
        programs = np.unique(notes["program"])
        fits = len(notes) >= 100 and notes["onset_sec"].max() > 1.3 * seconds and files.at[row, "work_id"] not in works
        if fits and (programs.max() < PIANOS if piano else len(programs) > 1 and programs.max() >= PIANOS):
            clip = performed(notes, rng, seconds, row, piano)
            if len(clip.notes) >= 2 * seconds:
                works.add(files.at[row, "work_id"])
                yield clip
        if len(works) == n:
            return

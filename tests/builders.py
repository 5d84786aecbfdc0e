"""Small MIDI files and zip archives, event by event and record by record, so that each flaw is easy to write down; note
arrays, and folders of made-up composers."""

import io
import os
import signal
import struct
import subprocess
import sys
import time
import warnings
import zipfile
from pathlib import Path

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from composer_classify.augment import stretch
from composer_classify.midi import NOTE_DTYPE

MORE = int(os.environ.get("FUZZ", 0))


def thorough(n: int):
    "Settings for `n` examples, always the same ones; with `FUZZ=100` a hundred times as many, at random."
    return settings(max_examples=examples(n), derandomize=MORE < 2, deadline=None, database=None)


def examples(n: int) -> int:
    "How many of `n` examples are tried: a quarter in `make test`, all in `make test-full` (`FUZZ=1`), or more."
    return n * MORE or max(n // 4, 10)


END = b"\x00\xff\x2f\x00"


def varlen(number: int) -> bytes:
    "A number as MIDI writes delta times: seven bits a byte."
    out = [number & 127]
    while number := number >> 7:
        out.insert(0, number & 127 | 128)
    return bytes(out)


def on(key: int, delta: int = 0, velocity: int = 80, channel: int = 0) -> bytes:
    return varlen(delta) + bytes([0x90 | channel, key, velocity])


def off(key: int, delta: int = 0, channel: int = 0) -> bytes:
    return varlen(delta) + bytes([0x80 | channel, key, 0])


def meta(kind: int, content: bytes, delta: int = 0) -> bytes:
    return varlen(delta) + bytes([0xFF, kind]) + varlen(len(content)) + content


def tempo(micros: int, delta: int = 0) -> bytes:
    "A tempo change, in microseconds a quarter note."
    return meta(0x51, micros.to_bytes(3, "big"), delta)


def control(number: int, value: int, delta: int = 0) -> bytes:
    return varlen(delta) + bytes([0xB0, number, value])


def scale(first: int = 60, n: int = 4, length: int = 240) -> bytes:
    "The events of a few keys one after another."
    return b"".join(on(first + i) + off(first + i, length) for i in range(n))


def smf(tracks: list[bytes], division: int = 480, format: int = 1, n_tracks: int = None) -> bytes:
    "A MIDI file of raw tracks. Nothing is added or checked: `END` is yours to write, `n_tracks` yours to get wrong."
    header = struct.pack(
        ">4sIHHH", b"MThd", 6, format, len(tracks) if n_tracks is None else n_tracks, division & 0xFFFF
    )
    return header + b"".join(b"MTrk" + struct.pack(">I", len(track)) + track for track in tracks)


def piece(first: int = 60, n: int = 4) -> bytes:
    "A sound file; another first key gives another piece."
    return smf([scale(first, n) + END])


def riff(data: bytes) -> bytes:
    "The RIFF envelope of an `RMID` file."
    return (
        b"RIFF"
        + struct.pack("<I", len(data) + 12)
        + b"RMIDdata"
        + struct.pack("<I", len(data))
        + data
        + bytes(len(data) % 2)
    )


def make_zip(members: list[tuple[str | zipfile.ZipInfo, bytes]]) -> bytes:
    "A zip archive; names go in as they are, hostile and repeated ones too."
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")  # zipfile warns of repeated names
        for name, content in members:
            archive.writestr(name, content)
    return out.getvalue()


def patch_zip(archive: bytes, offset_local: int, offset_central: int, format: str, change) -> bytes:
    "The archive with one field of every local header and every central record changed."
    out = bytearray(archive)
    for signature, offset in ((b"PK\x03\x04", offset_local), (b"PK\x01\x02", offset_central)):
        at = out.find(signature)
        while at >= 0:
            struct.pack_into(format, out, at + offset, change(*struct.unpack_from(format, out, at + offset)))
            at = out.find(signature, at + 4)
    return bytes(out)


def without_utf8_flag(archive: bytes) -> bytes:
    "The archive as old tools write it: bytes in UTF-8, and nothing that says so."
    return patch_zip(archive, 6, 8, "<H", lambda flags: flags & ~0x800)


def encrypted(archive: bytes) -> bytes:
    "The archive with each member said to be encrypted."
    return patch_zip(archive, 6, 8, "<H", lambda flags: flags | 1)


def lying(archive: bytes, size: int) -> bytes:
    "The archive with each member said to unpack to `size` bytes."
    return patch_zip(archive, 22, 24, "<I", lambda _: size)


def overlapping(archive: bytes, times: int) -> bytes:
    "An archive of one member listed many times over, all of them the same compressed bytes."
    directory, end = archive.index(b"PK\x01\x02"), archive.index(b"PK\x05\x06")
    records = archive[directory:end] * times
    count = min(times, 0xFFFF)
    return (
        archive[:directory]
        + records
        + struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, count, count, len(records), directory, 0)
    )


@st.composite
def pieces(draw) -> np.ndarray:
    "Any note array: chords, drums, shortest and longest notes, all keys, or nothing."
    row = st.tuples(
        st.sampled_from([0.0, 1e-4, 0.01, 0.25, 1.0, 1000.0]),
        st.integers(0, 127),
        st.sampled_from([1e-6, 0.02, 0.5, 4.0, 500.0]),
        st.booleans(),
    )
    rows = draw(st.lists(row, max_size=40))
    notes = np.zeros(len(rows), NOTE_DTYPE)
    steps, notes["pitch"], notes["duration_beat"], notes["is_drum"] = np.array(rows, float).reshape(-1, 4).T
    notes["onset_beat"] = np.cumsum(steps)
    return notes[np.lexsort((notes["pitch"], notes["onset_beat"]))]


def by_hand(*notes: tuple[float, int, bool]) -> np.ndarray:
    "A note array from onsets, pitches and whether they are drums."
    return np.array([(onset / 2, 0.5, onset, 1, pitch, 80, 0, 0, drum) for onset, pitch, drum in notes], NOTE_DTYPE)


def in_other_clothes(notes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    "The same notes with other loudness, instruments, tracks and tempo."
    notes = stretch(notes, rng.uniform(0.3, 3))
    for name in ("velocity", "program", "track"):
        notes[name] = rng.integers(1, 127, len(notes))
    return notes


def tune(seed: int, steps: list[int], n: int = 60) -> bytes:
    "A piece of random notes that moves by these steps."
    rng = np.random.default_rng(seed)
    keys = 40 + np.cumsum(rng.choice(steps, n)) % 48
    return smf(
        [
            b"".join(
                on(int(key)) + off(int(key), int(length)) for key, length in zip(keys, rng.choice([120, 240, 480], n))
            )
            + END
        ]
    )


STEPS = {
    "Ada": [-3, -2, -1, 1, 2, 3],
    "Bob": [-11, -9, -7, 7, 9, 11],
    "Eve": [-3, -2, -1, 1, 2, 3, 4],
    "Solo": [-5, -4, 4, 5],
}


def write_tunes(folder: Path, **n_pieces: int) -> Path:
    "A folder of composer folders; what Ada writes moves by steps, Eve hardly otherwise, and Bob by leaps."
    for k, (composer, n) in enumerate(n_pieces.items()):
        (folder / composer).mkdir(parents=True)
        for i in range(n):
            (folder / composer / f"Tune {'abcdefghijkl'[i]}.mid").write_bytes(tune(100 * k + i, STEPS[composer]))
    return folder


CONTRACT = [  # of `evaluate --json`
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "top5",
    "per_composer",
    "confusion",
    "n_files",
    "n_works",
    "baselines",
    "ci95",
]


STEPS_AND_ALTERS = ["C0", "C1", "D0", "D1", "E0", "F0", "F1", "G0", "G1", "A0", "A1", "B0"]


def musicxml(notes: np.ndarray) -> bytes:
    "A score of these notes: one part, one long bar, and as many voices as needed."
    parts = []
    for onset, length, pitch in zip(notes["onset_beat"], notes["duration_beat"], notes["pitch"].tolist()):
        begin, ticks, (step, alter) = round(onset * 480), max(round(length * 480), 1), STEPS_AND_ALTERS[pitch % 12]
        key = f"<step>{step}</step><alter>{alter}</alter><octave>{pitch // 12 - 1}</octave>"
        parts.append(
            f"<forward><duration>{begin}</duration></forward>"
            f"<note><pitch>{key}</pitch><duration>{ticks}</duration></note>"
            f"<backup><duration>{begin + ticks}</duration></backup>"
        )
    return (
        '<?xml version="1.0" encoding="UTF-8"?><score-partwise version="4.0">'
        '<part-list><score-part id="P1"><part-name>Piano</part-name></score-part></part-list>'
        '<part id="P1"><measure number="1"><attributes><divisions>480</divisions></attributes>'
        f"{''.join(parts)}</measure></part></score-partwise>"
    ).encode()


def mxl(score: bytes) -> bytes:
    "The same score as a compressed MusicXML file."
    container = b'<container><rootfiles><rootfile full-path="score.xml"/></rootfiles></container>'
    return make_zip([("META-INF/container.xml", container), ("score.xml", score)])


def play_notes(notes: np.ndarray, rate: int = 44_100) -> np.ndarray:
    "The sound of notes on a simple instrument: some overtones that fade; float32, one channel."
    end = float((notes["onset_sec"] + notes["duration_sec"]).max())
    sound = np.zeros(int((end + 1) * rate), np.float32)
    for note in notes:
        t = np.arange(int((note["duration_sec"] + 0.3) * rate)) / rate
        pitch = 440 * 2 ** ((int(note["pitch"]) - 69) / 12)
        tone = sum(np.sin(2 * np.pi * k * pitch * t) / k**1.5 for k in range(1, 9)) * np.exp(-3 * t)
        first = int(note["onset_sec"] * rate)
        sound[first : first + len(t)] += 0.05 * tone * np.minimum(t * 200, 1) * np.minimum((t[-1] - t) * 20, 1)
    return sound


def audio_file(sound: np.ndarray, rate: int = 44_100, format: str = "WAV") -> bytes:
    "The content of a recording."
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, sound, rate, format=format)
    return file.getvalue()


def kill_search(module: str, kept: Path, n: int, *arguments: str) -> None:
    "Run `search_slowly` of a module of the tests in a process, and kill it once `n` trials are kept in a folder."
    code = f"import sys; sys.path.insert(0, sys.argv[1]); import {module}; {module}.search_slowly(*sys.argv[2:])"
    command = [sys.executable, "-c", code, str(Path(__file__).resolve().parent), *arguments]
    process = subprocess.Popen(command, env=dict(os.environ, TF_CPP_MIN_LOG_LEVEL="3"))
    deadline = time.monotonic() + 120
    while len(list(kept.glob("*.json"))) < n and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL

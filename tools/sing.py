"""Hum and whistle melodies by a simple synthesizer, for `measure_humming.py`.

Ranges are those of untrained singers, and were set before any tracker was tried:

- notes are off by 25 cents (standard deviation): Mauch, Frieler and Dixon (JASA 136, 2014) measured a median error of
  19 cents in unaccompanied singing; the key drifts by 40 cents (standard deviation) in the whole tune
- vibrato of 5 to 6 Hz and 30 to 60 cents that sets in after the beginning of a note (Sundberg, The Science of the
  Singing Voice, 1987), in half of the tunes, and glides of 60 to 120 ms from note to note
- formants of closed lips and of two vowels (Peterson and Barney, JASA 24, 1952), and breath
- most notes begin with a syllable, which is a dip of 8 to 25 dB; others follow without one, repeated notes seldom
"""

from dataclasses import dataclass

import numpy as np
from render_audio import RATE, reverb
from scipy.ndimage import gaussian_filter1d
from scipy.signal import butter, lfilter, sosfilt

FORMANTS = {  # Hz and bandwidth
    "mm": ((250, 60), (1000, 250), (2200, 400)),
    "ah": ((730, 90), (1090, 110), (2440, 170)),
    "oo": ((300, 60), (870, 90), (2240, 170)),
}
VOICES = ((45, 62), (55, 74))  # lowest and highest comfortable notes of a low and of a high voice
WHISTLE = (75, 95)  # 622 to 1,976 Hz
SPAN = 19  # semitones of a tune that can be sung
REST = 0.3  # seconds of silence before and after
CONTROL = 1000  # a second: how often pitch and loudness are computed; between that they are interpolated


@dataclass(frozen=True)
class Tune:
    "Notes as they are sung."

    pitch: np.ndarray  # MIDI numbers with fractions, shape `(n,)`
    onset: np.ndarray  # Seconds, shape `(n,)`
    end: float  # Of the last note


def sung_times(onset: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    "When notes begin, and the last ends, if they are sung: not too fast, and not in strict time; shape `(n + 1,)`."
    gap = np.diff(onset)
    typical = float(np.median(gap))
    gap = np.append(gap, typical) * rng.uniform(0.85, 1.2) * max(0.3 / max(typical, 0.01), 1)
    gap = np.clip(gap, 0.16, 1.5) * np.exp(rng.normal(0, 0.08, len(gap)))
    return REST + np.append(0, np.cumsum(gap))


def as_sung(onset: np.ndarray, pitch: np.ndarray, voice: str, rng: np.random.Generator) -> Tune:
    "A melody in the range of a voice, `hum` or `whistle`, with errors of pitch, drift and deviations of time."
    limits = WHISTLE if voice == "whistle" else VOICES[rng.integers(len(VOICES))]
    times, room = sung_times(onset, rng), limits[1] - limits[0] - np.ptp(pitch)
    lowest = limits[0] + (rng.uniform(0, room) if room > 0 else room / 2)
    drift = rng.normal(0, 0.4) * np.linspace(-0.5, 0.5, len(pitch))
    return Tune(pitch - pitch.min() + lowest + rng.normal(0, 0.25, len(pitch)) + drift, times[:-1], float(times[-1]))


def pitch_contour(tune: Tune, t: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    "The pitch at each moment, MIDI numbers: notes with glides, vibrato and unrest."
    glide = rng.uniform(0.06, 0.12)
    note = np.clip(np.searchsorted(tune.onset, t, "right") - 1, 0, None)
    contour = gaussian_filter1d(tune.pitch[note], glide * CONTROL / 4)
    since = np.clip(t - tune.onset[note] - 0.15, 0, 0.2) / 0.2  # vibrato sets in
    depth = rng.uniform(0.3, 0.6) * (rng.random() < 0.5)
    vibrato = depth * since * np.sin(2 * np.pi * rng.uniform(5, 6) * t + rng.uniform(0, 6))
    unrest = gaussian_filter1d(rng.normal(size=len(t)), 0.03 * CONTROL)
    return contour + vibrato + 0.08 * unrest / unrest.std()


def envelope(tune: Tune, t: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    "The amplitude at each moment: syllables, breaths, and notes of unequal loudness."
    note = np.clip(np.searchsorted(tune.onset, t, "right") - 1, 0, None)
    level = rng.normal(0, 2, len(tune.pitch))[note]
    again = np.append(False, np.abs(np.diff(tune.pitch)) < 0.8)
    for onset, repeated in zip(tune.onset, again):
        if rng.random() < (0.85 if repeated else 0.6):  # a syllable
            width = rng.uniform(0.03, 0.06)
            level = level - rng.uniform(8, 25) * np.exp(-0.5 * ((t - onset + width / 2) / (width / 2)) ** 2)
    loud = 10 ** (gaussian_filter1d(level, 0.01 * CONTROL) / 20)
    for begin, end in zip(tune.onset, np.append(tune.onset[1:], tune.end)):
        if end - begin > 0.6 and rng.random() < 0.3:  # a breath
            loud[(t > end - 0.2) & (t < end)] = 0
    loud[(t < tune.onset[0]) | (t > tune.end)] = 0
    return gaussian_filter1d(loud, 0.012 * CONTROL)


def formed(sound: np.ndarray, formants: tuple[tuple[int, int], ...]) -> np.ndarray:
    "A sound through a vocal tract: one resonator after the other."
    for centre, width in formants:
        radius = np.exp(-np.pi * width / RATE)
        a = [1, -2 * radius * np.cos(2 * np.pi * centre / RATE), radius**2]
        sound = lfilter([sum(a)], a, sound)
    return sound


def controlled(tune: Tune, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    "Frequency (Hz) and amplitude of a tune at each sample."
    times, t = (np.arange(int((tune.end + REST) * rate)) / rate for rate in (RATE, CONTROL))
    pitch, amplitude = (np.interp(times, t, make(tune, t, rng)) for make in (pitch_contour, envelope))
    return 440 * 2 ** ((pitch - 69) / 12), amplitude


def floored(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    "The sound at a common loudness with the noise of a quiet microphone."
    return (0.1 * sound / sound.std() + 3e-4 * rng.normal(size=len(sound))).astype(np.float32)


def hum(tune: Tune, rng: np.random.Generator) -> np.ndarray:
    "Somebody who hums a melody, one channel at `RATE`."
    frequency, amplitude = controlled(tune, rng)
    phase = 2 * np.pi * np.cumsum(frequency) / RATE
    slope = rng.uniform(1.0, 1.6)  # 6 to 10 dB an octave: the source and what lips radiate
    overtones = range(1, int(5000 / frequency.min()) + 1)
    voice = sum(np.sin(k * phase) / k**slope for k in overtones)
    breath = rng.normal(size=len(frequency)) * 10 ** rng.uniform(-1.75, -1.25)
    tract = FORMANTS[str(rng.choice(list(FORMANTS)))]
    return floored(formed((voice + breath) * amplitude, tract), rng)


def whistle(tune: Tune, rng: np.random.Generator) -> np.ndarray:
    "Somebody who whistles a melody, one channel at `RATE`."
    frequency, amplitude = controlled(tune, rng)
    phase = 2 * np.pi * np.cumsum(frequency) / RATE
    tone = np.sin(phase) + 10 ** rng.uniform(-2, -1.5) * np.sin(2 * phase)
    air = sosfilt(butter(2, [500, 6000], "bandpass", fs=RATE, output="sos"), rng.normal(size=len(frequency)))
    return floored((tone + 10 ** rng.uniform(-1.5, -1) * air) * amplitude, rng)


def room_noise(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    "The sound with pink noise 15 dB below it, as of traffic and ventilation."
    spectrum = np.fft.rfft(rng.normal(size=len(sound)))
    spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 20 * len(sound) / RATE))
    pink = np.fft.irfft(spectrum, len(sound))
    return sound + pink / pink.std() * sound.std() * 10 ** (-15 / 20)


def room(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    "The sound in a living room."
    return reverb(sound, rng, 0.5)

"""Recordings: every format, damaged files, times that do not drift, and answers by all ways."""

import io
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from builders import audio_file, play_notes
from composer_classify import audio
from composer_classify.audio import AudioLoadError, is_audio, likely_notes, read_audio, transcribe, transcribe_samples
from composer_classify.cli import main
from composer_classify.midi import NOTE_DTYPE, MusicLoadError, load_midi
from composer_classify.recognition import Recognizer

SAMPLES = Path(__file__).resolve().parent.parent / "composer_classify" / "samples"


@pytest.fixture(scope="module")
def invention():
    return load_midi(SAMPLES / "bach_bwv772.mid").between(0, 12)


@pytest.fixture(scope="module")
def sound(invention):
    return play_notes(invention)


def share_heard(played: np.ndarray, heard: np.ndarray) -> float:
    "Which part of the notes was heard within 50 ms."
    found = [
        np.any((heard["pitch"] == note["pitch"]) & (np.abs(heard["onset_sec"] - note["onset_sec"]) < 0.05))
        for note in played
    ]
    return float(np.mean(found))


def clicks(seconds: float, every: float) -> tuple[np.ndarray, np.ndarray]:
    "A note that is struck again and again, and when."
    notes = np.zeros(int(seconds / every), NOTE_DTYPE)
    notes["onset_sec"], notes["duration_sec"], notes["pitch"] = 0.5 + every * np.arange(len(notes)), 0.3, 60
    return play_notes(notes, audio.SAMPLE_RATE), notes["onset_sec"]


@pytest.mark.parametrize("format", ["WAV", "FLAC", "OGG", "MP3", "AIFF"])
def test_every_format_sounds_the_same(invention, sound, format):
    content = audio_file(sound, format=format)
    assert is_audio(content[:12])
    assert share_heard(invention, likely_notes(transcribe(content))) > 0.9


@pytest.mark.parametrize("rate", [8_000, 22_050, 48_000, 96_000])
def test_sample_rate_and_channels_do_not_matter(invention, rate):
    sound = play_notes(invention, rate)
    stereo = np.stack([sound, 0.2 * sound], axis=1)
    assert share_heard(invention, likely_notes(transcribe(audio_file(stereo, rate)))) > 0.9


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="there is no ffmpeg")
@pytest.mark.parametrize("suffix", ["m4a", "webm", "mkv"])
def test_other_formats_are_read_by_ffmpeg(invention, sound, tmp_path, suffix):
    path = tmp_path / f"a film, with sound.{suffix}"
    command = ["ffmpeg", "-v", "error", "-i", "pipe:0", str(path)]
    subprocess.run(command, input=audio_file(sound), check=True)
    assert share_heard(invention, likely_notes(transcribe(path))) > 0.9
    if suffix != "m4a":  # its index stands at the end, where a pipe cannot go back from
        assert share_heard(invention, likely_notes(transcribe(path.read_bytes()))) > 0.9


def test_without_ffmpeg_a_sentence_says_what_to_do(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(AudioLoadError, match="a.m4a: .* install the program ffmpeg, or convert it to WAV"):
        transcribe(b"\0\0\0\x20ftypM4A " + bytes(100), "a.m4a")


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="there is no ffmpeg")
def test_a_playlist_opens_no_other_file(tmp_path, sound):
    "It is no recording, and even if it were taken for one, ffmpeg could not open what it names."
    path = tmp_path / "secret.wav"
    path.write_bytes(audio_file(sound))
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nfile:{path}\n#EXT-X-ENDLIST\n".encode()
    assert not is_audio(playlist[:12])
    assert list(audio._ffmpeg_blocks(playlist, 0, 5)) == []
    assert len(list(audio._ffmpeg_blocks(path, 0, 5))) > 0


@given(st.binary(max_size=40))
def test_any_first_bytes_can_be_asked(head):
    assert is_audio(head) in (True, False)


STARTS = [b"RIFF\xff\0\0\0WAVEfmt ", b"fLaC", b"OggS", b"ID3\4", b"FORM\0\0\0\1AIFF", b"\xff\xfb"]


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("rest", [b"", bytes(200), b"no music" * 250, b"\xff" * 3000])
def test_damaged_recordings_are_refused_with_a_sentence(start, rest):
    try:
        notes = transcribe(start + rest, "broken.wav")
    except AudioLoadError as error:
        assert str(error).startswith("broken.wav: ") and "\n" not in str(error)
    else:
        assert len(notes) < 2000  # ffmpeg made noise of it


@pytest.mark.parametrize("format", ["WAV", "FLAC", "MP3"])
def test_what_is_cut_off_is_used_as_far_as_it_goes(invention, sound, format):
    content = audio_file(sound, format=format)
    heard = likely_notes(transcribe(content[: len(content) // 2]))
    assert 5 < heard.duration < 7.5
    assert share_heard(invention.between(0, 5), heard.between(0, 5)) > 0.9


def test_senseless_samples_are_silence():
    file = io.BytesIO()
    soundfile.write(file, np.full(50_000, np.nan, np.float32), 44_100, format="WAV", subtype="FLOAT")
    with pytest.raises(AudioLoadError, match="is silent"):
        transcribe(file.getvalue())


def test_times_do_not_drift():
    "After three minutes an onset is as exact as at the beginning; counted by frames it would be 0.9 s late."
    samples, onsets = clicks(180, 1.5)
    heard = likely_notes(transcribe_samples(samples))
    heard = heard[heard["pitch"] == 60]["onset_sec"]
    away = np.array([np.abs(heard - onset).min() for onset in onsets])
    assert np.mean(away < 0.03) > 0.97
    assert abs(np.median(away[-20:]) - np.median(away[:20])) < 0.01


@given(st.integers(0, 2**32 - 1))
def test_notes_end_where_a_plain_loop_ends_them(seed):
    rng = np.random.default_rng(seed)
    sounding = np.repeat(rng.random((12, 88)), rng.integers(1, 12, 12), axis=0).astype(np.float32)
    frame, key = np.nonzero(rng.random(sounding.shape) < 0.01)
    ends, last = audio._ends(sounding, frame, key), len(sounding) - 1
    for first, k, end in zip(frame, key, ends):
        at = min(first + 3, last)
        while at < last and sounding[at : at + audio._PAUSE + 1, k].max() >= audio._SOUNDS:
            at += 1
        again = [f for f, other in zip(frame, key) if other == k and f > first]
        assert end == max(min([at, *again[:1]]), first + 1)


def test_a_part_is_read_from_where_it_begins(sound):
    whole = np.concatenate(list(read_audio(audio_file(sound), "a")))
    part = np.concatenate(list(read_audio(audio_file(sound), "a", 3, 4)))
    assert len(part) == 4 * audio.SAMPLE_RATE
    expected = whole[3 * audio.SAMPLE_RATE :][: len(part)]
    assert np.abs(part - expected)[500:-500].max() < 0.01


@pytest.mark.alone
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_a_long_recording_takes_no_more_memory(tmp_path, sound):
    "Four times as long, and no more than 40 MB more; the file is read, not held."
    peaks = []
    for times in (5, 20):
        path = tmp_path / f"{times}.wav"
        path.write_bytes(audio_file(np.tile(sound, times)))
        code = (
            f"from composer_classify.audio import transcribe; transcribe({str(path)!r}); "
            "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
        )  # not `ru_maxrss`, which a process inherits from the one that starts it
        peaks.append(int(subprocess.check_output([sys.executable, "-c", code])) / 1024)
    assert peaks[1] - peaks[0] < 40


def test_the_command_answers_a_recording(sound, tmp_path, capsys):
    path = tmp_path / "invention.flac"
    path.write_bytes(audio_file(sound, format="FLAC"))
    assert main(["predict", str(path), str(SAMPLES / "bach_bwv846.mid"), "--json"]) == 0
    recording, score = json.loads(capsys.readouterr().out)
    assert recording["piece"]["catalogue"] == "BWV 772" and recording["by"] == "piece"
    assert recording["piece"]["offset_sec"] < 1 and "pieces" not in recording
    assert score["piece"]["catalogue"].startswith("BWV 846")


def test_a_long_recording_is_answered_piece_by_piece(tmp_path, capsys):
    first, second = (load_midi(SAMPLES / name).between(0, 40) for name in ("mozart_k545.mid", "bach_bwv846.mid"))
    parts = [play_notes(first), np.zeros(10 * 44_100, np.float32), play_notes(second)]
    path = tmp_path / "concert.flac"
    path.write_bytes(audio_file(np.concatenate(parts), format="FLAC"))
    assert main(["predict", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("2 pieces found") and "K. 545" in lines[1] and "BWV 846" in lines[2]
    answer = Recognizer.load().predict(path)
    (mozart, bach) = answer.to_dict()["pieces"]
    assert mozart["start_sec"] < 2 and abs(mozart["end_sec"] - first.duration) < 6
    assert abs(bach["start_sec"] - first.duration - 11) < 6 and bach["end_sec"] > mozart["end_sec"]


def test_nothing_is_named_in_noise(capsys, tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "noise.wav"
    path.write_bytes(audio_file(0.1 * rng.normal(size=15 * 44_100)))
    assert main(["predict", str(path)]) == 1
    assert "no music is heard in it" in capsys.readouterr().err


def test_a_tune_alone_has_candidates():
    tune = np.zeros(12, NOTE_DTYPE)
    tune["pitch"] = [64, 64, 65, 67, 67, 65, 64, 62, 60, 60, 62, 64]
    tune["onset_sec"], tune["duration_sec"] = 0.45 * np.arange(12), 0.4
    answer = Recognizer.load().predict(audio_file(play_notes(tune)))
    assert answer.piece is None and any("Symphony No. 9" in each["title"] for each in answer.candidates)


@pytest.mark.parametrize("melody", ["E5 D#5 E5 D#5 E5 B4 D5 C5 A4", "76,75,76,75,76,71,74,72,69"])
def test_a_typed_tune_is_found(capsys, melody):
    assert main(["predict", "--notes", melody, "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert "Für Elise" in answer["candidates"][0]["title"] and answer["composer"] is None
    assert main(["predict", "--notes", melody, "--top", "2"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


@pytest.mark.parametrize("wrong", [["--notes", "E5 H5"], ["--notes", "E5 D5"]])
def test_a_tune_that_cannot_be_read_is_refused_with_a_sentence(capsys, wrong):
    assert main(["predict", *wrong]) == 1
    assert capsys.readouterr().err.startswith("composer-classify: notes: ")


@pytest.mark.parametrize("wrong", ["", "a.mid --listen", "a.mid --notes C4", "--listen --notes C4"])
def test_one_kind_of_input_at_a_time(capsys, wrong):
    with pytest.raises(SystemExit, match="2"):
        main(["predict", *wrong.split()])
    assert "files, --notes or --listen" in capsys.readouterr().err


def test_a_tune_has_no_picture(capsys, tmp_path):
    with pytest.raises(SystemExit, match="2"):
        main(["predict", "--notes", "C4 D4 E4 F4 G4", "--plot", str(tmp_path / "a.png")])
    assert "--plot" in capsys.readouterr().err and not (tmp_path / "a.png").exists()


def test_any_kind_of_bytes_is_a_recording(sound):
    content = audio_file(sound[: 5 * 44_100])
    assert len(transcribe(bytearray(content))) == len(transcribe(content))


def install_transkun(folder: Path, lines: str, monkeypatch) -> None:
    "A program of that name in front of all others. The true one needs PyTorch; how it is called and read is the same."
    program = folder / "transkun"
    program.write_text(f"#!{sys.executable}\nimport shutil, sys\n{lines}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.skipif(os.name == "nt", reason="a script is no program on Windows")
def test_another_program_can_hear(sound, tmp_path, monkeypatch, capsys):
    sample = SAMPLES / "bach_bwv772.mid"
    install_transkun(tmp_path, f"shutil.copy({str(sample)!r}, sys.argv[2])", monkeypatch)
    heard, written = transcribe(audio_file(sound), transcriber="transkun"), load_midi(sample)
    assert heard.transcribed and set(heard["velocity"]) == {127}
    assert np.array_equal(heard[["pitch", "onset_sec"]], written[["pitch", "onset_sec"]])
    assert np.allclose(heard["onset_beat"], 2 * heard["onset_sec"])
    path = tmp_path / "invention.wav"
    path.write_bytes(audio_file(sound))
    assert main(["predict", str(path), "--transcriber", "transkun"]) == 0
    assert "BWV 772" in capsys.readouterr().out


@pytest.mark.skipif(os.name == "nt", reason="a script is no program on Windows")
def test_a_program_that_fails_is_named(sound, tmp_path, monkeypatch):
    install_transkun(tmp_path, "sys.exit(1)", monkeypatch)
    with pytest.raises(AudioLoadError, match="a.wav: could not be heard by transkun"):
        transcribe(audio_file(sound), "a.wav", transcriber="transkun")
    with pytest.raises(AudioLoadError, match="is silent"):
        transcribe(audio_file(np.zeros(50_000)), transcriber="transkun")
    install_transkun(tmp_path, "open(sys.argv[2], 'w').write('no MIDI')", monkeypatch)
    with pytest.raises(MusicLoadError, match="^a.wav: "):  # not the file in between
        transcribe(audio_file(sound), "a.wav", transcriber="transkun")


@pytest.mark.alone
def test_ten_seconds_are_answered_in_three(sound, tmp_path):
    "A whole process, cold."
    path = tmp_path / "a.wav"
    path.write_bytes(audio_file(sound[: 10 * 44_100]))
    code = "import sys; from composer_classify.cli import main; sys.exit(main())"
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", code, "predict", str(path)], check=True, stdout=subprocess.PIPE)
    assert time.perf_counter() - begin < 3

"""Many files: the answers of one file alone, in order, as they come, in memory that does not grow."""

import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer_classify import recognition
from composer_classify.index import Index
from composer_classify.recognition import predict_files

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = ROOT / "composer_classify" / "samples"


def write_samples(folder: Path, n: int) -> list[Path]:
    "Two pieces in turn."
    paths = [folder / f"{k:04d}.mid" for k in range(n)]
    for k, path in enumerate(paths):
        path.write_bytes((SAMPLES / ("bach_bwv772.mid", "bach_bwv846.mid")[k % 2]).read_bytes())
    return paths


SCORE = st.floats(0.5, 1)
SHARES = st.lists(st.floats(0.001, 1), min_size=2, max_size=6)


@given(SHARES, SCORE, st.integers(0, 9))
def test_piece_and_style_make_one_answer(shares, score, number):
    "The composer of the piece gets the score and his share of the rest, on the list or not; nothing is lost."
    names, probabilities = [f"{k}" for k in range(len(shares))], np.array(shares) / sum(shares)
    found, combined = recognition.combine(names, probabilities, dict(composer=f"{number}", score=score))
    trust = recognition.TRUST * score
    expected = dict(zip(names, (1 - trust) * probabilities))
    expected[f"{number}"] = expected.get(f"{number}", 0) + trust
    assert dict(zip(found, combined)) == pytest.approx(expected) and combined.sum() == pytest.approx(1)


def test_without_a_piece_the_style_answers():
    names, probabilities = recognition.combine(["A", "B"], np.array([0.3, 0.7]), None)
    assert names == ["A", "B"] and probabilities.tolist() == [0.3, 0.7]


@pytest.mark.parametrize(
    ("piece", "by", "composer", "known"),
    [
        (dict(composer="Kuhnau", score=0.9), "piece", "Kuhnau", True),
        (dict(composer="Mozart", score=0.6), "piece", "Mozart", True),
        (None, "style", "Bach", False),
    ],
)
def test_an_answer_never_contradicts_itself(monkeypatch, piece, by, composer, known):
    "Whatever the style says, the composer of a piece that is named is that of the answer; the style stands beside it."
    recognizer, notes = recognition.Recognizer.load("four"), recognition.listen(SAMPLES / "bach_bwv846.mid")
    style = np.array([0.4, 0.3, 0.2, 0.1])
    monkeypatch.setattr(recognizer.model, "predict_proba", lambda pieces: (style[None], np.array([False])))
    monkeypatch.setattr(Index, "identify", lambda index, notes: piece)
    answer = recognizer.predict_pieces({"x": notes}, top=4, timeline=False)["x"]
    assert (answer.by, answer.composer, answer.known) == (by, composer, known)
    assert (answer.style["composer"], answer.style["probability"], answer.style["known"]) == ("Bach", 0.4, False)
    assert answer.style["trained"] == (composer != "Kuhnau")
    assert [row["probability"] for row in answer.style["ranking"]] == style.tolist()


def test_a_name_of_a_file_is_no_title():
    piece = dict(composer="Ada", title="tune 3", work=None, score=0.62, offset_sec=65.2, after=False)
    assert recognition.describe_piece(piece) == "Ada, “tune 3” (the name of a file); from 1:05; 62%"


def test_another_setting_comes_after_the_piece():
    piece = dict(composer="Bach", title="Jesu, BWV 1", work="Jesu", score=1.0, offset_sec=0.0, after=True)
    assert recognition.describe_piece(piece) == "Bach, after Jesu, BWV 1; from 0:00; certain"


def test_a_piece_that_fails_costs_no_other_of_its_batch(tmp_path, monkeypatch):
    "Also if it fails only after it has been read, over its features, its piece or its passages."
    paths = write_samples(tmp_path, 4)
    expected = list(predict_files(paths))
    monkeypatch.setattr(recognition, "SERIAL_FILES", 1)
    monkeypatch.setattr(recognition, "in_processes", lambda task, jobs, n_jobs: enumerate(task(*job) for job in jobs))
    identify = Index.identify
    n_notes = len(recognition.listen(paths[1]))

    def fail(index, notes, without=None):
        if len(notes) == n_notes:
            raise ZeroDivisionError
        return identify(index, notes, without)

    monkeypatch.setattr(Index, "identify", fail)
    answers = list(predict_files(paths))
    assert [bool(answer.error) for answer in answers] == [False, True, False, True]
    assert "ZeroDivisionError" in answers[1].error
    assert [answer.piece for answer in answers[::2]] == [answer.piece for answer in expected[::2]]
    assert answers[0].timeline == expected[0].timeline


def test_answers_come_before_all_files_are_read(tmp_path, monkeypatch):
    "In order, and no more of the following files are read than the processes have in hand."
    read, load = [], recognition.load
    monkeypatch.setattr(
        recognition, "load", lambda source, *rest, **how: read.append(source) or load(source, *rest, **how)
    )
    monkeypatch.setattr(recognition, "SERIAL_FILES", 1)
    paths = write_samples(tmp_path, 8 * recognition.BATCH)
    answers = predict_files(paths, n_jobs=1, duration=5, timeline=False)
    assert next(answers).file == str(paths[0]) and len(read) <= 2 * recognition.BATCH
    assert [answer.file for answer in answers] == list(map(str, paths[1:]))


@pytest.mark.parametrize("bad", [0, 1])
def test_a_batch_answers_as_one_file_alone(tmp_path, monkeypatch, bad):
    "Also with a file in it that is no music, wherever it stands."
    paths = write_samples(tmp_path, 3)
    paths[bad].write_bytes(b"no music")
    alone = list(predict_files(paths, timeline=False))
    monkeypatch.setattr(recognition, "SERIAL_FILES", 1)
    together = list(predict_files(paths, n_jobs=1, timeline=False))
    assert [each.error for each in together] == [each.error for each in alone] and together[bad].error
    for one, other in zip(together, alone):
        assert (one.file, one.composer, one.known, one.piece) == (other.file, other.composer, other.known, other.piece)
        assert [row["probability"] for row in one.ranking] == pytest.approx(
            [row["probability"] for row in other.ranking], abs=2e-4
        )


def memory_of(process: psutil.Process) -> int:
    "Bytes in use by a process and those that it has started."
    total = 0
    for each in (process, *process.children(recursive=True)):
        try:
            total += each.memory_info().rss
        except psutil.Error:  # it has ended in between
            pass
    return total


@pytest.mark.slow
@pytest.mark.alone
def test_memory_does_not_grow_with_the_files(tmp_path):
    "Of all processes together it is at most 2 GiB, and no more for the last third of the files than for the second."
    write_samples(tmp_path, 3000)
    code = "import sys; from composer_classify.cli import main; sys.exit(main())"
    with open(tmp_path / "out", "w") as out:
        process = psutil.Popen([sys.executable, "-c", code, "predict", str(tmp_path)], stdout=out, cwd=ROOT)
        used, answered = [], []
        while process.poll() is None:
            used.append(memory_of(process))
            answered.append((tmp_path / "out").stat().st_size)
            time.sleep(0.1)
    assert process.returncode == 0
    used, part = np.array(used), np.array(answered) / (tmp_path / "out").stat().st_size
    assert used.max() < 2 << 30
    assert used[part > 2 / 3].max() < 1.1 * used[(part > 1 / 3) & (part <= 2 / 3)].max()

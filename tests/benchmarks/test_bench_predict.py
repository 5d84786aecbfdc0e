"""Files a second that `predict` answers, composer and piece, on one core and on all, and with passages; and the whole
process for one file.

There are two alternatives in the same run. One is what most do: a piano roll by `pretty_midi`, which is only the first
step of an answer. The other is how pieces were named before: every part by all its fingerprints, and files one by one.
"""

import subprocess
import sys
import warnings

import numpy as np
import pretty_midi
import pytest

from composer_classify.augment import cut_notes
from composer_classify.fingerprints import SURE, parts_to_hear
from composer_classify.recognition import listen, load_once, predict_files

pytestmark = pytest.mark.slow  # they measure; whether it works is tested elsewhere


@pytest.fixture(scope="module")
def paths(contents, tmp_path_factory) -> list[str]:
    "The files five times."
    folder = tmp_path_factory.mktemp("files")
    for k, content in enumerate(contents * 5):
        (folder / f"{k:04d}.mid").write_bytes(content)
    return sorted(map(str, folder.iterdir()))


def by_pretty_midi(paths: list[str]) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in paths[:60]:
            try:
                pretty_midi.PrettyMIDI(path).get_piano_roll(10)
            except Exception:  # it reads fewer files than we do
                continue
    return 60


def one_by_one_by_all_fingerprints(paths: list[str]) -> int:
    "As before there were plain fingerprints and batches: the composer, then each part until one is sure."
    recognizer = load_once()
    for path in paths[:100]:
        notes = listen(path)
        recognizer.model.predict_proba([notes])
        for begin, end in parts_to_hear(np.sort(notes["onset_sec"])):
            match = recognizer.index.query(cut_notes(notes, begin, end))
            if match and match.score > SURE:
                break
    return 100


def with_passages(paths: list[str]) -> int:
    return len(list(predict_files(paths[:100])))


def on_one_core(paths: list[str]) -> int:
    return len(list(predict_files(paths, n_jobs=1, timeline=False)))


def on_all_cores(paths: list[str]) -> int:
    return len(list(predict_files(paths, timeline=False)))


@pytest.mark.benchmark(group="predict")
@pytest.mark.parametrize(
    "answer", [by_pretty_midi, one_by_one_by_all_fingerprints, with_passages, on_one_core, on_all_cores]
)
def test_files_a_second(benchmark, paths, answer):
    list(predict_files(paths[:1]))  # the model is loaded
    answered = benchmark.pedantic(answer, (paths,), rounds=1)
    if benchmark.stats:  # none with --benchmark-disable
        benchmark.extra_info["files_a_second"] = round(answered / benchmark.stats.stats.min)
        print(f"\n{answer.__name__}: {benchmark.extra_info}")


@pytest.mark.benchmark(group="predict, whole process")
@pytest.mark.parametrize("extra", [(), ("--json",)], ids=["text", "json, with timeline"])
def test_one_file(benchmark, paths, extra):
    code = "import sys; from composer_classify.cli import main; sys.exit(main())"
    done = benchmark.pedantic(
        subprocess.run,
        ([sys.executable, "-c", code, "predict", paths[0], *extra],),
        dict(capture_output=True),
        rounds=5,
    )
    assert done.returncode == 0

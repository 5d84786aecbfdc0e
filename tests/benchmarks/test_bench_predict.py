"""Files a second that `predict` answers, one by one with timeline and piece, and quickly many together, on one core and
on all; and the whole process for one file.

The alternative in the same run is what most do: a piano roll by `pretty_midi`, which is only the first step of an
answer.
"""

import subprocess
import sys
import warnings

import pretty_midi
import pytest

from composer_classify.recognition import predict_files

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


def thoroughly(paths: list[str]) -> int:
    return len(list(predict_files(paths[:100])))


def on_one_core(paths: list[str]) -> int:
    return len(list(predict_files(paths, quick=True, n_jobs=1)))


def on_all_cores(paths: list[str]) -> int:
    return len(list(predict_files(paths, quick=True)))


@pytest.mark.benchmark(group="predict")
@pytest.mark.parametrize("answer", [by_pretty_midi, thoroughly, on_one_core, on_all_cores])
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

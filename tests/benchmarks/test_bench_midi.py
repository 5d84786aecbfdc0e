"""Parse and roll at 10 frames a second, ours against pretty_midi's, on the same files in the same run.

`pytest tests/benchmarks` prints both in one table, and `--benchmark-json` keeps the ratio (`extra_info`). Nothing is asserted about time, and each
runs but once (ours five times), so that a normal run of the tests can afford it.
"""
import io
import os
import warnings

import pretty_midi
import pytest

from composer_classify.midi import load_midi, piano_roll

FS = 10
pytestmark = pytest.mark.alone
fastest: dict[str, float] = {}  # seconds of each reader


@pytest.fixture(scope="module")
def files(request) -> list[bytes]:
    "The 200 real files, or the sample forty times."
    if os.environ.get("COMPOSER_CLASSIFY_ZIP"):
        return list(request.getfixturevalue("real_files").values())
    return [request.getfixturevalue("prelude")] * 40


def by_pretty_midi(files: list[bytes]) -> list[tuple]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [pretty_midi.PrettyMIDI(io.BytesIO(content)).get_piano_roll(FS).shape for content in files]


def by_load_midi(files: list[bytes]) -> list[tuple]:
    return [piano_roll(notes, FS, pedals=notes.pedals).shape for notes in map(load_midi, files)]


@pytest.mark.benchmark(group="parse and roll")
@pytest.mark.parametrize(("read", "rounds"), [(by_pretty_midi, 1), (by_load_midi, 5)], ids=["pretty_midi", "load_midi"])
def test_parse_and_roll(benchmark, files, read, rounds):
    by_load_midi(files[:1])  # whatever is imported or allocated on first use
    shapes = benchmark.pedantic(read, [files], rounds=rounds)
    assert len(shapes) == len(files) and all(shape[0] == 128 for shape in shapes)
    if benchmark.stats:  # none with --benchmark-disable
        fastest[read.__name__] = benchmark.stats.stats.min
        benchmark.extra_info.update(files=len(files), ms_a_file=round(1000 * benchmark.stats.stats.min / len(files), 3))
    if len(fastest) == 2:
        benchmark.extra_info["times_faster_than_pretty_midi"] = round(fastest["by_pretty_midi"] / fastest["by_load_midi"], 1)
        print(f"\n{benchmark.extra_info}")

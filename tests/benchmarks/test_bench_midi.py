"""Parse and roll at 10 frames a second, ours against pretty_midi's, on the same files in the same run.

`pytest tests/benchmarks` prints both in one table, and `--benchmark-json` keeps the ratio (`extra_info`). Nothing is
asserted about time.
"""

import io
import warnings

import pretty_midi
import pytest

from composer_classify.midi import load_midi, piano_roll

FS = 10
fastest: dict[str, float] = {}  # seconds of each reader


def by_pretty_midi(files: list[bytes]) -> list[tuple]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [pretty_midi.PrettyMIDI(io.BytesIO(content)).get_piano_roll(FS).shape for content in files]


def by_load_midi(files: list[bytes]) -> list[tuple]:
    return [piano_roll(notes, FS, pedals=notes.pedals).shape for notes in map(load_midi, files)]


@pytest.mark.benchmark(group="parse and roll")
@pytest.mark.parametrize(("read", "rounds"), [(by_pretty_midi, 1), (by_load_midi, 5)], ids=["pretty_midi", "load_midi"])
def test_parse_and_roll(benchmark, contents, read, rounds):
    by_load_midi(contents[:1])  # whatever is imported or allocated on first use
    shapes = benchmark.pedantic(read, [contents], rounds=rounds)
    assert len(shapes) == len(contents) and all(shape[0] == 128 for shape in shapes)
    if benchmark.stats:  # none with --benchmark-disable
        fastest[read.__name__] = benchmark.stats.stats.min
        benchmark.extra_info.update(
            files=len(contents), ms_a_file=round(1000 * benchmark.stats.stats.min / len(contents), 3)
        )
    if len(fastest) == 2:
        benchmark.extra_info["times_faster_than_pretty_midi"] = round(
            fastest["by_pretty_midi"] / fastest["by_load_midi"], 1
        )
        print(f"\n{benchmark.extra_info}")

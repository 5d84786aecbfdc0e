"""Training chunks a second on one core: painted from the note store in random order, against `pretty_midi` on the same
files in the same run.

For `pretty_midi` the reading is for free here: its objects are made before the clock starts, each piece is painted
once, and all its chunks count.
"""

import warnings

import numpy as np
import pretty_midi
import pytest

from composer_classify.collection import collect
from composer_classify.windows import Chunks, Sequences

fastest: dict[str, float] = {}  # chunks a second of each


@pytest.fixture(scope="module")
def corpus(contents, tmp_path_factory):
    "The files in ten folders."
    folder = tmp_path_factory.mktemp("chunks")
    for k, content in enumerate(contents):
        (folder / "in" / f"Composer {k % 10}").mkdir(parents=True, exist_ok=True)
        (folder / "in" / f"Composer {k % 10}" / f"{k}.mid").write_bytes(content)
    return collect(folder / "in", dest=folder / "corpus", n_jobs=1)


def by_pretty_midi(corpus):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parsed = [pretty_midi.PrettyMIDI(str(corpus.path / path)) for path in corpus.files["path"]]
    return lambda: sum(-(-midi.get_piano_roll(10).shape[1] // 150) for midi in parsed)


def by_chunks(corpus, parts=Chunks):
    chunks = parts(corpus)
    order = np.random.default_rng(0).integers(len(chunks), size=3200)
    return lambda: sum(len(chunks.batch(order[i : i + 32])) for i in range(0, len(order), 32))


def by_sequences(corpus):
    return by_chunks(corpus, Sequences)


@pytest.mark.benchmark(group="chunks")
@pytest.mark.parametrize(
    ("make", "rounds"),
    [(by_pretty_midi, 1), (by_chunks, 3), (by_sequences, 3)],
    ids=["pretty_midi", "chunks", "windows of onsets"],
)
def test_chunks_a_second(benchmark, corpus, make, rounds):
    made = benchmark.pedantic(make(corpus), rounds=rounds)
    assert made > 0
    if benchmark.stats:  # none with --benchmark-disable
        fastest[make.__name__] = made / benchmark.stats.stats.min
        benchmark.extra_info.update(chunks_a_second=round(fastest[make.__name__]))
        if "by_pretty_midi" in fastest:
            benchmark.extra_info["times_faster_than_pretty_midi"] = round(
                fastest[make.__name__] / fastest["by_pretty_midi"], 1
            )
        print(f"\n{benchmark.extra_info}")

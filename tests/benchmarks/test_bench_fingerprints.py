"""Naming a piece by ten seconds of it, and making the index of the whole collection.

The alternative in the same run looks through all pieces with `bytes.find`, one after the other, for a few steps of the
upper voice: the plainest search there is, in C, and it finds only what was typed just so.
"""

import numpy as np
import pytest

from composer_classify.augment import simulate_query
from composer_classify.fingerprints import outer_voices
from composer_classify.index import Index, make_index
from composer_classify.recognition import PIECES

pytestmark = [pytest.mark.slow, pytest.mark.benchmark(group="ten seconds")]  # whether it works is tested elsewhere
N = 30


def steps(notes: np.ndarray) -> bytes:
    "The upper voice as a byte a step, the same in every key."
    return (np.diff(outer_voices(notes)[0][1]) + 128).astype(np.uint8).tobytes()


@pytest.fixture(scope="module")
def questions(real_corpus) -> list[np.ndarray]:
    rows, rng = real_corpus.files.index.to_numpy(), np.random.default_rng(0)
    return [
        simulate_query(np.asarray(real_corpus.notes(rows[file])), rng, 10)[0] for file in rng.integers(0, len(rows), N)
    ]


def test_by_fingerprints(benchmark, questions):
    index = Index.load(PIECES)
    found = benchmark.pedantic(lambda: [index.query(question) for question in questions], rounds=3)
    assert sum(match is not None for match in found) > 0.9 * N
    if benchmark.stats:
        print(f"\n{1000 * benchmark.stats.stats.min / N:.1f} ms a question")


def test_by_looking_through_all_pieces(benchmark, questions, real_corpus):
    pieces = [steps(np.asarray(real_corpus.notes(row))) for row in real_corpus.files.index]

    def search() -> list[int]:
        found = []
        for question in questions:
            line = steps(question)
            votes = [sum(line[k : k + 5] in piece for k in range(0, len(line) - 4)) for piece in pieces]
            found.append(int(np.argmax(votes)))
        return found

    benchmark.pedantic(search, rounds=1)
    if benchmark.stats:
        print(f"\n{1000 * benchmark.stats.stats.min / N:.1f} ms a question")


@pytest.mark.benchmark(group="index")
def test_the_whole_collection_is_indexed(benchmark, real_corpus):
    index = benchmark.pedantic(make_index, (real_corpus,), rounds=1)
    assert len(index) > 3500 and sum(len(segment.low) for segment in index.segments) < 5e6

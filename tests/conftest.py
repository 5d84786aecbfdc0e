"""Fixtures: the real collection, where there is one, and the sample."""

import json
import os
import random
import subprocess
import sys
import time
import zipfile
from collections import Counter
from pathlib import Path

import psutil
import pytest

from builders import write_tunes
from composer_classify.collection import collect
from composer_classify.corpus import Corpus


def pytest_configure(config):
    config.addinivalue_line(
        "markers",
        "alone: measures time or memory, or looks at what such a run has made, so nothing else may run beside it",
    )
    config.addinivalue_line("markers", "slow: a longer variant of a test in `make test`; runs in `make test-full`")
    config.addinivalue_line(
        "markers",
        "sampled(n): of its variants the first n, one by default, run in `make test`; all in `make test-full`",
    )


LONGEST = [
    "test_terminal.py",
    "test_report.py",
    "test_optimization.py",
    "test_app.py",
    "test_browser.py",
    "test_site.py",
    "test_training.py",
]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """The files that take longest begin first, so that the others run beside them. What needs the whole real collection
    runs alone, in `make test-full`: it is collected once, and measured on the way."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
    variants = Counter()
    for item in items:
        if "real_run" in item.fixturenames:
            item.add_marker("alone")
            item.add_marker("slow")
        if sampled := item.get_closest_marker("sampled"):
            name = item.path.name, item.originalname
            variants[name] += 1
            if variants[name] > (sampled.args or (1,))[0]:
                item.add_marker("slow")


SAMPLE = Path(__file__).resolve().parent.parent / "composer_classify" / "samples" / "bach_bwv846.mid"


@pytest.fixture(scope="session")
def real_zip() -> Path:
    "The raw Kaggle zip. It may not be published, so most machines have none."
    path = os.environ.get("COMPOSER_CLASSIFY_ZIP")
    if not path:
        pytest.skip("needs the real collection: set COMPOSER_CLASSIFY_ZIP to midi_classic_music_data.zip")
    assert Path(path).is_file(), f"COMPOSER_CLASSIFY_ZIP names {path}, which is no file"
    return Path(path)


MEASURED = """
import json, sys, time
start = time.perf_counter()
from composer_classify.collection import collect, counts
corpus = collect(sys.argv[1], dest=sys.argv[2], n_jobs=2)
print(json.dumps(dict(counts(corpus), seconds=time.perf_counter() - start)))
"""


def tree_memory(pid: int) -> int:
    "Bytes that a process and all below it occupy, what they share counted once (PSS)."
    total = 0
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        try:
            total += process.memory_full_info().pss
        except psutil.Error:  # it ended in between
            pass
    return total


@pytest.fixture(scope="session")
def real_run(real_zip, tmp_path_factory) -> tuple[Corpus, dict]:
    "The real collection, collected by a process of its own, and what that process said of itself and we of it."
    dest, peak = tmp_path_factory.mktemp("real") / "corpus", 0
    command = [sys.executable, "-c", MEASURED, real_zip, dest]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        while process.poll() is None:
            try:
                peak = max(peak, tree_memory(process.pid))
            except psutil.Error:
                break
            time.sleep(0.25)
        said = json.loads(process.stdout.read())
    print(f"{said['seconds']:.1f} s, {peak / 2**20:.0f} MiB", {k: v for k, v in said.items() if k != "by_composer"})
    return Corpus.open(dest), {**said, "peak": peak}


@pytest.fixture(scope="session")
def real_corpus(real_run) -> Corpus:
    "The corpus made of the real collection."
    return real_run[0]


@pytest.fixture(scope="session")
def many_real_files(real_zip) -> dict[str, bytes]:
    "Name and content of 200 MIDI files of the real collection, always the same."
    with zipfile.ZipFile(real_zip) as archive:
        files = {
            name: archive.read(name) for name in sorted(archive.namelist()) if not name.lower().endswith((".zip", "/"))
        }
    names = [name for name, content in files.items() if content[:4] == b"MThd"]
    return {name: files[name] for name in random.Random(0).sample(names, 200)}


@pytest.fixture(scope="session", params=[10, pytest.param(1, marks=pytest.mark.slow)], ids=["20 files", "200 files"])
def real_files(many_real_files, request) -> dict[str, bytes]:
    """Every tenth of these files, and all of them in `make test-full`. The one whose tempo changes in a later track is
    among them."""
    return dict(list(many_real_files.items())[request.param > 1 :: request.param])


@pytest.fixture(scope="session")
def prelude() -> bytes:
    return SAMPLE.read_bytes()


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Corpus:
    "A corpus of two composers with six works each. Nobody writes to it."
    folder = tmp_path_factory.mktemp("small")
    return collect(write_tunes(folder / "tunes", Ada=6, Bob=6), dest=folder / "corpus", n_jobs=1)

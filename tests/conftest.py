"""Fixtures: the real collection, where there is one, and the sample."""
import os
import random
import zipfile
from pathlib import Path

import pytest
from filelock import FileLock

from builders import write_tunes
from composer_classify.collection import Corpus, collect


def pytest_configure(config):
    config.addinivalue_line("markers", "alone: measures time or memory, or looks at what such a run has made, so nothing else may run beside it")
    config.addinivalue_line("markers", "slow: a longer variant of a test in `make test`; runs in `make test-full`")


def pytest_collection_modifyitems(items):
    "The file that takes longest begins first, so that the others run beside it."
    items.sort(key=lambda item: item.path.name != "test_report.py")


SAMPLE = Path(__file__).resolve().parent.parent / "composer_classify" / "samples" / "bach_bwv846.mid"


@pytest.fixture(scope="session")
def real_zip() -> Path:
    "The raw Kaggle zip. It may not be published, so most machines have none."
    path = os.environ.get("COMPOSER_CLASSIFY_ZIP")
    if not path:
        pytest.skip("needs the real collection: set COMPOSER_CLASSIFY_ZIP to midi_classic_music_data.zip")
    assert Path(path).is_file(), f"COMPOSER_CLASSIFY_ZIP names {path}, which is no file"
    return Path(path)


@pytest.fixture(scope="session")
def real_corpus(real_zip, tmp_path_factory) -> Corpus:
    "The corpus made of it, once for all the processes that the tests are spread over."
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "real"
    folder.mkdir(exist_ok=True)
    with FileLock(folder / "lock"):
        return Corpus.open(folder / "corpus") if (folder / "corpus" / "manifest.parquet").exists() else collect(real_zip, folder / "corpus", n_jobs=2)


@pytest.fixture(scope="session")
def many_real_files(real_zip) -> dict[str, bytes]:
    "Name and content of 200 MIDI files of the real collection, always the same."
    with zipfile.ZipFile(real_zip) as archive:
        files = {name: archive.read(name) for name in sorted(archive.namelist()) if not name.lower().endswith((".zip", "/"))}
    names = [name for name, content in files.items() if content[:4] == b"MThd"]
    return {name: files[name] for name in random.Random(0).sample(names, 200)}


@pytest.fixture(scope="session", params=[10, pytest.param(1, marks=pytest.mark.slow)], ids=["20 files", "200 files"])
def real_files(many_real_files, request) -> dict[str, bytes]:
    "Every tenth of these files, and all of them in `make test-full`. The one whose tempo changes in a later track is among them."
    return dict(list(many_real_files.items())[request.param > 1::request.param])


@pytest.fixture(scope="session")
def prelude() -> bytes:
    return SAMPLE.read_bytes()


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Corpus:
    "A corpus of two composers with six works each. Nobody writes to it."
    folder = tmp_path_factory.mktemp("small")
    return collect(write_tunes(folder / "tunes", Ada=6, Bob=6), folder / "corpus", n_jobs=1)

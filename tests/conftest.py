"""Fixtures: the real collection, where there is one, and the sample."""
import os
import random
import zipfile
from pathlib import Path

import pytest

from composer_classify.collection import Corpus, collect


def pytest_configure(config):
    config.addinivalue_line("markers", "alone: measures time, so nothing else may run beside it")


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
    "The corpus made of it."
    return collect(real_zip, tmp_path_factory.mktemp("real") / "corpus", n_jobs=2)


@pytest.fixture(scope="session")
def real_files(real_zip) -> dict[str, bytes]:
    "Name and content of 200 MIDI files of the real collection, always the same."
    with zipfile.ZipFile(real_zip) as archive:
        files = {name: archive.read(name) for name in sorted(archive.namelist()) if not name.lower().endswith((".zip", "/"))}
    names = [name for name, content in files.items() if content[:4] == b"MThd"]
    return {name: files[name] for name in random.Random(0).sample(names, 200)}


@pytest.fixture(scope="session")
def prelude() -> bytes:
    return SAMPLE.read_bytes()

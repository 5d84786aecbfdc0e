"""What is measured on."""

import os

import pytest


@pytest.fixture(scope="session")
def contents(request) -> list[bytes]:
    """200 real files, or the sample as often; twenty beside other tests (`-n 2`), where nothing is measured and it only
    has to work."""
    n = 20 if "PYTEST_XDIST_WORKER" in os.environ else 200
    if os.environ.get("COMPOSER_CLASSIFY_ZIP"):
        return list(request.getfixturevalue("many_real_files").values())[:n]
    return [request.getfixturevalue("prelude")] * n

"""The whole chain on a cluster that loses a worker in each step: collect, works, features, index, train, evaluate."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from builders import STEPS, tune
from composer_classify.best import evaluate, train
from composer_classify.collection import collect
from composer_classify.corpus import Corpus
from composer_classify.index import make_index
from composer_classify.processes import SERIAL_BELOW


@pytest.fixture(scope="module")
def tunes(tmp_path_factory) -> Path:
    "A folder of so many pieces that processes share the work."
    folder = tmp_path_factory.mktemp("tunes")
    for k in range(SERIAL_BELOW + 20):
        composer = list(STEPS)[k % 3]
        path = folder / composer / f"{k}.mid"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(tune(k, STEPS[composer]))
    return folder


def chain(tunes: Path, dest: Path) -> dict:
    "The steps from a folder of files to an index, a model and its scores, by name."
    corpus = lambda: Corpus.open(dest / "corpus")
    return dict(
        collect=lambda: collect(tunes, dest=dest / "corpus"),
        index=lambda: make_index(corpus()).save(dest / "index"),
        train=lambda: train(corpus(), dest / "model.npz"),
        evaluate=lambda: evaluate(corpus()),
    )


@contextmanager
def one_dies(client) -> Iterator[None]:
    "While this goes on, a worker that has something to do is killed."
    pids = client.run(os.getpid)

    def kill():
        while not (busy := [worker for worker, tasks in client.processing().items() if tasks and worker in pids]):
            time.sleep(0.002)
        os.kill(pids[busy[0]], signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    yield
    killer.join(timeout=1)
    assert not killer.is_alive(), "nothing was done by the cluster"


def files_below(folder: Path) -> dict[str, bytes]:
    "The content of each file in a folder."
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.slow
def test_a_cluster_that_loses_a_worker_in_each_step_makes_the_same(tunes, tmp_path):
    distributed = pytest.importorskip("distributed")
    from joblib import parallel_config

    alone = {name: step() for name, step in chain(tunes, tmp_path / "alone").items()}
    together = {}
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        for name, step in chain(tunes, tmp_path / "together").items():
            with one_dies(client), parallel_config(backend="dask"):
                together[name] = step()
    assert together["evaluate"] == alone["evaluate"]
    assert files_below(tmp_path / "together") == files_below(tmp_path / "alone")

"""Measure how many chunks a second the report's network learns from, by several ways to run the same arithmetic, and
write results/training_speed.json.

Each way is a process of its own, or two. A backend that is not installed is left out. On a machine that is shared only
the chunks for each second of a core mean something: the record says how busy it was before.

.venv/bin/python tools/measure_training.py CORPUS [--seconds 20]
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np

from composer_classify.cnn import ChunkBatches, build_published_cnn
from composer_classify.corpus import Corpus
from composer_classify.results import write_results
from composer_classify.windows import Chunks

ROOT = Path(__file__).resolve().parent.parent
FOUR = ["Bach", "Beethoven", "Chopin", "Mozart"]
BATCHES = 10  # an epoch
# glibc gives large arrays back to the system after each batch otherwise, and asks for them again
KEPT = dict(MALLOC_MMAP_THRESHOLD_="8589934592", MALLOC_TRIM_THRESHOLD_="8589934592", MALLOC_TOP_PAD_="268435456")
ONE_DNN = dict(KERAS_BACKEND="tensorflow", TF_ENABLE_ONEDNN_OPTS="1")
WAYS = {  # processes side by side, and their environment
    "TensorFlow without oneDNN": (1, ONE_DNN | dict(TF_ENABLE_ONEDNN_OPTS="0")),
    "TensorFlow with oneDNN": (1, ONE_DNN),
    "the same, compiled by XLA": (1, ONE_DNN | dict(JIT_COMPILE="1")),
    "the same, two trainings side by side": (2, ONE_DNN),
    "the same, two side by side, a core each": (2, ONE_DNN | dict(TF_NUM_INTRAOP_THREADS="1")),
    "PyTorch": (1, dict(KERAS_BACKEND="torch")),
    "PyTorch, memory not given back": (1, dict(KERAS_BACKEND="torch") | KEPT),
    "JAX": (1, dict(KERAS_BACKEND="jax")),
}


def train(corpus: Corpus, seconds: float) -> dict:
    "Short epochs for so long, after one that does not count: chunks and seconds of each, and CPU seconds of all."
    keras.utils.set_random_seed(0)
    chunks, answers = Chunks(corpus), np.eye(len(FOUR), dtype=np.float32)[corpus.labels]
    shown = np.random.default_rng(0).permutation(len(chunks))[: BATCHES * 32]
    batches, model = ChunkBatches(chunks, shown, answers[chunks.file], seed=0), build_published_cnn(len(FOUR))
    model.jit_compile = os.environ.get("JIT_COMPILE") == "1" or keras.backend.backend() == "jax"
    model.fit(batches, shuffle=False, verbose=0)
    ends, busy = [time.monotonic()], time.process_time()
    while ends[-1] < ends[0] + seconds:
        model.fit(batches, shuffle=False, verbose=0)
        ends.append(time.monotonic())
    return dict(chunks=len(shown), seconds=np.diff(ends).tolist(), cpu_seconds=time.process_time() - busy)


def measure(corpus: str, seconds: float, processes: int, environment: dict[str, str]) -> list[dict] | None:
    "What `train` says in processes that run side by side with this environment; None without the backend."
    command = [sys.executable, __file__, corpus, "--seconds", str(seconds), "--train"]
    running = [
        subprocess.Popen(command, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for _ in range(processes)
    ]
    told = [process.communicate()[0] for process in running]
    return None if any(process.returncode for process in running) else [json.loads(each) for each in told]


def summary(runs: list[dict]) -> dict:
    "Chunks a second of all processes together, chunks for each second of a core, and how many cores were busy."
    rates = [run["chunks"] / np.mean(run["seconds"]) for run in runs]
    busy = [run["cpu_seconds"] / sum(run["seconds"]) for run in runs]
    return dict(a_second=sum(rates), a_cpu_second=sum(rates) / sum(busy), cores=sum(busy))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each way")
    parser.add_argument("--train", action="store_true", help=argparse.SUPPRESS)  # be one of the processes
    args = parser.parse_args()
    if args.train:
        print(json.dumps(train(Corpus.open(args.corpus).select(FOUR), args.seconds)))
        return
    found = {}
    for way, (processes, environment) in WAYS.items():
        load = os.getloadavg()[0]
        if runs := measure(args.corpus, args.seconds, processes, environment):
            found[way] = summary(runs) | dict(load=load, processes=processes, environment=environment)
            print(way, found[way], flush=True)
    corpus = Corpus.open(args.corpus)
    parameters = dict(corpus=corpus.source, composers=",".join(FOUR), seconds=args.seconds, batch=32, seed=0)
    write_results(ROOT / "results" / "training_speed.json", dict(ways=found), parameters, corpus.data_hash)


if __name__ == "__main__":
    main()

"""Measure how time, memory and disk grow with a collection, and write results/scale.json.

The collections are made by `synthesize.py` from a corpus. Each step runs in a process of its own, with as many workers
as there are cores. What is measured is kept in FOLDER, so that a run that was stopped goes on where it was.

.venv/bin/python tools/measure_scale.py CORPUS FOLDER --sizes 1000 4000 10000 40000 100000
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
from synthesize import Synthesizer

from composer_classify.augment import simulate_query
from composer_classify.corpus import Corpus
from composer_classify.results import write_results

ROOT = Path(__file__).resolve().parent.parent
CLI = [sys.executable, "-c", "import sys; from composer_classify.cli import main; sys.exit(main())"]
QUERIES = 600  # ten seconds each, transposed, stretched, with jitter and 5% wrong notes
NOISE = dict(jitter=0.03, wrong=0.05)
UNSEEN = 10_000_000  # numbers of pieces that are in no collection begin here
FOLDER = 10_000  # files that `predict` is given at most


def tree(pid: int) -> list[int]:
    "A process and all that it has started."
    found = [pid]
    for parent in found:
        try:
            tasks = Path(f"/proc/{parent}/task").iterdir()
            found += [int(child) for task in tasks for child in (task / "children").read_text().split()]
        except OSError:
            continue
    return found


def own_memory(pid: int) -> int:
    "Bytes of memory that a process has for itself; files that it has mapped do not count."
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss_Anon"))


def measured(command: list[str]) -> dict:
    "Seconds, CPU seconds and peak memory (bytes, of all processes together) of a command, and what it printed."
    before, begin, peak = os.times(), time.perf_counter(), 0
    environment = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS=os.environ.get("OMP_NUM_THREADS", "2"))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    said: dict[str, str] = {}
    readers = [
        threading.Thread(target=lambda name=name: said.update({name: getattr(process, name).read()}))
        for name in ("stdout", "stderr")
    ]
    for reader in readers:
        reader.start()
    while process.poll() is None:
        peak = max(peak, sum(map(own_memory, tree(process.pid))))
        time.sleep(0.2)
    for reader in readers:
        reader.join()
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    if process.returncode > 1 or "Traceback" in said["stderr"]:  # 1: composers with few works are left out
        raise RuntimeError(f"{' '.join(map(str, command))}\n{said['stderr']}")
    found = dict(seconds=time.perf_counter() - begin, cpu_seconds=cpu, peak_bytes=peak)
    return found | dict(said=said["stdout"])


def bytes_below(path: Path) -> int:
    "Bytes of a file, or of all files in a folder."
    files = [path] if path.is_file() else path.rglob("*")
    return sum(each.stat().st_size for each in files if each.is_file())


class Growth:
    "The steps for collections of several sizes, and what was measured so far."

    def __init__(self, corpus: Path, folder: Path):
        self.corpus, self.folder, self.log = corpus, folder, folder / "measured.json"
        self.rows = json.loads(self.log.read_text()) if self.log.exists() else {}

    def keep(self, size: int, step: str, row: dict) -> None:
        "Remember what was measured of a step."
        self.rows.setdefault(str(size), {})[step] = row
        self.log.write_text(json.dumps(self.rows, indent=1))
        brief = {name: round(value, 4) for name, value in row.items() if isinstance(value, (int, float))}
        print(size, step, brief, flush=True)

    def run(self, size: int, step: str, command: list[str], made: Path | None = None) -> None:
        "Measure a step, unless it was measured before. `made` is what it writes."
        if step in self.rows.get(str(size), {}):
            return
        row = measured(command)
        said = row.pop("said")
        if said.startswith("{"):
            row["said"] = {
                name: value for name, value in json.loads(said).items() if not isinstance(value, (dict, list))
            }
        if made is not None:
            row["disk_bytes"] = bytes_below(made)
        self.keep(size, step, row)

    def files(self, size: int) -> Path:
        "A folder with so many files. The files of a smaller folder are those of a larger one."
        folder, whole = self.folder / f"files{size}", self.folder / "files"
        have = len(list(whole.rglob("*.mid"))) if whole.exists() else 0
        if have < size:
            subprocess.run([sys.executable, ROOT / "tools/synthesize.py", self.corpus, whole, str(size)], check=True)
        if not folder.exists():
            partial = folder.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            for path in sorted(whole.rglob("*.mid"), key=lambda path: path.name)[:size]:
                (partial / path.parent.name).mkdir(parents=True, exist_ok=True)
                os.link(path, partial / path.parent.name / path.name)
            partial.rename(folder)
        return folder

    def measure(self, size: int) -> None:
        "All steps for a collection of one size."
        files, corpus, index = self.files(size), self.folder / f"corpus{size}", self.folder / f"index{size}"
        model = self.folder / f"model{size}.npz"
        step = [sys.executable, __file__, "--step"]
        self.run(size, "collect", [*CLI, "collect", files, corpus, "--json"], corpus)
        self.run(size, "works", [*step, "works", corpus])
        self.run(size, "features", [*step, "features", corpus])
        self.run(size, "index", [*CLI, "index", corpus, "--out", index, "--json"], index)
        self.run(size, "query", [*step, "query", self.corpus, corpus, index, str(size)])
        self.run(size, "predict", [*CLI, "predict", self.files(min(size, FOLDER)), "--index", index])
        self.run(size, "evaluate", [*CLI, "evaluate", corpus, "--json"])
        self.run(size, "train", [*CLI, "train", corpus, "--out", model], model)


def find_works(corpus: str) -> dict:
    "Find the works of a corpus again."
    from composer_classify.works import find_copies, outer_lines

    opened = Corpus.open(corpus)
    copies = find_copies([outer_lines(opened.notes(row)) for row in opened.files.index], n_jobs=-1)
    return dict(pairs=len(copies))


def make_features(corpus: str) -> dict:
    "Compute what models read of a corpus, once."
    from composer_classify.features import corpus_features

    return dict(pieces=len(corpus_features(Corpus.open(corpus))))


def ask(source: str, corpus: str, path: str, size: str) -> dict:
    "Ten-second queries: known pieces, and pieces that are in no collection."
    from composer_classify.fingerprints import KNOWN
    from composer_classify.index import Index

    begin = time.perf_counter()
    index = Index.load(path)
    opened = time.perf_counter() - begin
    synthesizer, rng = Synthesizer(Corpus.open(source)), np.random.default_rng(0)
    row_of = {title: k for k, title in enumerate(Corpus.open(corpus).files["title"])}
    right, named, unknown, took = 0, 0, 0, []
    for number in rng.integers(int(size), size=QUERIES):
        piece = synthesizer.piece(int(number))
        heard, _ = simulate_query(piece.notes, rng, 10, **NOISE)
        clock = time.process_time()
        match = index.query(heard)
        took.append(time.process_time() - clock)
        hit = match is not None and match.piece == row_of[piece.title]
        right, named = right + hit, named + (hit and match.score >= KNOWN)
        heard, _ = simulate_query(synthesizer.piece(UNSEEN + int(number)).notes, rng, 10, **NOISE)
        other = index.query(heard)
        unknown += other is None or other.score < KNOWN
    median, p99 = np.percentile(took, [50, 99])
    shares = dict(right=right / QUERIES, named=named / QUERIES, unknown=unknown / QUERIES)
    return shares | dict(opened_seconds=opened, median_seconds=float(median), p99_seconds=float(p99))


STEPS = dict(works=find_works, features=make_features, query=ask)


def main() -> None:
    if sys.argv[1:2] == ["--step"]:
        print(json.dumps(STEPS[sys.argv[2]](*sys.argv[3:])))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="to make pieces from")
    parser.add_argument("folder", type=Path, help="for collections and for what is measured")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 4000, 10_000, 40_000, 100_000])
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    growth = Growth(args.corpus, args.folder)
    parameters = dict(queries=QUERIES, noise=NOISE, folder=FOLDER)
    for size in args.sizes:
        growth.measure(size)
        write_results(ROOT / "results/scale.json", growth.rows, parameters, Corpus.open(args.corpus).data_hash)


if __name__ == "__main__":
    main()

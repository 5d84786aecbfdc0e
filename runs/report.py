"""`make report`: run the notebooks that have parameters in a set, in order, by papermill; what an earlier run has
finished is not run again.

python runs/report.py SET DATA [NAME ...]
"""

import hashlib
import importlib.util
import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import yaml
from filelock import FileLock, Timeout

from composer_classify.archives import hash_source

root = Path(__file__).resolve().parent.parent
nbs, runs, library = root / "nbs", root / "runs", root / "composer_classify"
gpu_seen = "import sys, keras; from composer_classify.results import accelerator; sys.exit(not accelerator())"


def checksum(*paths):
    return hashlib.sha256(b"".join(hashlib.sha256(p.read_bytes()).digest() for p in paths)).hexdigest()


def sources(name):
    "The cells of a notebook, without what they have put out."
    return "\0".join(
        "".join(cell["source"]) for cell in json.loads((nbs / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    )


def state(run, *given):
    "All that decides what comes out of a run, but for the machine: what it is given, its parameters, and the code."
    code = checksum(run, root / "constraints.txt", *sorted(library.glob("*.py")), *sorted(library.glob("tables/*.csv")))
    return hashlib.sha256(repr([sources(run.stem), code, *given]).encode()).hexdigest()


def written(parameters, since):
    "The files that a run has written into the folders of its results and models, with their checksums."
    places = [(nbs / parameters[key]).resolve() for key in ("results", "out", "settings_file") if parameters.get(key)]
    folders = {p if not p.suffix else p.parent for p in places}
    return {
        os.path.relpath(p, root): checksum(p)
        for folder in sorted(folders)
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.stat().st_mtime >= since
    }


def finished(done, now):
    "Whether a notebook has run to its end with the same state, and what it wrote is still there."
    if not done.exists():
        return False
    then = json.loads(done.read_text())
    return then["state"] == now and all(
        (root / p).is_file() and checksum(root / p) == was for p, was in then["written"].items()
    )


def check(which, data, names, backend):
    "What can be known to go wrong before hours have passed, as a sentence; nothing if all is well."
    sets = sorted({p.parent.name for p in runs.glob("*/*.yaml")})
    known = sorted(p.stem for p in (runs / which).glob("*.yaml")) if which in sets else []
    if not known:
        return f"There is no set of parameters runs/{which}: use SET={', SET='.join(sets)}"
    if wrong := [name for name in names if name not in known]:
        return f"There are no parameters for {', '.join(wrong)} in runs/{which}: ONLY may hold {' '.join(known)}"
    if not data:
        return "Say which data: make report DATA=path/to/midi_classic_music_data.zip (or SET=smoke DATA=embedded)"
    if data == "embedded" and which != "smoke":
        return (
            f"The set {which} is for the Kaggle collection, and would write what the site shows: "
            "use SET=smoke with DATA=embedded"
        )
    if data != "embedded" and not Path(data).exists():
        return f"There is no {data}, seen from {Path.cwd()}"
    if backend not in ("tensorflow", "jax", "torch"):
        return f"KERAS_BACKEND is {backend}: use tensorflow, jax or torch"
    if not importlib.util.find_spec(backend):
        return f"KERAS_BACKEND is {backend}, which is not installed here: .venv/bin/python -m pip install {backend}"
    if which == "gpu" and subprocess.run([sys.executable, "-c", gpu_seen], cwd=root, capture_output=True).returncode:
        return f"{backend} sees no GPU here. CONTRIBUTING.md says how to install JAX for one; without one use SET=cpu"


def report(which, data, names, backend):
    import papermill

    out = runs / "out" / which
    log = logging.StreamHandler(sys.stdout)
    log.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    log.addFilter(lambda record: record.levelno >= logging.WARNING or "Ending Cell" not in record.getMessage())
    logging.basicConfig(level=logging.WARNING, handlers=[log])
    logging.getLogger("papermill").setLevel(logging.INFO)
    begin, held = time.time(), data
    if data != "embedded":
        data, held = os.path.abspath(data), hash_source(data)  # notebooks run in nbs/
    for name in names or sorted(p.stem for p in (runs / which).glob("*.yaml")):
        run, copy = runs / which / f"{name}.yaml", out / f"{name}.ipynb"
        done, now, parameters = (
            copy.with_suffix(".done"),
            state(run, data, held, backend),
            yaml.safe_load(run.read_text(encoding="utf-8")),
        )
        if finished(done, now):
            print(f"{name}: finished before", flush=True)
            continue
        done.unlink(missing_ok=True)
        print(f"{name}: begins at {time.strftime('%H:%M:%S')}", flush=True)
        since = time.time()
        try:
            papermill.execute_notebook(
                nbs / f"{name}.ipynb",
                copy,
                {**parameters, "corpus": data},
                cwd=nbs,
                log_output=True,
                progress_bar=False,
            )
        except papermill.PapermillExecutionError as error:
            reason = str(error.evalue).splitlines()[0] if error.evalue else ""
            return (
                f"{name}: failed in cell {error.cell_index + 1} with {error.ename}: {reason}\n"
                f"The whole of it is in {copy.relative_to(root)}. "
                "What is finished is kept; once the cause is mended, the same command goes on."
            )
        done.write_text(json.dumps(dict(state=now, written=written(parameters, since))))
    print(
        f"All finished, {(time.time() - begin) / 60:.0f} min. "
        f"Notebooks with all that they put out: {out.relative_to(root)}",
        flush=True,
    )


if __name__ == "__main__":
    which, data, *names = sys.argv[1:]
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    if sentence := check(which, data, names, backend):
        sys.exit(print(sentence, file=sys.stderr) or 2)
    (runs / "out" / which).mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(runs / "out" / which / "lock", timeout=0):
            sentence = report(which, data, sorted(names), backend)
    except Timeout:
        sentence = f"Another report of the set {which} is running here"
    if sentence:
        sys.exit(print(sentence, file=sys.stderr) or 1)

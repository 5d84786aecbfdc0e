"""`make report` as a team runs it: headless, in order, resumed where it was interrupted. Here a part of the smoke set, on the embedded corpus; the whole takes five minutes."""
import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "runs" / "out" / "smoke"
ONLY = ["01_collection", "02a_evaluation", "03_lstm", "06b_fingerprints"]


def report(*settings: str) -> subprocess.CompletedProcess:
    return subprocess.run(["make", "report", "SET=smoke", *settings], cwd=ROOT, capture_output=True, text=True, timeout=900)


def test_a_report_is_written_and_goes_on_where_it_was_interrupted():
    for stamp in OUT.glob("*.done"):
        stamp.unlink()
    first = report("DATA=embedded", "ONLY=" + " ".join(ONLY))
    assert first.returncode == 0, first.stderr[-2000:]
    assert re.findall(r"^(\S+): begins", first.stdout, re.M) == ONLY  # in order
    assert "Executing Cell" in first.stdout + first.stderr  # progress is in the log
    for name in ("collection", "evaluation", "lstm", "fingerprints"):
        result = json.loads((OUT / "results" / f"{name}.json").read_text())
        assert {"measured", "parameters", "data_hash", "versions", "machine", "python", "date"} <= set(result) and "cores" in result["machine"]
    (OUT / "03_lstm.ipynb.done").unlink()  # as if it had been killed there
    again = report("DATA=embedded", "ONLY=" + " ".join(ONLY))
    assert again.returncode == 0
    assert re.findall(r"^(\S+): begins", again.stdout, re.M) == ["03_lstm"] and again.stdout.count("finished before") == 3


@pytest.mark.parametrize("settings, sentence", [((), "Say which data"), (("DATA=nowhere.zip",), "There is no nowhere.zip"), (("DATA=embedded", "SET=tpu"), "There is no set of parameters runs/tpu")])
def test_wrong_usage_gets_a_sentence(settings, sentence):
    done = report(*settings)
    assert done.returncode != 0 and sentence in done.stderr


@pytest.mark.parametrize("run", sorted((ROOT / "runs").glob("[a-z]*/*.yaml")), ids=lambda run: f"{run.parent.name}/{run.stem}")
def test_every_parameter_is_one_of_its_notebook(run):
    notebook = json.loads((ROOT / "nbs" / f"{run.stem}.ipynb").read_text())
    cell, = ("".join(cell["source"]) for cell in notebook["cells"] if "parameters" in cell["metadata"].get("tags", []))
    assert set(yaml.safe_load(run.read_text())) <= set(re.findall(r"^(\w+) =", cell, re.M))


def test_the_sets_hold_the_same_notebooks():
    names = {folder: sorted(path.stem for path in (ROOT / "runs" / folder).glob("*.yaml")) for folder in ("cpu", "gpu", "smoke")}
    assert names["cpu"] == names["gpu"] == names["smoke"]

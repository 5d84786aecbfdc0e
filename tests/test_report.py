"""`make report` as a team runs it: headless, all notebooks in order, killed on the way and started again. Here the
smoke set, on the embedded corpus."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "runs" / "out" / "smoke"
NAMES = sorted(path.stem for path in (ROOT / "runs" / "smoke").glob("*.yaml"))
FEW = ["01_collection"]
PUBLISHED = ["all_composers", "cnn", "optimization"]  # with a record of their own of what the report did
RESULTS = sorted(
    [
        "best",
        "collection",
        "evaluation",
        "fingerprints",
        "lstm",
        "preprocessing",
        "tuning",
        *PUBLISHED,
        *(f"{name}_published" for name in PUBLISHED),
    ]
)


def report(*settings: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["make", "report", "SET=smoke", *settings], cwd=ROOT, capture_output=True, text=True, timeout=1200
    )


def kill_in(name: str, *settings: str):
    "Begin the report, and kill all of it in the midst of a notebook."
    with subprocess.Popen(
        ["make", "report", "SET=smoke", *settings],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        begun = False
        for line in process.stdout:
            begun = begun or line.startswith(f"{name}: begins")
            if begun and "Executing Cell 9" in line:
                os.killpg(process.pid, signal.SIGKILL)
                return
    pytest.fail(f"{name} never came to its ninth cell")


@pytest.mark.parametrize(
    ("names", "killed", "lost"),
    [
        (FEW, "01_collection", "collection"),
        pytest.param(NAMES, "02_preprocessing", "collection", marks=pytest.mark.slow),
    ],
    ids=["one notebook", "all notebooks"],
)
def test_a_report_is_written_though_it_is_killed_on_the_way(names, killed, lost):
    settings = ["DATA=embedded", *([] if names == NAMES else [f"ONLY={' '.join(names)}"])]
    shutil.rmtree(OUT, ignore_errors=True)
    kill_in(killed, *settings)
    done = report(*settings)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("finished before") == names.index(killed)
    assert (
        re.findall(r"^(\S+): begins", done.stdout, re.M) == names[names.index(killed) :]
    )  # in order, from where it was
    assert "Executing Cell" in done.stdout + done.stderr  # progress is in the log
    results = {
        path.stem: json.loads(path.read_text()) for path in (OUT / "results").glob("*.json") if path.stem != "settings"
    }
    assert sorted(results) == [name for name in RESULTS if names == NAMES or any(each.endswith(name) for each in names)]
    for result in results.values():
        assert {"measured", "parameters", "data_hash", "versions", "machine", "python", "date"} <= set(
            result
        ) and "cores" in result["machine"]
    (OUT / "results" / f"{lost}.json").unlink()
    with FileLock(OUT / "lock"):  # as another report that is running holds it
        assert "Another report" in report(*settings).stderr
    again = report(*settings).stdout  # what was lost is made again, and nothing else
    assert re.findall(r"^(\S+): begins", again, re.M) == names[:1] and again.count("finished before") == len(names) - 1


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    "settings, sentence",
    [
        ((), "Say which data"),
        (("DATA=nowhere.zip",), "There is no nowhere.zip"),
        (("DATA=embedded", "SET=tpu"), "There is no set of parameters runs/tpu"),
        (("DATA=embedded", "SET=cpu"), "The set cpu is for the Kaggle collection"),
        (("DATA=embedded", "ONLY=03_lstm nope"), "There are no parameters for nope"),
        (("DATA=embedded", "KERAS_BACKEND=jaxx"), "use tensorflow, jax or torch"),
    ],
)
def test_wrong_usage_gets_a_sentence(settings, sentence):
    done = report(*settings)
    assert done.returncode != 0 and sentence in done.stderr


@pytest.mark.parametrize("name", ["report.py", "gpu.sh"])
def test_the_question_for_a_gpu_is_understood(name):
    "A machine without a GPU answers no, and not with a traceback that is taken for a no."
    question = re.search(r'gpu\w* ?= ?"(import sys.*)"$', (ROOT / "runs" / name).read_text(), re.M)[1]
    asked = subprocess.run([sys.executable, "-c", question], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert asked.returncode in (0, 1) and "Traceback" not in asked.stderr


@pytest.mark.parametrize(
    "run", sorted((ROOT / "runs").glob("[a-z]*/*.yaml")), ids=lambda run: f"{run.parent.name}/{run.stem}"
)
def test_every_parameter_is_one_of_its_notebook(run):
    notebook = json.loads((ROOT / "nbs" / f"{run.stem}.ipynb").read_text())
    (cell,) = (
        "".join(cell["source"]) for cell in notebook["cells"] if "parameters" in cell["metadata"].get("tags", [])
    )
    assert set(yaml.safe_load(run.read_text())) <= set(re.findall(r"^(\w+) =", cell, re.M))


def test_the_sets_hold_the_same_notebooks():
    names = {
        folder: sorted(path.stem for path in (ROOT / "runs" / folder).glob("*.yaml"))
        for folder in ("cpu", "gpu", "smoke")
    }
    assert names["cpu"] == names["gpu"] == names["smoke"]


@pytest.mark.slow
def test_the_report_s_own_experiments_run_by_one_command_that_goes_on(tmp_path):
    """`runs/gpu.sh` as on a GPU machine, on the smoke set: killed in the midst, called again, and once more when all is
    done."""
    shutil.rmtree(OUT, ignore_errors=True)
    settings = os.environ | {
        "SET": "smoke",
        "DATA": "embedded",
        "OUT": str(tmp_path),
        "PYTHON": sys.executable,
        "KERAS_BACKEND": "tensorflow",
    }
    run = lambda limit: subprocess.run(
        ["runs/gpu.sh"], cwd=ROOT, env=settings | {"LIMIT": limit}, capture_output=True, text=True, timeout=1200
    )
    assert run("45").returncode == 1
    done = run("1200")
    assert done.returncode == 0 and "all finished" in done.stdout, done.stdout[-2000:]
    results = {path.stem: json.loads(path.read_text()) for path in (OUT / "results").glob("*.json")}
    assert sorted(results) == [f"{name}_published" for name in PUBLISHED]  # ours are not trained
    assert all(
        {"measured", "parameters", "data_hash", "versions", "machine", "date"} <= set(each) for each in results.values()
    )
    with tarfile.open(tmp_path / "published.tar") as brought:
        assert all(f"runs/out/smoke/results/{name}.json" in brought.getnames() for name in results)
    assert run("1200").stdout.count("finished before") == 3


def said(output: dict) -> str:
    "The words of an output of a cell."
    data = output.get("data", {})
    return "".join(
        output.get("text") or data.get("text/markdown") or data.get("text/html") or data.get("text/plain", "")
    )


def test_the_pages_show_what_results_hold(tmp_path):
    "What the front page, the story and the card put out is what they put out when they are run now."
    names = ["index", "model_card", "what_leaked"]
    for folder in ("nbs", "results", "tools"):
        shutil.copytree(ROOT / folder, tmp_path / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("composer_classify", "_quarto.yml", "settings.ini"):
        (tmp_path / name).symlink_to(ROOT / name)
    subprocess.run(
        [sys.executable, "tools/render.py", "pages", *names], cwd=tmp_path, check=True, capture_output=True, timeout=300
    )
    for name in names:
        there, now = (
            json.loads((folder / "nbs" / f"{name}.ipynb").read_text())["cells"] for folder in (ROOT, tmp_path)
        )
        shown = [[said(output) for cell in cells for output in cell.get("outputs", [])] for cells in (there, now)]
        assert shown[0] == shown[1] and len(shown[0]) > 3


def test_links_between_pages_lead_to_pages_and_headings():
    "The quick variant of `test_site.py`: what can be seen without building the site."
    pages = {path.name: json.loads(path.read_text())["cells"] for path in (ROOT / "nbs").glob("*.ipynb")}
    texts = {
        name: "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
        for name, cells in pages.items()
    }
    anchors = {
        name: {
            re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-")
            for heading in re.findall(r"^#+ (.+)$", text, re.M)
        }
        for name, text in texts.items()
    }
    links = [
        (name, *link)
        for name, text in texts.items()
        for link in re.findall(r"\]\(([\w]+\.ipynb)?(?:#([\w-]+))?\)", text)
        if any(link)
    ]
    dead = [
        link
        for link in links
        if link[1] and link[1] not in pages or link[2] and link[2] not in anchors[link[1] or link[0]]
    ]
    assert len(links) > 80 and dead == []

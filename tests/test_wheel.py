"""The wheel, built in isolation, holds the models, the tables and nothing else, and answers in an empty environment."""
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "source"  # setuptools would find an earlier build/ in the clone
    files = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    for name in filter(None, files):
        if (ROOT / name).is_file() and name.split("/")[0] in ("composer_classify", "setup.py", "settings.ini", "README.md", "LICENSE", "MANIFEST.in", "constraints.txt", "CHANGELOG.md"):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--use-pep517", "--no-deps", "-w", str(folder), str(copy)], check=True)
    built, = folder.glob("*.whl")
    return built


def test_it_holds_the_models_the_tables_and_nothing_else(wheel):
    names = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    kinds = {(name.split("/")[1] if name.count("/") > 1 else "", Path(name).suffix) for name in names}
    assert all(name.startswith("composer_classify/") for name in names)
    assert kinds == {("", ".py"), ("weights", ".npz"), ("samples", ".mid"), ("tables", ".csv")}
    assert {Path(name).name for name in names if "/weights/" in name} == {"all.npz", "four.npz", "pieces.npz"}
    front, = (name for name in zipfile.ZipFile(wheel).namelist() if name.endswith("/METADATA"))
    links = re.findall(r"\]\(([^)\s]+)\)", zipfile.ZipFile(wheel).read(front).decode())
    assert len(links) > 10 and all(link.startswith(("https://", "#")) for link in links)  # PyPI has no files to lead to
    assert 20e6 < wheel.stat().st_size < 45e6


def test_it_answers_in_an_empty_environment(wheel, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "empty")], check=True)
    python = tmp_path / "empty" / "bin" / "python"
    subprocess.run([str(python), "-m", "pip", "install", "-q", "-c", str(ROOT / "constraints.txt"), str(wheel)], check=True)
    sample = ROOT / "composer_classify" / "samples" / "beethoven_woo59.mid"
    done = subprocess.run([str(python.parent / "composer-classify"), "predict", str(sample), "--plot", str(tmp_path / "p.png")], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "Beethoven (Classical, 1770)" in done.stdout and "Elise" in done.stdout and (tmp_path / "p.png").exists()
    page = subprocess.run([str(python.parent / "composer-classify"), "app"], cwd=tmp_path, capture_output=True, text=True)
    assert page.returncode == 1 and "composer_classify[app]" in page.stderr
    installed = subprocess.run([str(python), "-m", "pip", "list"], capture_output=True, text=True).stdout
    assert "tensorflow" not in installed and "gradio" not in installed and "scikit-learn" not in installed

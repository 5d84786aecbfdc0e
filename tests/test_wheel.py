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
    files = (
        subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        )
        .stdout.decode()
        .split("\0")
    )
    for name in filter(None, files):
        if (ROOT / name).is_file() and name.split("/")[0] in (
            "composer_classify",
            "setup.py",
            "settings.ini",
            "README.md",
            "LICENSE",
            "MANIFEST.in",
            "constraints.txt",
            "CHANGELOG.md",
        ):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--use-pep517", "--no-deps", "-w", str(folder), str(copy)],
        check=True,
    )
    (built,) = folder.glob("*.whl")
    return built


def front_matter(wheel: Path) -> str:
    "What a wheel says of itself: its README, and what it asks for."
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
    return archive.read(name).decode()


@pytest.mark.slow
def test_it_holds_the_package_as_in_the_repository_and_nothing_else(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    listed = subprocess.run(
        ["git", "ls-files", "composer_classify"], cwd=ROOT, capture_output=True, check=True, text=True
    )
    assert names == set(listed.stdout.splitlines())
    links = re.findall(r"\]\(([^)\s]+)\)", front_matter(wheel))
    assert len(links) > 10 and all(link.startswith(("https://", "#")) for link in links)  # PyPI has no files to lead to
    assert 20e6 < wheel.stat().st_size < 60e6  # PyPI takes 100 MB


BEYOND = [
    "tensorflow",
    "keras",
    "scikeras",
    "sklearn",
    "seaborn",
    "fastapi",
    "music21",
    "dask",
    "kagglehub",
    "nbdev",
    "fastcore",
]
ELISE = ROOT / "composer_classify" / "samples" / "beethoven_woo59.mid"


def answers(*command: str | Path, cwd: Path) -> None:
    "What is installed names a sample and draws it, and says what the page needs."
    run = lambda *arguments: subprocess.run([*command, *arguments], cwd=cwd, capture_output=True, text=True)
    done = run("predict", ELISE, "--plot", "p.png")
    assert done.returncode == 0 and "Beethoven, Bagatelle in A minor, WoO 59 “Für Elise”; from 0:0" in done.stdout
    assert (cwd / "p.png").exists()
    page = run("app")
    assert page.returncode == 1 and "composer_classify[app]" in page.stderr


@pytest.mark.slow
def test_it_answers_without_what_the_extras_bring(wheel, tmp_path):
    """As in an empty environment, but with this one's libraries, of which those that the wheel does not ask for are
    hidden."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "unpacked")
    program = tmp_path / "program.py"
    program.write_text(
        f"import sys; sys.path.insert(0, {str(tmp_path / 'unpacked')!r}); sys.modules.update(dict.fromkeys({BEYOND}))\n"
        "import composer_classify; assert 'unpacked' in composer_classify.__file__\n"
        "from composer_classify.cli import main; sys.exit(main())"
    )
    answers(sys.executable, program, cwd=tmp_path)
    asked = " ".join(re.findall(r"^Requires-Dist: ([\w-]+)[^;\n]*$", front_matter(wheel), re.M))
    assert not any(re.search(rf"\b{name}\b", asked.replace("scikit-learn", "sklearn")) for name in BEYOND)


@pytest.mark.slow
def test_it_answers_in_an_empty_environment(wheel, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "empty")], check=True)
    python = tmp_path / "empty" / "bin" / "python"
    subprocess.run(
        [str(python), "-m", "pip", "install", "-q", "-c", str(ROOT / "constraints.txt"), str(wheel)], check=True
    )
    answers(python.parent / "composer-classify", cwd=tmp_path)
    installed = subprocess.run([str(python), "-m", "pip", "list"], capture_output=True, text=True).stdout
    assert "tensorflow" not in installed and "fastapi" not in installed and "scikit-learn" not in installed

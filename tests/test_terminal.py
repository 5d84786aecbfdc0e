"""What a terminal and a file system do to a program: closed or full streams, odd names, links, signals, deaths."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import psutil
import pytest

from builders import make_zip, piece
from composer_classify.archives import hash_source
from composer_classify.collection import collect
from composer_classify.corpus import Corpus
from composer_classify.files import CollectionError, cache_folder
from composer_classify.recognition import Recognizer, listen, plot_recognition

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "composer_classify" / "samples" / "bach_bwv772.mid"
CODE = "import sys; from composer_classify.cli import main; sys.exit(main())"
ODD = [
    "$",
    "a$x^2$b",
    r"a\$b",
    "line\nbreak\ttab",
    "\x1b[31mred",
    "\u202egnp",
    "夢",
    "\udcff",
    "e\udcc3",
]  # each with .mid

pytestmark = pytest.mark.skipif(os.name != "posix", reason="streams, links and signals as POSIX has them")


def run(*arguments: str | os.PathLike, input: bytes = b"", **env: str) -> subprocess.CompletedProcess:
    "The command line as a process of its own; what it says as bytes."
    return subprocess.run(
        [sys.executable, "-c", CODE, *arguments],
        input=input,
        capture_output=True,
        cwd=ROOT,
        timeout=120,
        env={**os.environ, **env},
    )


def shell(command: str, folder: Path) -> subprocess.CompletedProcess:
    "A line of Bash, in which `cc` is the command line."
    line = f"cc() {{ '{sys.executable}' -c '{CODE}' \"$@\"; }}; cd '{folder}'; {command}"
    return subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )


def complaints(done: subprocess.CompletedProcess) -> list[str]:
    "The lines on standard error, each a sentence of ours."
    lines = (done.stderr if isinstance(done.stderr, str) else done.stderr.decode()).splitlines()
    assert all(line.startswith("composer-classify: ") for line in lines), lines
    return [line.removeprefix("composer-classify: ") for line in lines]


@pytest.fixture
def folder(tmp_path) -> Path:
    "A folder with the sample in it, as `a.mid`."
    shutil.copy(SAMPLE, tmp_path / "a.mid")
    return tmp_path


# ---------------------------------------------------------------- streams


@pytest.mark.sampled
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed(folder, closed):
    done = shell(f"cc predict a.mid missing.mid --plot p.png {closed}", folder)
    assert done.returncode == 1 and (folder / "p.png").read_bytes()[:4] == b"\x89PNG"
    assert done.stdout.startswith("a.mid: Bach") or ">&-" in closed.split()
    assert complaints(done) == ([] if "2>&-" in closed else ["missing.mid: does not exist"])
    assert (folder / "a.mid").read_bytes() == SAMPLE.read_bytes()


@pytest.mark.slow
def test_streams_that_are_closed_while_workers_are_used(folder):
    assert shell("cc collect folder corpus --jobs 2 <&- >&- 2>&-", write_many(folder)).returncode == 0
    assert len(Corpus.open(folder / "corpus").files) == 300


def test_standard_input_that_is_closed(folder):
    done = shell("cc predict - a.mid <&-", folder)
    assert (
        done.returncode == 1
        and done.stdout.startswith("a.mid: Bach")
        and complaints(done) == ["-: standard input is closed"]
    )
    done = shell("cc predict - 0>file", folder)
    assert done.returncode == 1 and complaints(done) == ["-: standard input cannot be read (Bad file descriptor)"]


def test_no_streams_at_all(folder):
    "As under pythonw."
    ask = "sys.exit(main(['predict', '-', 'a.mid', '--plot', 'p.png']))"
    code = f"import sys; sys.stdin = sys.stdout = sys.stderr = None; from composer_classify.cli import main; {ask}"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        timeout=60,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"") and (folder / "p.png").is_file()


@pytest.mark.sampled
@pytest.mark.parametrize("command", ["predict a.mid", "predict a.mid --json", "--help", "predict --help"])
def test_a_full_disk(folder, command):
    done = shell(f"cc {command} >/dev/full", folder)
    assert done.returncode == 1 and complaints(done) == ["standard output: cannot be written (No space left on device)"]


@pytest.mark.slow
def test_a_full_disk_for_what_is_said_beside_the_answers(folder):
    done = shell("cc predict missing.mid a.mid 2>/dev/full", folder)
    assert done.returncode == 1 and done.stdout.startswith("a.mid: Bach")


@pytest.mark.sampled
@pytest.mark.parametrize("command", ["predict a.mid a.mid a.mid --duration 5", "--help"])
def test_a_reader_that_leaves_early(folder, command):
    done = shell(f"cc {command} | head -c 1; exit ${{PIPESTATUS[0]}}", folder)
    assert (done.returncode, done.stderr) == (0, "") and len(done.stdout) == 1


# ---------------------------------------------------------------- encodings and names

CONSOLES = [
    dict(PYTHONIOENCODING="ascii"),
    dict(PYTHONIOENCODING="latin-1"),
    dict(PYTHONIOENCODING="cp1252"),
    dict(LC_ALL="C", PYTHONUTF8="0"),
]


@pytest.mark.sampled
@pytest.mark.parametrize("console", CONSOLES, ids=lambda console: next(iter(console.values())))
def test_consoles_that_lack_characters(folder, console):
    name, encoding = "Dvořák é ☃.mid", console.get("PYTHONIOENCODING", "ascii")
    (folder / "a.mid").rename(folder / name)
    done = run("predict", folder / name, "--json", **console)
    assert (done.returncode, done.stderr) == (0, b"") and json.loads(done.stdout.decode(encoding))[0]["file"] == str(
        folder / name
    )
    done = run("predict", folder / name, folder / "☃", **console)
    assert (
        done.returncode == 1
        and b"\\u2603.mid: Bach" in done.stdout
        and b"\\u2603: does not exist" in done.stderr
        and b"Traceback" not in done.stderr
    )
    assert run("--help", **console).returncode == 0


@pytest.mark.slow
def test_a_corpus_is_the_same_in_a_locale_without_unicode(tmp_path):
    (tmp_path / "Dvořák").mkdir()
    (tmp_path / "Dvořák" / "é.mid").write_bytes(piece())
    done = run(
        "collect", tmp_path / "Dvořák", tmp_path / "corpus", "--json", LC_ALL="C", PYTHONUTF8="0"
    )  # a file without a composer's folder
    assert done.returncode == 1 and b"Traceback" not in done.stderr and json.loads(done.stdout)["files"] == 1
    (tmp_path / "all").mkdir()
    (tmp_path / "Dvořák").rename(tmp_path / "all" / "Dvořák")
    done = run("collect", tmp_path / "all", tmp_path / "other", "--json", LC_ALL="C", PYTHONUTF8="0")
    assert done.returncode == 0 and json.loads(done.stdout)["by_composer"] == {"Dvořák": 1}, done.stderr
    before = Corpus.open(tmp_path / "other")
    assert before.files["path"].tolist() == ["Dvořák/é.mid"]
    assert (tmp_path / "other" / "Dvořák" / "é.mid").is_file()
    assert collect(tmp_path / "all", dest=tmp_path / "other").files["path"].tolist() == ["Dvořák/é.mid"]


def test_odd_names_can_be_mapped_back(tmp_path):
    for name in ODD:
        shutil.copy(SAMPLE, tmp_path / f"{name}.mid")
    done = run("predict", tmp_path, *(tmp_path / f"not {name}.mid" for name in ODD), "--duration", "5", "--json")
    found = json.loads(done.stdout.decode())
    assert done.returncode == 1 and {os.fsencode(answer["file"]) for answer in found if not answer["error"]} == {
        os.fsencode(path) for path in tmp_path.iterdir()
    }
    assert len(complaints(done)) == len(ODD) and all(line.endswith("does not exist") for line in complaints(done))
    assert (
        b"not \\x1b[31mred" in done.stderr
        and b"not line\\nbreak\\ttab" in done.stderr
        and b"\\u202e" in done.stderr
        and b"\\udcff" in done.stderr
    )
    assert not {*"\x1b\t\u202e"} & {*done.stderr.decode()}
    done = run("predict", tmp_path, "--duration", "5")
    assert (
        done.returncode == 0
        and not {*"\x1b\t\u202e"} & {*done.stdout.decode()}
        and done.stdout.count(b".mid: Bach") == len(ODD)
    )


@pytest.mark.sampled
@pytest.mark.parametrize(
    "arguments", [("predict", "a.mid", "--top", "\x1b[31m"), ("predict", "a.mid", "--\x1b[31m"), ("\x1b[31m",)]
)
def test_escape_sequences_on_the_command_line(arguments):
    done = run(*arguments)
    assert done.returncode == 2 and b"\x1b" not in done.stderr and b"x1b" in done.stderr


def test_odd_names_in_collections(tmp_path):
    for folder in ("Bach", "\x1b[31m$\n"):
        (tmp_path / "\udcff all" / folder).mkdir(parents=True)
    for i, name in enumerate(ODD):
        (tmp_path / "\udcff all" / "Bach" / f"{name}.mid").write_bytes(piece(40 + i))
    (tmp_path / "\udcff all" / "\x1b[31m$\n" / "\x1b.mid").write_bytes(piece(80))
    (tmp_path / "\udcff all" / "\x1b[31m$\n" / "bad \x1b.mid").write_bytes(b"")
    done = run("collect", tmp_path / "\udcff all", tmp_path / "\udcff corpus")
    assert done.returncode == 1 and complaints(done) == [r"\x1b[31m$\n/bad \x1b.mid: is empty"]
    assert b"\x1b" not in done.stdout and b"10 of 11 files read" in done.stdout
    assert len(Corpus.open(tmp_path / "\udcff corpus").files) == 10
    again = run("collect", tmp_path / "\udcff all", tmp_path / "\udcff corpus", "--json")
    assert again.returncode == 1 and json.loads(again.stdout)["readable"] == 10


EMPTY = [
    ("predict", ""),
    ("predict", "a.mid", "--plot", ""),
    ("predict", "a.mid", "--model", ""),
    ("collect", "", "x"),
    ("collect", "x", ""),
    ("train", "", "--out", "m.npz"),
    ("train", "x", "--out", ""),
    ("evaluate", ""),
    ("evaluate", "x", "--composers", ""),
]


@pytest.mark.sampled
@pytest.mark.parametrize("arguments", EMPTY, ids=" ".join)
def test_empty_names(arguments):
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, b"") and done.stderr.decode().splitlines()[-1].endswith(
        ": must not be empty"
    )


# ---------------------------------------------------------------- pictures


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "is a folder; name a file to write, as in"),
        ("p.xyz", "is no name for a picture; end it in .png"),
        ("p", "is no name for a picture"),
        ("no/p.png", "there is no folder"),
        ("/sys/p.png", "Permission denied"),
    ],
)
def test_a_picture_that_cannot_be_written_is_told_before_the_work(folder, name, words):
    done = run("predict", folder / "a.mid", "--plot", folder / name)
    assert (done.returncode, done.stdout) == (1, b"") and words in complaints(done)[0] and len(complaints(done)) == 1
    assert complaints(done)[0].startswith(f"{folder / name}: ") and [path.name for path in folder.iterdir()] == [
        "a.mid"
    ]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", ODD)
def test_names_stand_in_pictures_as_they_are(tmp_path, name):
    path = tmp_path / f"{name}.mid"
    shutil.copy(SAMPLE, path)
    answer = Recognizer.load().predict(path, duration=5)
    with warnings.catch_warnings(), plt.rc_context({"svg.fonttype": "none"}):
        warnings.simplefilter("ignore", UserWarning)  # a character that the font lacks
        figure = plot_recognition(listen(path, duration=5), answer)
        figure.savefig(tmp_path / "p.svg")
        plt.close(figure)
    shown = name.encode("unicode_escape").decode() if name in ODD[3:6] + ODD[7:] else name
    assert f">{shown}.mid<" in (tmp_path / "p.svg").read_text()


@pytest.mark.slow
def test_a_font_without_the_character_is_no_warning(folder):
    (folder / "a.mid").rename(folder / "夢 $.mid")
    done = run("predict", folder / "夢 $.mid", "--plot", folder / "p.png")
    assert (done.returncode, done.stderr) == (0, b"") and (folder / "p.png").is_file()


# ---------------------------------------------------------------- homes


@pytest.fixture
def open_folder() -> Iterator[Path]:
    "A folder that every user may write to, with a small collection."
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "all" / "Bach").mkdir(parents=True)
        (folder / "all" / "Bach" / "a.mid").write_bytes(SAMPLE.read_bytes())
        for path in (folder, folder / "all", folder / "all" / "Bach"):
            path.chmod(0o777)
        yield folder


NOBODY = 54321  # a user without an entry in the list of users


@pytest.fixture(scope="module")
def their_python() -> str:
    "A Python that another user can run, with our packages."
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    for python in (sys.executable, f"/usr/bin/python3.{sys.version_info[1]}"):
        try:
            subprocess.run(
                [python, "-c", "import numpy"],
                user=NOBODY,
                group=NOBODY,
                check=True,
                capture_output=True,
                cwd="/",
                env=dict(PYTHONPATH=PACKAGES),
            )
            return python
        except (OSError, subprocess.CalledProcessError):
            continue
    pytest.skip("no Python here can be run by another user")


PACKAGES = os.pathsep.join([str(ROOT), *(path for path in sys.path if path.endswith("site-packages"))])
HOMES = [
    dict(),
    dict(HOME="/nowhere/at/all"),
    dict(HOME="/sys"),
    dict(HOME="relative", XDG_CACHE_HOME="also/relative"),
    dict(XDG_CACHE_HOME=""),
]


@pytest.mark.sampled
@pytest.mark.parametrize("env", HOMES, ids=str)
def test_users_without_a_home(open_folder, their_python, env):
    plain = dict(PYTHONPATH=PACKAGES, PATH=os.defpath, TMPDIR=str(open_folder), PYTHONDONTWRITEBYTECODE="1")
    ask = lambda *arguments: subprocess.run(
        [their_python, "-c", CODE, *arguments],
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        capture_output=True,
        text=True,
        cwd=open_folder,
        timeout=120,
        env=plain | env,
    )
    done = ask("predict", "all/Bach/a.mid", "--plot", "p.png")
    assert (done.returncode, done.stderr) == (0, "") and (open_folder / "p.png").is_file()
    done = ask("collect", "all", "corpus", "--json")
    assert (done.returncode, complaints(done)) == (0, []) and json.loads(done.stdout)["readable"] == 1
    assert not [*open_folder.rglob("composer_classify")]  # no cache of ours in the folder one happens to be in


@pytest.mark.slow
def test_a_temporary_cache_of_somebody_else_is_not_trusted(open_folder, their_python):
    "Another user who made the folder could have put a corpus there."
    (open_folder / f"composer_classify-{NOBODY}").mkdir(mode=0o777)
    env = dict(PYTHONPATH=PACKAGES, PATH=os.defpath, TMPDIR=str(open_folder), HOME="/sys", PYTHONDONTWRITEBYTECODE="1")
    done = subprocess.run(
        [their_python, "-c", CODE, "collect", "all", "corpus"],
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        capture_output=True,
        text=True,
        cwd=open_folder,
        timeout=120,
        env=env,
    )
    assert done.returncode == 1 and "belongs to another user" in done.stderr and "Traceback" not in done.stderr


def test_a_cache_that_was_asked_for_and_cannot_be_written_is_named(open_folder):
    done = run("collect", open_folder / "all", open_folder / "corpus", COMPOSER_CLASSIFY_CACHE="/sys/cache")
    assert done.returncode == 1 and len(complaints(done)) == 1 and complaints(done)[0].startswith("/sys/cache")


def test_the_cache_is_where_it_was_asked_for(monkeypatch, tmp_path):
    monkeypatch.delenv("COMPOSER_CLASSIFY_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == tmp_path / ".cache/composer_classify"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert cache_folder() == tmp_path / "x/composer_classify"
    monkeypatch.setenv("COMPOSER_CLASSIFY_CACHE", "here")
    assert cache_folder() == Path("here")


# ---------------------------------------------------------------- links


@pytest.fixture
def linked(tmp_path) -> Path:
    "A folder with links out of it, in circles, to the same place twice, and to nowhere; and a pipe."
    for composer, first in (("all/Bach", 60), ("all/Bach/op. 1", 61), ("else/Satie", 62)):
        (tmp_path / composer).mkdir(parents=True)
        (tmp_path / composer / "a.mid").write_bytes(piece(first, 12))
    for name, target in {
        "all/Alias": "all/Bach",
        "all/Bach/up": "all",
        "all/Bach/op. 1/self": "all/Bach/op. 1",
        "all/Satie": "else/Satie",
        "all/Zatie": "else/Satie",
        "else/Satie/back": "all",
        "all/Bach/broken.mid": "nothing",
        "all/Bach/broken": "nothing",
    }.items():
        (tmp_path / name).symlink_to(tmp_path / target)
    os.mkfifo(tmp_path / "all/Bach/pipe.mid")
    os.mkfifo(tmp_path / "all/Bach/pipe.txt")
    return tmp_path


def test_links_are_followed_once_by_predict(linked):
    done = run("predict", linked / "all", "--json")
    found = {os.path.relpath(answer["file"], linked / "all"): answer["error"] for answer in json.loads(done.stdout)}
    assert found == {
        "Bach/a.mid": None,
        "Bach/op. 1/a.mid": None,
        "Satie/a.mid": None,
        "Bach/broken.mid": "does not exist",
        "Bach/pipe.mid": "is not a regular file",
    }
    assert done.returncode == 1 and len(complaints(done)) == 2


def test_links_are_followed_once_by_collect_and_its_hash(linked):
    before = hash_source(linked / "all")
    done = run("collect", linked / "all", linked / "corpus")
    assert done.returncode == 1 and {line.partition(": ")[0] for line in complaints(done)} == {
        "Bach/broken.mid",
        "Bach/pipe.mid",
    }
    corpus = Corpus.open(linked / "corpus")
    assert corpus.files["path"].tolist() == [
        "Bach/a.mid",
        "Bach/op. 1/a.mid",
        "Satie/a.mid",
    ] and corpus.data_hash == before == hash_source(linked / "all")
    (linked / "else/Satie/b.mid").write_bytes(piece(63))  # behind a link, and part of what is collected
    assert hash_source(linked / "all") != before
    with pytest.raises(CollectionError, match="made from something else"):
        collect(linked / "all", dest=linked / "corpus")
    (linked / "else/Satie/b.mid").unlink()
    (linked / "all/Bach/broken.mid").unlink()  # its line goes with it
    assert hash_source(linked / "all") != before


# ---------------------------------------------------------------- signals


def write_many(folder: Path, n: int = 300) -> Path:
    "The folder, with `n` pieces of three composers in `folder`."
    for i in range(n):
        path = folder / "folder" / ("Bach", "Chopin", "Mozart")[i % 3] / f"{i}.mid"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(piece(20 + i % 50, 40 + i // 50))
    return folder


def is_ready(ready: Callable[[psutil.Process], bool], process: psutil.Process) -> bool:
    "Whether the moment has come; not yet where a process ends while one looks."
    try:
        return ready(process)
    except psutil.Error:
        return False


def end_when(ready: Callable[[psutil.Process], bool], number: int, folder: Path, *arguments: str) -> tuple[int, str]:
    "Send a signal to a command and its processes, as a terminal does. Exit status and what it said; all must be gone."
    out = folder / "out"
    with open(out, "w") as stdout:
        command = subprocess.Popen(
            [sys.executable, "-c", CODE, *arguments],
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a test in the background ignores Ctrl-C
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    process, end = psutil.Process(command.pid), time.monotonic() + 60
    while not is_ready(ready, process):
        assert command.poll() is None and time.monotonic() < end, "it ended before the signal"
        time.sleep(0.002)
    started = process.children(recursive=True)
    os.killpg(command.pid, number)
    said = command.communicate(timeout=30)[1]
    _, alive = psutil.wait_procs(started, timeout=10)
    assert not alive
    return command.returncode, said


SIGNALS = {
    signal.SIGINT: (130, "composer-classify: interrupted; the same command goes on where it can\n"),
    signal.SIGTERM: (143, ""),
}
WORKERS = lambda process: len(process.children()) > 2  # one of them counts what they share


def ends(*moments: str) -> list:
    "Each moment with each signal; in `make test` the first with Ctrl-C and the last with `kill`."
    quick = [(moments[0], signal.SIGINT), (moments[-1], signal.SIGTERM)]
    every = [(moment, number) for moment in moments for number in SIGNALS]
    return [pytest.param(*each, marks=[] if each in quick else pytest.mark.slow) for each in every]


@pytest.mark.parametrize(("moment", "number"), ends("workers start", "workers work", "an answer is there"))
def test_predict_is_ended(tmp_path, moment, number):
    write_many(tmp_path)
    ready = {
        "workers start": WORKERS,
        "workers work": lambda process: (
            WORKERS(process) and sum(child.cpu_times().user for child in process.children()) > 2
        ),
        "an answer is there": lambda process: (tmp_path / "out").stat().st_size > 0,
    }[moment]
    assert end_when(ready, number, tmp_path, "predict", "folder", "--json" if "work" in moment else "--top=3") == (
        SIGNALS[number][0],
        SIGNALS[number][1],
    )


SHARDS = "corpus/.collecting/*/*/*.json"


@pytest.mark.parametrize(("moment", "number"), ends("workers start", "a shard is there", "it is put together"))
def test_collect_is_ended_and_goes_on(tmp_path, moment, number):
    write_many(tmp_path)
    ready = {
        "workers start": WORKERS,
        "a shard is there": lambda process: any(tmp_path.glob(SHARDS)),
        "it is put together": lambda process: any(tmp_path.glob("corpus/.collecting/*/ready")),
    }[moment]
    assert end_when(ready, number, tmp_path, "collect", "folder", "corpus", "--jobs", "2") == SIGNALS[number]
    assert not [*tmp_path.rglob("*.partial")]
    assert any(tmp_path.glob(SHARDS)) or moment == "workers start"
    assert len(collect(tmp_path / "folder", dest=tmp_path / "corpus", n_jobs=1).files) == 300


# ---------------------------------------------------------------- files that fail alone

HOOK = """
import multiprocessing, os, signal, sys

def watch(event, args):
    here = multiprocessing.current_process().name.startswith(os.environ["WHERE"])
    if event == "open" and here and isinstance(args[0], (str, os.PathLike)):
        name = os.path.basename(os.fspath(args[0]))
        if name == "deadly.mid":
            os.kill(os.getpid(), signal.SIGKILL)
        if name in ("odd.mid", "large.mid"):
            raise RuntimeError("nobody thought of this") if name == "odd.mid" else MemoryError

sys.addaudithook(watch)
"""
FAILURES = {
    "deadly.mid": "the program that read it came to an end",
    "large.mid": "needs more memory than there is",
    "odd.mid": "the program failed over it (RuntimeError); please report this",
}


@pytest.fixture
def hooked(tmp_path) -> Path:
    "300 pieces and three that fail in Python's own `open`: one takes the process with it."
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(HOOK)
    write_many(tmp_path)
    for i, name in enumerate(FAILURES):
        (tmp_path / "folder/Bach" / name).write_bytes(piece(70 + i, 90))
    return tmp_path


def run_hooked(folder: Path, *arguments: str, where: str = "Loky") -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", CODE, *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=240,
        env={**os.environ, "PYTHONPATH": f"{folder / 'hook'}:{ROOT}", "WHERE": where},
    )


@pytest.mark.parametrize("how", ["--top=2", pytest.param("--json", marks=pytest.mark.slow)])
def test_predict_names_the_file_that_fails_and_answers_the_rest(hooked, how):
    done = run_hooked(hooked, "predict", "folder", how)
    assert done.returncode == 1
    assert complaints(done) == [f"folder/Bach/{name}: {reason}" for name, reason in FAILURES.items()]
    if how == "--json":
        answers = json.loads(done.stdout)
        assert [answer["file"] for answer in answers] == sorted(answer["file"] for answer in answers) and sum(
            answer["error"] is None for answer in answers
        ) == 300
    else:
        named = [line.partition(": ")[0] for line in done.stdout.splitlines() if line.startswith("folder/")]
        assert len(named) == 300 and named == sorted(named)


def test_without_other_processes_too_a_file_fails_alone(hooked):
    names = [f"folder/Bach/{name}" for name in ("large.mid", "odd.mid", "0.mid")]
    done = run_hooked(hooked, "predict", *names, where="Main")
    assert done.returncode == 1 and done.stdout.startswith("folder/Bach/0.mid: ")
    assert complaints(done) == [f"folder/Bach/{name}: {FAILURES[name]}" for name in ("large.mid", "odd.mid")]


@pytest.mark.slow
def test_collect_names_the_file_that_fails_and_reads_the_rest(hooked):
    done = run_hooked(hooked, "collect", "folder", "corpus", "--json", "--jobs", "2")
    assert done.returncode == 1 and json.loads(done.stdout)["readable"] == 300
    assert complaints(done) == [
        "Bach/deadly.mid: was refused: the program that read it came to an end",
        "Bach/large.mid: was refused: it needs more memory than there is",
        "Bach/odd.mid: cannot be read (the program failed over it; please report this)",
    ]


def is_at_work(child: psutil.Process) -> bool:
    "Whether a process is a worker that has started to work."
    return "popen_loky" in " ".join(child.cmdline()) and child.cpu_times().user > 0.8


@pytest.mark.sampled
@pytest.mark.parametrize(
    "command", [("collect", "folder", "corpus", "--jobs", "2"), ("predict", "folder")], ids=["collect", "predict"]
)
def test_a_worker_that_is_killed_costs_no_file(tmp_path, command):
    n = 210 if command[0] == "predict" else 4000  # more than 200, for which there are no workers
    write_many(tmp_path, n)
    with open(tmp_path / "out", "w") as stdout:  # a pipe that nobody reads would stop it
        process = subprocess.Popen(
            [sys.executable, "-c", CODE, *command, "--json"],
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    watched, killed = psutil.Process(process.pid), False
    while process.poll() is None and not killed:
        with contextlib.suppress(psutil.Error):  # it, or one of its processes, ended in between
            if at_work := next((child for child in watched.children() if is_at_work(child)), None):
                at_work.kill()
                killed = True
        time.sleep(0.01)
    said, out = process.communicate(timeout=240)[1], (tmp_path / "out").read_text()
    assert killed and (process.returncode, said) == (0, "")
    assert len(json.loads(out)) == n if command[0] == "predict" else json.loads(out)["readable"] == n


USED = """
import multiprocessing
from composer_classify.processes import in_processes

def use():
    assert dict(in_processes(abs, [(-1,), (2,)], n_jobs=2)) == {0: 1, 1: 2}

process = multiprocessing.get_context("fork").Process(target=use)
process.start()
process.join()
assert process.exitcode == 0
"""


def test_a_process_that_used_others_does_not_wait_for_them():
    "joblib keeps them for five minutes."
    done = subprocess.run([sys.executable, "-c", USED], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


# ---------------------------------------------------------------- words


def test_reasons_are_in_our_words(tmp_path):
    (tmp_path / "all/Bach").mkdir(parents=True)
    archive = make_zip([("a.mid", piece()), ("b.mid", piece(70))])
    (tmp_path / "all/Bach/damaged.zip").write_bytes(archive.replace(b"PK\x01\x02", b"PK\x01\x03"))
    spoilt = archive.index(b"a.mid") + 5
    (tmp_path / "all/Bach/spoilt.zip").write_bytes(
        archive[:spoilt] + bytes(b ^ 0xFF for b in archive[spoilt : spoilt + 20]) + archive[spoilt + 20 :]
    )
    done = run("collect", tmp_path / "all", tmp_path / "corpus")
    assert complaints(done) == [
        "Bach/damaged.zip: was refused: it is a damaged archive (its bytes make no sense)",
        "Bach/spoilt.zip/a.mid: cannot be read (its bytes make no sense)",
    ]
    for name in ("manifest.parquet", "notes.npy"):
        before = (tmp_path / "corpus" / name).read_bytes()
        (tmp_path / "corpus" / name).write_bytes(before[:40])
        done = run("evaluate", tmp_path / "corpus")
        assert done.returncode == 1 and complaints(done) == [
            f"{tmp_path / 'corpus'}: is a damaged corpus (a file of it cannot be read); collect it again"
        ]
        (tmp_path / "corpus" / name).write_bytes(before)

"""The command line as a user has it: a process of its own, its output, its exit status."""

import csv
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import composer_classify
from builders import musicxml, mxl, write_tunes
from composer_classify import cli
from composer_classify.midi import load_midi

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = "composer_classify/samples/bach_bwv772.mid"


def run(*arguments, **kwargs) -> subprocess.CompletedProcess:
    code = "import sys; from composer_classify.cli import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=300,
        **kwargs,
    )


def test_predict_prints_the_contract():
    done = run("predict", SAMPLE, "--json", "--top", 3)
    assert (done.returncode, done.stderr) == (0, "")
    (answer,) = json.loads(done.stdout)
    assert list(answer) == [
        "file",
        "composer",
        "probability",
        "ranking",
        "known",
        "by",
        "piece",
        "style",
        "timeline",
        "repairs",
        "error",
    ]
    assert (
        answer["file"] == SAMPLE
        and answer["composer"] == answer["ranking"][0]["composer"] == "Bach"
        and len(answer["ranking"]) == 3
    )
    assert answer["error"] is None and isinstance(answer["known"], bool)
    title = ["composer", "title", "work", "catalogue", "movement", "key"]
    assert (
        list(answer["piece"]) == [*title, "score", "offset_sec", "after"] and answer["piece"]["catalogue"] == "BWV 772"
    )
    assert answer["by"] == "piece" and answer["piece"]["composer"] == "Bach"
    assert list(answer["style"]) == ["composer", "probability", "ranking", "known", "trained", "of"]
    for passage in answer["timeline"]:
        assert (
            list(passage) == ["start_sec", "end_sec", "composer", "probability"]
            and passage["start_sec"] < passage["end_sec"]
        )


def test_a_person_reads_the_piece_the_style_and_passages():
    lines = run("predict", SAMPLE).stdout.splitlines()
    assert lines[0] == f"{SAMPLE}: Bach, Two-Part Invention No. 1 in C major, BWV 772; from 0:00; certain"
    assert lines[1].startswith("    Style, ignoring the match: Bach ") and "    most like Bach from 0:0" in lines[2]


def test_a_person_reads_the_composer_where_the_piece_is_unknown(indexed):
    lines = run("predict", SAMPLE, "--index", indexed / "both").stdout.splitlines()
    assert re.match(rf"{SAMPLE}: (sounds like|resembles) Bach \(Baroque, b. 1685\), ", lines[0])
    assert lines[1].startswith("    then ")
    assert lines[2] == "    the piece: not found"


def test_help_without_a_command_and_the_version():
    done, helped, version = run(), run("--help"), run("--version")
    assert done.returncode == 0 and done.stdout == helped.stdout and "predict" in done.stdout
    assert version.stdout == f"composer-classify {composer_classify.__version__}\n"


def test_every_argument_has_a_help_text():
    commands = next(action for action in cli._parser()._actions if action.dest == "command").choices
    bare = [(name, action.dest) for name, each in commands.items() for action in each._actions if not action.help]
    assert len(commands) == 9 and bare == []


def test_a_port_that_is_taken_is_one_sentence():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        done = run("app", "--port", port)
    advice = f"choose another one, as in --port {port + 1}"
    said = f"composer-classify: port {port} is in use by another program; {advice}\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said)


def test_a_stretch_that_is_too_short_gets_no_guess():
    done = run("predict", SAMPLE, "--duration", 1)
    said = f"composer-classify: {SAMPLE}: 1 s are too short to tell; ask for 2 s or more\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said)


def test_a_table_has_a_row_for_each_file(tmp_path):
    (tmp_path / "bad.mid").write_bytes(b"no music")
    done = run("predict", SAMPLE, tmp_path / "bad.mid", "--csv", tmp_path / "a.csv")
    with open(tmp_path / "a.csv", encoding="utf-8-sig", newline="") as file:
        good, bad = csv.DictReader(file)
    assert done.returncode == 1 and (good["file"], good["by"]) == (SAMPLE, "piece")
    assert (good["piece_catalogue"], good["style_composer"], good["error"]) == ("BWV 772", "Bach", "")
    assert bad["error"] and not bad["composer"] and not bad["piece_title"]
    done = run("predict", SAMPLE, "--csv", tmp_path)
    assert (done.returncode, done.stdout) == (1, "") and "name a file to write, as in" in done.stderr


@pytest.mark.slow
def test_standard_input_is_read(tmp_path):
    content = (ROOT / SAMPLE).read_bytes()
    code = "import sys; from composer_classify.cli import main; sys.exit(main())"
    ask = lambda given, *arguments: subprocess.run(
        [sys.executable, "-c", code, "predict", *map(str, arguments)],
        input=given,
        capture_output=True,
        cwd=ROOT,
        timeout=60,
    )
    done = ask(content, "-", SAMPLE, "--json", "--plot", tmp_path / "p.png")
    piped, named = json.loads(done.stdout)
    assert (
        done.returncode == 0
        and piped["file"] == "-"
        and dict(piped, file=SAMPLE) == named
        and (tmp_path / "p.png").stat().st_size > 10_000
    )
    bad = ask(b"Dear diary", "-")
    assert bad.returncode == 1 and bad.stderr.decode().startswith("composer-classify: -: is not MIDI, and not a score")


def test_one_bad_file_never_stops_the_rest(tmp_path):
    bad = {
        "empty.mid": b"",
        "text.mid": b"hello",
        "zeros.mid": bytes(99),
        "header.mid": (ROOT / SAMPLE).read_bytes()[:60],
    }
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "nothing").mkdir()
    done = run(
        "predict", *(tmp_path / name for name in bad), tmp_path / "nothing", tmp_path / "missing.mid", SAMPLE, "--json"
    )
    assert done.returncode == 1
    answers = json.loads(done.stdout)
    assert [bool(a["error"]) for a in answers] == [True] * 6 + [False]
    assert len(done.stderr.splitlines()) == 6 and "Traceback" not in done.stderr
    for name, line in zip(bad, done.stderr.splitlines()):
        assert name in line


def test_scores_and_midi_lie_in_one_folder(tmp_path):
    "Each is read by its content; what is named .xml and is no music is passed over in a folder."
    midi = (ROOT / SAMPLE).read_bytes()
    score = musicxml(load_midi(ROOT / SAMPLE))
    files = {"a.mid": midi, "b.musicxml": score, "c.XML": score, "d.mxl": mxl(score), "e.mei": midi}
    others = {"settings.xml": b"<settings/>", "notes.txt": b"Dear diary", "cover.pdf": b"%PDF-1.7"}
    bad = {"f.mxl": mxl(score)[:500], "g.musicxml": b"<?xml version='1.0'?><score-partwise>"}
    for name, content in (files | others | bad).items():
        (tmp_path / name).write_bytes(content)
    done = run("predict", tmp_path, tmp_path / "cover.pdf", "--json")
    answers = {Path(answer["file"]).name: answer for answer in json.loads(done.stdout)}
    assert done.returncode == 1 and list(answers) == [*sorted([*files, *bad]), "cover.pdf"]
    titles = {answers[name]["piece"]["title"] for name in files}
    assert len(titles) == 1 and "Invention" in titles.pop()
    assert len(done.stderr.splitlines()) == 3 and "Traceback" not in done.stderr
    assert all(name in line for name, line in zip([*bad, "cover.pdf"], done.stderr.splitlines()))


def test_midi_loads_nothing_heavy(tmp_path):
    "Scores do not, either, except those in ABC."
    heavy = ("tensorflow", "pandas", "sklearn", "scipy", "matplotlib", "partitura", "music21", "verovio", "joblib")
    code = (
        "import sys; from composer_classify.cli import main; status = main(sys.argv[1:]); "
        f"print([name for name in {heavy} if name in sys.modules], file=sys.stderr); sys.exit(status)"
    )
    (tmp_path / "tune.musicxml").write_bytes(musicxml(load_midi(ROOT / SAMPLE)))
    command = [sys.executable, "-c", code, "predict", SAMPLE, tmp_path / "tune.musicxml", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert (done.returncode, done.stderr) == (0, "[]\n")


def test_abc_without_music21_is_a_sentence(tmp_path):
    "And the other files are answered."
    (tmp_path / "tune.abc").write_text("X:1\nT:Scale\nM:4/4\nL:1/4\nK:C\nCDEF|GABc|\n")
    hide = "import sys; sys.modules['music21'] = None; "
    main = "from composer_classify.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", hide + main, "predict", tmp_path / "tune.abc", SAMPLE]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 1 and done.stdout.startswith(f"{SAMPLE}: Bach")
    assert len(done.stderr.splitlines()) == 1 and "composer_classify[scores]" in done.stderr


def test_a_file_that_is_cut_off_is_answered_and_told(tmp_path):
    (tmp_path / "half.mid").write_bytes((ROOT / SAMPLE).read_bytes()[:700])
    done = run("predict", tmp_path / "half.mid", "--json")
    (answer,) = json.loads(done.stdout)
    assert done.returncode == 0 and answer["composer"] == "Bach" and answer["piece"]["composer"] == "Bach"
    assert answer["repairs"][0].startswith("cut off at 0:")
    assert "    read after repairs: cut off at 0:" in run("predict", tmp_path / "half.mid").stdout


def test_collect_sets_aside_what_is_cut_off(tmp_path):
    for composer, n in (("Bach", None), ("Chopin", 700)):
        (tmp_path / "mine" / composer).mkdir(parents=True)
        (tmp_path / "mine" / composer / "piece.mid").write_bytes((ROOT / SAMPLE).read_bytes()[:n])
    done = run("collect", tmp_path / "mine", tmp_path / "corpus", "--json", "--jobs", 1)
    found = json.loads(done.stdout)
    assert (done.returncode, found["readable"], found["incomplete"], found["unreadable"], found["composers"]) == (
        1,
        1,
        1,
        0,
        1,
    )
    assert "Chopin/piece.mid: is incomplete: cut off at 0:" in done.stderr
    done = run("collect", tmp_path / "mine", tmp_path / "all", "--json", "--jobs", 1, "--incomplete")
    assert done.returncode == 0 and json.loads(done.stdout)["incomplete"] == 1
    assert (tmp_path / "all" / "Chopin" / "piece.mid").is_file() and not (tmp_path / "corpus" / "Chopin").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("predict",),
        ("predict", SAMPLE, "--start", "-1"),
        ("predict", SAMPLE, "--duration", "0"),
        ("predict", SAMPLE, "--start", "nan"),
        ("predict", SAMPLE, "--top", "0"),
        ("dance",),
        ("train", "corpus"),
        ("evaluate", "corpus", "--folds", "1"),
        ("index", "corpus"),
        ("index", "corpus", "--out", ""),
        ("app", "--port", "x"),
    ],
)
def test_wrong_usage(arguments):
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "") and "usage:" in done.stderr


def test_plot(tmp_path):
    done = run("predict", SAMPLE, "--plot", tmp_path / "answer.png", "--start", 5, "--duration", 10)
    assert done.returncode == 0 and (tmp_path / "answer.png").read_bytes()[:4] == b"\x89PNG"
    done = run("predict", SAMPLE, "--plot", tmp_path / "no" / "answer.png")
    assert done.returncode == 1 and "answer.png" in done.stderr and "Traceback" not in done.stderr


def test_a_folder_of_ones_own_from_collection_to_complaint(tmp_path):
    "A tiny collection can be collected, but not split: the user is told which composers are too small."
    for composer in ("Bach", "Ünknown, A"):
        (tmp_path / "mine" / composer).mkdir(parents=True)
        (tmp_path / "mine" / composer / "Piece.MID").write_bytes((ROOT / SAMPLE).read_bytes())
    done = run("collect", tmp_path / "mine", tmp_path / "corpus", "--json", "--jobs", 1)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found) == {
        "files",
        "readable",
        "unreadable",
        "incomplete",
        "recovered",
        "nested",
        "composers",
        "duplicates",
        "by_composer",
        "by_collection",
        "seconds",
    }
    assert found["by_composer"] == {"Bach": 1, "Ünknown, A": 1}
    assert (tmp_path / "corpus" / "Ünknown, A" / "Piece.mid").is_file()
    done = run("evaluate", tmp_path / "corpus")
    assert (
        done.returncode == 1
        and "Bach: left out, 1 work cannot lie in 5 folds" in done.stderr
        and "fewer than two composers" in done.stderr
    )
    done = run("evaluate", tmp_path / "corpus", "--composers", "Bahc,Bach")
    assert done.returncode == 1 and "did you mean Bach?" in done.stderr


def test_sources_are_added_and_info_tells_what_there_is(tmp_path):
    for source, name in (("mine", "Piece.mid"), ("openscore", "Other.mid")):
        (tmp_path / source / "Bach").mkdir(parents=True)
        (tmp_path / source / "Bach" / name).write_bytes((ROOT / SAMPLE).read_bytes() + bytes(len(source) % 2))
    corpus = tmp_path / "corpus"
    assert run("collect", tmp_path / "mine", corpus, "--jobs", 1).returncode == 0
    refused = run("collect", tmp_path / "openscore", corpus)
    assert refused.returncode == 1 and "made from something else (mine); add to it with --update" in refused.stderr
    done = run("collect", tmp_path / "openscore", corpus, "--update", "--json", "--jobs", 1)
    assert done.returncode == 0 and json.loads(done.stdout)["by_collection"] == {"mine": 1, "openscore": 1}, done.stderr
    found = json.loads(run("info", corpus, "--json").stdout)
    assert (found["pieces"], found["works"], found["repeated_works"]) == (2, 1, 1)
    assert found["formats"] == {"midi": 2} and found["manifest"] == str(corpus / "manifest.parquet")
    assert found["collections"]["mine"] == {"files": 1, "pieces": 1, "works": 1, "licences": {"not stated": 1}}
    assert found["collections"]["openscore"]["licences"] == {"CC0 1.0": 1}
    lines = run("info", corpus).stdout.splitlines()
    assert lines[0].startswith("2 pieces of 1 works by 1 composers, ") and lines[-1] == "    1 CC0 1.0"
    nothing = run("info", tmp_path / "mine")
    assert nothing.returncode == 1 and "is not a corpus" in nothing.stderr


def test_a_source_without_a_corpus_to_make_is_wrong_usage():
    done = run("collect", "music.zip")
    assert done.returncode == 2 and "DEST" in done.stderr


def test_what_is_missing_is_named():
    "Without an extra, the command that needs it says which one to install."
    hide = "import sys; sys.modules['fastapi'] = None; from composer_classify.cli import main; sys.exit(main(['app']))"
    done = subprocess.run([sys.executable, "-c", hide], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 1 and "composer_classify[app]" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_reader_that_leaves(tmp_path):
    "`composer-classify predict … | head -1` ends quietly."
    code = "import sys; from composer_classify.cli import main; sys.exit(main())"
    files = " ".join([SAMPLE] * 200)
    done = subprocess.run(
        f'{sys.executable} -c "{code}" predict {files} --duration 1 --json | head -1',
        shell=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert done.stdout.strip() == "[" and "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def indexed(tmp_path_factory) -> Path:
    "A folder with two collections, `ada` and `bob`, a corpus of each, and an index of both."
    folder = tmp_path_factory.mktemp("indexed")
    for name in ("ada", "bob"):
        write_tunes(folder / name, **{name.title(): 3})
        assert run("collect", folder / name, folder / f"{name}_corpus", "--jobs", 1).returncode == 0
    done = run("index", folder / "ada_corpus", "--add", folder / "bob_corpus", "--out", folder / "both")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r".*both: 6 pieces of 6 works, 0.\d hours of music; 0.\d MB, .* s\n", done.stdout)
    return folder


def test_an_index_of_several_corpora_names_the_pieces_of_each(indexed):
    tunes = [next((indexed / name).rglob("*.mid")) for name in ("ada", "bob")]
    done = run("predict", *tunes, "--index", indexed / "both", "--json")
    assert done.returncode == 0, done.stderr
    pieces = [answer["piece"] for answer in json.loads(done.stdout)]
    assert [piece["composer"] for piece in pieces] == ["Ada", "Bob"]
    assert all(piece["title"] == tune.stem for piece, tune in zip(pieces, tunes))
    shipped = json.loads(run("predict", *tunes, "--json").stdout)
    assert [answer["piece"] for answer in shipped] == [None, None]


def test_the_counts_of_an_index_for_a_program(indexed):
    out = indexed / "ada_index"
    done = run("index", indexed / "ada_corpus", "--out", out, "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, list(found)) == (0, ["pieces", "works", "hours", "bytes", "seconds"])
    assert (found["pieces"], found["works"], found["bytes"]) == (
        3,
        3,
        sum(file.stat().st_size for file in out.iterdir()),
    )


def test_an_index_is_added_to_and_merged(indexed):
    "In place, a corpus; what is there already is left out. And two indexes become one."
    ada, bob, out = indexed / "ada_corpus", indexed / "bob_corpus", indexed / "grows"
    for arguments, pieces in (([ada], 3), ([out, "--add", bob], 6), ([out, "--add", ada], 6), ([out, "--add", out], 6)):
        done = run("index", *arguments, "--out", out, "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["pieces"] == pieces
    tune = next((indexed / "bob").rglob("*.mid"))
    (answer,) = json.loads(run("predict", tune, "--index", out, "--json").stdout)
    assert (answer["piece"]["composer"], answer["piece"]["title"]) == ("Bob", tune.stem)


def test_an_index_that_cannot_be_made_or_used_is_one_sentence(indexed, tmp_path):
    "And an index that was there stays as it was."
    (tmp_path / "old.npz").write_bytes(b"kept")
    (tmp_path / "empty").mkdir()
    (tmp_path / "diary.txt").write_text("Dear diary")
    corpus = indexed / "ada_corpus"
    refused = {
        "holds other files; name a new folder": ["index", corpus, "--out", tmp_path],
        "is a file, and an index is a folder": ["index", corpus, "--out", tmp_path / "old.npz"],
        "nowhere: does not exist": ["index", corpus, "--add", "nowhere", "--out", tmp_path / "new"],
        "empty: holds no": ["index", tmp_path / "empty", "--out", tmp_path / "new"],
        "diary.txt: is neither": ["index", tmp_path / "diary.txt", "--out", tmp_path / "new"],
        "none: does not exist; make one with `composer-classify index": ["--index", tmp_path / "none"],
        "old.npz: is not an index of composer_classify": ["--index", tmp_path / "old.npz"],
    }
    for sentence, arguments in refused.items():
        done = run(*arguments) if arguments[0] == "index" else run("predict", SAMPLE, *arguments)
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1), done.stderr
        assert sentence in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["diary.txt", "empty", "old.npz"]
    assert (tmp_path / "old.npz").read_bytes() == b"kept"


def test_the_shell_completes(tmp_path):
    "Commands, options and names of files, in a real bash."
    script = run("--print-completion", "bash")
    assert script.returncode == 0 and script.stderr == ""
    (tmp_path / "completion").write_text(script.stdout)
    (tmp_path / "tune.mid").touch()
    ask = (
        "source completion; COMP_WORDS=(composer-classify {}); COMP_CWORD={}; "
        "_shtab_composer_classify; echo ${{COMPREPLY[@]}}"
    )
    complete = lambda words: subprocess.run(
        ["bash", "-c", ask.format(words, len(words.split()))], capture_output=True, text=True, cwd=tmp_path
    ).stdout.split()
    assert complete("pre") == ["predict"] and complete("predict --dur") == ["--duration"]
    assert complete("predict tu") == ["tune.mid"] and complete("score --benchmark kaggle-f") == ["kaggle-four"]


def test_a_name_is_a_claim_only_from_60_percent_on():
    from composer_classify.recognition import Recognition, describe_composer, describe_scope

    answer = lambda probability: Recognition("x", "Ada", probability, [], True, "style", None, dict(of=7), [], [])
    assert (describe_composer(answer(0.6)), describe_composer(answer(0.59))) == ("sounds like Ada", "resembles Ada")
    assert describe_scope(answer(0.59)) == "59% among the 7 composers that the model knows"

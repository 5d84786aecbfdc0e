"""Does a test fail when a line is wrong on which a claim rests? Each mutation is made in a copy of the package, and
only its tests are run.

`python tools/mutations.py [WORD ...]` runs all, or those whose old text or module holds a word. Exit status 1 if one
survives. A test that needs the real collection does not count: it is hidden here. No part of `make test`, since it
takes an hour.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT = 300  # seconds for the tests of one mutation
FAILED, NOTHING_FOUND = 1, 5  # exit statuses of pytest


class Mutation(NamedTuple):
    module: str
    old: str  # occurs in the module exactly once
    new: str
    tests: str  # which ought to fail: a file of tests/, perhaps with `-k` and words


MUTATIONS = [
    # calibration and the unknown
    Mutation(
        "best",
        "scaling = fit_calibration(cv, train)",
        "scaling = fit_calibration(cv, test)",
        "test_best.py -k calibrated_by",
    ),
    Mutation(
        "best",
        ".max(axis=1)[right], 0.05)) if right.any()",
        ".max(axis=1)[right], 0.5)) if right.any()",
        "test_best.py -k nineteen",
    ),
    Mutation(
        "training",
        ".max(axis=1)[right], 0.05)) if right.any()",
        ".max(axis=1)[right], 0.5)) if right.any()",
        "test_training.py -k nineteen",
    ),
    Mutation(
        "shipped_model",
        "np.where(pieces.n_onsets < SHORT, 0.5, 1.0)",
        "np.where(pieces.n_onsets < SHORT, 1.0, 1.0)",
        "test_best.py -k short_pieces",
    ),
    Mutation(
        "evaluation",
        "    intervals = bootstrap(truth, probabilities, works)\n",
        "    intervals = {name: (0.0, 1.0) for name in scores(truth, probabilities)}"
        " | dict(per_composer_f1=[(0.0, 1.0)] * len(composers))\n",
        "test_evaluation.py -k intervals_of_the_bootstrap",
    ),
    Mutation(
        "all_composers", "left_out & ~np.isin(works, works[trained])", "left_out", "test_all_composers.py -k left_out"
    ),
    Mutation("works", "OVERLAP = 0.18", "OVERLAP = 0.40", "test_works.py -k fifth"),
    # scores
    Mutation(
        "scores",
        'return {tie.get("type") for tie in note.findall("tie")}',
        "return set()",
        "test_scores.py -k same_music_in_each_format_has_equal_notes",
    ),
    Mutation(
        "scores",
        "onset[rows] - (size + 1 - step) * duration[rows]",
        "onset[rows]",
        "test_scores.py -k grace_notes_end_where",
    ),
    Mutation(
        "scores",
        "pitch += part.shift.get(staff, part.shift.get(None, 0))",
        "pitch += part.shift.get(staff, 0)",
        "test_scores.py -k transposition_of_all_staves",
    ),
    Mutation("scores", "by_beat = {0.0: 120.0}", "by_beat = {0.0: 60.0}", "test_scores.py -k abc_tempo"),
    Mutation("scores", 'if "<!ENTITY" in text:', 'if "<!ENTITY %" in text:', "test_scores.py -k entities_are_refused"),
    Mutation(
        "scores",
        "for _ in range(MAX_NESTING - 1):",
        "for _ in range(9 * MAX_NESTING):",
        "test_scores.py -k deep_xml",
    ),
    Mutation("scores", '"%abc-2.1"', '"%abc-1.3"', "test_scores.py -k abc_keys"),
    # which files are one work
    Mutation("works", "SHARED = 25 ", "SHARED = 5 ", "test_works.py -k fewer_than_25"),
    Mutation(
        "works",
        "telling = (in_files > 1) & (in_files <= TOO_COMMON)",
        "telling = in_files > 1",
        "test_works.py -k very_many_pieces",
    ),
    Mutation(
        "works",
        "distance = (first[a].astype(np.int64) - second[b]) % 12",
        "distance = first[a].astype(np.int64) - second[b] + 128",
        "test_works.py -k octave_higher",
    ),
    Mutation("works", "for part in reversed(parts) if", "for part in parts if", "test_works.py -k nearest_folder"),
    Mutation(
        "works",
        "sorted(names | (opus & everything) | ({whole} & in_parts))",
        "sorted(names | (opus & everything))",
        "test_works.py -k movements_and",
    ),
    Mutation("works", r"(?!\d| ?- ?\d)", r"(?!\d)", "test_works.py -k range_of_a_set"),
    # archives and folders that are not trusted
    Mutation("archives", "if stat.S_ISLNK(info.external_attr >> 16)", "if False", "test_collection.py -k links"),
    Mutation("archives", "if info.issym() or info.islnk():", "if False:", "test_collection.py -k links_and_devices"),
    Mutation("archives", "if info.offset <= last or info.size < 0:", "if False:", "test_collection.py -k damaged_tar"),
    Mutation("archives", ' or ".." in name.split("/"):', ":", "test_collection.py -k lead_out"),
    Mutation(
        "archives",
        "budget[0] -= 0 if member.refused else entry.size",
        "budget[0] -= 0",
        "test_collection.py -k bomb",
    ),
    Mutation(
        "collection",
        "if (piece := dest / path_on_disk(path)).resolve().is_relative_to(dest.resolve()):",
        "if piece := dest / path_on_disk(path):",
        "test_collection.py -k elsewhere",
    ),
    # a corpus is whole and says what it holds
    Mutation(
        "collection",
        'row["status"] = "incomplete" if row["lost"] else "recovered" if row["repairs"] else "ok"',
        'row["status"] = "ok"',
        "test_collection.py -k updated",
    ),
    Mutation("collection", "source.place in changed else None", "False else None", "test_collection.py -k changed"),
    Mutation(
        "files",
        'partial = path.with_name(f"{path.name}.{os.getpid()}.partial")',
        "partial = path",
        "test_collection.py -k all_at_once",
    ),
    Mutation(
        "corpus",
        "elif sha256(path.read_bytes()) != row.sha256:",
        "elif False:",
        "test_collection.py -k missing_and_changed",
    ),
    Mutation("collection", "if AUGMENTED in content:", "if False:", "test_collection.py -k augmented"),
    Mutation(
        "corpus",
        'if not corpus.manifest.attrs.get("recipe", "").startswith(f"{LAYOUT}/"):',
        "if False:",
        "test_evaluation.py -k layout",
    ),
    # splits, scores and their intervals
    Mutation(
        "evaluation",
        ".split(composer, composer, works))",
        ".split(composer, composer, np.arange(len(composer))))",
        "test_evaluation.py -k trained_and_tested",
    ),
    Mutation(
        "evaluation",
        "both = np.intersect1d(works[train], works[test])",
        "both = np.intersect1d(train, test)",
        "test_evaluation.py -k leak",
    ),
    Mutation(
        "evaluation",
        "work = np.unique(works, return_inverse=True)[1]",
        "work = np.arange(len(works))",
        "test_evaluation.py -k intervals",
    ),
    Mutation(
        "evaluation",
        '"metadata only": cross_val_proba_trees(metadata(corpus)',
        '"metadata only": cross_val_proba_trees(feature_table(corpus)',
        "test_evaluation.py -k hears_no_note",
    ),
    Mutation(
        "evaluation",
        "trees.fit(table[train], labels[train])",
        "trees.fit(table, labels)",
        "test_evaluation.py -k trees_learn",
    ),
    Mutation(
        "kernel",
        "columns, moments = np.flatnonzero(np.isin(landmarks.rows, rows)),",
        "columns, moments = np.arange(len(landmarks.rows)),",
        "test_all_composers.py -k landmark_of_the_tested_side",
    ),
    Mutation(
        "probabilities",
        "keepdims=True)) / temperature)",
        "keepdims=True)) * temperature)",
        "test_evaluation.py -k below_one",
    ),
    # augmentation, and only where one learns
    Mutation(
        "augment",
        'np.where(notes["is_drum"], 0, semitones)',
        "semitones",
        "test_midi.py test_evaluation.py test_training.py -k 'transpos or drums or augment'",
    ),
    Mutation(
        "windows",
        "lost = rng.random((len(file), self.length)) < 0.05",
        "lost = rng.random((len(file), self.length)) < 0.0",
        "test_training.py -k chance",
    ),
    Mutation(
        "augment",
        'if any((folder / "manifest.parquet").exists() for folder in dest.resolve().parents):',
        "if False:",
        "test_evaluation.py -k augmented_copy",
    ),
    Mutation(
        "training",
        "files[labels[files] == label]",
        "np.flatnonzero(labels == label)",
        "test_training.py -k 'only_training or answered'",
    ),
    Mutation("training", ' & ~corpus.manifest["work_id"].isin(works)]', "]", "test_training.py test_cnn.py -k others"),
    Mutation(
        "training",
        "if composers is not None and list(composers) != listed:",
        "if False:",
        "test_training.py -k something_else",
    ),
    Mutation("cnn", "        batches.begin(epoch)\n", "", "test_cnn.py -k interrupted"),
    Mutation("cnn", "        _seed_dropout(model, seed, epoch)\n", "", "test_cnn.py -k interrupted"),
    Mutation("best", "(view, 1) for name, view in", "(view, 0) for name, view in", "test_best.py -k other_chances"),
    Mutation(
        "all_composers", "trained = train[~left_out[train]]", "trained = train", "test_all_composers.py -k left_out"
    ),
    Mutation("optimization", "cv=GroupKFold(inner)", "cv=inner", "test_optimization.py -k no_trial"),
    # model files
    Mutation("files", "if checksum(text, arrays) != written:", "if False:", "test_best.py -k 'fit or sentence'"),
    # reading
    Mutation("midi", "if len(data) > limits.max_bytes:", "if False:", "test_midi.py -k 'limit and not zip'"),
    Mutation("midi", " or (place.take(ends) + 3).tolist() != stream.end:", ":", "test_midi.py -k prefix_of_a"),
    Mutation("midi", "(events.first > 122)", "(events.first > 127)", "test_reading.py -k all_notes_off"),
    Mutation("midi", "        elif owed:\n            owed -= 1\n", "", "test_reading.py -k two_voices"),
    Mutation(
        "midi",
        "if notes.lost and not (incomplete and len(notes)):",
        "if False:",
        "test_midi.py -k 'cut_between or sentence'",
    ),
    Mutation(
        "midi",
        "last = np.append(ticks[1:] != ticks[:-1], True)",
        "last = np.append(True, ticks[1:] != ticks[:-1])",
        "test_fuzz.py -k mido_plays",
    ),
    # titles
    Mutation(
        "catalogue",
        "_better(title, best[key]) else title",
        "True else title",
        "test_catalogue.py -k share_what",
    ),
    Mutation("catalogue", "best[key] if key[1] and", "best[key] if", "test_catalogue.py -k without_notes"),
    Mutation("catalogue", "if len(longest) == 1 else ()", "if longest else ()", "test_catalogue.py -k headings_of"),
    Mutation("catalogue", "return known and min(numbers) > 0", "return True", "test_catalogue.py -k no_such_movement"),
    Mutation(
        "catalogue",
        '": ".join(pieces[end:]) or "-"',
        '": ".join(pieces[end:])',
        "test_catalogue.py -k read_as_that",
    ),
    Mutation("catalogue", "        if whole and not exact:", "        if False:", "test_catalogue.py -k printed_name"),
    # identification, the page, the command line
    Mutation("fingerprints", "KNOWN = 0.5", "KNOWN = 0.05", "test_fingerprints.py -k again_and_again"),
    Mutation("index", " and not is_played(onset)", "", "test_fingerprints.py -k played_music"),
    Mutation("index", "best < DOUBTFUL and len(parts) > 1", "best < DOUBTFUL", "test_fingerprints.py -k short_excerpt"),
    Mutation(
        "index",
        "return votes[~index.removed[piece_at(votes.second, index.begin)]] if index.removed.any() else votes",
        "return votes",
        "test_fingerprints.py -k removed_pieces",
    ),
    Mutation("index", "if np.any(places >= span):", "if False:", "test_fingerprints.py -k beyond_the_clock"),
    Mutation("index", "if path.name not in files:", "if False:", "test_fingerprints.py -k interrupted_save"),
    Mutation("recognition", "(1 - trust) * probabilities", "probabilities", "test_predict.py -k one_answer"),
    Mutation("recognition", 'by == "piece" or style["known"]', 'style["known"]', "test_predict.py -k contradicts"),
    Mutation("app", "if len(asking) >= WAITING:", "if False:", "test_app.py -k more_than_may_wait"),
    Mutation("cli", "return int(failed)", "return 0", "test_cli.py -k bad_file"),
]


def copy_repository(folder: Path) -> Path:
    "A folder that looks like the repository, with a package and tests of its own. Returns the package."
    for path in ROOT.iterdir():
        if path.name not in ("composer_classify", "tests", ".git"):
            (folder / path.name).symlink_to(path)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=ignored)
    shutil.copytree(ROOT / "composer_classify", folder / "composer_classify", ignore=ignored)
    return folder / "composer_classify"


def run_tests(folder: Path, tests: str) -> int | None:
    "Exit status of the tests, or `None` if they did not end in time."
    env = {name: value for name, value in os.environ.items() if name != "COMPOSER_CLASSIFY_ZIP"}
    env |= dict(PYTHONPATH=str(folder), PYTHONDONTWRITEBYTECODE="1", MPLBACKEND="Agg", TF_CPP_MIN_LOG_LEVEL="2")
    command = f'"{sys.executable}" -m pytest -x -q -p no:cacheprovider -m "not alone" {tests}'
    with subprocess.Popen(
        command,
        shell=True,
        cwd=folder / "tests",
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            out, _ = process.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            return None
    if process.returncode not in (0, FAILED):
        sys.exit(
            f"{tests}: pytest ended with status {process.returncode}"
            f"{' (no such test)' * (process.returncode == NOTHING_FOUND)}\n{out[-2000:]}"
        )
    return process.returncode


def mutate(package: Path, mutation: Mutation) -> tuple[str, Path]:
    "Write the mutation. Returns the text as it was, and the file. Exits if the old text is not there exactly once."
    file = package / f"{mutation.module}.py"
    text = file.read_text(encoding="utf-8")
    if (times := text.count(mutation.old)) != 1:
        sys.exit(f"{mutation.module}.py holds {times} times, not once: {mutation.old}")
    file.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
    return text, file


def main(words: list[str]) -> int:
    chosen = [each for each in MUTATIONS if not words or any(word in each.module + each.old for word in words)]
    survived = 0
    with tempfile.TemporaryDirectory() as folder:
        package = copy_repository(Path(folder))
        for mutation in chosen:
            text, file = mutate(package, mutation)
            begin, status = time.monotonic(), run_tests(Path(folder), mutation.tests)
            file.write_text(text, encoding="utf-8")
            survived += status == 0
            outcome = {0: "SURVIVED", FAILED: "caught", None: "caught (no end)"}[status]
            print(
                f"{outcome}: {mutation.module}: {mutation.old.strip()[:90]} ({time.monotonic() - begin:.0f} s)",
                flush=True,
            )
    print(f"{len(chosen) - survived} of {len(chosen)} caught")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

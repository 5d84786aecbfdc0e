"""Read a folder of scores, compare some of them with music21, and write results/scores.json.

.venv/bin/python tools/read_scores.py path/to/openscore [--compare 300] [--corpus 300]
"""

import argparse
import itertools
import random
import statistics
import time
import warnings
import xml.etree.ElementTree as ET
from collections import Counter, defaultdict
from pathlib import Path

import music21

from composer_classify.archives import hash_source
from composer_classify.files import SCORE_SUFFIXES
from composer_classify.midi import NoteArray
from composer_classify.results import write_results
from composer_classify.scores import GRACE, ScoreLoadError, format_of, load_score

LARGE = 150_000  # bytes; music21 needs up to minutes for larger files, so only a few of them are compared
RESULTS = Path(__file__).resolve().parent.parent / "results" / "scores.json"


def join_ties(notes: list[tuple]) -> Counter:
    "Rows of part, onset, pitch, length and tie as notes (onset, pitch, length), tied ones joined."
    open_ties, found = defaultdict(list), []
    for part, onset, pitch, length, tie in sorted(notes, key=lambda row: row[1]):
        heads = open_ties[part, pitch, onset]
        head = heads.pop(0) if tie in ("stop", "continue") and heads else None
        if head is None:
            head = [onset, pitch, 0]
            found.append(head)
        head[2] += length
        if tie in ("start", "continue"):
            open_ties[part, pitch, onset + length].append(head)
    return Counter((round(float(onset), 3), pitch, round(float(length), 3)) for onset, pitch, length in found)


def by_measure(score: music21.stream.Score) -> list[tuple]:
    "The notes of a score by music21, rows of part, onset, pitch, length and tie, each bar as long as what is in it."
    parts = [list(part.getElementsByClass("Measure")) or [part] for part in score.parts or [score]]
    bars = itertools.zip_longest(*parts)
    lengths = [max(map(length_of, bar)) or max(m.highestTime for m in bar) for bar in map(compact, bars)]
    begin = [0, *itertools.accumulate(lengths)]
    rows = []
    for number, (part, measures) in enumerate(zip(score.parts or [score], parts)):
        name = str(part.id).split("-Staff")[0] if "-Staff" in str(part.id) else number  # a tie may cross the staves
        for bar, measure in enumerate(measures):
            for note in measure.flatten().notes:
                if isinstance(note, music21.harmony.Harmony) or note.duration.isGrace:
                    continue
                for each in getattr(note, "notes", [note]):
                    if isinstance(each, music21.note.Note):  # no drum
                        tie = each.tie.type if each.tie else ""
                        rows.append((name, begin[bar] + note.offset, each.pitch.midi, note.quarterLength, tie))
    return rows


def compact(measures: tuple) -> list:
    "The measures that are there: a part may end before the others."
    return [measure for measure in measures if measure is not None]


def length_of(measure: music21.stream.Measure) -> float:
    "The length of a bar; 0 if it holds a single rest, with which music21 fills up empty bars."
    written = list(measure.flatten().notesAndRests)
    if len(written) == 1 and written[0].isRest:
        return 0
    return max((n.offset + n.quarterLength for n in written if not n.style.hideObjectOnPrint), default=0)


def without_cues(content: bytes) -> str:
    "MusicXML with rests in place of cue notes, which music21 does not tell from others."
    root = ET.fromstring(content)
    for measure in root.iter("measure"):
        for note in [note for note in measure.findall("note") if note.find("cue") is not None]:
            if note.find("chord") is not None:
                measure.remove(note)
            elif (pitch := note.find("pitch")) is not None:
                pitch.tag, pitch[:] = "rest", []
    return ET.tostring(root, encoding="unicode")


def read_music21(path: Path) -> Counter:
    "The notes of a score by music21, at sounding pitch, without grace notes, cue notes and drums."
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        content = path.read_bytes()
        if b"<cue" in content:
            score = music21.converter.parseData(without_cues(content), format="musicxml")
        elif format_of(content) == "abc":  # by the standard of 2011, in which an accidental holds for the bar
            score = music21.converter.parseData(f"%abc-2.1\n{content.decode('utf-8', 'replace')}", format="abc")
        else:
            score = music21.converter.parse(path, forceSource=True, storePickle=False)
        scores = score.scores if isinstance(score, music21.stream.Opus) else [score]
        found, begin = Counter(), 0
        for score in scores:
            score.toSoundingPitch(inPlace=True)
            rows = [(name, begin + onset, *rest) for name, onset, *rest in by_measure(score)]
            found += join_ties(rows)
            begin += max(part.highestTime for part in score.parts or [score])
    return found


def read_ours(notes: NoteArray) -> Counter:
    "The same of notes that `load_score` has read. A thirty-second note in front of another may be a grace note."
    rows = notes[~notes["is_drum"]][["onset_beat", "pitch", "duration_beat"]].tolist()
    return Counter((round(onset, 3), pitch, round(length, 3)) for onset, pitch, length in rows)


def compare(paths: list[Path]) -> dict:
    "How many notes of some scores are the same by both readers."
    same = total = equal = 0
    differing, seconds = [], Counter()
    for path in paths:
        begin = time.process_time()
        try:
            other = read_music21(path)
        except Exception as error:  # music21 raises whatever its parser trips over
            differing.append(dict(file=path.name, music21=f"{type(error).__name__}: {error}"[:200]))
            continue
        seconds["music21"] += time.process_time() - begin
        begin = time.process_time()
        notes = load_score(path)
        seconds["ours"] += time.process_time() - begin
        ours = read_ours(notes)
        extra = ours - other
        graces = sum(n for (_, _, length), n in extra.items() if length <= round(GRACE, 3))  # music21 gives none
        agree, n = sum((ours & other).values()), max(ours.total() - graces, other.total())
        same, total, equal = same + agree, total + n, equal + (agree == n)
        if agree != n:
            differing.append(dict(file=path.name, notes=n, same=agree))
            print(path.name, n, agree, sorted(extra)[:3], sorted(other - ours)[:3], flush=True)
    return dict(
        files=len(paths),
        equal_files=equal,
        notes=total,
        same_notes=same,
        differing=differing,
        seconds={name: round(each, 1) for name, each in seconds.items()},
    )


def read_all(paths: list[Path]) -> dict:
    "Read every score. Returns what was read and refused, and the time."
    notes, seconds, refused, repairs = 0, [], [], Counter()
    for path in paths:
        begin = time.process_time()
        try:
            found = load_score(path)
            notes += len(found)
            repairs.update(bool(found.repairs) * [path.name])
        except ScoreLoadError as error:
            refused.append(dict(file=path.name, reason=error.reason))
        seconds.append(time.process_time() - begin)
    worst = max(range(len(paths)), key=seconds.__getitem__)
    return dict(
        files=len(paths),
        read=len(paths) - len(refused),
        refused=refused,
        repaired=len(repairs),
        notes=notes,
        megabytes=round(sum(path.stat().st_size for path in paths) / 1e6, 1),
        seconds=round(sum(seconds), 1),
        median_seconds=round(statistics.median(seconds), 3),
        worst=dict(file=paths[worst].name, seconds=round(seconds[worst], 2)),
    )


def scores_of_music21(n: int) -> dict[str, list[Path]]:
    "Scores of music21's corpus by format, at most `n` of each, small ones."
    root, kinds = Path(music21.__file__).parent / "corpus", defaultdict(list)
    for path in sorted(root.rglob("*")):
        if path.suffix in SCORE_SUFFIXES and path.stat().st_size < 60_000 and (kind := format_of(path.read_bytes())):
            kinds[kind].append(path)
    return {kind: random.Random(0).sample(paths, min(n, len(paths))) for kind, paths in kinds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--compare", type=int, default=300, help="scores of the folder compared with music21")
    parser.add_argument("--corpus", type=int, default=100, help="scores of each format of music21's corpus")
    args = parser.parse_args()
    paths = sorted(path for path in args.folder.rglob("*") if path.suffix in SCORE_SUFFIXES)
    measured = dict(folder=read_all(paths))
    print(measured, flush=True)
    small = [path for path in paths if path.stat().st_size < LARGE]
    large = [path for path in paths if path.stat().st_size >= LARGE]
    draw, n_large = random.Random(0), min(args.compare // 100, len(large))
    some = draw.sample(small, min(args.compare - n_large, len(small))) + draw.sample(large, n_large)
    measured["agreement"] = compare(some)
    print(measured["agreement"], flush=True)
    corpus = scores_of_music21(args.corpus)
    measured["corpus"] = {kind: read_all(paths) | dict(agreement=compare(paths)) for kind, paths in corpus.items()}
    parameters = dict(compare=args.compare, corpus=args.corpus, independent_reader=f"music21 {music21.__version__}")
    write_results(RESULTS, measured, parameters, hash_source(args.folder))


if __name__ == "__main__":
    main()

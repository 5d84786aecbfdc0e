"""Compare scores as written with the same scores with their repeats unfolded, and write results/scores_repeats.json.

.venv/bin/python tools/unfold_repeats.py path/to/openscore
"""

import argparse
import re
import statistics
import xml.etree.ElementTree as ET
from pathlib import Path

from composer_classify.archives import hash_source
from composer_classify.index import Index
from composer_classify.midi import NoteArray
from composer_classify.results import write_results
from composer_classify.scores import load_score
from composer_classify.works import align, covered, outer_lines

ROOT = Path(__file__).resolve().parent.parent
LARGEST = 2_500_000  # bytes


def marks(measure: ET.Element, kind: str) -> list[ET.Element]:
    "The repeat signs, or the endings, of a measure."
    return list(measure.iterfind(f"barline/{kind}"))


def played(measures: list[ET.Element]) -> list[int]:
    "The numbers of the measures in the order in which they are played: repeats twice, endings by their numbers."
    order, start, at, time = [], 0, 0, 1
    while at < len(measures) and len(order) < 5000:
        repeats, endings = marks(measures[at], "repeat"), marks(measures[at], "ending")
        if at != start and any(sign.get("direction") == "forward" for sign in repeats):
            start, time = at, 1
        begins = next((ending.get("number", "1") for ending in endings if ending.get("type") == "start"), None)
        if begins and str(time) not in re.findall(r"\d+", begins):
            while at < len(measures) and all(each.get("type") == "start" for each in marks(measures[at], "ending")):
                at += 1
            at += 1
            continue
        order.append(at)
        back = any(sign.get("direction") == "backward" for sign in repeats)
        if back and time == 1:
            at, time = start, 2
            continue
        if back:
            start, time = at + 1, 1
        at += 1
    return order


def unfolded(path: Path) -> tuple[bytes, float]:
    "A MusicXML file with its repeats written out, and how many times as many measures it has."
    root = ET.parse(path).getroot()
    parts = root.findall("part")
    order, n = played(parts[0].findall("measure")), len(parts[0])
    for part in parts:
        measures = part.findall("measure")
        part[:] = [measures[at] for at in order if at < len(measures)]
    return ET.tostring(root), len(order) / n


def share(written: NoteArray, whole: NoteArray) -> float:
    "The part of the melody as written that `works` finds in the unfolded one."
    first, second = outer_lines(written)[0], outer_lines(whole)[0]
    return covered(align(first, second)[:, 0]) / len(first)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    index = Index.load(ROOT / "composer_classify" / "weights" / "pieces")
    ratios, shares, titles = [], [], []
    for path in sorted(folder.rglob("*.musicxml")):
        if path.stat().st_size > LARGEST or "<repeat " not in path.read_text(encoding="utf-8"):
            continue
        content, ratio = unfolded(path)
        if ratio < 1.15:
            continue
        both = [load_score(source, path.name) for source in (path, content)]
        ratios.append(ratio)
        shares.append(share(*both))
        titles.append([(index.identify(notes) or {}).get("title") for notes in both])
    measured = dict(
        scores=len(ratios),
        mean_length=round(statistics.mean(ratios), 2),
        identified=[sum(title is not None for title in each) for each in zip(*titles)],
        same_answer=sum(first == second for first, second in titles),
        least_share=round(min(shares), 3),
        median_share=round(statistics.median(shares), 3),
    )
    print(measured)
    results = ROOT / "results" / "scores_repeats.json"
    write_results(results, measured, dict(largest=LARGEST, least_length=1.15), hash_source(folder))


if __name__ == "__main__":
    main()

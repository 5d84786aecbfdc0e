"""How the project is laid out: imports go one way, cells are short, and notebooks stay small."""

import ast
import base64
import graphlib
import json
import re
import statistics
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "composer_classify"
NOTEBOOKS = sorted((ROOT / "nbs").glob("*.ipynb"))
LESSONS = {
    "collection",
    "preprocessing",
    "evaluation",
    "training",
    "lstm",
    "cnn",
    "optimization",
    "all_composers",
    "best",
    "tuning",
}
PREDICTION = ["recognition", "shipped_model", "fingerprints", "index", "audio", "humming", "melodies", "recordings"]


def imports_of(path: Path) -> set[tuple[str, str]]:
    "Module of the package and name, for everything that a module imports from it, also inside functions."
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level or base.split(".")[0] == PACKAGE:
                module = base.removeprefix(PACKAGE).strip(".")
                found |= {(module or alias.name, alias.name) for alias in node.names}
    return found


IMPORTS = {path.stem: imports_of(path) for path in (ROOT / PACKAGE).glob("[a-z]*.py")}


def test_imports_go_one_way():
    graph = {module: {other for other, _ in found} for module, found in IMPORTS.items()}
    order = list(graphlib.TopologicalSorter(graph).static_order())  # raises `CycleError`
    assert set(graph) <= set(order) and len(graph) > 20


def test_no_module_imports_a_private_name_of_another():
    private = [(module, *found) for module, names in IMPORTS.items() for found in names if found[1].startswith("_")]
    assert private == []


@pytest.mark.parametrize("module", PREDICTION)
def test_prediction_imports_no_lesson(module):
    seen, ahead = set(), [module]
    while ahead:
        here = ahead.pop()
        seen.add(here)
        ahead += [other for other, _ in IMPORTS[here] if other not in seen | {"corpus"}]  # for annotations
    assert seen & LESSONS == set()


def exported(path: Path) -> list[int]:
    "How many lines each exported cell of a notebook has."
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return [source.rstrip().count("\n") + 1 for source in sources if source.startswith("#| export")]


def test_exported_cells_are_short():
    lengths = sorted(length for path in NOTEBOOKS for length in exported(path))
    assert statistics.median(lengths) <= 12 and lengths[int(0.9 * len(lengths))] <= 40 and lengths[-1] <= 80


def test_notebooks_are_small():
    assert sum(path.stat().st_size for path in NOTEBOOKS) < 4e6
    for path in NOTEBOOKS:
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            for output in cell.get("outputs", []):
                data = {
                    kind: "".join(text) for kind, text in output.get("data", {}).items() if kind != "application/json"
                }
                assert "data:audio" not in data.get("text/html", ""), f"{path.name}, {cell['id']}: sound"
                picture = base64.b64decode(data.get("image/png", ""))
                assert len(picture) <= 40_000, f"{path.name}, {cell['id']}: a figure of {len(picture):,} bytes"


ESTIMATORS = {"FileClassifier", "TwoPartClassifier"}  # scikit-learn wants their settings as parameters


def too_many_parameters(path: Path) -> list[str]:
    "Functions of a module with more than six parameters that have a name."
    found = []
    for holder in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if getattr(holder, "name", "") in ESTIMATORS:
            continue
        for node in ast.iter_child_nodes(holder):
            if isinstance(node, ast.FunctionDef):
                arguments = [each.arg for each in node.args.posonlyargs + node.args.args + node.args.kwonlyargs]
                if len(set(arguments) - {"self", "cls"}) > 6:
                    found.append(f"{path.stem}.{node.name}")
    return found


def test_functions_have_at_most_six_parameters():
    assert [name for path in (ROOT / PACKAGE).glob("[a-z]*.py") for name in too_many_parameters(path)] == []


def test_no_test_file_imports_another():
    "What several of them need is in `conftest.py`, `builders.py` and the like."
    tests = {path.stem: path for path in Path(__file__).parent.glob("test_*.py")}
    assert [name for name, path in tests.items() if re.search(r"^(from|import) test_", path.read_text(), re.M)] == []

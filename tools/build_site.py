"""The sources of the site: the notebooks in nbs/ as pages, the reference, a gallery and the changelog.

python tools/build_site.py    # nbs/ -> _proc/, which quarto or smalldocs then turns into pages

On a page, code is folded unless it is short and puts something out; imports, tests and plumbing are left out. The
notebooks themselves stay as they are.
"""

import ast
import base64
import io
import json
import re
import shutil
from collections import Counter
from pathlib import Path

from PIL import Image

from reference import Entry, entries, module_markdown
from render import addresses, directive, large_outputs, page_name, root, settings, text

NBS, PACKAGE = root / "nbs", root / "composer_classify"
SETTINGS, (HOME, BLOB) = settings(), addresses()
COLAB = BLOB.replace("github.com", "colab.research.google.com/github")
LESSONS = sorted(NBS.glob("*.ipynb"))
SHORT = 8  # lines of code that are shown with their output
THUMBNAIL = 480  # pixels

TESTS = re.compile(r"(test_\w+|assert_\w+)$")
fenced = re.compile(r"(^```.*?^```|\[[^\]\n]*\]\([^)\n]*\)|^#.*?$)", re.M | re.S)  # where no name becomes a link
named = re.compile(r"(?<![`\w])`([A-Za-z_]\w*(?:\.\w+)*)(?:\(\))?`(?!`)")
local = re.compile(r"(\]\()(?![a-z]+:|[#/])([^)\s#]+)")
interval = re.compile(r"(\d%?) \((\d[\d.,]*%?) to (\d[\d.,]*%?)\)")
ansi = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


PAGES = {path.name: f"{page_name(path)}.ipynb" for path in LESSONS}


def cell_of(kind: str, source: str, **more) -> dict:
    "A cell of a notebook, with its source as a list of lines: Quarto glues the lines of a string together."
    return dict(cell_type=kind, metadata={}, source=source.splitlines(keepends=True)) | more


# Links


def linked(markdown: str, names: dict[str, Entry], up: str = "") -> str:
    "Markdown with links between pages, links to files of the repository, and public names as links to the reference."

    def target(found: re.Match) -> str:
        path = found[2]
        if path in PAGES:
            return found[1] + up + PAGES[path]
        return found[1] + (BLOB + path[3:] if path.startswith("../") else up + path)

    def reference(found: re.Match) -> str:
        entry = names.get(found[1])
        return f"[{found[0]}]({up}api/{entry.module}.qmd#{entry.name})" if entry else found[0]

    parts = fenced.split(markdown)
    parts[::2] = [named.sub(reference, part) for part in parts[::2]]
    parts[1::2] = [part if part.startswith("```") else local.sub(target, part) for part in parts[1::2]]
    return "".join(parts).replace(f"]({HOME}", f"]({up}")


def known_names() -> list[Entry]:
    "All public names of the package."
    modules = sorted(PACKAGE.glob("[a-z]*.py"))
    return [each for path in modules for each in entries(path.read_text(encoding="utf-8"), path.stem)]


def names_for(module: str, every: list[Entry]) -> dict[str, Entry]:
    """Public names as a page understands them: its own module's, and those that only one module has.

    A plain word such as `audio` or `index` can mean something else on the page of another module."""
    twice = Counter(each.name for each in every)
    found = {each.name: each for each in every if twice[each.name] == 1 and not re.fullmatch("[a-z]+", each.name)}
    return found | {each.name: each for each in every if each.module == module}


# Code


def is_test(node: ast.stmt) -> bool:
    "Whether a statement tests something, and does nothing else."
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        called = node.value.func
        return bool(TESTS.match(getattr(called, "id", getattr(called, "attr", ""))))
    if isinstance(node, ast.With):
        return "raises" in ast.unparse(node.items[0]) or all(map(is_test, node.body))
    if isinstance(node, ast.For):
        return all(map(is_test, node.body))
    return isinstance(node, ast.Assert)


def is_import(node: ast.stmt) -> bool:
    "Whether a statement only imports."
    return isinstance(node, ast.Import | ast.ImportFrom) or (
        isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    )


def without_tests(code: str) -> str:
    "The code without the statements that test or import, and with no more than one empty line in a row."
    lines = code.splitlines()
    for node in ast.parse(code).body:
        if is_test(node) or is_import(node):
            lines[node.lineno - 1 : node.end_lineno] = [None] * (node.end_lineno - node.lineno + 1)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(line for line in lines if line is not None)).strip()


def names_in(code: str, context: type) -> set[str]:
    "The names that code reads (`ast.Load`) or assigns (`ast.Store`); what it defines counts as assigned."
    nodes = list(ast.walk(ast.parse(code)))
    found = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, context)}
    if context is ast.Store:
        found |= {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    return found


def options(**given: str | bool | list[str] | None) -> str:
    "The lines that tell Quarto about a cell."
    return "".join(
        f"#| {name.replace('_', '-')}: {json.dumps(value, ensure_ascii=False)}\n"
        for name, value in given.items()
        if value is not None
    )


# Outputs


def shown(out: dict) -> dict | None:
    """An output as a page shows it, a score and its interval on one line.

    HTML is passed on in Markdown: for `text/html` Quarto loads two scripts from another host."""
    if out["output_type"] == "stream":
        said = ansi.sub("", text(out["text"]))
        return dict(out, text=said.splitlines(keepends=True)) if out["name"] == "stdout" and said.strip() else None
    data = dict(out.get("data", {}))
    if html := text(data.get("text/html", "")):
        data = {"text/markdown": f"````{{=html}}\n{html.strip()}\n````"}
    elif "text/markdown" in data or "image/png" in data:
        data.pop("text/plain", None)
    if "text/markdown" in data:
        data["text/markdown"] = interval.sub(
            "\\1\N{NO-BREAK SPACE}(\\2\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}\\3)", text(data["text/markdown"])
        )
    return dict(out, data={kind: text(each) for kind, each in data.items()}) if "data" in out else out


def words(markdown: str) -> str:
    "Markdown as plain text."
    return re.sub(r"[`*\"]|\]\(.*?\)|\[", "", markdown).strip()


def figure_options(given: dict[str, str], first: int, n: int) -> dict:
    "The description of the `n` figures of a cell, and their caption with numbers."
    alt, caption = yaml_text(given["fig-alt"]), yaml_text(given["fig-cap"])
    captions = [f"Figure {first + k}. {caption}" for k in range(n)]
    return dict(fig_alt=alt, fig_cap=captions if n > 1 else captions[0])


def yaml_text(value: str) -> str:
    "A text in a line of options, with or without its quotes."
    return json.loads(value) if value.startswith('"') else value.strip("'")


# Pages


def is_folded(cell: dict) -> bool:
    "Whether the code of an example is folded."
    return '#| code-summary: "Code' in "".join(cell["source"])


def joined(cells: list[dict]) -> list[dict]:
    "The cells, with folded code that puts nothing out in front of the folded code that follows it."
    page = []
    for cell in cells:
        if page and is_folded(cell) and is_folded(page[-1]) and not page[-1]["outputs"]:
            before = page.pop()
            code = "".join(line for line in before["source"] if not line.startswith("#|"))
            own = "".join(line for line in cell["source"] if line.startswith("#|"))
            cell = dict(cell, source=f"{own}{code}\n\n{text(cell['source'])[len(own) :]}".splitlines(keepends=True))
        page.append(cell)
    return page


class Lesson:
    "A notebook that becomes a page."

    def __init__(self, path: Path, every: list[Entry], made: dict[str, list]):
        self.path, self.page, self.made = path, PAGES[path.name], made
        self.nb = json.loads(path.read_text(encoding="utf-8"))
        sources = "\n".join(text(cell["source"]) for cell in self.nb["cells"])
        exported = re.search(r"^#\| default_exp (\w+)", sources, re.M)
        self.module = exported[1] if exported else ""
        self.names = names_for(self.module, every)
        self.title = text(self.nb["cells"][0]["source"]).partition("\n")[0].lstrip("# ")
        self.n_figures, self.thumbnail = 0, None
        self.seen = set()
        self.needed = self._needed()

    def _needed(self) -> list[bool]:
        "For each cell: whether it puts something out, or a later one that does reads a name that it assigns."
        read, needed = set(), []
        for cell in reversed(self.nb["cells"]):
            code = self.code(cell)
            is_code = cell["cell_type"] == "code" and not self.hidden(cell)
            mine = is_code and (bool(self.outputs(cell)) or bool(names_in(code, ast.Store) & read))
            read |= names_in(code, ast.Load) if mine else set()
            needed.append(mine)
        return needed[::-1]

    @staticmethod
    def given(cell: dict) -> dict[str, str]:
        "What the first lines of a cell tell nbdev and Quarto."
        return {name: value.strip() for name, value in directive.findall(text(cell["source"]))}

    @staticmethod
    def code(cell: dict) -> str:
        "What a cell runs on the page: no lines for nbdev or a shell."
        code = directive.sub("", text(cell["source"])) if cell["cell_type"] == "code" else ""
        return re.sub(r"^[%!].*$", "", code, flags=re.M).strip()

    def hidden(self, cell: dict) -> bool:
        "Whether a cell is left out whatever it does."
        return bool(self.given(cell).keys() & {"hide", "default_exp"})

    def outputs(self, cell: dict) -> list[dict]:
        "What a cell puts out on the page."
        if self.given(cell).get("output") == "false":
            return []
        outs = [each for each in map(shown, self.made.get(cell.get("id"), cell.get("outputs", []))) if each]
        for data in (each.get("data", {}) for each in outs):
            if not data.get("text/markdown", "`").startswith("`"):
                data["text/markdown"] = linked(data["text/markdown"], self.names)
        return outs

    def cells(self) -> list[dict]:
        "The cells of the page: a title, links to the notebook, and what the notebook's cells become."
        front, *rest = zip(self.nb["cells"], self.needed)
        after = text(front[0]["source"]).partition("\n")[2]
        subtitle = re.match(r"\s*> (.+)", after)
        head = dict(title=self.title) | (dict(description=words(subtitle[1])) if subtitle else {})
        front_matter = "\n".join(f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in head.items())
        page = [cell_of("raw", f"---\n{front_matter}\n---\n")]
        page += [] if self.path.stem == "index" else [cell_of("markdown", self.links())]
        if after := after[subtitle.end() :].strip() if subtitle else after.strip():
            page.append(cell_of("markdown", linked(after, self.names)))
        for cell, needed in rest:
            page += self.markdown(cell) if cell["cell_type"] == "markdown" else self.code_cells(cell, needed)
        return [dict(each, id=f"c{k}") for k, each in enumerate(joined(page))]

    def links(self) -> str:
        "Where the notebook can be run, and had."
        return (
            f"::: {{.lesson-links}}\n[Open in Colab]({COLAB}nbs/{self.path.name})\n"
            f'<a href="notebooks/{self.path.name}" download>Download the notebook</a>\n'
            f"[View on GitHub]({BLOB}nbs/{self.path.name})\n:::"
        )

    def markdown(self, cell: dict) -> list[dict]:
        "Text, with links."
        return [cell_of("markdown", linked(text(cell["source"]), self.names))]

    def code_cells(self, cell: dict, needed: bool) -> list[dict]:
        "What a cell of code becomes: often nothing."
        given, code = self.given(cell), self.code(cell)
        if self.hidden(cell):
            return []
        if "export" in given:
            return self.exported(code)
        if code.startswith("show_doc("):
            return self.entry_lines(re.findall(r"show_doc\(([\w.]+)", code))
        return [self.example(cell, given, without_tests(code))] if needed else []

    def exported(self, code: str) -> list[dict]:
        "Code of the library: a line for each public name, and the source, folded."
        body = without_tests(code)
        if not body:
            return []
        own = [node.name for node in ast.parse(body).body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        public = [name for name in own if name[0] != "_"]
        what = ", ".join(own) or ", ".join(sorted(names_in(body, ast.Store)))
        folded = options(code_fold=True, code_summary=f"Source: {what}" if what else "Source")
        return [*self.entry_lines(public), self.code_cell(folded + body, [])]

    def entry_lines(self, names: list[str]) -> list[dict]:
        "How functions are called and what they are for, with links to the reference."
        lines = []
        for entry in (self.names[name] for name in names if name in self.names and name not in self.seen):
            self.seen.add(entry.name)
            said = linked(entry.text.partition("\n\n")[0].replace("\n", " "), self.names)
            lines.append(f"::: {{.entry}}\n[`{entry.short}`](api/{entry.module}.qmd#{entry.name}) {said}\n:::")
        return [cell_of("markdown", "\n\n".join(lines))] if lines else []

    def example(self, cell: dict, given: dict[str, str], code: str) -> dict:
        "Code that puts something out, or that such code needs."
        outs = self.outputs(cell)
        figures = [out for out in outs if "image/png" in out.get("data", {})]
        settings = {name.replace("-", "_"): json.loads(given[name]) for name in ("echo",) if name in given}
        if figures:
            settings |= figure_options(given, self.n_figures + 1, len(figures))
            self.n_figures += len(figures)
            picture = text(figures[0]["data"]["image/png"])
            self.thumbnail = self.thumbnail or (picture, *map(yaml_text, (given["fig-alt"], given["fig-cap"])))
        if settings.get("echo") is not False and (figures or not outs or code.count("\n") >= SHORT):
            summary = "Code of the figure" if figures else "Code"
            is_parameters = "parameters" in cell["metadata"].get("tags", [])
            settings |= dict(code_fold=True, code_summary="Parameters" if is_parameters else summary)
        return self.code_cell(options(**settings) + code, outs)

    @staticmethod
    def code_cell(source: str, outs: list[dict]) -> dict:
        return cell_of("code", source, execution_count=None, outputs=outs)

    def write(self, to: Path) -> None:
        "Write the page, and its first figure in a small size."
        self.nb["cells"] = self.cells()
        (to / self.page).write_text(json.dumps(self.nb, ensure_ascii=False), encoding="utf-8")
        if self.thumbnail:
            picture = Image.open(io.BytesIO(base64.b64decode(self.thumbnail[0]))).convert("RGB")
            picture.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
            picture.save(to / "gallery" / f"{page_name(self.path)}.png", optimize=True)


def write_page(path: Path, title: str, description: str, body: str) -> None:
    "Write a page of Markdown."
    front = f"---\ntitle: {json.dumps(title)}\ndescription: {json.dumps(description, ensure_ascii=False)}\n"
    path.write_text(f"{front}---\n\n{body.strip()}\n", encoding="utf-8")


def write_gallery(to: Path, lessons: list[Lesson]) -> None:
    "Write a page with the first figure of each page and what it shows, in reading order."
    order = (NBS / "_quarto.yml").read_text(encoding="utf-8")
    drawn = sorted((each for each in lessons if each.thumbnail), key=lambda each: order.rfind(each.path.name))
    items = [
        f"::: {{.gallery-item}}\n[![{each.thumbnail[1]}](gallery/{page_name(each.path)}.png)]({each.page})\n\n"
        f"[{each.title}]({each.page}): {each.thumbnail[2]}\n:::"
        for each in drawn
    ]
    write_page(
        to / "gallery.qmd",
        "Gallery",
        "The main figure of each page, and what it shows.",
        "::: {.gallery}\n" + "\n\n".join(items) + "\n:::",
    )


def write_reference(to: Path, lessons: list[Lesson], every: list[Entry]) -> None:
    "Write a page for each module, and a list of them."
    rows, lesson_of = [], {each.module: each for each in lessons}
    for path in sorted(PACKAGE.glob("[a-z]*.py")):
        module, (description, body) = path.stem, module_markdown(path)
        lesson = lesson_of[module]
        top = f"Explained in [{lesson.title}](../{lesson.page}). [Source]({BLOB}{PACKAGE.name}/{path.name})"
        linked_body = linked(body, names_for(module, every), "../")
        write_page(to / f"api/{module}.qmd", module, description, f"{top}\n\n{linked_body}")
        rows.append(f"| [`{module}`](api/{module}.qmd) | {description} |")
    listed = "\n".join(["| module | |", "| --- | --- |", *rows])
    write_page(to / "api.qmd", "API reference", "All public names of the package, by module.", listed)


def write_settings(to: Path) -> None:
    "Write the settings of the site, with the version and a page of the reference for each module."
    site = (NBS / "_quarto.yml").read_text(encoding="utf-8").replace("{version}", SETTINGS["version"])
    site = re.sub(r"[\w.]+\.ipynb", lambda found: PAGES.get(found[0], found[0]), site)
    modules = "".join(rf"\1- api/{path.stem}.qmd\n" for path in sorted(PACKAGE.glob("[a-z]*.py")))
    site = re.sub(r"^( *)- api/MODULE\.qmd\n", modules, site, flags=re.M)
    (to / "_quarto.yml").write_text(site, encoding="utf-8")


def write_others(to: Path, names: dict[str, Entry]) -> None:
    "Copy what else is in nbs/, the logo and the changelog."
    for path in NBS.glob("*.qmd"):
        (to / path.name).write_text(linked(path.read_text(encoding="utf-8"), names), encoding="utf-8")
    for path in [*NBS.glob("*.png"), *NBS.glob("*.css"), NBS / "_quarto-wide.yml"]:
        shutil.copy(path, to / path.name)
    shutil.copy(PACKAGE / "page" / "favicon.svg", to / "logo.svg")
    changes = (root / "CHANGELOG.md").read_text(encoding="utf-8").partition("\n")[2].replace("](nbs/", "](")
    write_page(to / "changelog.qmd", "Changelog", "What changed in each version.", linked(changes, names))


def build(to: Path, made: dict[str, list]) -> None:
    """Write the sources of the site into a folder, which is emptied before.

    `made` holds outputs of cells, by the ids of these, in place of those in the notebooks."""
    shutil.rmtree(to, ignore_errors=True)
    for folder in (to, to / "api", to / "gallery"):
        folder.mkdir()
    every = known_names()
    lessons = [Lesson(path, every, made) for path in LESSONS]
    for lesson in lessons:
        lesson.write(to)
    write_gallery(to, lessons)
    write_reference(to, lessons, every)
    write_others(to, names_for("", every))
    write_settings(to)


if __name__ == "__main__":
    build(root / "_proc", large_outputs())

"""The site: its sources as tools/build_site.py writes them, and its pages in a real browser, at the size of a desk and
of a telephone, by day and by night."""

import ast
import contextlib
import http.server
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import build_site
import reference
from composer_classify.cli import main
from render import addresses, directive

home, blob = addresses()
MODULES = sorted(path.stem for path in (ROOT / "composer_classify").glob("[a-z]*.py"))
GUIDES = sorted(path.stem for path in (ROOT / "nbs").glob("*.qmd"))
LESSONS = sorted(Path(name).stem for name in build_site.PAGES.values())
PAGES = [*LESSONS, *GUIDES, *(f"api/{name}" for name in MODULES), "api", "gallery", "changelog"]
TELLING = ["index", "evaluation", "cli", "getting_started", "api/midi", "gallery"]  # the others in `make test-full`
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SMALLDOCS = Path(sys.executable).with_name("smalldocs")


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    "The sources of the site, without the sound that notebooks do not keep."
    folder = tmp_path_factory.mktemp("site") / "proc"
    build_site.build(folder, {})
    return folder


@pytest.fixture(scope="module")
def lessons(sources) -> dict[str, list[dict]]:
    "The cells of each lesson, by the name of its page."
    return {name: json.loads((sources / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"] for name in LESSONS}


def code_of(cell: dict) -> str:
    return directive.sub("", "".join(cell["source"]))


def options_of(cell: dict) -> dict:
    lines = [line.removeprefix("#| ") for line in cell["source"] if line.startswith("#|")]
    return yaml.safe_load("".join(lines)) or {}


def outputs_of(cells: list[dict]) -> list[dict]:
    return [out for cell in cells for out in cell.get("outputs", [])]


# The sources


def test_every_source_is_a_list_of_lines(lessons):
    "Of a string, Quarto glues the lines together."
    for name, cells in lessons.items():
        for cell in cells:
            assert isinstance(cell["source"], list), name
            assert all(line.endswith("\n") and line.count("\n") == 1 for line in cell["source"][:-1]), name
            if cell["cell_type"] == "code":
                ast.parse(code_of(cell))


def test_outputs_make_no_page_ask_another_host(lessons):
    "For an output in HTML, Quarto loads require.js and jQuery; the tables are passed on in Markdown."
    data = [out.get("data", {}) for cells in lessons.values() for out in outputs_of(cells)]
    assert {kind for each in data for kind in each} <= {"text/plain", "text/markdown", "image/png"}
    assert sum("<table" in each.get("text/markdown", "") for each in data) > 20


def test_outputs_hold_no_warning_and_no_path(lessons):
    unwanted = re.compile(rf"\bWARNING\b|\w+Warning: |Traceback \(most recent|{ROOT}|{tempfile.gettempdir()}/|VAR_POS")
    for name, cells in lessons.items():
        said = json.dumps([out for out in outputs_of(cells) if "image/png" not in out.get("data", {})])
        assert not unwanted.findall(said), name


def test_figures_have_a_number_a_caption_and_a_description(lessons):
    n = 0
    for name, cells in lessons.items():
        captions = []
        for cell in cells:
            figures = [out for out in cell.get("outputs", []) if "image/png" in out.get("data", {})]
            if figures:
                given = options_of(cell)["fig-cap"]
                captions += given if isinstance(given, list) else [given]
                assert len(options_of(cell)["fig-alt"]) > 10, name
                n += len(figures)
        assert [caption.partition(".")[0] for caption in captions] == [f"Figure {k + 1}" for k in range(len(captions))]
        assert all(len(caption.partition(". ")[2]) > 3 for caption in captions), name
    assert n > 50


def test_each_figure_of_a_notebook_has_its_own_caption_and_description():
    for path in build_site.LESSONS:
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if any("image/png" in out.get("data", {}) for out in cell.get("outputs", [])):
                said = build_site.Lesson.given(cell)
                assert {"fig-cap", "fig-alt"} <= said.keys(), f"{path.name}, {cell['id']}"
                assert not re.search(r"\d\.\d", said["fig-cap"] + said["fig-alt"]), f"a typed score: {cell['id']}"


def sidebar(name: str) -> list[str]:
    "The pages of a sidebar, in reading order."
    bars = yaml.safe_load((ROOT / "nbs" / "_quarto.yml").read_text(encoding="utf-8"))["website"]["sidebar"]
    sections = next(bar for bar in bars if bar["id"] == name)["contents"]
    return [Path(build_site.PAGES[page]).stem for each in sections for page in each["contents"]]


@pytest.mark.parametrize("name", sidebar("lessons"))
def test_a_lesson_begins_with_what_it_found(lessons, name):
    "Findings come before the method and before any code that is shown; they hold a figure or a table of results."
    texts = ["".join(cell["source"]) if cell["cell_type"] == "markdown" else "" for cell in lessons[name]]
    headings = [(k, found) for k, each in enumerate(texts) for found in re.findall("^## (.+)", each, re.M)]
    assert headings[0][1] in ("Findings", "In short")
    begin, end = headings[0][0], headings[1][0]
    assert sum(len(each.split()) for each in texts[:begin]) < 30, "a long text before the findings"
    code = [cell for cell in lessons[name][:end] if cell["cell_type"] == "code"]
    assert all(options_of(cell).get("echo") is False or options_of(cell).get("code-fold") for cell in code)
    if headings[0][1] == "Findings":
        shown = [out for out in outputs_of(code) if "image/png" in out["data"] or "|" in str(out["data"])]
        tables = [each for each in texts[begin:end] if "| ---" in each]
        assert shown or tables


ARCHAIC = r"whoever|whosoever|\bwhom\b|\btaught\b|thereof|therein|hitherto|whence|\bhence\b|amongst|\bupon\b|\bshall\b"


def prose() -> dict[str, str]:
    "All texts that people read: pages, docstrings, messages and the changelog."
    found = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "composer_classify").glob("*.py")}
    found |= {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "nbs").glob("*.qmd")}
    found |= {
        f"{name}.md": (ROOT / f"{name}.md").read_text(encoding="utf-8")
        for name in ("README", "CHANGELOG", "CONTRIBUTING")
    }
    for path in build_site.LESSONS:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        found[path.name] = "\n".join("".join(cell["source"]) for cell in cells)
    return found


def test_prose_is_plain_modern_english():
    found = {name: re.findall(ARCHAIC, text, re.I) for name, text in prose().items()}
    assert {name: words for name, words in found.items() if words} == {}


def test_tests_imports_and_silent_code_are_not_shown(lessons):
    for name, cells in lessons.items():
        for cell in cells:
            statements = ast.parse(code_of(cell)).body if cell["cell_type"] == "code" else []
            assert not [each for each in statements if build_site.is_test(each) or build_site.is_import(each)], name
            if statements and not cell["outputs"]:
                assert options_of(cell).get("code-fold") is True, (name, code_of(cell)[:80])


def test_what_shown_code_reads_is_shown_too(lessons):
    "Where a name comes from can be unfolded, unless it is imported or a cell is hidden on purpose (`hide`)."
    for page, cells in lessons.items():
        path = next(path for path in build_site.LESSONS if build_site.PAGES[path.name] == f"{page}.ipynb")
        notebook = [
            each for each in json.loads(path.read_text(encoding="utf-8"))["cells"] if each["cell_type"] == "code"
        ]
        made, imported = set(), set()
        for cell in notebook:
            code = build_site.Lesson.code(cell)
            imports = [node for node in ast.parse(code).body if isinstance(node, ast.Import | ast.ImportFrom)]
            imported |= {name.asname or name.name for node in imports for name in node.names}
            if "#| hide" not in "".join(cell["source"]):
                made |= build_site.names_in(code, ast.Store)
        shown = imported
        for cell in cells:
            if cell["cell_type"] == "code":
                code, is_library = code_of(cell), options_of(cell).get("code-summary", "").startswith("Source")
                shown |= build_site.names_in(code, ast.Store)
                needed = set() if is_library else build_site.names_in(code, ast.Load)
                needed -= {node.arg for node in ast.walk(ast.parse(code)) if isinstance(node, ast.arg)}
                assert needed & made <= shown, (page, needed & made - shown, code[:200])


def test_the_reference_holds_every_public_name(sources):
    for module in MODULES:
        tree = ast.parse((ROOT / "composer_classify" / f"{module}.py").read_text(encoding="utf-8"))
        lists = [node.value for node in tree.body if isinstance(node, ast.Assign) and "__all__" in ast.unparse(node)]
        page = (sources / "api" / f"{module}.qmd").read_text(encoding="utf-8")
        assert set(ast.literal_eval(lists[0])) <= set(re.findall(r"\{#([\w.]+)\}", page)), module


def test_signatures_have_no_empty_line_and_say_what_they_say_in_python(sources):
    signatures = []
    for module in MODULES:
        page = (sources / "api" / f"{module}.qmd").read_text(encoding="utf-8")
        signatures += re.findall(r"^```python\n(.*?)\n```$", page, re.M | re.S)
    assert len(signatures) > 300
    for signature in signatures:
        assert "\n\n" not in signature and signature.strip() == signature
        if "(" in signature and not signature.startswith("class "):
            name, _, rest = signature.partition("(")
            ast.parse(f"def {name.rpartition('.')[2]}({rest}: ...")


SOURCE = """
def f(a, *, b: int = 1) -> int:  # Their sum
    "Adds."

class A:
    @property
    def b(self) -> int: ...

C = 2  # Two
"""


def test_a_signature_is_read_from_its_source():
    function, class_, property_, constant = reference.entries(SOURCE, "m")
    assert function.signature == "f(a, *, b: int = 1) -> int" and function.short == "f(a, b)"
    assert (function.text, function.returns) == ("Adds.", "Their sum")
    assert (class_.signature, property_.signature, property_.short) == ("class A", "A.b: int", "A.b")
    assert (constant.signature, constant.text, constant.is_constant) == ("C = 2", "Two", True)


def test_every_page_is_in_the_navigation_once(sources):
    site = yaml.safe_load((sources / "_quarto.yml").read_text(encoding="utf-8"))["website"]

    def listed(contents) -> list[str]:
        return [o for each in contents for o in (listed(each["contents"]) if isinstance(each, dict) else [each])]

    found = sorted(Path(name).with_suffix("").as_posix() for bar in site["sidebar"] for name in listed(bar["contents"]))
    assert found == sorted(set(PAGES) - {"404"})
    assert (ROOT / "settings.ini").read_text().count(f"version = {site['navbar']['right'][0]['text'][1:]}\n") == 1


@pytest.mark.parametrize("name", [each for each in GUIDES if each not in ("404", "page_and_api")])
def test_guides_say_what_the_program_says(name, monkeypatch):
    "A command or Python that is followed by its output."
    monkeypatch.chdir(ROOT)
    guide = (ROOT / "nbs" / f"{name}.qmd").read_text(encoding="utf-8")
    pairs = re.findall(r"^```(sh|python)\n([^`]+)\n```\n\n```\n([^`]+)\n```$", guide, re.M)
    assert pairs
    for language, code, expected in pairs:
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            if language == "python":
                exec(compile(code, name, "exec"), {})
            else:
                command, *arguments = shlex.split(code)
                assert command == "composer-classify" and main(arguments) == 0
        assert said.getvalue().strip() == expected.strip()


def test_links_of_the_readme_lead_somewhere_from_anywhere():
    "On the page of the repository and on PyPI, where only the text of README.md is."
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)", re.sub(r"^```.*?^```", "", readme, flags=re.M | re.S))
    assert len(links) > 40
    for is_image, text, target in links:
        page, file = target.partition("#")[0].removeprefix(home), target.removeprefix(blob)
        assert target.startswith("https://") and text, (text, target)
        if target.startswith(home):
            assert Path(page).stem in LESSONS, target
        elif target.startswith((blob, blob.replace("/blob/", "/raw/"))):
            assert (ROOT / file.removeprefix(blob.replace("/blob/", "/raw/"))).exists(), target
        else:
            assert not is_image, target


# The pages


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("smalldocs", marks=pytest.mark.skipif(not SMALLDOCS.is_file(), reason="needs Python 3.11")),
        pytest.param(
            "quarto",
            marks=[pytest.mark.slow, pytest.mark.skipif(not shutil.which("quarto"), reason="needs Quarto")],
        ),
    ],
)
def folder(sources, request) -> Path:
    "The folder of the built site."
    command = [SMALLDOCS, "render", "--quiet"] if request.param == "smalldocs" else ["quarto", "render", "--no-cache"]
    done = subprocess.run([*command, str(sources)], capture_output=True, text=True)
    assert done.returncode == 0 and "warning" not in (done.stdout + done.stderr).lower(), done.stderr[-3000:]
    shutil.copytree(ROOT / "nbs", sources / "_docs" / "notebooks", ignore=shutil.ignore_patterns("[!0-9a-z]*", "*.png"))
    return sources / "_docs"


@pytest.fixture(scope="module")
def site(folder):
    "Address of the built site."

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(folder))

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()


class Links(HTMLParser):
    "The links of a page, and what can be linked to on it."

    def __init__(self, page: str):
        super().__init__()
        self.links, self.ids, self.images = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.links += [given["href"]] if tag == "a" and given.get("href") else []
        self.ids += [given["id"]] if given.get("id") else []
        self.images += [given] if tag == "img" else []


def test_every_internal_link_leads_somewhere(folder):
    pages = {name: Links((folder / f"{name}.html").read_text(encoding="utf-8")) for name in PAGES}
    dead, followed = [], 0
    for name, page in pages.items():
        assert len(set(page.ids)) == len(page.ids), name
        for href in page.links:
            target, anchor = urldefrag(urljoin(f"http://site/{name}.html", href))
            if not target.startswith("http://site/"):
                continue
            followed += 1
            path = unquote(target.removeprefix("http://site/")) or "index.html"
            known = pages.get(path.removesuffix(".html"))
            if not (folder / path).is_file() or (anchor and known and unquote(anchor) not in known.ids):
                dead.append((name, href))
    assert followed > 3000 and dead == []


def test_the_site_has_what_search_engines_and_lost_visitors_need(folder):
    index = (folder / "index.html").read_text(encoding="utf-8")
    assert re.search(r'rel="icon"[^>]*logo\.svg|logo\.svg"[^>]*rel="icon"', index) and (folder / "logo.svg").is_file()
    assert f"{home}social.png" in index and (folder / "social.png").is_file() and "twitter:card" in index
    assert f"{home}midi.html" in (folder / "sitemap.xml").read_text(encoding="utf-8")
    assert "does not exist" in (folder / "404.html").read_text(encoding="utf-8")
    lesson = (folder / "scores.html").read_text(encoding="utf-8")
    assert all(f'href="{name}.html" class="pagination-link"' in lesson for name in ("midi", "composers"))
    assert "colab.research.google.com" in lesson and 'href="notebooks/00h_scores.ipynb"' in lesson


# The pages in a browser

sync_api = pytest.importorskip("playwright.sync_api", reason="needs the extra `dev`")
in_browser = pytest.mark.skipif(not CHROMIUM, reason="needs a browser: apt install chromium")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs the extra `dev`")
RULES = dict(runOnly=["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"], resultTypes=["violations"])
FIRST_RESULT = "document.querySelector('main :is(figure, table, img)').getBoundingClientRect().top + scrollY"
CUT_OFF = """[...document.querySelectorAll('main pre, main table, main code')].filter(each => {
    if (!each.checkVisibility() || getComputedStyle(each).display === 'inline') return false;
    if (each.scrollWidth <= each.clientWidth + 1) return false;
    for (let box = each; box.tagName !== 'MAIN'; box = box.parentElement)
        if (['auto', 'scroll'].includes(getComputedStyle(box).overflowX)) return false;
    return true;
}).map(each => each.innerText.slice(0, 80))"""


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(site, browser):
    "A page of a browser; afterwards nothing may have been asked of another host, been refused or have gone wrong."
    page, asked, wrong = browser.new_page(viewport=dict(width=1280, height=900)), [], []
    page.on("request", lambda sent: asked.append(sent.url))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("response", lambda reply: wrong.append(f"{reply.status} {reply.url}") if reply.status >= 400 else None)
    yield page
    page.close()
    assert [url for url in asked if not url.startswith((site, "data:", "blob:"))] == []
    assert wrong == []


def violations(page) -> list[str]:
    "What axe-core finds wrong with a page: contrast, names of images and controls, areas that no keyboard reaches."
    found = axe.Axe().run(page, options=RULES).response["violations"]
    return [f"{rule['id']}: {node['html'][:120]} {node['failureSummary']}" for rule in found for node in rule["nodes"]]


def darken(page) -> None:
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.locator(".quarto-color-scheme-toggle").first.evaluate("each => each.click()")
    page.wait_for_function(f"getComputedStyle(document.body).backgroundColor !== '{before}'")
    page.wait_for_timeout(300)  # colours change slowly


@in_browser
@pytest.mark.parametrize(
    "name", [*TELLING, *(pytest.param(each, marks=pytest.mark.slow) for each in PAGES if each not in TELLING)]
)
def test_a_page_is_whole_and_readable(site, page, name):
    page.goto(f"{site}{name}.html", wait_until="load")
    images = page.evaluate(
        "[...document.images].map(each => [each.complete && each.naturalWidth > 0, each.alt, each.src])"
    )
    assert [src for whole, alt, src in images if not whole or not (alt or src.endswith("logo.svg"))] == []
    assert page.locator("h1").count() >= 1 and len(page.locator("main").inner_text()) > 100
    for width in (390, 1280):
        page.set_viewport_size(dict(width=width, height=844))
        assert page.evaluate("document.documentElement.scrollWidth") <= width, f"wider than {width} pixels"
        assert page.evaluate(CUT_OFF) == [], f"cut off at {width} pixels"
    if name in sidebar("lessons"):
        assert page.evaluate(FIRST_RESULT) < 700
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert page.evaluate(CUT_OFF) == []
    assert violations(page) == []
    darken(page)
    assert violations(page) == []


@in_browser
def test_long_outputs_scroll_and_columns_are_as_wide_as_their_texts(site, page):
    "Pandoc gives the columns of a table with long lines equal widths."
    page.goto(f"{site}cli.html", wait_until="load")
    heights = page.evaluate("[...document.querySelectorAll('.cell-output pre')].map(each => each.offsetHeight)")
    assert len(heights) > 10 and max(heights) < 450
    narrow, wide = page.evaluate("""() => {
        const table = document.createElement('table');
        table.innerHTML = '<colgroup><col style="width: 50%"><col style="width: 50%"></colgroup>'
            + `<tr><td>n</td><td>${'long '.repeat(50)}</td></tr>`;
        document.querySelector('main').append(table);
        return [...table.querySelectorAll('td')].map(each => each.offsetWidth);
    }""")
    assert narrow < wide / 5


@in_browser
def test_search_finds_and_is_legible(site, page):
    page.goto(f"{site}index.html", wait_until="load")
    for change in (lambda page: None, darken):
        change(page)
        search = page.locator("#quarto-search input").first
        search.fill("fingerprint")
        page.locator("a[href*='fingerprints.html']", has_text="Fingerprint").last.wait_for()
        assert violations(page) == []
        search.fill("")


@in_browser
def test_code_is_folded_and_opens(site, page):
    page.goto(f"{site}kernel.html", wait_until="load")
    folded = page.locator("details", has_text="Source: choose_landmarks").first
    code = folded.locator("pre")
    assert code.is_hidden()
    folded.locator("summary").click()
    assert code.is_visible() and "np.random.default_rng" in code.inner_text()


@pytest.mark.slow
@pytest.mark.skipif(not (SMALLDOCS.is_file() or shutil.which("quarto")), reason="needs Quarto, or Python 3.11")
def test_make_docs_is_quiet_and_complete():
    "Nothing but the command and where the site is; the sound that notebooks do not keep is in it."
    done = subprocess.run(["make", "docs"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    if not shutil.which("quarto"):
        assert done.stderr == "" and len(done.stdout.splitlines()) <= 2, done.stdout + done.stderr
    assert "<audio" in (ROOT / "_docs" / "midi.html").read_text(encoding="utf-8")
    assert (ROOT / "_docs" / "notebooks" / "00_midi.ipynb").is_file()

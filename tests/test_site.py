"""The site, built as `make docs` builds it, in a real browser: every page, every internal link, at the size of a desk
and of a telephone."""

import http.server
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="needs the extra `dev`")
ROOT = Path(__file__).resolve().parent.parent
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="needs a browser: apt install chromium"),
    pytest.mark.skipif(
        sys.version_info < (3, 11) and not shutil.which("quarto"), reason="needs Quarto, or Python 3.11 for smalldocs"
    ),
]
PAGES = sorted(
    path.stem.split("_", 1)[1] if path.stem[:2].isdigit() else path.stem for path in (ROOT / "nbs").glob("*.ipynb")
)


@pytest.fixture(scope="module")
def site():
    "Address of the built site."
    done = subprocess.run(["make", "docs"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0),
        type(
            "Quiet",
            (http.server.SimpleHTTPRequestHandler,),
            dict(
                __init__=lambda self, *args: http.server.SimpleHTTPRequestHandler.__init__(
                    self, *args, directory=str(ROOT / "_docs")
                ),
                log_message=lambda *_: None,
            ),
        ),
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole_and_readable(site, browser, name):
    page, asked, wrong = browser.new_page(viewport=dict(width=1280, height=900)), [], []
    page.on("request", lambda sent: asked.append(sent.url))
    page.on(
        "console",
        lambda message: (
            wrong.append(message.text) if message.type == "error" and "favicon" not in message.location["url"] else None
        ),
    )
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "response",
        lambda reply: (
            wrong.append(f"{reply.status} {reply.url}") if reply.status >= 400 and "favicon" not in reply.url else None
        ),
    )
    page.goto(f"{site}{name}.html", wait_until="networkidle")
    assert [url for url in asked if not url.startswith((site, "data:", "blob:"))] == []
    assert wrong == []
    assert (
        page.evaluate(
            "[...document.images].filter(image => !image.complete || !image.naturalWidth).map(image => image.src)"
        )
        == []
    )
    assert page.locator("h1").count() >= 1 and len(page.locator("main, body").first.inner_text()) > 500
    assert page.evaluate("[...document.images].filter(image => !image.alt).length") == 0
    text = page.content()
    assert "VAR_POSITIONAL" not in text and not re.search(
        r"\[`\w+`\]\(", "".join(page.locator("pre").all_inner_texts())
    )
    assert str(ROOT) not in text and tempfile.gettempdir() + "/" not in text and "Traceback (most recent" not in text
    for width in (1280, 390):
        page.set_viewport_size(dict(width=width, height=844))
        assert page.evaluate("document.documentElement.scrollWidth") <= width, f"wider than {width} pixels"
    page.close()


def test_every_internal_link_leads_somewhere(site, browser):
    page, links, anchors = browser.new_page(), {}, {}
    for name in PAGES:
        page.goto(f"{site}{name}.html")
        here = f"{site}{name}.html"
        anchors[here] = set(
            page.evaluate("[...document.querySelectorAll('[id],[name]')].map(each => each.id || each.name)")
        )
        links[here] = page.evaluate("[...document.querySelectorAll('a[href]')].map(each => each.getAttribute('href'))")
    page.close()
    dead, followed = [], 0
    for here, hrefs in links.items():
        for href in hrefs:
            target, anchor = urldefrag(urljoin(here, href))
            if not target.startswith(site):
                continue
            followed += 1
            target = target + "index.html" if target.endswith("/") else target
            if not (ROOT / "_docs" / unquote(target.removeprefix(site))).is_file():
                dead.append((here.removeprefix(site), href))
            elif anchor and target in anchors and unquote(anchor) not in anchors[target]:
                dead.append((here.removeprefix(site), href))
    assert followed > 300 and sorted(set(dead)) == []


@pytest.mark.skipif(bool(shutil.which("quarto")), reason="knows where smalldocs puts the search")
def test_search_finds_and_the_dark_side_is_there(site, browser):
    page = browser.new_page(viewport=dict(width=1280, height=900))
    page.goto(f"{site}index.html")
    page.get_by_role("searchbox").first.fill("fingerprint")
    page.locator("a[href*='fingerprints.html']", has_text="Fingerprint").last.wait_for()
    style = lambda: page.evaluate("getComputedStyle(document.body).backgroundColor")
    light = style()
    page.locator(".quarto-color-scheme-toggle").first.click()
    page.wait_for_timeout(300)
    assert style() != light
    page.close()

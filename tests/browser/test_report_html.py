"""The page in a real browser, as a person opens it: from disk, without a network."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from shutil import which
from threading import Thread

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))

from report_sweeps import HOSTILE, REASON, hostile_report
from stridelab.report import FIGURES, ReportPaths

CHROMIUM = which("chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run"]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs the command chromium")


@pytest.fixture(scope="module")
def written() -> ReportPaths:
    return hostile_report()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)


@pytest.fixture(scope="module")
def opened(browser: Browser, written: ReportPaths) -> Iterator[tuple[Page, list[str], list[str]]]:
    """The page, the addresses that it asked for, and what the browser complained of."""
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(written.html.as_uri(), wait_until="networkidle")
    yield page, asked, said
    page.close()


def test_it_asks_for_nothing_but_itself(opened: tuple[Page, list[str], list[str]], written: ReportPaths) -> None:
    _, asked, said = opened
    assert [
        address for address in asked if not address.startswith(("data:image/png;base64,", "data:image/svg+xml;base64,"))
    ] == [written.html.as_uri()]
    assert said == []


def test_every_figure_is_drawn_and_described(opened: tuple[Page, list[str], list[str]], written: ReportPaths) -> None:
    page, _, _ = opened
    images = page.evaluate(
        "[...document.images].map(i => [i.complete, i.naturalWidth, i.width, i.alt, i.src.slice(0, 14)])"
    )
    assert len(images) == len({path.stem for path in written.figures})
    for complete, natural, _, alt, source in images:
        assert complete
        assert natural > 300
        assert source == "data:image/svg"
        assert any(alt.startswith(drawing.alt) for drawing in FIGURES.values())


def test_names_are_text_and_do_nothing(opened: tuple[Page, list[str], list[str]]) -> None:
    page, _, _ = opened
    assert page.title().startswith("Comparison: strides-")
    text = page.inner_text("body")
    for name in [*HOSTILE.values(), REASON]:
        assert name in text
    assert page.evaluate("document.scripts.length + document.querySelectorAll('[onerror]').length") == 1  # ours


def test_the_page_would_stop_a_script_that_got_in(browser: Browser, written: ReportPaths, tmp_path: Path) -> None:
    """Its policy does; without the policy the same page is owned and calls out."""
    visits: list[str] = []

    class Visitor(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            visits.append(self.path)
            self.send_error(404)

        def log_message(self, *args: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Visitor) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        script = f"<script>document.title='owned'</script><img src='http://127.0.0.1:{server.server_port}/x'></body>"
        html = written.html.read_text(encoding="utf-8").replace("</body>", script)
        titles = []
        for name, text in {"with": html, "without": html.replace("Content-Security-Policy", "none")}.items():
            path = tmp_path / f"{name}.html"
            path.write_text(text, encoding="utf-8")
            with browser.new_page() as page:
                page.goto(path.as_uri())
                page.wait_for_function("[...document.images].at(-1).complete")  # answered, refused or blocked
                titles.append((page.title() == "owned", len(visits)))
        server.shutdown()
    assert titles == [(False, 0), (True, 1)]


def test_code_is_folded_and_opens_at_a_click(opened: tuple[Page, list[str], list[str]]) -> None:
    page, _, _ = opened
    code = page.get_by_text("report.load(")
    assert not code.is_visible()
    page.locator("summary", has_text="code").first.click()
    assert code.is_visible()
    page.locator("summary", has_text="code").first.click()


@pytest.mark.parametrize("width", [1200, 800, 400])
def test_only_tables_scroll_sideways(opened: tuple[Page, list[str], list[str]], width: int) -> None:
    page, _, _ = opened
    page.set_viewport_size({"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= width

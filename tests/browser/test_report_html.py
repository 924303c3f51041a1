"""The page in a real browser, as a person opens it: from disk, without a network."""

from __future__ import annotations

import re
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
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(written.html.as_uri(), wait_until="load")
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
    page.locator("summary", has_text="code").click()
    assert code.is_visible()
    page.locator("summary", has_text="code").click()


VALUE, DIFFERENCE = 1, 2
"""Columns of the first table."""


def column(page: Page, at: int) -> list[str]:
    return page.locator(f".answer tbody tr:not([hidden]) > :nth-child({at + 1})").all_inner_texts()


def classes(page: Page, name: str) -> tuple[set[str], set[str]]:
    """Variants whose row, and whose mark, has a class."""
    rows = page.locator(f".answer tbody tr.{name} > :first-child").all_text_contents()
    marks = page.evaluate(f"[...document.querySelectorAll('.chart g.{name}')].map(mark => mark.dataset.variant)")
    return set(rows), set(marks)


def test_a_click_or_enter_on_a_heading_sorts(opened: tuple[Page, list[str], list[str]]) -> None:
    page, _, _ = opened
    heading = page.locator(".answer thead th").nth(VALUE)
    values = sorted(float(text.split()[0]) for text in column(page, VALUE))
    heading.locator("button").click()
    assert [float(text.split()[0]) for text in column(page, VALUE)] == values
    assert heading.get_attribute("aria-sort") == "ascending"
    page.keyboard.press("Enter")
    assert [float(text.split()[0]) for text in column(page, VALUE)] == values[::-1]
    assert heading.get_attribute("aria-sort") == "descending"


def test_a_filter_leaves_the_rows_and_fades_the_other_marks(opened: tuple[Page, list[str], list[str]]) -> None:
    page, _, _ = opened
    everyone = set(column(page, 0))
    page.get_by_label("filter variants").fill("hyperlink")
    assert column(page, 0) == [HOSTILE["1-2-2"]]
    assert classes(page, "faint")[1] == everyone - {HOSTILE["1-2-2"]}
    page.get_by_label("filter variants").fill("")
    assert set(column(page, 0)) == everyone


def test_another_baseline_turns_the_differences_about(opened: tuple[Page, list[str], list[str]]) -> None:
    page, _, _ = opened
    first, second = HOSTILE["1-1-1"], HOSTILE["1-2-2"]

    def differences() -> dict[str, str]:
        return dict(zip(column(page, 0), column(page, DIFFERENCE), strict=True))

    before = differences()
    page.get_by_label("baseline").select_option(second)
    after = differences()
    assert (before[first], after[second]) == ("", "")
    assert float(before[second].split()[0]) == -float(after[first].split()[0]) != 0
    assert page.locator(".answer caption").inner_text().endswith(f"differences to {second}")
    page.get_by_label("baseline").select_option(first)
    assert differences() == before


def test_table_and_chart_point_at_each_other(opened: tuple[Page, list[str], list[str]]) -> None:
    page, _, _ = opened
    name = HOSTILE["1-2-2"]
    page.locator(".answer tbody tr", has_text=name).hover()
    assert classes(page, "hover") == (set(), {name})
    marks = page.locator(".chart g[data-variant]")
    at = [mark.get_attribute("data-variant") for mark in marks.all()].index(name)
    marks.nth(at).locator("circle:not(.seed)").hover()
    assert classes(page, "hover") == ({name}, set())
    assert f"{name}\ntest accuracy, %: " in marks.nth(at).locator("title").text_content()


def test_a_brush_over_the_chart_chooses_in_the_table_too(opened: tuple[Page, list[str], list[str]]) -> None:
    page, _, _ = opened
    page.locator(".chart").scroll_into_view_if_needed()
    box = page.locator(".chart").bounding_box()
    assert box
    everyone = set(column(page, 0))
    page.mouse.move(box["x"] + 2, box["y"] + 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 5, box["y"] + box["height"] - 5, steps=2)
    page.mouse.up()
    assert classes(page, "chosen")[0] == everyone
    page.locator(".chart").focus()
    page.keyboard.press("Escape")
    assert classes(page, "chosen")[0] == set()


def test_feature_maps_are_chosen_and_a_unit_shows_what_it_sees(opened: tuple[Page, list[str], list[str]]) -> None:
    page, _, _ = opened
    viewer = page.locator(".maps")
    viewer.get_by_label("layer").select_option("conv3")
    viewer.get_by_label("epoch").select_option("0")
    for strides, field_px in {"1-1-1": 7, "1-2-2": 9}.items():  # 3x3 each: 3, 5, 7; 3, 5, 9
        viewer.get_by_label(f"{HOSTILE[strides]}, conv3").focus()
        page.keyboard.press("ArrowDown")
        found = re.search(r"sees rows (-?\d+) to (-?\d+)", viewer.get_by_role("status").inner_text())
        assert int(found[2]) - int(found[1]) + 1 == field_px
    one = page.evaluate("document.querySelector('.maps div + div canvas').toDataURL()")
    viewer.get_by_label("scale").select_option("map")
    page.wait_for_function("one => document.querySelector('.maps div + div canvas').toDataURL() !== one", arg=one)
    assert page.locator("figure.replaced img[data-figure^=feature_maps]").count() == 2


def test_tab_goes_down_the_page_and_shows_where_it_is(opened: tuple[Page, list[str], list[str]]) -> None:
    page, _, _ = opened
    page.evaluate("document.activeElement.blur(); window.scrollTo(0, 0)")
    page.mouse.click(5, 5)
    page.evaluate("window.stops = []")
    for _ in range(12):
        page.keyboard.press("Tab")
        page.evaluate("stops.push(document.activeElement)")
    assert page.evaluate("stops.every((stop, i) => !i || stops[i - 1].compareDocumentPosition(stop) & 4 "
                         "|| stops[i - 1].contains(stop))")  # fmt: skip
    assert page.evaluate("stops.every(stop => stop !== document.body)")
    named = page.evaluate("stops.map(stop => stop.ariaLabel || stop.textContent)")
    assert named[:3] == ["filter variants", "baseline", page.locator(".answer .table").get_attribute("aria-label")]
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"


def test_a_dark_screen_gets_light_letters_on_dark(opened: tuple[Page, list[str], list[str]]) -> None:
    page, _, _ = opened
    page.emulate_media(color_scheme="dark")
    ink, paper = page.evaluate("(s => [s.color, s.backgroundColor])(getComputedStyle(document.body))")
    page.emulate_media(color_scheme="light")
    assert max(map(int, re.findall(r"\d+", paper))) < 40
    assert min(map(int, re.findall(r"\d+", ink))) > 200


def test_no_column_is_cut_in_print_and_pictures_stand_for_what_can_be_moved(
    opened: tuple[Page, list[str], list[str]],
) -> None:
    page, _, _ = opened
    page.set_viewport_size({"width": 700, "height": 1000})  # A4 less its margins
    page.emulate_media(media="print")
    cut = page.evaluate("[...document.querySelectorAll('.table')].filter(box => box.scrollWidth > box.clientWidth + 1)"
                        ".map(box => box.getAttribute('aria-label'))")  # fmt: skip
    pictures = page.locator("figure img").all()
    shown = [picture.is_visible() for picture in pictures]
    gone = page.locator(".chart, .maps, .controls").all()
    hidden = [one.is_hidden() for one in gone]
    page.emulate_media(media="screen")
    page.set_viewport_size({"width": 1400, "height": 900})
    assert cut == []
    assert all(shown)
    assert all(hidden)
    assert len(gone) >= 3


@pytest.mark.parametrize("width", [1400, 800, 390])
def test_only_tables_scroll_sideways(opened: tuple[Page, list[str], list[str]], width: int) -> None:
    page, _, _ = opened
    page.set_viewport_size({"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= width

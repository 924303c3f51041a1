"""What MLflow's own pages show of a sweep, in a browser, against a real server."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from shutil import which

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))

from report_sweeps import grid, record_sweep
from stridelab.cli.open_page import answers
from stridelab.names import in_sweep
from stridelab.report.comparison import compare
from stridelab.report.paper import note
from stridelab.tracking.find import SweepRecord
from stridelab.tracking.links import sweep_note, ui_command, view_link
from stridelab.tracking.run import amend
from stridelab.tracking.sync import sync
from stridelab.tracking.view import wish

CHROMIUM = which("chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run"]
PATIENCE_MS = 120_000

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs the command chromium")


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, SweepRecord]]:
    """A server over a store with a sweep in it, as a sweep leaves it, of which another trained two runs: (address,
    sweep)."""
    results = tmp_path_factory.mktemp("mlflow") / "results"
    fakes = [replace(one, tags={"stridelab.label": one.strides}, params={"strides": one.strides}) for one in grid()]
    record_sweep(results, fakes[:2], name="earlier")
    reused = [f"earlier-{number}" for number in range(2)]
    store, sweep = record_sweep(results, fakes, reused=reused)
    for signature in reused:
        with amend(results / "runs" / signature) as run:
            run.tags({in_sweep(sweep.name, sweep.tags["stridelab.uid"]): "1-1-1"})
    with amend(results / "sweeps" / sweep.name) as run:
        run.tags({"stridelab.view": wish("test/acc", epochs="val/acc", params=["strides"])})
        place = {"experiment_id": sweep.run.experiment_id, "run_id": sweep.run_id}
        run.tags({"mlflow.note.content": sweep_note(note(compare(sweep)), num_runs=len(fakes), **place)})
    assert sync(store, results).complete
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [word for word in shlex.split(ui_command(store, port=port)) if "=" not in word.split("/")[0]]
    program = [str(Path(sys.executable).parent / "mlflow"), *words[words.index("ui") :]]
    settings = {"DO_NOT_TRACK": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    server = subprocess.Popen(
        program, env=os.environ | settings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=results
    )
    try:
        until = time.monotonic() + PATIENCE_MS / 1000
        while not answers(port):
            assert time.monotonic() < until, "the server does not answer"
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}", sweep
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser: Browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        found = browser.new_page(viewport={"width": 1600, "height": 1000})
        found.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        yield found
        browser.close()


def test_the_prepared_view_groups_by_variant_and_draws_accuracy_against_macs(
    shown: tuple[str, SweepRecord], page: Page
) -> None:
    address, sweep = shown
    assert sweep.run is not None
    page.goto(view_link(address, experiment_id=sweep.run.experiment_id, run_id=sweep.run_id))
    expect(page.get_by_text("Accuracy and cost")).to_be_visible()
    expect(page.get_by_text(f"Group by: stridelab.in.{sweep.name}")).to_be_visible()
    for name in ("1-1-1", "1-2-2", "2-2-1"):
        expect(page.get_by_text(f"Group: {name}")).to_be_visible()
    expect(page.locator(".xtitle", has_text="cost/macs")).to_be_visible()
    expect(page.locator(".ytitle", has_text="test/acc")).to_be_visible()
    expect(page.get_by_text("Show more columns")).to_have_count(0)


def test_the_table_begins_with_what_differs(shown: tuple[str, SweepRecord], page: Page) -> None:
    address, sweep = shown
    assert sweep.run is not None
    page.goto("about:blank")
    page.goto(view_link(address, experiment_id=sweep.run.experiment_id, run_id=sweep.run_id, charts=False))
    headings = page.get_by_role("columnheader")
    expect(headings.filter(has_text="strides").first).to_be_visible()
    places = {}
    for name in ("Run Name", "strides", "test/acc", "cost/macs"):
        box = headings.filter(has_text=name).first.bounding_box()
        assert box is not None
        places[name] = box["x"]
    assert sorted(places, key=places.__getitem__) == ["Run Name", "strides", "test/acc", "cost/macs"]


def test_the_sweeps_page_begins_with_the_verdict(shown: tuple[str, SweepRecord], page: Page) -> None:
    address, sweep = shown
    assert sweep.run is not None
    page.goto(f"{address}/#/experiments/{sweep.run.experiment_id}/runs/{sweep.run_id}?workflowType=machine_learning")
    expect(page.get_by_text("Undecided: too few seeds to tell any of 2 variants from 1-1-1.")).to_be_visible()
    expect(page.get_by_role("cell", name="baseline")).to_be_visible()
    expect(page.get_by_role("link", name="as charts")).to_be_visible()

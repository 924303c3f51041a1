"""The notebook and the page: really executed, complete, harmless, and written whatever happens to a cell."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from report_sweeps import HOSTILE, REASON, Fake, grid, hostile_report, shared_results, shared_store, sweep_of
from stridelab import report
from stridelab.report.html import SCRIPT
from stridelab.report.kernel import execute
from stridelab.report.notebook import build, store_expression
from stridelab.tracking.find import find_sweep
from stridelab.tracking.store import Store

v4: Any = nbformat.v4


@pytest.fixture(scope="module")
def written() -> report.ReportPaths:
    return hostile_report()


@pytest.fixture(scope="module")
def notebook(written: report.ReportPaths) -> Any:
    return nbformat.read(written.notebook, as_version=4)


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def test_a_report_is_complete(written: report.ReportPaths) -> None:
    assert written.problems == ()
    drawn = [name for name in report.FIGURES if name != "factor_effects"]  # three plans are no grid
    assert list(dict.fromkeys(path.stem for path in written.figures)) == drawn
    kinds = {name: {path.suffix for path in written.figures if path.stem == name} for name in drawn}
    assert all(found >= {".svg", ".pdf", ".png"} for found in kinds.values())
    assert all(".csv" in found for name, found in kinds.items() if not name.startswith("feature_maps"))
    others = {"comparison.ipynb", "comparison.html", "runs.csv", "variants.csv", "table.md", "table.tex", "methods.md"}
    assert {path.name for path in written.all} >= others
    assert all(path.stat().st_size > 100 for path in written.all)
    with written.runs.open(encoding="utf-8") as file:
        assert len(list(csv.reader(file))) == 1 + 6


def test_the_notebook_ran_from_top_to_bottom_without_a_word_of_trouble(notebook: Any) -> None:
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert {output.output_type for output in outputs(notebook)} == {"execute_result"}
    assert len(outputs(notebook)) == len(code)


def test_what_does_not_apply_has_no_section(notebook: Any) -> None:
    headings = "".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert "## Accuracy and cost" in headings
    assert report.FIGURES["factor_effects"].heading not in headings, "three plans are no grid"


def test_the_notebook_shows_the_very_pictures_that_lie_beside_it(written: report.ReportPaths, notebook: Any) -> None:
    pictures = [output for output in outputs(notebook) if "image/png" in output.data]
    files = {kind: {path.read_bytes() for path in written.figures if path.suffix == kind} for kind in (".png", ".svg")}
    drawings = [output.data["image/svg+xml"] for output in outputs(notebook) if "image/svg+xml" in output.data]
    assert {drawing.encode() for drawing in drawings} == files[".svg"]
    page = written.html.read_text(encoding="utf-8")
    assert all(b64encode(drawing.encode()).decode() in page for drawing in drawings)
    assert {b64decode(picture.data["image/png"]) for picture in pictures} == files[".png"]
    for picture in pictures:
        size = picture.metadata["image/png"]
        assert 2 * size["width"] == int.from_bytes(b64decode(picture.data["image/png"])[16:20], "big")
        assert size["alt"].endswith(".")


def test_nothing_tells_where_on_this_machine_it_was_made(written: report.ReportPaths) -> None:
    for path in (written.notebook, written.html):
        text = path.read_text(encoding="utf-8")
        assert str(shared_results()) not in text
        assert sys.prefix not in text


def test_the_first_cell_names_store_and_sweep(written: report.ReportPaths, notebook: Any) -> None:
    source = notebook.cells[0].source
    assert "store='sqlite:///../../mlflow.db'" in source
    store = shared_store()
    assert repr(find_sweep(store, written.notebook.parent.name).run_id) in source


class Page(HTMLParser):
    """Tags, addresses and text of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "data", "action")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_loads_nothing_and_runs_one_script_of_ours(written: report.ReportPaths) -> None:
    page, text = Page(written.html), written.html.read_text(encoding="utf-8")
    assert not page.tags & {"link", "iframe", "object", "embed", "form", "base", "svg"}
    assert page.handlers == []
    assert len(page.addresses) == len({path.stem for path in written.figures})
    assert all(re.match(r"data:image/svg\+xml;base64,", address) for address in page.addresses)
    (script,) = re.findall(r"<script>(.*?)</script>", text, flags=re.S)
    assert script == SCRIPT
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert f'content="{policy}"' in text


def test_names_and_reasons_are_shown_as_they_are(written: report.ReportPaths) -> None:
    text = Page(written.html).text
    for name in HOSTILE.values():
        assert text.count(name) >= 2  # the summary and the table
    assert REASON in text


def test_the_page_says_what_differs_the_command_and_the_commit(written: report.ReportPaths) -> None:
    text = Page(written.html).text
    assert "3 variants, 6 runs: 5 finished, 1 failed." in text
    assert "too few seeds" in text
    assert "Control check passed" in text
    assert "python train.py -m 'model.strides=[1,1,1],[1,2,2],[2,2,1]' seed=0,1" in text
    assert "0123456789ab with uncommitted changes" in text


def test_anyone_can_run_the_notebook_again_in_its_folder(written: report.ReportPaths) -> None:
    before = {path: path.read_bytes() for path in written.figures if path.suffix != ".pdf"}
    written.figures[0].unlink()
    again = nbformat.read(written.notebook, as_version=4)
    for cell in again.cells:
        cell.update({"outputs": [], "execution_count": None} if cell.cell_type == "code" else {})
    folder = {"metadata": {"path": str(written.notebook.parent)}}
    NotebookClient(again, timeout=120, kernel_name="python3", resources=folder).execute()
    shown = [output.data for output in outputs(again)]
    assert shown == [output.data for output in outputs(nbformat.read(written.notebook, as_version=4))]
    assert {path: path.read_bytes() for path in before} == before


def test_a_sweep_whose_runs_all_failed_gets_its_report(tmp_path: Path) -> None:
    runs = [Fake("1-1-1", seed, 0.9, failure=f"no memory for seed {seed}") for seed in (0, 1)]
    sweep = sweep_of(runs, mirrored=True)
    paths = report.write_report(report.compare(sweep), tmp_path, store=shared_store())
    assert paths.problems == ()
    assert {path.stem for path in paths.figures} == {"costs", "geometry"}  # known before training
    text = Page(paths.html).text
    assert "No run finished with test accuracy: nothing to compare." in text
    assert "FakeFailure: no memory for seed 1" in text


def test_a_chosen_baseline_stays_chosen_and_an_unknown_one_is_refused_at_once(tmp_path: Path) -> None:
    sweep = sweep_of(grid(("1-1-1", "1-2-2"), seeds=(0,)))
    comparison = report.compare(sweep, baseline="strides=1-2-2")
    store = shared_store()
    source = build(comparison, store, folder=tmp_path).cells[0].source
    assert "baseline='strides=1-2-2'" in source
    with pytest.raises(ValueError, match="baseline='no' is not a variant"):
        report.compare(sweep, baseline="no")
    assert not (tmp_path / "comparison.ipynb").exists()


@pytest.mark.parametrize(
    ("uri", "expression"),
    [
        ("http://127.0.0.1:5000", "'http://127.0.0.1:5000'"),
        ("https://me:secret@host.example/mlflow", 'os.environ["MLFLOW_TRACKING_URI"]'),
        ("postgresql+psycopg2://me:secret@db/mlflow", 'os.environ["MLFLOW_TRACKING_URI"]'),
        ("sqlite:////elsewhere/mlflow.db", "'sqlite:////elsewhere/mlflow.db'"),
    ],
)
def test_a_notebook_never_holds_a_password(uri: str, expression: str, tmp_path: Path) -> None:
    store = Store(uri, "", "stridelab")
    assert store_expression(store, folder=tmp_path) == expression


def test_a_store_above_the_report_is_named_by_its_way_there(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/mlflow.db", "", "stridelab")
    assert store_expression(store, folder=tmp_path / "reports" / "x") == "'sqlite:///../../mlflow.db'"


def cells(*sources: str) -> Any:
    return v4.new_notebook(cells=[v4.new_code_cell(source) for source in sources])


def run(notebook: Any, folder: Path, timeout_s: float = 60) -> list[str]:
    return execute(notebook, folder=folder, timeout_s=timeout_s)


def children() -> set[str]:
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(os.getpid())], capture_output=True, text=True, check=False
    )
    return set(listed.stdout.split())


def test_a_cell_that_fails_keeps_its_traceback_and_the_others_run(tmp_path: Path) -> None:
    notebook = cells("1 / 0", "import os, sys; print(os.getcwd(), sys.executable)")
    assert run(notebook, tmp_path) == ["cell 1: ZeroDivisionError: division by zero"]
    assert notebook.cells[0].outputs[0].output_type == "error"
    assert notebook.cells[1].outputs[0].text == f"{tmp_path} {sys.executable}\n"


@pytest.fixture
def scratch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Temporary files of this test alone; its path is short, for sockets may lie there."""
    with TemporaryDirectory() as folder:
        monkeypatch.setattr("tempfile.tempdir", folder)
        monkeypatch.setenv("TMPDIR", folder)
        yield Path(folder)


@pytest.mark.parametrize(
    ("source", "problem"),
    [("import os; os._exit(3)", "DeadKernelError: "), ("import time; time.sleep(3600)", "CellTimeoutError: ")],
)
def test_a_kernel_that_dies_or_hangs_ends_the_run_and_leaves_nothing(
    source: str, problem: str, tmp_path: Path, scratch: Path
) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    before = children()
    notebook = cells("'first'", source, "'never'")
    (said,) = run(notebook, tmp_path, timeout_s=5)
    assert said.startswith(problem)
    assert notebook.cells[0].outputs[0].data["text/plain"] == "'first'"
    assert notebook.cells[2].outputs == []
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert list(scratch.glob("stridelab-*")) == []
    assert len(children() - before) <= 1  # ps itself


def test_ctrl_c_ends_the_report_and_its_kernel(tmp_path: Path) -> None:
    code = """
import sys, nbformat
from pathlib import Path
from stridelab.report.kernel import execute
v4 = nbformat.v4
cells = [v4.new_code_cell("import os; Path = __import__('pathlib').Path; Path('pid').write_text(str(os.getpid()))"),
         v4.new_code_cell("import time; time.sleep(3600)")]
execute(v4.new_notebook(cells=cells), folder=Path(sys.argv[1]), timeout_s=300)
"""
    report_process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stderr=subprocess.PIPE)
    pid = tmp_path / "pid"
    wait_until(lambda: pid.exists() and pid.read_text() != "")
    time.sleep(0.5)
    report_process.send_signal(signal.SIGINT)
    _, said = report_process.communicate(timeout=60)
    assert report_process.returncode != 0
    assert b"KeyboardInterrupt" in said
    wait_until(lambda: not Path(f"/proc/{pid.read_text()}").exists())


def wait_until(met: Callable[[], bool], timeout_s: float = 60) -> None:
    end = time.monotonic() + timeout_s
    while not met():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_kernels_and_startup_files_of_the_user_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = tmp_path / "jupyter" / "kernels" / "python3"
    spec.mkdir(parents=True)
    (spec / "kernel.json").write_text(json.dumps({"argv": ["false"], "display_name": "x", "language": "python"}))
    startup = tmp_path / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00.py").write_text("raise SystemExit('a startup file of the user ran')")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = cells("'ran'")
    assert run(notebook, tmp_path) == []
    assert notebook.cells[0].outputs[0].data["text/plain"] == "'ran'"


def test_the_report_s_door_is_light() -> None:
    code = "import sys, stridelab.report; print(sorted({'pandas', 'matplotlib', 'mlflow', 'torch'} & set(sys.modules)))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"


def test_every_public_name_is_there() -> None:
    for name in report.__all__:
        assert getattr(report, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'pie_chart'"):
        report.pie_chart  # noqa: B018

"""Write a sweep's report: an executed notebook, the same as one HTML file, tables and figures."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
from nbformat import NotebookNode

from stridelab.report.comparison import Comparison
from stridelab.report.explorer import write_explorer
from stridelab.report.figures import FIGURES
from stridelab.report.html import as_html
from stridelab.report.kernel import execute
from stridelab.report.maps import map_data
from stridelab.report.paper import write_paper
from stridelab.report.table import write_csv
from stridelab.text import printable

if TYPE_CHECKING:
    from stridelab.tracking.store import Store

TIMEOUT_S = 600.0
"""For one cell, and for the kernel's start."""
LOOKS_FILE = "looks.json"
STORE_VARIABLE = "MLFLOW_TRACKING_URI"

v4: Any = nbformat.v4  # its functions have no types

INTRODUCTION = """\
This notebook was written and run at the end of a sweep. Run it again, from its own folder, to bring it up to date:
it reads the store that its first cell names. `comparison.runs` and `comparison.variants` are pandas tables to go on
with.
"""

TABLES: dict[str, dict[str, tuple[str, ...]]] = {
    "What they get wrong": {"Where they disagree": ("show_disagreements",)},
    "Accuracy and cost": {"The front": ("show_front",), "Speed": ("show_speed",)},
}
"""After which section of FIGURES -> heading -> tables."""


@dataclass(frozen=True)
class ReportPaths:
    notebook: Path
    html: Path
    runs: Path
    variants: Path
    figures: tuple[Path, ...]
    paper: tuple[Path, ...]
    """The table as Markdown and LaTeX, and a paragraph on methods."""
    problems: tuple[str, ...]
    """What went wrong in the notebook, one line each; the files are there all the same."""
    explorer: Path | None = None
    """The page to touch the networks in; None when no run kept its network."""

    @property
    def all(self) -> tuple[Path, ...]:
        pages = (self.html,) if self.explorer is None else (self.html, self.explorer)
        return (self.notebook, *pages, self.runs, self.variants, *self.figures, *self.paper)


def write_report(comparison: Comparison, folder: Path, *, store: Store, where: str = "") -> ReportPaths:
    """The report of a comparison in `folder`: comparison.ipynb, comparison.html, runs.csv, variants.csv, figures/*
    (svg, pdf, png, csv), table.md, table.tex, methods.md. `where`: which runs of the sweep it is of.

    The notebook's kernel reads the sweep from the store again, so that it can be run again later by anyone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _remember(folder, {*seeds_seen(folder), int(comparison.seeds_trained.max())})
    runs = write_csv(comparison.runs, folder / "runs.csv")
    variants = write_csv(comparison.variants, folder / "variants.csv")
    paper = write_paper(comparison, folder)
    explorer = write_explorer(comparison, folder)  # before the notebook, which links to it
    notebook = build(comparison, store, folder=folder, where=where)
    problems = execute(notebook, folder=folder.resolve(), timeout_s=TIMEOUT_S)
    path = folder / "comparison.ipynb"
    path.write_text(v4.writes(notebook) + "\n", encoding="utf-8")
    html = folder / "comparison.html"
    page = as_html(notebook, title=f"Comparison: {comparison.sweep.name}", maps=map_data(comparison))
    html.write_text(page, encoding="utf-8")
    figures = tuple(file for name in FIGURES for file in sorted((folder / "figures").glob(f"{name}.*")))
    return ReportPaths(path, html, runs, variants, figures, paper, tuple(problems), explorer)


def seeds_seen(folder: Path) -> list[int]:
    """Seeds a variant of each report that was written in `folder`: see Comparison.earlier."""
    try:
        found = json.loads((folder / LOOKS_FILE).read_text(encoding="utf-8"))
        return sorted(int(count) for count in found["seeds_a_variant"])
    except (OSError, ValueError, TypeError, KeyError):
        return []


def _remember(folder: Path, seeds: set[int]) -> None:
    (folder / LOOKS_FILE).write_text(json.dumps({"seeds_a_variant": sorted(seeds)}) + "\n", encoding="utf-8")


def build(comparison: Comparison, store: Store, *, folder: Path, where: str = "") -> NotebookNode:
    """The notebook, not yet executed."""
    code, text = v4.new_code_cell, v4.new_markdown_cell
    cells = [
        code(_first_cell(comparison, store, folder=folder, where=where)),
        code('report.show_figure(comparison, "accuracy_vs_macs")'),
        text(INTRODUCTION),
        text("## What the seeds allow to say"),
        code("report.show_summary(comparison)"),
        text("## Variants"),
        code("report.show_variants(comparison)"),
    ]
    later = [name for name, one in FIGURES.items() if name != "accuracy_vs_macs" and one.applies(comparison)]
    for heading, figures in groupby(later, key=lambda name: FIGURES[name].heading):
        shown = list(figures)
        said = "\n\n".join(FIGURES[name].caption for name in shown if FIGURES[name].caption)
        cells.append(text(f"## {heading}\n\n{said}".rstrip()))
        cells += [code(f'report.show_figure(comparison, "{name}")') for name in shown]
        for other, tables in TABLES.get(heading, {}).items():
            cells.append(text(f"## {other}"))
            cells += [code(f"report.{name}(comparison)") for name in tables]
    cells += [
        text("## Did the variants differ in nothing else?"),
        code("report.show_controls(comparison)"),
        text("## Runs that did not finish"),
        code("report.show_unfinished(comparison)"),
        text("## What the columns mean"),
        code("report.show_columns()"),
    ]
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number:02d}"
    metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python", "pygments_lexer": "ipython3"},
    }
    notebook: NotebookNode = v4.new_notebook(cells=cells, metadata=metadata)
    return notebook


def _first_cell(comparison: Comparison, store: Store, *, folder: Path, where: str) -> str:
    kept = {"earlier": list(comparison.earlier), "budget": comparison.budget}
    asked = {"where": where, **comparison.asked, **kept}
    chosen = "".join(f"    {key}={value!r},\n" for key, value in asked.items() if value)
    address = store_expression(store, folder=folder)
    imports = "import os\n\n" if address.startswith("os.") else ""
    return (
        f"{imports}from stridelab import report\n\n"
        "comparison = report.load(\n"
        f"    store={address},\n"
        f"    experiment={store.experiment!r},\n"
        f"{_results(folder)}"
        f"    sweep={comparison.sweep.run_id!r},  # {printable(comparison.sweep.name, limit=60)}\n"
        f"{chosen})\n"
        "report.show_answer(comparison)"
    )


def _results(folder: Path) -> str:
    """The results folder that the report lies in, whose run folders are read before the store."""
    results = folder.resolve().parent.parent
    return f"    results={os.path.relpath(results, folder.resolve())!r},\n" if (results / "sweeps").is_dir() else ""


def store_expression(store: Store, *, folder: Path) -> str:
    """The store's address as Python: relative where the report lies below it, so that a results folder can move;
    read from the environment where it holds a password."""
    from stridelab.tracking.settings import redact

    if store.database is not None and folder.resolve().is_relative_to(store.database.parent.resolve()):
        return repr(f"sqlite:///{os.path.relpath(store.database.resolve(), folder.resolve())}")
    return f'os.environ["{STORE_VARIABLE}"]' if redact(store.uri) != store.uri else repr(store.uri)

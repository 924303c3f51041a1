"""What the notebook's cells show: text, tables and pictures that also read well without a browser."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stridelab.report import statistics
from stridelab.report.figures import FIGURES, NothingToDraw, draw, render
from stridelab.report.figures.style import compact, plain
from stridelab.report.provenance import origin
from stridelab.report.sentences import (
    Summary,
    accuracy_text,
    interval_text,
    p_text,
    peak_memory_mib,
    runs_text,
    summary,
)
from stridelab.report.speed import column_of, memory_note, speed_note
from stridelab.report.table import COLUMNS

if TYPE_CHECKING:
    from stridelab.report.comparison import Comparison

ROWS = 40
"""Most rows of a table on the page; the CSV files have all."""
LISTED_FROM = 3
"""More variants than this become a list in the summary."""
FIGURES_FOLDER = "figures"
STYLES = {
    ("th", "t"): "text-align:left",
    ("th", "n"): "text-align:right",
    ("th", "p"): "text-align:left",
    ("td", "t"): "text-align:left;white-space:nowrap",
    ("td", "n"): "text-align:right;white-space:nowrap",
    ("td", "p"): "text-align:left",
}
"""Of a table's cells, by tag and kind; inline, because a notebook brings its own style sheet."""


@dataclass(frozen=True)
class Page:
    """HTML for a notebook, and the same as text."""

    html: str
    text: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Picture:
    """A PNG of two pixels for one, so that it is sharp on every screen."""

    png: bytes = field(repr=False)
    alt: str
    path: Path

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        size = {"width": _width(self.png) // 2, "alt": self.alt}
        return {"image/png": b64encode(self.png).decode(), "text/plain": self.alt}, {"image/png": size}


def show_summary(comparison: Comparison) -> Page:
    """Name, what was found in words, and where it comes from."""
    sweep, found, said = comparison.sweep, origin(comparison.sweep), summary(comparison)
    facts = {
        "Command": f"<code>{escape(found.command)}</code>" if found.command else "",
        "Code": f"commit {escape(found.commit)}" if found.commit else "",
        "Machine": escape(found.machine),
        "Recipe": escape(", ".join(f"{name} {value}" for name, value in found.recipe.items())),
        "Sweep": f"<code>{escape(sweep.run_id)}</code>",
    }
    rows = "".join(f"<dt>{name}</dt><dd>{html}</dd>" for name, html in facts.items() if html)
    html = f"<h1>Comparison: {escape(sweep.name)}</h1>{_paragraphs(said)}<dl class='origin'>{rows}</dl>"
    return Page(html, "\n".join([f"Comparison: {sweep.name}", *said.opening, *said.variants, *said.closing]))


def _prose(*sentences: str) -> str:
    """Escaped; the browser must not break `strides=1-2-2` at a hyphen."""
    words = " ".join(sentences).split(" ")
    return " ".join(
        f"<span style='white-space:nowrap'>{escape(w)}</span>" if "=" in w and len(w) < 40 else escape(w) for w in words
    )


def _paragraphs(said: Summary) -> str:
    """One paragraph; with many variants, a list between two."""
    if len(said.variants) <= LISTED_FROM:
        return f"<p class='summary'>{_prose(*said.opening, *said.variants, *said.closing)}</p>"
    items = "".join(f"<li>{_prose(sentence)}</li>" for sentence in said.variants)
    opening, closing = _prose(*said.opening), _prose(*said.closing)
    return f"<p class='summary'>{opening}</p><ul class='summary'>{items}</ul><p class='summary'>{closing}</p>"


def show_variants(comparison: Comparison) -> Page:
    """The variant table: accuracy, difference to the baseline, geometry, cost."""
    header = [
        "variant", "n", f"{comparison.metric_text}, %", "difference, points", "verdict", "MACs", "params",
        "effective stride", "receptive field, px", "maps, px", "train images/s", "saved activations, MiB",
        "peak memory, MiB",
    ]  # fmt: skip
    shown = comparison.shown(ROWS)
    rows = [_variant_cells(comparison.by_variant[name], comparison) for name in shown]
    notes = [
        f"Mean \u00b1 sd over n seeds. Difference: paired by seed, to {comparison.baseline}, with its 95 % t-interval.",
        speed_note(comparison),
        memory_note(comparison),
        _left_out(len(shown), len(comparison.variants), "variants", "variants.csv"),
    ]
    return table_page(header, rows, notes=notes, kinds="tnnntnnnntnnn")


def _variant_cells(row: dict[str, Any], comparison: Comparison) -> list[str]:
    metric = comparison.metric
    mean, sd = 100 * row[f"{metric}_mean"], 100 * row[f"{metric}_sd"]
    is_baseline = row["variant"] == comparison.baseline
    difference = interval_text(row["difference_mean"], row["difference_low"], row["difference_high"])
    return [
        plain(row["variant"], limit=80),
        runs_text(row),
        accuracy_text(mean, sd),
        "" if is_baseline or not row["difference_seeds"] else difference,
        verdict_text(row),
        *[compact(row.get(name, math.nan)) for name in ("cost/macs", "cost/params")],
        *[_whole(row.get(name)) for name in ("cost/effective_stride", "cost/receptive_field_px")],
        str(row["maps"]) if isinstance(row["maps"], str) else "-",
        compact(row.get(column_of(comparison, "throughput/train_images_per_s"), math.nan)),
        compact(row.get("memory/saved_activations_mib", math.nan)),
        compact(peak_memory_mib(row)),
    ]


def verdict_text(row: dict[str, Any]) -> str:
    p = row["difference_p_holm"]
    tested = row["difference_verdict"] in (statistics.DIFFERS, statistics.NOISE)
    return f"{row['difference_verdict']} ({p_text(p)})" if tested else str(row["difference_verdict"])


def show_figure(comparison: Comparison, name: str, *, folder: Path | str = FIGURES_FOLDER) -> Picture | Page:
    """Draw one of FIGURES, keep it as `<folder>/<name>.png`, and show it; or say why it cannot be drawn."""
    path = Path(folder) / f"{name}.png"
    try:
        png = render(draw(comparison, name))
    except NothingToDraw as nothing:
        path.unlink(missing_ok=True)  # of an earlier state of the sweep
        return Page(f"<p class='note'>{escape(str(nothing))}</p>", str(nothing))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png)
    return Picture(png, FIGURES[name].alt, path)


def show_controls(comparison: Comparison) -> Page:
    """The control check's verdict, and every disagreement."""
    controls = comparison.controls
    sentences = [controls.sentence, *controls.caveats]
    html = "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)
    if len(controls.violations):
        rows = [[str(cell) for cell in row] for row in controls.violations.head(ROWS).itertuples(index=False)]
        html += table_page(list(controls.violations.columns), rows, kinds="ntpp").html
    return Page(html, "\n".join(sentences))


def show_unfinished(comparison: Comparison) -> Page:
    """Every run that did not finish, with its reason."""
    runs = comparison.runs[comparison.runs["status"] != "finished"]
    if runs.empty:
        return Page("<p>Every run finished.</p>", "Every run finished.")
    shown = runs.head(ROWS)
    rows = [[str(cell) for cell in row] for row in shown[["run_name", "status", "reason"]].itertuples(index=False)]
    note = _left_out(len(shown), len(runs), "runs", "runs.csv")
    return table_page(["run", "status", "reason"], rows, notes=[note], kinds="ttp")


def show_columns() -> Page:
    """What every column of runs.csv means."""
    table = table_page(["column", "meaning"], [[name, meaning] for name, meaning in COLUMNS.items()], kinds="tp")
    return Page(f"<details><summary>show</summary>{table.html}</details>", table.text)


def table_page(header: Sequence[str], rows: Sequence[Sequence[str]], *, notes: Sequence[str] = (), kinds: str) -> Page:
    """`kinds`, a letter a column: t for a word or name, n for a number, p for prose, which alone wraps."""

    def line(cells: Sequence[str], tag: str) -> str:
        pairs = zip(kinds, cells, strict=True)
        marked = (f"<{tag} class='{k}' style='{STYLES[tag, k]}'>{escape(cell)}</{tag}>" for k, cell in pairs)
        return f"<tr>{''.join(marked)}</tr>"

    head, body = line(header, "th"), "".join(line(row, "td") for row in rows)
    said = "".join(f"<p class='note'>{escape(note)}</p>" for note in notes if note)
    html = f"<div class='table'><table><thead>{head}</thead><tbody>{body}</tbody></table></div>{said}"
    text = "\n".join("  ".join(row) for row in [header, *rows])
    return Page(html, text)


def _left_out(shown: int, count: int, what: str, file: str) -> str:
    return f"{shown} of {count:,} {what}; {file} has all." if shown < count else ""


def _whole(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.0f}"


def _width(png: bytes) -> int:
    return int.from_bytes(png[16:20], "big")  # the PNG's first chunk

"""What the notebook's cells show: text, tables and pictures that also read well without a browser."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stridelab.names import Metric
from stridelab.probes.catalog import all_metrics
from stridelab.report.figures import FIGURES, NothingToDraw, draw, file_name, render
from stridelab.report.provenance import origin
from stridelab.report.sentences import (
    Summary,
    interval_text,
    p_text,
    runs_text,
    summary,
    value_text,
)
from stridelab.report.speed import column_of, memory_note, speed_note
from stridelab.report.table import IDENTITY
from stridelab.tables import as_text, table
from stridelab.text import human, printable

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
    """A PNG of two pixels for one, so that it is sharp on every screen, or an SVG; as an image, it can run nothing."""

    content: bytes = field(repr=False)
    alt: str
    path: Path

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        data = b64encode(self.content).decode()
        if self.path.suffix == ".svg":
            html = f"<img src='data:image/svg+xml;base64,{data}' alt='{escape(self.alt)}'>"
            return {"text/html": html, "text/plain": self.alt}, {}
        size = {"width": _width(self.content) // 2, "alt": self.alt}
        return {"image/png": data, "text/plain": self.alt}, {"image/png": size}


def show_summary(comparison: Comparison) -> Page:
    """Name, what was found in words, and where it comes from."""
    sweep, found, said = comparison.sweep, origin(comparison.sweep), summary(comparison)
    facts = {
        "Command": f"<code>{_safe(found.command)}</code>" if found.command else "",
        "Code": f"commit {_safe(found.commit)}" if found.commit else "",
        "Machine": _safe(found.machine),
        "Recipe": _safe(", ".join(f"{name} {value}" for name, value in found.recipe.items())),
        "Sweep": f"<code>{escape(sweep.run_id)}</code>",
    }
    rows = "".join(f"<dt>{name}</dt><dd>{html}</dd>" for name, html in facts.items() if html)
    html = f"<h1>Comparison: {_safe(sweep.name)}</h1>{_paragraphs(said)}<dl class='origin'>{rows}</dl>"
    lines = [f"Comparison: {sweep.name}", *said.opening, *said.variants, *said.closing]
    return Page(html, "\n".join(map(printable, lines)))


def _prose(*sentences: str) -> str:
    """Escaped; the browser must not break `strides=1-2-2` at a hyphen."""
    words = " ".join(sentences).split(" ")
    return " ".join(
        f"<span style='white-space:nowrap'>{_safe(w)}</span>" if "=" in w and len(w) < 40 else _safe(w) for w in words
    )


def _paragraphs(said: Summary) -> str:
    """One paragraph; with many variants, a list between two."""
    if len(said.variants) <= LISTED_FROM:
        return f"<p class='summary'>{_prose(*said.opening, *said.variants, *said.closing)}</p>"
    items = "".join(f"<li>{_prose(sentence)}</li>" for sentence in said.variants)
    opening, closing = _prose(*said.opening), _prose(*said.closing)
    return f"<p class='summary'>{opening}</p><ul class='summary'>{items}</ul><p class='summary'>{closing}</p>"


def show_variants(comparison: Comparison) -> Page:
    """The variant table: the metric, the difference to the baseline, geometry, and the metrics with a heading."""
    metric = comparison.measure
    unit = "points" if metric.is_share else metric.unit
    columns = metric_columns(comparison)
    header = [
        "variant",
        "n",
        _with_unit(comparison.metric_text, metric.shown_unit),
        _with_unit("difference", unit),
        "verdict",
        "maps, px",
        *columns,
    ]
    shown = comparison.shown(ROWS)
    rows = [_variant_cells(comparison.by_variant[name], comparison, columns.values()) for name in shown]
    notes = [
        f"Mean \u00b1 sd over n seeds. Difference: paired by seed, to {printable(comparison.baseline)}, with its 95 % "
        "interval: of the sign-flip test where there is a p, else Student's.",
        speed_note(comparison),
        memory_note(comparison),
        _left_out(len(shown), len(comparison.variants), "variants", "variants.csv"),
    ]
    return table_page(header, rows, notes=notes, kinds="tnnntn" + "n" * len(columns))


def metric_columns(comparison: Comparison) -> dict[str, tuple[Metric, str]]:
    """Heading -> metric and its column of the variant table, of all that have a heading and that a run has."""
    table = comparison.variants
    found = {one.heading: (one, column_of(comparison, name)) for name, one in all_metrics().items() if one.heading}
    return {heading: one for heading, one in found.items() if one[1] in table and table[one[1]].notna().any()}


def _variant_cells(row: dict[str, Any], comparison: Comparison, columns: Iterable[tuple[Metric, str]]) -> list[str]:
    metric, name = comparison.measure, comparison.metric
    compared = row["variant"] != comparison.baseline and row["difference_seeds"] > 0
    difference = interval_text(row["difference_mean"], row["difference_low"], row["difference_high"], metric)
    return [
        printable(row["variant"], limit=80),
        runs_text(row),
        value_text(row[f"{name}_mean"], row[f"{name}_sd"], metric),
        difference if compared else "",
        verdict_text(row),
        row["maps"] if isinstance(row["maps"], str) else "-",
        *[quantity(row[column], one) for one, column in columns],
    ]


def quantity(value: float, metric: Metric) -> str:
    """A count as a whole number, a measure with three digits."""
    whole = metric.unit in ("", "px") and float(value).is_integer()
    return human(int(value) if whole else metric.factor * value)


def _with_unit(name: str, unit: str) -> str:
    return f"{name}, {unit}" if unit else name


def verdict_text(row: dict[str, Any]) -> str:
    p = row["difference_p_holm"]
    return f"{row['difference_verdict']} ({p_text(p)})" if p >= 0 else str(row["difference_verdict"])


def show_figure(comparison: Comparison, name: str, *, folder: Path | str = FIGURES_FOLDER) -> Picture | Page:
    """Draw one of FIGURES, keep it in `folder` (.png or .svg), and show it; or say why it cannot be drawn."""
    for old in (Path(folder) / f"{name}.png", Path(folder) / f"{name}.svg"):
        old.unlink(missing_ok=True)  # of an earlier state of the sweep
    try:
        content = render(draw(comparison, name))
    except NothingToDraw as nothing:
        return Page(f"<p class='note'>{escape(str(nothing))}</p>", str(nothing))
    path = Path(folder) / file_name(name, content)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return Picture(content, FIGURES[name].alt, path)


def show_controls(comparison: Comparison) -> Page:
    """The control check's verdict, and every disagreement."""
    controls = comparison.controls
    sentences = [controls.sentence, *controls.caveats]
    html = "".join(f"<p>{_safe(sentence)}</p>" for sentence in sentences)
    if len(controls.violations):
        rows = [[str(cell) for cell in row] for row in controls.violations.head(ROWS).itertuples(index=False)]
        html += table_page(list(controls.violations.columns), rows, kinds="ntpp").html
    return Page(html, "\n".join(map(printable, sentences)))


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
    """What every column of runs.csv means: the glossary."""
    rows = [[name, "", "", meaning] for name, meaning in IDENTITY.items()]
    rows += [[name, metric.unit, metric.better, metric.meaning] for name, metric in all_metrics().items()]
    page = table_page(["column", "unit", "better", "meaning"], rows, kinds="tttp")
    return Page(f"<details><summary>show</summary>{page.html}</details>", page.text)


def table_page(header: Sequence[str], rows: Sequence[Sequence[str]], *, notes: Sequence[str] = (), kinds: str) -> Page:
    """`kinds`, a letter a column: t for a word or name, n for a number, p for prose, which alone wraps."""

    def line(cells: Sequence[str], tag: str) -> str:
        pairs = zip(kinds, cells, strict=True)
        marked = (f"<{tag} class='{k}' style='{STYLES[tag, k]}'>{_safe(cell)}</{tag}>" for k, cell in pairs)
        return f"<tr>{''.join(marked)}</tr>"

    head, body = line(header, "th"), "".join(line(row, "td") for row in rows)
    said = "".join(f"<p class='note'>{_safe(note)}</p>" for note in notes if note)
    html = f"<div class='table'><table><thead>{head}</thead><tbody>{body}</tbody></table></div>{said}"
    words = [heading for heading, kind in zip(header, kinds, strict=True) if kind != "n"]
    return Page(html, as_text(table(header, rows, words=words)))


def _safe(text: str) -> str:
    """No markup, no control characters."""
    return escape(printable(text))


def _left_out(shown: int, count: int, what: str, file: str) -> str:
    return f"{shown} of {count:,} {what}; {file} has all." if shown < count else ""


def _width(png: bytes) -> int:
    return int.from_bytes(png[16:20], "big")  # the PNG's first chunk

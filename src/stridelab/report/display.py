"""What the notebook's cells show: text, tables and pictures that also read well without a browser."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stridelab.metrics import Metric
from stridelab.probes.catalog import all_metrics
from stridelab.report.answer import choice, fits, next_step, order_of, verdict
from stridelab.report.chart import chart_data
from stridelab.report.figures import FIGURES, NothingToDraw, draw, render
from stridelab.report.figures.style import left_out
from stridelab.report.mistakes import disagreements, taken_for
from stridelab.report.page_parts import Page, Picture, safe, table_page
from stridelab.report.provenance import origin
from stridelab.report.sentences import correction, difference_text, runs_text, score_text, summary, verdict_text
from stridelab.report.speed import column_of, memory_note, speed_note
from stridelab.report.table import IDENTITY, ROWS, records, write_csv
from stridelab.text import human, printable, with_unit

if TYPE_CHECKING:
    from stridelab.report.comparison import Comparison

DISAGREEING = 8
"""Images, and variants, of the table of disagreements."""
FIGURES_FOLDER = "figures"
EXPLORER = "explorer.html"
"""Beside the report, where runs kept their networks."""


def show_answer(comparison: Comparison) -> Page:
    """The verdict in a line, what to type next, what to choose, and the variants, best first."""
    command, takes = next_step(comparison)
    said = [verdict(comparison), *comparison.warnings]
    touch = f"<p>Touch the trained networks: <a href='{EXPLORER}'>{EXPLORER}</a></p>" if Path(EXPLORER).exists() else ""
    html = f"<h1>Comparison: {safe(comparison.sweep.name)}</h1>{touch}" + "".join(
        f"<p class='{'verdict' if i == 0 else 'note'}'>{_prose(line)}</p>" for i, line in enumerate(said)
    )
    if command:
        html += f"<p class='next'>Next: <code>{safe(command)}</code> ({safe(takes)})</p>"
    elif takes:
        html += f"<p class='next'>{_prose(takes)}</p>"
    chosen = list(choice(comparison))
    html += "".join(f"<p>{_prose(sentence)}</p>" for sentence in chosen)
    table = _answer_table(comparison)
    lines = [*said, f"Next: {command} ({takes})" if command else takes, *chosen]
    data = escape(json.dumps(chart_data(comparison), separators=(",", ":")))
    return Page(
        f"{html}<div class='answer' data-chart='{data}'>{table.html}</div>",
        "\n".join([*map(printable, filter(None, lines)), table.text]),
    )


def _answer_table(comparison: Comparison) -> Page:
    header = [
        "variant",
        comparison.metric_heading,
        with_unit("difference", comparison.measure.difference_unit()),
        "verdict",
        "MACs",
        *(["within budget"] if comparison.budget else []),
    ]
    shown = [name for name in order_of(comparison) if name in comparison.shown(ROWS)]
    rows = []
    for name in shown:
        row = comparison.by_variant[name]
        cells = [comparison.short(name), *_result_cells(row, comparison), human(_whole(row.get("cost/macs")))]
        rows.append([*cells, *(["yes" if fits(row, comparison) else "no"] if comparison.budget else [])])
    note = _left_out(len(shown), len(comparison.variants), "variants", "variants.csv")
    caption = (
        f"Variants by {comparison.metric_text}, best first; differences to {comparison.short(comparison.baseline)}"
    )
    return table_page(header, rows, notes=[note], kinds="tnntn" + "t" * bool(comparison.budget), caption=caption)


def _whole(value: float | None) -> float:
    if value is None or not math.isfinite(value):
        return math.nan
    return int(value) if float(value).is_integer() else value


def show_summary(comparison: Comparison) -> Page:
    """What was found in words, and where it comes from."""
    sweep, found, said = comparison.sweep, origin(comparison.sweep), summary(comparison)
    facts = {
        "Command": f"<code>{safe(found.command)}</code>" if found.command else "",
        "Code": f"commit {safe(found.commit)}" if found.commit else "",
        "Machine": safe(found.machine),
        "Recipe": safe(", ".join(f"{name} {value}" for name, value in found.recipe.items())),
        "Sweep": f"<code>{escape(sweep.run_id)}</code>",
    }
    rows = "".join(f"<dt>{name}</dt><dd>{html}</dd>" for name, html in facts.items() if html)
    html = (
        f"<ul class='summary'>{''.join(f'<li>{_prose(line)}</li>' for line in said)}</ul><dl class='origin'>{rows}</dl>"
    )
    return Page(html, "\n".join(map(printable, said)))


def _prose(sentence: str) -> str:
    """Escaped; the browser must not break `strides=1-2-2` at a hyphen."""
    words = sentence.split(" ")
    return " ".join(
        f"<span style='white-space:nowrap'>{safe(w)}</span>" if "=" in w and len(w) < 40 else safe(w) for w in words
    )


def show_variants(comparison: Comparison) -> Page:
    """The variant table: the metric, the difference to the baseline, geometry, and the metrics with a heading."""
    columns = metric_columns(comparison)
    header = [
        "variant",
        "n",
        comparison.metric_heading,
        with_unit("difference", comparison.measure.difference_unit()),
        "verdict",
        "maps, px",
        *columns,
    ]
    shown = comparison.shown(ROWS)
    rows = [_variant_cells(comparison.by_variant[name], comparison, columns.values()) for name in shown]
    notes = [
        f"Mean \u00b1 sd over n seeds. Difference: paired by seed, to {printable(comparison.baseline)}, with Student's "
        "95 % interval for that difference alone; p and verdict are of the sign-flip test"
        f"{correction(comparison).replace(' after', ', with')}.",
        speed_note(comparison),
        memory_note(comparison),
        _left_out(len(shown), len(comparison.variants), "variants", "variants.csv"),
    ]
    caption = "Every variant, in the order of the sweep"
    return table_page(header, rows, notes=notes, kinds="tnnntn" + "n" * len(columns), caption=caption)


def metric_columns(comparison: Comparison) -> dict[str, tuple[Metric, str]]:
    """Heading -> metric and its column of the variant table, of all that have a heading and that a run has."""
    table = comparison.variants
    found = {one.heading: (one, column_of(comparison, name)) for name, one in all_metrics().items() if one.heading}
    return {heading: one for heading, one in found.items() if one[1] in table and table[one[1]].notna().any()}


def _variant_cells(row: dict[str, Any], comparison: Comparison, columns: Iterable[tuple[Metric, str]]) -> list[str]:
    return [
        printable(comparison.short(row["variant"]), limit=80),
        runs_text(row),
        *_result_cells(row, comparison),
        row["maps"] if isinstance(row["maps"], str) else "-",
        *[quantity(row[column], one) for one, column in columns],
    ]


def _result_cells(row: dict[str, Any], comparison: Comparison) -> list[str]:
    return [score_text(row, comparison), difference_text(row, comparison.measure), verdict_text(row)]


def quantity(value: float, metric: Metric) -> str:
    """A count as a whole number, a measure with three digits."""
    whole = metric.unit in ("", "px") and float(value).is_integer()
    return human(int(value) if whole else metric.factor * value)


def show_figure(comparison: Comparison, name: str, *, folder: Path | str = FIGURES_FOLDER) -> Picture | Page:
    """Draw one of FIGURES, keep it in `folder` with the numbers in it, and show it; or say why it cannot be drawn."""
    for old in Path(folder).glob(f"{name}.*"):
        old.unlink()  # of an earlier state of the sweep
    try:
        files = render(draw(comparison, name))
    except NothingToDraw as nothing:
        return Page(f"<p class='note'>{escape(str(nothing))}</p>", str(nothing))
    Path(folder).mkdir(parents=True, exist_ok=True)
    for kind, content in files.items():
        (Path(folder) / f"{name}.{kind}").write_bytes(content)
    figure = FIGURES[name]
    if figure.numbers:
        write_csv(figure.numbers(comparison), Path(folder) / f"{name}.csv")
    return Picture(files, name, f"{figure.alt} {figure.result(comparison)}".rstrip())


def show_disagreements(comparison: Comparison) -> Page:
    """The test images on which the variants differ most, and what each takes them for."""
    if (found := comparison.mistakes) is None or len(found.predicted) < 2:
        return Page("<p class='note'>No predictions of two variants were kept.</p>", "No predictions were kept.")
    names = [name for name in comparison.shown(DISAGREEING) if name in found.predicted]
    table = disagreements(found, DISAGREEING)
    rows = [
        [str(row["image"]), row["class"], *(taken_for(found, name, row["image"]) for name in names)]
        for row in records(table)
    ]
    if not rows:
        agreed = "On every test image, the same share of seeds is right in all variants."
        return Page(f"<p class='note'>{agreed}</p>", agreed)
    rest = left_out(len(names), len(found.predicted), "are shown")
    note = f"image: its place in the test split, from 0. Cells: what most seeds take it for. {rest}".rstrip()
    caption = "The test images on which variants disagree most"
    header = ["image", "class", *map(comparison.short, names)]
    return table_page(header, rows, notes=[note], kinds="nt" + "t" * len(names), caption=caption)


def show_controls(comparison: Comparison) -> Page:
    """The control check's verdict, and every disagreement."""
    controls = comparison.controls
    sentences = [controls.sentence, *controls.caveats]
    html = "".join(f"<p>{safe(sentence)}</p>" for sentence in sentences)
    if len(controls.violations):
        rows = [[str(cell) for cell in row] for row in controls.violations.head(ROWS).itertuples(index=False)]
        html += table_page(list(controls.violations.columns), rows, kinds="ntpp", caption="What was not equal").html
    return Page(html, "\n".join(map(printable, sentences)))


def show_unfinished(comparison: Comparison) -> Page:
    """Every run that did not finish, with its reason."""
    runs = comparison.runs[comparison.runs["status"] != "finished"]
    if runs.empty:
        return Page("<p>Every run finished.</p>", "Every run finished.")
    shown = runs.head(ROWS)
    rows = [[str(cell) for cell in row] for row in shown[["run_name", "status", "reason"]].itertuples(index=False)]
    note = _left_out(len(shown), len(runs), "runs", "runs.csv")
    return table_page(["run", "status", "reason"], rows, notes=[note], kinds="ttp", caption="Runs that did not finish")


def show_columns() -> Page:
    """What every column of runs.csv means: the glossary."""
    rows = [[name, "", "", meaning] for name, meaning in IDENTITY.items()]
    rows += [[name, metric.unit, metric.better, metric.meaning] for name, metric in all_metrics().items()]
    page = table_page(["column", "unit", "better", "meaning"], rows, kinds="tttp", caption="Columns of runs.csv")
    return Page(f"<details><summary>show</summary>{page.html}</details>", page.text)


def _left_out(shown: int, count: int, what: str, file: str) -> str:
    return f"{shown} of {count:,} {what}; {file} has all." if shown < count else ""

"""docs/findings.md and the figures on it, out of the tables in results/reference/: no number on it is typed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from stridelab.probes.catalog import metric_of
from stridelab.report.figures.style import GREY, INK, OKABE_ITO, drawing, new_figure
from stridelab.report.sentences import p_text
from stridelab.report.table import records
from stridelab.text import human

from . import PAGE, REFERENCE
from .claims import BEFORE, CLAIMS, Claim, header
from .contrasts import estimates, verdict
from .reference import tables
from .words import ADVICE, FOUND, INTRODUCTION, OTHERS

NOT_RUN = "not run yet"
FIGURE = "contrasts.png"


def write_findings(page: Path = PAGE) -> None:
    """The page, and a figure of the contrasts of each experiment that was run."""
    page.write_text(findings(), encoding="utf-8")
    for claim in CLAIMS:
        if (found := tables(claim.experiment)) and claim.contrasts:
            with drawing():
                figure = forest(estimates(claim.contrasts, found[0], claim.arms))
                figure.savefig(REFERENCE / claim.experiment / FIGURE, dpi=110, metadata={"Software": None})


def findings() -> str:
    verdicts = {claim.experiment: verdict_of(claim)[0] for claim in CLAIMS}
    rows = [
        f"| [{number}](#{anchor(number, claim)}) | {claim.title} | `{claim.experiment}` | {summary(claim)} | "
        f"**{verdicts[claim.experiment]}** |"
        for number, claim in enumerate(CLAIMS, start=1)
    ]
    advice = [f"- {words}" for name, when, words in ADVICE if verdicts[name] == when]
    return "\n".join(
        [
            INTRODUCTION,
            "| | claim | experiment | found | verdict |",
            "|---|---|---|---|---|",
            *rows,
            "",
            "## So what should I do?",
            "",
            *advice,
            "",
            *(section(number, claim) for number, claim in enumerate(CLAIMS, start=1)),
            *before(),
            "",
            OTHERS,
        ]
    )


def anchor(number: int, claim: Claim) -> str:
    return f"{number}-{claim.title.lower().replace(',', '').replace(' ', '-')}"


def verdict_of(claim: Claim) -> tuple[str, str]:
    """And the reason, where no test gives it."""
    found = tables(claim.experiment)
    if found is None:
        return NOT_RUN, ""
    if claim.judge:
        return claim.judge(*found)
    return verdict(estimates(claim.contrasts, found[0], claim.arms)), ""


def summary(claim: Claim) -> str:
    """The contrasts that decide, in a cell."""
    found = tables(claim.experiment)
    if found is None:
        return ""
    if claim.judge:
        return claim.judge(*found)[1].rstrip(".")
    table = estimates(claim.contrasts, found[0], claim.arms)
    return "; ".join(f"{row['label']}: {interval(row)}" for row in records(table[table["decides"]]))


def section(number: int, claim: Claim) -> str:
    about = header(claim.experiment)
    asked = [
        f"## {number}. {claim.title}",
        "",
        f"*Claim.* {about['claim']}.",
        "",
        f"*Predicted.* {about['prediction']}",
        "",
    ]
    planned = [f"*Planned.* {about['planned']}", ""]
    found = tables(claim.experiment)
    if found is None:
        return "\n".join([*asked, *planned, f"**{NOT_RUN.capitalize()}**: `{about['command']}`.", ""])
    runs, variants = found
    name, reason = verdict_of(claim)
    folder = f"../results/reference/{claim.experiment}"
    shown = [*arms(claim, variants), ""]
    if claim.contrasts:
        shown += [*contrasts(estimates(claim.contrasts, runs, claim.arms)), ""]
        shown += [f"![Contrasts with their intervals]({folder}/{FIGURE})", ""]
    words, beyond = FOUND.get(claim.experiment, ("", ""))
    said = [" ".join(filter(None, [f"**Verdict: {name}.**", reason, words])), ""]
    limits = [f"*What it does not say, and what would.* {beyond}", ""] if beyond else []
    return "\n".join([*asked, *planned, *shown, *said, *limits, f"[Runs, command, machine]({folder}/README.md)", ""])


def before() -> list[str]:
    """The sweep that began this, whose explanation the first experiment tests."""
    found = tables(BEFORE.experiment)
    assert found, "results/reference/strides is committed"
    return [
        f"## {BEFORE.title}",
        "",
        f"{FOUND[BEFORE.experiment][0]} [Runs, command, machine](../results/reference/{BEFORE.experiment}/README.md)",
        "",
        *arms(BEFORE, found[1]),
        "",
        *contrasts(estimates(BEFORE.contrasts, found[0], BEFORE.arms)),
    ]


def arms(claim: Claim, variants: pd.DataFrame) -> list[str]:
    of = {row["variant"]: row for row in records(variants)}
    metrics = [name for name in claim.metrics if name in variants or f"{name}_mean" in variants]
    heads = [f"{label(name)}" for name in metrics]
    lines = [
        f"| arm | n | {' | '.join(heads)} | MACs | parameters | field, px |",
        "|---" * (5 + len(heads)) + "|",
    ]
    for arm, variant in claim.arms.items():
        row = of[variant]
        cells = [measured(name, row) for name in metrics]
        macs, params = human(row["cost/macs"]), f"{row['cost/params']:,.0f}"
        field = f"{row['cost/receptive_field_px']:.0f}" if not math.isnan(row["cost/receptive_field_px"]) else ""
        lines.append(f"| {arm} | {row['n']:.0f} | {' | '.join(cells)} | {macs} | {params} | {field} |")
    return lines


def label(name: str) -> str:
    metric = metric_of(name)
    words = name.partition("/")[2].replace("_", " ") if metric is None or not metric.label else metric.label
    unit = "%" if metric and metric.factor == 100 else metric.unit if metric else ""
    return f"{words}, {unit}" if unit and unit not in words else words


def measured(name: str, row: Mapping[str, Any]) -> str:
    """Mean +- standard deviation over seeds; of what does not depend on the seed, the value."""
    metric = metric_of(name)
    factor = metric.factor if metric else 1.0
    if name in row:
        return f"{row[name]:,.0f}" if name.startswith("cost/") else f"{row[name]:.2f}"
    return f"{factor * row[f'{name}_mean']:.2f} +- {factor * row[f'{name}_sd']:.2f}"


def contrasts(table: pd.DataFrame) -> list[str]:
    lines = [
        "| contrast | claimed | n | seeds above 0 | mean [95 %] | p (Holm) | equal within | outcome |",
        "|---" * 8 + "|",
    ]
    for row in records(table):
        within = "" if math.isnan(row["p_equivalent"]) else f"{row['margin']:g}: {p_text(row['p_equivalent'])}"
        decides = "" if row["decides"] else " (beside)"
        lines.append(
            f"| {row['label']} | {row['claimed']}{decides} | {row['n']} | {row['positive']} | {interval(row)} | "
            f"{p_text(row['p_holm'])} | {within} | {row['outcome']} |"
        )
    return lines


def interval(row: Mapping[str, Any]) -> str:
    return f"{row['mean']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}] {row['unit']}".rstrip()


def forest(table: pd.DataFrame) -> Figure:
    """Mean and interval of each contrast; the grey band is the margin."""
    figure = new_figure(0.8 + 0.42 * len(table), width_in=7.0)
    axes = figure.add_subplot()
    for y, row in enumerate(records(table)):
        if row["margin"]:
            axes.fill_betweenx([y - 0.4, y + 0.4], -row["margin"], row["margin"], color="0.9", linewidth=0)
        color = OKABE_ITO[0] if row["decides"] else GREY
        axes.plot([row["low"], row["high"]], [y, y], color=color, linewidth=1.8)
        axes.plot(row["mean"], y, "o", color=color, markersize=5)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_yticks(range(len(table)), [f"{row['label']} ({row['unit']})" for row in records(table)])
    axes.set_ylim(len(table) - 0.5, -0.5)
    axes.set_xlabel("Mean over seeds with Student's 95 % interval; grey: what does not matter")
    return figure

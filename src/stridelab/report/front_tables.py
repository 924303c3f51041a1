"""The report's table of the front, and how a search found its variants."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pandas as pd

from stridelab import names
from stridelab.report.answer import cheapest_near_best
from stridelab.report.artifacts import read_json
from stridelab.report.command import variant_words
from stridelab.report.display import EXPLORER
from stridelab.report.front import COSTS, DRAWS, front_table
from stridelab.report.page_parts import Page, table_page
from stridelab.report.sentences import value_text
from stridelab.text import few, human, plural, printable

if TYPE_CHECKING:
    from stridelab.report.comparison import Comparison

LISTED = 12
"""Dropped plans that are named, of each step of a search."""


def show_front(comparison: Comparison) -> Page:
    """The variants that are on a front in at least one draw of twenty, and how they were found."""
    table = front_table(comparison)
    shares = [f"on_front/{cost}" for cost in COSTS]
    near = table[(table[shares] >= 0.05).any(axis=1)]
    rows = [
        [printable(row["variant"], limit=80), value_text(row["score"], math.nan, comparison.measure)]
        + [text for cost in COSTS for text in (human(row[cost]), percent(row[f"on_front/{cost}"]))]
        for row in near.to_dict("records")
    ]
    header = [
        "variant",
        comparison.metric_heading,
        *(text for name in COSTS.values() for text in (name, "on front, %")),
    ]
    kinds = "t" + "n" * (len(header) - 1)
    notes = [*notes_of(comparison, table), *told(read_json(comparison.sweep.run, names.SEARCH_FILE))]
    page = table_page(header, rows, notes=notes, kinds=kinds, caption="The front of accuracy and cost")
    html, text = show_chosen(comparison)
    return Page(page.html + html, f"{page.text}{text}")


def show_chosen(comparison: Comparison) -> tuple[str, str]:
    """What trains the cheapest variant within the margin of the best, as HTML and as text, and where its network
    stands, with its code where that is ours; empty where there is none to choose."""
    _, cheapest = cheapest_near_best(comparison)
    row = cheapest.get("cost/macs")
    command = " ".join(variant_words(comparison, row["variant"])) if row else ""
    if row is None or not command:
        return "", ""
    name = f"To train the cheapest, {printable(comparison.short(row['variant']))}"
    address = f"{EXPLORER}#{urlencode({'a': row['variant'], 'compare': 0, 'code': 1})}"
    code = f" <a href='{escape(address)}'>See its network</a>" if Path(EXPLORER).exists() else ""
    shown = f"<p class='next'>{escape(name)}: <code>{escape(printable(command))}</code>.{code}</p>"
    return shown, f"\n{name}: {printable(command)}"


def percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.0f}"


def notes_of(comparison: Comparison, table: pd.DataFrame) -> Iterator[str]:
    seeds = comparison.scores(comparison.metric)["draw"].nunique()
    yield (
        f"On front: in which share of {DRAWS:,} bootstrap draws of the {plural(seeds, 'seed')} no variant of no more "
        f"cost is as good; {len(table)} variants compete. With few seeds these shares are rough. Latency and memory "
        "were measured; MACs follow from the variant."
    )


def told(record: Mapping[str, Any]) -> Iterator[str]:
    """How a search found the variants, and what it gave up on the way; nothing where there was none."""
    if not record:
        return
    name, fresh = str(record.get("search")), record.get("fresh")
    final = record.get("final_epochs")
    then = f", which took {final:,} epochs more with every seed" if final else ""
    yield (
        f"Found by search={name}: {record.get('trials'):,} trainings of {record.get('epochs'):,} epochs in all chose "
        f"{plural(len(record.get('finalists', ())), 'variant')}{then}; every plan with every seed would be "
        f"{'at most ' if record.get('exhaustive_is_bound') else ''}{record.get('exhaustive_epochs'):,} epochs."
    )
    yield (
        "The finalists' seeds are fresh: none of them took part in the choice, whose own scores would be too high (the "
        "winner's curse)."
        if fresh
        else "The seeds that chose these variants also estimate them: the means of close winners are a little high."
    )
    by: dict[str, list[str]] = {}
    for one in record.get("dropped", ()):
        by.setdefault(str(one["when"]).partition(":")[0], []).append(str(one["variant"]))
    for when, variants in by.items():
        listed = few([printable(one, limit=60) for one in variants], LISTED)
        yield f"Dropped {when}, and so not estimated: {listed}. {names.SEARCH_FILE} has each with its reason."

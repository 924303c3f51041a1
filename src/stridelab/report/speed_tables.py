"""The report's tables of speed: measured apart from training, and while training."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, Any

from stridelab.report.page_parts import Page, table_page
from stridelab.report.sentences import times
from stridelab.report.speed import Phase, phase_of, widest_spread
from stridelab.report.table import ROWS
from stridelab.text import human, printable

if TYPE_CHECKING:
    from stridelab.report.comparison import Comparison

HEADER = (
    "variant", "one image, ms", "ratio", "p99, ms", "forward, images/s", "ratio", "training, images/s", "ratio", "n",
    "spread, %", "trusted?",
)  # fmt: skip
HOW = (
    "Measured apart from training, each variant in a process of its own, in turns, on the untrained network: median "
    "of the rounds, n of them. Spread: the widest inter-quartile range of the rounds over their median. Ratio: to "
    "{baseline}. Training: both passes and the optimiser's step. p99: 99 of 100 passes were faster."
)
MISSING = (
    "The variants were not measured apart from training. stridelab benchmark sweep=<name> does it, "
    "on an idle machine, or trainer.benchmark=true at the end of a sweep."
)


def show_speed(comparison: Comparison) -> Page:
    """What the measurement phase found, with its spread, and whether it is to be trusted."""
    phase = phase_of(comparison)
    if not phase.marks:
        return Page(f"<p class='note'>{escape(MISSING)}</p>", MISSING)
    baseline = comparison.by_variant[comparison.baseline]
    shown = [name for name in comparison.shown(ROWS) if name in phase.marks]
    rows = [_cells(comparison.by_variant[name], baseline, phase) for name in shown]
    kinds = "t" + "n" * (len(HEADER) - 2) + "p"
    return table_page(
        HEADER, rows, notes=_notes(comparison, phase), kinds=kinds, caption="Speed, measured apart from training"
    )


def _cells(row: dict[str, Any], baseline: dict[str, Any], phase: Phase) -> list[str]:
    def value(name: str) -> float:
        return float(row.get(f"benchmark/{name}", math.nan))

    def ratio(name: str) -> str:
        return times(value(name) / float(baseline.get(f"benchmark/{name}", math.nan)))

    spread, rounds = widest_spread(row), value("num_rounds")
    mark = phase.marks[row["variant"]]
    return [
        printable(row["variant"], limit=80),
        human(value("forward_batch1_ms")),
        ratio("forward_batch1_ms"),
        human(value("forward_batch1_p99_ms")),
        human(value("forward_batch256_images_per_s")),
        ratio("forward_batch256_images_per_s"),
        human(value("training_batch256_images_per_s")),
        ratio("training_batch256_images_per_s"),
        "-" if math.isnan(rounds) else f"{rounds:.0f}",
        "-" if math.isnan(spread) else f"{100 * spread:.1f}",
        "yes" if mark == "trusted" else mark.replace("untrusted", "no", 1),
    ]


def _notes(comparison: Comparison, phase: Phase) -> list[str]:
    notes = [HOW.format(baseline=printable(comparison.baseline)), f"On: {'; '.join(phase.setups)}."]
    if len(phase.sessions) > 1:
        found = ", ".join(session.partition(",")[0] for session in phase.sessions)
        notes.append(f"Measured at different times ({found}): not to be compared. Measure all of them again.")
    elif not phase.complete:
        notes.append("Some finished runs have no figures, so the other tables show the speed while training.")
    return notes

"""What a session found, as a person reads it."""

from __future__ import annotations

from statistics import median

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .timing import Session, Timing, iqr


def print_session(session: Session, console: Console) -> None:
    """One image is asked for its latency, many for their throughput; ratios are to the first variant."""
    table = Table("variant", "pass", "images", title="Speed, measured in turns", title_justify="left")
    for heading in ("median", "unit", "spread", "ratio"):
        table.add_column(heading, justify="left" if heading == "unit" else "right")
    first = next(iter(session.variants.values()))
    for name, measured in session.variants.items():
        for workload, timing in measured.timings.items():
            values = values_of(timing)
            base = first.timings.get(workload)
            ratio = f"{median(values) / median(values_of(base)):.2f}" if base else ""
            unit = "images/s" if timing.batch > 1 else "ms"
            table.add_row(
                escape(name),
                workload.kind,
                str(workload.batch),
                figure(median(values)),
                unit,
                figure(iqr(values)),
                ratio,
            )
    console.print(table)
    for name, measured in session.variants.items():
        console.print(f"{escape(name)}: {escape(session.mark(name))}")
        for workload, reason in measured.refused.items():
            console.print(f"{escape(name)}: {workload.key} cannot be measured: {escape(reason)}")


def values_of(timing: Timing) -> list[float]:
    return timing.images_per_s if timing.batch > 1 else [1000 * second for second in timing.seconds]


def figure(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"

"""Which speed is shown: of the measurement phase where every variant has it, else of training, and what that means."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stridelab import names

if TYPE_CHECKING:
    from stridelab.report.comparison import Comparison
    from stridelab.tracking.mlflow_reader import RunRecord

ALONE = {
    "throughput/train_images_per_s": "benchmark/training_batch256_images_per_s",
    "latency/batch1_ms": "benchmark/forward_batch1_ms",
}
"""What a run measures while it trains -> what stands for it when the variants were measured apart from training."""
CELLS = ("forward_batch1", "forward_batch256", "training_batch1", "training_batch256")


@dataclass(frozen=True)
class Phase:
    """What the runs say of the measurement phase; of each kind, every text that there is."""

    marks: dict[str, str]
    """Of each variant that has figures: `trusted`, or `untrusted: ` and why."""
    setups: tuple[str, ...]
    sessions: tuple[str, ...]
    complete: bool
    """Every finished run has figures, and all are of one session: they can be compared."""

    @property
    def all_trusted(self) -> bool:
        return self.complete and set(self.marks.values()) == {"trusted"}


def phase_of(comparison: Comparison) -> Phase:
    done = finished(comparison)
    measured = [run for run in done if names.BENCHMARK in run.tags]
    sessions = tags(measured, names.BENCHMARK_SESSION)
    return Phase(
        marks={run.variant: run.tags[names.BENCHMARK] for run in measured},
        setups=tags(measured, names.BENCHMARK_SETUP),
        sessions=sessions,
        complete=bool(done) and len(measured) == len(done) and len(sessions) == 1,
    )


def finished(comparison: Comparison) -> list[RunRecord]:
    return [run for run in comparison.sweep.runs if run.is_finished]


def tags(runs: Iterable[RunRecord], key: str) -> tuple[str, ...]:
    """Every value that there is, in the order in which they first come."""
    return tuple(dict.fromkeys(run.tags[key] for run in runs if run.tags.get(key)))


def column_of(comparison: Comparison, metric: str) -> str:
    """The column of the variant table to show for a metric: the phase's where every finished variant has it."""
    name = ALONE.get(metric)
    table = comparison.variants
    if name in table and phase_of(comparison).complete and table.loc[table["n"] > 0, name].notna().all():
        return str(name)
    return metric if metric in table else f"{metric}_mean"


def is_alone(column: str) -> bool:
    return column.startswith("benchmark/")


def speed_note(comparison: Comparison) -> str:
    """What the training speed of the tables means."""
    if not is_alone(column_of(comparison, "throughput/train_images_per_s")):
        left_out = "warm-up, validation, snapshots and tracking left out"
        return f"Training speed: {sharing_text(comparison)}; {left_out}.{unlike_steps(comparison)}"
    trusted = "" if phase_of(comparison).all_trusted else "; not all of it is to be trusted: see Speed"
    return f"Training speed: measured apart from training, variants in turns, batches of 256{trusted}."


def unlike_steps(comparison: Comparison) -> str:
    """A sentence where a GPU trained some runs as CUDA graphs and others, which have more to wait for, as they are."""
    ways = tags(finished(comparison), names.STEP)
    if len(ways) < 2:
        return ""
    slower = "; ".join(way for way in ways if way != names.CUDA_GRAPH)
    return f" Not alike: some runs trained as a CUDA graph, others not ({slower})."


def measured_how(comparison: Comparison) -> str:
    """The same in a few words, after `speed`."""
    if is_alone(column_of(comparison, "throughput/train_images_per_s")):
        return "in turns, apart from the sweep"
    return sharing_text(comparison).removeprefix("measured ")


def sharing_text(comparison: Comparison) -> str:
    """With how many other runs the machine was shared."""
    counts = sorted(int(text) for text in tags(finished(comparison), names.RUNS_AT_ONCE) if text.isdecimal())
    if not counts:
        return "measured while the sweep trained"
    if counts[-1] == 1:
        return "measured while one run trained at a time"
    most = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"measured while {most} runs trained at once and shared the machine"


def memory_note(comparison: Comparison) -> str:
    """What the peak memory of the tables means."""
    said = tags(finished(comparison), names.PEAK_RSS)
    if "memory/peak_device_mib_mean" in comparison.variants:
        several = "".join(f" ({one})" for one in said if "runs together" in one)
        return f"Peak memory: what the accelerator's allocator handed out, at most, from the start of the run{several}."
    return f"Peak memory: resident, {' or '.join(said)}." if said else ""


def widest_spread(row: dict[str, Any]) -> float:
    """Of a variant's figures: the largest inter-quartile range over its median."""
    spreads = [
        row.get(f"benchmark/{cell}_iqr_ms", math.nan) / row.get(f"benchmark/{cell}_ms", math.nan) for cell in CELLS
    ]
    return max((spread for spread in spreads if not math.isnan(spread)), default=math.nan)

"""Every probe: what it is, and the function that computes it. To add one is a function and an entry here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stridelab.names import METRICS, Metric
from stridelab.tracking.journal import JOURNAL, read

from .input_size import input_size_robustness
from .shift import shift_consistency

if TYPE_CHECKING:
    from .trained import Trained

PREFIX = "probe/"


@dataclass(frozen=True)
class Probe:
    function: Callable[[Trained], Mapping[str, Any]]
    """By name: numbers, logged as `probe/<probe>` (name: empty) and `probe/<probe>_<name>`; and arrays, kept as an
    artifact of the run, `probes/<probe>.npz`. ValueError where a network cannot be asked. It imports torch when it
    is called: what only reads this table needs none."""
    unit: str
    """`share` is a number from 0 to 1; empty: a plain number."""
    meaning: str
    better: str = ""
    """`higher`, `lower`, or empty where neither is."""

    @property
    def metric(self) -> Metric:
        return Metric(self.unit, self.meaning, self.better)


PROBES: dict[str, Probe] = {
    "shift_consistency": Probe(
        shift_consistency,
        "share",
        "test images whose predicted class is the same after two random shifts of up to 4 px a direction (Zhang 2019); "
        "black comes in at the border, _circular: what leaves on the other side",
        "higher",
    ),
    "input_size_robustness": Probe(
        input_size_robustness,
        "share",
        "lowest test accuracy over images from 3 px smaller (cut) to 5 px larger (black around) than in training; "
        "_<n>px: the accuracy at n px",
        "higher",
    ),
}


def all_metrics() -> dict[str, Metric]:
    """METRICS, and each probe's `probe/<probe>`."""
    found = {name: replace(probe.metric, heading=name.replace("_", " ")) for name, probe in PROBES.items()}
    return METRICS | {PREFIX + name: metric for name, metric in found.items()}


def metric_of(name: str) -> Metric | None:
    """What a metric is, a probe's further values included; None of what neither table knows."""
    if probe := probe_of(name):
        return probe.metric
    return METRICS.get(name)


def probe_of(metric: str) -> Probe | None:
    """Whose value a metric is: `probe/<probe>` or `probe/<probe>_<name>`."""
    if not metric.startswith(PREFIX):
        return None
    name = metric.removeprefix(PREFIX)
    whose = [probe for probe in PROBES if name == probe or name.startswith(f"{probe}_")]
    return PROBES[max(whose, key=len)] if whose else None


def refuse_unknown(names: Sequence[str], *, key: str) -> None:
    for name in names:
        if name not in PROBES:
            raise ValueError(f"{key}={name} is not a probe; choose one of {', '.join(PROBES)}.")


def missing(names: Sequence[str], folder: Path) -> list[str]:
    """Those whose value the run in `folder` does not have."""
    known = recorded(folder)
    return [name for name in names if PREFIX + name not in known]


def recorded(folder: Path) -> dict[str, tuple[int, float]]:
    """(step, value) of each probe's last values, by metric."""
    found = {}
    for one in read(folder / JOURNAL):
        if one.kind == "metrics":
            for name, value in one.data["values"].items():
                if name.startswith(PREFIX):
                    found[name] = (one.data["step"], float(value))
    return found

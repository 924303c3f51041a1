"""Every probe: what it is, and the function that computes it. To add one is a function and an entry here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stridelab.metrics import METRICS, Metric
from stridelab.tracking.journal import JOURNAL, read

from .aliasing import aliasing
from .equivariance import effective_receptive_field, equivariance_error
from .input_size import input_size_robustness
from .objects import accuracy_by_size, boundary_error, localisation_error
from .saturation import saturation
from .shift import shift_consistency, top1_change

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
    tasks: tuple[str, ...] = ()
    """The tasks that it is defined for; (): all."""

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
        ("classify",),
    ),
    "top1_change": Probe(
        top1_change,
        "share",
        "test images whose predicted class changes when the image is moved by 1 px (Azulay and Weiss 2019), the mean "
        "of four directions; black comes in at the border, _circular: what leaves on the other side",
        "lower",
        ("classify",),
    ),
    "equivariance_error": Probe(
        equivariance_error,
        "",
        "relative change of the last map when the image moves around its edges by the effective stride and the map by "
        "one unit; _off: the mean over smaller shifts, the map moved by parts of a unit",
        "lower",
    ),
    "aliasing": Probe(
        aliasing,
        "share",
        "largest share, over the layers with stride s, of the energy of the layer's output at stride 1 that lies above "
        "the frequency 1/(2s) and is folded; _<layer>: of each",
        "lower",
    ),
    "effective_receptive_field": Probe(
        effective_receptive_field,
        "px",
        "side of a square as large as what the centre unit of the last map sees at 4.55 % or more of the greatest "
        "gradient (Luo et al. 2016); _theoretical: by geometry; _sigma: its deviation along one axis",
    ),
    "saturation": Probe(
        saturation,
        "share",
        "directions that hold 99 % of the variance of a convolution's outputs, by their number (Richter et al. 2021): "
        "the mean over the layers; _<layer>: of each",
    ),
    "accuracy_by_size": Probe(
        accuracy_by_size,
        "share",
        "test images with an object that are right: its class, its place inside its box (task=locate), or the share of "
        "its pixels (segment); _<from>to<to>px: of objects that long",
        "higher",
    ),
    "localisation_error": Probe(
        localisation_error,
        "px",
        "mean distance from the place found to the centre of the object's box; _<from>to<to>px: of objects that long; "
        "_median",
        "lower",
        ("locate",),
    ),
    "boundary_error": Probe(
        boundary_error,
        "share",
        "pixels of a wrong class, of those at most 2 px from a pixel of another class; _<n>px: at most n px; _inside: "
        "of all more than 4 px away",
        "lower",
        ("segment",),
    ),
    "input_size_robustness": Probe(
        input_size_robustness,
        "share",
        "lowest test accuracy over images from 3 px smaller (cut) to 5 px larger (black around) than in training; "
        "_<n>px: the accuracy at n px",
        "higher",
        ("classify",),
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


def refuse_other_task(names: Sequence[str], *, key: str, task: str) -> None:
    for name in names:
        if PROBES[name].tasks and task not in PROBES[name].tasks:
            raise ValueError(f"{key}={name} is defined for task={', '.join(PROBES[name].tasks)}, and not for {task}.")


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

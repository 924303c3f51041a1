"""Every number that a run may have: its name in the store, its unit, what it means, and which way is better."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A number of a run. One line in METRICS makes it a column, explains it, and lets `compare metric=` ask for it."""

    unit: str
    """`share` is a number from 0 to 1 and shown in percent; empty: a plain number."""
    meaning: str
    better: str = ""
    """`higher`, `lower`, or empty where neither is."""
    label: str = ""
    """What sentences call it; the name itself when empty."""
    heading: str = ""
    """Of its column in the report's table of variants; empty: it is in the CSV files only."""
    per_variant: bool = False
    """Whether it is the same for every seed of a variant: it then has no spread."""
    function: Callable[[Mapping[str, float]], float] | None = None
    """Computes it from a run's other metrics, where the run did not log it; None: it is only logged.
    A KeyError (a metric that the run lacks) or a ZeroDivisionError leaves it out."""

    @property
    def is_share(self) -> bool:
        return self.unit == "share"

    @property
    def sign(self) -> int:
        """1 where more is better (or nothing is said), else -1."""
        return -1 if self.better == "lower" else 1

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the largest value there can be: an interval is cut there."""
        return (0.0, 1.0 if self.is_share else float("inf"))

    @property
    def factor(self) -> float:
        """From the stored number to the one that is shown, in `shown_unit`."""
        return 100.0 if self.is_share else 1.0

    @property
    def shown_unit(self) -> str:
        return "%" if self.is_share else self.unit

    def difference_unit(self, count: float = 2) -> str:
        """Of a difference between two shown numbers: points, or `count` = 1 point, of shares."""
        return f"point{'' if count == 1 else 's'}" if self.is_share else self.unit


LOSS = (
    "what training minimises, the mean over images: cross-entropy in nats of the class of the image or its pixels; of "
    "task=locate a sum of unlike terms, and so without a unit (docs/measuring.md)"
)


def _of_passes(name: str, unit: str, meaning: str, better: str, label: str, *, best: bool = False) -> dict[str, Metric]:
    """A metric of every pass over a split; `best`: it is the task's primary one, of which the best epoch is kept."""
    what = f"share of {meaning}" if unit == "share" and not meaning.startswith("mean") else meaning
    moving = "over the training images in the last epoch, while the weights moved"
    passes = {
        f"test/{name}": (f"{what}: over the test images, measured once, at the end", f"test {label}"),
        f"final/val_{name}": (f"{what}: over the validation images after the last epoch", f"validation {label}"),
        f"final/train_{name}": (f"{what}: {moving}", f"training {label}"),
    }
    if best:
        passes[f"best/val_{name}"] = (
            f"{what}: over the validation images after the best epoch",
            f"best validation {label}",
        )
    for stage in ("train", "val"):
        passes[f"{stage}/{name}"] = (f"as final/{stage}_{name}, by epoch in the store", "")
    return {key: Metric(unit, what, better, label) for key, (what, label) in passes.items()}


def _cost(unit: str, meaning: str, label: str, heading: str) -> Metric:
    return Metric(unit, meaning, "" if unit == "px" else "lower", label, heading, per_variant=True)


def _benchmarks() -> dict[str, Metric]:
    found = {
        "benchmark/num_rounds": Metric(
            "", "rounds of the benchmark, in which all variants took turns (docs/measuring.md)", per_variant=True
        )
    }
    for work, what in {
        "forward_batch1": "one forward pass of one image",
        "forward_batch256": "one forward pass of 256 images",
        "training_batch1": "one training step with one image",
        "training_batch256": "one training step with 256 images",
    }.items():
        median = f"{what}: median of the rounds, measured apart from training"
        spread = f"{what}: inter-quartile range of the rounds"
        found |= {
            f"benchmark/{work}_ms": Metric("ms", median, "lower", per_variant=True),
            f"benchmark/{work}_iqr_ms": Metric("ms", spread, "lower", per_variant=True),
            f"benchmark/{work}_p99_ms": Metric(
                "ms", f"{what}: 99th percentile of all passes, where there were 100", "lower", per_variant=True
            ),
        }
        if work.endswith("256"):
            found |= {
                f"benchmark/{work}_images_per_s": Metric("images/s", median, "higher", per_variant=True),
                f"benchmark/{work}_iqr_images_per_s": Metric("images/s", spread, "lower", per_variant=True),
            }
    return found


METRICS: dict[str, Metric] = {
    **_of_passes("acc", "share", "images classified correctly", "higher", "accuracy", best=True),
    **_of_passes("loss", "", LOSS, "lower", "loss"),
    "final/epoch": Metric("", "the last epoch trained, where trainer.early_stopping may end training"),
    **_of_passes(
        "error_px",
        "px",
        "mean distance from the place found to the centre of the object's box, over images with an object",
        "lower",
        "error",
        best=True,
    ),
    **_of_passes("presence_acc", "share", "images with and without object told apart", "higher", "presence accuracy"),
    **_of_passes(
        "miou",
        "share",
        "mean over the classes of the intersection of found and true pixels by their union",
        "higher",
        "mIoU",
        best=True,
    ),
    **_of_passes("pixel_acc", "share", "pixels classified correctly", "higher", "pixel accuracy"),
    **_of_passes(
        "boundary_error",
        "share",
        "pixels classified wrongly of those at most 2 px away from a pixel of another class",
        "lower",
        "boundary error",
    ),
    **_of_passes("inside_error", "share", "pixels classified wrongly of all others", "lower", "inside error"),
    "throughput/train_images_per_s": Metric(
        "images/s",
        "training images a second; warm-up, validation, snapshots and tracking left out; runs that trained at the "
        "same time shared the machine",
        "higher",
        "training speed",
        "train images/s",
    ),
    "throughput/train_timed_images": Metric("", "training images that this speed stands on"),
    "throughput/train_timed_s": Metric("s", "seconds that this speed stands on"),
    "throughput/eval_images_per_s": Metric("images/s", "images a second in evaluation", "higher", "evaluation speed"),
    "latency/batch1_ms": Metric(
        "ms", "time of one forward pass of one image, median, at the end of the run", "lower", "latency of one image"
    ),
    "memory/peak_rss_mib": Metric(
        "MiB",
        "highest resident memory above the level before the run (of the whole process where the system cannot reset "
        "its peak)",
        "lower",
        "peak resident memory",
    ),
    "memory/peak_device_mib": Metric(
        "MiB", "highest memory allocated on the accelerator", "lower", "peak accelerator memory"
    ),
    "memory/peak_mib": Metric(
        "MiB",
        "highest memory: allocated on the accelerator where there was one, else resident",
        "lower",
        "peak memory",
        "peak memory, MiB",
        function=lambda run: run["memory/peak_" + ("device_mib" if "memory/peak_device_mib" in run else "rss_mib")],
    ),
    "memory/saved_activations_mib": _cost(
        "MiB", "kept for the backward pass of one training batch", "saved activations", "saved activations, MiB"
    ),
    "memory/params_mib": _cost("MiB", "the parameters", "parameters", ""),
    "cost/macs": _cost(
        "",
        "multiply-accumulates of one forward pass of one image: every multiplication with weights or between "
        "activations, bias excluded, padding taps included",
        "MACs",
        "MACs",
    ),
    "cost/params": _cost("", "number of parameters", "parameters", "params"),
    "cost/effective_stride": _cost(
        "px",
        "product of all strides: input pixels between neighbouring units of the last map",
        "effective stride",
        "effective stride",
    ),
    "cost/receptive_field_px": _cost(
        "px",
        "side of the input square that one unit of the last map can see",
        "receptive field",
        "receptive field, px",
    ),
    **_benchmarks(),
    "time/fit_s": Metric("s", "wall time of training, validation included", "lower", "training time"),
    "time/total_s": Metric("s", "wall time of the run once its data are loaded", "lower", "run time"),
}
"""Name in the store -> what it is: the columns of the run and variant tables, the report's glossary, and what
`compare metric=` may be. A metric that is not here is a column all the same, after these, without explanation."""


def derived(values: Mapping[str, float]) -> dict[str, float]:
    """`values` and the metrics that can be computed from them."""
    found = dict(values)
    for name, metric in METRICS.items():
        if metric.function is not None and name not in found:
            try:
                found[name] = metric.function(found)
            except (KeyError, ZeroDivisionError):
                continue
    return found

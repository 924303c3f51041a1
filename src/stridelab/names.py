"""Names that other people's notebooks depend on: tags, artifacts, metrics. Each is spelled here and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

SIGNATURE = "stridelab.signature"
UID = "stridelab.uid"
ROLE = "stridelab.role"
SWEEP = "stridelab.sweep"
VARIANT = "stridelab.variant"
LABEL = "stridelab.label"
"""The variant in short, by which MLflow groups its seeds."""
VIEW = "stridelab.view"
"""On a sweep's run: what its page in MLflow shows first (tracking/view.py)."""
IN_SWEEP = "stridelab.in."
"""See `in_sweep`."""
SEED = "stridelab.seed"
WORDS = "stridelab.tags"
"""The configuration's `tags`: free words, separated by spaces."""
CODE = "stridelab.code"
"""Digest of the code that trained it."""
USER_CODE = "stridelab.user_code"
"""File or package that makes the network, where it is not ours, and its digest or version."""
SCIENCE = "stridelab.science"
"""The signature without the code, by which `reuse=any` finds runs of other code."""
COMMIT = "stridelab.commit"
DIRTY = "stridelab.dirty"
"""`true` where the code had changes that are in no commit."""
REASON = "stridelab.reason"
STATUS = "stridelab.status"
"""One word more exact than MLflow's: see tracking/status.py."""
CONTINUED_FROM = "stridelab.continued_from"
"""The checkpoint that an attempt began at."""
MIXED_PLATFORMS = "stridelab.mixed_platforms"
"""What differed between the machines of a run's attempts: its result is not equal to the bit."""

INIT_DIGEST = "stridelab.init_digest"
BATCH_ORDER_DIGEST = "stridelab.batch_order_digest"
DATA_DIGEST = "stridelab.data_digest"
WEIGHTS_DIGEST = "stridelab.weights_digest"
DIGESTS = {
    INIT_DIGEST: "initial weights",
    BATCH_ORDER_DIGEST: "batch order",
    DATA_DIGEST: "data",
    WEIGHTS_DIGEST: "final weights",
}
"""Tags that say what a run was handed, and what came out; all of SHA-256, in hex digits."""

BENCHMARK = "stridelab.benchmark"
"""`trusted`, or `untrusted: ` and why: the metrics `benchmark/...` of a run, measured apart from training."""
BENCHMARK_SETUP = "stridelab.benchmark_setup"
"""Device, threads, precision and memory layout that they were measured with."""
BENCHMARK_SESSION = "stridelab.benchmark_session"
"""When, and an id: metrics of one session were measured in turns and can be compared."""
PEAK_RSS = "stridelab.peak_rss"
"""What `memory/peak_rss_mib` is of: see training/memory.py."""
RUNS_AT_ONCE = "stridelab.runs_at_once"
"""Runs of the sweep that trained at the same time, at most, and shared the machine."""

MEMBERS = "stridelab.members"
"""On a sweep's run: `signature:uid` of its runs, comma-separated; continued in `stridelab.members.1`, ..."""
IMPORTED = "stridelab.imported"
"""SHA-256 of the archive that a run came in: it never stands for a run of this results folder."""
SENT = "stridelab.sent"
"""Bytes of the run's journal that the store holds, and `folder.zip` when that is attached."""
FOREIGN = "stridelab.foreign"
"""On a sweep's run: which of its runs were trained by other code or on another platform, and what differed."""
REPRODUCES = "stridelab.reproduces"
"""The run that this one trained again."""
VERDICT = "stridelab.reproduce"
"""How close it came: see reproduce/verdict.py."""

NOTE = "mlflow.note.content"
PARENT_RUN = "mlflow.parentRunId"
SOURCE_COMMIT = "mlflow.source.git.commit"
LOGGED_IMAGES = "mlflow.loggedImages"
DATASET_CONTEXT = "mlflow.data.context"

FROM_OUTSIDE = frozenset(
    {
        SWEEP,
        VARIANT,
        LABEL,
        SEED,
        WORDS,
        CODE,
        USER_CODE,
        SCIENCE,
        COMMIT,
        DIRTY,
        CONTINUED_FROM,
        MIXED_PLATFORMS,
        *DIGESTS,
    }
    | {BENCHMARK, BENCHMARK_SETUP, BENCHMARK_SESSION, PEAK_RSS, RUNS_AT_ONCE, FOREIGN}
    | {LOGGED_IMAGES, SOURCE_COMMIT}
)
"""Tags that an imported run brings along, as claims of whoever made it. All others are made afresh, or left behind."""

ROLES = ("run", "sweep")

CONFIG_FILE = "config.json"
GEOMETRY_FILE = "geometry.json"
PROVENANCE_FILE = "provenance.json"
REQUIREMENTS_FILE = "requirements.txt"
DIFF_FILE = "uncommitted.diff"
TORCH_FILE = "torch.json"
VARIANTS_FILE = "variants.json"
"""Of a sweep: signature -> name, variant and params of each of its runs, as this sweep calls them."""
SEARCH_FILE = "search.json"
"""Of a sweep: how the plans that it trains were found, and what was given up on the way."""
DATA_FILE = "data.json"
PREDICTIONS_FILE = "predictions.npz"
"""Of a classifier: `labels` and `predicted`, the true and the chosen class of every test image."""
FEATURE_MAPS_FILE = "feature_maps.npz"
FEATURE_MAPS = f"feature_maps/{FEATURE_MAPS_FILE}"
NETWORK_FILE = "network.npz"
"""The trained network as plain arrays: training/network_file.py."""
"""Artifacts of a run."""
FOLDER_ARCHIVE = "folder.zip"
"""Among a run's artifacts in the store: what makes its folder again, beside the other artifacts."""

LAYER_PARAM = re.compile(r"\w+_[1-9]\d*", re.ASCII)
"""`stride_1`: a parameter of one layer, which stands beside the whole list as one word."""

NO_EFFECT = {"affects_results": False}
"""The metadata of a setting's field that cannot change a result: no part of a run's signature."""

SIGNATURE_RULE = re.compile(r"[\w.-]{1,200}", re.ASCII)

_MEMBERS_KEY = re.compile(rf"{re.escape(MEMBERS)}(\.[0-9]{{1,6}})?", re.ASCII)
_MEMBER = re.compile(rf"({SIGNATURE_RULE.pattern})(?::([0-9a-f]{{32}}))?", re.ASCII)


def members_of(tags: Mapping[str, str]) -> list[tuple[str, str]]:
    """(signature, uid or nothing) of the members that a sweep's tags list, in order."""
    parts = {int(key.removeprefix(MEMBERS)[1:] or 0): tags[key] for key in tags if _MEMBERS_KEY.fullmatch(key)}
    words = (word for number in sorted(parts) for word in parts[number].split(","))
    return [(found.group(1), found.group(2) or "") for word in words if (found := _MEMBER.fullmatch(word))]


def in_sweep(name: str, uid: str) -> str:
    """The tag of every run that a sweep compares, whichever sweep trained it; its value is the variant in short, as
    this sweep calls it. MLflow's filters have no OR, so a run's parent alone would leave out what was reused."""
    return f"{IN_SWEEP}{name}.{uid[:8]}"


_KEY = re.compile(r"[\w.\- ][/\w.\- ]*", re.ASCII)
MAX_LENGTH = {"metric": 250, "parameter": 250, "tag": 250, "image": 120}
"""The first three are MLflow's; an image's key becomes part of a file name."""


@lru_cache(maxsize=4096)
def check_key(key: str, *, what: str) -> str:
    """`key`, if MLflow accepts it on every platform for a metric, parameter, tag and image alike."""
    parts = key.split("/")
    if not _KEY.fullmatch(key) or len(key) > MAX_LENGTH[what] or any(part in ("", ".", "..") for part in parts):
        raise ValueError(
            f"{what} name {key!r} must be letters, digits, '_', '-', '.', ' ' and single '/' between them, "
            f"{MAX_LENGTH[what]} characters at most."
        )
    return key


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
    "time/total_s": Metric("s", "wall time of the whole run", "lower", "run time"),
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

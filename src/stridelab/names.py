"""Names that other people's notebooks depend on: tags and artifacts, each spelled here and nowhere else. Those of
metrics are in metrics.py."""

from __future__ import annotations

import re
from collections.abc import Mapping
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
RESULT_DIGESTS = (INIT_DIGEST, BATCH_ORDER_DIGEST, WEIGHTS_DIGEST)
"""Those that a run's result holds, by the last word of the tag."""

BENCHMARK = "stridelab.benchmark"
"""`trusted`, or `untrusted: ` and why: the metrics `benchmark/...` of a run, measured apart from training."""
BENCHMARK_SETUP = "stridelab.benchmark_setup"
"""Device, threads, precision and memory layout that they were measured with."""
BENCHMARK_SESSION = "stridelab.benchmark_session"
"""When, and an id: metrics of one session were measured in turns and can be compared."""
PEAK_RSS = "stridelab.peak_rss"
"""What `memory/peak_rss_mib` is of: see training/memory.py."""
STEP = "stridelab.step"
"""How a GPU trained whole batches: `CUDA graph`, or `no CUDA graph: ` and why."""
CUDA_GRAPH = "CUDA graph"
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
    | {BENCHMARK, BENCHMARK_SETUP, BENCHMARK_SESSION, PEAK_RSS, STEP, RUNS_AT_ONCE, FOREIGN}
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

MAX_NAME = 100
PLAIN_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_NAME - 1}}}", re.ASCII)
"""Of a sweep and a task: a folder is named after it."""

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

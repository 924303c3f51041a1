"""Names that other people's notebooks depend on, and the rule for new ones."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

SIGNATURE = "stridelab.signature"
UID = "stridelab.uid"
ROLE = "stridelab.role"
SWEEP = "stridelab.sweep"
VARIANT = "stridelab.variant"
CODE = "stridelab.code"
"""Digest of the code that trained it."""
SCIENCE = "stridelab.science"
"""The signature without the code, by which `reuse=any` finds runs of other code."""
REASON = "stridelab.reason"
STATUS = "stridelab.status"
"""One word more exact than MLflow's: see tracking/status.py."""
BENCHMARK = "benchmarks"
"""`trusted`, or `untrusted: ` and why: the figures `benchmark/...` of a run, which come from the measurement phase."""
BENCHMARK_SETUP = "stridelab.benchmark_setup"
"""Device, threads, precision and memory layout that they were measured with."""
BENCHMARK_SESSION = "stridelab.benchmark_session"
"""When, and a word of its own: figures of one session were measured in turns and can be compared."""
PEAK_RSS = "stridelab.peak_rss"
"""What `memory/peak_rss_mib` is of: see training/peak.py."""
RUNS_AT_ONCE = "stridelab.runs_at_once"
"""Runs of the sweep that trained at the same time, at most, and shared the machine."""
MEMBERS = "stridelab.members"
"""On a sweep's run: `signature:uid` of its runs, comma-separated; continued in `stridelab.members.1`, ..."""
IMPORTED = "stridelab.imported"
"""SHA-256 of the archive that a run came in: it never stands for a run of this results folder."""
SENT = "stridelab.sent"
"""Bytes of the run's journal that the store holds, and `folder.zip` when the folder itself is attached."""


NOTE = "mlflow.note.content"
PARENT_RUN = "mlflow.parentRunId"
LOGGED_IMAGES = "mlflow.loggedImages"
DATASET_CONTEXT = "mlflow.data.context"

FROM_OUTSIDE = frozenset(
    {SWEEP, VARIANT, CODE, SCIENCE, BENCHMARK, BENCHMARK_SETUP, BENCHMARK_SESSION, PEAK_RSS, RUNS_AT_ONCE}
    | {LOGGED_IMAGES, "mlflow.source.git.commit"}
    | {f"stridelab.{word}" for word in ("seed", "tags", "commit", "dirty", "foreign", "argv", "keys")}
    | {f"stridelab.{word}_digest" for word in ("init", "batch_order", "data", "weights")}
    | {"stridelab.continued_from", "stridelab.mixed_platforms"}
)
"""Tags that an imported run brings along, as claims of whoever made it. All others are made afresh, or left behind."""


FOLDER_ARCHIVE = "folder.zip"
"""Among a run's artifacts in the store: an archive of its folder, from which it can be restored."""
ROLES = ("run", "sweep")

SIGNATURE_RULE = re.compile(r"[\w.-]{1,200}", re.ASCII)

_MEMBER = re.compile(rf"({SIGNATURE_RULE.pattern})(?::([0-9a-f]{{32}}))?", re.ASCII)


def members_of(tags: Mapping[str, str]) -> list[tuple[str, str]]:
    """(signature, uid or nothing) of the members that a sweep's tags list, in order."""
    parts = {int(key.removeprefix(MEMBERS)[1:] or 0): tags[key] for key in tags if _MEMBERS_KEY.fullmatch(key)}
    words = (word for number in sorted(parts) for word in parts[number].split(","))
    return [(found.group(1), found.group(2) or "") for word in words if (found := _MEMBER.fullmatch(word))]


_MEMBERS_KEY = re.compile(rf"{re.escape(MEMBERS)}(\.[0-9]{{1,6}})?", re.ASCII)
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

"""Names that other people's notebooks depend on, and the rule for new ones."""

from __future__ import annotations

import re
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
BENCHMARK = "stridelab.benchmark"
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
"""On a sweep's run: the signatures of its runs, comma-separated; continued in `stridelab.members.1`, ..."""


NOTE = "mlflow.note.content"
PARENT_RUN = "mlflow.parentRunId"
LOGGED_IMAGES = "mlflow.loggedImages"
DATASET_CONTEXT = "mlflow.data.context"

ROLES = ("run", "sweep")

SIGNATURE_RULE = re.compile(r"[\w.-]{1,200}", re.ASCII)

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

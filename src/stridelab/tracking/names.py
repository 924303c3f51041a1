"""Names that other people's notebooks depend on, and the rule for new ones."""

from __future__ import annotations

import re
from functools import lru_cache

SIGNATURE = "stridelab.signature"
UID = "stridelab.uid"
ROLE = "stridelab.role"
SWEEP = "stridelab.sweep"
VARIANT = "stridelab.variant"
REASON = "stridelab.reason"
STATUS = "stridelab.status"
"""One word more exact than MLflow's: see tracking/status.py."""
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

"""What crosses the door when a run is over. No torch here: it travels between processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """What a run leaves: final numbers and the digests that identify it."""

    metrics: Mapping[str, float]
    init_digest: str
    batch_order_digest: str
    weights_digest: str

"""What is measured of each variant, and how long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from stridelab.geometry import LayerPlan
from stridelab.training import TrainerConfig

FORWARD, TRAINING = "forward", "training"
BATCHES = (1, 256)


class Workload(NamedTuple):
    """One pass over one batch. forward: eval mode, inference_mode. training: train mode, loss, backward pass and
    optimiser step."""

    kind: str
    batch: int

    @property
    def key(self) -> str:
        """As in metric names: `forward_batch256`."""
        return f"{self.kind}_batch{self.batch}"


WORKLOADS = tuple(Workload(kind, batch) for kind in (FORWARD, TRAINING) for batch in BATCHES)


@dataclass(frozen=True)
class Subject:
    """A variant, as the process that measures it needs to know it."""

    name: str
    plan: LayerPlan
    trainer: TrainerConfig
    seed: int
    task: str = "classify"


@dataclass(frozen=True)
class Effort:
    """How much time is spent."""

    rounds: int = 15
    """Turns of every variant in every workload."""
    block_s: float = 0.1
    """Of passes in one turn, at least one pass."""
    warm_up_s: float = 0.3
    """Of passes before the first turn, in every workload."""
    idle_s: float = 1.0
    """Watched before anything runs, for what else the machine does."""

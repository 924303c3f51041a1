"""What a run that was interrupted carries over, so that its figures are of all of it."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import pytorch_lightning as pl

from . import ranks
from .memory import PeakMemory
from .randomness import BatchOrder
from .throughput import Clock, Throughput


class Attempts(pl.Callback):
    """Sums seconds and timed images over attempts and keeps the greatest memory. What an attempt did after its last
    checkpoint is not counted: it was done again."""

    def __init__(self, order: BatchOrder, throughput: Throughput, peak: PeakMemory) -> None:
        self.order, self.throughput, self.peak = order, throughput, peak
        self.earlier_s = 0.0
        self.earlier_peak: dict[str, float] = {}
        self.began = perf_counter()
        self.ended: float | None = None

    def on_fit_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.began = perf_counter()

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.ended = perf_counter()

    def seconds(self) -> float:
        """Of fitting, in all attempts."""
        return self.earlier_s + (self.ended or perf_counter()) - self.began

    def peaks(self) -> dict[str, float]:
        everybody = ranks.gather(self.peak.metrics())
        now = {name: max(one[name] for one in everybody) for name in everybody[0]}
        return {name: max(value, self.earlier_peak.get(name, value)) for name, value in now.items()}

    def state_dict(self) -> dict[str, Any]:
        clocks = {"train": self.throughput.train.of_all(), "eval": self.throughput.eval.of_all()}
        return {
            "seconds": self.seconds(),
            "peaks": self.peaks(),
            "clocks": {name: [clock.images, clock.seconds] for name, clock in clocks.items()},
            "orders": dict(self.order.handed_out),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.earlier_s, self.earlier_peak = state_dict["seconds"], dict(state_dict["peaks"])
        # of all ranks together, so that it counts once
        clocks = {name: Clock(*([] if ranks.number() else values)) for name, values in state_dict["clocks"].items()}
        self.throughput.train, self.throughput.eval = clocks["train"], clocks["eval"]
        self.order.handed_out = dict(state_dict["orders"])

"""Images a second, without warm-up, validation, snapshots or tracking."""

from __future__ import annotations

import math
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import pytorch_lightning as pl
import torch

from . import ranks
from .module import Classifier
from .runtime import autocast

WARM_UP_STEPS = 5


@dataclass
class Clock:
    """Images and seconds between `start` and `stop`, over any number of spans."""

    images: int = 0
    seconds: float = 0.0
    began: float | None = None

    def of_all(self) -> Clock:
        """All ranks' images, in the time of the slowest."""
        parts = ranks.gather((self.images, self.seconds))
        return Clock(sum(images for images, _ in parts), max(seconds for _, seconds in parts))

    def start(self) -> None:
        synchronise()
        self.began = perf_counter()

    def stop(self) -> None:
        if self.began is not None:
            synchronise()
            self.seconds += perf_counter() - self.began
            self.began = None

    @property
    def images_per_s(self) -> float:
        return self.images / self.seconds if self.seconds else float("nan")


def synchronise() -> None:
    """Wait for what a device still has to do. A GPU that nothing uses stays untouched: waking it would cost memory."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
    elif torch.backends.mps.is_available():
        torch.mps.synchronize()


class Throughput(pl.Callback):
    """Steps of an epoch are timed from the end of its first turn (`Steps.at_once` of them), so that data gathering
    counts and set-up does not.

    The first `WARM_UP_STEPS` steps of a fit are left out when the epoch has more than twice as many.
    """

    def __init__(self) -> None:
        self.train, self.eval, self.warm = Clock(), Clock(), False

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(module, Classifier)
        if self.train.began is not None:
            self.train.images += len(batch[1])
        if batch_idx + 1 == trainer.num_training_batches:
            self.train.stop()
            self.warm = True
        elif self.train.began is None and (self.warm or self._warmed_up(trainer, module, batch_idx)):
            self.train.start()

    @staticmethod
    def _warmed_up(trainer: pl.Trainer, module: Classifier, batch_idx: int) -> bool:
        turns = math.ceil(WARM_UP_STEPS / module.steps.at_once)
        return batch_idx + 1 >= min(turns, trainer.num_training_batches // 2)

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if self.eval.began is None:
            self.eval.start()

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.eval.images += len(batch[1])

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.eval.stop()

    on_test_batch_start = on_validation_batch_start
    on_test_batch_end = on_validation_batch_end
    on_test_epoch_end = on_validation_epoch_end


def batch1_latency_ms(
    network: torch.nn.Module, image: torch.Tensor, *, precision: str = "32-true", repeats: int = 30
) -> float:
    """Median time of one image's forward pass where `image` is, milliseconds, after as many warm-up passes as counted
    ones."""
    network.eval().to(image.device)  # Lightning leaves it on the processor
    image = image.to(next(network.parameters()).dtype)
    times = []
    for _ in range(2 * repeats):
        clock = Clock()
        clock.start()
        with torch.inference_mode(), autocast(precision, image.device):  # moved within, weights could never train again
            network(image)
        clock.stop()
        times.append(clock.seconds)
    return 1000 * sorted(times[repeats:])[repeats // 2]

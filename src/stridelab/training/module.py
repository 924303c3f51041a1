"""The one LightningModule. What varies is passed in: the network, the task, the settings."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, final

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from stridelab import names
from stridelab.system.points import point

from . import ranks
from .average import average_of
from .joint_steps import Seat
from .settings import TrainerConfig
from .step import Batch, TrainingStep
from .step_grouping import Steps
from .tasks import TASKS, LearningTask


class Mean:
    """Loss and the task's metrics over the images of a pass, summed where the tensors live: no synchronisation a
    step."""

    def __init__(self, task: LearningTask) -> None:
        self.task, self.images, self.sums = task, 0, dict[str, Tensor]()

    def add(self, *, loss: Tensor, outputs: Tensor, targets: Tensor) -> None:
        """`loss` is summed over the images."""
        self.images += len(targets)
        for name, value in {"loss": loss.detach(), **self.task.tally(outputs.detach(), targets)}.items():
            self.sums[name] = value + self.sums[name] if name in self.sums else value

    def metrics(self, stage: str) -> dict[str, float]:
        parts = ranks.gather((self.images, {name: value.cpu() for name, value in self.sums.items()}))
        images = sum(count for count, _ in parts)
        if not images:
            return {}
        made = [sums for count, sums in parts if count]
        sums = {name: sum((one[name] for one in made[1:]), made[0][name]) for name in made[0]}
        found = {"loss": sums["loss"].item() / images, **self.task.metrics(sums, images)}
        return {f"{stage}/{name}": value for name, value in found.items()}


@final
class Classifier(pl.LightningModule):
    """Trains `network` on (images, targets); per-pass means are in `means[stage]`.

    Optimizes by itself, `steps.at_once` steps for each batch that Lightning hands over: its loop and hooks cost
    tenths of a millisecond a batch (docs/speed.md), which counts where a step takes two or three.
    """

    def __init__(
        self,
        network: nn.Module,
        config: TrainerConfig,
        *,
        steps: Steps,
        task: str = "classify",
        tell: Callable[[str], None] = lambda said: None,
        seat: Seat | None = None,
    ) -> None:
        """`tell` and `seat`: see TrainingStep."""
        super().__init__()
        self.automatic_optimization = False
        self.network = network
        self.config = config
        self.steps = steps
        self.average = average_of(network, config)
        self.task = TASKS[task]
        self.tell, self.seat = tell, seat
        self.floats = cache(floats)  # sending numbers to a GPU waits for it; a fit knows two kinds of turns
        self.decided: list[tuple[Tensor, Tensor]] = []
        """Of each batch of the test pass: targets and decisions."""
        self.means = {stage: Mean(self.task) for stage in ("train", "val", "test")}

    @property
    def evaluated(self) -> nn.Module:
        """What is validated, tested and kept: the network, or the average of its weights."""
        return self.network if self.average is None else self.average.network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)  # type: ignore[no-any-return]

    def training_step(self, batch: Batch, batch_index: int) -> dict[str, Tensor]:
        """`losses`: float32 [steps], each the mean over its images."""
        size = self.config.images_a_step
        parts = list(zip(*(torch.split(values, size) for values in batch), strict=True))
        made = []
        for images, targets in parts:
            made.append(self.step(aligned(images) if images.is_cuda else images, targets))
            point("step")
        losses = torch.stack([loss for loss, _ in made]).float()
        counts = self.floats(tuple(len(targets) for _, targets in parts), losses.device)
        outputs = torch.cat([outputs for _, outputs in made])
        self.means["train"].add(loss=losses.dot(counts), outputs=outputs, targets=batch[1])
        return {"losses": losses}

    def on_validation_start(self) -> None:
        """What is validated and kept has the mean of the ranks' running statistics."""
        ranks.average_buffers(self)

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        self._evaluate("val", batch)

    def test_step(self, batch: Batch, batch_index: int) -> None:
        outputs = self._evaluate("test", batch)
        if self.task.decide is not None:
            self.decided.append((batch[1], self.task.decide(outputs)))

    def _evaluate(self, stage: str, batch: Batch) -> Tensor:
        images, targets = batch
        if not len(targets):  # more ranks than images in a last batch
            return images
        outputs: Tensor = self.evaluated(images)
        loss = self.task.loss(outputs, targets, reduction="sum").float()
        self.means[stage].add(loss=loss, outputs=outputs, targets=targets)
        return outputs

    def save_predictions(self, folder: Path) -> Path | None:
        """`predictions.npz`, see names; None where the task decides on no class."""
        if not self.decided:
            return None
        labels, predicted = (torch.cat(parts).cpu().numpy() for parts in zip(*self.decided, strict=True))
        kind = np.uint8 if max(labels.max(), predicted.max()) < 256 else np.uint16
        path = folder / names.PREDICTIONS_FILE
        np.savez_compressed(path, labels=labels.astype(kind), predicted=predicted.astype(kind))
        return path

    def take_metrics(self, stage: str) -> dict[str, float]:
        """The means of the pass that just ended, which starts the next one afresh."""
        metrics, self.means[stage] = self.means[stage].metrics(stage), Mean(self.task)
        return metrics

    def configure_optimizers(self) -> Any:
        self.step = TrainingStep(
            self.network,
            self.config,
            num_steps=self.steps.in_all,
            loss=self.task.loss,
            average=self.average,
            scaler=getattr(self.trainer.precision_plugin, "scaler", None),
            tell=self.tell,
            seat=self.seat,
        )
        return [self.step.optimizer], [self.step.schedule]


ALIGNED_BYTES = 32


def aligned(images: Tensor) -> Tensor:
    """As if they had memory of their own, not a part of that of several steps: cuDNN chooses a convolution also by
    where its input begins, so that bits would depend on how steps are grouped, and differ from those of a CUDA graph,
    which copies its batch."""
    return images.clone() if images.data_ptr() % ALIGNED_BYTES else images


def floats(values: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device)

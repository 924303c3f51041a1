"""The one LightningModule: classification by cross-entropy. What varies is passed in."""

from __future__ import annotations

from typing import Any, final

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stridelab.system.points import point

from .average import average_of
from .settings import TrainerConfig
from .step import Batch, TrainingStep
from .step_grouping import Steps


class Mean:
    """Loss and accuracy over the images of a pass, summed where the tensors live: no synchronisation a step."""

    def __init__(self) -> None:
        self.images, self.loss, self.correct = 0, torch.zeros(()), torch.zeros((), dtype=torch.int64)

    def add(self, *, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """`loss` is summed over the images."""
        self.images += len(labels)
        self.loss = loss.detach() + self.loss.to(loss.device)
        self.correct = (logits.detach().argmax(1) == labels).sum() + self.correct.to(loss.device)

    def metrics(self, stage: str) -> dict[str, float]:
        if not self.images:
            return {}
        return {
            f"{stage}/loss": self.loss.item() / self.images,
            f"{stage}/acc": self.correct.item() / self.images,
        }


@final
class Classifier(pl.LightningModule):
    """Trains `network` on (images, labels); per-pass means are in `means[stage]`.

    Optimizes by itself, `steps.at_once` steps for each batch that Lightning hands over: its loop and hooks cost
    tenths of a millisecond a batch (docs/speed.md), which counts where a step takes two or three.
    """

    def __init__(self, network: nn.Module, config: TrainerConfig, *, steps: Steps) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.network = network
        self.config = config
        self.steps = steps
        self.average = average_of(network, config)
        self.means = {stage: Mean() for stage in ("train", "val", "test")}

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
        for images, labels in parts:
            made.append(self.step(images, labels))
            point("step")
        losses = torch.stack([loss for loss, _ in made]).float()
        counts = torch.tensor([len(labels) for _, labels in parts], dtype=torch.float32).to(losses.device)
        logits = torch.cat([logits for _, logits in made])
        self.means["train"].add(loss=losses.dot(counts), logits=logits, labels=batch[1])
        return {"losses": losses}

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        self._evaluate("val", batch)

    def test_step(self, batch: Batch, batch_index: int) -> None:
        self._evaluate("test", batch)

    def _evaluate(self, stage: str, batch: Batch) -> None:
        images, labels = batch
        logits = self.evaluated(images)
        loss = F.cross_entropy(logits, labels, reduction="sum").float()
        self.means[stage].add(loss=loss, logits=logits, labels=labels)

    def take_metrics(self, stage: str) -> dict[str, float]:
        """The means of the pass that just ended, which starts the next one afresh."""
        metrics, self.means[stage] = self.means[stage].metrics(stage), Mean()
        return metrics

    def configure_optimizers(self) -> Any:
        self.step = TrainingStep(self.network, self.config, num_steps=self.steps.in_all, average=self.average)
        self.step.scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        return [self.step.optimizer], [self.step.schedule]

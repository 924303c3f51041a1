"""The one LightningModule: classification by cross-entropy. What varies is passed in."""

from __future__ import annotations

from typing import Any, final

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .settings import TrainerConfig

Batch = tuple[Tensor, Tensor]  # images float [batch, channel, height, width], labels int64 [batch]


class Mean:
    """Loss and accuracy over the images of a pass, summed where the tensors live: no synchronisation a step."""

    def __init__(self) -> None:
        self.images, self.loss, self.correct = 0, torch.zeros(()), torch.zeros((), dtype=torch.int64)

    def add(self, *, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        count = len(labels)
        self.images += count
        self.loss = loss.detach().float() * count + self.loss.to(loss.device)
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
    """Trains `network` with SGD on (images, labels); per-pass means are in `means[stage]`."""

    def __init__(self, network: nn.Module, config: TrainerConfig, *, total_steps: int) -> None:
        super().__init__()
        self.network = network
        self.config = config
        self.total_steps = total_steps
        self.means = {stage: Mean() for stage in ("train", "val", "test")}

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)  # type: ignore[no-any-return]

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        images, labels = batch
        logits = self.network(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=self.config.label_smoothing)
        self.means["train"].add(loss=loss, logits=logits, labels=labels)
        return loss

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        self._evaluate("val", batch)

    def test_step(self, batch: Batch, batch_index: int) -> None:
        self._evaluate("test", batch)

    def _evaluate(self, stage: str, batch: Batch) -> None:
        images, labels = batch
        logits = self.network(images)
        self.means[stage].add(loss=F.cross_entropy(logits, labels), logits=logits, labels=labels)

    def take_metrics(self, stage: str) -> dict[str, float]:
        """The means of the pass that just ended, which starts the next one afresh."""
        metrics, self.means[stage] = self.means[stage].metrics(stage), Mean()
        return metrics

    def configure_optimizers(self) -> Any:
        config = self.config
        optimizer = torch.optim.SGD(
            decay_groups(self.network, weight_decay=config.weight_decay),
            lr=config.lr,
            momentum=config.momentum,
            nesterov=config.momentum > 0,
            fused=True,
        )
        scheduler = SCHEDULERS[config.schedule](optimizer, config.lr, self.total_steps)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


def decay_groups(network: nn.Module, *, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay for matrices and filters; none for biases and norms."""
    parameters = list(network.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def one_cycle(optimizer: torch.optim.Optimizer, lr: float, total_steps: int) -> Any:
    """Up for a quarter of the steps, then down along a cosine (Smith and Topin 2019); momentum stays."""
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=lr, total_steps=total_steps + 1, pct_start=0.25, cycle_momentum=False
    )


def cosine(optimizer: torch.optim.Optimizer, lr: float, total_steps: int) -> Any:
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=total_steps)


def constant(optimizer: torch.optim.Optimizer, lr: float, total_steps: int) -> Any:
    return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)


SCHEDULERS = {"one_cycle": one_cycle, "cosine": cosine, "constant": constant}

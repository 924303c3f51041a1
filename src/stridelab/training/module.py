"""The one LightningModule: classification by cross-entropy. What varies is passed in."""

from __future__ import annotations

from typing import Any, final

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stridelab.system.points import point

from .runtime import compiled
from .settings import TrainerConfig
from .step_grouping import Steps

Batch = tuple[Tensor, Tensor]  # images float [batch, channel, height, width], labels int64 [batch]


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
    """Trains `network` with SGD on (images, labels); per-pass means are in `means[stage]`.

    Optimizes by itself, `steps.at_once` steps for each batch that Lightning hands over: its loop and hooks cost
    tenths of a millisecond a batch (docs/speed.md), which counts where a step takes two or three.
    """

    def __init__(self, network: nn.Module, config: TrainerConfig, *, steps: Steps) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.network = network
        self.config = config
        self.steps = steps
        self.compiled = compiled(network) if config.compile else network
        """For whole batches; the last of an epoch may be smaller, and is not worth a compilation."""
        self.means = {stage: Mean() for stage in ("train", "val", "test")}

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)  # type: ignore[no-any-return]

    def training_step(self, batch: Batch, batch_index: int) -> dict[str, Tensor]:
        """`losses`: float32 [steps], each the mean over its images."""
        size = self.config.batch_size
        parts = list(zip(*(torch.split(values, size) for values in batch), strict=True))
        made = [self._step(images, labels) for images, labels in parts]
        losses = torch.stack([loss for loss, _ in made]).float()
        counts = torch.tensor([len(labels) for _, labels in parts], dtype=torch.float32).to(losses.device)
        logits = torch.cat([logits for _, logits in made])
        self.means["train"].add(loss=losses.dot(counts), logits=logits, labels=batch[1])
        return {"losses": losses}

    def _step(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """One step of the optimizer and of the schedule: the loss and the logits before it."""
        optimizer = self.trainer.optimizers[0]
        forward = self.compiled if len(labels) == self.config.batch_size else self.network
        logits = forward(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=self.config.label_smoothing)
        optimizer.zero_grad()
        if self.config.devices == 1 and self.config.precision != "16-mixed":
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        else:  # gradients to scale, or to exchange
            self.manual_backward(loss)
            self.optimizers().step()  # type: ignore[union-attr]
        self.trainer.lr_scheduler_configs[0].scheduler.step()  # type: ignore[call-arg]
        torch.clear_autocast_cache()  # else the next step's forward would use the weights of before this one
        point("step")
        return loss.detach(), logits.detach()

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        self._evaluate("val", batch)

    def test_step(self, batch: Batch, batch_index: int) -> None:
        self._evaluate("test", batch)

    def _evaluate(self, stage: str, batch: Batch) -> None:
        images, labels = batch
        logits = self.network(images)
        loss = F.cross_entropy(logits, labels, reduction="sum").float()
        self.means[stage].add(loss=loss, logits=logits, labels=labels)

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
        scheduler = SCHEDULERS[config.schedule](optimizer, config.lr, self.steps.in_all)
        return [optimizer], [scheduler]


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

"""One training step: the optimizer, the schedule, and what a batch does to the weights. Training and measuring both
call it, so that the speed measured is the speed trained; an optimisation of the step belongs here and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from . import ranks
from .average import Average
from .optimizers import OPTIMIZERS
from .runtime import autocast, compiled
from .settings import TrainerConfig
from .tasks.classification import loss as cross_entropy

Batch = tuple[Tensor, Tensor]  # images float [batch, channel, height, width], and the task's targets [batch, ...]


class TrainingStep:
    """Forward pass, the loss of the task, backward pass and one step of the optimizer, its schedule and the average."""

    def __init__(
        self,
        network: nn.Module,
        config: TrainerConfig,
        *,
        num_steps: int,
        loss: Callable[..., Tensor] = cross_entropy,
        average: Average | None = None,
    ) -> None:
        """`num_steps`: of the whole fit, which the schedule is spread over."""
        self.network, self.config, self.loss, self.average = network, config, loss, average
        self.optimizer = OPTIMIZERS[config.optimizer].make(groups_of(network, config), config.lr, config.momentum)
        self.schedule = schedule_of(self.optimizer, config, num_steps)
        self.compiled = compiled(network) if config.compile else network
        """For whole batches; the last of an epoch may be smaller, and is not worth a compilation."""
        self.scaler: torch.amp.GradScaler | None = None
        """Of the gradients of float16, whose small values would be zero."""

    def __call__(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The loss (a mean over all images, of all ranks) and this rank's outputs before the step. The gradient is of
        that mean, also where it is accumulated over several batches of which the last is smaller."""
        self.optimizer.zero_grad()
        several = ranks.size() > 1
        weight = float(len(targets)) if several else 1.0  # sums, until all ranks' images are counted
        with autocast(self.config.precision, images.device):
            if self.config.accumulate == 1:
                loss, outputs = self._backward(images, targets, share=weight)
            else:
                loss, outputs = self._accumulated(images, targets, weight=weight)
            if several:
                loss = ranks.average_gradients(self.network, loss, len(targets))
            self._descend()
        self.schedule.step()
        torch.clear_autocast_cache()  # else the next step's forward would use the weights of before this one
        return loss, outputs

    def _accumulated(self, images: Tensor, targets: Tensor, *, weight: float) -> tuple[Tensor, Tensor]:
        size = self.config.batch_size
        parts = zip(torch.split(images, size), torch.split(targets, size), strict=True)
        made = [self._backward(*part, share=weight * len(part[1]) / len(targets)) for part in parts]
        return torch.stack([loss for loss, _ in made]).sum(), torch.cat([outputs for _, outputs in made])

    def _backward(self, images: Tensor, targets: Tensor, *, share: float) -> tuple[Tensor, Tensor]:
        """`share`: of the step's images that these are, or their number, which their mean loss counts for."""
        forward = self.compiled if len(targets) >= self.config.batch_size else self.network
        outputs = forward(images)
        loss = self.loss(outputs, targets, label_smoothing=self.config.label_smoothing)
        loss = loss if share == 1 else loss * share
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()  # type: ignore[no-untyped-call]
        return loss.detach(), outputs.detach()

    def _descend(self) -> None:
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        if self.average is not None:
            self.average.update(self.network)


def groups_of(network: nn.Module, config: TrainerConfig) -> list[dict[str, Any]]:
    """Weight decay for matrices and filters, none for biases, norms and scales of channels."""
    parameters = list(network.parameters())
    return [
        {"params": [p for p in parameters if decays(p)], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if not decays(p)], "weight_decay": 0.0},
    ]


def decays(parameter: Tensor) -> bool:
    return parameter.ndim > 1 and parameter.ndim != 3  # which are scales: (channels, 1, 1)


def schedule_of(optimizer: torch.optim.Optimizer, config: TrainerConfig, num_steps: int) -> Any:
    """Ahead of it the warm-up: at step i of w, (i + 1) / (w + 1) of the rate."""
    rising = config.warmup_steps(num_steps)
    schedule = SCHEDULES[config.schedule](optimizer, config.lr, num_steps - rising)
    if not rising:
        return schedule
    linear = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1 / (rising + 1), total_iters=rising)
    return torch.optim.lr_scheduler.SequentialLR(optimizer, [linear, schedule], milestones=[rising])


def one_cycle(optimizer: torch.optim.Optimizer, lr: float, num_steps: int) -> Any:
    """Up for a quarter of the steps, then down along a cosine (Smith and Topin 2019); momentum stays."""
    rise = 0.25 if num_steps != 3 else 0.249  # of 3 steps, PyTorch would divide by 0.25 * 4 - 1
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=lr, total_steps=num_steps + 1, pct_start=rise, cycle_momentum=False
    )


def cosine(optimizer: torch.optim.Optimizer, lr: float, num_steps: int) -> Any:
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=num_steps)


def constant(optimizer: torch.optim.Optimizer, lr: float, num_steps: int) -> Any:
    return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)


SCHEDULES = {"one_cycle": one_cycle, "cosine": cosine, "constant": constant}

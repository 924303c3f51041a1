"""One training step: the optimizer, the schedule, and what a batch does to the weights. Training and measuring both
call it, so that the speed measured is the speed trained; an optimisation of the step belongs here and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from . import ranks
from .average import Average
from .cuda_graph import StepGraph
from .joint_steps import Seat
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
        scaler: torch.amp.GradScaler | None = None,
        tell: Callable[[str], None] = lambda said: None,
        seat: Seat | None = None,
    ) -> None:
        """`num_steps`: of the whole fit, which the schedule is spread over. `scaler`: of the gradients of float16,
        whose small values would be zero. `tell`: how the steps are done on a GPU. `seat`: among the networks that step
        together."""
        self.network, self.config, self.loss, self.average = network, config, loss, average
        self.optimizer = OPTIMIZERS[config.optimizer].make(groups_of(network, config), config.lr, config.momentum)
        self.schedule = schedule_of(self.optimizer, config, num_steps)
        self.compiled = compiled(network) if config.compile else network
        """For whole batches; the last of an epoch may be smaller, and is not worth a compilation."""
        self.scaler, self.tell, self.seat = scaler, tell, seat
        if scaler is not None:
            begin_momentum(self.optimizer)
        self.graphs: dict[torch.Size, StepGraph] = {}
        """By the shape of a batch."""
        self.rate = (
            torch.zeros((), dtype=torch.float32, device=device_of_weights(network)) if is_on_gpu(network) else None
        )
        """The learning rate where a GPU reads it, whose steps are recorded: a number would be recorded with them."""

    def __call__(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The loss (a mean over all images, of all ranks) and this rank's outputs before the step. The gradient is of
        that mean, also where it is accumulated over several batches of which the last is smaller."""
        if self.rate is not None:
            self.rate.fill_(self.optimizer.param_groups[0]["lr"])
        loss, outputs = self._way_of(images)(images, targets)
        if self.average is not None:
            self.average.update(self.network)
        self.schedule.step()
        return loss, outputs

    def _way_of(self, images: Tensor) -> Callable[..., tuple[Tensor, ...]]:
        """On a GPU, a graph for whole batches; the last of an epoch may be smaller, and is not worth one."""
        if self.rate is None or self.config.compile or not self.config.cuda_graph or ranks.size() > 1:
            return self.work
        if len(images) < self.config.images_a_step:
            return self.work
        if self.seat is not None:
            return partial(self.seat.step, self)
        if images.shape not in self.graphs:
            parameters = list(self.network.parameters())
            self.graphs[images.shape] = StepGraph(self.work, state=self.state, parameters=parameters, tell=self.tell)
        return self.graphs[images.shape]

    def state(self) -> list[Tensor]:
        """All that `work` changes, but gradients."""
        kept = [value for one in self.optimizer.state.values() for value in one.values()]
        scaling = [getattr(self.scaler, name, None) for name in ("_scale", "_growth_tracker")]
        tensors = [*self.network.parameters(), *self.network.buffers(), *kept, *scaling]
        return [tensor for tensor in tensors if isinstance(tensor, Tensor)]

    def work(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """All of a step that is the same from step to step."""
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
        with rate_read_from(self.rate, self.optimizer):
            if self.scaler is None:
                self.optimizer.step()
            else:
                self.scaler.step(self.optimizer)
                self.scaler.update()


@contextmanager
def rate_read_from(rate: Tensor | None, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Within, the optimizer takes its learning rate from `rate`; the schedule and checkpoints see a number."""
    if rate is None:
        yield
        return
    kept = [dict(group) for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] = rate
        if "capturable" in group:  # Adam's leave to be recorded; the fused one does the same with it
            group["capturable"] = rate.is_cuda and torch.cuda.is_current_stream_capturing()
    try:
        yield
    finally:
        for group, before in zip(optimizer.param_groups, kept, strict=True):
            group |= {name: before[name] for name in ("lr", "capturable") if name in before}


def begin_momentum(optimizer: torch.optim.Optimizer) -> None:
    """At zero. A fused SGD leaves it to its first step, which writes none where a scaled gradient is infinite: the next
    step would go on from whatever that memory held (PyTorch 2.11 and 2.14)."""
    for group in optimizer.param_groups:
        for parameter in group["params"] if group.get("momentum") else ():
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def device_of_weights(network: nn.Module) -> torch.device:
    return next(network.parameters()).device


def is_on_gpu(network: nn.Module) -> bool:
    return device_of_weights(network).type == "cuda"


def groups_of(network: nn.Module, config: TrainerConfig) -> list[dict[str, Any]]:
    """Weight decay for matrices and filters, none for biases, norms and scales of channels."""
    parameters = list(network.parameters())
    return [
        {"params": [p for p in parameters if decays(p)], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if not decays(p)], "weight_decay": 0.0},
    ]


def decays(parameter: Tensor) -> bool:
    """Of three axes are scales (channels, 1, 1), tokens and positions (1, places, channels), and filters of Conv1d."""
    shape = parameter.shape
    return parameter.ndim > 1 and not (parameter.ndim == 3 and (shape[0] == 1 or shape[1:] == (1, 1)))


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

"""What all is compared with: a loop of PyTorch over one batch in memory. No metrics, no data, none of our step."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

import torch
from torch.nn import functional as F

from stridelab.config import Config
from stridelab.models.build import build
from stridelab.plan import layer_plan_of
from stridelab.training.optimizers import OPTIMIZERS
from stridelab.training.runtime import autocast, compiled, layout_of
from stridelab.training.step import groups_of

WARM_UP_STEPS = 5


def images_per_s(config: Config, *, span_s: float) -> float:
    """Images a second of the bare loop over `span_s` seconds, in the config's threads, precision and layout."""
    step, steps = warmed_up(config), 0
    began = perf_counter()
    while perf_counter() - began < span_s:
        step()
        steps += 1
    return steps * config.trainer.batch_size / (perf_counter() - began)


def seconds(config: Config, *, steps: int) -> float:
    step = warmed_up(config)
    began = perf_counter()
    for _ in range(steps):
        step()
    return perf_counter() - began


def warmed_up(config: Config) -> Callable[[], None]:
    """Forward, backward and the fused optimizer, written out."""
    trainer, plan = config.trainer, layer_plan_of(config)
    torch.set_num_threads(trainer.threads)
    network = build(plan).to(memory_format=layout_of(trainer))
    optimizer = OPTIMIZERS[trainer.optimizer].make(groups_of(network, trainer), trainer.lr, trainer.momentum)
    images = torch.randn(trainer.batch_size, plan.input_channels, *plan.input_size)
    images = images.contiguous(memory_format=layout_of(trainer))
    labels = torch.randint(0, 10, (trainer.batch_size,))
    forward = compiled(network) if trainer.compile else network

    def step() -> None:
        with autocast(trainer.precision, images.device):
            loss = F.cross_entropy(forward(images), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    for _ in range(WARM_UP_STEPS):
        step()
    return step

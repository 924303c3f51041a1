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
from stridelab.training.runtime import autocast, compiled, device_of, layout_of, prepare_process
from stridelab.training.step import groups_of
from stridelab.training.throughput import synchronise

WARM_UP_STEPS = 5
HANDED_OVER = 50
"""Steps that a GPU is given before it is waited for: waiting at every one would be timed too."""


def images_per_s(config: Config, *, span_s: float, graph: bool = False) -> float:
    """Images a second of the bare loop over `span_s` seconds, on the config's device, in its threads, precision and
    layout; with `graph`, of a CUDA graph of its step."""
    eager, steps = warmed_up(config), 0
    step = recorded(eager) if graph else eager  # a graph does not keep what it reads: weights, the batch
    at_once = 1 if device_of(config.trainer).type == "cpu" else HANDED_OVER
    synchronise()
    began = perf_counter()
    while perf_counter() - began < span_s:
        for _ in range(at_once):
            step()
        synchronise()
        steps += at_once
    return steps * config.trainer.batch_size / (perf_counter() - began)


def seconds(config: Config, *, steps: int) -> float:
    step = warmed_up(config)
    synchronise()
    began = perf_counter()
    for _ in range(steps):
        step()
    synchronise()
    return perf_counter() - began


def recorded(step: Callable[[], None]) -> Callable[[], None]:
    """As PyTorch's notes on CUDA graphs write it out: warm-up on a side stream, then one step into a graph, which
    reads one batch and writes gradients and weights where they lie."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP_STEPS):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def warmed_up(config: Config) -> Callable[[], None]:
    """Forward, backward and the fused optimizer, written out. On a GPU as deterministic, and with TF32, as the fit
    that it is compared with."""
    trainer, plan = config.trainer, layer_plan_of(config)
    device = device_of(trainer)
    if device.type != "cpu":
        prepare_process(trainer)
    torch.set_num_threads(trainer.threads)
    network = build(plan).to(device).to(memory_format=layout_of(trainer))
    optimizer = OPTIMIZERS[trainer.optimizer].make(groups_of(network, trainer), trainer.lr, trainer.momentum)
    images = torch.randn(trainer.batch_size, plan.input_channels, *plan.input_size)
    images = images.to(device).contiguous(memory_format=layout_of(trainer))
    labels = torch.randint(0, 10, (trainer.batch_size,)).to(device)
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

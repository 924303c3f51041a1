"""One variant's network in a process of its own, and passes over it, timed one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from time import perf_counter, process_time

import torch

from stridelab.models.build import build, load_weights
from stridelab.training.average import average_of
from stridelab.training.cuda_graph import WARM_UP_STEPS
from stridelab.training.randomness import initialise
from stridelab.training.runtime import autocast, device_of, dtype_of, layout_of, prepare_process
from stridelab.training.step import TrainingStep
from stridelab.training.tasks import TASKS
from stridelab.training.throughput import synchronise

from .workloads import FORWARD, Subject, Workload

LEAST_PASSES, MOST_PASSES = 3, 500
LEAST_PASSES_ON_GPU = WARM_UP_STEPS + 2
"""Behind the one at which a training step is recorded."""
SETTLE_S = 0.005
"""Of passes that do not count before each block: another process has had the caches."""


class Worker:
    """The network as it is before training, with noise for images: speed does not depend on either."""

    def __init__(self, subject: Subject) -> None:
        prepare_process(subject.trainer)
        self.plan, self.config = subject.plan, subject.trainer
        self.device = device_of(subject.trainer)
        network = build(subject.plan)
        initialise(network, seed=subject.seed)
        load_weights(network, subject.plan)
        self.dtype, self.layout = dtype_of(self.config), layout_of(self.config)
        self.network = network.to(self.device, self.dtype).to(memory_format=self.layout)
        # Without an end of its schedule; batches of any size are whole ones.
        endless = replace(self.config, schedule="constant", warmup=0, batch_size=1, accumulate=1)
        self.task = TASKS[subject.task]
        average = average_of(self.network, endless)
        self.step = TrainingStep(self.network, endless, num_steps=1, loss=self.task.loss, average=average)
        for group in self.step.optimizer.param_groups:
            group["lr"] = 0.0  # every operation of a step, and weights that stay
        self.passes: dict[Workload, Callable[[], object]] = {}

    @property
    def device_name(self) -> str:
        """Of the accelerator; empty on the processor."""
        if self.device.type == "cuda":
            return str(torch.cuda.get_device_name(self.device))
        return "" if self.device.type == "cpu" else self.device.type

    def prepare(self, workload: Workload, *, warm_up_s: float, block_s: float) -> tuple[int, float]:
        """Warm up; how many passes fill a block, and the seconds of one. ValueError when the network cannot do it."""
        self.passes[workload] = self._pass_of(workload)
        end = perf_counter() + warm_up_s
        times: list[float] = []
        least = LEAST_PASSES_ON_GPU if self.device.type == "cuda" else LEAST_PASSES
        while len(times) < least or perf_counter() < end:
            times.append(self._timed(workload))
        return max(1, min(round(block_s / min(times)), MOST_PASSES)), min(times)

    def block(self, workload: Workload, *, passes: int) -> list[float]:
        """Seconds of each of `passes` passes."""
        end = perf_counter() + SETTLE_S
        while passes > 1 and perf_counter() < end:  # a pass that is a block by itself is long enough
            self._timed(workload)
        return [self._timed(workload) for _ in range(passes)]

    def own_s(self) -> float:
        """Processor time of this process, all threads."""
        return process_time()

    def _timed(self, workload: Workload) -> float:
        run = self.passes[workload]
        synchronise()
        start = perf_counter()
        run()
        synchronise()
        return perf_counter() - start

    def _pass_of(self, workload: Workload) -> Callable[[], object]:
        generator = torch.Generator().manual_seed(0)
        shape = (workload.batch, self.plan.input_channels, *self.plan.input_size)
        images = torch.randn(shape, generator=generator).to(self.device, self.dtype)
        images = images.contiguous(memory_format=self.layout)
        if workload.kind == FORWARD:
            return lambda: self._forward(images)
        targets = self.task.example(self._forward(images))
        return lambda: self._train(images, targets)

    def _forward(self, images: torch.Tensor) -> torch.Tensor:
        self.network.eval()
        with torch.inference_mode(), autocast(self.config.precision, self.device):
            return self.network(images)  # type: ignore[no-any-return]

    def _train(self, images: torch.Tensor, targets: torch.Tensor) -> None:
        self.network.train()
        self.step(images, targets)

"""Several networks of one shape, such as the seeds of a variant, trained at the same time on one GPU: a step of each is
a branch of one CUDA graph. A small network leaves most of a GPU idle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from threading import Condition
from typing import Protocol

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from .cuda_graph import StepGraph, Tensors


class Stepper(Protocol):
    """What a TrainingStep has for it."""

    network: nn.Module
    tell: Callable[[str], None]

    def work(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]: ...

    def state(self) -> list[Tensor]: ...


class JointSteps:
    """Each member trains in a thread of its own, and waits with each whole batch until all others that still train have
    come with theirs; then one thread does the steps of all. What comes before the first step is done by one member
    after the other, and so is, when all have trained, what follows: while a graph is recorded nobody else may wait for
    the GPU, and what Lightning gives back where a fit begins and ends (cuBLAS's workspaces) is not only its own."""

    def __init__(self, members: int) -> None:
        self.seats = [Seat(self, number) for number in range(members)]
        self.training = set(self.seats)
        self.alone: Seat | None = None
        """Who prepares its training, or follows it up."""
        self.asked: dict[Seat, tuple[Stepper, Tensor, Tensor]] = {}
        self.made: dict[Seat, tuple[Tensor, Tensor] | BaseException] = {}
        self.arrival = Condition()
        self.graphs: dict[object, StepGraph] = {}
        self.stepping = ThreadPoolExecutor(1, "joint-steps")
        """Always the same thread: with the first steps it gets what CUDA's libraries make for each, which cannot be
        made while a graph is recorded."""

    def enter(self, seat: Seat) -> None:
        with self.arrival:
            self.arrival.wait_for(lambda: self.alone in (None, seat))
            self.alone = seat

    def step(self, seat: Seat, stepper: Stepper, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        with self.arrival:
            self._let_others(seat)
            self.asked[seat] = stepper, images, targets
            while seat in self.asked and len(self.asked) < len(self.training):
                self.arrival.wait()
            if seat in self.asked:
                self.stepping.submit(self._step_all).result()
                self.arrival.notify_all()
            made = self.made.pop(seat)
        if isinstance(made, BaseException):
            raise made
        return made

    def leave(self, seat: Seat) -> None:
        with self.arrival:
            self.training.discard(seat)
            self._let_others(seat)
            self.arrival.notify_all()
            self.arrival.wait_for(lambda: not self.training and self.alone is None)
            self.alone = seat

    def go(self, seat: Seat) -> None:
        with self.arrival:
            self.training.discard(seat)
            self._let_others(seat)
            self.arrival.notify_all()

    def _let_others(self, seat: Seat) -> None:
        if self.alone is seat:
            self.alone = None
            self.arrival.notify_all()

    def _step_all(self) -> None:
        seats = sorted(self.asked, key=lambda seat: seat.number)
        steppers, images, targets = zip(*(self.asked[seat] for seat in seats), strict=True)
        batch = [part for pair in zip(images, targets, strict=True) for part in pair]
        self.asked.clear()
        try:
            made = self._graph_of(seats, steppers, batch)(*batch)
            self.made = dict(zip(seats, zip(made[::2], made[1::2], strict=True), strict=True))
        except BaseException as error:  # each thread raises it, or would wait for ever
            self.made = dict.fromkeys(seats, error)

    def _graph_of(self, seats: Sequence[Seat], steppers: Sequence[Stepper], batch: Sequence[Tensor]) -> StepGraph:
        """A new one where a member has left: it held that one's memory."""
        key = (tuple(seat.number for seat in seats), tuple(part.shape for part in batch))
        if key not in self.graphs:
            parameters = [parameter for one in steppers for parameter in one.network.parameters()]

            def tell(said: str) -> None:
                for one in steppers:
                    one.tell(said)

            self.graphs = {
                key: StepGraph(
                    Branches(steppers),
                    state=lambda: [tensor for one in steppers for tensor in one.state()],
                    parameters=parameters,
                    tell=tell,
                )
            }
        return self.graphs[key]


class Seat:
    """One member's place among those that step together."""

    def __init__(self, joint: JointSteps, number: int) -> None:
        self.joint, self.number = joint, number

    @property
    def members(self) -> int:
        return len(self.joint.seats)

    def enter(self) -> None:
        """Returns when no other prepares its training; it has begun with the first step."""
        self.joint.enter(self)

    def step(self, stepper: Stepper, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return self.joint.step(self, stepper, images, targets)

    def leave(self) -> None:
        """The others wait for this one no more; returns when all have left, one after the other."""
        self.joint.leave(self)

    def go(self) -> None:
        """The next one may go on."""
        self.joint.go(self)


class Leaving(pl.Callback):
    """Before Lightning tidies up, whether training ended well or by an error."""

    def __init__(self, seat: Seat) -> None:
        self.seat = seat

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.seat.leave()

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        self.seat.leave()


class Branches:
    """A step of each network, on a CUDA stream of its own."""

    def __init__(self, steppers: Sequence[Stepper]) -> None:
        on_gpu = next(steppers[0].network.parameters()).is_cuda
        self.steppers = steppers
        self.streams = [torch.cuda.Stream() for _ in steppers] if on_gpu else []  # type: ignore[no-untyped-call]

    def __call__(self, *batch: Tensor) -> Tensors:
        made: list[Tensor] = []
        here = torch.cuda.current_stream() if self.streams else None
        for number, one in enumerate(self.steppers):
            with self._branch(number, here):
                made += one.work(*batch[2 * number : 2 * number + 2])
        for stream in self.streams:
            assert here is not None
            here.wait_stream(stream)
        return tuple(made)

    def _branch(self, number: int, here: torch.cuda.Stream | None) -> AbstractContextManager[object]:
        if here is None:
            return nullcontext()
        self.streams[number].wait_stream(here)
        return torch.cuda.stream(self.streams[number])


NOISE = ("Dropout", "StochasticDepth", "DropPath")
"""In the names of layers that draw random numbers: PyTorch's, torchvision's, timm's."""


def refuse_noise(network: nn.Module) -> None:
    """ValueError where layers draw random numbers: a process has one generator, and a seed's noise would depend on who
    else trains in it."""
    kinds = {type(part).__name__ for part in network.modules()}
    if found := next((kind for kind in sorted(kinds) if any(word in kind for word in NOISE)), None):
        raise ValueError(
            f"sweep.seeds_together: the network draws noise ({found}), which seeds in one process would share; give "
            "sweep.seeds_together=1."
        )

"""A training step recorded as a CUDA graph: replayed, it does the same to the same memory, and the processor hands over
one thing instead of a hundred. Small networks wait for that hand more than they compute (docs/speed.md)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress

import torch
from torch import Tensor

from stridelab.names import CUDA_GRAPH

Tensors = tuple[Tensor, ...]
Work = Callable[..., Tensors]
"""(images, targets) -> (loss, outputs), with all that a step does to weights and the optimizer's state; of several
networks, those of one behind those of the other."""
WARM_UP_STEPS = 3
"""Before a step is recorded: the optimizer makes its state, and cuDNN and cuBLAS what they keep."""
SYNCHRONISES = "called a synchronizing CUDA operation"
"""PyTorch's words for an operation that waits for the GPU, which cannot be recorded."""


class StepGraph:
    """Does `work` for batches of one shape: three times as it is, then as a graph. The first replay is held to the bit
    against the step itself, from the same state; where it differs, or where nothing can be recorded, `work` goes on
    as it is, and `tell` is given the reason."""

    def __init__(
        self,
        work: Work,
        *,
        state: Callable[[], Sequence[Tensor]],
        parameters: Sequence[Tensor],
        tell: Callable[[str], None],
    ) -> None:
        """`state`: all that `work` changes but the gradients of `parameters`, which it makes anew."""
        self.work, self.state, self.parameters, self.tell = work, state, parameters, tell
        self.steps = 0
        self.refused = ""
        self.replayed: Replayed | None = None

    def __call__(self, *batch: Tensor) -> Tensors:
        if self.replayed is not None:
            return self.replayed(*batch)
        if self.refused:
            return self.work(*batch)
        self.steps += 1
        if self.steps < WARM_UP_STEPS:
            return self.work(*batch)
        if self.steps == WARM_UP_STEPS:
            return self._watched(*batch)
        return self._recorded(*batch)

    def _watched(self, *batch: Tensor) -> Tensors:
        """The last step before recording, at which what waits for the GPU is still only slow."""
        made, waits = watched(lambda: self.work(*batch))
        if waits:
            self._refuse(f"the step waits for the GPU ({waits})")
        return made

    def _recorded(self, *batch: Tensor) -> Tensors:
        try:
            replayed = Replayed(self.work, batch, parameters=self.parameters)
        except RuntimeError as error:  # CUDA's, out of memory too
            self._refuse(f"it cannot be recorded: {first_cause(error)}")
        if self.refused:  # only here: the error held what was made of the step, on the stream of the record
            return self.work(*batch)
        made, same = proven(replayed, self.work, batch, state=self.state)
        if same:
            self.replayed = replayed
            self.tell(CUDA_GRAPH)
        else:
            self._refuse("its replay is not equal to the step to the bit")
        return made

    def _refuse(self, reason: str) -> None:
        self.refused = reason
        self.tell(f"no {CUDA_GRAPH}: {reason}")


class Replayed:
    """A graph with the memory that it reads and writes."""

    def __init__(self, work: Work, batch: Tensors, *, parameters: Sequence[Tensor]) -> None:
        self.batch, self.parameters = [torch.zeros_like(part) for part in batch], parameters
        self.graph, self.made = recorded(lambda: work(*self.batch))
        self.gradients = [parameter.grad for parameter in parameters]

    def __call__(self, *batch: Tensor) -> Tensors:
        for kept, part in zip(self.batch, batch, strict=True):
            kept.copy_(part)
        self.graph.replay()
        if self.parameters[0].grad is not self.gradients[0]:  # a smaller batch was in between, step by step
            for parameter, gradient in zip(self.parameters, self.gradients, strict=True):
                parameter.grad = gradient
        return tuple(one.clone() for one in self.made)


def recorded(work: Callable[[], Tensors]) -> tuple[torch.cuda.CUDAGraph, Tensors]:
    """Nothing is computed until the graph is replayed."""
    graph, stream, pool = torch.cuda.CUDAGraph(), torch.cuda.current_stream(), torch.cuda.graph_pool_handle()
    numbers = torch.cuda.default_generators[torch.cuda.current_device()]
    sound = numbers.clone_state()
    try:
        # Other threads may use CUDA meanwhile.
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            made = work()
    except RuntimeError:
        # PyTorch leaves the stream in use, and the random numbers in a state that only a graph can draw from.
        torch.cuda.set_stream(stream)
        numbers.graphsafe_set_state(sound)
        give_up(pool)
        raise
    return graph, made


def give_up(pool: tuple[int, int]) -> None:
    """Until PyTorch 2.12, its allocator goes on recording for a graph whose record CUDA ended with an error, and the
    next `empty_cache` of the process, Lightning's at the end of a fit for instance, is an internal error."""
    device = torch.cuda.current_device()
    with suppress(RuntimeError):  # it has ended by itself, and PyTorch gives the memory back
        torch._C._cuda_endAllocateToPool(device, pool)
        torch._C._cuda_releasePool(device, pool)


def watched(work: Callable[[], Tensors]) -> tuple[Tensors, str]:
    """What it makes, and where it waits for the GPU: file and line; empty: nowhere."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            made = work()
        finally:
            torch.cuda.set_sync_debug_mode(before)
    waits = [f"{one.filename}:{one.lineno}" for one in said if SYNCHRONISES in str(one.message)]
    return made, waits[0] if waits else ""


def proven(
    replayed: Work, work: Work, batch: Tensors, *, state: Callable[[], Sequence[Tensor]]
) -> tuple[Tensors, bool]:
    """One step of `work`, and whether `replayed` makes the same of the same state, to the bit. Copies lie in the
    processor's memory: the GPU's peak stays that of a step."""
    noise = torch.cuda.get_rng_state()
    before = copied(state())
    made = work(*batch)
    after = copied([*state(), *made])
    next_noise = torch.cuda.get_rng_state()
    restore(state(), before)
    torch.cuda.set_rng_state(noise)
    again = replayed(*batch)
    same = all(map(equal_bits, copied([*state(), *again]), after))
    if not same:
        restore(state(), after[: len(before)])
        torch.cuda.set_rng_state(next_noise)
    return made, same


def copied(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensor.detach().to("cpu", copy=True) for tensor in tensors]


@torch.no_grad()
def restore(tensors: Sequence[Tensor], copies: Sequence[Tensor]) -> None:
    for tensor, copy in zip(tensors, copies, strict=True):
        tensor.copy_(copy)


def equal_bits(one: Tensor, other: Tensor) -> bool:
    """Also where a value is no number."""
    return torch.equal(*(values.contiguous().view(-1).view(torch.uint8) for values in (one, other)))


def first_cause(error: BaseException) -> str:
    """What ended a record is the context of what its end then says."""
    while error.__context__ is not None:
        error = error.__context__
    return str(error).strip().partition("\n")[0]

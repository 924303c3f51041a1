"""What a run may change in its process, put back for the run after it."""

from __future__ import annotations

import gc
import multiprocessing
import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

LEFT_BYTES = 2**20
"""On a card, of PyTorch itself: the state of its random numbers."""

Setting = tuple[Callable[[], Any], Callable[[Any], Any]]
"""How it is read, and how it is set to what was read."""


class ProcessState:
    """As it was when this was made. What libraries keep inside (cuBLAS and cuDNN: their handles and choices) stays:
    tasks share a process only where they would make it the same."""

    def __init__(self) -> None:
        self.settings = tuple(settings())
        self.before = [read() for read, _ in self.settings]

    def restore(self) -> bool:
        """Whether nothing is left of what has run since: no thread, no process, no memory on a card."""
        for (_, write), value in zip(self.settings, self.before, strict=True):
            write(value)
        busy = [thread for thread in threading.enumerate() if not thread.daemon]
        alone = busy == [threading.main_thread()] and not multiprocessing.active_children()
        return alone and bytes_on_card() < LEFT_BYTES


def settings() -> Iterator[Setting]:
    import numpy as np
    import torch

    yield os.getcwd, os.chdir
    yield lambda: dict(os.environ), set_environment
    yield lambda: [*sys.path], lambda value: sys.path.__setitem__(slice(None), value)
    yield handlers, set_handlers
    yield random.getstate, random.setstate
    yield np.random.get_state, np.random.set_state
    yield torch.get_rng_state, torch.set_rng_state
    yield torch.get_num_threads, torch.set_num_threads
    yield torch.get_default_dtype, torch.set_default_dtype
    yield torch.is_grad_enabled, torch.set_grad_enabled
    yield torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode
    yield attribute(torch.utils.deterministic, "fill_uninitialized_memory")
    yield attribute(torch.backends.cudnn, "benchmark")
    yield attribute(torch.backends.cudnn, "deterministic")


def attribute(owner: object, name: str) -> Setting:
    return lambda: getattr(owner, name), lambda value: setattr(owner, name, value)


def set_environment(value: dict[str, str]) -> None:
    for name in os.environ.keys() - value.keys():
        del os.environ[name]
    os.environ.update({name: text for name, text in value.items() if os.environ.get(name) != text})


def handlers() -> dict[int, Any]:
    return {number: signal.getsignal(number) for number in signal.valid_signals()}


def set_handlers(value: dict[int, Any]) -> None:
    for number, handler in value.items():
        if signal.getsignal(number) is not handler and handler is not None:
            signal.signal(number, handler)


def bytes_on_card() -> int:
    """That PyTorch holds there when all that can be has been given back; 0 where CUDA has not begun."""
    import torch

    gc.collect()
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return 0
    torch._C._cuda_clearCublasWorkspaces()
    torch.cuda.empty_cache()
    return int(torch.cuda.memory_allocated())


def begin_cuda() -> None:
    """Make this process's context on the card and load what a network needs there, before a run waits for it. No matrix
    product: with the first, PyTorch looks once for all at what the run is yet to set (CUBLAS_WORKSPACE_CONFIG). What
    goes wrong here goes wrong in a run too, which says it."""
    import torch

    with suppress(Exception):
        if torch.cuda.is_available() and not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            image, kernel = (torch.zeros(1, 1, size, size, device="cuda") for size in (8, 3))
            torch.nn.functional.conv2d(image, kernel)
            torch.cuda.synchronize()
            del image, kernel
            torch.cuda.empty_cache()

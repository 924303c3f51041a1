"""Counts what a forward pass costs while it runs: multiply-accumulates, and memory kept for the backward pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class SavedTensors:
    """The memory that autograd keeps of a forward pass, each storage once, without that of tensors in `held`."""

    def __init__(self, held: Iterable[Tensor]) -> None:
        self.bytes_of_storages: list[int] = []
        """In the order in which they were first saved."""
        self._known = {tensor.untyped_storage()._cdata: tensor for tensor in held}

    @property
    def total_bytes(self) -> int:
        return sum(self.bytes_of_storages)

    @contextmanager
    def watch(self) -> Iterator[None]:
        try:
            with saved_tensors_hooks(self._pack, lambda tensor: tensor):
                yield
        finally:
            self._known.clear()

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._known:
            self._known[storage._cdata] = tensor  # held until the end, so that no address comes twice
            self.bytes_of_storages.append(storage.nbytes())
        return tensor.detach()  # the tensor itself would hold its graph, which holds it: never freed


class Costs(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """What a pass over `batch_size` images has cost since it was last asked."""

    def __init__(self, held: Iterable[Tensor], *, batch_size: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.saved = SavedTensors(held)
        self._batch_size = batch_size
        self._macs = self._taken = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunction():
            output = func(*args, **(kwargs or {}))
        if count := flop_registry.get(func._overloadpacket):
            self._macs += count(*args, **(kwargs or {}), out_val=output) // 2
        return output

    def take(self) -> tuple[int, int, int]:
        """(MACs of an image, bytes saved of an image, bytes saved once a batch)."""
        new = self.saved.bytes_of_storages[self._taken :]
        macs, self._macs, self._taken = self._macs, 0, self._taken + len(new)
        growing = sum(size for size in new if size % self._batch_size == 0)
        return macs // self._batch_size, growing // self._batch_size, sum(new) - growing

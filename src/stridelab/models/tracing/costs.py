"""Counts what autograd really keeps for the backward pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks


class SavedTensors:
    """The memory that a forward pass keeps, each storage once, without that of the tensors in `held`."""

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
        return tensor

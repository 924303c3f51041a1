"""Counts what a forward pass costs while it runs: multiply-accumulates, and memory kept for the backward pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode

from .macs import macs_of

HIDDEN_WORKSPACE = "mkldnn_rnn_layer"
"""Keeps a workspace of oneDNN's for the backward pass, which has no size on tensors without numbers."""


WHOLE = {"aten::linear", "prim::device"}
"""Counted or answered as they are, where a pass in inference mode brings them here undivided."""


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
        return tensor.detach()  # itself would be a cycle: it holds the graph that would hold it


@dataclass(frozen=True, slots=True)
class Cost:
    """What a part of a pass costs for a single image, work and memory of once a pass included."""

    macs: int
    image_bytes: int | None
    """Saved for the backward pass for each image; None: not known."""
    batch_bytes: int
    """Saved once, whatever the batch."""
    uncounted: str = ""
    """The operations whose multiply-accumulates cannot be counted, by name."""


class Costs(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """What a pass over `batch_size` images, a prime that no other size is a multiple of, has cost."""

    def __init__(self, held: Iterable[Tensor], *, batch_size: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.saved = SavedTensors(held)
        self._batch_size = batch_size
        self._macs = self._taken = 0
        self._uncounted: dict[str, None] = {}
        self._hidden = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunction():
            if torch.is_inference_mode_enabled() and func._schema.name not in WHOLE:  # nothing else takes it apart then
                with self:
                    output = func.decompose(*args, **(kwargs or {}))
                if output is not NotImplemented:
                    return output
            output = func(*args, **(kwargs or {}))
        self._hidden |= HIDDEN_WORKSPACE in func._schema.name
        macs = macs_of(func, args, kwargs or {}, output)
        if macs is None or (macs and macs % self._batch_size**2 == 0):  # or it multiplies images with each other
            self._uncounted[func._schema.name.partition("::")[2]] = None
        else:
            self._macs += self._of_an_image(macs)
        return output

    def _of_an_image(self, count: int) -> int:
        """Its share of what grows with the batch; all of what is done once a pass."""
        return count if count % self._batch_size else count // self._batch_size

    def take(self) -> Cost:
        """Since it was last asked."""
        new = self.saved.bytes_of_storages[self._taken :]
        growing = sum(size for size in new if size % self._batch_size == 0)
        kept = None if self._hidden else growing // self._batch_size
        cost = Cost(self._macs, kept, sum(new) - growing, ", ".join(self._uncounted))
        self._macs, self._taken, self._uncounted, self._hidden = 0, self._taken + len(new), {}, False
        return cost

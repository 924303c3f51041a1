"""What the trace knows of a tensor, kept on the tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

Dims = tuple[str, ...]
"""What each dimension counts: n (images), c (channels), h, w, a product such as "chw", "1" or "?"."""

GRID: Dims = ("n", "c", "h", "w")


@dataclass(frozen=True, slots=True)
class TensorOrigin:
    """The layer that made a tensor, what its dimensions count, and the parameters that went into it."""

    layer: str | None = None
    dims: Dims = ()
    params: frozenset[str] = frozenset()


UNSEEN = TensorOrigin()


def origin(tensor: Tensor) -> TensorOrigin:
    known: TensorOrigin = getattr(tensor, "_stridelab_origin", UNSEEN)
    return known


def mark(tensor: Tensor, known: TensorOrigin) -> None:
    tensor._stridelab_origin = known  # type: ignore[attr-defined]


def tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]

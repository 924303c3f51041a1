"""What a rule is asked, and what it may answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from .origins import Dims


class Unfollowed(Exception):
    """Raised by a rule, with the reason why it cannot say what becomes of the grid."""


class NotOnGrid(Unfollowed):
    """Raised of a function that takes its second dimension for channels, and makes a map that is laid out so."""


class NewLayout(NamedTuple):
    """The same feature map, laid out differently: no layer."""

    dims: Dims


class Made(NamedTuple):
    """A new feature map, made by a layer of this kind with these fields of `Layer`."""

    kind: str
    dims: Dims
    fields: dict[str, Any]


@dataclass(frozen=True)
class Call:
    """One call of a torch function that reads at least one followed tensor."""

    name: str
    """The function's bare name: `relu` for F.relu, torch.relu_ and Tensor.relu_ alike."""
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    maps: tuple[Tensor, ...]
    """The followed tensors among the arguments."""
    dims: tuple[Dims, ...]
    """What their dimensions count."""
    output: Any

    def get(self, position: int, name: str, default: Any = None) -> Any:
        if name in self.kwargs:
            return self.kwargs[name]
        return self.args[position] if position < len(self.args) else default


def first(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output[0]

"""Measured, never asserted: each section gives rows of figures with their spread."""

from collections.abc import Callable, Iterator, Mapping

from .plan import plan
from .rows import Row

__all__ = ["SECTIONS", "Row"]


def memory(*, tiny: bool) -> Iterator[Row]:
    """Torch comes with it, and would count in the memory of the processes that other sections start."""
    from .activations import memory

    return memory(tiny=tiny)


SECTIONS: Mapping[str, Callable[..., Iterator[Row]]] = {"memory": memory, "plan": plan}
"""Called with tiny=True or False: a size that only shows that it works, or the one that is reported."""

"""Speed of finished variants, measured apart from training: one at a time, in turns, each in a process of its own."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .cells import CELLS, Cell, Effort
from .figures import Measured, Session

if TYPE_CHECKING:
    from .phase import Finished, is_measured, measure_runs

__all__ = ["CELLS", "Cell", "Effort", "Finished", "Measured", "Session", "is_measured", "measure_runs"]

_LATER = {"Finished": ".phase", "is_measured": ".phase", "measure_runs": ".phase"}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(_LATER[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""The one LightningModule, the fit, and every source of randomness (torch is imported on first use)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .result import Result
from .settings import TrainerConfig

if TYPE_CHECKING:
    from .fitting import fit
    from .recorder import Progress, Recorder

__all__ = ["Progress", "Recorder", "Result", "TrainerConfig", "fit"]

_TORCH = {"fit": ".fitting", "Progress": ".recorder", "Recorder": ".recorder"}


def __getattr__(name: str) -> Any:
    if name in _TORCH:
        return getattr(import_module(_TORCH[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

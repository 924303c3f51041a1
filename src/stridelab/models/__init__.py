"""From choices to a layer plan, and from a layer plan to a torch module and back (torch is imported on first use)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .families import FAMILIES, layer_plan
from .settings import ModelConfig

if TYPE_CHECKING:
    from .build import build
    from .trace import geometry_of, trace

__all__ = ["FAMILIES", "ModelConfig", "build", "geometry_of", "layer_plan", "trace"]

_TORCH = {"build": ".build", "trace": ".trace", "geometry_of": ".trace"}


def __getattr__(name: str) -> Any:
    if name in _TORCH:
        return getattr(import_module(_TORCH[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

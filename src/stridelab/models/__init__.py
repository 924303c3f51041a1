"""From choices to a layer plan here; `build` and `trace` (which need torch) go from plan to module and back."""

from typing import TYPE_CHECKING, Any

from .families import FAMILIES, layer_plan
from .settings import ModelConfig

if TYPE_CHECKING:
    from .trace import geometry_of

__all__ = ["FAMILIES", "ModelConfig", "geometry_of", "layer_plan"]


def __getattr__(name: str) -> Any:
    if name == "geometry_of":
        from .trace import geometry_of

        return geometry_of
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

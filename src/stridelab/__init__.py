"""What do stride and padding do to a CNN, what do they cost, and how sure are we?"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .models.trace import geometry_of

__all__ = ["geometry_of"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "geometry_of":
        from .models.trace import geometry_of

        return geometry_of
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

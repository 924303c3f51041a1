"""What do stride and padding do to a CNN, what do they cost, and how sure are we?"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import Sweep, load_sweep, plan, sweep
    from .cli.own_file import main
    from .data.catalog.user import dataset
    from .models.surgery import set_strides
    from .models.trace import geometry_of
    from .models.user_family import family

__all__ = ["Sweep", "dataset", "family", "geometry_of", "load_sweep", "main", "plan", "set_strides", "sweep"]
__version__ = "0.1.0"
WHERE = {
    "Sweep": "api",
    "load_sweep": "api",
    "plan": "api",
    "sweep": "api",
    "dataset": "data.catalog.user",
    "family": "models.user_family",
    "geometry_of": "models.trace",
    "main": "cli.own_file",
    "set_strides": "models.surgery",
}
"""Loaded when they are asked for: torch takes seconds."""


def __getattr__(name: str) -> Any:
    if name in WHERE:
        return getattr(import_module(f".{WHERE[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class _Room(ModuleType):
    """The package `stridelab.sweep` or `stridelab.plan`, which is also the function of that name."""

    def __call__(self, **keys: Any) -> Any:
        return getattr(import_module(".api", __name__), self.__name__.rpartition(".")[2])(**keys)


class _Package(ModuleType):
    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("sweep", "plan") and isinstance(value, ModuleType):  # by the import of that package
            value.__class__ = _Room
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package

"""Families of the user's: a function that returns a module, and keys `model.*` that are its arguments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, make_dataclass
from functools import partial
from importlib import metadata
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from stridelab.system.user_code import FunctionSource, shown, source_of

from .families import FAMILIES, Family
from .module_plan import ModuleConfig, traced
from .settings import ModelConfig, Pair

if TYPE_CHECKING:
    from torch import nn

F = TypeVar("F", bound=Callable[..., Any])
GIVEN = ("in_channels", "num_classes", "input_size")
TYPES = (int, float, bool, str)
USER_FAMILIES: dict[str, UserFamily] = {}
USER_SETTINGS: set[type] = set()


@dataclass(frozen=True)
class UserFamily:
    function: Callable[..., Any]
    source: FunctionSource
    code: str
    """`mine.py <digest> <version>` when it was loaded: what is edited later is not what this process trains."""

    @property
    def said(self) -> str:
        return f"{self.function.__qualname__} of {self.source.name}"


def family(name: str) -> Callable[[F], F]:
    """Register a function as `model=NAME`: `(*, in_channels, num_classes, input_size, ...) -> nn.Module`, whose further
    arguments, with their defaults, are keys `model.*`. Raises ValueError for a name that is taken, and for an argument
    without a default."""

    def register(function: F) -> F:
        source = source_of(function)
        known = USER_FAMILIES.get(name)
        if name in FAMILIES and not (known and is_same(known, function, source)):
            by = f" by {known.said}" if known else ""
            raise ValueError(f"the family {name!r} of {source.name} is taken{by}; give it another name.")
        settings = settings_of_function(name, function)
        code = f"{source.name} {source.digest} {source.version}".rstrip()
        USER_FAMILIES[name] = UserFamily(function, source, code)
        make = UserModule(name, function)
        FAMILIES[name] = Family(partial(traced, make), settings, make)
        return function

    return register


def is_same(known: UserFamily, function: Callable[..., Any], source: FunctionSource) -> bool:
    """A file that is run again, or a notebook's cell."""
    return known.source.path == source.path and known.function.__qualname__ == function.__qualname__


@dataclass(frozen=True)
class UserModule:
    """What makes the modules of a family, its errors in one sentence."""

    name: str
    function: Callable[..., Any]

    def __call__(
        self, config: ModuleConfig, *, in_channels: int, num_classes: int, input_size: Pair, without_numbers: bool
    ) -> nn.Module:
        from torch import nn

        own = USER_FAMILIES[self.name]
        given = {"in_channels": in_channels, "num_classes": num_classes, "input_size": input_size}
        taken = signature(own.function).parameters
        keys = [one.name for one in fields(config) if one.name not in COMMON]
        try:
            module = own.function(
                **{key: value for key, value in given.items() if key in taken},
                **{key: getattr(config, key) for key in keys},
            )
        except Exception as error:
            raise ValueError(f"model={self.name}: {own.said} raised {shown(error)}") from error
        if not isinstance(module, nn.Module):
            raise ValueError(f"model={self.name}: {own.said} returned a {type(module).__name__}, not an nn.Module")
        return module


COMMON = {one.name for one in fields(ModuleConfig)}


def settings_of_function(name: str, function: Callable[..., Any]) -> type[ModuleConfig]:
    """A frozen dataclass with a field for each argument of the function's own."""
    columns: list[tuple[str, Any, Any]] = [("family", str, field(default=name))]
    for one in signature(function).parameters.values():
        if one.name in GIVEN or one.kind is Parameter.VAR_KEYWORD:
            continue
        if one.name in COMMON or one.kind is Parameter.VAR_POSITIONAL:
            raise ValueError(f"family {name!r}: {function.__qualname__} cannot have an argument {one.name!r}.")
        if one.default is Parameter.empty:
            raise ValueError(
                f"family {name!r}: the argument {one.name!r} of {function.__qualname__} needs a default; of those "
                f"without, only {', '.join(GIVEN)} are filled in."
            )
        columns.append(column(name, function, one))
    made = make_dataclass(f"{name.title()}Config", columns, bases=(ModuleConfig,), frozen=True)
    USER_SETTINGS.add(made)
    made.__reduce__ = reduce  # type: ignore[method-assign, assignment]
    return made


def column(name: str, function: Callable[..., Any], one: Parameter) -> tuple[str, Any, Any]:
    """Annotated, or else of its default's type; lists are any."""
    default = tuple(one.default) if isinstance(one.default, list) else one.default
    try:
        hint = get_type_hints(function).get(one.name, type(default))
    except NameError:  # a name that only type checkers import
        hint = type(default)
    if hint not in TYPES:
        hint = Any
    if not is_plain(default):
        raise ValueError(
            f"family {name!r}: the default of {one.name!r} of {function.__qualname__} is a {type(default).__name__}; "
            "a key holds numbers, text, true, false, null, or a list of them."
        )
    return one.name, hint, field(default=default)


def is_plain(value: object) -> bool:
    if isinstance(value, tuple):
        return all(map(is_plain, value))
    return value is None or isinstance(value, int | float | str)


def reduce(config: ModuleConfig) -> tuple[Any, ...]:
    """Another process makes these settings with the class that it makes of the same source."""
    values = {one.name: getattr(config, one.name) for one in fields(config)}
    return restore, (config.family, USER_FAMILIES[config.family].source, values)


def restore(name: str, source: FunctionSource, values: dict[str, Any]) -> ModuleConfig:
    if name not in FAMILIES:
        source.load()
    made = FAMILIES[name].settings(**values)
    assert isinstance(made, ModuleConfig)
    return made


PACKAGES = ("torchvision", "timm")


def user_code(config: ModelConfig) -> str:
    """What makes the network where we do not: `mine.py <digest>`, `torchvision 0.29.0`; empty where we do."""
    if own := USER_FAMILIES.get(config.family):
        return own.code
    return f"{config.family} {metadata.version(config.family)}" if config.family in PACKAGES else ""

"""`sweep.plans`: a space of plans in words, such as `strides in {1,2,3}, padding in {half,valid}, macs<=5M, field>=15`.
Read by a small grammar; nothing of it is evaluated as code."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from itertools import product
from typing import Any, get_type_hints

from stridelab.text import number_or_word

from .overrides import LAYERS
from .schema import schema_of_all

EXAMPLE = "'strides in {1,2,3}, padding in {half,valid}, macs<=5M, field>=15'"
BOUNDS: Mapping[str, str] = {
    "macs": "multiply-accumulates of one image",
    "params": "parameters",
    "memory": "predicted training memory in MiB",
    "field": "receptive field of the last map, pixels",
    "effective_stride": "pixels of the image between neighbours of the last map",
    "map": "side of the last map",
}
"""What a condition can limit. Of height and width the larger counts, of the last map the smaller."""
OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}
UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
CONDITION = re.compile(r"(?:(each|all)\s+)?([\w.*]+)\s*(<=|>=|<|>|=|\bin\b)\s*(.+)", re.DOTALL)
SETS = re.compile(r",(?![^{}]*\})")
"""The commas between conditions."""
VALUE = re.compile(r"[\w.+-]+")
LAYER_SETTINGS = ("stride", "padding", "dilation", "kernel_size")
EACH = ("model.strides", "model.kernel_sizes", "model.dilations")
"""Keys whose layers are independent of each other unless `all` says otherwise."""


@dataclass(frozen=True)
class Domain:
    """The values of a setting: of all layers together, or of each."""

    key: str
    values: tuple[Any, ...]
    each: bool

    def points(self, num_layers: int) -> list[Any]:
        return [list(point) for point in product(self.values, repeat=num_layers)] if self.each else list(self.values)


@dataclass(frozen=True)
class Bound:
    """A condition on what a plan costs or sees."""

    text: str
    figure: str
    operator: str
    limits: tuple[float, ...]

    def holds(self, figure: float) -> bool:
        return any(OPERATORS[self.operator](figure, limit) for limit in self.limits)


@dataclass(frozen=True)
class PlanSpace:
    domains: tuple[Domain, ...]
    bounds: tuple[Bound, ...]


@cache
def parse_plans(text: str) -> PlanSpace:
    """ValueError names the condition that cannot be read, and what would be one.

    >>> parse_plans("strides in {1,2}, macs<=5M").bounds[0].limits
    (5000000.0,)
    """
    found = [condition(part.strip()) for part in SETS.split(text)]
    domains = tuple(one for one in found if isinstance(one, Domain))
    keys = [one.key for one in domains]
    if repeated := next((key for key in keys if keys.count(key) > 1), None):
        raise ValueError(f"sweep.plans: {repeated} has two sets of values; give it one.")
    return PlanSpace(domains, tuple(one for one in found if isinstance(one, Bound)))


def condition(text: str) -> Domain | Bound:
    if (match := CONDITION.fullmatch(text)) is None:
        raise ValueError(
            f"sweep.plans: cannot read {text!r}; conditions are KEY in {{A,B}} and BOUND<=NUMBER (or >=, <, >, =), "
            f"with commas between, such as {EXAMPLE}."
        )
    quantity, name, sign, right = match.groups()
    if name in BOUNDS and not quantity:
        return bound(text, name, sign, right)
    key = key_of(name, text)
    if sign != "in":
        raise ValueError(f"sweep.plans: {text}: a setting takes a set of values: {name} in {{...}}.")
    values = tuple(dict.fromkeys(typed(value) for value in members(text, right)))
    lists = any(isinstance(value, str) and "-" in value.strip("-") for value in values)
    if lists and quantity == "each":
        raise ValueError(f"sweep.plans: {text}: {values[0]} is a value for all layers together; leave out `each`.")
    return Domain(key, values, each=not lists and (quantity == "each" or (key in EACH and quantity != "all")))


def bound(text: str, name: str, sign: str, right: str) -> Bound:
    numbers = members(text, right) if sign == "in" else [right.strip()]
    return Bound(text, name, "=" if sign == "in" else sign, tuple(number(text, one) for one in numbers))


def members(text: str, right: str) -> list[str]:
    inner = right.strip()
    found = [one.strip() for one in inner[1:-1].split(",")]
    if not (inner.startswith("{") and inner.endswith("}")) or not all(VALUE.fullmatch(one) for one in found):
        raise ValueError(f"sweep.plans: cannot read {text!r}; a set of values is {{A,B,...}} of words and numbers.")
    return found


def number(text: str, value: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kMGT]?)", value)
    if match is None:
        raise ValueError(f"sweep.plans: {text}: {value!r} is not a number, such as 15, 0.5M or 800k.")
    return float(match[1]) * UNITS[match[2]]


def typed(value: str) -> Any:
    if value in ("true", "false", "null"):
        return {"true": True, "false": False, "null": None}[value]
    return number_or_word(value)


def key_of(name: str, text: str) -> str:
    """`model.strides` for strides, `model.set.conv1.stride` for conv1.stride; a full key as it is."""
    known = settings()
    layer, _, attribute = name.rpartition(".")
    if f"model.{name}" in known:
        return f"model.{name}"
    if name in known or name.startswith(LAYERS):
        return name
    if layer and layer.split(".")[0] not in ("trainer", "data", "model") and attribute in LAYER_SETTINGS:
        return LAYERS + name
    choices = [*BOUNDS, *(key.removeprefix("model.") for key in known)]
    near = get_close_matches(name, choices, n=3)
    guess = f" Did you mean {' or '.join(near)}?" if near else ""
    raise ValueError(
        f"sweep.plans: {text}: {name} is neither a setting nor a bound.{guess} Bounds: {', '.join(BOUNDS)}; settings: "
        f"those of the network (strides, padding, ..., conv1.stride), trainer.* and data.*."
    )


@cache
def settings() -> frozenset[str]:
    schema = get_type_hints(schema_of_all())
    return frozenset(
        f"{section}.{name}" for section in ("model", "trainer", "data") for name in get_type_hints(schema[section])
    )


def refuse_twice(domains: Sequence[Domain], given: Sequence[str]) -> None:
    if twice := next((one.key for one in domains if one.key in given), None):
        raise ValueError(f"{twice} is given twice: in sweep.plans and as {twice}=...; leave one out.")

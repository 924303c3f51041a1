"""What a person chooses about a network, in one normal form: what the settings of all families are made with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any

from stridelab.geometry import parse_padding
from stridelab.text import by, parts, side

Pair = tuple[int, int]


@dataclass(frozen=True)
class ModelConfig:
    """What every family's settings have; the family's own fields come after it, in a class of its own."""

    family: str = "cnn"
    """Which entry of `FAMILIES` turns these settings into a layer plan."""


def each_layer(one: str = "", *, uniform: bool = False) -> Mapping[str, Any]:
    """Metadata of a field that is one value for all layers or one a layer.

    one: what one layer's value is called as an MLflow parameter, `stride` for stride_1, stride_2, ...;
    uniform: spelled as a single word where all layers agree.
    """
    return {"one": one, "uniform": uniform}


def require_choice(key: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"{key}={value!r} is not one of its choices; choose one of {', '.join(choices)}.")


def unknown_choice(key: str, value: object, choices: Sequence[str], *, what: str) -> str:
    """The sentence for a name that is none of many; it gives the nearest."""
    near = get_close_matches(str(value), choices, n=3, cutoff=0.5) or sorted(choices)[:5]
    return f"{key}={value!r} is not {what}; the nearest names are {', '.join(near)}"


def per_layer(name: str, value: object, *, count: int | None, parse: Callable[[str, object], Any]) -> tuple[Any, ...]:
    """One parsed entry a layer; `count` None means that this field decides how many layers there are."""
    key = f"model.{name}"
    value = parts(value, "-")
    if not isinstance(value, list | tuple):
        return (parse(key, value),) * (count or 1)
    if not value:
        raise ValueError(f"{key}=[] names no layer; give at least one entry.")
    if count is not None and len(value) != count:
        raise ValueError(
            f"{key}={spell(value)} has {len(value)} entries, but model.channels has {count} layers; "
            f"give one entry a layer, or a single value for all."
        )
    return tuple(parse(f"{key}[{index}]", entry) for index, entry in enumerate(value))


def positive(key: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{key}={value!r} must be a whole number of at least 1.")
    return value


def pair(key: str, value: object) -> Pair:
    """An int, `[height, width]` or the text `1x2`, as (height, width)."""
    value = parts(value, "x")
    if isinstance(value, list | tuple):
        if len(value) != 2:
            raise ValueError(f"{key}={spell(value)} must be a whole number or [height, width].")
        return positive(key, value[0]), positive(key, value[1])
    number = positive(key, value)
    return number, number


def padding_policy(key: str, value: object) -> Any:
    """The policy as it was written, once `parse_padding` has accepted it; lists become tuples."""
    value = tuple(value) if isinstance(value, list) else value
    try:
        parse_padding(value)
    except ValueError as error:
        reason = str(error)
        joint = "=" if reason.startswith(repr(value)) else f"={value!r}: "
        raise ValueError(f"{key}{joint}{reason.rstrip('.')}.") from None
    return value


def spell(value: object) -> str:
    """A per-layer value as a person would type it: `1-2-2`, `1x2-2-2`, `same`."""
    if isinstance(value, list | tuple):
        return "-".join(spell_entry(entry) for entry in value)
    return spell_entry(value)


def spell_entry(entry: object) -> str:
    if isinstance(entry, list | tuple):
        return side(entry) if len(entry) == 2 else by(entry)
    return str(entry)


def spell_field(config: ModelConfig, name: str) -> str:
    """A field of `config` as a person would type it; empty where its family has no such field."""
    value = getattr(config, name, "")
    if isinstance(value, tuple) and metadata(config, name).get("uniform") and len(set(value)) == 1:
        return spell_entry(value[0])
    return spell(value)


def metadata(config: ModelConfig, name: str) -> Mapping[str, Any]:
    return next((one.metadata for one in fields(config) if one.name == name), {})

"""From the JSON that a run left to a typed `Config`. Plain data and our own dataclasses: nothing in it can run."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

from stridelab.config import Config
from stridelab.config.schema import schema_of

WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}


@dataclass(frozen=True)
class Rebuilt:
    config: Config
    missing: tuple[str, ...]
    """Keys that the run's version did not have; they take this version's defaults."""


def rebuild(content: Any) -> Rebuilt:
    """ValueError names keys that this version does not know, and values that do not fit."""
    schema = schema_at(content)
    if unknown := list(unknown_keys(schema, content)):
        raise ValueError(
            f"config.json has keys that this version of Stridelab does not know: {', '.join(unknown)}. Another "
            "version recorded it; go back to the code of its commit, and reproduce it there."
        )
    return Rebuilt(Config(**vars(built(schema, content))), tuple(missing_keys(schema, content)))


def schema_at(content: Any) -> type[Any]:
    """With the settings of the family that the run's network is of."""
    model = content.get("model") if isinstance(content, dict) else None
    return schema_of(model.get("family", "cnn") if isinstance(model, dict) else "cnn")


def unknown_keys(schema: type[Any], content: Any, at: str = "") -> Iterator[str]:
    hints = get_type_hints(schema)
    if not isinstance(content, dict):
        raise ValueError(f"config.json: {at.rstrip('.') or 'the whole'} must be a mapping of keys to values.")
    for key, value in content.items():
        if key not in hints:
            yield ascii(f"{at}{key}"[:100])[1:-1]
        elif is_dataclass(hints[key]):
            yield from unknown_keys(hints[key], value, f"{at}{key}.")


def missing_keys(schema: type[Any], content: Mapping[str, Any], at: str = "") -> Iterator[str]:
    for key, hint in get_type_hints(schema).items():
        if key not in content:
            yield f"{at}{key}"
        elif isinstance(hint, type) and is_dataclass(hint):
            yield from missing_keys(hint, content[key], f"{at}{key}.")


def built(schema: type[Any], content: Mapping[str, Any], at: str = "") -> Any:
    hints, values = get_type_hints(schema), {}
    for key, value in content.items():
        hint = hints[key]
        if isinstance(hint, type) and is_dataclass(hint):
            values[key] = built(hint, value, f"{at}{key}.")
        elif fits(value, hint):
            values[key] = value
        else:
            raise ValueError(f"config.json: {at}{key}={str(value)[:100]!r} must be {expected(hint)}.")
    return schema(**values)


def fits(value: object, hint: Any) -> bool:
    if hint is Any:
        return True
    if get_origin(hint) in (Union, types.UnionType):
        return any(fits(value, option) for option in get_args(hint))
    if get_origin(hint) is dict:
        return isinstance(value, dict)
    if get_origin(hint) is list:
        return isinstance(value, list) and all(fits(entry, get_args(hint)[0]) for entry in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is hint


def expected(hint: Any) -> str:
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(expected(option) for option in get_args(hint))
    if get_origin(hint) is dict:
        return "a mapping"
    return "a list of text" if get_origin(hint) is list else WORDS.get(hint, str(hint))

"""Hydra's and OmegaConf's complaints, said as key, value, rule and choices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_type_hints

from hydra.core.override_parser.types import Override

from . import safety

WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", list: "a list"}


def check_key(override: Override, schema: type, conf: Path) -> None:
    """Refuse a key that no one reads, and a group's choice that does not exist."""
    safety.check_override(override)
    key = override.key_or_group
    if key.startswith("hydra"):
        return
    if override.is_add() or override.is_delete():
        raise ValueError(f"{override.input_line}: keys can be set (key=value), not added or removed.")
    if (conf / key).is_dir():
        check_choice(override, sorted(path.stem for path in (conf / key).glob("*.yaml")))
    else:
        check_path(key, schema)


def check_choice(override: Override, choices: Sequence[str]) -> None:
    key = override.key_or_group
    for value in chosen_values(override):
        if value not in (*choices, "null"):
            raise ValueError(f"{key}={value} is not one of its choices; choose one of {', '.join(choices)}.")


def chosen_values(override: Override) -> list[str]:
    if override.is_sweep_override():
        return [str(value) for value in override.sweep_string_iterator()]
    return [override.get_value_element_as_str()]


def check_path(key: str, schema: type, *, family: str = "") -> None:
    """Walk `key` down the dataclasses; on the first name that is not there, say what is."""
    walked, node = "", schema
    for name in key.split("."):
        hints = get_type_hints(node) if is_dataclass(node) else {}
        if name not in hints:
            of_family = f" of model.family={family}" if family and walked == "model." else ""
            raise ValueError(unknown(f"{walked}{name}", walked, list(hints), of_family))
        walked, node = f"{walked}{name}.", hints[name]
    if is_dataclass(node):
        keys = ", ".join(f"{key}.{field.name}" for field in fields(node))
        raise ValueError(f"{key} is a group of keys, and conf/{key}/ has no choices; set one of {keys}.")


def unknown(key: str, prefix: str, choices: list[str], of_family: str = "") -> str:
    if not choices:
        return f"{key} is not a key: {prefix.rstrip('.')} holds a value, not further keys."
    close = get_close_matches(key.removeprefix(prefix), choices, n=1)
    guess = f" Did you mean {prefix}{close[0]}?" if close else ""
    return f"{key} is not a key{of_family}.{guess} Keys: {', '.join(prefix + choice for choice in choices)}."


def explain(error: BaseException, schema: type) -> str:
    """One sentence for an error of composition."""
    key = getattr(error, "full_key", None)
    value = getattr(error, "value", None)
    if not key:
        return " ".join(str(error).split())
    rule = expected(str(key), schema)
    said = str(getattr(error, "msg", None) or error).splitlines()[0]
    quoted = said.split("'")[1] if said.startswith("Value '") else value
    return f"{key}={quoted}: {rule} is expected." if rule else f"{key}: {said}"


@cache
def hint(key: str, schema: type) -> Any:
    """The type annotated at `key`; None when there is no such key."""
    node: Any = schema
    for name in key.split("."):
        node = get_type_hints(node).get(name) if is_dataclass(node) else None
    return node


def options(hint: Any) -> tuple[Any, ...]:
    """The members of a union, or the type itself."""
    return get_args(hint) if isinstance(hint, UnionType) else (hint,)


def expected(key: str, schema: type) -> str | None:
    """What the schema wants at `key`, in words."""
    node = hint(key.split("[")[0], schema)
    allowed = [option for option in options(node) if option is not type(None)]
    words = WORDS.get(getattr(allowed[0], "__origin__", allowed[0])) if allowed else None
    optional = type(None) in options(node)
    return f"{words} (or null)" if words and optional else words


def unreadable(overrides: Sequence[str], error: Exception) -> str:
    """The argument that Hydra's grammar refuses, with how to write one."""
    first = str(error).strip().splitlines()[0]
    return (
        f"cannot read the arguments {' '.join(overrides)}: {first}. "
        f"Write key=value, and quote lists: 'model.strides=[1,1,1],[1,2,2]'."
    )

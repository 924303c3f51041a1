"""Hydra's and OmegaConf's complaints, said as key, value, rule and choices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from hydra.core.override_parser.types import Override

from . import safety

WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    list: "a list",
    dict: "{layer.attribute: value, ...}",
}


FAMILIAR = {
    "accumulate_grad_batches": "accumulate",
    "learning_rate": "lr",
    "epochs": "max_epochs",
    "num_epochs": "max_epochs",
    "kernel_size": "kernel_sizes",
    "stride": "strides",
    "pad": "padding",
    "dataset": "name",
}
"""What others call our keys."""
CLOSE = 0.75


def check_key(override: Override, schema: type, files: Sequence[str] | None) -> None:
    """Refuse a key that no one reads; `files`: of a group, its choices."""
    safety.check_override(override)
    if files is None:
        check_path(override.key_or_group, schema)


def check_choices(key: str, found: Sequence[tuple[str, Any]], schema: type, files: Sequence[str] | None) -> None:
    """Refuse a group's choice that does not exist, and a list in quotes, which is a text."""
    for text, value in found:
        if files is not None and text not in (*files, "null"):
            raise ValueError(f"{key}={text} is not one of its choices; choose one of {', '.join(files)}.")
        if isinstance(value, str) and value.startswith("[") and str not in options(hint(key, schema)):
            raise ValueError(
                f"{key}={text}: the quotes make one text of the list; quote for the shell alone: '{key}={value}'."
            )
    if not found:
        choices = f"choose among {', '.join(files)}" if files else "glob() is for groups, whose choices are files"
        raise ValueError(f"{key}: no choice fits; {choices}.")


def check_path(key: str, schema: type, *, family: str = "") -> None:
    """Walk `key` down the dataclasses; on the first name that is not there, say what is."""
    walked, node = "", schema
    for name in key.split("."):
        if get_origin(node) is dict:
            return  # its keys are names of layers
        hints = get_type_hints(node) if is_dataclass(node) else {}
        if name not in hints:
            of_family = f" of model.family={family}" if family and walked == "model." else ""
            raise ValueError(unknown(f"{walked}{name}", walked, list(hints), of_family))
        walked, node = f"{walked}{name}.", hints[name]
    if is_dataclass(node):
        keys = ", ".join(f"{key}.{field.name}" for field in fields(node))
        raise ValueError(f"{key} is a group of keys without choices; set one of {keys}.")


def unknown(key: str, prefix: str, choices: list[str], of_family: str = "") -> str:
    if not choices:
        return f"{key} is not a key: {prefix.rstrip('.')} holds a value, not further keys."
    name = key.removeprefix(prefix)
    close = [FAMILIAR[name]] if FAMILIAR.get(name) in choices else get_close_matches(name, choices, n=1, cutoff=CLOSE)
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
        if get_origin(node) is dict:
            return Any
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

"""Arguments of the smaller doors: a few keys of their own, and the same overrides as train.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def split(arguments: Sequence[str], own: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """(values of `own` keys, given or default; the overrides that are left)."""
    values, overrides = dict(own), []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals:
            keys = ", ".join(f"{name}={default}" for name, default in own.items())
            raise ValueError(f"{argument!r} is not of the form key=value. Keys here, with defaults: {keys}.")
        if key in own:
            values[key] = value
        else:
            overrides.append(argument)
    return values, overrides


def asks_for_help(arguments: Sequence[str]) -> bool:
    return bool({"-h", "--help"} & set(arguments))

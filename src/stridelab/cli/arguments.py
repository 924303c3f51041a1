"""Arguments of the smaller commands: a few keys of their own, and the same overrides as `stridelab train`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

from .program import for_reader
from .refusal import refusing


def run_verb(usage: str, verb: Callable[[Sequence[str]], int | None], arguments: Sequence[str] | None) -> None:
    """Help, or `verb` with what was typed (`arguments` None: sys.argv); SystemExit with a code other than 0."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    code = None
    with refusing():
        if {"-h", "--help"} & set(given):
            print(for_reader(usage))
        else:
            code = verb(given)
    if code:
        sys.exit(code)


HERE = ("paths.", "tracking.", "tracking=", "data.root=", "data.cache_dir=", "data.download=")


def refuse_elsewhere(overrides: Sequence[str], *, why: str, own: str) -> None:
    """ValueError for what a stored run says itself: only where things are here can be given."""
    for override in overrides:
        if not override.startswith(HERE):
            raise ValueError(
                f"{override}: {why}; only {own}, paths.results_dir=, tracking.*=, data.root=, data.cache_dir= and "
                "data.download= can be given."
            )


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

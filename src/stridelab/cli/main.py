"""`stridelab VERB ...`: the one console command. To add a verb: one line in `VERBS`, and its module."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from .program import VERBS


def main(arguments: Sequence[str] | None = None) -> None:
    from .refusal import refusing

    with refusing():
        verb, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
        if verb in ("-h", "--help", "help"):
            print(usage())
        elif verb == "--version":
            from stridelab import __version__

            print(f"stridelab {__version__}")
        elif verb in VERBS:
            import_module(f".{verb}", __package__).main(rest)
        else:
            raise ValueError(f"{verb!r} is not a command; choose one of {', '.join(VERBS)} (stridelab --help).")


def usage() -> str:
    width = max(map(len, VERBS))
    lines = [f"  stridelab {verb:{width}}  {meaning}" for verb, meaning in VERBS.items()]
    return "\n".join(["What do stride and padding do to a CNN, what do they cost, and how sure are we?", "", *lines, "",
                      "stridelab VERB --help says more of each. Settings are key=value everywhere."])  # fmt: skip

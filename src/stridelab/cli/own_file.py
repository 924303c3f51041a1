"""`python mine.py ...`: every command, in a file of the user's that registers networks or data."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """At the end of a file: `python FILE [VERB] key=value ...` is then `stridelab VERB ...`, by default `train`. Does
    nothing where the file is imported, as child processes do."""
    if sys._getframe(1).f_globals.get("__name__") != "__main__":
        return
    from . import main as console
    from . import program, train

    given = list(sys.argv[1:] if arguments is None else arguments)
    program.own_file = sys.argv[0]
    if given and given[0] in program.VERBS:
        console.main(given)
    else:
        train.main(given)

"""`stridelab ui`: short for `stridelab runs ui`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from .runs import main as runs


def main(arguments: Sequence[str] | None = None) -> None:
    runs(["ui", *(sys.argv[1:] if arguments is None else arguments)])

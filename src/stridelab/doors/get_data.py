"""`python scripts/get_data.py data=<name>`"""

from __future__ import annotations

import sys

from .arguments import asks_for_help
from .refusal import refusing

USAGE = """\
Find the files of a data set, or download them.

  python scripts/get_data.py data=fashion_mnist
  python scripts/get_data.py data=mnist data.root=~/datasets"""


def main() -> None:
    if asks_for_help(sys.argv[1:]):
        print(USAGE)
        return
    from stridelab.config import load
    from stridelab.data import fetch

    with refusing():
        config = load(sys.argv[1:])
        print(f"{config.data.name}: {fetch(config.data)}")

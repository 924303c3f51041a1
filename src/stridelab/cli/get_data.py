"""`python scripts/get_data.py data=<name>`"""

from __future__ import annotations

import sys

from stridelab.data.catalog.facts import ImageFiles
from stridelab.data.settings import DataConfig

from .arguments import asks_for_help
from .refusal import refusing

USAGE = """\
Find the files of a data set, or download them; image files are decoded too, so that the first run need not.

  python scripts/get_data.py data=fashion_mnist
  python scripts/get_data.py data=mnist data.root=~/datasets
  python scripts/get_data.py data=image_folder data.root=photos data.size=96"""


def main() -> None:
    if asks_for_help(sys.argv[1:]):
        print(USAGE)
        return
    from stridelab.config import load
    from stridelab.data.files import fetch

    with refusing():
        data = load(sys.argv[1:]).data
        print(f"{data.name}: {fetch(data)}")
        if isinstance(data.files, ImageFiles):
            decode(data)


def decode(data: DataConfig) -> None:
    from stridelab.data import decode
    from stridelab.sweep.decoding import Decoding
    from stridelab.sweep.progress import screen

    with Decoding(screen()) as decoding:
        _, cache = decode.decode(data, checked=False, progress=decoding.event)
    print(f"decoded: {cache.data}")

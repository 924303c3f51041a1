"""`stridelab data data=<name>`"""

from __future__ import annotations

from collections.abc import Sequence

from stridelab.data.catalog.facts import ImageFiles
from stridelab.data.settings import DataConfig

from .arguments import run_verb

USAGE = """\
Find the files of a data set, or download them; image files are decoded too, so that the first run need not.

  stridelab data data=fashion_mnist
  stridelab data data=mnist data.root=~/datasets
  stridelab data data=image_folder data.root=photos data.size=96"""


def main(arguments: Sequence[str] | None = None) -> None:
    run_verb(USAGE, find_data, arguments)


def find_data(arguments: Sequence[str]) -> None:
    from stridelab.config import load
    from stridelab.data.files import fetch

    data = load(arguments).data
    print(f"{data.name}: {fetch(data)}")
    if isinstance(data.files, ImageFiles):
        decode(data)


def decode(data: DataConfig) -> None:
    from stridelab.data import decode
    from stridelab.sweep.progress import Decoding, screen

    with Decoding(screen()) as decoding:
        _, cache = decode.decode(data, checked=False, progress=decoding.event)
    print(f"decoded: {cache.data}")

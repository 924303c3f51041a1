"""`python scripts/benchmark.py <section> [json=PATH] [size=full|tiny]`"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from .arguments import asks_for_help, split
from .refusal import refusing

USAGE = """\
Measure on this machine, one table a section. Nothing else should be running.

  python scripts/benchmark.py plan                    wall time and memory of plan for 1,000 to 100,000 variants
  python scripts/benchmark.py memory                  predicted training memory against the measured one
  python scripts/benchmark.py plan json=plan.json     the rows as JSON too
  python scripts/benchmark.py plan size=tiny          only to see that it works

value is the median of n measurements, spread their inter-quartile range, both in unit."""


def main(arguments: Sequence[str] | None = None) -> None:
    given = list(sys.argv[1:] if arguments is None else arguments)
    if asks_for_help(given) or not given:
        print(USAGE)
        sys.exit(0 if given else 1)
    with refusing():
        benchmark(given[0], given[1:])


def benchmark(name: str, arguments: Sequence[str]) -> None:
    from stridelab.benchmark import SECTIONS
    from stridelab.benchmark.rows import print_rows, write_json

    own, rest = split(arguments, {"json": "", "size": "full"})
    if name not in SECTIONS:
        raise ValueError(f"{name!r} is not a section; choose one of {', '.join(SECTIONS)}.")
    if rest:
        raise ValueError(f"{rest[0]} is not read here; keys: json=PATH size=full|tiny.")
    if own["size"] not in ("full", "tiny"):
        raise ValueError(f"size={own['size']} is not one of its choices; choose one of full, tiny.")
    target = Path(own["json"]).expanduser()
    if not target.parent.is_dir():
        raise ValueError(f"json={own['json']} cannot be written: its folder does not exist.")
    rows = list(SECTIONS[name](tiny=own["size"] == "tiny"))
    print_rows(rows, sys.stdout)
    if own["json"]:
        write_json(rows, target)

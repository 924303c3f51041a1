"""`python -m benchmarks <section> [json=PATH] [size=full|tiny] [key=value ...]`"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from stridelab.cli.arguments import split
from stridelab.cli.refusal import refusing

from . import SECTIONS, Row

OWN = {"json": "", "size": "full"}


def main(arguments: Sequence[str] | None = None) -> None:
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or {"-h", "--help"} & set(given):
        print(usage())
        return
    with refusing():
        try:
            benchmark(given[0], given[1:])
        except KeyboardInterrupt:
            sys.exit(128 + signal.SIGINT)


def usage() -> str:
    calls = {
        " ".join([name, *(f"{key}=..." for key, default in section.keys.items() if default)]): section
        for name, section in SECTIONS.items()
    }
    calls = {f"python -m benchmarks {call}": section for call, section in calls.items()}
    width = max(map(len, calls))
    lines = [f"  {call:{width}}  {section.what}" for call, section in calls.items()]
    return "\n".join(
        [
            "Measure on this machine, one table a section. Nothing else should be running.",
            "",
            *lines,
            "",
            "json=PATH writes the rows as JSON too; size=tiny only shows that a section works.",
            "value is the median of n measurements, spread their inter-quartile range, both in unit.",
        ]
    )


def benchmark(name: str, arguments: Sequence[str]) -> None:
    from .rows import cell, print_rows, write_json

    if name not in SECTIONS:
        raise ValueError(f"{name!r} is not a section; choose one of {', '.join(SECTIONS)}.")
    section = SECTIONS[name]
    own, rest = split(arguments, {**OWN, **section.keys})
    if rest:
        keys = " ".join(["json=PATH", "size=full|tiny", *(f"{key}=..." for key in section.keys)])
        raise ValueError(f"{rest[0]} is not read here; keys: {keys}.")
    target, size = Path(own.pop("json")).expanduser(), own.pop("size")
    if size not in ("full", "tiny"):
        raise ValueError(f"size={size} is not one of its choices; choose one of full, tiny.")
    if not target.parent.is_dir():
        raise ValueError(f"json={target} cannot be written: its folder does not exist.")
    rows: list[Row] = []
    try:
        for row in section.rows(tiny=size == "tiny", **own):
            rows.append(row)
            print(f"{row.name}: {cell(row.value)} {row.unit}", file=sys.stderr, flush=True)
            if target != Path():
                write_json(rows, target)
    finally:  # what was measured until it was cut off counts
        if rows:
            print_rows(rows, sys.stdout)


if __name__ == "__main__":
    main()

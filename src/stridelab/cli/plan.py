"""`stridelab plan key=value ... [format=table|json|csv|markdown|svg|html] [out=PATH]`"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from . import flags
from .arguments import run_verb, split

if TYPE_CHECKING:
    from stridelab.plan.variant_row import Figures, VariantRow

USAGE = """\
Geometry, cost and memory of every variant, before training: exact, without torch, data or files.
Takes the same arguments as stridelab train and expands lists of values as it does with -m.

  stridelab plan                                       the layers of the default network
  stridelab plan model.strides=2-2-2 data=cifar10      the layers of another one
  stridelab plan 'model.strides=[1,1,1],[1,2,2]' model.padding=same,valid
                                                               a line for each of four variants
  stridelab plan experiment=stride_ladder              what an experiment trains
  stridelab plan model.strides=1-2-2,2-2-2 format=svg out=plan.svg
                                                               a drawing: maps, padding, receptive field

  format=table|json|csv|markdown|svg|html
                                        table is for people, json and csv have exact figures, one entry a
                                        variant; svg draws up to 12 variants; html is a page in which strides
                                        and padding can be changed
  out=PATH                              a file instead of the screen; .json, .csv, .md, .svg, .html choose the format

Seeds, and whatever else cannot change a result, make no variants. Impossible variants are listed with the
reason. Exit codes: 0 all variants are possible; 1 one is not, or an argument is wrong. So it can guard a sweep:

  stridelab plan model.strides=1-2-2,2-2-2 && stridelab train -m model.strides=1-2-2,2-2-2"""


def main(arguments: Sequence[str] | None = None) -> None:
    run_verb(USAGE, plan, arguments)


def plan(arguments: Sequence[str]) -> int:
    asked = flags.parse(arguments)
    own, overrides = split(asked.overrides, {"format": "", "out": ""})
    return write_plan(overrides, asked.config_dir, form=own["format"], out=own["out"])


def write_plan(overrides: Sequence[str], config_dir: Path | None, *, form: str, out: str) -> int:
    from stridelab.config.grid import grid_of
    from stridelab.plan.formats import FORMATS, SUFFIXES
    from stridelab.plan.space import rows_of

    name = form or SUFFIXES.get(Path(out).suffix, "table")
    if name not in FORMATS:
        raise ValueError(f"format={name} is not one of its choices; choose one of {', '.join(FORMATS)}.")
    said: list[str] = []
    grid = grid_of(overrides, config_dir=config_dir)
    tally = Tally(rows_of(grid, say=said.append))
    with opened(out) as file:
        FORMATS[name](tally, file)
        if name == "table" and tally.largest is not None and (at_once := on_gpus_here(tally.largest, grid.num_runs)):
            print(f"\n{at_once}", file=file)
    for line in said:
        print(line, file=sys.stderr)
    if out:
        print(f"{out}: {tally}")
    return 1 if tally.impossible else 0


def on_gpus_here(largest: Figures, num_runs: int) -> str:
    """How many of the runs would train at once on GPUs of this machine; empty where it has none."""
    from stridelab.sweep.gpu_jobs import choose_here, run_mib
    from stridelab.system.gpus import visible_gpus

    gpus = visible_gpus()
    return choose_here(largest.config, gpus, need_mib=run_mib(largest), runs=num_runs).said if gpus else ""


class Tally:
    """Counts what passes."""

    def __init__(self, rows: Iterable[VariantRow]) -> None:
        self.rows = rows
        self.variants = self.impossible = 0
        self.largest: Figures | None = None
        """Of those that are to train on a GPU, by the peak of a step."""

    def __iter__(self) -> Iterator[VariantRow]:
        for row in self.rows:
            self.variants += 1
            self.impossible += row.figures is None
            if row.figures is not None and row.figures.config.trainer.accelerator == "gpu":
                self.largest = max(row.figures, self.largest or row.figures, key=lambda one: one.memory.peak_at_least)
            yield row

    def __str__(self) -> str:
        words = f"{self.variants:,} variant{'' if self.variants == 1 else 's'}"
        return f"{words}, {self.impossible:,} impossible" if self.impossible else words


@contextmanager
def opened(path: str) -> Iterator[TextIO]:
    """The screen, or a file that is there when it is complete."""
    if not path:
        yield sys.stdout
        return
    target = Path(path).expanduser()
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with partial.open("w", encoding="utf-8", newline="") as file:
            yield file
        partial.replace(target)
    except OSError as error:
        raise ValueError(f"out={path} cannot be written: {error.strerror}.") from None
    finally:
        partial.unlink(missing_ok=True)


if __name__ == "__main__":
    main()

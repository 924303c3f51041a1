"""Whole sweeps through `train.py -m`, everything on, against bare PyTorch loops of the same networks."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stridelab.config import Config, load
from stridelab.data.contents import contents_of
from stridelab.data.files import fetch
from stridelab.system.processes import usable_cores
from stridelab.tracking.status import RESULT

from . import bare
from .commands import Ended, call, train_command
from .device import is_gpu
from .rows import Row, middle_of

SHORT_RUNS = ("trainer.max_epochs=3",)
TEMPLATE_WORK = (
    *("data=fashion_mnist", "data.train_size=20000", "data.val_size=5000", "data.download=false"),
    *("model.channels=[32,64,128]", "trainer.batch_size=256", "trainer.max_epochs=2"),
)
"""What lightning-hydra-template 2.0.2 was given on another machine, where it took 63 s."""
TINY = ("data.train_size=100", "data.val_size=100", "trainer.max_epochs=1")


@dataclass(frozen=True)
class Grid:
    """Every stride plan with every seed."""

    strides: tuple[str, ...]
    seeds: tuple[int, ...]
    keys: tuple[str, ...]

    def arguments(self) -> list[str]:
        return [f"model.strides={','.join(self.strides)}", f"seed={','.join(map(str, self.seeds))}", *self.keys]

    def configs(self) -> list[Config]:
        return [load([f"model.strides={strides}", *self.keys]) for strides, _ in product(self.strides, self.seeds)]


GPU_GRID = Grid(("1-2-2", "2-1-2", "2-2-1"), tuple(range(8)), ("trainer=gpu",))
AT_ONCE = (6, 4, 8, 2)
"""Runs on one card; the default is 12 there, where cores and memory allow it."""
FIGURES = {"time/fit_s": "fit of a run", "time/total_s": "the whole of a run"}
GPU_TINY = Grid(("1-2-2",), (0, 1), ("trainer=gpu", *TINY))


def rows(*, tiny: bool, device: str = "cpu") -> Iterator[Row]:
    """Bare loops are timed before and after the sweep that they are compared with; of `device=cuda`, see `on_gpu`."""
    if is_gpu(device):
        yield from on_gpu(GPU_TINY if tiny else GPU_GRID)
        return
    tail = TINY if tiny else ()
    short = Grid(("2-2-2", "1-2-2", "2-2-1", "2-1-2")[: 2 if tiny else 4], (0,) if tiny else (0, 1), SHORT_RUNS + tail)
    yield from against_bare(short, f"{len(short.configs())} short runs", share=0.1)
    if tiny:
        return
    yield from growth((1800, 3600, 7200))
    template = Grid(("2-2-2", "1-2-2"), (0, 1), TEMPLATE_WORK)
    try:
        fetch(template.configs()[0].data)
    except FileNotFoundError as why:
        print(f"left out: the work of lightning-hydra-template. {why}", file=sys.stderr)
        return
    yield from against_bare(template, "template's work", share=0.05, goal="; goal 32 s", nchw=True)


def on_gpu(grid: Grid) -> Iterator[Row]:
    """A whole sweep as it is by default, and otherwise: one run at a time without CUDA graphs, as it was before them;
    with so many at once; seeds together; one at a time with graphs. One that fails is left out, and said."""
    count, one_at_a_time = f"{len(grid.configs())} runs", "sweep.jobs=1"
    others: list[tuple[str, ...]] = [(one_at_a_time, "trainer.cuda_graph=false")]
    others += [(f"sweep.jobs={jobs}",) for jobs in AT_ONCE if jobs <= len(grid.configs())]
    others += [("sweep.seeds_together=8",), (one_at_a_time,)]
    chosen: float | None = None
    for keys in [(), *others]:
        name = " ".join(keys) or "as it is by default"
        with TemporaryDirectory(prefix="stridelab-") as folder:
            try:
                ended = sweep([*grid.arguments(), *keys], Path(folder))
            except RuntimeError as error:
                print(f"left out: {name}: {error}", file=sys.stderr)
                continue
            results = results_in(Path(folder))
        for said in {line for _, line in ended.lines if " at once" in line or "CUDA graph" in line}:
            print(f"{name}: {said}", file=sys.stderr)
        ratio = ended.wall_s / chosen if chosen else None
        yield row(f"{count}, {name}{'; ratio to the default' if ratio else ''}", [ended.wall_s], ratio=ratio)
        for metric, what in FIGURES.items():
            yield row(f"{count}, {name}: {what}", [result["metrics"][metric] for result in results])
        chosen = chosen or (None if keys else ended.wall_s)


def against_bare(grid: Grid, name: str, *, share: float, goal: str = "", nchw: bool = False) -> Iterator[Row]:
    """`share`: of each bare loop's images that are really trained on, twice; its time is scaled up."""
    bare, plain = [sum_of_bare(grid, share, channels_last=True)], []
    plain += [sum_of_bare(grid, share, channels_last=False)] if nchw else []
    with TemporaryDirectory(prefix="stridelab-") as folder:
        ended = sweep(grid.arguments(), Path(folder))
        results = results_in(Path(folder))
    bare.append(sum_of_bare(grid, share, channels_last=True))
    plain += [sum_of_bare(grid, share, channels_last=False)] if nchw else []
    cores = usable_cores()
    limit = middle_of(bare).value
    yield row(f"{name}: the bare loops one after the other, channels_last, {cores} threads", bare)
    if nchw:
        yield row(f"{name}: the bare loops, NCHW; ratio to channels_last", plain, ratio=middle_of(plain).value / limit)
    yield row(f"{name}: train.py -m{goal}; ratio to channels_last", [ended.wall_s], ratio=ended.wall_s / limit)
    if not goal:
        yield row(f"{name}: train.py -m beyond the bare loops; goal 8 s", [ended.wall_s - limit])
    yield from stages(ended, name, grid.configs(), results)


def sweep(arguments: Sequence[str], folder: Path) -> Ended:
    return call([*train_command(), "-m", *arguments, "paths.results_dir=results", "plan=off"], folder=folder)


def results_in(folder: Path) -> list[dict[str, Any]]:
    paths = sorted(folder.glob(f"results/runs/*/{RESULT}"))
    return [json.loads(path.read_text()) for path in paths]


def stages(ended: Ended, name: str, configs: Sequence[Config], results: Sequence[dict[str, Any]]) -> Iterator[Row]:
    """Where the wall time went: until the first run began, the runs, and what came after the last."""
    board = [(second, line) for second, line in ended.lines if line.startswith("run ")]
    begun = [second for second, line in board if line.endswith("  started")]
    over = [second for second, line in board if "  test acc " in line]
    assert len(begun) == len(over) == len(configs) == len(results)
    at_once = sum(second < over[0] for second in begun)
    idle = sum(over[-1] - second for second in over[-at_once:])
    slots_s = at_once * (over[-1] - begun[0]) - idle
    worked_s = sum(trained_and_evaluated_s(configs[0], result["metrics"]) for result in results)
    yield row(f"{name}: until the first run begins", [begun[0]])
    yield row(f"{name}: one run's cost beside training and evaluation; goal 0.5 s", [(slots_s - worked_s) / len(over)])
    yield row(f"{name}: after the last run: table, report, store; goal 15 s", [ended.wall_s - over[-1]])


def trained_and_evaluated_s(config: Config, metrics: dict[str, float]) -> float:
    """All runs of a grid have as many images and epochs."""
    trainer, data = config.trainer, config.data
    contents = contents_of(data)
    evaluated = contents.num_val * trainer.max_epochs + contents.facts.num_test
    trained = contents.num_train * trainer.max_epochs / metrics["throughput/train_images_per_s"]
    return trained + evaluated / metrics["throughput/eval_images_per_s"]


def sum_of_bare(grid: Grid, share: float, *, channels_last: bool) -> float:
    """Seconds of all runs' training, one after the other; loops of one network are timed once."""
    seconds = 0.0
    for strides in grid.strides:
        config = load([f"model.strides={strides}", *grid.keys])
        images = contents_of(config.data).num_train * config.trainer.max_epochs * len(grid.seeds)
        seconds += bare_s(config, images, share=share, channels_last=channels_last)
    return seconds


def bare_s(config: Config, images: int, *, share: float, channels_last: bool) -> float:
    """Seconds to train on `images`: one fixed batch in memory, all cores, no metrics, no data loading."""
    trainer = replace(config.trainer, threads=usable_cores(), channels_last=channels_last)
    steps = max(1, round(share * images / trainer.batch_size))
    seconds = bare.seconds(replace(config, trainer=trainer), steps=steps)
    return seconds * images / (steps * trainer.batch_size)


def growth(sizes: Sequence[int]) -> Iterator[Row]:
    """Fit time against the number of training images, one run at a time, the whole of it in its own process."""
    keys = [f"data.train_size={','.join(map(str, sizes))}", "trainer.max_epochs=3", "model.strides=2-2-2"]
    with TemporaryDirectory(prefix="stridelab-") as name:
        sweep([*keys, "sweep.jobs=1", "sweep.report=false"], Path(name))
        metrics = [result["metrics"] for result in results_in(Path(name))]
    fits = sorted(found["time/fit_s"] for found in metrics)
    for size, fit, before in zip(sizes, fits, [None, *fits], strict=False):
        ratio = fit / before if before else None
        yield row(f"fit of 3 epochs of {size:,} images, one thread; ratio to half as many", [fit], ratio=ratio)


def row(name: str, seconds: Sequence[float], *, ratio: float | None = None) -> Row:
    return Row(section="sweep", name=name, unit="s", ratio=ratio, **middle_of(seconds)._asdict())

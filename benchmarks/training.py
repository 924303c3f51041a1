"""The fit of `train.py`, everything on, against bare loops of PyTorch: images a second, in turns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from multiprocessing import get_context
from os import sched_getaffinity
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch.nn import functional as F

from stridelab.config import Config, load
from stridelab.data.load import load as load_data
from stridelab.models.build import build
from stridelab.models.settings import spell
from stridelab.plan import layer_plan_of
from stridelab.tracking.run import Run
from stridelab.training.compiling import compiled
from stridelab.training.feature_maps import FeatureMaps
from stridelab.training.fit import fit
from stridelab.training.module import decay_groups
from stridelab.training.progress import EpochMetrics

from . import usual
from .carrying import Carrier, carrier
from .rows import Row, middle_of

STRIDES = ("1-2-2", "2-2-2")
BATCHES = (256, 64)
CHANNELS = ("[16,32,64]", "[32,64,128]")
ROUNDS, SPAN_S, FIT_S = 5, 1.0, 2.0
"""Turns, and the seconds that a bare loop and the training steps of a fit are to take in each."""
PRECISIONS = {"default": (), "fast": ("trainer=fast",)}
PARTS = ("all", *PRECISIONS, "usual")
RECORDS = ("metrics", "image", "artifact", "tags")
Figures = Mapping[str, float]


def rows(*, tiny: bool, part: str = "all") -> Iterator[Row]:
    """`part`: default, fast, usual (see usual.py), or all of it; tiny, all of it is one fit."""
    if part not in PARTS:
        raise ValueError(f"part={part} is not one of its choices; choose one of {', '.join(PARTS)}.")
    cells = list(full_cells(part)) if not tiny else [] if part == "usual" else [("[4,8,8]", "2-2-2", 64, "default")]
    with carrier(load([])) as carrying, ProcessPoolExecutor(1, mp_context=get_context("spawn")) as untouched:
        for channels, strides, batch, precision in cells:
            words = [f"model.channels={channels}", f"model.strides={strides}", f"trainer.batch_size={batch}"]
            words += [f"trainer.threads={1 if tiny else len(sched_getaffinity(0))}", "trainer.lr=0.02"]
            words += ["data.train_size=1000", "data.val_size=100"] if tiny else []
            cell = Cell(tuple(words), PRECISIONS[precision], span_s=0.05 if tiny else SPAN_S)
            yield from compared(cell, carrying, untouched, rounds=1 if tiny else ROUNDS)
    if part == "usual" or (part == "all" and not tiny):
        yield from usual.rows(tiny=tiny)


def full_cells(part: str) -> Iterator[tuple[str, str, int, str]]:
    """The fast precision at the larger batch only: it is for throughput."""
    for precision, channels, batch, strides in product(PRECISIONS, CHANNELS, BATCHES, STRIDES):
        if part in ("all", precision) and (precision == "default" or batch == max(BATCHES)):
            yield channels, strides, batch, precision


@dataclass(frozen=True)
class Cell:
    """A network, a batch size and a precision to measure."""

    words: tuple[str, ...]
    precision: tuple[str, ...]
    span_s: float

    def config(self, *more: str) -> Config:
        return load([*self.words, *self.precision, *more])


def compared(cell: Cell, carrying: Carrier, untouched: ProcessPoolExecutor, *, rounds: int) -> Iterator[Row]:
    """A fit, a bare loop in its process, a plain loop in a process as PyTorch sets it up; and again."""
    config = cell.config()
    plain = load([*cell.words, "trainer.channels_last=false"])
    speed = bare_images_per_s(config, cell.span_s)
    images = len(load_data(config.data).train)
    epochs = max(2, round(speed * min(FIT_S, 2 * cell.span_s) / images))
    found: defaultdict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        for name, value in fitted(cell.config(f"trainer.max_epochs={epochs}"), carrying).items():
            found[name].append(value)
        found["bare"].append(bare_images_per_s(config, cell.span_s))
        found["plain"].append(untouched.submit(bare_images_per_s, plain, cell.span_s).result())
    yield from rows_of(config, " ".join([*cell.precision, cell.words[0]]), found)


def rows_of(config: Config, where: str, found: Mapping[str, list[float]]) -> Iterator[Row]:
    def row(name: str, of: str, *, than: str | None = None, unit: str = "images/s") -> Row:
        ratio = median(found[of]) / median(found[than]) if than else None
        return Row(
            section="training",
            name=f"{name}, {where}",
            strides=spell(config.model.strides),
            batch=config.trainer.batch_size,
            unit=unit,
            ratio=ratio,
            **middle_of(found[of])._asdict(),
        )

    yield row("bare loop, one batch in memory", "bare")
    yield row("plain loop, NCHW at 32 bits, one batch in memory", "plain")
    yield row("fit, all training steps with their data; ratio to the bare loop", "steps", than="bare")
    yield row("fit, the tracked throughput; ratio to the bare loop", "tracked", than="bare")
    yield row("fit, all training steps with their data; ratio to the plain loop", "steps", than="plain")
    yield row("fit, with validation, checkpoints and set-up; ratio to the bare loop", "whole", than="bare")
    yield row("tracking in fit", "tracking", unit="% of fit")
    yield row("snapshots in fit, their tracking included", "snapshots", unit="% of fit")


def bare_images_per_s(config: Config, span_s: float) -> float:
    """Forward, backward and fused SGD over one batch, nothing else, in the config's precision and layout."""
    torch.set_num_threads(config.trainer.threads)
    trainer, plan = config.trainer, layer_plan_of(config)
    network = build(plan)
    images = torch.randn(trainer.batch_size, *plan.input_size, plan.input_channels).permute(0, 3, 1, 2)
    labels = torch.randint(0, 10, (trainer.batch_size,))
    if trainer.channels_last:
        network = network.to(memory_format=torch.channels_last)
    else:
        images = images.contiguous()
    groups = decay_groups(network, weight_decay=trainer.weight_decay)
    optimizer = torch.optim.SGD(groups, lr=trainer.lr, momentum=trainer.momentum, nesterov=True, fused=True)
    forward: Callable[..., torch.Tensor] = forward_of(network, config)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=trainer.precision == "bf16-mixed"):
            loss = F.cross_entropy(forward(images), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    for _ in range(5):
        step()
    steps, began = 0, perf_counter()
    while perf_counter() - began < span_s:
        step()
        steps += 1
    return steps * trainer.batch_size / (perf_counter() - began)


def forward_of(network: torch.nn.Module, config: Config) -> Callable[..., torch.Tensor]:
    return compiled(network) if config.trainer.compile else network


@dataclass
class Stopwatch:
    """Seconds within wrapped calls, nested ones once; and the spans between an epoch's start and its last step."""

    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    depth: int = 0
    epoch_began: float = 0.0

    def around(self, call: Callable[..., Any], name: str) -> Callable[..., Any]:
        def timed(*args: Any, **options: Any) -> Any:
            began = perf_counter()
            try:
                return call(*args, **options)
            finally:
                self.seconds[name] += perf_counter() - began

        return timed

    def progress(self, event: Mapping[str, Any]) -> None:
        if event.get("step", 0) == event.get("steps", 1):
            self.seconds["steps"] += perf_counter() - self.epoch_began


class TimedRecorder:
    """A run's record whose calls are timed."""

    def __init__(self, run: Run, watch: Stopwatch) -> None:
        self.folder = run.folder
        for name in RECORDS:
            setattr(self, name, watch.around(getattr(run, name), "tracking"))


def fitted(config: Config, carrying: Carrier) -> Figures:
    """A fit with a journal, which another process carries into a store."""
    watch, data = Stopwatch(), load_data(config.data)
    with carrying.run() as run, watched(watch):
        recorder: Any = TimedRecorder(run, watch)
        result = fit(layer_plan_of(config), data, config.trainer, seed=0, recorder=recorder, progress=watch.progress)
    images, fit_s = config.trainer.max_epochs * len(data.train), result.metrics["time/fit_s"]
    return {
        "tracked": result.metrics["throughput/train_images_per_s"],
        "steps": images / watch.seconds["steps"],
        "whole": images / fit_s,
        "tracking": 100 * watch.seconds["tracking"] / fit_s,
        "snapshots": 100 * watch.seconds["snapshots"] / fit_s,
    }


@contextmanager
def watched(watch: Stopwatch) -> Iterator[None]:
    """Time what takes feature maps, and note when an epoch starts."""
    take, start = FeatureMaps.take, EpochMetrics.on_train_epoch_start

    def epoch(*args: Any) -> None:
        watch.epoch_began = perf_counter()
        start(*args)

    try:
        FeatureMaps.take = watch.around(take, "snapshots")  # type: ignore[method-assign]
        EpochMetrics.on_train_epoch_start = epoch  # type: ignore[assignment, method-assign]
        yield
    finally:
        FeatureMaps.take, EpochMetrics.on_train_epoch_start = take, start  # type: ignore[method-assign]

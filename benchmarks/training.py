"""The fit of `train.py`, everything on, against bare loops of PyTorch: images a second, in turns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from multiprocessing import get_context
from statistics import median

from stridelab.config import Config, load
from stridelab.data.load import load as load_data
from stridelab.models.settings import spell_field
from stridelab.system.processes import usable_cores

from . import bare, gpu_training, usual
from .carrying import Carrier, carrier
from .device import is_gpu
from .fitted import fitted
from .rows import Row, middle_of

STRIDES = ("1-2-2", "2-2-2")
BATCHES = (256, 64)
CHANNELS = ("[16,32,64]", "[32,64,128]")
ROUNDS, SPAN_S, FIT_S = 5, 1.0, 2.0
"""Turns, and the seconds that a bare loop and the training steps of a fit are to take in each."""
PRECISIONS = {"default": (), "fast": ("trainer=fast",)}
PARTS = ("all", *PRECISIONS, "usual", "gpu")


def rows(*, tiny: bool, part: str = "all", device: str = "cpu") -> Iterator[Row]:
    """`part`: default, fast, usual (see usual.py), or all of these; tiny, all of it is one fit. gpu (see
    gpu_training.py), which `device=cuda` has alone."""
    if part not in PARTS:
        raise ValueError(f"part={part} is not one of its choices; choose one of {', '.join(PARTS)}.")
    if is_gpu(device) and part not in ("all", "gpu"):
        raise ValueError(f"part={part} is of device=cpu; with device=cuda choose part=gpu.")
    if device == "cuda" or part == "gpu":
        yield from gpu_training.rows(tiny=tiny, device=device)
        return
    cells = list(full_cells(part)) if not tiny else [] if part == "usual" else [("[4,8,8]", "2-2-2", 64, "default")]
    with carrier(load([])) as carrying, ProcessPoolExecutor(1, mp_context=get_context("spawn")) as untouched:
        for channels, strides, batch, precision in cells:
            words = [f"model.channels={channels}", f"model.strides={strides}", f"trainer.batch_size={batch}"]
            words += [f"trainer.threads={1 if tiny else usable_cores()}", "trainer.lr=0.02"]
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
    speed = bare.images_per_s(config, span_s=cell.span_s)
    images = len(load_data(config.data).train)
    epochs = max(2, round(speed * min(FIT_S, 2 * cell.span_s) / images))
    found: defaultdict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        for name, value in fitted(cell.config(f"trainer.max_epochs={epochs}"), carrying).items():
            found[name].append(value)
        without = cell.config(f"trainer.max_epochs={epochs}", "trainer.feature_map_images=0")
        found["without snapshots"].append(fitted(without, carrying)["whole"])
        found["bare"].append(bare.images_per_s(config, span_s=cell.span_s))
        found["plain"].append(untouched.submit(bare.images_per_s, plain, span_s=cell.span_s).result())
    yield from rows_of(config, " ".join([*cell.precision, cell.words[0]]), found)


def rows_of(config: Config, where: str, found: Mapping[str, list[float]]) -> Iterator[Row]:
    def row(name: str, of: str, *, than: str | None = None, unit: str = "images/s") -> Row:
        ratio = median(found[of]) / median(found[than]) if than else None
        return Row(
            section="training",
            name=f"{name}, {where}",
            strides=spell_field(config.model, "strides"),
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
    yield row("fit, the whole of it without snapshots; ratio to with them", "without snapshots", than="whole")

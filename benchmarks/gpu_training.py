"""The fit of `train.py` on one GPU, step as a CUDA graph and eager, against bare loops of both kinds: in turns."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from statistics import median
from traceback import format_exc
from typing import NamedTuple

import torch

from stridelab.config import Config, load
from stridelab.models.settings import spell_field

from . import bare
from .carrying import Carrier, carrier
from .fitted import fitted
from .rows import Row, middle_of

ROUNDS, SPAN_S = 3, 0.4
"""Turns, and the seconds of a bare loop in each."""
EPOCHS, EAGER_EPOCHS, TINY_EPOCHS = 40, 8, 2
"""Of a fit of 7,200 images, the first of which, where a step is recorded, is told apart."""
GPU = ("trainer=gpu", "trainer.lr=0.02")
TINY = ("data.train_size=1000", "data.val_size=100", "model.channels=[4,8,8]", "trainer.lr=0.02")
GRAPH, EAGER, FIT, WHOLE, TRACKED, EAGER_FIT = "bare graph", "bare eager", "fit", "whole", "tracked", "fit, eager"
NAMES = {
    EAGER: "bare loop, eager",
    GRAPH: "bare loop, one CUDA graph a step",
    FIT: "fit, training steps with their data behind the first epoch, as it is by default",
    WHOLE: "fit, all training steps with their data, as it is by default",
    TRACKED: "fit, the tracked throughput, as it is by default",
    EAGER_FIT: "fit, training steps with their data behind the first epoch, trainer.cuda_graph=false",
}


class Cell(NamedTuple):
    channels: str
    strides: str
    batch: int
    precision: str = "32-true"


CELLS = (
    Cell("[16,32,64]", "1-2-2", 256),
    Cell("[16,32,64]", "1-2-2", 64),
    Cell("[16,32,64]", "2-2-2", 256),
    Cell("[32,64,128]", "1-2-2", 256),
    Cell("[128,256,512]", "1-2-2", 512, "bf16-mixed"),
)


def rows(*, tiny: bool, device: str) -> Iterator[Row]:
    """Elsewhere than on cuda it is only tried: there are no graphs, and both fits are one."""
    cells = [Cell("[4,8,8]", "2-2-2", 64)] if tiny else CELLS
    words = (*(GPU if device == "cuda" else ()), *(TINY if tiny else ()))
    with carrier(load([])) as carrying:
        for cell in cells:
            try:
                yield from compared(cell, words, carrying, tiny=tiny)
            except Exception:  # the other cells are worth having
                print(f"left out: {' '.join(map(str, cell))}\n{format_exc()}", file=sys.stderr, flush=True)


def compared(cell: Cell, words: tuple[str, ...], carrying: Carrier, *, tiny: bool) -> Iterator[Row]:
    def config(*more: str) -> Config:
        own = (f"model.channels={cell.channels}", f"model.strides={cell.strides}", f"trainer.batch_size={cell.batch}")
        return load([*words, *own, f"trainer.precision={cell.precision}", *more])

    on_gpu = config().trainer.accelerator == "gpu"
    counts = (TINY_EPOCHS, TINY_EPOCHS) if tiny else (EPOCHS, EAGER_EPOCHS)
    epochs, eager_epochs = (f"trainer.max_epochs={count}" for count in counts)
    found: defaultdict[str, list[float]] = defaultdict(list)
    for _ in range(1 if tiny else ROUNDS):
        found[EAGER].append(bare.images_per_s(config(), span_s=SPAN_S))
        if on_gpu:
            found[GRAPH].append(bare.images_per_s(config(), span_s=SPAN_S, graph=True))
        figures = fitted(config(epochs), carrying)
        found[FIT].append(figures["later steps"])
        found[WHOLE].append(figures["steps"])
        found[TRACKED].append(figures["tracked"])
        found[EAGER_FIT].append(fitted(config(eager_epochs, "trainer.cuda_graph=false"), carrying)["later steps"])
    yield from rows_of(cell, config(), found)


def rows_of(cell: Cell, config: Config, found: Mapping[str, list[float]]) -> Iterator[Row]:
    """Ratios: to the bare graph."""
    where = f"{torch.cuda.get_device_name()}, " if config.trainer.accelerator == "gpu" else ""
    for name, speeds in found.items():
        ratio = median(speeds) / median(found[GRAPH]) if GRAPH in found and name != GRAPH else None
        of = "; ratio to the bare graph" if ratio else ""
        yield Row(
            section="training",
            name=f"{NAMES[name]}{of}, {where}{cell.precision} model.channels={cell.channels}",
            strides=spell_field(config.model, "strides"),
            batch=cell.batch,
            unit="images/s",
            ratio=ratio,
            **middle_of(speeds)._asdict(),
        )

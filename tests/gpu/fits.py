"""Fits in this process, of a second each; equal words are trained once."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl

from stridelab import names
from stridelab.config import Config, load
from stridelab.data import DataConfig
from stridelab.data.load import load as load_data
from stridelab.data.splits import Data
from stridelab.plan import layer_plan_of
from stridelab.training import Result
from stridelab.training.fit import fit
from test_training import Notes, timeless

REHEARSED = os.environ.get("STRIDELAB_GPU") == "rehearse"
ACCELERATOR = "trainer.accelerator=cpu" if REHEARSED else "trainer.accelerator=gpu"
EAGER = "trainer.cuda_graph=false"
SMALL = (
    "data.train_size=1000", "data.val_size=200", "trainer.max_epochs=2", "trainer.batch_size=64", "trainer.lr=0.02",
    "trainer.feature_map_images=1",
)  # fmt: skip
"""16 steps an epoch, the last of 40 images."""
OF_CNN = ("model.channels=[4,8,8]", "model.strides=1-2-2")
needs_gpu = pytest.mark.skipif(REHEARSED, reason="of a real GPU")


@dataclass
class Told(Notes):
    """A recorder that keeps tags, too."""

    told: dict[str, str] = field(default_factory=dict)

    def tags(self, values: Mapping[str, str]) -> None:
        self.told |= values


@dataclass(frozen=True)
class Fit:
    folder: Path
    result: Result
    values: Mapping[tuple[str, int], float]
    step: str
    """How its whole batches were trained: the tag of that name."""

    @property
    def bits(self) -> tuple[Any, ...]:
        """All that must be equal where bits are."""
        result = self.result
        values = {key: value for key, value in self.values.items() if timeless({key[0]: value})}
        return result.init_digest, result.batch_order_digest, result.weights_digest, values


def configured(*words: str) -> Config:
    """On the GPU; the words of a case come after what all have, and win."""
    own = () if any(word.startswith(("model=", "data=", "task=")) for word in words) else OF_CNN
    return load([*SMALL, *own, ACCELERATOR, *words])


@cache
def data_of(config: DataConfig) -> Data:
    return load_data(config)


class Fits:
    def __init__(self, folder: Path) -> None:
        self.folder, self.numbers, self.made = folder, count(), dict[tuple[str, ...], Fit]()

    def __call__(self, *words: str) -> Fit:
        """The one of these words."""
        if words not in self.made:
            self.made[words] = self.again(*words)
        return self.made[words]

    def again(self, *words: str, callbacks: Sequence[pl.Callback] = ()) -> Fit:
        config, notes = configured(*words), Told(self.folder / str(next(self.numbers)))
        result = fit(
            layer_plan_of(config), data_of(config.data), config.trainer, seed=config.seed, recorder=notes,
            ckpt_path=config.ckpt_path, callbacks=callbacks, task=config.task,
        )  # fmt: skip
        return Fit(notes.folder, result, notes.values, notes.told.get(names.STEP, ""))

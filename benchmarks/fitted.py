"""Images a second of one fit as `train.py` makes it, by three clocks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any

import pytorch_lightning as pl

from stridelab.config import Config
from stridelab.data.load import load as load_data
from stridelab.plan import layer_plan_of
from stridelab.tracking.run import Run
from stridelab.training.fit import fit
from stridelab.training.throughput import synchronise

from .carrying import Carrier

RECORDS = ("metrics", "image", "artifact", "tags")
Figures = Mapping[str, float]


class EpochWatch(pl.Callback):
    """Seconds from the start of each epoch to the end of its last step."""

    seconds = first = began = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        synchronise()
        self.began = perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx + 1 == trainer.num_training_batches:
            synchronise()
            self.seconds += perf_counter() - self.began
            self.first = self.first or self.seconds


class TimedRecorder:
    """A run's record whose calls are timed."""

    def __init__(self, run: Run) -> None:
        self.folder, self.seconds = run.folder, 0.0
        for name in RECORDS:
            setattr(self, name, self.timed(getattr(run, name)))

    def timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def calling(*args: Any, **options: Any) -> Any:
            began = perf_counter()
            try:
                return call(*args, **options)
            finally:
                self.seconds += perf_counter() - began

        return calling


def say(event: Mapping[str, Any]) -> None:
    """Also why a fit is not what it should be: without a CUDA graph, say."""
    if "said" in event:
        print(event["said"], file=sys.stderr)


def fitted(config: Config, carrying: Carrier) -> Figures:
    """A fit with a journal, which another process carries into a store."""
    data, watch = load_data(config.data), EpochWatch()
    with carrying.run() as run:
        recorder: Any = TimedRecorder(run)
        result = fit(
            layer_plan_of(config), data, config.trainer, seed=0, recorder=recorder, callbacks=[watch], progress=say
        )
    images, fit_s = config.trainer.max_epochs * len(data.train), result.metrics["time/fit_s"]
    return {
        "tracked": result.metrics["throughput/train_images_per_s"],
        "steps": images / watch.seconds,
        "later steps": (images - len(data.train)) / (watch.seconds - watch.first),
        "whole": images / fit_s,
        "tracking": 100 * recorder.seconds / fit_s,
    }

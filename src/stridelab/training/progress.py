"""What is known while a run trains: metrics an epoch for the records, events a moment for the person."""

from __future__ import annotations

import math
from collections.abc import Mapping
from time import perf_counter
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from stridelab.system.points import point

from .module import Classifier
from .recorder import Progress, Recorder
from .tasks import LearningTask

EVENT_EVERY_S = 0.2


class EpochMetrics(pl.Callback):
    """Records each epoch's means; `final/*` is the last epoch's, `best/*` the best validation's so far."""

    def __init__(self, recorder: Recorder, task: LearningTask) -> None:
        self.recorder, self.task = recorder, task
        self.final: dict[str, float] = {}
        self.history: dict[int, dict[str, float]] = {}

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        trainer.train_dataloader.set_epoch(trainer.current_epoch)  # type: ignore[union-attr]

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, Classifier)
        metrics = module.take_metrics("train") | module.take_metrics("val")
        refuse_divergence(module, epoch=trainer.current_epoch + 1)
        point("epoch.trained")
        self.recorder.metrics(metrics, step=trainer.current_epoch + 1)
        point("epoch.recorded")
        self.history[trainer.current_epoch + 1] = metrics
        self.final |= {f"final/{name.replace('/', '_')}": value for name, value in metrics.items()}
        name, better = self.task.primary, max if self.task.measure.sign > 0 else min
        if (value := metrics.get(f"val/{name}")) is not None:
            self.final[f"best/val_{name}"] = better(self.final.get(f"best/val_{name}", value), value)

    def state_dict(self) -> dict[str, Any]:
        return {"final": dict(self.final), "history": dict(self.history)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.final, self.history = dict(state_dict["final"]), dict(state_dict["history"])

    def record_again(self) -> None:
        """What the checkpoint knows and a power cut may have taken from the journal; the recorder keeps one of each."""
        for epoch, metrics in self.history.items():
            self.recorder.metrics(metrics, step=epoch)


class EarlyStopping(pl.Callback):
    """Ends training after `patience` epochs without a lower validation loss, which a resumed run knows from its
    history."""

    def __init__(self, patience: int, epochs: EpochMetrics) -> None:
        self.patience, self.epochs = patience, epochs

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        trainer.should_stop = epochs_without_gain(self.epochs.history) >= self.patience

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        trainer.should_stop = epochs_without_gain(self.epochs.history) >= self.patience


def epochs_without_gain(history: Mapping[int, Mapping[str, float]]) -> int:
    """Since the first of the lowest validation losses; `history` by epoch, from 1. One that is no number is no gain."""
    losses = {epoch: history[epoch]["val/loss"] for epoch in sorted(history)}
    lowest = min((loss for loss in losses.values() if loss < math.inf), default=None)
    return max(losses, default=0) - next((epoch for epoch, loss in losses.items() if loss == lowest), 0)


class Divergence(pl.Callback):
    """Stops a run whose loss is no number any more, and says at which step: within `Steps.at_once` steps on a CPU;
    elsewhere, where asking costs a synchronisation, at the end of the epoch."""

    def __init__(self) -> None:
        self.losses: list[Tensor] = []

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(module, Classifier)
        self.losses.append(outputs["losses"])
        if batch_idx + 1 == trainer.num_training_batches or self.losses[-1].device.type == "cpu":
            turns, losses, self.losses = len(self.losses), torch.cat(self.losses).tolist(), []
            for step, loss in enumerate(losses, start=(batch_idx + 1 - turns) * module.steps.at_once + 1):
                if not math.isfinite(loss):
                    raise FloatingPointError(
                        f"diverged: the training loss is {loss} in epoch {trainer.current_epoch + 1} at step {step} "
                        f"of {steps_an_epoch(trainer, module)}; lower trainer.lr."
                    )

    def on_validation_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        point("validation.begun")


def refuse_divergence(module: pl.LightningModule, *, epoch: int) -> None:
    """Weights can be lost while the loss still looks sound. Asked together: a GPU is waited for once."""
    sound = {name: values.isfinite().all() for name, values in module.state_dict().items()}
    if torch.stack([one.to(module.device) for one in sound.values()]).all():
        return
    name = next(name for name, one in sound.items() if not one)
    raise FloatingPointError(
        f"diverged: {name.removeprefix('network.')} holds values that are no numbers after epoch {epoch}; lower "
        "trainer.lr."
    )


def steps_an_epoch(trainer: pl.Trainer, module: Classifier) -> int:
    """Fewer than an epoch has where they are limited for debugging."""
    return min(module.steps.an_epoch, int(trainer.num_training_batches) * module.steps.at_once)


class ProgressEvents(pl.Callback):
    """Tells `progress` where training stands, a few times a second at most."""

    def __init__(self, progress: Progress, epochs: EpochMetrics) -> None:
        self.progress, self.epochs, self.told = progress, epochs, 0.0

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(module, Classifier)
        last = batch_idx + 1 == trainer.num_training_batches
        if last or perf_counter() - self.told >= EVENT_EVERY_S:
            self.told = perf_counter()
            known, steps = self.epochs.final, steps_an_epoch(trainer, module)
            self.progress(
                {
                    "epoch": trainer.current_epoch + 1,
                    "epochs": trainer.max_epochs,
                    "step": min((batch_idx + 1) * module.steps.at_once, steps),
                    "steps": steps,
                }
                | {name: known[name] for name in [f"final/val_{self.epochs.task.primary}"] if name in known}
            )

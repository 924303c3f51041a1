"""What is known while a run trains: metrics an epoch for the records, events a moment for the person."""

from __future__ import annotations

import math
from time import perf_counter
from typing import Any

import pytorch_lightning as pl

from .module import Classifier
from .recorder import Progress, Recorder

EVENT_EVERY_S = 0.2


class EpochMetrics(pl.Callback):
    """Records each epoch's means; `final/*` is the last epoch's, `best/*` the best validation's so far."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.final: dict[str, float] = {}

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        trainer.train_dataloader.set_epoch(trainer.current_epoch)  # type: ignore[union-attr]

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, Classifier)
        metrics = module.take_metrics("train") | module.take_metrics("val")
        refuse_divergence(metrics, epoch=trainer.current_epoch + 1)
        self.recorder.metrics(metrics, step=trainer.current_epoch + 1)
        self.final |= {f"final/{name.replace('/', '_')}": value for name, value in metrics.items()}
        if "val/acc" in metrics:
            self.final["best/val_acc"] = max(self.final.get("best/val_acc", 0.0), metrics["val/acc"])

    def state_dict(self) -> dict[str, Any]:
        return dict(self.final)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.final = dict(state_dict)


def refuse_divergence(metrics: dict[str, float], *, epoch: int) -> None:
    loss = metrics.get("train/loss", 0.0)
    if not math.isfinite(loss):
        raise FloatingPointError(f"diverged: the training loss is {loss} in epoch {epoch}; lower trainer.lr.")


class ProgressEvents(pl.Callback):
    """Tells `progress` where training stands, a few times a second at most."""

    def __init__(self, progress: Progress, epochs: EpochMetrics) -> None:
        self.progress, self.epochs, self.told = progress, epochs, 0.0

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        last = batch_idx + 1 == trainer.num_training_batches
        if last or perf_counter() - self.told >= EVENT_EVERY_S:
            self.told = perf_counter()
            known = self.epochs.final
            self.progress(
                {
                    "epoch": trainer.current_epoch + 1,
                    "epochs": trainer.max_epochs,
                    "step": batch_idx + 1,
                    "steps": trainer.num_training_batches,
                }
                | ({"val_acc": known["final/val_acc"]} if "final/val_acc" in known else {})
            )

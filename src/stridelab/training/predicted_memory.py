"""What a training step will hold, from the trainer's settings. No torch here: a plan is read without it."""

from __future__ import annotations

from collections.abc import Sequence

from stridelab.geometry import LayerGeometry, TrainingMemory, training_memory

from .optimizers import OPTIMIZERS
from .settings import EVAL_BATCH_SIZE, TrainerConfig


def predicted_memory(
    layers: Sequence[LayerGeometry],
    trainer: TrainerConfig,
    *,
    steps_at_once: int = 1,
    evaluated: int = EVAL_BATCH_SIZE,
) -> TrainingMemory:
    """Of measured `layers`; `steps_at_once`: see `step_grouping`; `evaluated`: images of a batch without gradients."""
    optimizer = OPTIMIZERS[trainer.optimizer].memory
    on_gpu = trainer.accelerator == "gpu"
    return training_memory(
        layers,
        batch_size=trainer.batch_size,
        optimizer="sgd" if optimizer == "sgd_momentum" and not trainer.momentum else optimizer,
        averaged=trainer.ema > 0,
        precision=trainer.precision,
        accumulate=trainer.accumulate,
        steps_at_once=steps_at_once,
        device="cuda" if on_gpu else "cpu",
        recorded=on_gpu and trainer.cuda_graph and trainer.devices == 1,
        compiled=trainer.compile,
        channels_last=trainer.channels_last,
        evaluated=evaluated,
    )

"""Lightning's trainer, with what is ours in it."""

from __future__ import annotations

from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.profilers import AdvancedProfiler, SimpleProfiler

from .checkpoints import AtomicCheckpointIO
from .ranks import ALONE, DataParallel, Environment, Rank
from .settings import TrainerConfig

PROFILERS = {"simple": SimpleProfiler, "advanced": AdvancedProfiler}


def trainer_of(config: TrainerConfig, folder: Path, *, callbacks: list[pl.Callback], rank: Rank = ALONE) -> pl.Trainer:
    """Its strategy and environment are ours whatever a cluster's variables say."""
    return pl.Trainer(
        max_epochs=config.max_epochs,
        accelerator=config.accelerator,
        devices=rank.of,
        strategy=DataParallel() if rank.of > 1 else "auto",
        precision=config.precision,  # type: ignore[arg-type]
        deterministic=config.deterministic,
        limit_train_batches=config.limit_train_batches,
        limit_val_batches=config.limit_val_batches,
        limit_test_batches=config.limit_val_batches,
        overfit_batches=config.overfit_batches,
        profiler=config.profiler and PROFILERS[config.profiler](dirpath=folder, filename="profile"),
        default_root_dir=folder,
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO(), Environment(rank)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )

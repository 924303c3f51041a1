"""Checkpoints that a crash cannot spoil, and the one to go on from."""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import CheckpointIO

from stridelab.system.files import PARTIAL, replacement
from stridelab.system.points import point

from .checksummed import read_sealed, seal
from .feature_maps import snapshot_epochs
from .module import Classifier
from .progress import epochs_without_gain
from .settings import TrainerConfig

KEPT = 2
PATTERN = "epoch-*.ckpt"
SNAPSHOTS = {"FeatureMaps", "NetworkWeights"}
"""Callbacks whose state is by `<epoch>/...`."""
OWNER = "stridelab"
"""Where a checkpoint says which run it belongs to."""

log = logging.getLogger(__name__)


class AtomicCheckpointIO(CheckpointIO):
    """Plain dicts of tensors, sealed; the old file stays whole until the new one is."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_checkpoint(Path(path), seal(buffer.getvalue()))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: Any = True) -> dict[str, Any]:
        archive = io.BytesIO(read_sealed(Path(path)))
        where = map_location or "cpu"  # Lightning names none: what a GPU saved must load where there is none, too
        return torch.load(archive, map_location=where, weights_only=True)  # type: ignore[no-any-return]

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


def write_checkpoint(path: Path, content: bytes) -> None:
    """A reader sees the old file or the new one, never a part. OSError says how much was to be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with replacement(path) as new, new.open("wb") as file:
            point("checkpoint.opened")
            file.write(content)
            file.flush()
            point("checkpoint.written")
    except OSError as error:
        error.add_note(f"while writing {len(content)} bytes to {path}")
        raise
    point("checkpoint.renamed")


class EpochCheckpoints(pl.Callback):
    """One checkpoint an epoch, after its validation; the newest `KEPT` stay."""

    def __init__(self, folder: Path, *, owner: str) -> None:
        self.folder, self.owner = folder, owner

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        point("checkpoint.begun")
        trainer.save_checkpoint(self.folder / name_of(trainer.current_epoch + 1))
        point("checkpoint.saved")
        for old in by_epoch(self.folder)[:-KEPT] if trainer.is_global_zero else []:
            old.unlink()

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        assert isinstance(pl_module, Classifier)
        recipe = recipe_of(pl_module.config, pl_module.steps.in_all)
        checkpoint[OWNER] = {"owner": self.owner, "epoch": trainer.current_epoch + 1, "recipe": recipe}


@dataclass(frozen=True)
class Start:
    """Where a run begins: from nothing, or from the end of an epoch."""

    path: Path | None = None
    epoch: int = 0
    own: bool = False
    """The checkpoint is this run's, from an earlier attempt."""
    said: tuple[str, ...] = ()
    """What a person should know: files that could not be used."""


def starting_point(folder: Path, *, owner: str, given: str | None) -> Start:
    """The newest sound checkpoint of this very run in `folder`, by epoch and not by date; else the one `given`.
    A damaged file is put aside, and so is one of another run."""
    for partial in folder.glob(f"*{PARTIAL}"):
        partial.unlink()
    said: list[str] = []
    for path in reversed(by_epoch(folder)):
        try:
            mark = owner_of(path)
            if mark["owner"] != owner:
                raise ValueError(f"{path} belongs to another run.")
            if path.name != name_of(mark["epoch"]):
                raise ValueError(f"{path} is of epoch {mark['epoch']}, not what its name says.")
        except (ValueError, OSError, RuntimeError) as error:
            aside = path.with_name(path.name + ".bad")
            path.replace(aside)
            said.append(f"{error} It is put aside as {aside.name}; an older one is used, or none.")
            log.warning(said[-1])
            continue
        return Start(path, mark["epoch"], own=True, said=tuple(said))
    if given is None:
        return Start(said=tuple(said))
    return Start(Path(given), owner_of(Path(given))["epoch"], said=tuple(said))


def adopt(shorter: Path, folder: Path, *, owner: str, max_epochs: int) -> None:
    """Take over the newest checkpoint in `shorter`, of a run that is the beginning of this one, as one of its own; not
    where it has one already, nor where that one is gone or damaged: it is trained from its first step then."""
    if by_epoch(folder) or not (known := by_epoch(shorter)):
        return
    try:
        content = dict(read_checkpoint(known[-1]))
    except (ValueError, OSError):
        return
    content[OWNER] = {**content[OWNER], "owner": owner}
    steps = snapshot_epochs(max_epochs)
    for name in SNAPSHOTS & content["callbacks"].keys():  # halfway is elsewhere in a shorter training
        taken = content["callbacks"][name]
        content["callbacks"][name] = {key: maps for key, maps in taken.items() if int(key.partition("/")[0]) in steps}
    AtomicCheckpointIO().save_checkpoint(content, folder / known[-1].name)


def refuse_unfit_checkpoint(path: Path, config: TrainerConfig, *, count: int) -> None:
    """ValueError unless training as `config` says, on `count` images, can go on from a checkpoint of another run."""
    content = read_checkpoint(path)
    epoch = content[OWNER]["epoch"]
    if epoch >= config.max_epochs:
        raise ValueError(
            f"ckpt_path={path} is of the end of epoch {epoch}, and trainer.max_epochs={config.max_epochs}: nothing is "
            f"left to train; give trainer.max_epochs={epoch + 1} or more."
        )
    history = content["callbacks"]["EpochMetrics"]["history"]
    if config.early_stopping and epochs_without_gain(history) >= config.early_stopping:
        raise ValueError(
            f"ckpt_path={path}: val/loss has not become lower for {epochs_without_gain(history)} epochs, and "
            f"trainer.early_stopping={config.early_stopping}: nothing is left to train."
        )
    num_steps = math.ceil(count / config.images_a_step) * config.max_epochs
    wanted, known = recipe_of(config, num_steps), content[OWNER]["recipe"]
    if wanted != known:
        raise ValueError(
            f"ckpt_path={path} was trained with {known}; this run has {wanted}. A run goes on with the schedule and "
            f"the optimizer that it began with; only trainer.schedule=constant does not depend on trainer.max_epochs."
        )


def recipe_of(config: TrainerConfig, num_steps: int) -> str:
    """What PyTorch would take from the checkpoint, whatever the configuration says."""
    over = "" if config.schedule == "constant" else f" over {num_steps:,} steps"
    said = {"schedule": f"{config.schedule}{over}", "optimizer": config.optimizer}
    said |= {name: f"{getattr(config, name):g}" for name in ("momentum", "weight_decay", "warmup", "ema", "lr")}
    return ", ".join(f"trainer.{name}={value}" for name, value in said.items())


def name_of(epoch: int) -> str:
    return f"epoch-{epoch:04d}.ckpt"


def by_epoch(folder: Path) -> list[Path]:
    return sorted(folder.glob(PATTERN), key=lambda path: (len(path.name), path.name))


def owner_of(path: Path) -> Mapping[str, Any]:
    return read_checkpoint(path)[OWNER]  # type: ignore[no-any-return]


def read_checkpoint(path: Path) -> Mapping[str, Any]:
    """ValueError when the file is damaged, is not ours, or holds more than plain data."""
    archive = io.BytesIO(read_sealed(path))
    try:
        content = torch.load(archive, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"{path} is not a checkpoint that can be read safely: {error}") from None
    if not isinstance(content, dict) or set(content.get(OWNER, ())) != {"owner", "epoch", "recipe"}:
        raise ValueError(f"{path} is not a checkpoint of Stridelab.")
    return content

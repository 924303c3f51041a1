"""Feature maps of a few fixed test images, the same images, channels and steps in every variant."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from .recorder import Recorder

TILE_WIDTH_PX = 512


def snapshot_epochs(epochs: int) -> tuple[int, ...]:
    """Before training (0), after the first epoch, halfway and after the last."""
    return tuple(sorted({0, 1, (epochs + 1) // 2, epochs}))


class FeatureMaps(pl.Callback):
    """Keeps float16 maps for the report and sends one tile grid a layer as an image."""

    def __init__(self, images: Tensor, raw: Tensor, *, channels: int, epochs: int, recorder: Recorder) -> None:
        self.images, self.raw, self.channels = images, raw, channels
        self.steps = snapshot_epochs(epochs)
        self.recorder = recorder
        self.arrays: dict[str, NDArray[Any]] = {}

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.current_epoch == 0:
            self.take(module, step=0)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.current_epoch + 1 in self.steps:
            self.take(module, step=trainer.current_epoch + 1)

    @torch.no_grad()
    def take(self, module: pl.LightningModule, *, step: int) -> None:
        network: Any = module.network
        training = network.training
        network.eval()
        maps = network.feature_maps(self.images.to(module.device), network.conv_layers)
        network.train(training)
        for name, values in maps.items():
            self.arrays[f"{step}/{name}"] = values[:, : self.channels].float().cpu().numpy().astype(np.float16)
        self.show(step)

    def show(self, step: int) -> None:
        taken = [key for key in self.arrays if key.startswith(f"{step}/")]
        for number, key in enumerate(taken, start=1):
            name = f"feature_maps/{number:02d}_{key.partition('/')[2]}"
            self.recorder.image(name, tile_grid(self.arrays[key]), step=step)

    def record_again(self) -> None:
        """See `EpochMetrics.record_again`."""
        for step in sorted({int(key.partition("/")[0]) for key in self.arrays}):
            self.show(step)

    def state_dict(self) -> dict[str, Any]:
        return {key: torch.from_numpy(values) for key, values in self.arrays.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.arrays = {key: values.numpy() for key, values in state_dict.items()}

    def save(self, folder: Path) -> Path:
        """`feature_maps.npz`: float16 [images, channels, height, width] by `<step>/<layer>`, uint8 `images`."""
        path = folder / "feature_maps.npz"
        np.savez_compressed(path, images=self.raw.cpu().numpy(), **self.arrays)  # type: ignore[arg-type]
        return path


def tile_grid(maps: NDArray[np.float16]) -> NDArray[np.uint8]:
    """One row an image, one tile a channel, grey from the layer's least to its greatest value, at most 512 px wide."""
    values = maps.astype(np.float32)
    low, high = float(values.min()), float(values.max())
    grey = ((values - low) / max(high - low, 1e-12) * 255).astype(np.uint8)
    count, channels, height, width = grey.shape
    grid = np.full((count * (height + 1) - 1, channels * (width + 1) - 1), 255, np.uint8)
    for image in range(count):
        for channel in range(channels):
            top, left = image * (height + 1), channel * (width + 1)
            grid[top : top + height, left : left + width] = grey[image, channel]
    return enlarge(grid)


def enlarge(grid: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Nearest neighbour, by a whole factor, to at most `TILE_WIDTH_PX`."""
    factor = max(1, math.floor(TILE_WIDTH_PX / grid.shape[1]))
    return grid.repeat(factor, axis=0).repeat(factor, axis=1)

"""Feature maps of a few fixed test images, after the non-linearity: the same images, channels and steps in every
variant, within a size."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from stridelab import names
from stridelab.models.feature_maps import conv_layers, feature_maps

from .recorder import Recorder

TILE_WIDTH_PX = 512
"""Of a picture whose tiles are enlarged, at most."""
MOST_PX = 2048
"""Of any picture, in both directions: of larger maps fewer tiles are shown."""
SHOWN_IMAGES, SHOWN_CHANNELS = 2, 8
"""In a picture, at most: MLflow's cards are 300 px wide. All that is kept is in the report and the explorer."""
MOST_BYTES = 32 << 20
"""Of all maps that a run keeps, as float16 in memory."""
LARGEST = 65504.0
"""Finite float16."""


def snapshot_epochs(epochs: int) -> tuple[int, ...]:
    """Before training (0), after the first epoch, halfway and after the last, wherever early stopping puts it."""
    return tuple(sorted({0, 1, (epochs + 1) // 2, epochs}))


class Snapshots(pl.Callback):
    """Takes something of the network that is evaluated, at `snapshot_epochs`."""

    def __init__(self, epochs: int) -> None:
        self.steps = snapshot_epochs(epochs)

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.current_epoch == 0:
            self.take(module, step=0)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.should_stop or trainer.current_epoch + 1 in self.steps:
            self.take(module, step=trainer.current_epoch + 1)

    def take(self, module: pl.LightningModule, *, step: int) -> None:
        raise NotImplementedError


class FeatureMaps(Snapshots):
    """Keeps float16 maps for the report and sends one tile grid a layer as an image."""

    def __init__(self, images: Tensor, raw: Tensor, *, channels: int, epochs: int, recorder: Recorder) -> None:
        self.images, self.raw, self.channels = images, raw, channels
        super().__init__(epochs)
        self.recorder = recorder
        self.arrays: dict[str, NDArray[Any]] = {}

    @torch.no_grad()
    def take(self, module: pl.LightningModule, *, step: int) -> None:
        network: Any = module.evaluated
        training = network.training
        network.eval()
        weight = next(network.parameters())
        maps = feature_maps(network, self.images.to(weight.device, weight.dtype), conv_layers(network))
        network.train(training)
        for name, values in maps.items():
            kept = values[:, : self.num_kept(values, layers=len(maps))].float().clamp(-LARGEST, LARGEST)
            self.arrays[f"{step}/{name}"] = kept.cpu().numpy().astype(np.float16)
        self.show(step)

    def num_kept(self, maps: Tensor, *, layers: int) -> int:
        """How many channels of a layer, from the first on: variants with larger maps may keep fewer of the same."""
        count, _, height, width = maps.shape
        share = MOST_BYTES // (len(self.steps) * layers)
        return max(1, min(self.channels, share // (count * height * width * 2)))

    def show(self, step: int) -> None:
        taken = [key for key in self.arrays if key.startswith(f"{step}/")]
        for number, key in enumerate(taken, start=1):
            name = f"feature_maps/{number:02d}_{key.partition('/')[2]}"
            self.recorder.image(name, picture(self.arrays[key]), step=step)

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
        path = folder / names.FEATURE_MAPS_FILE
        np.savez_compressed(path, images=self.raw.cpu().numpy(), **self.arrays)  # type: ignore[arg-type]
        return path


def picture(maps: NDArray[np.float16]) -> NDArray[np.uint8]:
    """The tiles, and beneath them what black and white stand for and which tiles share that scale."""
    maps = shown(maps)
    images, channels = maps.shape[:2]
    low, high = scale_of(maps)
    return captioned(
        tile_grid(maps),
        f"black {low:.3g}, white {high:.3g}",
        f"one scale for these {images} images, {channels} channels",
    )


def shown(maps: NDArray[np.float16]) -> NDArray[np.float16]:
    """The first images and channels, as many as fit."""
    height, width = maps.shape[2:]
    images, channels = max(1, MOST_PX // (height + 1)), max(1, MOST_PX // (width + 1))
    return maps[: min(SHOWN_IMAGES, images), : min(SHOWN_CHANNELS, channels)]


def scale_of(maps: NDArray[np.float16]) -> tuple[float, float]:
    values = np.nan_to_num(maps.astype(np.float32))
    return float(values.min()), float(values.max())


def tile_grid(maps: NDArray[np.float16]) -> NDArray[np.uint8]:
    """One row an image, one tile a channel, grey from the least to the greatest value of all, enlarged to at most
    512 px."""
    low, high = scale_of(maps)
    values = np.nan_to_num(maps.astype(np.float32))
    grey = ((values - low) / max(high - low, 1e-12) * 255).astype(np.uint8)
    count, channels, height, width = grey.shape
    grid = np.full((count * (height + 1) - 1, channels * (width + 1) - 1), 255, np.uint8)
    for image in range(count):
        for channel in range(channels):
            top, left = image * (height + 1), channel * (width + 1)
            grid[top : top + height, left : left + width] = grey[image, channel]
    return enlarge(grid)


def captioned(grid: NDArray[np.uint8], *lines: str) -> NDArray[np.uint8]:
    """Black on white beneath the picture, in a font of fixed size that comes with Pillow."""
    font = ImageFont.load_default_imagefont()
    boxes = [font.getbbox(line) for line in lines]
    line_height = max(int(box[3]) for box in boxes) + 2
    height, width = grid.shape
    wide = max(width, *(int(box[2]) + 2 for box in boxes))
    canvas = Image.new("L", (wide, height + 2 + line_height * len(lines)), 255)
    canvas.paste(Image.fromarray(grid), (0, 0))
    draw = ImageDraw.Draw(canvas)
    for number, line in enumerate(lines):
        draw.text((1, height + 2 + number * line_height), line, fill=0, font=font)
    return np.asarray(canvas)


def enlarge(grid: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Nearest neighbour, by a whole factor, to at most `TILE_WIDTH_PX`."""
    factor = max(1, math.floor(TILE_WIDTH_PX / grid.shape[1]))
    return grid.repeat(factor, axis=0).repeat(factor, axis=1)

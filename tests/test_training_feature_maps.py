"""Snapshots of feature maps: the same images and channels everywhere, one stated scale a picture, bounded in size."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from stridelab.config import load
from stridelab.models.build import build
from stridelab.plan import layer_plan_of
from stridelab.training import feature_maps
from stridelab.training.feature_maps import FeatureMaps, captioned, picture, scale_of, shown, tile_grid
from stridelab.training.randomness import initialise
from test_training import Notes


def taken(
    folder: Path, *overrides: str, size: int = 28, channels: int = 16, times: float = 1.0
) -> tuple[FeatureMaps, dict[str, Any]]:
    """Before training, of two images that are the same in every call; and the pictures that were sent."""
    config = load(["model.channels=[32,32,8]", *overrides])
    network = build(layer_plan_of(config))
    initialise(network, seed=0)
    network.get_submodule("conv1").weight.data *= times
    raw = torch.arange(2 * size * size, dtype=torch.float32).reshape(2, 1, size, size) % 251
    maps = FeatureMaps(raw / 127.5 - 1, raw.to(torch.uint8), channels=channels, epochs=10, recorder=Notes(folder))
    sent: dict[str, Any] = {}
    maps.recorder.image = lambda key, array, step: sent.update({key: array})  # type: ignore[method-assign]
    maps.take(SimpleNamespace(network=network, evaluated=network, device=torch.device("cpu")), step=0)  # type: ignore[arg-type]
    return maps, sent


def test_before_training_channel_k_of_the_first_layer_is_the_same_filter_in_every_variant(tmp_path: Path) -> None:
    """With stride 2, conv1 gives every second unit of what it gives with stride 1: weights, images, channels agree."""
    one, _ = taken(tmp_path, "model.strides=1-2-2")
    two, _ = taken(tmp_path, "model.strides=2-2-1")
    assert one.arrays["0/conv1"].shape == (2, 16, 28, 28)
    np.testing.assert_allclose(
        one.arrays["0/conv1"][:, :, ::2, ::2].astype(float), two.arrays["0/conv1"].astype(float), atol=2e-3
    )


def test_what_is_kept_stays_within_the_size_and_is_the_first_channels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = taken(tmp_path, "model.strides=1-2-2", channels=32)
    monkeypatch.setattr(feature_maps, "MOST_BYTES", 200_000)
    small, _ = taken(tmp_path, "model.strides=1-2-2", channels=32)
    assert len(small.steps) * sum(array.nbytes for array in small.arrays.values()) <= 200_000
    assert small.arrays["0/conv1"].shape[1] < whole.arrays["0/conv1"].shape[1] == 32
    for key, array in small.arrays.items():
        assert array.dtype == np.float16
        assert (array == whole.arrays[key][:, : array.shape[1]]).all()
    monkeypatch.setattr(feature_maps, "MOST_BYTES", 0)
    assert taken(tmp_path)[0].arrays["0/conv1"].shape[1] == 1


def test_a_picture_has_one_scale_and_states_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(feature_maps, "captioned", lambda grid, *said: [captioned(grid, *said), lines.extend(said)][0])
    maps, sent = taken(tmp_path, "model.strides=1-2-2")
    first = maps.arrays["0/conv1"][:, :8]
    low, high = float(first.min()), float(first.max())
    assert lines[:2] == [f"black {low:.3g}, white {high:.3g}", "one scale for these 2 images, 8 channels"]
    grid = tile_grid(first)
    image = sent["feature_maps/01_conv1"]
    assert (image[: grid.shape[0], : grid.shape[1]] == grid).all()
    below = image[grid.shape[0] :]
    assert below.min() == 0, "there is text"
    assert below.shape[0] < 40
    factor = grid.shape[1] // (8 * 29 - 1)
    for index in ((0, 3), (1, 7)):  # any two tiles: grey is the same function of the value
        tile = grid[index[0] * 29 * factor :: factor, index[1] * 29 * factor :: factor][:28, :28]
        expected = (first[index].astype(np.float32) - low) / (high - low) * 255
        assert np.abs(tile - expected).max() <= 1


def test_a_caption_wider_than_the_picture_is_whole() -> None:
    grid = np.full((3, 5), 7, np.uint8)
    found = captioned(grid, "m" * 30)
    assert found.shape[1] > 30 * 5
    assert (found[:3, :5] == 7).all()
    assert (found[:, -1] == 255).all()


def test_pictures_of_large_maps_are_bounded() -> None:
    maps = np.zeros((20, 16, 300, 400), np.float16)
    assert shown(maps).shape == (2, 5, 300, 400)
    assert max(picture(maps).shape) <= feature_maps.MOST_PX + 40
    assert shown(maps[:, :, :28, :28]).shape == (2, 8, 28, 28)
    assert shown(np.zeros((1, 1, 3000, 3000), np.float16)).shape[:2] == (1, 1)


def test_maps_beyond_float16_are_kept_finite_and_what_is_no_number_is_drawn(tmp_path: Path) -> None:
    maps = np.array([[[[np.nan, 1.0], [3.0, 2.0]]]], np.float16)
    assert scale_of(maps) == (0.0, 3.0)
    assert tile_grid(maps).max() == 255
    huge, _ = taken(tmp_path, times=1e30)
    assert np.abs(huge.arrays["0/conv1"]).max() == feature_maps.LARGEST

"""DiffStride (evidence/diffstride.py): against NumPy's FFT, finite differences, and what the paper says of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from numpy.typing import NDArray
from torch import nn

from evidence import ROOT
from evidence.diffstride import DiffStride, diffstride
from evidence.learned import REFERENCE
from stridelab.data.catalog.user import USER_DATASETS
from stridelab.models import CnnConfig, layer_plan
from stridelab.models.build import build
from stridelab.models.families import FAMILIES
from stridelab.models.trace import geometry_of
from stridelab.models.user_family import USER_FAMILIES
from stridelab.training.randomness import initialise

Floats = NDArray[np.float64]


@pytest.fixture(scope="module", autouse=True)
def _registered() -> Iterator[None]:
    """Other tests see the families that ship."""
    yield
    for registry in (FAMILIES, USER_FAMILIES, USER_DATASETS):
        registry.pop("diffstride", None)


def layer(*strides: float, smoothness: float) -> DiffStride:
    made = DiffStride(2, smoothness=smoothness).double()
    with torch.no_grad():
        made.stride.copy_(torch.tensor(strides, dtype=torch.float64))
    return made


def by_fft(maps: Floats, axis: int, stride: float, smoothness: float) -> Floats:
    """DFT, the paper's mask, crop, inverse DFT, along one axis; scaled so that a mean stays."""
    size = maps.shape[axis]
    count = min(size, math.floor(size / stride + 2 * smoothness))
    mask = np.clip((smoothness + size / (2 * stride) - np.abs(np.fft.fftfreq(size, 1 / size))) / smoothness, 0, 1)
    masked = np.moveaxis(np.fft.fft(maps, axis=axis), axis, -1) * mask
    start = size // 2 - count // 2
    cropped = np.fft.ifftshift(np.fft.fftshift(masked, axes=-1)[..., start : start + count], axes=-1)
    return np.moveaxis(np.fft.ifft(cropped, axis=-1).real * count / size, -1, axis)


@pytest.mark.parametrize("strides", [(1.0, 1.0), (2.3, 1.7), (2.0, 4.0), (3.1, 27.0)])
@pytest.mark.parametrize("smoothness", [0.5, 2.0, 4.0])
def test_it_is_the_paper_s_crop_in_the_frequency_domain(strides: tuple[float, float], smoothness: float) -> None:
    for size in ((28, 27), (15, 16)):
        maps = np.random.default_rng(0).standard_normal((2, 3, *size))
        expected = by_fft(by_fft(maps, 2, strides[0], smoothness), 3, strides[1], smoothness)
        found = layer(*strides, smoothness=smoothness)(torch.from_numpy(maps))
        np.testing.assert_allclose(found.detach().numpy(), expected, atol=1e-12)


def test_at_a_fixed_stride_without_a_ramp_it_is_spectral_pooling() -> None:
    """Rippel, Snoek and Adams 2015: the lowest 13 x 9 frequencies of the 2-D DFT, and nothing of the others."""
    maps = np.random.default_rng(1).standard_normal((2, 24, 24))
    spectrum = np.fft.fftshift(np.fft.fft2(maps), axes=(1, 2))[:, 6:19, 8:17]
    expected = np.fft.ifft2(np.fft.ifftshift(spectrum, axes=(1, 2))).real * (13 * 9) / 24**2
    found = layer(2.0, 3.0, smoothness=0.5)(torch.from_numpy(maps)[None])
    np.testing.assert_allclose(found[0].detach().numpy(), expected, atol=1e-12)


def test_what_has_only_low_frequencies_passes_unchanged() -> None:
    """A wave of 3 periods is the same wave on fewer pixels, a constant the same constant, whatever the stride."""
    waves = [torch.cos(2 * math.pi * 3 * torch.arange(n, dtype=torch.float64) / n) + 0.5 for n in (28, 18, 13)]
    for stride, smoothness, wave in ((2.0, 2.0, waves[1]), (3.0, 2.0, waves[2])):
        found = layer(stride, stride, smoothness=smoothness)(waves[0].outer(waves[0])[None, None])
        torch.testing.assert_close(found[0, 0], wave.outer(wave))


def test_at_stride_1_maps_stay_what_they_are() -> None:
    maps = torch.randn(2, 3, 9, 12, dtype=torch.float64)
    torch.testing.assert_close(layer(1.0, 1.0, smoothness=4.0)(maps), maps)
    torch.testing.assert_close(layer(0.3, -2.0, smoothness=4.0)(maps), maps)


@pytest.mark.parametrize("smoothness", [1.0, 4.0])
def test_gradients_of_strides_and_maps_are_those_of_finite_differences(smoothness: float) -> None:
    made = layer(2.3, 1.7, smoothness=smoothness)

    def of(strides: torch.Tensor, maps: torch.Tensor) -> Any:
        return torch.func.functional_call(made, {"stride": strides}, (maps,))

    maps = torch.randn(1, 2, 13, 14, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(of, (made.stride.detach().clone().requires_grad_(), maps))


def test_its_strides_are_learned_and_those_that_are_fixed_are_not() -> None:
    """A target that lies above the layer's frequencies asks for a smaller stride."""
    wave = torch.cos(2 * math.pi * 9 * torch.arange(28) / 28).expand(28, 28)[None, None]
    for learned in (True, False):
        made = DiffStride(2, smoothness=4.0, learned=learned)
        optimizer = torch.optim.SGD(nn.ParameterList([*made.parameters(), torch.zeros(1)]), lr=0.5)
        for _ in range(5):
            optimizer.zero_grad()
            energy = made(wave).square().mean()
            (-energy if learned else -energy.detach().requires_grad_()).backward()
            optimizer.step()
        height, width = made.stride.tolist()
        assert height == 2
        assert (width < 1.9) == learned


def test_its_network_begins_with_the_weights_of_family_cnn_and_the_plan_shows_its_first_strides() -> None:
    ours = build(layer_plan(CnnConfig(channels=(8, 16, 32)), input_channels=1, input_size=(28, 28), num_classes=10))
    theirs = diffstride(in_channels=1, num_classes=10)
    for network in (ours, theirs):
        initialise(network, seed=3)
    own = theirs.state_dict()
    assert {name: one.tolist() for name, one in own.items() if name.endswith("stride")} == {
        "down1.stride": [2, 2],
        "down2.stride": [2, 2],
    }
    for name, weights in ours.state_dict().items():
        assert torch.equal(own[name], weights), name
    measured = geometry_of(theirs, 28)
    assert [one.output_size for one in measured if one.name.startswith("conv")] == [(28, 28), (22, 22), (19, 19)]
    assert measured[-1].receptive_field is None, "it cannot be known behind DiffStride, and is not claimed"
    assert theirs.eval()(torch.rand(2, 1, 28, 28)).shape == (2, 10)


def test_the_page_holds_to_the_runs_that_are_committed() -> None:
    runs = pd.read_csv(REFERENCE / "runs.csv").pivot(index="seed", columns="arm", values="test_acc_pct")
    page = (ROOT / "docs" / "search.md").read_text(encoding="utf-8")
    for row in pd.read_csv(REFERENCE / "contrasts.csv").to_dict("records"):
        d = runs[row["arm"]] - runs[row["against"]]
        interval = scipy.stats.ttest_1samp(d, 0).confidence_interval()
        assert (len(d), row["n"]) == (7, 7)
        assert row["mean_points"] == pytest.approx(d.mean(), abs=0.006)
        assert row["half_width_points"] == pytest.approx((interval.high - interval.low) / 2, abs=0.006)
        assert f"{d.mean():+.1f} ± {(interval.high - interval.low) / 2:.1f}" in page, row["against"]

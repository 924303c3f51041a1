"""Probes of a network's maps, on networks whose answer is known exactly."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from stridelab.config import load
from stridelab.data.catalog.facts import DataSpec
from stridelab.data.splits import Data, Split
from stridelab.geometry import LayerPlan, layer
from stridelab.models.build import build
from stridelab.models.trace import trace
from stridelab.plan import layer_plan_of
from stridelab.probes.aliasing import aliasing
from stridelab.probes.equivariance import effective_receptive_field, equivariance_error, shifted
from stridelab.probes.saturation import saturation
from stridelab.probes.shift import top1_change
from stridelab.probes.trained import Trained
from stridelab.training.randomness import initialise
from stridelab.training.settings import TrainerConfig

DOUBLE = TrainerConfig(precision="64-true", channels_last=False)


def data_of(pixels: Any) -> Data:
    """Test images of these values from 0 to 255, normalised to themselves."""
    images = torch.tensor(np.array(pixels)).to(torch.uint8)
    split = Split(images, torch.zeros(len(images), dtype=torch.int64))
    spec: Any = DataSpec(
        name="made", num_classes=2, class_names=("a", "b"), input_channels=images.shape[1],
        input_size=(images.shape[2], images.shape[3]), num_train=0, num_val=0, num_test=len(images),
        mean=(0.0,), std=(1 / 255,), digest="", source="", licence="",
    )  # fmt: skip
    return Data(split, split, split, spec)


def of_plan(data: Data, *layers: Any, weights: dict[str, torch.Tensor]) -> Trained:
    channels, height, width = data.test.image_shape
    plan = LayerPlan(channels, (height, width), layers)
    network = build(plan).double().eval()
    for name, values in weights.items():
        network.get_submodule(name).weight.data.copy_(values)  # type: ignore[union-attr, operator]
    return Trained(network, data, 0, DOUBLE, torch.device("cpu"), plan=plan)


def noise(*shape: int) -> Any:
    return np.random.default_rng(0).integers(0, 256, shape)


def wave(cycles: int, *, size: int = 16, amplitude: float = 100) -> Any:
    """Along the columns, around 127."""
    line = 127 + amplitude * np.cos(2 * np.pi * cycles * np.arange(size) / size)
    return np.broadcast_to(np.round(line), (1, 1, size, size))


@pytest.mark.parametrize(("cycles", "share"), [(2, 0.0), (4, 0.0), (6, 1.0), (8, 1.0)])
def test_aliasing_is_the_energy_above_the_new_nyquist_frequency(cycles: int, share: float) -> None:
    """Stride 2 keeps what has at most 4 cycles in 16 columns; rounding to bytes adds 1e-5."""
    one = of_plan(
        data_of(wave(cycles)), layer("conv", "down", stride=2, out_channels=1), weights={"down": torch.ones(1)}
    )
    assert aliasing(one)["down"] == pytest.approx(share, abs=1e-4)


def test_aliasing_behind_a_filter_of_known_transfer_function() -> None:
    """[1 2 1] / 4 passes cos(pi f)^2 of the amplitude at f cycles a pixel."""
    pixels = (wave(2).astype(float) - 127) / 2 + (wave(6).astype(float) - 127) / 2 + 127
    kernel = torch.tensor([1.0, 2.0, 1.0]).view(1, 1, 1, 3) / 4
    one = of_plan(
        data_of(np.round(pixels)),
        layer(
            "conv", "blur", kernel_size=(1, 3), padding="half", padding_mode="circular", stride=(1, 2), out_channels=1
        ),
        weights={"blur": kernel},
    )
    low, high = (math.cos(math.pi * cycles / 16) ** 4 for cycles in (2, 6))
    assert aliasing(one)[""] == pytest.approx(high / (low + high), rel=2e-3)


def test_aliasing_is_of_the_largest_layer_and_leaves_the_network_as_it_was() -> None:
    data = data_of(noise(3, 1, 16, 16))
    one = of_plan(
        data,
        layer("conv", "first", kernel_size=2, stride=2, out_channels=1),
        layer("max_pool", "second", kernel_size=2),
        weights={"first": torch.ones(1, 1, 2, 2)},
    )
    found = aliasing(one)
    assert found[""] == max(found["first"], found["second"])
    assert one.network.get_submodule("first").stride == (2, 2)
    with pytest.raises(ValueError, match="not defined for this network: no layer of it has a stride above 1"):
        aliasing(of_plan(data, layer("conv", "one", out_channels=1), weights={}))


def test_a_circular_network_moves_with_the_image_by_its_effective_stride() -> None:
    data = data_of(noise(4, 1, 16, 16))
    circular = {"kernel_size": 3, "padding": "half", "padding_mode": "circular", "out_channels": 3}
    plan = LayerPlan(1, (16, 16), (layer("conv", "one", stride=2, **circular), layer("activation", "relu")))
    network = build(plan)
    initialise(network, seed=1)
    one = Trained(network.double().eval(), data, 0, DOUBLE, torch.device("cpu"), plan=plan)
    found = equivariance_error(one)
    assert found[""] < 1e-12
    assert found["off"] > 0.05, "its map is aliased"


def test_what_is_not_aliased_moves_by_parts_of_a_unit() -> None:
    """An image of low frequencies through a linear layer."""
    down = layer("conv", "down", stride=2, out_channels=1)
    smooth = of_plan(data_of(wave(2)), down, weights={"down": torch.ones(1)})
    rough = of_plan(data_of(wave(6)), down, weights={"down": torch.ones(1)})
    assert equivariance_error(smooth)["off"] < 0.005
    assert equivariance_error(rough)["off"] > 0.1
    with pytest.raises(ValueError, match=r"not defined for this network: the 8x8 units .* 2x2 px apart, do not tile"):
        equivariance_error(of_plan(data_of(noise(1, 1, 15, 15)), down, weights={}))


def test_the_effective_field_of_equal_weights_is_the_theoretical_one() -> None:
    one = of_plan(
        data_of(noise(2, 1, 15, 15)), layer("conv", "box", kernel_size=5, out_channels=2),
        weights={"box": torch.ones(2, 1, 5, 5)},
    )  # fmt: skip
    found = effective_receptive_field(one)
    assert (found[""], found["theoretical"]) == (5.0, 5.0)
    assert found["sigma"] == pytest.approx(math.sqrt(2)), "of 0 to 4"
    assert found["gradient"].sum() == pytest.approx(50)


def test_the_effective_field_counts_what_is_above_two_deviations() -> None:
    """One weight of the 3x3 is 100, the others 4, less than 4.55 of it, or 5."""
    for other, side in ((4.0, 1.0), (5.0, 3.0)):
        weights = torch.full((1, 1, 3, 3), other)
        weights[0, 0, 1, 1] = 100
        one = of_plan(
            data_of(noise(1, 1, 9, 9)), layer("conv", "c", kernel_size=3, out_channels=1), weights={"c": weights}
        )
        assert effective_receptive_field(one)[""] == side


def test_saturation_counts_the_directions_that_a_layer_uses() -> None:
    data = data_of(noise(20, 1, 8, 8))
    same = torch.tensor([1.0, -2.0, 3.0, 0.5]).view(4, 1, 1, 1)
    two = torch.zeros(4, 1, 1, 2)
    two[0, 0, 0, 0] = two[1, 0, 0, 1] = two[2, 0, 0, 1] = 1
    found = saturation(
        of_plan(
            data,
            layer("conv", "same", inputs=("image",), out_channels=4),
            layer("conv", "two", inputs=("image",), kernel_size=(1, 2), out_channels=4),
            weights={"same": same, "two": two},
        )
    )
    assert (found["same"], found["two"], found[""]) == (0.25, 0.5, 0.375)


def test_probes_of_maps_ask_any_module_through_its_traced_plan() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(256, 2)).eval()
    plan = trace(network, 16)
    one = Trained(network.double(), data_of(noise(8, 1, 16, 16)), 0, DOUBLE, torch.device("cpu"), plan=plan)
    assert one.last_map.name == "1"
    assert 0 < aliasing(one)["0"] < 1
    assert 0 < saturation(one)["0"] <= 1
    assert effective_receptive_field(one)["theoretical"] == 3
    assert equivariance_error(one)[""] > 0


def test_one_pixel_changes_the_class_as_counted_by_hand() -> None:
    class Corner(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            bright = images[:, 0, 0, 0] - 100
            return torch.stack([-bright, bright], 1)

    pixels = noise(50, 1, 6, 6)
    found = top1_change(Trained(Corner(), data_of(pixels), 0, DOUBLE, torch.device("cpu")))
    corner = pixels[:, 0, 0, 0] > 100
    moved = [np.zeros(50, bool), pixels[:, 0, 1, 0] > 100, np.zeros(50, bool), pixels[:, 0, 0, 1] > 100]
    assert found[""] == pytest.approx(np.mean([other != corner for other in moved]))
    around = [pixels[:, 0, row, column] > 100 for row, column in ((-1, 0), (1, 0), (0, -1), (0, 1))]
    assert found["circular"] == pytest.approx(np.mean([other != corner for other in around]))


def test_a_probe_of_another_task_is_refused_before_anything_is_created() -> None:
    with pytest.raises(ValueError, match=r"probes=localisation_error is defined for task=locate, and not for classify"):
        load(["probes=[localisation_error]"])
    with pytest.raises(ValueError, match=r"probes=shift_consistency is defined for task=classify, and not for segment"):
        load(["probes=[shift_consistency]", "task=segment", "data=canvas"])


def test_maps_of_a_network_on_a_gpu_come_to_the_processor() -> None:
    """Where probes go on with them, beside what they made there. On tensors without content: there is no GPU here."""
    config = load(["model.channels=[4,8]", "model.strides=1-2", "trainer.accelerator=gpu"])
    plan, gpu = layer_plan_of(config), torch.device("cuda")
    data = data_of(noise(4, 1, 28, 28))
    with FakeTensorMode(allow_non_fake_inputs=True):
        with gpu:
            network = build(plan).eval()
        on_gpu = Trained(network, data, 0, config.trainer, gpu, plan=plan)
        assert {weights.device.type for weights in network.parameters()} == {"cuda"}
        found = on_gpu.maps(data.test.take(slice(4)), ["conv1", "conv2"])
        assert {name: (maps.device.type, tuple(maps.shape)) for name, maps in found.items()} == {
            "conv1": ("cpu", (4, 4, 28, 28)),
            "conv2": ("cpu", (4, 8, 14, 14)),
        }
        assert on_gpu.logits(data.test.take(slice(4))).device.type == "cpu"
        assert shifted(found["conv2"].double(), 0.5, 0.0).shape == (4, 8, 14, 14)

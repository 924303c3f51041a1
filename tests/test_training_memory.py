"""training/memory: what autograd keeps, counted; and geometry's prediction of it."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from stridelab.geometry import LayerPlan, layer, measure, training_memory
from stridelab.models import CnnConfig, layer_plan
from stridelab.models.build import build
from stridelab.training.memory import measured_saved_bytes

PADDINGS = ("same", "same_lower", "half", "valid", 1, [[1, 2, 0, 1]] * 3)


@pytest.mark.parametrize("padding_mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("head", ["gap", "flatten"])
def test_families_keep_to_the_byte_what_geometry_predicts(head: str, padding_mode: str) -> None:
    for strides, padding, size in itertools.product(
        ["1-1-1", "1-2-2", "3-1-2", "2x1-1-1x3"], PADDINGS, [(28, 28), (21, 26)]
    ):
        config = CnnConfig(strides=strides, padding=padding, padding_mode=padding_mode, head=head, channels=(4, 6, 8))
        plan = layer_plan(config, input_channels=3, input_size=size, num_classes=10)
        net, layers = build(plan), measure(plan)
        for batch_size in (2, 5):
            predicted = training_memory(layers, batch_size=batch_size).activations
            assert predicted == measured_saved_bytes(net, (batch_size, 3, *size)), (strides, padding, size)


def test_a_branched_net_with_pools_keeps_what_geometry_predicts() -> None:
    plan = LayerPlan(
        3,
        (17, 22),
        (
            layer("conv", "conv1", out_channels=4, kernel_size=3, padding="same", stride=2, bias=True),
            layer("activation", "relu1"),
            layer("max_pool", "pool1", kernel_size=2, padding="same"),
            layer("conv", "left", out_channels=4, kernel_size=3, padding="half"),
            layer("dropout", "dropout"),
            layer("avg_pool", "right", inputs=("pool1",), kernel_size=3, stride=1, padding=1),
            layer("add", "add", inputs=("dropout", "right")),
            layer("activation", "relu2", function="gelu"),
            layer("concat", "concat", inputs=("relu2", "pool1", "right")),
            layer("norm", "norm"),
            layer("flatten", "flatten"),
            layer("linear", "classifier", out_channels=3, bias=True),
        ),
    )
    for batch_size in (1, 4):
        predicted = training_memory(measure(plan), batch_size=batch_size).activations
        assert predicted == measured_saved_bytes(build(plan), (batch_size, 3, 17, 22))


def test_a_map_that_two_layers_keep_counts_once_and_weights_do_not_count() -> None:
    conv, norm, relu = nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True)
    image, made = 4 * 5 * 2 * 10 * 10, 4 * 5 * 8 * 8 * 8
    statistics = 4 * 8 * 2
    assert measured_saved_bytes(conv, (5, 2, 10, 10)) == image
    assert measured_saved_bytes(nn.Sequential(conv, norm), (5, 2, 10, 10)) == image + made + statistics
    whole = nn.Sequential(conv, norm, relu, nn.Conv2d(8, 1, 1), nn.Flatten())
    assert measured_saved_bytes(whole, (5, 2, 10, 10)) == image + 2 * made + statistics
    assert measured_saved_bytes(whole.double(), (5, 2, 10, 10)) == 2 * (image + 2 * made + statistics)
    assert measured_saved_bytes(whole.requires_grad_(False), (5, 2, 10, 10)) == 0


def test_counting_changes_neither_statistics_nor_the_random_state_nor_gradients() -> None:
    net = nn.Sequential(nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8), nn.Dropout(), nn.ReLU(inplace=True))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    random_state = torch.get_rng_state()
    with torch.no_grad():  # as a callback may be
        assert measured_saved_bytes(net, (5, 2, 10, 10)) > 0
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert net.training
    assert all(p.grad is None for p in net.parameters())


def test_mixed_precision_keeps_what_it_keeps_in_training() -> None:
    """Images as float32 and, for the first convolution, as bfloat16; maps and weights as bfloat16 alone."""
    net = nn.Sequential(nn.Conv2d(2, 8, 3, bias=False), nn.ReLU(), nn.Conv2d(8, 4, 1, bias=False))
    whole = measured_saved_bytes(net, (5, 2, 10, 10))
    mixed = measured_saved_bytes(net, (5, 2, 10, 10), precision="bf16-mixed")
    image, made, weights = 5 * 2 * 10 * 10, 5 * 8 * 8 * 8, 8 * 2 * 9 + 4 * 8
    assert whole == 4 * (image + made)
    assert mixed == 2 * (image + made + weights)

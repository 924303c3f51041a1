"""models/families: what is planned is what is built, for every family and every way of down-sampling."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.convnext import CNBlockConfig, ConvNeXt

from layer_outputs import layer_outputs
from stridelab.config import load
from stridelab.data.load import load as load_data
from stridelab.data.splits import Data
from stridelab.geometry import LayerPlan, measure, totals, training_memory
from stridelab.models import layer_plan
from stridelab.models.build import Network, build
from stridelab.models.downsampling import DOWNSAMPLING
from stridelab.models.families import FAMILIES
from stridelab.models.feature_maps import conv_layers
from stridelab.models.trace import geometry_of
from stridelab.plan import layer_plan_of
from stridelab.training.fit import fit
from stridelab.training.memory import measured_saved_bytes
from stridelab.training.randomness import initialise, weights_digest
from stridelab.training.recorder import Silent

pytestmark = pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*")

TORCHVISION_STEM: dict[str, Any] = {"stem_kernel": 7, "stem_stride": 2, "stem_pool": "max_pool"}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("cnn", {"downsample": "blur_pool-stride-max_pool", "strides": "2-2-1", "blur_size": 4}),
    ("resnet", {"width": 4}),
    (
        "resnet",
        {"depth": 50, "width": 2, "downsample": "blur_pool", "stem_downsample": "blur_pool", **TORCHVISION_STEM},
    ),
    ("resnet", {"width": 4, "downsample": "space_to_depth", "padding_mode": "circular"}),
    ("vgg", {"width": 4}),
    ("vgg", {"width": 4, "downsample": "stride-avg_pool-max_pool-none-none"}),
    *(("allconv", {"width": 4, "base": "b", "reduction": reduction}) for reduction in ("pool", "stride", "conv_pool")),
    ("allconv", {"width": 4, "base": "a", "reduction": "conv"}),
    ("convnext", {"width": 8, "depths": (1, 1), "downsample": "stride-blur_pool"}),
]


def plan_of(family: str, size: int = 28, channels: int = 3, **settings: Any) -> LayerPlan:
    config = FAMILIES[family].settings(family=family, **settings)
    return layer_plan(config, input_channels=channels, input_size=(size, size), num_classes=10)


@pytest.mark.parametrize(("family", "settings"), CASES, ids=lambda value: str(value)[:60])
def test_a_plan_is_what_its_network_does(family: str, settings: dict[str, Any]) -> None:
    """Sizes, fields, parameters, MACs and memory, each told by PyTorch and not by our rules."""
    plan = plan_of(family, **settings)
    layers, network = measure(plan), build(plan)
    planned, seen = totals(layers), geometry_of(network, 28, input_channels=3)
    assert planned.params == sum(parameter.numel() for parameter in network.parameters()) == seen.totals.params
    with FlopCounterMode(display=False) as counter:
        network(torch.randn(2, 3, 28, 28))
    assert planned.macs == counter.get_total_flops() // 4 == seen.totals.macs
    for layout in (torch.contiguous_format, torch.channels_last):
        kept = measured_saved_bytes(network.to(memory_format=layout), (3, 3, 28, 28))
        assert training_memory(layers, batch_size=3).activations == kept
    assert planned.last_map is not None
    assert seen.totals.last_map is not None
    for figure in ("output_size", "receptive_field", "effective_stride", "effective_padding", "input_share"):
        assert getattr(planned.last_map, figure) == getattr(seen.totals.last_map, figure), figure
    assert not any(one.misaligned for one in (*layers, *seen))
    made = layer_outputs(network.eval(), torch.randn(1, 3, 28, 28))
    assert {layer.name: tuple(made[layer.name].shape[1:]) for layer in layers if not layer.whole} == {
        layer.name: (layer.out_channels, *layer.output_size) for layer in layers if not layer.whole
    }


@torch.no_grad()
def equal_logits(theirs: nn.Module, ours: Network, state: Mapping[str, Tensor]) -> None:
    ours.load_state_dict(state, strict=True)
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(ours.eval()(images), theirs.eval()(images), rtol=1e-4, atol=1e-4)


def made(network: Callable[[], nn.Module]) -> nn.Module:
    """With random weights and statistics, all away from the initial values that would hide what is left out."""
    with torch.device("meta"):
        module = network()
    module = module.to_empty(device="cpu")
    for name, tensor in module.state_dict().items():
        if tensor.ndim > 1 and "scale" not in name:
            tensor.normal_(std=math.prod(tensor.shape[1:]) ** -0.5)
        elif tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5) if name.endswith(("weight", "var", "scale")) else tensor.uniform_(-0.5, 0.5)
        else:
            tensor.zero_()
    return module


@pytest.mark.parametrize("depth", [18, 50])
def test_weights_of_torchvision_s_resnets_fit_and_give_the_same_logits(depth: int) -> None:
    theirs = made(lambda: getattr(torchvision.models, f"resnet{depth}")(weights=None, num_classes=10))
    ours = build(plan_of("resnet", size=64, depth=depth, width=64, **TORCHVISION_STEM))
    equal_logits(theirs, ours, theirs.state_dict())


def test_weights_of_torchvision_s_convnext_fit_where_a_linear_layer_is_a_1x1_convolution() -> None:
    stages = [CNBlockConfig(8, 16, 2), CNBlockConfig(16, 32, 1), CNBlockConfig(32, None, 1)]
    theirs = made(lambda: ConvNeXt(stages, num_classes=10))
    sizes = {"strides": (4, 2, 2), "patch_sizes": (4, 2, 2)}
    ours = build(plan_of("convnext", size=64, width=8, depths=(2, 1, 1), **sizes))
    renamed = {
        name + (".weight" if name.endswith("layer_scale") else ""): tensor
        for name, tensor in theirs.state_dict().items()
    }
    own = ours.state_dict()
    equal_logits(theirs, ours, {name: tensor.view_as(own[name]) for name, tensor in renamed.items()})


@torch.no_grad()
def test_weights_of_torchvision_s_vgg_fit_up_to_its_linear_layers() -> None:
    theirs = made(lambda: torchvision.models.vgg11_bn(weights=None, init_weights=False).features).eval()
    ours = build(plan_of("vgg", size=64, width=64, strides=2))
    ours.load_state_dict({f"features.{name}": value for name, value in theirs.state_dict().items()}, strict=False)
    images = torch.randn(1, 3, 64, 64)
    last = layer_outputs(ours.eval(), images)["features.28"]
    torch.testing.assert_close(last, theirs(images), rtol=1e-4, atol=1e-4)


SIZE_KEEPING = [name for name in DOWNSAMPLING if name not in ("none", "space_to_depth")]


@pytest.mark.parametrize("padding", ["half", "same", "valid", 2])
def test_all_ways_of_down_sampling_make_maps_of_one_size_and_share_their_weights(padding: str | int) -> None:
    for size, strides in ((28, "2-1-2"), (29, "3-2-1"), (31, "1x2-2x1-2")):
        plans = [plan_of("cnn", size, downsample=way, strides=strides, padding=padding) for way in SIZE_KEEPING]
        ends = [totals(measure(plan)).last_map for plan in plans]
        assert len({end.output_size for end in ends if end}) == 1
        digests = set()
        for plan in plans:
            initialise(network := build(plan), seed=0)
            digests.add(weights_digest(network))
        assert len(digests) == 1


def test_blurring_is_zhang_s_construction() -> None:
    """The convolution at stride 1, its non-linearity, the binomial filter on a reflected border, every second pixel."""
    rows = {2: [1, 1], 3: [1, 2, 1], 4: [1, 3, 3, 1], 5: [1, 4, 6, 4, 1]}
    images = torch.randn(2, 1, 13, 14, dtype=torch.float64)
    for size, row in rows.items():
        config = FAMILIES["cnn"].settings(channels=[4], strides=2, downsample="blur_pool", blur_size=size)
        plan = layer_plan(config, input_channels=1, input_size=(13, 14), num_classes=2)
        network = build(plan).double().eval()
        relu = F.relu(network.norm1(F.conv2d(images, network.conv1.weight, padding=1)))
        before, after = (size - 1) // 2, size // 2
        bordered = F.pad(relu, (before, after, before, after), mode="reflect")
        taps = torch.tensor(row, dtype=torch.float64)
        taps = taps / taps.sum()
        blurred = (bordered.unfold(2, size, 1) * taps).sum(-1)
        blurred = (blurred.unfold(3, size, 1) * taps).sum(-1)
        torch.testing.assert_close(layer_outputs(network, images)["down1"], blurred[:, :, ::2, ::2])


@pytest.mark.parametrize("way", SIZE_KEEPING)
def test_with_circular_padding_a_network_is_invariant_to_shifts_by_its_effective_stride(way: str) -> None:
    network = build(plan_of("cnn", 24, strides="2-1-2", downsample=way, padding_mode="circular")).double().eval()
    images = torch.randn(2, 3, 24, 24, dtype=torch.float64)
    there = network(images)
    torch.testing.assert_close(network(images.roll((4, -8), (2, 3))), there, rtol=1e-10, atol=1e-10)
    assert (network(images.roll((1, 0), (2, 3))) - there).abs().max() > 1e-6


@pytest.mark.parametrize("way", [*SIZE_KEEPING, "space_to_depth"])
def test_the_receptive_field_of_each_way_is_where_gradients_come_from(way: str) -> None:
    config = FAMILIES["cnn"].settings(channels=[1, 1, 1], downsample=way, strides="2-2-1", blur_size=4)
    plan = layer_plan(config, input_channels=1, input_size=(32, 32), num_classes=2)
    network = build(plan).double().eval()
    (last,) = [layer for layer in measure(plan) if layer.name == "relu3"]
    for weights in network.parameters():
        nn.init.uniform_(weights, 0.1, 1)  # positive, so that no ReLU hides a pixel
    images = torch.rand(500, 1, 32, 32, dtype=torch.float64, requires_grad=True)  # a maximum is of one pixel in each
    layer_outputs(network, images)["relu3"][:, :, 4, 4].sum().backward()
    assert images.grad is not None
    reached = images.grad.abs().sum((0, 1)) > 0
    (top, bottom), (left, right) = last.region_of((4, 4)) or ((0, 0), (0, 0))
    rows, columns = reached.any(1).nonzero().flatten().tolist(), reached.any(0).nonzero().flatten().tolist()
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (max(0, top), min(31, bottom), max(0, left), min(31, right))


REFUSED = {
    ("downsample=blurpool",): r"model\.downsample='blurpool' is not one of its choices; choose one of stride, max_pool",
    (
        "downsample=none",
    ): r"model\.downsample=none with model\.strides\[1\]=2: without down-sampling a stride must be 1",
    ("downsample=stride-none",): r"model\.downsample=stride-none has 2 entries, but model\.channels has 3 layers",
    ("blur_size=7",): r"model\.blur_size=7 must be from 2 to 5",
    ("downsample=space_to_depth", "strides=1x2"): r"strides\[0\]=1x2: blocks of pixels must be square",
    ("family=resnet", "stem_downsample=space_to_depth", "stem_stride=1x2"): r"stem_downsample=space_to_depth with "
    r"model\.stem_stride=1x2: blocks of pixels must be square",
    (
        "family=resnet",
        "stem_downsample=none",
        "stem_stride=2",
    ): r"without down-sampling a stride must be 1; give 1 there, "
    r"or another model\.stem_downsample",
    ("downsample=space_to_depth", "strides=2"): r"'down3' .* on a map of 7x7: its sides must be multiples of 2 and 2",
    ("downsample=blur_pool", "blur_size=5", "strides=1-14-2"): r"'down3' .* 'reflect' cannot pad a height of 2 by 2",
    ("family=resnet", "depth=21"): r"model\.depth=21 must be 18, 34, 50 or 6n \+ 2",
    ("family=resnet", "strides=1-2"): r"model\.strides=1-2 has 2 entries, but model\.depth=8 has 3 stages",
    ("family=resnet", "padding=valid"): r"layer1\.0\.add.*16x22x22 and 16x26x26; choose a model\.padding that keeps",
    (
        "family=resnet",
        "stem_pool=avg",
    ): r"model\.stem_pool='avg' is not one of its choices; choose one of none, max_pool",
    ("family=vgg", "depth=12"): r"model\.depth=12 must be one of 11, 13, 16, 19",
    ("family=allconv", "reduction=none"): r"model\.reduction='none' is not one of its choices; choose one of pool",
    ("family=allconv", "downsample=max_pool"): r"of model\.family=allconv, model\.reduction= says what makes a map",
    (
        "family=convnext",
        "kernel_size=6",
    ): r"features\.1\.0\.add.*24x13x13 and 24x14x14; choose model\.padding and model",
    ("family=convnext", "patch_sizes=2-2-2"): r"model\.patch_sizes=2-2-2 has 3 entries, but model\.depths has 2 stages",
    ("family=convnext", "channels=[1]"): r"model\.channels is not a key of model\.family=convnext",
}


@pytest.mark.parametrize("words", REFUSED, ids=" ".join)
def test_what_cannot_be_is_refused_with_key_value_and_rule(words: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=REFUSED[words]):
        measure(layer_plan_of(load([f"model.{word}" for word in words])))


@pytest.fixture(scope="module")
def data() -> Data:
    return load_data(load(["data.train_size=64", "data.val_size=32"]).data)


TINY = {
    "resnet": ["width=2"],
    "vgg": ["width=1"],
    "allconv": ["width=2"],
    "convnext": ["width=2", "depths=[1,1]"],
    "cnn": ["channels=[2,2,2]", "downsample=blur_pool"],
}
SWEPT = {"resnet": "2-2-2", "vgg": "2-1-2-1-1", "allconv": "2-4", "convnext": "2-1", "cnn": "2-1-2"}


@pytest.mark.parametrize("family", TINY)
def test_every_family_trains_with_two_strides_from_the_same_weights_and_resumes_to_the_bit(
    family: str, data: Data, tmp_path: Path
) -> None:
    def train(folder: str, *words: str) -> Any:
        tiny = [f"model.{word}" for word in (f"family={family}", *TINY[family])]
        short = [
            "trainer.channels_last=false",
            "trainer.max_epochs=2",
            "trainer.limit_val_batches=1",
            "trainer.feature_map_images=1",
        ]
        config = load([*tiny, *short, *words])
        recorder = Silent(tmp_path / folder)
        return fit(layer_plan_of(config), data, config.trainer, seed=0, recorder=recorder, ckpt_path=config.ckpt_path)

    whole, other = train("whole"), train("other", f"model.strides={SWEPT[family]}", "trainer.max_epochs=1")
    assert whole.init_digest == other.init_digest
    assert whole.weights_digest not in (other.weights_digest, whole.init_digest)
    resumed = train("resumed", f"ckpt_path='{tmp_path}/whole/checkpoints/epoch-0001.ckpt'")
    assert resumed.weights_digest == whole.weights_digest
    assert resumed.metrics["test/loss"] == whole.metrics["test/loss"]


def test_maps_are_kept_of_eight_layers_at_most_but_of_all_of_cnn() -> None:
    def kept(*words: str) -> tuple[str, ...]:
        return conv_layers(build(layer_plan_of(load([f"model.{word}" for word in words]))))

    deep = kept("family=resnet", "depth=20", "width=2", "strides=1-2-2")
    assert len(deep) == 8
    assert (deep[0], deep[-1]) == ("conv1", "layer3.2.conv2")
    assert not any("downsample" in name for name in deep)
    assert deep == kept("family=resnet", "depth=20", "width=2", "strides=2-1-2", "downsample=blur_pool")
    assert kept("channels=[1,1,1,1,1,1,1,1,1,1]", "strides=1", "kernel_sizes=[3,1,3,1,3,1,3,1,3,1]") == tuple(
        f"conv{number}" for number in range(1, 11)
    )

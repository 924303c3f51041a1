"""models/trace: any module's layers, counted by PyTorch's own counter and seen by PyTorch's own gradients."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import subprocess
import sys
import warnings
from collections.abc import Iterator
from fractions import Fraction
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.nn.modules import module as module_globals
from torch.utils.flop_counter import FlopCounterMode

import stridelab
from stridelab.geometry import IMAGE, LayerGeometry, LayerPlan, layer, measure, training_memory
from stridelab.models import CnnConfig, layer_plan
from stridelab.models.build import build
from stridelab.models.trace import geometry_of, trace
from stridelab.training.memory import measured_saved_bytes

TORCHVISION = {
    "alexnet": 195,
    "vgg16": 212,
    "resnet18": 435,
    "resnet34": 899,
    "resnet50": 427,
    "resnet101": 971,
    "mobilenet_v2": 491,
    "densenet121": 2071,
    "googlenet": 379,
    "convnext_tiny": 1688,
    "inception_v3": 1311,
}
"""Receptive field of the last map. alexnet 195, vgg16 212 and inception_v3 1311 are published (Araujo et al. 2019),
resnet50 427 is (Richter et al. 2022, as the largest useful input of torchvision's); of the other figures, the
gradients in `test_fields_are_the_support_of_the_gradient` vouch for the rules they come from."""

BEYOND = ("efficientnet_b0", "mobilenet_v3_small", "shufflenet_v2_x1_0", "squeezenet1_0")
IN_EVAL = ("alexnet", "convnext_tiny", "googlenet")
"""Nets that compute something else in eval mode: no dropout, no stochastic depth, no auxiliary heads."""


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """These are many tiny operations: threads would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def torchvision_net(name: str, *, device: str) -> nn.Module:
    weights = {"init_weights": False} if name in {"googlenet", "inception_v3"} else {}
    with torch.device(device):
        return torchvision.models.get_model(name, weights=None, **weights)


def counted_macs(module: nn.Module, size: tuple[int, int], channels: int = 3) -> int:
    """Of one image, by PyTorch's counter; two images, so that a batch norm can train on a 1x1 map."""
    weight = next(module.parameters())
    images = torch.zeros(2, channels, *size, device=weight.device, dtype=weight.dtype)
    with FlopCounterMode(display=False) as counter:
        module(images)
    return counter.get_total_flops() // 4


def last_map(layers: tuple[LayerGeometry, ...]) -> LayerGeometry:
    return next(one for one in reversed(layers) if not one.whole)


@pytest.mark.parametrize(
    ("name", "mode"), [*((name, "train") for name in (*TORCHVISION, *BEYOND)), *((name, "eval") for name in IN_EVAL)]
)
def test_torchvision_s_nets_cost_what_pytorch_counts(name: str, mode: str) -> None:
    net = torchvision_net(name, device="meta").train(mode == "train")
    sizes = ((299, 299), (320, 311)) if name == "inception_v3" else ((224, 224), (113, 130))
    for size in sizes if mode == "train" else sizes[1:]:
        geometry = geometry_of(net, size)
        assert geometry.opaque == {}
        assert geometry.totals.macs == counted_macs(net, size)
        assert geometry.totals.params == sum(p.numel() for p in net.parameters())
        assert not any(one.misaligned for one in geometry)
        if name in TORCHVISION and not (size == (113, 130) and name in {"alexnet", "vgg16"}):
            assert last_map(geometry.layers).receptive_field == (TORCHVISION[name],) * 2


def test_vgg16_pads_as_published() -> None:
    """1 + 1 before the first pool, then 2 (1 + 1), 4 (1 + 1 + 1), 8 (1 + 1 + 1), 16 (1 + 1 + 1)."""
    last = geometry_of(torchvision_net("vgg16", device="meta"), 224)["features.30"]
    assert (last.effective_stride, last.effective_padding, last.output_size) == ((32, 32), (90, 90), (7, 7))


def test_uneven_adaptive_bins_leave_the_field_unknown_and_the_cost_known() -> None:
    geometry = geometry_of(torchvision_net("alexnet", device="meta"), (113, 130))
    assert geometry["features.12"].receptive_field == (195, 195)
    assert geometry["avgpool"].receptive_field is None
    assert geometry["classifier.1"].macs == 9216 * 4096


@pytest.mark.parametrize(("blocks", "published"), [((3, 4, 6, 3), 483), ((3, 4, 23, 3), 1027)])
def test_resnet_v1_strides_in_the_last_unit_of_a_block_where_torchvision_strides_in_the_first(
    blocks: tuple[int, ...], published: int
) -> None:
    """TF-slim's nets, whose fields Araujo et al. 2019 publish: 56 more than torchvision's of the same depth."""
    layers = [layer("conv", kernel_size=7, stride=2, padding=3), layer("max_pool", kernel_size=3, stride=2, padding=1)]
    for stage, count in enumerate(blocks):
        last_stride = 2 if stage < len(blocks) - 1 else 1
        strides = [1] * (count - 1) + [last_stride]
        layers += [layer("conv", kernel_size=3, stride=stride, padding=1) for stride in strides]
    fields = [one.receptive_field for one in measure(LayerPlan(1, (224, 224), tuple(layers)))]
    assert fields[-1] == (published, published)
    depth = {483: "resnet50", 1027: "resnet101"}[published]
    assert TORCHVISION[depth] == published - 56


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        *(
            (name, "train")
            for name in ("alexnet", "resnet50", "mobilenet_v2", "densenet121", "googlenet", "convnext_tiny")
        ),
        *((name, "eval") for name in IN_EVAL),
    ],
)
def test_saved_activations_are_those_that_pytorch_saves(name: str, mode: str) -> None:
    """To the byte, though nothing is computed in the trace."""
    net = torchvision_net(name, device="cpu").train(mode == "train")
    size = 64 if name == "alexnet" else 32
    layers = geometry_of(net, size).layers
    for batch_size in (2, 3):
        predicted = training_memory(layers, batch_size=batch_size).activations
        assert predicted == measured_saved_bytes(net, (batch_size, 3, size, size))


@pytest.mark.parametrize(
    "name", ["alexnet", "vgg16", "resnet18", "resnet101", "mobilenet_v2", "densenet121", "googlenet"]
)
def test_geometry_s_own_rules_for_memory_agree_with_what_the_trace_saw(name: str) -> None:
    net = torchvision_net(name, device="cpu" if name in {"alexnet", "vgg16", "googlenet"} else "meta")
    plan = trace(net, 64)
    blank = [dataclasses.replace(one, activation_bytes=None, batch_bytes=None, macs=None) for one in plan.layers]
    by_rule = measure(dataclasses.replace(plan, layers=tuple(blank)))
    seen = measure(plan)
    assert sum(one.activation_bytes or 0 for one in by_rule) == sum(one.activation_bytes or 0 for one in seen)
    assert [one.macs for one in by_rule] == [one.macs for one in seen]


FAMILY_CASES = list(itertools.product(["1-1-1", "1-2-2", "3-1-2"], ["same", "half", "valid"], ["gap", "flatten"]))


@pytest.mark.parametrize("padding_mode", ["zeros", "reflect", "replicate", "circular"])
def test_a_family_s_network_traces_back_to_the_plan_it_was_built_from(padding_mode: str) -> None:
    for strides, padding, head in FAMILY_CASES:
        config = CnnConfig(strides=strides, padding=padding, padding_mode=padding_mode, head=head)
        plan = layer_plan(config, input_channels=3, input_size=(28, 33), num_classes=10)
        net = build(plan)
        planned, traced = measure(plan), geometry_of(net, (28, 33)).layers
        assert [figures(one) for one in traced] == [figures(one) for one in planned]
        assert sum(one.activation_bytes for one in traced) == sum(one.activation_bytes for one in planned)
        assert sum(one.macs for one in planned) == counted_macs(net, (28, 33))


def figures(one: LayerGeometry) -> dict[str, object]:
    """All but how it was written, and for which of its readers a map is kept."""
    left_out = {"kind", "padding", "activation_bytes"}
    if not any(sum(one.pad, ())):
        left_out.add("padding_mode")
    return {f.name: getattr(one, f.name) for f in dataclasses.fields(one) if f.name not in left_out}


class ShortcutA(nn.Module):
    """The block of CIFAR's ResNets: the shortcut takes every second pixel, and pads the channels."""

    def __init__(self, channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out_channels, 3, stride, 1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1)
        self.extra = (out_channels - channels) // 2
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.relu(self.conv1(x)))
        short = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.extra, self.extra))
        y += short
        return F.relu(y, inplace=True)


class Branches(nn.Module):
    """Functional code with branches of other kernels, dilations and padding modes, put together by name."""

    def __init__(self, dilation: int, mode: str) -> None:
        super().__init__()
        self.wide = nn.Conv2d(4, 6, (5, 3), padding=(2, 1))
        self.dilated = nn.Conv2d(4, 6, 3, padding=dilation, dilation=dilation, padding_mode=mode)
        self.mix = nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        left, right = torch.split(torch.cat([self.wide(x), self.dilated(x)], dim=1), 6, dim=1)
        y = torch.cat([left * 1.0, right.abs()], 1).permute(0, 2, 3, 1)
        return self.mix(y).sigmoid().permute(0, 3, 1, 2) + 0.5


def plain(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), *layers)


SMALL_NETS = {
    "shortcut": (plain(ShortcutA(4, 8, 2), ShortcutA(8, 8, 1), ShortcutA(8, 12, 2)), (40, 37)),
    "branches": (plain(Branches(2, "circular"), nn.AvgPool2d(2), nn.Conv2d(8, 8, 3)), (30, 33)),
    "dilated": (plain(nn.Conv2d(4, 4, 3, 2, 4, 4), Branches(3, "zeros")), (50, 41)),
    "pads": (
        nn.Sequential(
            nn.ZeroPad2d((0, 1, 2, 0)),
            nn.Conv2d(3, 4, 3, 2),
            nn.ReflectionPad2d(1),
            nn.AvgPool2d(3, 2, ceil_mode=True),
            nn.Conv2d(4, 4, (2, 5), padding="same"),
            nn.PixelUnshuffle(2),
        ),
        (45, 46),
    ),
    "bins": (plain(nn.AdaptiveAvgPool2d((10, 8)), nn.Conv2d(4, 4, 3)), (40, 32)),
}


def positive_constants(net: nn.Module) -> nn.Module:
    """Every unit a positive mean of what it sees, so that a gradient is positive wherever it looks."""
    net = copy.deepcopy(net).double().eval()
    for param in net.parameters():
        nn.init.constant_(param, 1 / max(1, param[0].numel()) if param.ndim > 1 else 0.01)
    return net


@pytest.mark.parametrize("name", SMALL_NETS)
def test_fields_are_the_support_of_the_gradient(name: str) -> None:
    net, size = SMALL_NETS[name]
    compare_with_gradients(positive_constants(net), size)


def test_a_residual_net_s_fields_are_the_support_of_the_gradient() -> None:
    net = torchvision.models.resnet18(weights=None)
    stem = nn.Sequential(net.conv1, net.bn1, net.relu, nn.AvgPool2d(3, 2, 1), net.layer1, net.layer2[0])
    compare_with_gradients(positive_constants(stem), (90, 96))


def compare_with_gradients(net: nn.Module, size: tuple[int, int]) -> None:
    """Each unit on the diagonal of the last map whose field lies inside the image reads just that field."""
    last = geometry_of(net, size)[-1]
    images = torch.ones(1, 3, *size, dtype=torch.float64, requires_grad=True)
    output = net(images)
    assert tuple(output.shape[1:]) == (last.out_channels, *last.output_size)
    inside = 0
    for at in range(min(last.output_size)):
        (gradient,) = torch.autograd.grad(output[0, :, at, at].sum(), images, retain_graph=True)
        rows, columns = (gradient[0].sum((0, axis)).nonzero() for axis in (2, 1))
        region = last.region_of((at, at))
        assert region is not None
        (top, bottom), (left, right) = region
        if top >= 0 and left >= 0 and bottom < size[0] and right < size[1]:
            seen = (rows.min().item(), rows.max().item()), (columns.min().item(), columns.max().item())
            assert seen == region
            inside += 1
    assert inside > 0


class Upsample(nn.Module):
    """A map enlarged, and joined with the image."""

    def __init__(self, **options: object) -> None:
        super().__init__()
        self.options = options
        self.down = nn.Conv2d(3, 4, 3, 2, 1)
        self.after = nn.Conv2d(7, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(torch.cat([x, F.interpolate(self.down(x), scale_factor=2, **self.options)], 1))


class Focus(nn.Module):
    """YOLOv5's first layer: every second pixel, four times, as channels."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]], 1)


class Cut(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, 3:-2:3, 1:20]


class Resize(nn.Module):
    def __init__(self, **options: object) -> None:
        super().__init__()
        self.options = options

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, **self.options)


STRIDED = nn.Conv2d(4, 4, 3, 2, 1)
ENLARGING_NETS = {
    "transposed": (plain(STRIDED, nn.ConvTranspose2d(4, 4, 2, 2)), 1),
    "transposed, overlapping": (plain(STRIDED, nn.ConvTranspose2d(4, 4, 3, 2, 1, output_padding=1)), 1),
    "transposed, wide": (plain(STRIDED, nn.ConvTranspose2d(4, 4, (5, 4), (3, 2), (2, 1))), (Fraction(2, 3), 1)),
    "transposed, dilated": (plain(STRIDED, nn.ConvTranspose2d(4, 4, 4, 2, 3, dilation=3), nn.Conv2d(4, 4, 3)), 1),
    "transposed, stride 1": (plain(nn.ConvTranspose2d(4, 4, 3, 1, 1)), 1),
    "nearest": (plain(STRIDED, nn.Upsample(scale_factor=2)), 1),
    "nearest by 3": (plain(nn.Upsample(scale_factor=3, mode="nearest-exact"), nn.Conv2d(4, 4, 3)), Fraction(1, 3)),
    "nearest, then strided": (plain(nn.Upsample(scale_factor=3), nn.Conv2d(4, 4, 3, 2)), Fraction(2, 3)),
    "nearest by 3/2": (plain(Resize(size=(54, 60)), nn.AvgPool2d(2, 1)), Fraction(2, 3)),
    "nearest-exact, smaller": (plain(Resize(scale_factor=0.5, mode="nearest-exact"), nn.Conv2d(4, 4, 3)), 2),
    "nearest-exact by 3/2": (plain(Resize(size=(54, 60), mode="nearest-exact"), nn.AvgPool2d(2, 1)), Fraction(2, 3)),
    "nearest, smaller": (plain(Resize(scale_factor=0.5), nn.Conv2d(4, 4, 3)), 2),
    "bilinear": (plain(STRIDED, nn.Upsample(scale_factor=2, mode="bilinear")), 1),
    "bilinear by 3, pooled": (plain(nn.Upsample(scale_factor=3, mode="bilinear"), nn.AvgPool2d(3)), 1),
    "bilinear, smaller": (plain(Resize(scale_factor=0.25, mode="bilinear")), 4),
    "corners aligned": (plain(Resize(size=(71, 79), mode="bilinear", align_corners=True)), Fraction(1, 2)),
    "corners aligned, by size": (
        plain(Resize(size=(50, 40), mode="bilinear", align_corners=True), nn.Conv2d(4, 4, 3)),
        (Fraction(5, 7), 1),
    ),
    "shuffled": (plain(STRIDED, nn.Conv2d(4, 16, 3), nn.PixelShuffle(2), nn.Conv2d(4, 4, 3)), 1),
    "shuffled and back": (plain(nn.PixelUnshuffle(4), nn.Conv2d(64, 64, 1), nn.PixelShuffle(2), nn.PixelShuffle(2)), 1),
    "two octaves": (
        plain(STRIDED, nn.Upsample(scale_factor=2), nn.Upsample(scale_factor=2, mode="bilinear")),
        Fraction(1, 2),
    ),
    "focus": (plain(Focus(), nn.Conv2d(16, 4, 3)), 2),
    "cut": (plain(STRIDED, nn.Upsample(scale_factor=2), Cut(), nn.Conv2d(4, 4, 3)), (3, 1)),
    "joined": (Upsample(), 1),
    "joined, bilinear": (Upsample(mode="bilinear"), 1),
}


@pytest.mark.parametrize("name", ENLARGING_NETS)
def test_fields_through_what_enlarges_or_cuts_a_map_are_the_support_of_the_gradient(name: str) -> None:
    """Of every unit, inside the image and at its edges; the field is the largest of them."""
    net, stride = ENLARGING_NETS[name]
    net, size = positive_constants(net), (36, 40)
    geometry = geometry_of(net, size)
    last = geometry[-1]
    assert geometry.opaque == {}
    assert last.effective_stride == (stride if isinstance(stride, tuple) else (stride, stride))
    assert geometry.totals.params == sum(p.numel() for p in net.parameters())
    assert geometry.totals.macs == counted_macs(net, size)
    images = torch.ones(1, 3, *size, dtype=torch.float64, requires_grad=True)
    output, largest, read = net(images), [0, 0], torch.zeros(size, dtype=torch.bool)
    clear = 0
    for row, column in itertools.product(*map(range, last.output_size)):
        if row != column and 2 <= row < last.output_size[0] - 2 and 2 <= column < last.output_size[1] - 2:
            continue  # enough with the diagonal and the edges
        (gradient,) = torch.autograd.grad(output[0, :, row, column].sum(), images, retain_graph=True)
        support = gradient[0].sum(0) > 1e-12 * gradient.max()  # more than a weight that rounding made
        read |= support
        for axis, (first, until) in enumerate(last.region_of((row, column))):
            seen = support.any(1 - axis).nonzero()
            largest[axis] = max(largest[axis], until - first + 1)
            assert seen.min().item() >= max(0, first) or first < 0
            if first >= 0 and until < size[axis]:
                assert (seen.min().item(), seen.max().item()) == (first, until)
                clear += 1
    assert clear > 0
    assert tuple(largest) == last.receptive_field
    rows, columns = read.any(1).sum().item(), read.any(0).sum().item()
    assert last.input_share == rows * columns / (size[0] * size[1])


def test_an_enlarged_map_in_the_table_and_its_alignment() -> None:
    half = geometry_of(plain(nn.Upsample(scale_factor=2)), 8)
    assert (half[-1].stride, half[-1].effective_stride) == ((Fraction(1, 2),) * 2,) * 2
    assert " 1/2 " in str(half)
    assert half["1"].spans == (((-1, 1), (-1, 1)),) * 2
    pooled = nn.Sequential(nn.AvgPool2d(2), nn.Upsample(scale_factor=2))
    joined = geometry_of(Both(pooled), 8, input_channels=3)
    assert not joined[-1].misaligned  # the mean of the centres 0.5 and 0.5 is that of 0 and 1
    shifted = nn.Sequential(nn.Conv2d(3, 3, 3, 2, 1), nn.Upsample(scale_factor=2))
    assert geometry_of(Both(shifted), 8)[-1].misaligned  # 0 and 0


class Both(nn.Module):
    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


class Writes(nn.Module):
    """Overwrites part of a map: what it holds there no longer comes from the layer that made it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.after = nn.Conv2d(4, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        y[:, :, :5] = y.flip(2)[:, :, :5]
        return self.after(y)


def scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and still how many a network comes
        return nn.Sequential(nn.Conv2d(3, 4, 3), torch.jit.script(nn.Conv2d(4, 5, 3)), nn.Conv2d(5, 4, 3))


OPAQUE_NETS = {
    "upsampling": (
        Upsample(mode="bicubic"),
        {"interpolate": "interpolate mixes pixels in mode 'bicubic', smoothed or with negative weights"},
    ),
    "smoothed": (
        Upsample(mode="bilinear", antialias=True),
        {"interpolate": "interpolate mixes pixels in mode 'bilinear', smoothed or with negative weights"},
    ),
    "rounded": (
        plain(nn.Upsample(scale_factor=1.3), nn.Conv2d(4, 2, 3)),
        {"1": "interpolate by a factor of 1.3 makes no whole number of pixels of 32x32"},
    ),
    "gaps": (
        plain(nn.ConvTranspose2d(4, 4, 2, 3), nn.Conv2d(4, 2, 3)),
        {"1": "conv_transpose2d by steps of 3x3 leaves gaps, where it reads nothing"},
    ),
    "writes": (Writes(), {"flip": "flip cannot be followed", "setitem": "setitem cannot be followed"}),
    "scripted": (scripted(), {"1": "output is made out of sight of torch functions"}),
    "cropped": (plain(nn.ZeroPad2d(-1), nn.Conv2d(4, 2, 3)), {"1": "pad crops the map by a negative pad"}),
    "bands": (
        plain(nn.Unflatten(2, (2, 16)), nn.Flatten(1, 2), nn.Conv2d(8, 2, 3)),
        {"2": "flatten joins 'ch' into one dimension of many"},
    ),
}


class Shuffled(nn.Module):
    """Its second convolution reads a map whose layout is lost; its third, the images of the batch as channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.norm = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.weight = nn.Parameter(torch.ones(6, 1, 3, 3))
        self.last = nn.BatchNorm2d(6)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.first(x).permute(0, 2, 3, 1).reshape(len(x) * 8, 8, 4).reshape(len(x), 8, 8, 4)
        maps = self.norm(self.second(rows.permute(0, 3, 1, 2)))
        weights = self.weight.repeat(len(x), 1, 1, 1) * maps.mean((0, 2, 3))[0]
        folded = F.conv2d(maps.reshape(1, len(x) * 6, 8, 8), weights, groups=len(x) * 6)
        return self.last(folded.view(len(x), 6, 6, 6))


def test_what_a_layer_makes_of_a_map_whose_layout_is_lost_has_its_own() -> None:
    sizes = {one.name: (one.out_channels, *one.output_size) for one in geometry_of(Shuffled(), 8)}
    assert sizes["second"] == sizes["norm"] == (6, 8, 8)
    assert sizes["conv2d"] == sizes["last"] == (6, 6, 6)


@pytest.mark.parametrize("name", OPAQUE_NETS)
def test_what_cannot_be_followed_is_named_and_nothing_behind_it_is_guessed(name: str) -> None:
    net, expected = OPAQUE_NETS[name]
    geometry = geometry_of(net, 32)
    got = {one: reason for one, reason in geometry.opaque.items() if one in expected}
    assert got == expected
    last = geometry[-1]
    assert last.kind == "conv"
    assert last.receptive_field is last.effective_stride is last.region is last.input_share is None
    assert geometry.totals.macs == counted_macs(net, (32, 32))
    assert geometry.totals.params == sum(p.numel() for p in net.parameters())
    assert training_memory(geometry.layers, batch_size=2).activations == measured_saved_bytes(net, (2, 3, 32, 32))
    for first, reason in expected.items():
        assert reason in str(geometry), first


class Gate(nn.Module):
    """Squeeze and excitation."""

    def __init__(self) -> None:
        super().__init__()
        self.squeeze = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.squeeze(x.mean((2, 3))))
        return x * gate[:, :, None, None].expand_as(x)


class LayerNormByHand(nn.Module):
    """Over the channels, as many networks write it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(1, keepdim=True)
        return self.weight[:, None, None] * (centred / torch.sqrt(centred.pow(2).mean(1, keepdim=True) + 1e-6))


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x * x

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> Tensor:
        return grad


class Custom(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return Square.apply(x)


class Maxout(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.max(x, torch.min(-x, x / 2))


@pytest.mark.parametrize("layer_between", [Gate, LayerNormByHand, Custom, Maxout, nn.PReLU, nn.Softplus, nn.Dropout2d])
def test_what_keeps_the_grid_passes_through(layer_between: type[nn.Module]) -> None:
    net = plain(layer_between(), nn.Conv2d(4, 4, 3, stride=2))
    geometry = geometry_of(net, 20)
    assert geometry.opaque == {}
    assert geometry["2"].receptive_field == (5, 5)
    assert geometry["2"].gated == (layer_between is Gate)
    assert geometry.totals.params == sum(p.numel() for p in net.parameters())


def test_a_shared_layer_costs_its_work_twice_and_its_weights_once() -> None:
    shared = nn.Conv2d(4, 4, 3)
    geometry = geometry_of(plain(shared, shared), 16)
    assert [one.name for one in geometry] == ["0", "1", "1_2"]
    assert [one.params for one in geometry] == [112, 148, 0]
    assert geometry["1_2"].macs == 4 * 4 * 9 * 12 * 12


def test_parametrized_weights_are_counted_for_the_layer_that_uses_them() -> None:
    conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3, bias=False))
    geometry = geometry_of(plain(conv), 16)
    assert (geometry["1"].params, geometry["1"].kind) == (4 * 4 * 9 + 4, "conv")


def test_parameters_that_the_pass_does_not_use_are_named() -> None:
    net = torchvision_net("googlenet", device="meta").eval()
    geometry = geometry_of(net, 64)
    unused = {one.name: one.params for one in geometry if one.kind == "unused"}
    assert {name.split(".")[0] for name in unused} == {"aux1", "aux2"}
    assert unused["aux1.fc2"] == 1024 * 1000 + 1000
    assert ["aux1.fc2", "unused", "1,025,000"] in [line.split() for line in str(geometry).splitlines()]
    assert not any(one.kind == "unused" for one in geometry_of(net.train(), 64))


def test_an_explicit_pad_is_part_of_the_convolution_that_reads_it() -> None:
    net, size = SMALL_NETS["pads"]
    plan = trace(net, size)
    assert [(one.name, one.kind) for one in plan.layers] == [
        ("1", "conv"),
        ("2", "pad"),
        ("3", "avg_pool"),
        ("4", "conv"),
        ("5", "space_to_depth"),
    ]
    assert plan.layers[0].padding == ((2, 0), (0, 1))
    assert plan.layers[0].inputs == (IMAGE,)
    twice = nn.Sequential(nn.ReflectionPad2d(1), ShortcutA(3, 3, 1))
    assert [one.kind for one in trace(twice, 16).layers][:2] == ["pad", "conv"]


def test_the_module_is_left_as_it_was() -> None:
    net = torchvision_net("mobilenet_v2", device="cpu").train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    random_state = torch.get_rng_state()
    geometry_of(net, 64)
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert not module_globals._global_forward_hooks
    assert not module_globals._global_forward_pre_hooks
    assert all(p.grad is None for p in net.parameters())


class Caching(nn.Module):
    """As LeViT's attention in eval mode: what it computes of its weights, it keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.cache: dict[str, Tensor] = {}
        self.last: Tensor | None = None

    def forward(self, images: Tensor) -> Tensor:
        self.cache.setdefault("weight", self.conv.weight * 2)
        if not hasattr(self, "grid"):
            self.register_buffer("grid", torch.ones_like(images[:1, :1]))
        self.last = F.conv2d(images * self.grid, self.cache["weight"])
        return self.last


def test_what_a_pass_leaves_in_a_module_is_taken_away_again() -> None:
    net = Caching()
    geometry_of(net, 8)
    assert (net.cache, net.last, hasattr(net, "grid")) == ({}, None, False)
    images = torch.ones(1, 3, 8, 8)
    assert torch.equal(net(images), F.conv2d(images, net.conv.weight * 2))
    geometry_of(net, 8)
    assert net.cache["weight"].abs().sum() > 0


def test_what_wraps_a_module_and_whole_numbers_of_numpy_change_nothing() -> None:
    net = plain(nn.Conv2d(4, 4, 3, stride=2))
    whole = [figures(one) for one in geometry_of(net, (20, 18))]
    assert [figures(one) for one in geometry_of(nn.DataParallel(net), (np.int64(20), np.uint8(18)))] == whole
    assert [figures(one) for one in geometry_of(torch.compile(nn.DataParallel(net)), (20, 18))] == whole
    assert geometry_of(Rearranged(), np.int32(8), input_channels=np.int64(1))["conv"].receptive_field == (4, 4)


def test_half_precision_a_compiled_module_and_a_frozen_one() -> None:
    net = plain(nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3))
    whole = geometry_of(net, 20)
    assert [figures(one) for one in geometry_of(torch.compile(net), 20)] == [figures(one) for one in whole]
    half = geometry_of(net.half(), 20)
    assert half.totals.activation_bytes * 2 == whole.totals.activation_bytes
    assert geometry_of(net.requires_grad_(False), 20).totals.activation_bytes == 0


class Decides(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class Chosen(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images[images > 0]


class Two(nn.Module):
    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        return one + other


class ListOfImages(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, images: list[Tensor]) -> Tensor:
        images.reverse()
        return self.conv(torch.stack(images))


class OneSize(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        raise AssertionError


class Rearranged(nn.Sequential):
    """Whose first convolution does not read the image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(16, 3, 1)
        self.first = nn.PixelUnshuffle(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.first(x))


class Centred(Rearranged):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.first(x - torch.ones(1, 1, 8, 8).expand(1, 3, 8, 8)))


def scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return torch.jit.script(nn.Conv2d(3, 4, 3))


def detector() -> nn.Module:
    make = torchvision.models.detection.fasterrcnn_mobilenet_v3_large_fpn
    with torch.device("meta"):
        return make(weights=None, weights_backbone=None).eval()


REFUSED = {
    "class": (lambda: geometry_of(nn.Conv2d, 32), r"module=Conv2d is a class; make a module of it: Conv2d\(\.\.\.\)"),
    "another class": (lambda: geometry_of(torchvision.models.ResNet, 32), "module=ResNet is a class"),
    "text": (lambda: geometry_of("resnet18", 32), "module='resnet18' is a str, not an nn.Module"),
    "sequence": (lambda: geometry_of(nn.Conv1d(3, 4, 3), 32), "its first convolution is a Conv1d"),
    "volume": (lambda: geometry_of(nn.Conv3d(3, 4, 3), 32), "its first convolution is a Conv3d"),
    "scripted": (lambda: geometry_of(scripted(), 32), "the module is scripted"),
    "detection": (
        lambda: geometry_of(detector(), 64),
        "more than 1,000 of its operations cannot be followed, such as ",
    ),
    "chosen pixels": (
        lambda: geometry_of(plain(Chosen()), 20),
        "depends on the values of its feature maps .*nonzero",
    ),
    "list": (lambda: geometry_of(ListOfImages(), 32), "wrap a module that expects anything else, such as a list"),
    "asserts": (
        lambda: geometry_of(plain(OneSize()), 32),
        "layer '1' cannot run on a 32x32 image: AssertionError. It is called with",
    ),
    "inputs": (lambda: geometry_of(Two(), 8), "Two.forward needs one, other: give .* others={'other': torch.zeros"),
    "guess": (lambda: geometry_of(Rearranged(), 8), "input_channels=16 was guessed.*: give input_channels="),
    "guess that cannot be broadcast": (
        lambda: geometry_of(Centred(), 8),
        "broadcast .* input_channels=16 was guessed.*: give input_channels=",
    ),
    "float": (lambda: geometry_of(nn.Conv2d(3, 4, 3), 32.0), r"input_size=32\.0 is not allowed"),
    "too small": (
        lambda: geometry_of(torchvision_net("alexnet", device="meta"), 20),
        r"layer 'features.5' cannot run on a 20x20 image: Given input size: \(192x1x1\)",
    ),
    "data": (
        lambda: geometry_of(plain(Decides()), 20),
        "layer '1' cannot run on a 20x20 image: it decides by the values of its feature maps",
    ),
    "channels": (
        lambda: geometry_of(nn.Sequential(nn.Flatten(), nn.Linear(48, 2)), 4),
        "input_channels=None, but the module has no Conv2d to tell them from; give a number of channels",
    ),
    "size": (lambda: geometry_of(plain(), 0), "input_size=0 is not allowed; it must be an integer of 1 or more"),
    "lazy": (
        lambda: geometry_of(nn.Sequential(nn.LazyConv2d(4, 3)), 8),
        "the module has lazy layers without weights; run it once on real images",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_traced_at_all_is_refused_with_the_reason(case: str) -> None:
    call, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        call()


def test_a_failed_trace_leaves_no_hooks_behind() -> None:
    with pytest.raises(ValueError, match="cannot run"):
        geometry_of(plain(Decides()), 20)
    assert not module_globals._global_forward_hooks
    assert not module_globals._global_forward_pre_hooks


def test_a_network_without_convolutions() -> None:
    geometry = geometry_of(nn.Sequential(nn.Flatten(), nn.Linear(48, 2)), 4, input_channels=3)
    assert [(one.name, one.kind, one.receptive_field) for one in geometry] == [
        ("0", "flatten", (4, 4)),
        ("1", "linear", (4, 4)),
    ]


class Cells(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "tr":
            self.rows.append([])

    def handle_data(self, data: str) -> None:
        self.rows[-1].append(data)


def test_the_table_reads_the_same_as_text_and_as_html() -> None:
    geometry = geometry_of(SMALL_NETS["pads"][0], SMALL_NETS["pads"][1])
    assert len(geometry) == len(list(geometry)) == 5
    assert geometry[-1] is geometry["5"]
    with pytest.raises(KeyError, match="layer9"):
        geometry["layer9"]
    text = str(geometry)
    lines = text.splitlines()
    (second,) = [line for line in lines if line.split()[:2] == ["1", "conv"]]
    assert " ".join(second.split()) == "1 conv 3 2 0,1,2,0 4 x 23 x 23 3 2 112 57,132 25.9 uneven padding"
    assert lines[-1].split()[:3] == ["total", f"{geometry.totals.params:,}", f"{geometry.totals.macs:,}"]
    parser = Cells()
    parser.feed(geometry._repr_html_())
    words = [" ".join(" ".join(row).split()) for row in parser.rows]
    rows = [" ".join(line.split()) for line in lines if line.strip("\u2500")]
    assert words[1:] == rows[2:]  # the heading takes two lines: saved, KiB
    assert sorted(words[0].split()) == sorted(" ".join(rows[:2]).split())


class Guided(nn.Module):
    """An image and a smaller depth map, and a vector that scales channels."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.depth = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Conv2d(1, 8, 5, padding=2)
        self.scale, self.head = nn.Linear(5, 8), nn.Conv2d(8, 4, 3)

    def forward(self, image: Tensor, depth: Tensor | None = None, *, scale: Tensor) -> Tensor:
        scaled = self.image(image) * self.scale(scale)[:, :, None, None]
        return self.head(scaled if depth is None else scaled + self.depth(depth))


def test_a_module_of_several_inputs_is_measured_on_its_images() -> None:
    scale, depth = torch.zeros(1, 5), torch.zeros(1, 1, 16, 16)
    alone = geometry_of(Guided(), 32, others={"scale": scale})
    assert alone.totals.macs == 16 * 16 * 8 * 27 + 5 * 8 + 14 * 14 * 4 * 72
    assert {one.name: one.receptive_field for one in alone}["head"] == (7, 7)
    both = geometry_of(Guided(), 32, others={"scale": scale, "depth": depth})
    assert both.totals.macs == alone.totals.macs + 16 * 16 * 8 * 25
    assert both.totals.params == alone.totals.params == sum(one.numel() for one in Guided().parameters())
    assert "another input" in both.opaque["depth"]
    assert {one.name: one.receptive_field for one in both}["head"] is None, "whose field is no longer the image's alone"


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({}, "Guided.forward needs image, scale: give .* others={'scale': torch.zeros"),
        ({"scal": torch.zeros(1, 5)}, "others={'scal': ...}: .* has no such parameter .* it has depth, scale"),
        ({"scale": torch.zeros(2, 5)}, r"others\['scale'\] must be .* a batch of one, .* shape \(2, 5\)"),
        ({"scale": 3}, "it is a int"),
        ({"scale": torch.zeros(1, 7)}, "cannot run on a 32x32 image"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(others: dict[str, Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        geometry_of(Guided(), 32, others=others)


def test_stridelab_offers_geometry_of_without_importing_torch_for_it() -> None:
    assert stridelab.geometry_of is geometry_of
    code = "import sys, stridelab, stridelab.geometry, stridelab.models; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_the_input_transform_of_torchvision_s_pretrained_nets_changes_no_geometry(name: str) -> None:
    """Channels are sliced out, scaled one by one and joined again: layers before the first, and no wider field."""
    nets = [
        getattr(torchvision.models, name)(weights=None, init_weights=False, aux_logits=False, transform_input=transform)
        for transform in (False, True)
    ]
    without, transformed = (geometry_of(net.eval(), 96) for net in nets)
    assert transformed.opaque == {}
    assert transformed.totals.params == without.totals.params
    assert transformed.totals.macs == without.totals.macs
    assert [(one.name, one.receptive_field, one.region) for one in transformed][-len(without) :] == [
        (one.name, one.receptive_field, one.region) for one in without
    ]

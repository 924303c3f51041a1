"""models/build: the network computes what its plan says, and nothing but stride and padding differs."""

from __future__ import annotations

import copy
import itertools
import pickle
import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layer_outputs import layer_outputs
from stridelab.geometry import IMAGE, KINDS, LayerPlan, layer, measure
from stridelab.models import CnnConfig, layer_plan
from stridelab.models.build import BUILDERS, Network, build

NUMPY_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def cnn(**choices: object) -> Network:
    config = CnnConfig(channels=(4, 6, 8), **choices)
    return build(layer_plan(config, input_channels=3, input_size=(13, 16), num_classes=5))


def residual_plan() -> LayerPlan:
    """A block with a projected shortcut, then one with a plain shortcut that is read three times."""
    return LayerPlan(
        3,
        (12, 12),
        (
            layer("conv", "conv1", out_channels=4, kernel_size=3, stride=2, padding="same"),
            layer("norm", "norm1"),
            layer("activation", "relu1"),
            layer("conv", "conv2", out_channels=4, kernel_size=3, padding="half"),
            layer("conv", "shortcut", inputs=(IMAGE,), out_channels=4, stride=2),
            layer("add", "add1", inputs=("conv2", "shortcut")),
            layer("activation", "relu2"),
            layer("conv", "conv3", out_channels=4, kernel_size=3, padding="half"),
            layer("norm", "norm3"),
            layer("add", "add2", inputs=("norm3", "relu2")),
            layer("concat", "concat", inputs=("add2", "relu2", "add1")),
            layer("activation", "relu3"),
            layer("global_avg_pool", "pool"),
            layer("linear", "classifier", out_channels=5, bias=True),
        ),
    )


def tf_same(size: int, span: int, stride: int) -> tuple[int, int]:
    """XLA's rule as its source states it, not as geometry computes it."""
    total = max(span - stride, 0) if size % stride == 0 else max(span - size % stride, 0)
    return total // 2, total - total // 2


PADS = {
    "same": tf_same,
    "same_lower": lambda size, span, stride: tf_same(size, span, stride)[::-1],
    "half": lambda size, span, stride: ((span - 1) // 2, (span - 1) // 2),
    "valid": lambda size, span, stride: (0, 0),
    2: lambda size, span, stride: (2, 2),
}


@pytest.mark.parametrize("mode", NUMPY_MODES)
@pytest.mark.parametrize("policy", PADS)
def test_a_convolution_pads_as_numpy_pads_and_then_convolves(policy: str | int, mode: str) -> None:
    images = torch.randn(2, 3, 11, 14)
    for kernel_size, stride, dilation in itertools.product([(3, 3), (2, 5)], [(1, 1), (2, 3)], [1, 2]):
        conv = layer(
            "conv",
            out_channels=4,
            kernel_size=kernel_size,
            stride=stride,
            dilation=dilation,
            padding=policy,
            padding_mode=mode,
            bias=True,
        )
        net = build(LayerPlan(3, (11, 14), (conv,)))
        rows, columns = (
            PADS[policy](size, dilation * (kernel - 1) + 1, step)
            for size, kernel, step in zip((11, 14), kernel_size, stride, strict=True)
        )
        padded = torch.from_numpy(np.pad(images.numpy(), ((0, 0), (0, 0), rows, columns), NUMPY_MODES[mode]))
        weight, bias = net.conv1.weight, net.conv1.bias
        expected = F.conv2d(padded, weight, bias, stride=stride, dilation=dilation)
        torch.testing.assert_close(net(images), expected)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", ["same", "same_lower", 1])
@pytest.mark.parametrize("size", [(7, 10), (8, 9)])
def test_pools_pad_with_nothing_that_could_win_or_weigh(size: tuple[int, int], padding: str | int, stride: int) -> None:
    images = -1 - torch.rand(2, 3, *size)  # a zero pad would win every maximum
    for kind, fill in (("max_pool", -np.inf), ("avg_pool", 0.0)):
        pool = layer(kind, kernel_size=3, stride=stride, padding=padding)
        plan = LayerPlan(3, size, (pool,))
        (geometry,) = measure(plan)
        (top, bottom), (left, right) = geometry.pad
        padded = F.pad(images, (left, right, top, bottom), value=fill)
        windows = padded.unfold(2, 3, stride).unfold(3, 3, stride).flatten(4)
        expected = windows.amax(4) if kind == "max_pool" else windows.mean(4)
        torch.testing.assert_close(build(plan)(images), expected)


@pytest.mark.parametrize("kind", ["max_pool", "avg_pool"])
def test_ceil_mode_is_pytorch_s(kind: str) -> None:
    native = {"max_pool": F.max_pool2d, "avg_pool": F.avg_pool2d}[kind]
    for size, kernel, stride, padding in itertools.product(range(3, 9), (2, 3), (1, 2, 3), (0, 1)):
        images = torch.randn(1, 2, size, size + 1)
        pool = layer(kind, kernel_size=kernel, stride=stride, padding=padding, ceil_mode=True)
        made = build(LayerPlan(2, (size, size + 1), (pool,)))(images)
        torch.testing.assert_close(made, native(images, kernel, stride, padding, ceil_mode=True))


def test_an_asymmetric_pool_with_ceil_mode_has_the_windows_of_its_geometry() -> None:
    for size, stride in itertools.product(range(4, 10), (1, 2, 3)):
        pool = layer("max_pool", kernel_size=3, stride=stride, padding=[0, 1, 0, 1], ceil_mode=True)
        plan = LayerPlan(1, (size, size), (pool,))
        made = build(plan)(torch.randn(1, 1, size, size))
        assert tuple(made.shape[2:]) == measure(plan)[0].output_size
        assert made.isfinite().all()


@pytest.mark.parametrize("head", ["gap", "flatten"])
def test_every_map_has_the_size_its_geometry_says(head: str) -> None:
    for strides, padding in itertools.product(["1-1-1", "2-1-3", "1x2-2-2"], ["same", "half", "valid"]):
        net = cnn(strides=strides, padding=padding, head=head).eval()
        maps = layer_outputs(net, torch.randn(2, 3, 13, 16))
        for geometry in measure(net.plan):
            per_image = maps[geometry.name][0]
            assert per_image.numel() == geometry.output_elements
            if per_image.ndim == 3:
                assert tuple(per_image.shape) == (geometry.out_channels, *geometry.output_size)
            assert sum(p.numel() for p in net.get_submodule(geometry.name).parameters()) == geometry.params


def test_stride_and_padding_change_no_parameter() -> None:
    variants = [
        cnn(strides=strides, padding=padding, padding_mode=mode)
        for strides, padding, mode in itertools.product(
            ["1-1-1", "2-1-1", "1-2-1"], ["same", "valid", 1], ["zeros", "circular"]
        )
    ]
    shapes = [{name: tuple(value.shape) for name, value in net.state_dict().items()} for net in variants]
    assert all(these == shapes[0] for these in shapes)
    assert list(shapes[0])[:2] == ["conv1.weight", "norm1.weight"]
    weights = variants[0].state_dict()
    for net in variants:
        net.load_state_dict(weights)


def reference_forward(net: Network, images: Tensor) -> Tensor:
    """`residual_plan` as a person would write it, without in-place operations or slots."""

    def pad(x: Tensor) -> Tensor:
        return F.pad(x, (0, 1, 0, 1))  # TensorFlow's SAME for 3x3 at stride 2 on 12x12

    relu1 = net.norm1(F.conv2d(pad(images), net.conv1.weight, stride=2)).relu()
    add1 = net.conv2(relu1) + net.shortcut(images)
    relu2 = add1.relu()
    add2 = net.norm3(net.conv3(relu2)) + relu2
    return net.classifier(torch.cat([add2, relu2, add1], 1).relu().mean((2, 3)))


def test_a_branched_plan_computes_and_differentiates_like_the_same_net_by_hand() -> None:
    net = build(residual_plan())
    images = torch.randn(4, 3, 12, 12)
    target = torch.tensor([0, 1, 2, 3])
    gradients = []
    for forward in (net, lambda x: reference_forward(net, x)):
        net.zero_grad()
        F.cross_entropy(forward(images), target).backward()
        gradients.append([p.grad.clone() for p in net.parameters()])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_relu_overwrites_only_what_nobody_else_reads() -> None:
    net = build(residual_plan())
    in_place = {name for name, module in net.named_modules() if isinstance(module, nn.ReLU) and module.inplace}
    assert in_place == {"relu1", "relu3"}  # add1 is read twice
    first = build(LayerPlan(1, (4, 4), (layer("activation"), layer("activation", function="tanh"))))
    images = torch.full((1, 1, 4, 4), -1.0)
    first(images)
    assert (images == -1).all()


def test_a_forward_pass_lets_go_of_maps_that_no_later_layer_reads() -> None:
    net = build(residual_plan()).eval()
    alive: dict[str, weakref.ref[Tensor]] = {}
    still_there: dict[str, set[str]] = {}

    def note(name: str) -> None:
        def hook(module: nn.Module, args: object, output: Tensor) -> None:
            alive[name] = weakref.ref(output)

        def before(module: nn.Module, args: object) -> None:
            still_there[name] = {other for other, ref in alive.items() if ref() is not None}

        module = net.get_submodule(name)
        module.register_forward_hook(hook)
        module.register_forward_pre_hook(before)

    for one in net.plan.layers:
        note(one.name)
    with torch.no_grad():
        net(torch.randn(1, 3, 12, 12))
    assert still_there["shortcut"] == {"conv2"}
    assert still_there["conv3"] == {"add1", "relu2"}
    assert still_there["classifier"] == {"pool"}


def test_conv_layers_name_the_convolutions_in_order() -> None:
    assert cnn().conv_layers == ("conv1", "conv2", "conv3")
    assert build(residual_plan()).conv_layers == ("conv1", "conv2", "shortcut", "conv3")


def test_a_circular_net_is_invariant_to_shifts_by_its_effective_stride_and_to_no_others() -> None:
    for strides, jump in (("1-1-1", 1), ("1-2-1", 2), ("2-3-1", 6)):
        config = CnnConfig(channels=(4, 6, 8), strides=strides, padding_mode="circular")
        plan = layer_plan(config, input_channels=1, input_size=(24, 24), num_classes=5)
        assert measure(plan)[6].effective_stride == (jump, jump)
        net = build(plan).double().eval()
        images = torch.randn(1, 1, 24, 24, dtype=torch.float64)
        with torch.no_grad():
            here = net(images)
            for shift in range(1, 13):
                moved = (net(images.roll((shift, shift), (2, 3))) - here).abs().max().item()
                assert (moved < 1e-12) == (shift % jump == 0), (strides, shift, moved)


def test_every_builder_makes_what_geometry_measures() -> None:
    single = sorted(BUILDERS.keys() - {"add", "concat", "linear"})
    for kind in single:
        plan = LayerPlan(
            3, (8, 8), (layer("conv", out_channels=4), layer(kind, "x", kernel_size=2, output_size=(2, 4)))
        )
        net, geometry = build(plan), measure(plan)[1]
        made = net(torch.randn(2, 3, 8, 8))
        assert made[0].numel() == geometry.output_elements, kind
        assert sum(p.numel() for p in net.x.parameters()) == geometry.params, kind
    assert set(BUILDERS) <= set(KINDS)


@pytest.mark.parametrize("function", ["relu", "relu6", "leaky_relu", "elu", "gelu", "silu", "tanh", "sigmoid"])
def test_activations_are_pytorch_s_of_that_name(function: str) -> None:
    images = torch.randn(2, 3, 4, 4) * 5
    made = build(LayerPlan(3, (4, 4), (layer("activation", function=function),)))(images)
    expected = torch.sigmoid(images) if function == "sigmoid" else getattr(F, function)(images)
    torch.testing.assert_close(made, expected)


@pytest.mark.filterwarnings("ignore:Guards may run slower on Python 3.13.0")
def test_the_same_result_compiled_channels_last_copied_and_pickled() -> None:
    net = build(residual_plan()).eval()
    images = torch.randn(2, 3, 12, 12)
    expected = net(images)
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(images), expected)
    torch.testing.assert_close(copy.deepcopy(net)(images), expected)
    torch.testing.assert_close(pickle.loads(pickle.dumps(net))(images), expected)
    last = net.to(memory_format=torch.channels_last)
    made = layer_outputs(last, images.contiguous(memory_format=torch.channels_last))
    assert made["concat"].is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(made["classifier"], expected)


def test_a_replaced_sub_module_is_used() -> None:
    """As nn.SyncBatchNorm.convert_sync_batchnorm does it."""
    net = cnn().eval()
    net.classifier = nn.Linear(8, 2)
    assert net(torch.randn(1, 3, 13, 16)).shape == (1, 2)


def test_a_plan_that_collapses_is_refused_with_the_layer_s_name() -> None:
    with pytest.raises(ValueError, match=r"layer 'conv2' \(conv\) on a map of 2x2"):
        build(
            LayerPlan(
                1,
                (4, 4),
                (layer("conv", out_channels=1, kernel_size=3), layer("conv", out_channels=1, kernel_size=3)),
            )
        )

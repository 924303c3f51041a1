"""What trains on CUDA has a deterministic backward pass there, or the plan names it, as PyTorch documents it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from stridelab.config import load
from stridelab.geometry import PADDING_MODES
from stridelab.models.build import BUILDERS, build
from stridelab.models.layer_modules import reflected
from stridelab.plan import layer_plan_of

CALLED = {
    "zeros": "ZeroPad2d", "reflect": "ReflectionPad2d", "replicate": "ReplicationPad2d", "circular": "CircularPad2d",
    "conv": "Conv2d", "norm": "BatchNorm2d", "activation": "ReLU", "max_pool": "MaxPool2d", "avg_pool": "AvgPool2d",
    "adaptive_avg_pool": "AdaptiveAvgPool2d", "global_avg_pool": "mean", "add": "add", "concat": "cat",
    "flatten": "Flatten", "linear": "Linear", "dropout": "Dropout", "identity": "Identity",
    "blur_pool": "Conv2d", "space_to_depth": "PixelUnshuffle", "multiply": "mul", "readout": "mean",
    "resample": "matmul", "soft_argmax": "softmax",
}  # fmt: skip
"""PyTorch's names of our padding modes and layers."""


def refused() -> set[str]:
    """What throws on CUDA, as `torch.use_deterministic_algorithms` documents it."""
    text = torch.use_deterministic_algorithms.__doc__ or ""
    begin, end = text.index("operations will throw a"), text.index("In addition, several operations fill")
    listed = re.findall(r"^ +\* :\w+:`torch\.([\w.]+)`", text[begin:end], re.M)
    assert len(listed) > 20
    return {name.rpartition(".")[2] for name in listed}


def test_pytorch_refuses_exactly_what_the_plan_warns_of() -> None:
    """The rules `reflect` and `nondeterministic` of plan/warnings.py, whatever the accelerator: a plan may be trained
    elsewhere."""
    assert set(CALLED) == {*PADDING_MODES, *BUILDERS}
    assert [ours for ours, name in CALLED.items() if name in refused()] == ["reflect", "adaptive_avg_pool"]


@pytest.mark.parametrize("pads", [(1, 1, 1, 1), (0, 3, 2, 0), (3, 1, 0, 0), (-1, 2, 3, -2), (0, 0, -1, 0)])
def test_strips_give_what_reflect_padding_gives(pads: tuple[int, int, int, int]) -> None:
    """Values to the bit; gradients up to the order of sums."""
    images = torch.rand(2, 3, 7, 6, dtype=torch.float64)
    weight = torch.rand_like(F.pad(images, pads, mode="reflect"))
    gradients = []
    for pad in (reflected, lambda images, pads: F.pad(images, pads, mode="reflect")):
        leaf = images.clone().requires_grad_()
        padded = pad(leaf, pads)
        assert torch.equal(padded, F.pad(images, pads, mode="reflect"))
        (padded * weight).sum().backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients, rtol=1e-14, atol=1e-14)


@pytest.fixture
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def backward_of(*overrides: str) -> set[str]:
    """Names of all steps of the backward pass on CUDA, in PyTorch's words and small letters. No GPU is needed: the
    tensors have shapes and a device, and no content."""
    plan = layer_plan_of(load(["model.channels=[4,4,8]", *overrides]))
    with FakeTensorMode(), torch.device("cuda"):
        logits: Tensor = build(plan)(torch.empty(2, plan.input_channels, *plan.input_size, requires_grad=True))
        assert logits.is_cuda
    found, left = set(), [logits.grad_fn]
    while left:
        step = left.pop()
        if step is not None:
            found.add(re.sub(r"backward\d*$", "", step.name().lower()))
            left += [one for one, _ in step.next_functions]
    return found


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("mode", PADDING_MODES)
@pytest.mark.parametrize("rest", ["model.padding=same", "model.head=flatten"])
def test_no_network_of_ours_does_on_cuda_what_pytorch_refuses_there(mode: str, rest: str) -> None:
    steps = backward_of(f"model.padding_mode={mode}", rest, "model.strides=1-2-2")
    assert "convolution" in steps
    assert not steps & {name.lower() for name in refused()}


def test_without_deterministic_algorithms_pytorchs_own_padding_is_used() -> None:
    assert "reflectionpad2d" in backward_of("model.padding_mode=reflect")

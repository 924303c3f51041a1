"""From any `nn.Module` to a layer plan, by watching one forward pass of shapes without numbers."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.func import functional_call
from torch.nn.parameter import is_lazy

from stridelab.geometry import LayerPlan, Pair, measure, parse_pair

from .table import Geometry
from .tracing.recorder import Recorder, batch_size_for


def geometry_of(module: nn.Module, input_size: int | Pair, *, input_channels: int | None = None) -> Geometry:
    """Geometry, cost and memory of each layer of `module` on images of `input_size`, int or (height, width).

    The module is traced in the mode it is in (train or eval), and is not changed. What cannot be followed is
    named, with the reason, and leaves the receptive fields behind it at None.

    >>> geometry_of(nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU()), 32)[-1].receptive_field
    (3, 3)

    Raises ValueError when the module cannot run on such images, or decides by their content.
    """
    plan = trace(module, input_size, input_channels=input_channels)
    return Geometry(plan, measure(plan))


def trace(module: nn.Module, input_size: int | Pair, *, input_channels: int | None = None) -> LayerPlan:
    """The layer plan of `module`; a layer is named by the sub-module that computes it.

    Runs the module's own code once, on tensors that have a shape but no numbers: control flow, functional
    code and in-place operations are followed as they happen. Parameters, MACs and saved activations are those
    of this very pass. `input_channels` are those of the first convolution unless given.
    """
    module = getattr(module, "_orig_mod", module)  # what torch.compile wraps
    if any(map(is_lazy, module.parameters())):
        raise ValueError("the module has lazy layers without weights; run it once on real images.")
    size = parse_pair(input_size, "input_size")
    channels, _ = parse_pair(input_channels or first_channels(module), "input_channels")
    recorder = Recorder(module)
    with quiet(), FakeTensorMode(allow_non_fake_inputs=True) as fake, torch.enable_grad():
        state = dict(module.named_parameters()) | dict(module.named_buffers())
        state = {name: fake.from_tensor(tensor) for name, tensor in state.items()}
        batch_size = batch_size_for([channels, *size, *(n for tensor in state.values() for n in tensor.shape if n)])
        images = like_weights(module).new_empty(batch_size, channels, *size)
        try:
            with recorder.watch(images, state):
                functional_call(module, state, (images,))
        except Exception as exc:
            where = f"layer {recorder.path!r}" if recorder.path else "the network"
            raise ValueError(f"{where} cannot run on a {size[0]}x{size[1]} image: {reason(exc)}") from exc
    return LayerPlan(channels, size, recorder.layers())


def reason(exc: Exception) -> str:
    if isinstance(exc, DataDependentOutputException):
        return "it decides by the values of its feature maps, and a trace has only their shapes"
    return str(exc) or type(exc).__name__


@contextmanager
def quiet() -> Iterator[None]:
    """Neither warnings about a pass that is not for real, nor PyTorch's own log of an error that we report."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    was_disabled, log.disabled = log.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.disabled = was_disabled


def first_channels(module: nn.Module) -> int:
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            return layer.in_channels
    raise ValueError("input_channels=None, but the module has no Conv2d to tell them from; give a number of channels.")


def like_weights(module: nn.Module) -> Tensor:
    """A tensor of the type and on the device of the module's weights."""
    weights = (weight for weight in module.parameters() if weight.is_floating_point())
    return next(weights, torch.empty(0))

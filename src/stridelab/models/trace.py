"""From any `nn.Module` to a layer plan, by watching one forward pass of shapes without numbers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call

from stridelab.geometry import LayerPlan, Pair, measure

from .recorder import BATCH, Recorder
from .table import Geometry


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
    size = (input_size, input_size) if isinstance(input_size, int) else (input_size[0], input_size[1])
    channels = input_channels or first_channels(module)
    recorder = Recorder(module)
    with FakeTensorMode(allow_non_fake_inputs=True) as fake, torch.enable_grad():
        state = dict(module.named_parameters()) | dict(module.named_buffers())
        state = {name: fake.from_tensor(tensor) for name, tensor in state.items()}
        images = like_weights(module).new_empty(BATCH, channels, *size)
        try:
            with recorder.watch(images, state):
                functional_call(module, state, (images,))
        except Exception as exc:
            where = f"layer {recorder.path!r}" if recorder.path else "the network"
            raise ValueError(f"{where} cannot run on a {size[0]}x{size[1]} image: {exc}") from exc
    plan = LayerPlan(channels, size, recorder.finish())
    for layer in measure(plan):
        assert recorder.sizes.get(layer.name, layer.output_size) == layer.output_size, layer
    return plan


def first_channels(module: nn.Module) -> int:
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            return layer.in_channels
    raise ValueError(
        "input_channels=None, but the module has no Conv2d to tell them from; give a number of channels."
    )


def like_weights(module: nn.Module) -> Tensor:
    """A tensor of the type and on the device of the module's weights."""
    weights = (weight for weight in module.parameters() if weight.is_floating_point())
    return next(weights, torch.empty(0))

"""From a layer plan to the network that trains."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from math import comb

import torch
from torch import Tensor, nn

from stridelab.geometry import Layer, LayerGeometry, LayerPlan, measure, pads_explicitly

from .families import FAMILIES
from .head_modules import build_readout, build_resample, build_soft_argmax
from .layer_modules import Add, ChannelNorm, Concat, GlobalAvgPool, Pad, PaddedConv2d, Scale
from .module_plan import ModulePlan, made
from .schedule import overwritable, schedule
from .weights import fitting_weights


def build(plan: LayerPlan) -> nn.Module:
    """The network of `plan`: of one that was traced, the module that its family makes; else each layer is a sub-module
    of that name, so that parameter names follow the plan.

    >>> from stridelab.models import CnnConfig, layer_plan
    >>> net = build(layer_plan(CnnConfig(), input_channels=1, input_size=(28, 28), num_classes=10))
    >>> net(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """
    if not isinstance(plan, ModulePlan):
        return Network(plan)
    make = FAMILIES[plan.config.family].module
    assert make is not None
    return made(make, plan.config, plan.input_channels, plan.input_size, plan.num_classes)[0]


def load_weights(network: nn.Module, plan: LayerPlan) -> tuple[str, ...]:
    """Copy what `model.weights` names into `network`; the sentences say what was not taken as it stands."""
    path = plan.config.weights if isinstance(plan, ModulePlan) else None
    if path is None:
        return ()
    given, said = fitting_weights(network, path)
    network.load_state_dict(given)
    return said


class Network(nn.Module):
    """Executes a layer plan; the output is that of the last layer."""

    def __init__(self, plan: LayerPlan) -> None:
        super().__init__()
        self.plan = plan
        self.conv_layers = tuple(layer.name for layer in plan.layers if layer.kind == "conv")
        for layer, geometry in zip(plan.layers, measure(plan), strict=True):
            assert layer.kind in BUILDERS, f"layer {layer.name!r}: no builder for kind {layer.kind!r}"
            *path, leaf = layer.name.split(".")
            parent = nested(self, path)
            assert leaf not in parent._modules, f"layer {layer.name!r}: other layers are within it"
            parent.add_module(leaf, BUILDERS[layer.kind](layer, geometry))
        for name in overwritable(plan):
            relu = self.get_submodule(name)
            assert isinstance(relu, nn.ReLU)
            relu.inplace = True
        self._steps, self._num_slots = schedule(plan)

    def forward(self, images: Tensor) -> Tensor:  # (batch, channels, height, width) -> (batch, classes)
        slots: list[Tensor | None] = [None] * self._num_slots
        slots[0] = images
        modules = self._modules
        for name, reads, write, drop in self._steps:
            module = modules[name] if name in modules else self.get_submodule(name)
            slots[write] = module(*[slots[read] for read in reads])  # type: ignore[misc]
            for slot in drop:
                slots[slot] = None
        output = slots[self._steps[-1].write]
        assert output is not None
        return output


def nested(module: nn.Module, path: Iterable[str]) -> nn.Module:
    """The sub-module at `path`, made of empty modules as far as there is none."""
    for name in path:
        if name not in module._modules:
            module.add_module(name, nn.Module())
        module = module.get_submodule(name)
    return module


def build_conv(layer: Layer, geometry: LayerGeometry) -> nn.Module:
    channels = (geometry.in_channels, geometry.out_channels)
    options = {
        "kernel_size": layer.kernel_size,
        "stride": layer.stride,
        "dilation": layer.dilation,
        "groups": layer.groups,
        "bias": layer.bias,
    }
    (top, bottom), (left, right) = geometry.pad
    if not pads_explicitly(geometry.pad, layer.padding_mode):
        return nn.Conv2d(*channels, padding=(top, left), **options)  # type: ignore[arg-type]
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return PaddedConv2d(*channels, pads=(left, right, top, bottom), pad_mode=mode, **options)


def build_max_pool(layer: Layer, geometry: LayerGeometry) -> nn.Module:
    def pool(padding: tuple[int, int], *, ceil_mode: bool) -> nn.Module:
        return nn.MaxPool2d(layer.kernel_size, layer.stride, padding, layer.dilation, ceil_mode=ceil_mode)

    return padded_pool(layer, geometry, pool=pool, fill=float("-inf"))


def build_avg_pool(layer: Layer, geometry: LayerGeometry) -> nn.Module:
    def pool(padding: tuple[int, int], *, ceil_mode: bool) -> nn.Module:
        return nn.AvgPool2d(layer.kernel_size, layer.stride, padding, ceil_mode=ceil_mode)

    return padded_pool(layer, geometry, pool=pool, fill=0.0)


def padded_pool(layer: Layer, geometry: LayerGeometry, *, pool: Callable[..., nn.Module], fill: float) -> nn.Module:
    """PyTorch's pool when it can take these pads itself, else explicit pads and a pool without padding."""
    if not pads_explicitly(geometry.pad, layer.padding_mode):
        (top, _), (left, _) = geometry.pad
        return pool((top, left), ceil_mode=layer.ceil_mode)
    (top, bottom), (left, right) = geometry.exact_pad if layer.ceil_mode else geometry.pad
    pads = (left, right, top, bottom)
    if layer.padding_mode == "zeros":
        return nn.Sequential(Pad(pads, value=fill), pool((0, 0), ceil_mode=False))
    return nn.Sequential(Pad(pads, mode=layer.padding_mode), pool((0, 0), ceil_mode=False))


def build_blur_pool(layer: Layer, geometry: LayerGeometry) -> nn.Module:
    """Outer products of rows of Pascal's triangle, with sum 1 (Zhang 2019); a buffer that no checkpoint holds."""
    conv = build_conv(replace(layer, groups=geometry.in_channels, dilation=(1, 1), bias=False), geometry)
    rows, columns = (torch.tensor([float(comb(size - 1, k)) for k in range(size)]) for size in layer.kernel_size)
    blur = torch.outer(rows / rows.sum(), columns / columns.sum())
    del conv.weight
    conv.register_buffer("weight", blur.repeat(geometry.in_channels, 1, 1, 1), persistent=False)
    return conv


def build_norm(layer: Layer, geometry: LayerGeometry) -> nn.Module:
    assert layer.function in {"", "batch", "layer"}, f"layer {layer.name!r}: no builder for {layer.function!r} norm"
    return (
        ChannelNorm(geometry.out_channels, eps=1e-6)
        if layer.function == "layer"
        else nn.BatchNorm2d(geometry.out_channels)
    )


def build_activation(layer: Layer, geometry: LayerGeometry) -> nn.Module:
    return ACTIVATIONS[layer.function]()


def build_linear(layer: Layer, geometry: LayerGeometry) -> nn.Module:
    return nn.Linear(geometry.in_channels, geometry.out_channels, bias=layer.bias)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "": nn.ReLU,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}

BUILDERS: dict[str, Callable[[Layer, LayerGeometry], nn.Module]] = {
    "conv": build_conv,
    "blur_pool": build_blur_pool,
    "space_to_depth": lambda layer, geometry: nn.PixelUnshuffle(layer.stride[0]),
    "multiply": lambda layer, geometry: Scale(geometry.out_channels),
    "norm": build_norm,
    "activation": build_activation,
    "max_pool": build_max_pool,
    "avg_pool": build_avg_pool,
    "adaptive_avg_pool": lambda layer, geometry: nn.AdaptiveAvgPool2d(geometry.output_size),
    "global_avg_pool": lambda layer, geometry: GlobalAvgPool(),
    "add": lambda layer, geometry: Add(),
    "concat": lambda layer, geometry: Concat(),
    "flatten": lambda layer, geometry: nn.Flatten(),
    "linear": build_linear,
    "dropout": lambda layer, geometry: nn.Dropout(),
    "identity": lambda layer, geometry: nn.Identity(),
    "readout": build_readout,
    "resample": build_resample,
    "soft_argmax": build_soft_argmax,
}
"""Every kind of layer that can be trained: add one function and one line."""

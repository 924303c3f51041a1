"""Networks that a function makes: their plan is traced of the module that it returns. No torch until one is."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from stridelab.geometry import LayerPlan

from .settings import ModelConfig, Pair

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class ModuleConfig(ModelConfig):
    """What can be changed of any module; how it is made comes in the family's own class."""

    set: dict[str, Any] = field(default_factory=dict)
    """Stride, padding, dilation or kernel size by the module's name: {conv1.stride: 1, layer*.0.conv1.stride: 2}, or
    maxpool: identity to leave out a module without weights. One by one: model.set.conv1.stride=1,2."""
    output_stride: int | None = None
    """Pixels of the image between neighbours of the last map: later strides are traded for dilation. null: as made."""
    weights: str | None = None
    """File of weights (.pth, .pt or .safetensors) that every variant starts from. null: random ones, by the seed."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "set", dict(sorted(leaves(self.set))))
        for one in fields(self):
            if isinstance(value := getattr(self, one.name), list):
                object.__setattr__(self, one.name, tuple(value))
        if self.output_stride is not None and self.output_stride < 1:
            raise ValueError(f"model.output_stride={self.output_stride} must be a whole number of at least 1, or null.")


def leaves(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """`{conv1: {stride: 1}}` as `conv1.stride`, and lists as tuples."""
    found: list[tuple[str, Any]] = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found += leaves(value, f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", tuple(value) if isinstance(value, list) else value))
    return found


Make = Callable[..., "nn.Module"]
"""(settings, in_channels=, num_classes=, input_size=, without_numbers=) -> a new module; `without_numbers`: it is only
looked at, and may lie on the device `meta`."""


@dataclass(frozen=True)
class ModulePlan(LayerPlan):
    """The plan of a module, which `build` makes again from the same settings."""

    config: ModuleConfig
    num_classes: int
    notes: tuple[str, ...] = ()
    """What was changed beside what was asked for, a sentence each."""


def traced(make: Make, config: ModuleConfig, *, input_channels: int, input_size: Pair, num_classes: int) -> ModulePlan:
    """The plan of the module that `make` makes, with what `config` sets. ValueError when it cannot be
    made or run on such images, does not give one number a class, or joins branches that end on different grids."""
    key = (json.dumps(asdict(config), sort_keys=True), input_channels, input_size, num_classes, make)
    if key not in _plans:
        _plans[key] = trace_module(make, config, input_channels, input_size, num_classes)
    return _plans[key]


_plans: dict[tuple[Any, ...], ModulePlan] = {}


def trace_module(
    make: Make, config: ModuleConfig, input_channels: int, input_size: Pair, num_classes: int
) -> ModulePlan:
    from .branches import refuse_broadcast, traced_output
    from .weights import fitting_weights

    module, notes = made(make, config, input_channels, input_size, num_classes, traced_only=True)
    try:
        plan, output = traced_output(module, input_size, input_channels)
    except ValueError as error:
        larger = larger_size(module, input_size, input_channels) if "cannot run on" in str(error) else ""
        raise ValueError(f"{error}{larger}") from None
    refuse_no_classifier(output, num_classes)
    if config.set:
        refuse_broadcast(plan)
    if config.weights is not None:
        notes += fitting_weights(module, config.weights)[1]
    return ModulePlan(input_channels, input_size, plan.layers, config, num_classes, notes)


SIZES = (32, 48, 64, 96, 128, 224, 299)


def larger_size(module: nn.Module, input_size: Pair, input_channels: int) -> str:
    """Where images were too small: the first of some sizes on which the network runs."""
    from .trace import trace

    for size in (size for size in SIZES if size > max(input_size)):
        with suppress(ValueError):
            trace(module, size, input_channels=input_channels)
            return f"; it runs on images of {size}x{size} (data.size={size} of image files)"
    return ""


def made(
    make: Make,
    config: ModuleConfig,
    input_channels: int,
    input_size: Pair,
    num_classes: int,
    *,
    traced_only: bool = False,
) -> tuple[nn.Module, tuple[str, ...]]:
    """The module with all that `config` sets, and what was changed beside; `traced_only`: its weights may have no
    numbers."""
    import torch

    from .surgery import change

    facts = {"in_channels": input_channels, "num_classes": num_classes, "input_size": input_size}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # parameters get their values by `initialise`; what else is random is so once and for all
        module = make(config, **facts, without_numbers=traced_only)
    notes = change(module, config.set, output_stride=config.output_stride, images=(input_channels, *input_size))
    return module, notes


def on_device(make: Callable[[], nn.Module], *, without_numbers: bool) -> nn.Module:
    """What `make` returns; `without_numbers`: on the device meta, unless it computes its widths with tensors."""
    import torch

    if without_numbers:
        with suppress(NotImplementedError, RuntimeError), torch.device("meta"):
            return make()
    return make()


def refuse_no_classifier(output: Any, num_classes: int) -> None:
    shape = getattr(output, "shape", None)
    if shape is None:
        parts = f" of {', '.join(map(str, output))}" if isinstance(output, Mapping) else ""
        raise ValueError(
            f"the network returns a {type(output).__name__}{parts}, not a tensor of (images, classes); return the "
            "logits alone"
        )
    if len(shape) != 2 or shape[1] != num_classes:
        found = ", ".join(map(str, shape[1:]))
        raise ValueError(
            f"the network returns (images, {found}), not (images, {num_classes}): one number for each of the "
            f"{num_classes} classes of the data"
        )

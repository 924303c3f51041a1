"""What the layers of a network make of images."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from .build import Network

MOST_LAYERS = 8
"""Whose maps are kept, of other families than cnn: these, evenly spread from the first to the last."""

FOLLOWERS = {f"torch.nn.modules.{kind}" for kind in ("activation", "batchnorm", "instancenorm", "normalization")}
"""Where the modules are defined that a layer's map is shown after."""


def conv_layers(network: nn.Module) -> tuple[str, ...]:
    """The convolutions whose maps are kept, the same ones whatever their strides; those of 1x1 only where there are no
    others."""
    convs = {name: module for name, module in network.named_modules() if isinstance(module, nn.Conv2d)}
    if isinstance(network, Network):
        convs = {name: convs[name] for name in network.conv_layers}  # in the plan's order, without blur pools
        if not any("." in name for name in convs):  # of cnn, whose layers a person lists one by one
            return tuple(convs)
    names = [name for name, conv in convs.items() if max(conv.kernel_size) > 1] or list(convs)
    count = min(len(names), MOST_LAYERS)
    return tuple(names[round(at * (len(names) - 1) / max(1, count - 1))] for at in range(count))


def feature_maps(network: nn.Module, images: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
    """Copies of what `layers` make, in the order of computation, each (batch, channels, height, width): after the
    normalisation and the non-linearity that read a layer's output and nothing else. A non-linearity behind a sum, or
    one that is a function and no module, is not followed."""
    wanted, latest, maps = set(layers), dict[str, Tensor](), dict[str, Tensor]()

    def keep(name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            source = name if name in wanted else next((key for key, one in latest.items() if one is args[0]), None)
            if source and not (name in wanted and name in maps):
                latest[source] = output
                maps[source] = output.clone()  # a later in-place operation would overwrite it

        return hook

    hooks = [
        module.register_forward_hook(keep(name))
        for name, module in network.named_modules()
        if name in wanted or type(module).__module__ in FOLLOWERS
    ]
    try:
        with torch.no_grad():
            network(images)
    finally:
        for hook in hooks:
            hook.remove()
    return maps

"""Any classifier of torchvision, by its name there. No torch until one is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..module_plan import ModuleConfig, on_device
from ..settings import Pair, unknown_choice

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class TorchvisionConfig(ModuleConfig):
    """A network of torchvision.models, without its auxiliary outputs; its first convolution reads the images' channels,
    its last layer gives the data's classes."""

    family: str = "torchvision"
    name: str = "resnet18"
    """What torchvision calls it: resnet18, mobilenet_v2, ..."""


OPTIONS: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": False},
    "inception": {"aux_logits": False, "init_weights": False},
    "vgg": {"init_weights": False},
}
"""By how a name begins. Auxiliary classifiers return more than logits; first weights would be replaced by ours."""


def torchvision(
    config: TorchvisionConfig, *, in_channels: int, num_classes: int, input_size: Pair, without_numbers: bool
) -> nn.Module:
    from torchvision import models  # type: ignore[import-untyped]

    builders = models.list_models(module=models)
    if config.name not in builders:
        raise ValueError(unknown_choice("model.name", config.name, builders, what="a classifier of torchvision"))
    more = next((options for start, options in OPTIONS.items() if config.name.startswith(start)), {})

    def make() -> nn.Module:
        module: nn.Module = models.get_model(config.name, weights=None, num_classes=num_classes, **more)
        adapt_channels(module, in_channels)
        return module

    return on_device(make, without_numbers=without_numbers)


def adapt_channels(module: nn.Module, in_channels: int) -> None:
    """A first convolution of RGB images becomes one of `in_channels`, all else alike."""
    from torch import nn

    for name, conv in module.named_modules():
        if isinstance(conv, nn.Conv2d):
            if conv.in_channels != in_channels:
                assert isinstance(conv.padding, tuple)
                new = nn.Conv2d(
                    in_channels,
                    conv.out_channels,
                    conv.kernel_size,  # type: ignore[arg-type]
                    conv.stride,  # type: ignore[arg-type]
                    conv.padding,  # type: ignore[arg-type]
                    conv.dilation,  # type: ignore[arg-type]
                    conv.groups,
                    conv.bias is not None,
                    conv.padding_mode,
                )
                parent, _, child = name.rpartition(".")
                setattr(module.get_submodule(parent), child, new)
            return

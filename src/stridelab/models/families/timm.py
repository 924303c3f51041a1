"""Any network of the package timm, by its name there: an extra, `pip install stridelab[timm]`."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ..module_plan import ModuleConfig, on_device
from ..settings import Pair, unknown_choice

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class TimmConfig(ModuleConfig):
    """A network of timm; its first convolution reads the images' channels, its last layer gives the data's classes."""

    family: str = "timm"
    name: str = "resnet18"
    """What timm calls it: resnet10t, resnet18, mobilenetv3_small_050, ..."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if find_spec("timm") is None:
            raise ValueError("model=timm needs the package timm: pip install timm (or stridelab[timm]).")


def timm(
    config: TimmConfig, *, in_channels: int, num_classes: int, input_size: Pair, without_numbers: bool
) -> nn.Module:
    package: Any = import_module("timm")
    known = package.list_models()
    if config.name not in known:
        raise ValueError(unknown_choice("model.name", config.name, known, what="a network of timm"))
    facts = package.models.get_pretrained_cfg(config.name)
    sized = {"img_size": input_size} if facts is not None and facts.fixed_input_size else {}

    def make() -> Any:
        return package.create_model(
            config.name, pretrained=False, in_chans=in_channels, num_classes=num_classes, **sized
        )

    return on_device(make, without_numbers=without_numbers)

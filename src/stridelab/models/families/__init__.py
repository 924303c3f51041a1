"""Families: from a person's choices to a layer plan. No torch here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import NamedTuple

from stridelab.geometry import LayerPlan
from stridelab.system.user_code import load_entry_point

from ..module_plan import Make, traced
from ..settings import ModelConfig, Pair, require_choice
from .allconv import AllConvConfig, allconv
from .cnn import CnnConfig, cnn
from .convnext import ConvNextConfig, convnext
from .resnet import ResnetConfig, resnet
from .timm import TimmConfig, timm
from .torchvision import TorchvisionConfig, torchvision
from .vgg import VggConfig, vgg

__all__ = ["FAMILIES", "CnnConfig", "Family", "is_geometry", "layer_plan", "settings_of"]


class Family(NamedTuple):
    layer_plan: Callable[..., LayerPlan]
    """(settings, input_channels=, input_size=, num_classes=) -> plan."""
    settings: type[ModelConfig]
    """A frozen dataclass whose fields are the keys `model.*` of this family; each refuses nonsense itself."""
    module: Make | None = None
    """What makes the network, where `layer_plan` is traced of it."""


FAMILIES: dict[str, Family] = {
    "cnn": Family(cnn, CnnConfig),
    "resnet": Family(resnet, ResnetConfig),
    "vgg": Family(vgg, VggConfig),
    "allconv": Family(allconv, AllConvConfig),
    "convnext": Family(convnext, ConvNextConfig),
    "torchvision": Family(partial(traced, torchvision), TorchvisionConfig, torchvision),
    "timm": Family(partial(traced, timm), TimmConfig, timm),
}
"""`model.family` -> how its settings become a layer plan. With conf/model/NAME.yaml, all that a family needs."""


def find_family(name: object) -> bool:
    """Whether there is such a family, in this process or offered by an installed package."""
    return name in FAMILIES or (isinstance(name, str) and load_entry_point("family", name) and name in FAMILIES)


def is_geometry(key: str) -> bool:
    """Whether `model.NAME` says, in some family, where and how maps are padded and made smaller: what a sweep is
    about. So does a stride or padding that is set by a layer's name."""
    if key.startswith("model.set."):
        return key.endswith((".stride", ".padding"))
    known = [one for family in FAMILIES.values() for one in fields(family.settings) if f"model.{one.name}" == key]
    return any(one.metadata.get("geometry") for one in known)


def settings_of(family: object) -> type[ModelConfig]:
    """ValueError names the families that there are."""
    find_family(family)
    require_choice("model.family", family, tuple(FAMILIES))
    return FAMILIES[str(family)].settings


def layer_plan(config: ModelConfig, *, input_channels: int, input_size: Pair, num_classes: int) -> LayerPlan:
    """The layer plan of `config.family`."""
    settings_of(config.family)
    return FAMILIES[config.family].layer_plan(
        config, input_channels=input_channels, input_size=input_size, num_classes=num_classes
    )

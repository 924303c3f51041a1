"""Families: from a person's choices to a layer plan. No torch here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from stridelab.geometry import LayerPlan

from ..module_plan import traced
from ..settings import ModelConfig, Pair, require_choice
from .cnn import CnnConfig, cnn
from .torchvision import TorchvisionConfig, torchvision

__all__ = ["FAMILIES", "CnnConfig", "Family", "layer_plan", "settings_of"]


class Family(NamedTuple):
    layer_plan: Callable[..., LayerPlan]
    """(settings, input_channels=, input_size=, num_classes=) -> plan."""
    settings: type[ModelConfig]
    """A frozen dataclass whose fields are the keys `model.*` of this family; each refuses nonsense itself."""
    module: Callable[..., Any] | None = None
    """Where `layer_plan` is `traced`: (settings, in_channels=, num_classes=, input_size=, without_numbers=) -> a new
    nn.Module, which with `without_numbers` is only looked at, so that it may lie on the device `meta`."""


FAMILIES: dict[str, Family] = {
    "cnn": Family(cnn, CnnConfig),
    "torchvision": Family(traced, TorchvisionConfig, torchvision),
}
"""`model.family` -> how its settings become a layer plan. With conf/model/NAME.yaml, all that a family needs."""


def settings_of(family: object) -> type[ModelConfig]:
    """ValueError names the families that there are."""
    from ..user_family import find_family

    find_family(family)
    require_choice("model.family", family, tuple(FAMILIES))
    return FAMILIES[str(family)].settings


def layer_plan(config: ModelConfig, *, input_channels: int, input_size: Pair, num_classes: int) -> LayerPlan:
    """The layer plan of `config.family`."""
    settings_of(config.family)
    return FAMILIES[config.family].layer_plan(
        config, input_channels=input_channels, input_size=input_size, num_classes=num_classes
    )

"""One variant's geometry, or the reason why it is impossible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stridelab.config import Config
from stridelab.config.variants import variant_name
from stridelab.data import DATASETS
from stridelab.geometry import LayerGeometry, LayerPlan, measure
from stridelab.models import layer_plan


@dataclass(frozen=True)
class Variant:
    """`layers` in the plan's order; None with an `error` when the network cannot be built."""

    name: str
    config: Config
    layers: tuple[LayerGeometry, ...] | None
    error: str | None = None


def examine(config: Config, *, keys: Sequence[str]) -> Variant:
    """The variant's geometry; `keys` are what varies and so what it is called after."""
    name = variant_name(config, keys)
    try:
        return Variant(name, config, measure(layer_plan_of(config)))
    except ValueError as error:
        return Variant(name, config, None, str(error))


def layer_plan_of(config: Config) -> LayerPlan:
    """The plan of `config`'s network on `config`'s data set, from its published facts alone."""
    facts = DATASETS[config.data.name]
    return layer_plan(
        config.model,
        input_channels=facts.input_channels,
        input_size=facts.input_size,
        num_classes=facts.num_classes,
    )

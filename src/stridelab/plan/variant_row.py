"""A variant as every format shows it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from stridelab.config import Config
from stridelab.config.grid import Grid
from stridelab.config.variants import named_by, short, spelled
from stridelab.data.contents import contents_of
from stridelab.geometry import LayerGeometry, Pair, Totals, TrainingMemory, totals
from stridelab.geometry.axis import Step
from stridelab.geometry.totals import map_sizes
from stridelab.training.predicted_memory import predicted_memory
from stridelab.training.settings import EVAL_BATCH_SIZE

from .variant import Variant, grouped_steps, layers_of
from .warnings import LayerNames, warnings_of

Labels = tuple[tuple[str, str], ...]
"""(("strides", "1-2-2"), ("padding", "same")): a variant's name, taken apart."""


@dataclass(frozen=True)
class Figures:
    """What is known of a variant that can be built."""

    config: Config
    layers: tuple[LayerGeometry, ...]

    @property
    def image_size(self) -> Pair:
        return contents_of(self.config.data).facts.input_size

    @property
    def batch_size(self) -> int:
        return self.config.trainer.batch_size

    @cached_property
    def totals(self) -> Totals:
        return totals(self.layers)

    @property
    def last_map(self) -> LayerGeometry | None:
        return self.totals.last_map

    @property
    def effective_stride(self) -> tuple[Step, Step] | None:
        return None if self.last_map is None else self.last_map.effective_stride

    @property
    def receptive_field(self) -> Pair | None:
        return None if self.last_map is None else self.last_map.receptive_field

    @cached_property
    def memory(self) -> TrainingMemory:
        steps = grouped_steps(self.config, self.layers)
        contents = contents_of(self.config.data)
        evaluated = max(1, min(EVAL_BATCH_SIZE, max(contents.num_val, contents.facts.num_test)))
        return predicted_memory(self.layers, self.config.trainer, steps_at_once=steps.at_once, evaluated=evaluated)

    @cached_property
    def warnings(self) -> dict[str, LayerNames]:
        return warnings_of(self.config, self.layers)

    @property
    def map_sizes(self) -> list[Pair]:
        return map_sizes(self.image_size, self.layers)


@dataclass(frozen=True)
class VariantRow:
    """`figures`, or the `error` that there are none for."""

    labels: Labels
    figures: Figures | None
    error: str | None = None

    @property
    def name(self) -> str:
        return " ".join(f"{key}={value}" for key, value in self.labels)


def all_rows(grid: Grid) -> Iterator[VariantRow]:
    """One by one: what is behind is forgotten."""
    for point, job in grid:
        if job.config is None:
            yield VariantRow(grid.labels(point), None, job.error)
        else:
            yield row_of(job.config, grid.keys)


def row_of(config: Config, keys: Sequence[str]) -> VariantRow:
    labels = tuple((short(key), spelled(config, key)) for key in named_by(config, keys))
    try:
        return VariantRow(labels, Figures(config, layers_of(config)))
    except ValueError as error:
        return VariantRow(labels, None, str(error))


def distinct(variants: Sequence[Variant]) -> list[VariantRow]:
    """One row a variant, however many seeds it is trained with."""
    once = {variant.name: variant for variant in variants}
    return [row_of(variant.config, variant.keys) for variant in once.values()]

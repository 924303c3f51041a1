"""Columns of the tables that people read: heading -> cell."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from stridelab.geometry import LayerGeometry, LayerMemory
from stridelab.geometry.totals import windowed
from stridelab.text import at_least, by, field, human, human_bytes, maps, pads, policy, side

from .variant_row import Figures

VARIANT_COLUMNS: Mapping[str, Callable[[Figures], str]] = {
    "map sizes": lambda figures: maps(figures.map_sizes),
    "effective stride": lambda figures: side(figures.effective_stride),
    "receptive field": lambda figures: field(figures.receptive_field, figures.image_size),
    "params": lambda figures: sums(figures)["params"],
    "MACs": lambda figures: sums(figures)["MACs"],
    "training memory": lambda figures: sums(figures)["training memory"],
    "warnings": lambda figures: ", ".join(figures.warnings),
}
"""After the columns of what varies."""

LAYER_COLUMNS: Mapping[str, Callable[[Figures, LayerGeometry, LayerMemory], str]] = {
    "layer": lambda figures, layer, memory: layer.name,
    "kernel": lambda figures, layer, memory: side(layer.kernel_size) if is_windowed(layer) else "",
    "stride": lambda figures, layer, memory: side(layer.stride) if is_windowed(layer) else "",
    "pad": lambda figures, layer, memory: pad_cell(layer),
    "map": lambda figures, layer, memory: by((layer.out_channels, *layer.output_size)),
    "effective stride": lambda figures, layer, memory: side(layer.effective_stride) if is_windowed(layer) else "",
    "field px": lambda figures, layer, memory: side(layer.receptive_field) if is_windowed(layer) else "",
    "params": lambda figures, layer, memory: human(layer.params),
    "MACs": lambda figures, layer, memory: human(layer.macs),
    "kept memory": lambda figures, layer, memory: human_bytes(memory.total),
    "warnings": lambda figures, layer, memory: ", ".join(
        name for name, layers in figures.warnings.items() if layer.name in layers
    ),
}
"""`field px`: the receptive field."""

LEFT = {"map sizes", "warnings", "layer", "pad"}
"""Columns of words; figures are set to the right."""


def is_windowed(layer: LayerGeometry) -> bool:
    return bool(windowed([layer])) or layer.stride != (1, 1)


def pad_cell(layer: LayerGeometry) -> str:
    """`1 half`, `0,1,0,1 same`, `2 reflect`."""
    if not is_windowed(layer):
        return ""
    mode = layer.padding_mode if layer.padding_mode != "zeros" and layer.pad != ((0, 0), (0, 0)) else ""
    return " ".join(word for word in (pads(layer.pad), policy(layer.padding), mode) if word)


def layer_cells(figures: Figures) -> list[list[str]]:
    """A row a layer, and their sum."""
    columns = LAYER_COLUMNS.values()
    rows = [
        [cell(figures, layer, memory) for cell in columns]
        for layer, memory in zip(figures.layers, figures.memory.layers, strict=True)
    ]
    total = {"layer": "total"} | sums(figures)
    return [*rows, [total.get(heading, "") for heading in LAYER_COLUMNS]]


def sums(figures: Figures) -> dict[str, str]:
    """By the heading of their column."""
    whole, memory = figures.totals, figures.memory
    return {
        "params": at_least(whole.params, whole.params_at_least, human),
        "MACs": at_least(whole.macs, whole.macs_at_least, human),
        "kept memory": at_least(memory.total, memory.total_at_least, human_bytes),
        "training memory": at_least(memory.peak, memory.peak_at_least, human_bytes),
    }


def field_words(figures: Figures) -> list[str]:
    """What the last map sees of the image, in a sentence; none where it cannot be known."""
    last = figures.last_map
    if last is None or last.input_share is None or last.padding_share is None:
        return []
    return [
        f"A unit of the last map, {last.name}, sees {field(last.receptive_field, figures.image_size)}; together they "
        f"read {last.input_share:.0%} of the image; {last.padding_share:.0%} of them see padding."
    ]


def memory_words(figures: Figures) -> list[str]:
    """The peak of a step and when it comes, and what layers keep, a sentence each."""
    memory, moment = figures.memory, figures.memory.moment
    when = f"in the {moment.phase} pass of {moment.layer}" if moment.layer else "in the optimizer's step"
    reason = when if memory.peak else f"as {memory.unknown}"
    words = [f"Training memory: {sums(figures)['training memory']}, {reason}."]
    if memory.with_workspaces.size > memory.moment.size:
        words.append(f"With the workspaces of cuDNN, up to {human_bytes(memory.with_workspaces.size)}.")
    return [*words, f"Kept memory = {kept_words(figures)}"]


def kept_words(figures: Figures) -> str:
    memory, trainer = figures.memory, figures.config.trainer
    state = "momentum" if trainer.optimizer == "sgd" and not trainer.ema else "optimizer state"
    parts = {
        "parameters": memory.parameters,
        "gradients": memory.gradients,
        state: memory.optimizer_state,
        "activations": memory.activations,
    }
    return " + ".join(f"{name} {human_bytes(count)}" for name, count in parts.items() if count != 0)


def variant_cells(figures: Figures, labels: list[str]) -> list[str]:
    return [*labels, *(cell(figures) for cell in VARIANT_COLUMNS.values())]

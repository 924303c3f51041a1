"""The order in which a network computes its layers, and where it keeps what they hand on."""

from __future__ import annotations

from typing import NamedTuple

from stridelab.geometry import IMAGE, LayerPlan

FRESH = frozenset({"conv", "norm", "add", "concat", "linear", "max_pool", "avg_pool", "global_avg_pool"})
"""Kinds whose output is a new tensor that their own backward does not need: a ReLU may overwrite it."""


class ModuleCall(NamedTuple):
    """Call sub-module `name` on the values in slots `reads`, and put the result into slot `write`."""

    name: str
    reads: tuple[int, ...]
    write: int
    drop: tuple[int, ...]


def schedule(plan: LayerPlan) -> tuple[tuple[ModuleCall, ...], int]:
    """The layers as steps over slots, and how many slots: a value's slot is free after its last reader."""
    last_reader = {source: index for index, layer in enumerate(plan.layers) for source in layer.inputs}
    slot_of, free, steps, num_slots = {IMAGE: 0}, list[int](), list[ModuleCall](), 1
    for index, layer in enumerate(plan.layers):
        reads = tuple(slot_of[source] for source in layer.inputs)
        free += dict.fromkeys(slot_of[source] for source in layer.inputs if last_reader[source] == index)
        if not free:
            free, num_slots = [num_slots], num_slots + 1
        write = free.pop(0)
        slot_of[layer.name] = write
        dead = [slot for slot in dict.fromkeys(reads) if slot in free]
        steps.append(ModuleCall(layer.name, reads, write, tuple(dead)))
    return tuple(steps), num_slots


def overwritable(plan: LayerPlan) -> list[str]:
    """The activations that may work in place: sole readers of a fresh tensor that no backward needs."""
    kinds = {layer.name: layer.kind for layer in plan.layers}
    readers = [source for layer in plan.layers for source in layer.inputs]
    return [
        layer.name
        for layer in plan.layers
        if layer.kind == "activation"
        and layer.function in {"", "relu"}
        and kinds.get(layer.inputs[0]) in FRESH
        and readers.count(layer.inputs[0]) == 1
    ]

"""Predicted training memory: parameters + gradients + optimizer state + batch * saved activations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stridelab.geometry.layer_geometry import LayerGeometry
from stridelab.geometry.saved_tensors import FLOAT_BYTES
from stridelab.geometry.totals import add_up

OPTIMIZERS: dict[str, int] = {"adam": 2, "sgd": 0, "sgd_momentum": 1}
"""Tensors of state that an optimizer keeps for each parameter."""


@dataclass(frozen=True, slots=True)
class LayerMemory:
    """Bytes of one layer at 32 bits; None is unknown (an opaque layer)."""

    name: str
    parameters: int | None
    gradients: int | None
    optimizer_state: int | None
    activations: int | None
    """Of the whole batch."""

    @property
    def total(self) -> int | None:
        return add_up((self.parameters, self.gradients, self.optimizer_state, self.activations))


@dataclass(frozen=True, slots=True)
class TrainingMemory:
    """Bytes that a training step holds when the forward pass has ended, at 32 bits.

    Not in it: buffers, the loss, the workspace of single operations, gradients of activations during the
    backward pass, and the allocator's rounding; nor the batch itself, where the first layer keeps a padded
    copy of it instead.
    """

    batch_size: int
    layers: tuple[LayerMemory, ...]

    @property
    def parameters(self) -> int | None:
        return add_up(layer.parameters for layer in self.layers)

    @property
    def gradients(self) -> int | None:
        return add_up(layer.gradients for layer in self.layers)

    @property
    def optimizer_state(self) -> int | None:
        return add_up(layer.optimizer_state for layer in self.layers)

    @property
    def activations(self) -> int | None:
        return add_up(layer.activations for layer in self.layers)

    @property
    def total(self) -> int | None:
        return add_up(layer.total for layer in self.layers)

    @property
    def total_at_least(self) -> int:
        """The sum of what is known."""
        parts = ((one.parameters, one.gradients, one.optimizer_state, one.activations) for one in self.layers)
        return sum(part or 0 for layer in parts for part in layer)


def training_memory(
    layers: Sequence[LayerGeometry], *, batch_size: int, optimizer: str = "sgd_momentum", averaged: bool = False
) -> TrainingMemory:
    """Predicted training memory of measured layers, each part by layer and in total; `averaged`: with a moving average
    of the weights, which counts as state of the optimizer.

    What counts as a saved activation, and which layer it is counted for, is told in
    `stridelab.geometry.saved_tensors`.
    """
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"optimizer={optimizer!r} is not known; choose one of {', '.join(OPTIMIZERS)}")
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size} is not allowed; it must be an integer of 1 or more")
    copies = OPTIMIZERS[optimizer] + averaged
    return TrainingMemory(batch_size, tuple(_layer_memory(layer, batch_size, copies) for layer in layers))


def _layer_memory(layer: LayerGeometry, batch_size: int, copies: int) -> LayerMemory:
    weights = None if layer.params is None else FLOAT_BYTES * layer.params
    kept = layer.activation_bytes
    return LayerMemory(
        name=layer.name,
        parameters=weights,
        gradients=weights,
        optimizer_state=None if weights is None else copies * weights,
        activations=None if kept is None else batch_size * kept + layer.batch_bytes,
    )

"""Predicted training memory: parameters + gradients + optimizer state + batch * saved activations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stridelab.geometry.layer_geometry import LayerGeometry
from stridelab.geometry.liveness import Conditions, Moment, peak_moment
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
    """Bytes of a training step: the parts that each layer stands for at 32 bits, and `peak`, the most that is held at
    once."""

    batch_size: int
    layers: tuple[LayerMemory, ...]
    moment: Moment
    """Of the peak, with what is known: the layer and the pass (forward, backward or step) in which it comes."""
    unknown: str = ""
    """Why there is no peak, only a lower bound of it."""

    @property
    def peak(self) -> int | None:
        """The most bytes that PyTorch's allocator has handed out at any moment of a step, not of the first: parameters
        and their gradients, the optimizer's state, buffers, the images, what the backward pass needs, gradients of
        maps, the loss. Without the workspaces of single operations, the libraries and the data set. None where it
        cannot be known: then `peak_at_least` holds."""
        return None if self.unknown else self.moment.size

    @property
    def peak_at_least(self) -> int:
        return self.moment.size

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
    layers: Sequence[LayerGeometry],
    *,
    batch_size: int,
    optimizer: str = "sgd_momentum",
    averaged: bool = False,
    precision: str = "32-true",
    accumulate: int = 1,
    images_held: int = 0,
    device: str = "cpu",
) -> TrainingMemory:
    """Predicted training memory of measured layers: `.peak` bytes of one step (an int, or None with the reason in
    `.unknown` and `.peak_at_least` as a lower bound), and its parts by layer and in total.

    `averaged`: with a moving average of the weights, which counts as state of the optimizer. `accumulate`: batches a
    step. `images_held`: images that are numbers while a step runs, if more than the step's. `device`: cpu or cuda,
    whose kernels and allocators differ a little. `precision` concerns the peak alone.

    What counts as a saved activation, and which layer it is counted for, is told in
    `stridelab.geometry.saved_tensors`; what lives when, in `stridelab.geometry.liveness`.
    """
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"optimizer={optimizer!r} is not known; choose one of {', '.join(OPTIMIZERS)}")
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size} is not allowed; it must be an integer of 1 or more")
    copies = OPTIMIZERS[optimizer] + averaged
    conditions = Conditions(
        batch_size=batch_size,
        number_bytes=8 if precision == "64-true" else 4,
        device=device,
        parameter_copies=copies,
        images_held=images_held,
        accumulate=accumulate,
    )
    return TrainingMemory(
        batch_size,
        tuple(_layer_memory(layer, batch_size, copies) for layer in layers),
        peak_moment(layers, conditions),
        _unknown(layers, precision),
    )


def _unknown(layers: Sequence[LayerGeometry], precision: str) -> str:
    if precision not in ("32-true", "64-true"):
        return f"the peak is not predicted at {precision}"
    unknown = [layer.name for layer in layers if layer.params is None or layer.activation_bytes is None]
    return f"it is not known what {', '.join(unknown[:3])} keeps" if unknown else ""


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

"""Predicted training memory: what layers keep, and the peak of a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from stridelab.geometry.allocator import BLOCKS, FORWARD, START, STEP, Moment
from stridelab.geometry.layer_geometry import LayerGeometry
from stridelab.geometry.layer_plan import IMAGE
from stridelab.geometry.liveness import Step, evaluation_moment, peak_moment
from stridelab.geometry.saved_tensors import FLOAT_BYTES
from stridelab.geometry.step_tensors import NUMBER_BYTES, StepTensors
from stridelab.geometry.totals import add_up
from stridelab.text import few

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
    """Bytes of a training step: what each layer keeps at 32 bits, and `peak`, the most that is held at once."""

    batch_size: int
    layers: tuple[LayerMemory, ...]
    moment: Moment
    """Of the peak, with what is known: its layer and its phase (start, forward, backward or step)."""
    with_workspaces: Moment
    """The same with the workspaces of cuDNN, as far as a rule is known: see `geometry.kernel_memory.workspace_bytes`.
    What to take where memory must suffice."""
    evaluation: Moment
    """Of a pass without gradients, between steps."""
    unknown: str = ""
    """Why there is no peak, only a lower bound of it."""
    evaluation_is_known: bool = True
    """Otherwise `evaluation` is a lower bound."""

    @property
    def peak(self) -> int | None:
        """The most bytes that PyTorch's allocator has handed out at any moment of a step, not the first of a fit:
        parameters and their gradients, the optimizer's state, buffers, the images, what the backward pass needs,
        gradients of maps, the loss. Without the workspaces of single operations, the libraries and the data set. None
        where it cannot be known: then `peak_at_least` holds."""
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
    steps_at_once: int = 1,
    device: str = "cpu",
    recorded: bool = False,
    compiled: bool = False,
    channels_last: bool = True,
    evaluated: int = 1,
) -> TrainingMemory:
    """Predicted training memory of measured layers: `.peak` bytes of one step (an int, or None with the reason in
    `.unknown` and `.peak_at_least` as a lower bound), and what each layer keeps, by layer and in total.

    `averaged`: with a moving average of the weights, which counts as state of the optimizer. `accumulate`: batches a
    step. `steps_at_once`: whose images are made, and whose outputs are kept, together. `device`: cpu or cuda, whose
    kernels and allocators differ a little. `recorded`: as a CUDA graph. `compiled`: by torch.compile, which has no peak
    here, nor has a CPU's step without `channels_last`. `evaluated`: images of a pass without gradients, whose peak is
    `.evaluation`. From `precision` on, all concerns the peaks alone.

    What counts as a saved activation, and which layer it is counted for, is told in
    `stridelab.geometry.saved_tensors`; what lives when, in `stridelab.geometry.liveness`.
    """
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"optimizer={optimizer!r} is not known; choose one of {', '.join(OPTIMIZERS)}")
    if precision not in NUMBER_BYTES:
        raise ValueError(f"precision={precision!r} is not known; choose one of {', '.join(NUMBER_BYTES)}")
    if device not in BLOCKS:
        raise ValueError(f"device={device!r} is not known; choose one of {', '.join(BLOCKS)}")
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size} is not allowed; it must be an integer of 1 or more")
    refuse_parts(layers)
    used = tuple(layer for layer in layers if layer.kind != "unused")
    tensors = StepTensors(used, batch_size, precision, device, channels_last)
    step = Step(
        state=OPTIMIZERS[optimizer],
        averaged=averaged,
        batches=accumulate,
        at_once=steps_at_once,
        recorded=recorded,
    )
    unknown = _unknown(tensors, compiled=compiled)
    until = START if compiled else FORWARD if unknown else STEP
    copies = OPTIMIZERS[optimizer] + averaged
    evaluation = replace(tensors, batch_size=evaluated, evaluated=True)
    moment = peak_moment(tensors, step, until=until)
    return TrainingMemory(
        batch_size,
        tuple(_layer_memory(layer, batch_size, copies) for layer in layers),
        moment,
        moment if device == "cpu" else peak_moment(tensors, step, until=until, workspaces=True),
        evaluation_moment(evaluation, step),
        unknown,
        not _unknown(evaluation, compiled=False),
    )


def refuse_parts(layers: Sequence[LayerGeometry]) -> None:
    """ValueError unless each layer's sources come before it: what lives when is a matter of the whole network."""
    known = {IMAGE}
    for layer in layers:
        if missing := set(layer.inputs) - known:
            raise ValueError(
                f"layers must be those of a whole plan, as measure() gives them: {layer.name} reads "
                f"{', '.join(sorted(missing))}, which is not among them"
            )
        known.add(layer.name)


def _unknown(tensors: StepTensors, *, compiled: bool) -> str:
    if compiled:
        return "a compiled step holds what its compiler chooses"
    if tensors.device == "cpu" and not tensors.channels_last and tensors.precision != "64-true":
        return "convolutions of maps that are not channels_last work on copies of oneDNN's own"
    names = [layer.name for layer in tensors.layers if not tensors.follows(layer)]
    return f"what the backward pass of {few(names, 3)} holds is not known" if names else ""


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

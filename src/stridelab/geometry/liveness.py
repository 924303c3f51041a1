"""Which tensors of a training step live at once: its peak, by a walk through forward pass, backward pass and the step
of the optimizer.

PyTorch's order (2.14): what a layer keeps for the backward pass is freed when its own node has run, and the nodes run
in the reverse order of the layers; a node holds the gradient of its output, what it kept and the gradients that it
makes. Branches of a sum share one gradient; gradients that meet at a map are added in place where nobody else holds
the first of them. Gradients of parameters come into being in the backward pass (`zero_grad` frees those before).

Counted is what PyTorch's tensors hold. What single operations take to work in (cuDNN, cuBLAS, oneDNN) is not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from stridelab.geometry.effect import INPUT
from stridelab.geometry.layer_geometry import LayerGeometry
from stridelab.geometry.layer_plan import IMAGE
from stridelab.geometry.padding import PADDING_MODES
from stridelab.geometry.saved_tensors import pads_explicitly

FORWARD, BACKWARD, STEP = "forward", "backward", "step"
LABEL_BYTES = 8
VIEWS = frozenset({"flatten", "identity"})
"""Kinds whose map, and whose gradient, is that of the layer before."""
SHARING = VIEWS | {"add", "concat"}
"""Kinds whose inputs have the gradient of the output, or a piece of it, without a copy."""


@dataclass(frozen=True, slots=True)
class Moment:
    """`size` bytes are held in `phase` (forward, backward or step) of `layer`."""

    size: int
    layer: str
    phase: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What the size of a tensor depends on beside its layer."""

    batch_size: int
    number_bytes: int = 4
    device: str = "cpu"
    parameter_copies: int = 0
    """Tensors kept for each parameter, beside it and its gradient, from step to step."""
    images_held: int = 0
    """Images that are held as numbers during the step: those of all batches that were made at once."""
    accumulate: int = 1
    """Batches a step."""


@dataclass(slots=True)
class Blocks:
    """What an allocator has handed out, and the most that it ever had."""

    rounded: Callable[[int], int]
    held: dict[object, int] = field(default_factory=dict)
    size: int = 0
    peak: Moment = Moment(0, "", FORWARD)

    def take(self, key: object, size: int) -> None:
        assert key not in self.held, key
        self.held[key] = self.rounded(size)
        self.size += self.held[key]

    def free(self, key: object) -> None:
        self.size -= self.held.pop(key, 0)

    def note(self, layer: str, phase: str) -> None:
        if self.size > self.peak.size:
            self.peak = Moment(self.size, layer, phase)


def peak_moment(layers: Sequence[LayerGeometry], conditions: Conditions) -> Moment:
    """When a training step, not the first, holds most; what is unknown of a layer counts as nothing."""
    step = _Step(layers, conditions)
    step.run()
    return step.blocks.peak


class _Step:
    def __init__(self, layers: Sequence[LayerGeometry], conditions: Conditions) -> None:
        self.layers, self.conditions = [layer for layer in layers if layer.kind != "unused"], conditions
        self.blocks = Blocks(ROUNDING[conditions.device])
        self.number = conditions.number_bytes
        self.parameters = {layer.name: self.number * (layer.params or 0) for layer in layers}
        self.storages = storages_of(self.layers)
        self.trained = trained_of(self.layers)
        self.elements = {layer.name: layer.output_elements for layer in self.layers}
        self.elements[IMAGE] = image_elements(self.layers)
        self.owners: Counter[object] = Counter()
        """How many hold a gradient's memory."""
        self.pieces: set[object] = set()
        """Gradients of which a map's is a part, with gaps in it: nothing can be added in place."""
        self.gradients: dict[str, object] = {}
        """Map -> the block that its gradient lies in."""

    def run(self) -> None:
        if not self.layers:
            return
        for name, size in self.parameters.items():
            self.blocks.take(("parameter", name), (1 + self.conditions.parameter_copies) * size)
        for layer in self.layers:
            self.blocks.take(("buffer", layer.name), buffer_bytes(layer, self.number))
        images = max(self.conditions.images_held, self.conditions.batch_size * self.conditions.accumulate)
        self.blocks.take("images", images * (self.number * self.elements[IMAGE] + LABEL_BYTES))
        for _ in range(min(2, self.conditions.accumulate)):  # the third is like the second
            self.forward()
            self.backward()
        self.blocks.take("update", max(self.parameters.values()) if self.conditions.device == "cpu" else 0)
        self.blocks.note("", STEP)

    def forward(self) -> None:
        readers = {self.storages[source]: layer.name for layer in self.layers for source in layer.inputs}
        for layer in self.layers:
            self.forward_of(layer)
            for storage, last in readers.items():
                if last == layer.name:
                    self.blocks.free(("map", storage))
        outputs = self.layers[-1].name
        self.blocks.free(("map", self.storages[outputs]))
        self.blocks.free("outputs")
        for what in ("outputs", "log_softmax"):
            self.blocks.take(what, self.map_bytes(outputs))
        self.blocks.note(outputs, FORWARD)

    def forward_of(self, layer: LayerGeometry) -> None:
        storage = self.storages[layer.name]
        if storage == layer.name:
            self.blocks.take(("map", storage), self.map_bytes(layer.name))
        for kept in kept_of(layer, self.trained):  # from here on with what this layer keeps, or one before it
            self.blocks.free(("map", self.storages[kept]))
        self.blocks.take(("kept", layer.name), self.kept_bytes(layer))
        self.blocks.note(layer.name, FORWARD)

    def kept_bytes(self, layer: LayerGeometry) -> int:
        """Without the images, which are held in any case."""
        if layer.activation_bytes is None or not self.trained[layer.name]:
            return 0
        size = self.conditions.batch_size * layer.activation_bytes + layer.batch_bytes
        return size * self.number // 4 - self.kept_images(layer)

    def kept_images(self, layer: LayerGeometry) -> int:
        keepers = (one.name for one in self.layers if IMAGE in map(self.storages.get, kept_of(one, self.trained)))
        return self.map_bytes(IMAGE) if layer.name == next(keepers, None) else 0

    def map_bytes(self, name: str) -> int:
        return self.conditions.batch_size * self.number * self.elements[name]

    def backward(self) -> None:
        last = self.layers[-1]
        for what in ("nll", "logits"):
            self.blocks.take(("gradient", what), self.map_bytes(last.name))
        self.blocks.note(last.name, BACKWARD)
        self.blocks.free(("gradient", "nll"))
        self.blocks.free("log_softmax")
        self.hand_on(("gradient", "logits"), last.name)
        for layer in reversed(self.layers):
            if layer.name in self.gradients:
                self.backward_of(layer)

    def backward_of(self, layer: LayerGeometry) -> None:
        above = self.gradients.pop(layer.name)
        sources = [source for source in layer.inputs if self.trained[source]]
        if layer.kind in SHARING:
            if layer.kind == "concat":
                self.pieces.add(above)
            for source in sources:
                self.hand_on(above, source)
        else:
            self.differentiate(layer, above, sources)
        self.let_go(above)
        self.blocks.note(layer.name, BACKWARD)

    def differentiate(self, layer: LayerGeometry, above: object, sources: Sequence[str]) -> None:
        first = ("gradient of parameters", layer.name) not in self.blocks.held
        weights = ("gradient of parameters" if first else "second gradient of parameters", layer.name)
        self.blocks.take(weights, self.parameters[layer.name])
        made = [(("gradient", source, layer.name, at), source) for at, source in enumerate(sources)]
        padded = self.padded_bytes(layer) if sources else 0
        if padded:  # of the padded copy first, then of the map itself
            self.blocks.take("padded", padded)
            self.blocks.note(layer.name, BACKWARD)
            self.blocks.free(("kept", layer.name))
        for key, source in made:
            self.blocks.take(key, self.map_bytes(source))
        self.blocks.take("working", self.broadcast_bytes(layer) + WORKING[self.conditions.device](self, layer))
        self.blocks.note(layer.name, BACKWARD)
        for done in ("working", "padded", ("kept", layer.name), *(() if first else (weights,))):
            self.blocks.free(done)
        for key, source in made:
            self.hand_on(key, source)

    def broadcast_bytes(self, layer: LayerGeometry) -> int:
        """Gradients of what is smaller than the product: as large as it is, until they are summed up."""
        if layer.kind != "multiply":
            return 0
        smaller = sum(self.elements[source] < layer.output_elements for source in layer.inputs)
        return (smaller + bool(layer.params)) * self.map_bytes(layer.name)

    def padded_bytes(self, layer: LayerGeometry) -> int:
        if layer.saves != (INPUT,) or not pads_explicitly(layer.pad, layer.padding_mode):
            return 0
        (top, bottom), (left, right) = layer.pad
        area = (layer.input_size[0] + top + bottom) * (layer.input_size[1] + left + right)
        return self.conditions.batch_size * self.number * layer.in_channels * area

    def hand_on(self, block: object, source: str) -> None:
        """`block` is a gradient of the map of `source`: the first, or one to be added to what is there."""
        if source not in self.gradients:
            self.owners[block] += 1
            self.gradients[source] = block
            return
        there = self.gradients[source]
        if self.owners[there] > 1 or there in self.pieces:
            total = ("sum of gradients", source, block)
            self.blocks.take(total, self.map_bytes(source))
            self.owners[total] += 1
            self.gradients[source] = total
            self.blocks.note(source, BACKWARD)
            self.let_go(there)
        if not self.owners[block]:
            self.blocks.free(block)

    def let_go(self, block: object) -> None:
        self.owners[block] -= 1
        if not self.owners[block]:
            self.blocks.free(block)


def storages_of(layers: Sequence[LayerGeometry]) -> dict[str, str]:
    """Map -> the map whose memory it lies in."""
    readers = Counter(source for layer in layers for source in layer.inputs)
    found = {IMAGE: IMAGE}
    for layer in layers:
        overwrites = layer.function == "relu" and readers[layer.inputs[0]] == 1
        found[layer.name] = found[layer.inputs[0]] if layer.kind in VIEWS or overwrites else layer.name
    return found


def trained_of(layers: Sequence[LayerGeometry]) -> dict[str, bool]:
    """Map -> whether a gradient flows back into it."""
    found = {IMAGE: False}
    for layer in layers:
        found[layer.name] = layer.params != 0 or any(found[source] for source in layer.inputs)
    return found


def kept_of(layer: LayerGeometry, trained: dict[str, bool]) -> tuple[str, ...]:
    """The maps that the backward pass of `layer` needs."""
    if not trained[layer.name] or layer.saves is None:
        return ()
    copied = INPUT in layer.saves and pads_explicitly(layer.pad, layer.padding_mode)
    inputs = layer.inputs if INPUT in layer.saves else ()
    if copied and not (PADDING_MODES[layer.padding_mode].keeps_input and trained[layer.inputs[0]]):
        inputs = ()
    return inputs + ((layer.name,) if "output" in layer.saves else ())


def image_elements(layers: Sequence[LayerGeometry]) -> int:
    first = next(layer for layer in layers if IMAGE in layer.inputs)
    return first.in_channels * first.input_size[0] * first.input_size[1]


def buffer_bytes(layer: LayerGeometry, number_bytes: int) -> int:
    """Running mean and variance, and a count of batches."""
    batch = layer.function == "batch"
    return 2 * number_bytes * layer.out_channels + 8 if batch else 0


def cpu_working(step: _Step, layer: LayerGeometry) -> int:
    """Copies that PyTorch's CPU kernels make: batch norm a second gradient of its map, a convolution its filters'
    gradient in oneDNN's layout."""
    if layer.function == "batch":
        return step.map_bytes(layer.name)
    return 2 * step.parameters[layer.name] if layer.kind == "conv" else 0


WORKING: dict[str, Callable[[_Step, LayerGeometry], int]] = {"cpu": cpu_working, "cuda": lambda step, layer: 0}


def cuda_block(size: int) -> int:
    """What PyTorch's caching allocator counts: multiples of 512 bytes; of more than 10 MiB, which have a segment of
    whole 2 MiB of their own, a rest of at most 1 MiB is not split off."""
    size = -(-size // 512) * 512
    mib = 2**20
    segment = -(-size // (2 * mib)) * 2 * mib
    return segment if size >= 10 * mib and segment - size <= mib else size


ROUNDING: dict[str, Callable[[int], int]] = {"cpu": lambda size: size, "cuda": cuda_block}

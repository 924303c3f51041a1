"""The tensors of a training step, layer by layer: how large a map is, whose memory it lies in, what is kept of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from math import prod

from stridelab.geometry.effect import INPUT, OUTPUT
from stridelab.geometry.layer_geometry import LayerGeometry
from stridelab.geometry.layer_plan import IMAGE
from stridelab.geometry.padding import PADDING_MODES
from stridelab.geometry.saved_tensors import FLOAT_BYTES, INDEX_BYTES, pads_explicitly

NUMBER_BYTES = {"32-true": 4, "bf16-mixed": 4, "16-mixed": 4, "64-true": 8}
"""`trainer.precision` -> bytes of a weight and of a pixel."""
HALF_BYTES = 2
"""Of a number that mixed precision made smaller."""
HALVED = frozenset({"blur_pool", "conv", "conv_transpose", "linear", "readout", "resample"})
"""Kinds that mixed precision computes with such numbers."""
VIEWS = frozenset({"flatten", "identity"})
"""Kinds whose map, and whose gradient, is that of the layer before."""


@dataclass(frozen=True)
class StepTensors:
    """Sizes in bytes are those of a whole batch."""

    layers: tuple[LayerGeometry, ...]
    batch_size: int
    precision: str
    device: str
    channels_last: bool = True
    evaluated: bool = False
    """A pass without gradients, in which dropout does nothing."""

    @property
    def mixed(self) -> bool:
        return self.precision.endswith("-mixed")

    @property
    def number_bytes(self) -> int:
        return NUMBER_BYTES[self.precision]

    @cached_property
    def elements(self) -> dict[str, int]:
        """Of a map, for one image."""
        first = next(layer for layer in self.layers if IMAGE in layer.inputs)
        image = first.in_channels * prod(first.input_size)
        return {IMAGE: image} | {layer.name: layer.output_elements for layer in self.layers}

    @cached_property
    def trained(self) -> dict[str, bool]:
        """Map -> whether a gradient flows back into it."""
        found = {IMAGE: False}
        for layer in self.layers:
            learns = layer.params != 0 or any(found[source] for source in layer.inputs)
            found[layer.name] = learns and layer.name in self.used and not self.evaluated
        return found

    @cached_property
    def used(self) -> set[str]:
        """Maps that the outputs depend on: what is kept for any other goes with it."""
        found = {self.layers[-1].name}
        for layer in reversed(self.layers):
            found |= set(layer.inputs) if layer.name in found else set()
        return found

    @cached_property
    def storages(self) -> dict[str, str]:
        """Map -> the map whose memory it lies in; a ReLU overwrites what it alone reads."""
        readers = Counter(source for layer in self.layers for source in layer.inputs)
        found = {IMAGE: IMAGE}
        for layer in self.layers:
            source = layer.inputs[0]
            overwrites = layer.function == "relu" and readers[source] == 1 and found[source] != IMAGE
            views = layer.kind in VIEWS or (layer.kind == "dropout" and self.evaluated)
            found[layer.name] = found[source] if views or overwrites else layer.name
        return found

    @cached_property
    def widths(self) -> dict[str, int]:
        """Map -> bytes of one of its numbers."""
        found = {IMAGE: self.number_bytes}
        for layer in self.layers:
            widest = max(found[source] for source in layer.inputs)
            found[layer.name] = self.computed_width(layer) or widest
        return found

    def computed_width(self, layer: LayerGeometry) -> int | None:
        """Of what mixed precision computes with numbers of its own choice; None: as they come."""
        if not self.mixed:
            return None
        if layer.kind in HALVED:
            return HALF_BYTES
        whole = layer.kind == "multiply" and layer.params  # its weights, which stay as they are, decide
        whole = whole or (self.device == "cuda" and layer.function in ("group", "layer"))
        return FLOAT_BYTES if whole else None

    def map_bytes(self, name: str) -> int:
        return self.batch_size * self.elements[name] * self.widths[name]

    def parameter_bytes(self, layer: LayerGeometry) -> int:
        return self.number_bytes * (layer.params or 0)

    def buffer_bytes(self, layer: LayerGeometry) -> int:
        """Running mean and variance, and a count of batches; the filters of a blur."""
        if layer.kind == "blur_pool":
            return self.number_bytes * layer.out_channels * prod(layer.kernel_size)
        return 2 * self.number_bytes * layer.out_channels + 8 if layer.function == "batch" else 0

    def follows(self, layer: LayerGeometry) -> bool:
        """Whether what `layer` holds is known."""
        if layer.kind == "opaque" or layer.params is None or layer.activation_bytes is None:
            return False
        copied = self.copied_bytes(layer) > 0
        if layer.padding_mode == "circular" and layer.in_channels == prod(layer.kernel_size) == 1 and copied:
            return False  # neither the copy nor the filters tell PyTorch that channels are last
        if not self.mixed:
            return True
        pads = layer.padding_mode in ("reflect", "replicate") and copied
        by_cpu = self.device == "cpu" and (pads or layer.function in ("group", "layer"))  # computes those in float32
        return layer.saves is not None and not by_cpu

    @property
    def dense(self) -> bool:
        """Whether there is a target for each pixel, not for each image."""
        return max(self.layers[-1].output_size) > 1

    @property
    def label_bytes(self) -> int:
        """Of the label of an image: int64, or uint8 a pixel."""
        return prod(self.layers[-1].output_size) if self.dense else INDEX_BYTES

    @property
    def target_bytes(self) -> int:
        """Of a batch's labels as the loss wants them, int64, where they are something else."""
        return self.batch_size * self.label_bytes * INDEX_BYTES if self.dense else 0

    @property
    def loss_bytes(self) -> int:
        """Of the outputs as the loss computes with them: 32 bits a number in mixed precision too."""
        width = FLOAT_BYTES if self.mixed else self.widths[self.layers[-1].name]
        return self.batch_size * self.layers[-1].output_elements * width

    @property
    def loss_copies(self) -> int:
        """Of the outputs that the loss makes for itself: cast, and on a CPU with the channels of each pixel apart."""
        return self.mixed + (self.dense and self.channels_last and self.device == "cpu")

    def cast_weights_bytes(self, layer: LayerGeometry) -> int:
        return HALF_BYTES * (layer.params or 0) if self.mixed and layer.kind in HALVED else 0

    def copied_bytes(self, layer: LayerGeometry) -> int:
        """Of the padded or cast copy that a layer reads in place of its map; 0: of the map itself."""
        if layer.saves is None or INPUT not in layer.saves:
            return 0
        width, source = self.computed_width(layer), layer.inputs[0]
        width = width if layer.kind != "multiply" and width else self.widths[source]
        if pads_explicitly(layer.pad, layer.padding_mode):
            sides = (size + before + after for size, (before, after) in zip(layer.input_size, layer.pad, strict=True))
            return self.batch_size * width * layer.in_channels * prod(sides)
        return self.batch_size * width * self.elements[source] if width != self.widths[source] else 0

    def passing_bytes(self, layer: LayerGeometry) -> int:
        """What is made beside the map even where nothing is kept: a padded copy, the indices of a maximum."""
        return self.copied_bytes(layer) + (self.other_bytes(layer) if layer.kind.endswith("max_pool") else 0)

    def kept_maps(self, layer: LayerGeometry) -> tuple[str, ...]:
        """The maps that the backward pass of `layer` needs."""
        if not self.trained[layer.name] or layer.saves is None:
            return ()
        outputs = (layer.name,) if OUTPUT in layer.saves else ()
        if INPUT not in layer.saves:
            return outputs
        if not self.copied_bytes(layer):
            return layer.inputs + outputs
        pads = pads_explicitly(layer.pad, layer.padding_mode) and PADDING_MODES[layer.padding_mode].keeps_input
        return layer.inputs + outputs if pads and self.trained[layer.inputs[0]] else outputs

    @cached_property
    def kept(self) -> dict[str, int]:
        """Layer -> bytes that are kept first for it, and so freed when its backward pass has run; without the images,
        which are held in any case."""
        known, found = {IMAGE}, {}
        for layer in self.layers:
            maps = {self.storages[name] for name in self.kept_maps(layer)} - known
            known |= maps
            found[layer.name] = self.kept_bytes(layer, maps)
        return found

    def kept_bytes(self, layer: LayerGeometry, maps: set[str]) -> int:
        if layer.activation_bytes is None or not self.trained[layer.name]:
            return 0
        return sum(map(self.map_bytes, maps)) + self.copied_bytes(layer) + self.other_bytes(layer)

    def other_bytes(self, layer: LayerGeometry) -> int:
        """Indices, noise, statistics."""
        other = self.batch_size * layer.other_bytes + layer.batch_bytes
        if layer.kind == "dropout":
            mask = self.batch_size * layer.output_elements
            return mask if self.device == "cuda" else mask * self.widths[layer.inputs[0]]
        return other * self.number_bytes // FLOAT_BYTES if layer.kind == "norm" else other

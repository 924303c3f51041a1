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
from collections.abc import Sequence
from dataclasses import dataclass, replace

from stridelab.geometry.allocator import BACKWARD, BLOCKS, FORWARD, START, STEP, Blocks, Moment
from stridelab.geometry.kernel_memory import (
    CONVOLUTIONS,
    backward_bytes,
    forward_bytes,
    is_planar,
    pad_backward_bytes,
    planar_bytes,
    update_bytes,
    workspace_bytes,
)
from stridelab.geometry.layer_geometry import LayerGeometry
from stridelab.geometry.layer_plan import IMAGE
from stridelab.geometry.step_tensors import VIEWS, StepTensors

SHARING = VIEWS | {"add", "concat"}
"""Kinds whose inputs have the gradient of the output, or a piece of it, without a copy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What is done in a training step, and what lies beside it."""

    state: int
    """Tensors that the optimizer keeps for each parameter."""
    averaged: bool = False
    """A second network has the mean weights."""
    batches: int = 1
    """Whose gradients are accumulated."""
    at_once: int = 1
    """Steps whose images are made, and whose outputs are kept, together."""
    recorded: bool = False
    """As a CUDA graph, which has its own images, outputs and gradients."""


def peak_moment(tensors: StepTensors, step: Step, *, until: str = STEP, workspaces: bool = False) -> Moment:
    """When a training step, not the first of a fit, holds most. `until`: what is known of it, START, FORWARD or all;
    the moment is then a lower bound. `workspaces`: with what single operations take to work in, as far as is known.
    """
    if not tensors.layers:
        return Moment(0, "", START)
    walk = Walk(tensors, workspaces=workspaces)
    walk.hold(step)
    walk.hold_batches(step.batches * (step.at_once + step.recorded))
    if until != START:
        walk.forward()
    if until == STEP:
        walk.backward()
        if step.batches > 1:  # a third is like the second
            walk.forward()
            walk.backward()
        walk.update()
    return walk.blocks.peak


def evaluation_moment(tensors: StepTensors, step: Step) -> Moment:
    """When a pass without gradients holds most, between steps; `tensors` are those of such a pass."""
    if not tensors.layers:
        return Moment(0, "", START)
    walk = Walk(tensors, workspaces=False)
    walk.hold(replace(step, state=step.state + 1))  # and the gradients of the step before
    walk.hold_batches(1)
    walk.forward()
    return walk.blocks.peak


class Walk:
    """Through the steps of one batch after another."""

    def __init__(self, tensors: StepTensors, *, workspaces: bool) -> None:
        self.tensors, self.layers, self.workspaces = tensors, tensors.layers, workspaces
        self.blocks = Blocks(BLOCKS[tensors.device])
        self.gradients: dict[str, object] = {}
        """Map -> the block that its gradient lies in."""
        self.owners: Counter[object] = Counter()
        """Such a block -> how many maps' gradients lie in it."""
        self.planar: set[object] = set()
        """Blocks whose layout is not that of the map, see `kernel_memory.is_planar`."""
        self.shared_out: set[object] = set()
        """Blocks of which each map has a piece, with gaps in it: nothing is added to those in place."""

    def hold(self, step: Step) -> None:
        """What is there from step to step."""
        networks = 1 + step.averaged
        for layer in self.layers:
            for number in range(step.state + networks + step.recorded):
                self.blocks.take(("parameter", layer.name, number), self.tensors.parameter_bytes(layer))
            for number in range(networks):
                self.blocks.take(("buffer", layer.name, number), self.tensors.buffer_bytes(layer))

    def hold_batches(self, batches: int) -> None:
        """The images of so many batches with their labels, and the outputs of all but the last."""
        images = batches * self.tensors.batch_size
        self.blocks.take("images", images * self.tensors.number_bytes * self.tensors.elements[IMAGE])
        self.blocks.take("labels", images * self.tensors.label_bytes)
        self.blocks.take("outputs of before", (batches - 1) * self.tensors.map_bytes(self.layers[-1].name))
        self.blocks.take("loss and its gradient", 2 * self.tensors.number_bytes)
        self.blocks.note("", START)

    def forward(self) -> None:
        storages = self.tensors.storages
        last_readers = {storages[source]: layer.name for layer in self.layers for source in layer.inputs}
        for layer in self.layers:
            self.forward_of(layer)
            read = {storages[source] for source in layer.inputs}
            self.blocks.free(*(("map", storage) for storage in read if last_readers[storage] == layer.name))
        outputs = self.layers[-1].name
        self.blocks.free("outputs", *(("map", storage) for storage in storages.values()))  # some that nobody reads
        self.blocks.take("outputs", self.tensors.map_bytes(outputs))
        self.blocks.take("log_softmax", self.tensors.loss_bytes)
        self.blocks.take("targets", self.tensors.target_bytes)
        self.blocks.take("working", self.tensors.loss_copies * self.tensors.loss_bytes)
        self.blocks.note(outputs, FORWARD)
        self.blocks.free("working")

    def forward_of(self, layer: LayerGeometry) -> None:
        storage = self.tensors.storages[layer.name]
        if storage == layer.name:
            self.blocks.take(("map", storage), self.tensors.map_bytes(storage))
        for name in self.tensors.kept_maps(layer):  # from here on it counts as kept, for this layer or one before
            self.blocks.free(("map", self.tensors.storages[name]))
        self.blocks.take(("kept", layer.name), self.tensors.kept[layer.name])
        if ("cast", layer.name) not in self.blocks.held:  # once a step
            self.blocks.take(("cast", layer.name), self.tensors.cast_weights_bytes(layer))
        passing = 0 if self.tensors.trained[layer.name] else self.tensors.passing_bytes(layer)
        self.blocks.take("working", passing + forward_bytes(self.tensors, layer))
        self.blocks.note(layer.name, FORWARD)
        self.blocks.free("working")

    def backward(self) -> None:
        outputs = self.layers[-1].name
        self.blocks.take("gradient of log_softmax", self.tensors.loss_bytes)
        self.blocks.note(outputs, BACKWARD)
        self.blocks.free("targets")
        self.blocks.take("gradient of the loss", self.tensors.loss_bytes)
        self.blocks.note(outputs, BACKWARD)
        self.blocks.free("log_softmax", "gradient of log_softmax", "gradient of the loss")
        self.blocks.take("gradient of outputs", self.tensors.map_bytes(outputs))
        self.hand_on("gradient of outputs", outputs)
        for layer in reversed(self.layers):
            if layer.name in self.gradients:
                self.backward_of(layer)
            self.blocks.free(("kept", layer.name))  # nothing, where no gradient comes

    def backward_of(self, layer: LayerGeometry) -> None:
        above = self.gradients.pop(layer.name)
        sources = [source for source in layer.inputs if self.tensors.trained[source]]
        planar = above in self.planar
        if layer.kind in SHARING:
            self.planar |= {above} if is_planar(self.tensors, layer, above=planar) else set()
            self.shared_out |= {above} if layer.kind == "concat" else set()
            for source in sources:
                self.hand_on(above, source)
            self.let_go(above)
        else:
            apart = planar or (above in self.shared_out and layer.kind in CONVOLUTIONS)
            self.differentiate(layer, above, sources, planar=apart)

    def differentiate(self, layer: LayerGeometry, above: object, sources: Sequence[str], *, planar: bool) -> None:
        """The gradients that `layer` makes of `above`, that of its output."""
        cast = self.tensors.cast_weights_bytes(layer)
        self.blocks.take("gradient of weights", cast or self.tensors.parameter_bytes(layer))
        copies = planar_bytes(self.tensors, layer) if planar else 0
        self.blocks.take("working", backward_bytes(self.tensors, layer) + copies)
        self.blocks.take("workspace", workspace_bytes(self.tensors, layer) if self.workspaces else 0)
        copied = self.tensors.copied_bytes(layer) if sources else 0
        if copied:  # its gradient first; from that, in a node behind, the map's own
            self.blocks.take("copy", copied)
            self.end(layer, above)
            self.blocks.take("working", pad_backward_bytes(self.tensors, layer))
        made = {("gradient", source, layer.name, at): source for at, source in enumerate(sources)}
        for block, source in made.items():
            self.blocks.take(block, self.tensors.map_bytes(source))
        self.end(layer, None if copied else above)
        self.blocks.free("copy")
        self.accumulate(layer, cast=cast > 0)
        self.planar |= set(made) if is_planar(self.tensors, layer, above=planar) else set()
        for block, source in made.items():
            self.hand_on(block, source)

    def accumulate(self, layer: LayerGeometry, *, cast: bool) -> None:
        """The gradient of the parameters, which is made, becomes that of the step: as it is, unless it was of `cast`
        weights or is added to that of a batch before."""
        lasting = ("gradient of parameters", layer.name)
        if cast:
            self.blocks.take("gradient of whole weights", self.tensors.parameter_bytes(layer))
            self.blocks.note(layer.name, BACKWARD)
        self.blocks.free("gradient of weights", "gradient of whole weights")
        if lasting not in self.blocks.held:
            self.blocks.take(lasting, self.tensors.parameter_bytes(layer))

    def end(self, layer: LayerGeometry, above: object) -> None:
        """Of a node that has run."""
        self.blocks.note(layer.name, BACKWARD)
        self.blocks.free("working", "workspace", ("kept", layer.name))
        if above is not None:
            self.let_go(above)

    def update(self) -> None:
        self.blocks.take("update", update_bytes(self.tensors))
        self.blocks.note("", STEP)

    def hand_on(self, block: object, source: str) -> None:
        """`block` is a gradient of the map of `source`: the first, or one to be added to what is there."""
        if source not in self.gradients:
            self.gradients[source] = block
            self.owners[block] += 1
            return
        there = self.gradients[source]
        if self.owners[there] > 1 or there in self.shared_out:
            total = ("sum of gradients", source, block)
            self.blocks.take(total, self.tensors.map_bytes(source))
            self.blocks.note(source, BACKWARD)
            self.gradients[source] = total
            self.owners[total] += 1
            self.let_go(there)
        if not self.owners[block]:
            self.blocks.free(block)

    def let_go(self, block: object) -> None:
        self.owners[block] -= 1
        if not self.owners[block]:
            self.blocks.free(block)

"""From any `nn.Module` to a layer plan, by watching one forward pass of shapes without numbers."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from inspect import Parameter, signature

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.func import functional_call
from torch.nn.parameter import is_lazy

from stridelab.geometry import LayerPlan, Pair, measure, parse_pair

from .table import Geometry
from .tracing.recorder import LayerRecorder, batch_size_for


def geometry_of(
    module: nn.Module,
    input_size: int | Pair,
    *,
    input_channels: int | None = None,
    others: Mapping[str, Tensor] | None = None,
) -> Geometry:
    """Geometry, cost and memory of each layer of `module` on images of `input_size`, int or (height, width).

    `others`: what `forward` needs beside the images, by the names of its parameters, each for a batch of one; receptive
    fields are those on the images.

    The module is traced in the mode it is in (train or eval), and is not changed. What cannot be followed is
    named, with the reason, and leaves the receptive fields behind it at None.

    >>> geometry_of(nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU()), 32)[-1].receptive_field
    (3, 3)

    Raises ValueError when the module cannot run on such images, or decides by their content.
    """
    plan = trace(module, input_size, input_channels=input_channels, others=others)
    return Geometry(plan, measure(plan))


def trace(
    module: nn.Module,
    input_size: int | Pair,
    *,
    input_channels: int | None = None,
    others: Mapping[str, Tensor] | None = None,
) -> LayerPlan:
    """The layer plan of `module`; a layer is named by the sub-module that computes it.

    Runs the module's own code once, on tensors that have a shape but no numbers: control flow, functional
    code and in-place operations are followed as they happen. Parameters, MACs and saved activations are those
    of this very pass. `input_channels` are those of the first convolution unless given.
    """
    module = unwrapped(module)
    others = checked_others(module, others or {})
    size = parse_pair(input_size, "input_size")
    channels, _ = parse_pair(input_channels or first_channels(module), "input_channels")
    recorder = LayerRecorder(module)
    no_backward = any(tensor.is_inference() for tensor in (*module.parameters(), *module.buffers()))
    with (
        quiet(),
        attributes_kept(module),
        torch.inference_mode(no_backward),
        FakeTensorMode(allow_non_fake_inputs=True) as fake,
        torch.enable_grad(),
    ):
        state = dict(module.named_parameters()) | dict(module.named_buffers())
        state = {name: fake.from_tensor(tensor) for name, tensor in state.items()}
        batch_size = batch_size_for([channels, *size, *(n for tensor in state.values() for n in tensor.shape if n)])
        images = like_weights(module).new_empty(batch_size, channels, *size)
        beside = {name: fake.from_tensor(one.expand(batch_size, *one.shape[1:])) for name, one in others.items()}
        try:
            with recorder.watch(images, state):
                functional_call(module, state, (images,), beside)
        except Exception as exc:
            where = f"layer {recorder.path!r}" if recorder.path else "the network"
            why = reason(exc)
            if not input_channels and ("channels" in str(exc) or channels not in (1, 3)):
                why = why.rstrip(".") + (
                    f". input_channels={channels} was guessed, from its first convolution: give input_channels="
                )
            raise ValueError(f"{where} cannot run on a {size[0]}x{size[1]} image: {why}") from exc
    return LayerPlan(channels, size, recorder.layers())


def unwrapped(module: object) -> nn.Module:
    """The module that computes; ValueError for what cannot be traced at all."""
    while isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel) or hasattr(module, "_orig_mod"):
        module = getattr(module, "_orig_mod", None) or getattr(
            module, "module", None
        )  # of torch.compile, or the others
    if isinstance(module, type):
        raise ValueError(f"module={module.__name__} is a class; make a module of it: {module.__name__}(...).")
    if not isinstance(module, nn.Module):
        raise ValueError(f"module={str(module)[:60]!r} is a {type(module).__name__}, not an nn.Module.")
    if isinstance(module, torch.jit.ScriptModule):
        raise ValueError("the module is scripted, which hides its layers; give the module that it was made from.")
    if any(map(is_lazy, module.parameters())):
        raise ValueError("the module has lazy layers without weights; run it once on real images.")
    return module


def checked_others(module: nn.Module, others: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """ValueError unless they are what `forward` needs beside its first parameter, each for a batch of one."""
    kinds = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    known = [one for one in signature(module.forward).parameters.values() if one.kind in kinds]
    takes = [one.name for one in known[1:]]
    needs = [one.name for one in known[1:] if one.default is one.empty]
    what = f"{type(module).__name__}.forward"
    if unknown := [name for name in others if name not in takes]:
        raise ValueError(
            f"others={{{unknown[0]!r}: ...}}: {what} has no such parameter beside the images"
            + (f"; it has {', '.join(takes)}." if takes else ".")
        )
    if missing := [name for name in needs if name not in others]:
        raise ValueError(
            f"{what} needs {', '.join([known[0].name, *needs])}: give what it takes beside the images, "
            f"others={{{missing[0]!r}: torch.zeros(1, ...)}}."
        )
    for name, tensor in others.items():
        if not isinstance(tensor, Tensor) or tensor.ndim == 0 or tensor.shape[0] != 1:
            found = f"shape {tuple(tensor.shape)}" if isinstance(tensor, Tensor) else f"a {type(tensor).__name__}"
            raise ValueError(f"others[{name!r}] must be a tensor for a batch of one, (1, ...); it is {found}.")
    return others


def reason(exc: Exception) -> str:
    if isinstance(exc, DataDependentOutputException):
        return "it decides by the values of its feature maps, and a trace has only their shapes"
    if isinstance(exc, DynamicOutputShapeException):  # such as the boxes that a detection model keeps
        return f"the size of what it makes depends on the values of its feature maps ({exc}), and a trace has none"
    if isinstance(exc, AttributeError | TypeError | KeyError | IndexError | AssertionError):  # its own code misread us
        return (
            f"{str(exc) or type(exc).__name__}. It is called with one tensor, (images, channels, height, width); wrap "
            "a module that expects anything else, such as a list of images."
        )
    return str(exc) or type(exc).__name__


@contextmanager
def quiet() -> Iterator[None]:
    """Neither warnings about a pass that is not for real, nor PyTorch's own log of an error that we report."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    was_disabled, log.disabled = log.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.disabled = was_disabled


@contextmanager
def attributes_kept(module: nn.Module) -> Iterator[None]:
    """What the pass leaves in the attributes of modules, such as a cache, holds tensors without numbers: it goes."""
    before = [(vars(one), dict(vars(one))) for one in module.modules()]
    filled = [
        value for _, attributes in before for value in attributes.values() if isinstance(value, dict | list | set)
    ]
    contents = [(container, copy(container)) for container in filled]
    try:
        yield
    finally:
        for held, attributes in before:
            held.clear()
            held.update(attributes)
        for container, kept in contents:
            container.clear()
            container.extend(kept) if isinstance(container, list) else container.update(kept)


def first_channels(module: nn.Module) -> int:
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            return layer.in_channels
        if isinstance(layer, nn.Conv1d | nn.Conv3d):
            raise ValueError(
                f"its first convolution is a {type(layer).__name__}, and geometry is that of images: of two axes; "
                "give input_channels= if images are what the module reads all the same."
            )
    raise ValueError("input_channels=None, but the module has no Conv2d to tell them from; give a number of channels.")


def like_weights(module: nn.Module) -> Tensor:
    """A tensor of the type and on the device of the module's weights."""
    weights = (weight for weight in module.parameters() if weight.is_floating_point())
    return next(weights, torch.empty(0))

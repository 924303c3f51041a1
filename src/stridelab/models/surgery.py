"""Stride, padding, dilation and kernel size of any module's layers, by their names, kept consistent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from difflib import get_close_matches
from fnmatch import fnmatchcase
from fractions import Fraction
from math import prod
from typing import Any

import torch
from torch import nn

from stridelab.geometry import LayerPlan, Pair, measure, parse_pair
from stridelab.text import parts, side

from .trace import trace

SETTABLE = ("stride", "padding", "dilation", "kernel_size")
SHORTCUTS = ("downsample", "shortcut", "proj", "branch1")
"""What torchvision and timm call the convolution that brings a block's input to the grid of its output."""
IDENTITY = "identity"


def set_strides(module: nn.Module, settings: Mapping[str, Any], *, output_stride: int | None = None) -> nn.Module:
    """A copy of `module`, weights included, with `settings` by the names of its layers; the module stays as it is.

    A key is `LAYER.ATTRIBUTE` (stride, padding, dilation or kernel_size), or `LAYER` alone for its stride or to leave
    it out (`"identity"`); `*`, `?` and `[...]` match within one part of a name. A shortcut whose stride is not set
    follows its block. `output_stride` trades later strides for dilation, so that the last map has that effective stride
    and the receptive field stays (Yu and Koltun 2016; Chen et al. 2017).

    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU())
    >>> set_strides(net, {"0.stride": 1})[0].stride
    (1, 1)

    Raises ValueError with the nearest names for what fits nothing, and for a kernel size of a layer with weights.
    """
    changed = deepcopy(module)
    change(changed, settings, output_stride=output_stride, keep_weights=True)
    return changed


def change(
    module: nn.Module,
    settings: Mapping[str, Any],
    *,
    output_stride: int | None = None,
    images: tuple[int, int, int] | None = None,
    keep_weights: bool = False,
) -> tuple[str, ...]:
    """Change `module` itself; the sentences say what followed. `images`: (channels, height, width) of the images that
    `output_stride` is measured on."""
    asked = resolved(module, settings)
    for (name, attribute), value in asked.items():
        if attribute == IDENTITY:
            replace_by_identity(module, name)
        else:
            set_attribute(module, name, attribute, value, keep_weights=keep_weights)
    notes = tuple(note for name in blocks_with_shortcut(module) for note in follow(module, name, asked))
    if output_stride is not None:
        dilate(module, output_stride, images)
    return notes


Asked = dict[tuple[str, str], Any]
"""(name of a module, attribute) -> value."""


def resolved(module: nn.Module, settings: Mapping[str, Any]) -> Asked:
    """Which modules the keys mean; a name in full stands above a pattern. ValueError for a key that fits nothing, and
    for two patterns of which neither stands above the other."""
    exact: Asked = {}
    by_pattern: Asked = {}
    origins: dict[tuple[str, str], str] = {}
    for key, value in settings.items():
        for found in meant(module, key, value):
            if not is_pattern(key):
                exact[found] = value
            elif by_pattern.setdefault(found, value) != value:
                raise ValueError(f"model.set: {origins[found]} and {key} give {'.'.join(found)} two values")
            origins.setdefault(found, key)
    return by_pattern | exact


def is_pattern(key: str) -> bool:
    return any(character in key for character in "*?[")


def meant(module: nn.Module, key: str, value: object) -> list[tuple[str, str]]:
    """(name, attribute) of every module that `key` fits."""
    names = [name for name, _ in module.named_modules() if name]
    whole = [name for name in names if fits(name, key)]
    if whole:
        attribute = IDENTITY if value == IDENTITY else "stride"
        found = [(name, attribute) for name in whole if attribute == IDENTITY or can_set(module, name, attribute)]
        return found or refuse_attribute(module, key, whole[0], attribute)
    path, _, attribute = key.rpartition(".")
    fitting = [name for name in names if fits(name, path)]
    if not fitting:
        near = get_close_matches(path or key, names, n=4, cutoff=0.4) or [name for name in names if "." not in name]
        raise ValueError(
            f"model.set.{key}: no layer is called {path or key}; the nearest names are {', '.join(near[:8])}"
        )
    found = [(name, attribute) for name in fitting if can_set(module, name, attribute)]
    return found or refuse_attribute(module, key, fitting[0], attribute)


def fits(name: str, pattern: str) -> bool:
    """Part by part, so that `layer*.0` does not mean layer1.1.0."""
    ours, theirs = name.split("."), pattern.split(".")
    return len(ours) == len(theirs) and all(map(fnmatchcase, ours, theirs))


def can_set(module: nn.Module, name: str, attribute: str) -> bool:
    """Blocks keep the stride that they were made with too, and do not read it again."""
    layer = module.get_submodule(name)
    return attribute in SETTABLE and hasattr(layer, attribute) and not any(layer.children())


def refuse_attribute(module: nn.Module, key: str, name: str, attribute: str) -> Any:
    layer = module.get_submodule(name)
    has = [known for known in SETTABLE if can_set(module, name, known)]
    parts_of = (f"{name}.{part}" for part, _ in layer.named_modules() if part)
    inside = [part for part in parts_of if can_set(module, part, "stride")]
    if has:
        hint = f"of it can be set {', '.join(has)}"
    elif inside:
        hint = f"layers inside it that have one: {', '.join(inside[:6])}"
    else:
        hint = "a layer without weights can only be left out, by the value identity"
    raise ValueError(f"model.set.{key}: {name} is a {type(layer).__name__}, which has no {attribute}; {hint}")


def replace_by_identity(module: nn.Module, name: str) -> None:
    layer = module.get_submodule(name)
    if count := sum(weights.numel() for weights in layer.parameters()):
        raise ValueError(
            f"model.set.{name}=identity: it has {count:,} parameters, and variants would differ in more than stride "
            "and padding; only a layer without weights, such as a pool, can be left out"
        )
    parent, _, child = name.rpartition(".")
    setattr(module.get_submodule(parent), child, nn.Identity())


def set_attribute(module: nn.Module, name: str, attribute: str, value: object, *, keep_weights: bool) -> None:
    layer = module.get_submodule(name)
    pair = pair_of(f"model.set.{name}.{attribute}", attribute, value, layer)
    if attribute == "kernel_size" and (weight := getattr(layer, "weight", None)) is not None:
        if keep_weights and tuple(weight.shape[2:]) != pair:
            raise ValueError(
                f"{name}.kernel_size={value}: its weights are {side(weight.shape[2:])}, and a copy keeps them; only "
                "stride, padding and dilation can be changed"
            )
        layer.weight = nn.Parameter(weight.new_empty((*weight.shape[:2], *pair)))
    setattr(layer, attribute, pair)
    renew_pads(layer)


def renew_pads(layer: Any) -> None:
    """What a convolution that pads with other than zeros gives F.pad."""
    if isinstance(layer, nn.Conv2d) and isinstance(layer.padding, tuple):
        layer._reversed_padding_repeated_twice = [pad for pad in reversed(layer.padding) for _ in range(2)]


def pair_of(key: str, attribute: str, value: object, layer: nn.Module) -> Pair:
    """(height, width) as PyTorch wants it; ValueError for what is none."""
    if attribute != "padding":
        return parse_pair(parts(value, "x"), key)
    if value == "half":
        kernel, dilation = (both(getattr(layer, of, 1)) for of in ("kernel_size", "dilation"))
        return tuple(step * (size - 1) // 2 for size, step in zip(kernel, dilation, strict=True))  # type: ignore[return-value]
    sizes = parts(0 if value == "valid" else value, "x")
    found = tuple(sizes) if isinstance(sizes, list | tuple) else (sizes, sizes)
    if len(found) != 2 or not all(type(size) is int and size >= 0 for size in found):
        raise ValueError(f"{key}={value!r} must be a whole number, [height, width], half or valid")
    return found


def both(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def blocks_with_shortcut(module: nn.Module) -> Iterator[str]:
    for name, block in module.named_modules():
        if any(child in SHORTCUTS and convs_of(part) for child, part in block.named_children()):
            yield name


def convs_of(module: nn.Module) -> list[tuple[str, nn.Conv2d]]:
    return [(name, layer) for name, layer in module.named_modules() if isinstance(layer, nn.Conv2d)]


def follow(module: nn.Module, name: str, asked: Asked) -> Iterator[str]:
    """Where a stride of a block was set and none of its shortcut, give the shortcut the stride of the block."""
    block = module.get_submodule(name)
    dot = f"{name}." if name else ""
    touched = [path.removeprefix(dot) for path, attribute in asked if attribute == "stride" and path.startswith(dot)]
    for child, shortcut in block.named_children():
        convs = convs_of(shortcut) if child in SHORTCUTS else []
        inside = [path for path in touched if path == child or path.startswith(f"{child}.")]
        if not convs or inside or not touched:
            continue
        path, conv = next(((path, conv) for path, conv in convs if conv.stride != (1, 1)), convs[0])
        main = [layer.stride for part, layer in convs_of(block) if not part.startswith(child)]
        wanted = (prod(both(stride)[0] for stride in main), prod(both(stride)[1] for stride in main))
        if conv.stride != wanted:
            where = ".".join(filter(None, (name, child, path)))
            yield f"{where}.stride: {side(both(conv.stride))} to {side(wanted)}, as its block"
            conv.stride = wanted


def dilate(module: nn.Module, output_stride: int, images: tuple[int, int, int] | None) -> None:
    """A stride that would carry the effective stride beyond `output_stride` becomes 1, and each kernel behind it is
    dilated by what it lost: it reads the pixels that it read before. ValueError where a layer cannot be dilated."""
    channels, size = (images[0], images[1:]) if images else (None, (256, 256))
    layers = measure(trace(module, size, input_channels=channels))
    last = next((layer for layer in reversed(layers) if layer.effective_stride and not layer.whole), None)
    if last is None or last.effective_stride is None:
        raise ValueError(f"model.output_stride={output_stride}: the network's effective stride is not known")
    if min(last.effective_stride) < output_stride:
        raise ValueError(
            f"model.output_stride={output_stride}: the network's is {side(last.effective_stride)} as it is, and "
            "strides are traded for dilation, not made"
        )
    modules = dict(module.named_modules())
    for layer in layers:
        found = modules.get(layer.name)
        if found is None or layer.effective_stride is None or not hasattr(found, "stride"):
            continue
        before = [Fraction(out) / step for out, step in zip(layer.effective_stride, layer.stride, strict=True)]
        factor = [max(Fraction(1), step / output_stride) for step in before]
        stride = [
            min(Fraction(out), Fraction(output_stride)) / min(step, Fraction(output_stride))
            for out, step in zip(layer.effective_stride, before, strict=True)
        ]
        if any(number.denominator != 1 for number in (*factor, *stride)):
            raise ValueError(
                f"model.output_stride={output_stride}: {layer.name} goes from an effective stride of "
                f"{side(before)} to {side(layer.effective_stride)}; choose a number that is among them"
            )
        give(layer.name, found, stride=whole(stride), factor=whole(factor), output_stride=output_stride)


def whole(numbers: Sequence[Fraction]) -> Pair:
    return int(numbers[0]), int(numbers[1])


def give(name: str, layer: Any, *, stride: Pair, factor: Pair, output_stride: int) -> None:
    kernel = both(layer.kernel_size)
    if stride != both(layer.stride):
        layer.stride = stride
    if factor == (1, 1) or kernel == (1, 1):
        return
    if not hasattr(layer, "dilation") or not isinstance(layer.padding, int | tuple):
        raise ValueError(f"model.output_stride={output_stride}: {name} is a {type(layer).__name__}, without dilation")
    dilation, padding = both(layer.dilation), both(layer.padding)
    layer.dilation = (dilation[0] * factor[0], dilation[1] * factor[1])
    layer.padding = (padding[0] * factor[0], padding[1] * factor[1])
    renew_pads(layer)


def traced_output(module: nn.Module, input_size: Pair, input_channels: int) -> tuple[LayerPlan, Any]:
    """The plan, and what the module returned. ValueError, with the sizes of the branches that do not meet."""
    outputs: list[Any] = []
    seen: dict[str, Pair] = {}
    hooks = [module.register_forward_hook(lambda module, args, output: outputs.append(output))]
    for name, layer in module.named_modules():
        hooks += [layer.register_forward_pre_hook(note_size(f"{name}'s input", seen))]
        hooks += [layer.register_forward_hook(note_size(name, seen))]
    try:
        plan = trace(module, input_size, input_channels=input_channels)
    except ValueError as error:
        if said := unequal_branches(module, seen, str(error)):
            raise ValueError(said) from None
        raise
    finally:
        for hook in hooks:
            hook.remove()
    return plan, outputs[-1]


def note_size(name: str, seen: dict[str, Pair]) -> Any:
    """The size of a hook's last argument: a layer's input or output."""

    def hook(module: nn.Module, *given: Any) -> None:
        tensor = given[-1][0] if isinstance(given[-1], tuple) and given[-1] else given[-1]
        if isinstance(tensor, torch.Tensor) and tensor.ndim == 4:
            seen[name] = (tensor.shape[2], tensor.shape[3])

    return hook


def unequal_branches(module: nn.Module, seen: Mapping[str, Pair], error: str) -> str:
    """Of the block that failed, the maps that do not meet, and the keys that change them; empty where it failed
    otherwise."""
    failed = next((name for name, _ in module.named_modules() if name and error.startswith(f"layer {name!r} ")), None)
    if failed is None or not any(word in error for word in ("match", "broadcast", "Sizes of tensors")):
        return ""
    block = module.get_submodule(failed)
    names = [f"{failed}'s input", *(f"{failed}.{child}" for child, _ in block.named_children())]
    ends = {seen[name]: name for name in names if name in seen}  # the last of each size
    if len(ends) < 2:
        return ""
    told = " and ".join(f"{name} on {side(size)}" for size, name in ends.items())
    strided = [f"{failed}.{name}.stride" for name, conv in convs_of(block) if both(conv.stride) != (1, 1)]
    change = f"; change {' or '.join(strided)}" if strided else ""
    return f"the branches of {failed} end on different grids: {told}{change}"

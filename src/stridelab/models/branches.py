"""Blocks whose branches must end on one grid: shortcuts that follow, and what is said where maps do not meet."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from math import prod
from typing import Any

import torch
from torch import nn

from stridelab.geometry import LayerPlan, Pair, measure
from stridelab.text import side

from .dilation import both
from .trace import trace

SHORTCUTS = ("downsample", "shortcut", "proj", "branch1")
"""What torchvision and timm call what brings a block's input to the grid of its output."""


def shortcuts_of(module: nn.Module) -> tuple[str, ...]:
    """Names of what makes a block's input smaller by as much as the block does."""
    blocks = ((name, block) for name, block in module.named_modules() if "branch3" not in block._modules)  # Inception's
    named = ((name, block, child) for name, block in blocks for child in block._modules if child in SHORTCUTS)
    return tuple(f"{name}.{child}".lstrip(".") for name, block, child in named if is_shortcut(block, child))


def is_shortcut(block: nn.Module, child: str) -> bool:
    """Whether it begins where the block begins, and ends on the grid where it ends."""
    convs = [name for name, layer in block.named_modules() if isinstance(layer, nn.Conv2d)]
    own, others = ([name for name in convs if within(name, child) is inside] for inside in (True, False))
    if not own or not others:
        return False
    read = {block.get_submodule(names[0]).in_channels for names in (own, others)}
    return len(read) == 1 and len({total_stride(block, child, inside=inside) for inside in (True, False)}) == 1


def within(name: str, parent: str) -> bool:
    return not parent or name == parent or name.startswith(f"{parent}.")


def strided(block: nn.Module) -> dict[str, Any]:
    """Its layers with a stride, by name."""
    layers = [(name, one) for name, one in block.named_modules() if not any(one.children())]
    return {name: one for name, one in layers if isinstance(getattr(one, "stride", None), int | tuple | list)}


def total_stride(block: nn.Module, child: str, *, inside: bool) -> Pair:
    """Of the layers of `child`, or of all others."""
    strides = [both(layer.stride) for name, layer in strided(block).items() if within(name, child) is inside]
    return prod(height for height, _ in strides), prod(width for _, width in strides)


def follow(module: nn.Module, shortcut: str, asked: Collection[str]) -> Iterator[str]:
    """Give `shortcut` the stride of its block where one of the block is among what was `asked` for and none of its own;
    what was done, as a sentence."""
    block_name, _, child = shortcut.rpartition(".")
    if not any(within(name, block_name) for name in asked) or any(within(name, shortcut) for name in asked):
        return
    block = module.get_submodule(block_name)
    wanted = total_stride(block, child, inside=False)
    if wanted == total_stride(block, child, inside=True):
        return
    layers = [(name, layer) for name, layer in strided(block).items() if within(name, child)]
    name, layer = next(((name, layer) for name, layer in layers if both(layer.stride) != (1, 1)), layers[0])
    yield f"{block_name}.{name}.stride: {side(both(layer.stride))} to {side(wanted)}, as its block".lstrip(".")
    if not isinstance(layer, nn.Conv2d) and both(layer.kernel_size) == both(
        layer.stride
    ):  # a pool, whose windows touch
        layer.kernel_size = wanted
    layer.stride = wanted


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


def refuse_broadcast(plan: LayerPlan) -> None:
    """ValueError where a branch of one pixel is added to a larger map: PyTorch repeats it there without a word."""
    maps = {layer.name: layer for layer in measure(plan)}
    for layer in plan.layers:
        ends = {maps[name].output_size: name for name in layer.inputs if name in maps and not maps[name].whole}
        if layer.kind == "add" and len(ends) > 1:
            raise ValueError(different_grids(layer.name.rpartition(".")[0], ends))


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
    keys = [f"{failed}.{name}.stride" for name, layer in strided(block).items() if both(layer.stride) != (1, 1)]
    return different_grids(failed, ends) + (f"; change {' or '.join(keys)}" if keys else "")


def different_grids(block: str, ends: Mapping[Pair, str]) -> str:
    told = " and ".join(f"{name} on {side(size)}" for size, name in ends.items())
    return f"the branches of {block} end on different grids: {told}"

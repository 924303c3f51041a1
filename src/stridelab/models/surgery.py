"""Stride, padding, dilation and kernel size of any module's layers, by their names, kept consistent."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from stridelab.geometry import Pair, compose, measure, parse_pair, totals
from stridelab.geometry import layer as geometry_layer
from stridelab.text import parts, side

from .branches import follow, shortcuts_of
from .dilation import both, dilate, renew_pads
from .trace import trace

SETTABLE = ("stride", "padding", "dilation", "kernel_size")
IDENTITY = "identity"
OF_OTHER_AXES = (
    *(nn.Conv1d, nn.ConvTranspose1d, nn.MaxPool1d, nn.AvgPool1d, nn.LPPool1d),
    *(nn.Conv3d, nn.ConvTranspose3d, nn.MaxPool3d, nn.AvgPool3d, nn.LPPool3d),
)
"""Layers of one axis or three, where a setting is (height, width)."""


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
    asked, shortcuts = resolved(module, settings), shortcuts_of(module)
    for (name, attribute), value in sorted(asked.items(), key=is_padding):
        if attribute == IDENTITY:
            replace_by_identity(module, name)
        else:
            set_attribute(module, name, attribute, value, keep_weights=keep_weights)
    strides = {name for name, attribute in asked if attribute in ("stride", IDENTITY)}
    notes = tuple(note for shortcut in shortcuts for note in follow(module, shortcut, strides))
    if output_stride is not None:
        dilate(module, output_stride, images)
    return notes


Asked = dict[tuple[str, str], Any]
"""(name of a module, attribute) -> value."""


def is_padding(asked: tuple[tuple[str, str], Any]) -> bool:
    """Set last: `half` is that of the kernel size and the dilation that are asked for beside it."""
    return asked[0][1] == "padding"


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
    settable = hasattr(layer, attribute) and not any(layer.children()) and not isinstance(layer, OF_OTHER_AXES)
    return attribute in SETTABLE and settable


def refuse_attribute(module: nn.Module, key: str, name: str, attribute: str) -> Any:
    layer = module.get_submodule(name)
    if isinstance(layer, OF_OTHER_AXES):
        raise ValueError(f"model.set.{key}: {name} is a {type(layer).__name__}, which has no height and width to set")
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
    if attribute == "padding" and isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
        refuse_own_pads(name, layer)


def refuse_own_pads(name: str, layer: nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d) -> None:
    """ValueError for a layer that does not read its `padding`, such as timm's Conv2dSame."""
    kernel, stride, padding = (both(of) for of in (layer.kernel_size, layer.stride, layer.padding))
    dilation, channels = both(getattr(layer, "dilation", 1)), getattr(layer, "in_channels", 1)
    size = tuple(
        2 * step * (gap * k + pad) for k, step, gap, pad in zip(kernel, stride, dilation, padding, strict=True)
    )
    conv = isinstance(layer, nn.Conv2d)
    asked = geometry_layer(
        "conv" if conv else "max_pool",
        kernel_size=kernel,
        stride=stride,
        dilation=dilation,
        padding=padding,
        ceil_mode=not conv and layer.ceil_mode,
    )
    try:
        wanted = compose([asked], input_size=(size[0], size[1]))[-1]
        found = totals(measure(trace(layer, (size[0], size[1]), input_channels=channels))).last_map
    except ValueError:  # such as a pool's pads that PyTorch refuses: told when the network is traced
        return
    if found and (found.output_size, found.region) != (wanted.output_size, wanted.region):
        raise ValueError(
            f"model.set.{name}.padding: {name} is a {type(layer).__name__}, which pads by a rule of its own, whatever "
            "its padding says; its stride, dilation and kernel size can be set"
        )


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

"""What a person chooses about a network, in one normal form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from stridelab.geometry import parse_padding
from stridelab.text import by, parts, side

Pair = tuple[int, int]

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")
HEADS = ("gap", "flatten")


@dataclass(frozen=True)
class ModelConfig:
    """A network of `family`; every per-layer field is one value for all layers or one a layer."""

    family: str = "cnn"
    """Which function of `FAMILIES` turns this into a layer plan."""
    channels: Any = (16, 32, 64)
    """Feature maps of each convolution; its length is the number of layers."""
    kernel_sizes: Any = 3
    """Pixels: an int, or [height, width]."""
    strides: Any = (1, 2, 2)
    """Pixels between neighbouring windows: an int, or [height, width]; `1-2-2` is short for [1, 2, 2]."""
    padding: Any = "half"
    """A padding policy for all layers, or a list of one a layer."""
    dilations: Any = 1
    """Pixels between the taps of a kernel."""
    padding_mode: str = "zeros"
    """What the padding holds: zeros, reflect, replicate or circular."""
    head: str = "gap"
    """gap: global average pooling. flatten: parameters then depend on stride, which confounds a comparison."""

    def __post_init__(self) -> None:
        channels = per_layer("channels", self.channels, count=None, parse=positive)
        count = len(channels)
        normal = {
            "channels": channels,
            "kernel_sizes": per_layer("kernel_sizes", self.kernel_sizes, count=count, parse=pair),
            "strides": per_layer("strides", self.strides, count=count, parse=pair),
            "dilations": per_layer("dilations", self.dilations, count=count, parse=pair),
            "padding": per_layer("padding", self.padding, count=count, parse=padding_policy),
        }
        for name, value in normal.items():
            object.__setattr__(self, name, value)
        require_choice("model.padding_mode", self.padding_mode, PADDING_MODES)
        require_choice("model.head", self.head, HEADS)


def require_choice(key: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"{key}={value!r} is not one of its choices; choose one of {', '.join(choices)}.")


def per_layer(name: str, value: object, *, count: int | None, parse: Callable[[str, object], Any]) -> tuple[Any, ...]:
    """One parsed entry a layer; `count` None means that this field decides how many layers there are."""
    key = f"model.{name}"
    value = parts(value, "-")
    if not isinstance(value, list | tuple):
        return (parse(key, value),) * (count or 1)
    if not value:
        raise ValueError(f"{key}=[] names no layer; give at least one entry.")
    if count is not None and len(value) != count:
        raise ValueError(
            f"{key}={spell(value)} has {len(value)} entries, but model.channels has {count} layers; "
            f"give one entry a layer, or a single value for all."
        )
    return tuple(parse(f"{key}[{index}]", entry) for index, entry in enumerate(value))


def positive(key: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{key}={value!r} must be a whole number of at least 1.")
    return value


def pair(key: str, value: object) -> Pair:
    """An int, `[height, width]` or the text `1x2`, as (height, width)."""
    value = parts(value, "x")
    if isinstance(value, list | tuple):
        if len(value) != 2:
            raise ValueError(f"{key}={spell(value)} must be a whole number or [height, width].")
        return positive(key, value[0]), positive(key, value[1])
    number = positive(key, value)
    return number, number


def padding_policy(key: str, value: object) -> Any:
    """The policy as it was written, once `parse_padding` has accepted it; lists become tuples."""
    value = tuple(value) if isinstance(value, list) else value
    try:
        parse_padding(value)
    except ValueError as error:
        reason = str(error)
        joint = "=" if reason.startswith(repr(value)) else f"={value!r}: "
        raise ValueError(f"{key}{joint}{reason.rstrip('.')}.") from None
    return value


def spell(value: object) -> str:
    """A per-layer value as a person would type it: `1-2-2`, `1x2-2-2`, `same`."""
    if isinstance(value, list | tuple):
        return "-".join(spell_entry(entry) for entry in value)
    return spell_entry(value)


def spell_entry(entry: object) -> str:
    if isinstance(entry, list | tuple):
        return side(entry) if len(entry) == 2 else by(entry)
    return str(entry)


def spell_field(config: ModelConfig, name: str) -> str:
    """A field of `config` in its shortest spelling: one word where all layers agree, except strides."""
    value = getattr(config, name)
    if isinstance(value, tuple) and name in {"kernel_sizes", "padding", "dilations"} and len(set(value)) == 1:
        return spell_entry(value[0])
    return spell(value)

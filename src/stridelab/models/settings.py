"""What a person chooses about a network, in one normal form: what the settings of all families are made with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any

from stridelab.geometry import PADDING_MODES, Layer, parse_padding
from stridelab.text import by, parts, side

from .downsampling import DOWNSAMPLING, Blur, down_sample
from .heads import HEADS

Pair = tuple[int, int]


@dataclass(frozen=True)
class ModelConfig:
    """What every family's settings have; the family's own fields come after it, in a class of its own."""

    family: str = "cnn"
    """Which entry of `FAMILIES` turns these settings into a layer plan."""


GEOMETRY = {"geometry": True}
"""Metadata of a field that says where and how maps are padded and made smaller: what a sweep is about."""
PAIR = {"pair": True}
"""Metadata of a field that is one (height, width), whatever the number of layers."""


def each_layer(one: str = "", *, uniform: bool = False, geometry: bool = False) -> dict[str, Any]:
    """Metadata of a field that is one value for all layers or one a layer.

    one: what one layer's value is called as an MLflow parameter, `stride` for stride_1, stride_2, ...;
    uniform: spelled as a single word where all layers agree;
    geometry: as in `GEOMETRY`.
    """
    return {"one": one, "uniform": uniform, "geometry": geometry}


@dataclass(frozen=True)
class ConvNetConfig(ModelConfig):
    """What families of convolutions share. One value serves all of its layers, or a list has one for each."""

    strides: Any = field(default=(1, 2, 2), metadata=each_layer("stride", geometry=True))
    """Pixels between neighbouring windows: an int, or [height, width]; `1-2-2` is short for [1, 2, 2]."""
    downsample: Any = field(
        default="stride", metadata=each_layer("downsample", uniform=True, geometry=True) | {"choices": DOWNSAMPLING}
    )
    """How a layer makes its map smaller by its stride; pools have windows as large as the stride."""
    blur_size: int = field(default=3, metadata=GEOMETRY)
    """Taps of blur_pool's binomial filter along an axis, 2 to 5; its border is filled as padding_mode says, or by
    reflection where that is zeros."""
    padding: Any = field(default="half", metadata=each_layer(uniform=True, geometry=True))
    """A padding policy for all layers; of family cnn, or a list of one a layer."""
    padding_mode: str = field(default="zeros", metadata={"choices": PADDING_MODES} | GEOMETRY)
    """What the padding holds."""
    head: str = "gap"
    """gap: global average pooling. flatten: parameters then depend on stride, which confounds a comparison."""

    def settle(self, *, count: int, of: str, **others: Any) -> None:
        """The common fields and `others` in their normal form: an entry for each of `count` layers, which `of` says
        where they come from. ValueError for what cannot be."""
        strides = per_layer("strides", self.strides, count=count, parse=pair, of=of)
        ways = per_layer("downsample", self.downsample, count=count, parse=down_sampling, of=of)
        if "padding" not in others:
            one = self.padding[0] if isinstance(self.padding, list | tuple) and len(self.padding) == 1 else self.padding
            others["padding"] = (padding_policy("model.padding", one),)  # a record of a run has it as this
        for name, value in {"strides": strides, "downsample": ways, **others}.items():
            object.__setattr__(self, name, value)
        if not 2 <= positive("model.blur_size", self.blur_size) <= 5:
            raise ValueError(f"model.blur_size={self.blur_size} must be from 2 to 5.")
        for index, (stride, way) in enumerate(zip(strides, ways, strict=True)):
            refuse_unfit(f"model.strides[{index}]", stride, way, "model.downsample")
        require_choice("model.padding_mode", self.padding_mode, tuple(PADDING_MODES))
        require_choice("model.head", self.head, HEADS)

    def smaller(self, layers: Sequence[Layer], *, how: str, name: str, ahead: bool = False) -> list[Layer]:
        """See `down_sample`."""
        mode = "reflect" if self.padding_mode == "zeros" else self.padding_mode
        return down_sample(layers, name=name, how=how, blur=Blur(self.blur_size, mode), ahead=ahead)


def down_sampling(key: str, value: object) -> str:
    require_choice(key, value, tuple(DOWNSAMPLING))
    return str(value)


def refuse_unfit(name: str, stride: Pair, way: str, key: str) -> None:
    """`name`: of the stride that is made by `way`, which `key` says."""
    said = f"{key}={way} with {name}={spell_entry(stride)}"
    if way == "none" and stride != (1, 1):
        raise ValueError(f"{said}: without down-sampling a stride must be 1; give 1 there, or another {key}.")
    if way == "space_to_depth" and stride[0] != stride[1]:
        raise ValueError(f"{said}: blocks of pixels must be square; give one number, or another {key}.")


def require_choice(key: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"{key}={value!r} is not one of its choices; choose one of {', '.join(choices)}.")


def unknown_choice(key: str, value: object, choices: Sequence[str], *, what: str) -> str:
    """The sentence for a name that is none of many; it gives the nearest."""
    near = get_close_matches(str(value), choices, n=3, cutoff=0.5) or sorted(choices)[:5]
    return f"{key}={value!r} is not {what}; the nearest names are {', '.join(near)}"


def per_layer(
    name: str,
    value: object,
    *,
    count: int | None,
    parse: Callable[[str, object], Any],
    of: str = "model.channels has {} layers",
) -> tuple[Any, ...]:
    """One parsed entry a layer; `count` None means that this field decides how many layers there are.
    `of`: what says so where another field does."""
    key = f"model.{name}"
    value = parts(value, "-")
    if not isinstance(value, list | tuple):
        return (parse(key, value),) * (count or 1)
    if not value:
        raise ValueError(f"{key}=[] names no layer; give at least one entry.")
    if count is not None and len(value) != count:
        raise ValueError(
            f"{key}={spell(value)} has {len(value)} entries, but {of.format(count)}; "
            "give one entry for each, or a single value for all."
        )
    return tuple(parse(f"{key}[{index}]", entry) for index, entry in enumerate(value))


MOST = 65_536
"""Channels, pixels or layers: beyond it nothing of a network can be computed, and geometry takes for ever."""


def positive(key: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{key}={value!r} must be a whole number of at least 1.")
    if value > MOST:
        raise ValueError(f"{key}={value} must be at most {MOST:,}.")
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
    if any(isinstance(pad, int) and pad > MOST for pad in (value if isinstance(value, tuple) else (value,))):
        raise ValueError(f"{key}={spell_entry(value)} must be at most {MOST:,}.")
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
    """A field of `config` as a person would type it; empty where its family has no such field."""
    value = getattr(config, name, "")
    if metadata(config, name).get("pair"):
        return spell_entry(value)
    if isinstance(value, tuple) and metadata(config, name).get("uniform") and len(set(value)) == 1:
        return spell_entry(value[0])
    return spell(value)


def metadata(config: ModelConfig, name: str) -> Mapping[str, Any]:
    return next((one.metadata for one in fields(config) if one.name == name), {})

"""Compose layers into a network, and measure every map of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from stridelab.geometry.axis import AxisGeometry
from stridelab.geometry.field import PADDING_MODES, AxisField, image_field, merge, through
from stridelab.geometry.kinds import JOINS, KINDS, Effect, Grid
from stridelab.geometry.plan import IMAGE, AxisPadding, Layer, LayerPlan, Pair
from stridelab.geometry.saved import Source, kept_bytes

Flags = tuple[bool, bool]
Fields = tuple[AxisField | None, AxisField | None]
WINDOWED = ("conv", "max_pool", "avg_pool")
FIELD_FIGURES = (
    "receptive_field",
    "effective_stride",
    "effective_padding",
    "center",
    "region",
    "input_share",
    "padding_share",
)


@dataclass(frozen=True, slots=True)
class LayerGeometry:
    """One layer, measured. Pairs are (height, width); lengths are in pixels of the image unless said otherwise.

    The figures that may be None are so behind an opaque layer, or behind branches of unequal effective stride.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    in_channels: int
    out_channels: int
    kernel_size: Pair
    stride: Pair
    dilation: Pair
    padding: tuple[AxisPadding, AxisPadding]
    padding_mode: str
    pad: tuple[Pair, Pair]
    """((top, bottom), (left, right)), in columns of its own input, as are the next six."""
    input_size: Pair
    output_size: Pair
    unread_padding: Pair
    unread_pixels: Pair
    skipped_pixels: Pair
    hole_pixels: Pair
    uneven: Flags
    receptive_field: Pair | None
    effective_stride: Pair | None
    effective_padding: Pair | None
    """Top and left pads, composed: how far the first unit's field starts before the image."""
    center: tuple[float, float] | None
    """Centre of the first unit's field; the image's first pixel is 0.0."""
    region: tuple[Pair, Pair] | None
    """First and last row, first and last column of the first unit's field; may lie outside the image."""
    input_share: float | None
    """Share of the image's pixels that at least one unit of this map reads."""
    padding_share: float | None
    """Share of this map's units whose field reaches past the image's edge, into padding."""
    unproductive: bool
    """A window over inputs whose field already exceeds the image: no new context (Richter et al. 2021)."""
    misaligned: bool
    """Its branches' fields are not centred alike (Araujo et al. 2019)."""
    gated: bool
    """Some value that depends on the whole image is broadcast into this map; the figures are those of the local path."""
    whole: bool
    """One unit that reads the whole map: a global pool, flatten and what follows."""
    params: int | None
    macs: int | None
    output_elements: int
    activation_bytes: int | None
    """What autograd keeps for this layer a image at 32 bits, less what an earlier layer already keeps."""

    def region_of(self, unit: Pair) -> tuple[Pair, Pair] | None:
        """((first row, last row), (first column, last column)) of the field of the unit at (row, column)."""
        if self.region is None or self.effective_stride is None:
            return None
        rows, columns = (
            (first + at * jump, last + at * jump)
            for (first, last), at, jump in zip(self.region, unit, self.effective_stride, strict=True)
        )
        return rows, columns


@dataclass(frozen=True, slots=True)
class _Map(Source):
    """What the layers behind it need to know of a map."""

    fields: Fields
    gated: bool = False


def measure(plan: LayerPlan, *, on_misaligned: str = "flag") -> tuple[LayerGeometry, ...]:
    """Measure every layer of a plan, in its order.

    Raises ValueError, naming the layer and the size of its map, when a map collapses, when a reflect or circular pad is
    too large for it, when channels or sizes do not fit, and, with on_misaligned="error", when branches are misaligned.
    """
    if on_misaligned not in ("flag", "error"):
        raise ValueError(f"on_misaligned={on_misaligned!r} is not known; choose one of flag, error")
    image = Grid(plan.input_channels, plan.input_size)
    height, width = plan.input_size
    maps = {IMAGE: _Map(image, IMAGE, False, (image_field(height), image_field(width)))}
    saved: set[str] = set()
    return tuple(_measure_layer(layer, maps, saved, on_misaligned) for layer in plan.layers)


def compose(
    layers: Iterable[Layer], *, input_size: int | Pair, input_channels: int = 1, on_misaligned: str = "flag"
) -> list[LayerGeometry]:
    """Measure layers without a plan around them; a layer without `inputs` reads the layer before it."""
    size = (input_size, input_size) if isinstance(input_size, int) else (input_size[0], input_size[1])
    return list(measure(LayerPlan(input_channels, size, tuple(layers)), on_misaligned=on_misaligned))


def _measure_layer(layer: Layer, maps: dict[str, _Map], saved: set[str], on_misaligned: str) -> LayerGeometry:
    sources = [maps[name] for name in layer.inputs]
    try:
        effect = _effect(layer, sources)
        before, aligned, gated = _join(sources)
        if not aligned and on_misaligned == "error":
            raise ValueError("its branches are misaligned: their fields differ in effective stride or centre")
    except ValueError as exc:
        sizes = " and ".join(f"{height}x{width}" for height, width in (source.grid.size for source in sources))
        raise ValueError(f"layer {layer.name!r} ({layer.kind}) on a map of {sizes}: {exc}") from None
    height, width = effect.axes
    fields = _through(before, effect, layer.padding_mode)
    params = effect.params if layer.params is None else layer.params
    needs_grad = params != 0 or any(source.needs_grad for source in sources)
    storage = sources[0].storage if effect.aliases else layer.name
    maps[layer.name] = _Map(effect.grid, storage, needs_grad, fields, gated)
    return LayerGeometry(
        name=layer.name,
        kind=layer.kind,
        inputs=layer.inputs,
        in_channels=sources[0].grid.channels if len(sources) == 1 else effect.channels,
        out_channels=effect.channels,
        kernel_size=(height.kernel_size, width.kernel_size),
        stride=(height.stride, width.stride),
        dilation=(height.dilation, width.dilation),
        padding=layer.padding,
        padding_mode=layer.padding_mode,
        pad=effect.pad,
        input_size=(height.input_size, width.input_size),
        output_size=effect.grid.size,
        unread_padding=(height.unread_padding, width.unread_padding),
        unread_pixels=(height.unread_pixels, width.unread_pixels),
        skipped_pixels=(height.skipped_pixels, width.skipped_pixels),
        hole_pixels=(height.hole_pixels, width.hole_pixels),
        uneven=(height.uneven, width.uneven),
        **_field_figures(*fields),
        unproductive=layer.kind in WINDOWED and _unproductive(before, effect),
        misaligned=not aligned,
        gated=gated,
        params=params,
        macs=effect.macs,
        output_elements=effect.grid.elements,
        activation_bytes=kept_bytes(layer, effect, sources, saved) if needs_grad else 0,
    )


def _effect(layer: Layer, sources: Sequence[_Map]) -> Effect:
    if layer.kind not in KINDS:
        raise ValueError(f"kind {layer.kind!r} is not known; choose one of {', '.join(KINDS)}")
    if layer.padding_mode not in PADDING_MODES:
        raise ValueError(f"padding_mode={layer.padding_mode!r} is not known; choose one of {', '.join(PADDING_MODES)}")
    if len(sources) > 1 and layer.kind not in JOINS:
        raise ValueError(f"it reads one map, not {len(sources)}; only {', '.join(JOINS)} join maps")
    effect = KINDS[layer.kind](layer, [source.grid for source in sources])
    for name, axis in zip(("height", "width"), effect.axes, strict=True):
        _check_mode(layer.padding_mode, axis, name)
    return effect


def _check_mode(padding_mode: str, axis: AxisGeometry, name: str) -> None:
    """PyTorch's limits on what can be mirrored or wrapped."""
    most = {"reflect": axis.input_size - 1, "circular": axis.input_size}.get(padding_mode)
    if most is not None and max(axis.pad_before, axis.pad_after) > most:
        raise ValueError(
            f"padding_mode={padding_mode!r} cannot pad {axis.pad_before} + {axis.pad_after} on a {name} of "
            f"{axis.input_size}; a pad may be {most} at most"
        )


def _join(sources: Sequence[_Map]) -> tuple[Fields, bool, bool]:
    """The fields that a layer's inputs have together, whether they are aligned, and whether any is broadcast."""
    if len(sources) == 1:
        return sources[0].fields, True, sources[0].gated
    size = max(source.grid.size for source in sources)
    local = [source for source in sources if source.grid.size == size]
    height, rows_aligned = merge([source.fields[0] for source in local])
    width, columns_aligned = merge([source.fields[1] for source in local])
    gated = len(local) < len(sources) or any(source.gated for source in sources)
    return (height, width), rows_aligned and columns_aligned, gated


def _through(before: Fields, effect: Effect, padding_mode: str) -> Fields:
    height, width = (
        None if field is None else through(field, axis, padding_mode, whole=effect.whole)
        for field, axis in zip(before, effect.axes, strict=True)
    )
    return height, width


def _unproductive(before: Fields, effect: Effect) -> bool:
    """Judged on the axes along which the window is wider than one, or on both where it is 1x1."""
    exceeds = [field is not None and field.size > field.image_size for field in before]
    widening = [over for over, axis in zip(exceeds, effect.axes, strict=True) if axis.kernel_size > 1]
    return all(widening or exceeds)


def _field_figures(height: AxisField | None, width: AxisField | None) -> dict[str, Any]:
    """The figures of LayerGeometry that hang on the fields."""
    if height is None or width is None:
        return dict.fromkeys(FIELD_FIGURES) | {"whole": False}
    units = len(height.reads) * len(width.reads)
    return {
        "receptive_field": (height.size, width.size),
        "effective_stride": (height.stride, width.stride),
        "effective_padding": (-height.first, -width.first),
        "center": ((height.first + height.last) / 2, (width.first + width.last) / 2),
        "region": ((height.first, height.last), (width.first, width.last)),
        "input_share": height.seen * width.seen / (height.image_size * width.image_size),
        "padding_share": 1 - height.clear_units * width.clear_units / units,
        "whole": height.whole and width.whole,
    }

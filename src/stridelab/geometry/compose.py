"""Compose layers into a network and measure every map of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stridelab.geometry.effect import Axes, Effect, MapSize
from stridelab.geometry.kinds import KINDS
from stridelab.geometry.layer_geometry import Fields, LayerGeometry, spatial_figures
from stridelab.geometry.layer_plan import IMAGE, Layer, LayerPlan, Pair, parse_pair
from stridelab.geometry.padding import PADDING_MODES
from stridelab.geometry.receptive_field import image_field, merge
from stridelab.geometry.saved_tensors import DEFAULT_FUNCTIONS, MapMemory, kept_bytes
from stridelab.text import by


@dataclass(frozen=True, slots=True)
class _Map(MapMemory):
    """What the layers behind it need to know of a map."""

    fields: Fields
    gated: bool = False
    whole: bool = False


def measure(plan: LayerPlan) -> tuple[LayerGeometry, ...]:
    """Measure every layer of a plan, in its order.

    Raises ValueError, naming the layer and the size of its map, when a map collapses, when a reflect or
    circular pad is too large for it, and when channels or sizes do not fit.
    """
    height, width = plan.input_size
    image = MapSize(plan.input_channels, plan.input_size)
    maps = {IMAGE: _Map(image, IMAGE, needs_grad=False, fields=(image_field(height), image_field(width)))}
    saved: set[str] = set()
    measured = []
    for layer in plan.layers:
        sources = [maps[name] for name in layer.inputs]
        try:
            geometry, maps[layer.name] = _measure_layer(layer, sources, saved)
        except ValueError as exc:
            sizes = " and ".join(by(source.grid.size) for source in sources)
            remedy = f"; {layer.remedy}" if layer.remedy else ""
            raise ValueError(f"layer {layer.name!r} ({layer.kind}) on a map of {sizes}: {exc}{remedy}") from None
        measured.append(geometry)
    return tuple(measured)


def compose(layers: Iterable[Layer], *, input_size: int | Pair, input_channels: int = 1) -> list[LayerGeometry]:
    """Measure layers without a plan around them; a layer without `inputs` reads the layer before it.

    >>> from stridelab.geometry import layer
    >>> [out] = compose([layer("conv", kernel_size=3, stride=2)], input_size=7)
    >>> out.output_size, out.receptive_field
    ((3, 3), (3, 3))
    """
    plan = LayerPlan(input_channels, parse_pair(input_size, "input_size"), tuple(layers))
    return list(measure(plan))


def _measure_layer(layer: Layer, sources: Sequence[_Map], saved: set[str]) -> tuple[LayerGeometry, _Map]:
    effect = _effect(layer, sources)
    before, aligned = _join(sources)
    fields, figures = spatial_figures(before, effect.axes, layer.padding_mode)
    params = _told(layer.params, effect.params)
    grid = effect.grid
    here = _Map(
        grid=grid,
        storage=sources[0].storage if effect.aliases else layer.name,
        needs_grad=params != 0 or any(source.needs_grad for source in sources),
        fields=fields,
        gated=any(source.gated or source.grid.size != figures["input_size"] for source in sources),
        whole=effect.whole or all(source.whole for source in sources),
    )
    kept = kept_bytes(layer, effect, sources, saved) if here.needs_grad else 0
    seen = _told(layer.activation_bytes, kept)
    geometry = LayerGeometry(
        name=layer.name,
        kind=layer.kind,
        inputs=layer.inputs,
        in_channels=sources[0].grid.channels if len(sources) == 1 else grid.channels,
        out_channels=grid.channels,
        padding=layer.padding,
        padding_mode=layer.padding_mode,
        unproductive=effect.widens and _unproductive(sources[0], effect.axes),
        misaligned=not aligned,
        gated=here.gated,
        whole=here.whole,
        params=params,
        macs=None if layer.uncounted else _told(layer.macs, effect.macs),
        output_elements=grid.elements,
        activation_bytes=seen,
        batch_bytes=effect.batch_bytes if layer.batch_bytes is None else layer.batch_bytes,
        function=layer.function or DEFAULT_FUNCTIONS.get(layer.kind, ""),
        saves=effect.saves,
        other_bytes=(seen or 0) - (kept or 0) + (effect.image_bytes if kept else 0),
        groups=layer.groups,
        **figures,
    )
    return geometry, here


def _told(seen: int | None, by_rule: int | None) -> int | None:
    return by_rule if seen is None else seen


def _effect(layer: Layer, sources: Sequence[_Map]) -> Effect:
    if layer.kind not in KINDS:
        raise ValueError(f"{layer.kind!r} is not a kind of layer; choose one of {', '.join(KINDS)}")
    if layer.padding_mode not in PADDING_MODES:
        modes = ", ".join(PADDING_MODES)
        raise ValueError(f"{layer.padding_mode!r} is not a padding_mode; choose one of {modes}")
    effect = KINDS[layer.kind](layer, [source.grid for source in sources])
    _check_pads(layer.padding_mode, effect.axes)
    return effect


def _check_pads(padding_mode: str, axes: Axes) -> None:
    """PyTorch's limits: a map is mirrored without its edge, and wrapped around once."""
    margin = PADDING_MODES[padding_mode].margin
    for name, axis in zip(("height", "width"), axes, strict=True):
        if margin is not None and max(axis.pad_before, axis.pad_after) > axis.input_size - margin:
            raise ValueError(
                f"padding_mode {padding_mode!r} cannot pad a {name} of {axis.input_size} by "
                f"{axis.pad_before} and {axis.pad_after}; {axis.input_size - margin} on a side is the most"
            )


def _join(sources: Sequence[_Map]) -> tuple[Fields, bool]:
    """The fields of a layer's inputs together, and whether they are aligned; broadcast maps do not count."""
    if len(sources) == 1:
        return sources[0].fields, True
    size = max(source.grid.size for source in sources)
    local = [source for source in sources if source.grid.size == size]
    (height, rows), (width, columns) = (merge([source.fields[axis] for source in local]) for axis in (0, 1))
    return (height, width), (rows and columns) or all(source.whole for source in local)


def _unproductive(source: _Map, axes: Axes) -> bool | None:
    """Judged along the axes on which the window is wider than one, or along both where it is 1x1."""
    if source.whole:
        return False
    height, width = source.fields
    if height is None or width is None:
        return None
    exceeds = [field.size > field.image_size for field in (height, width)]
    widened = [over for over, axis in zip(exceeds, axes, strict=True) if axis.kernel_size > 1]
    return all(widened or exceeds)

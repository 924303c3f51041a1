"""A whole network in a few figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stridelab.geometry.figures import LayerGeometry
from stridelab.geometry.padding import Pair


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Sums over all layers, and the figures of the last map: the last one before a global pool or a flatten.

    A sum is None when a layer that cannot be followed is in it; `opaque` names those.
    """

    params: int | None
    macs: int | None
    activation_bytes: int | None
    last_map: str | None
    """Its layer; None, as are the next six, where there is no map at all."""
    output_size: Pair | None
    receptive_field: Pair | None
    effective_stride: Pair | None
    effective_padding: Pair | None
    input_share: float | None
    padding_share: float | None
    uneven: tuple[str, ...]
    """Names of layers, as in the next three."""
    unproductive: tuple[str, ...]
    misaligned: tuple[str, ...]
    opaque: tuple[str, ...]


def totals(layers: Sequence[LayerGeometry]) -> Totals:
    last = next((layer for layer in reversed(layers) if not layer.whole), None)
    return Totals(
        params=add_up(layer.params for layer in layers),
        macs=add_up(layer.macs for layer in layers),
        activation_bytes=add_up(layer.activation_bytes for layer in layers),
        last_map=last and last.name,
        output_size=last and last.output_size,
        receptive_field=last and last.receptive_field,
        effective_stride=last and last.effective_stride,
        effective_padding=last and last.effective_padding,
        input_share=last and last.input_share,
        padding_share=last and last.padding_share,
        uneven=tuple(layer.name for layer in layers if any(layer.uneven)),
        unproductive=tuple(layer.name for layer in layers if layer.unproductive),
        misaligned=tuple(layer.name for layer in layers if layer.misaligned),
        opaque=tuple(layer.name for layer in layers if layer.kind == "opaque"),
    )


def add_up(parts: Iterable[int | None]) -> int | None:
    """The sum, unknown when any part is."""
    total = 0
    for part in parts:
        if part is None:
            return None
        total += part
    return total

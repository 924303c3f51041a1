"""The plan for programs: exact figures, as soon as they are known."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TextIO

from stridelab.geometry import spell_fraction
from stridelab.text import maps

from .variant_row import Figures, VariantRow

LAYER_FIELDS = (
    "name",
    "kind",
    "kernel_size",
    "stride",
    "dilation",
    "padding",
    "pad",
    "input_size",
    "output_size",
    "receptive_field",
    "effective_stride",
    "effective_padding",
    "center",
    "unread_padding",
    "unread_pixels",
    "uneven",
    "unproductive",
    "params",
    "macs",
    "activation_bytes",
)
"""Of LayerGeometry, whose docstrings say what they mean."""

LAST_MAP_FIELDS = (
    "output_size",
    "receptive_field",
    "effective_stride",
    "effective_padding",
    "center",
    "input_share",
    "padding_share",
)


def write_json(rows: Iterable[VariantRow], out: TextIO) -> None:
    """A list, one variant a line: `{variant, ok, error, layers, totals}`; `totals` as in `totals_of`."""
    start = "["
    for row in rows:
        out.write(f"{start}\n{json.dumps(as_object(row), default=spell_fraction)}")
        start = ","
    out.write("\n]\n" if start == "," else "[]\n")


def as_object(row: VariantRow) -> dict[str, Any]:
    figures = row.figures
    return {
        "variant": row.name,
        "ok": figures is not None,
        "error": row.error,
        "layers": [
            {name: getattr(layer, name) for name in LAYER_FIELDS} for layer in (figures.layers if figures else ())
        ],
        "totals": totals_of(figures) if figures else {},
    }


def totals_of(figures: Figures) -> dict[str, Any]:
    """Sums; the figures of the last map; `memory` in bytes at `batch_size`: what layers keep, its `total`, the
    `peak` of a step and that of `evaluation`; `warnings`: name -> layers."""
    last, memory = figures.last_map, figures.memory
    return {
        "params": figures.totals.params,
        "macs": figures.totals.macs,
        "activation_bytes": figures.totals.activation_bytes,
        "at_least": {  # what is known of a sum that is null
            name: getattr(figures.totals, f"{name}_at_least")
            for name in ("params", "macs", "activation_bytes")
            if getattr(figures.totals, name) is None
        },
        "image_size": figures.image_size,
        "last_map": last and last.name,
        **{name: last and getattr(last, name) for name in LAST_MAP_FIELDS},
        "batch_size": memory.batch_size,
        "memory": {
            "parameters": memory.parameters,
            "gradients": memory.gradients,
            "optimizer_state": memory.optimizer_state,
            "activations": memory.activations,
            "total": memory.total,
            "peak": memory.peak,
            "peak_at_least": memory.peak_at_least,
            "peak_layer": memory.moment.layer,
            "peak_pass": memory.moment.phase,
            "evaluation": memory.evaluation.size if memory.evaluation_is_known else None,
        },
        "warnings": figures.warnings,
    }


def axis_of(name: str, axis: int) -> Callable[[Figures], object]:
    """One axis of a pair of the last map."""

    def read(figures: Figures) -> object:
        pair = getattr(figures.last_map, name, None)
        return None if pair is None else pair[axis]

    return read


CSV_COLUMNS: Mapping[str, Callable[[Figures], object]] = {
    "map_sizes": lambda figures: maps(figures.map_sizes),
    **{
        f"{name}_{side}": axis_of(name, axis)
        for name in ("output_size", "receptive_field", "effective_stride", "effective_padding")
        for axis, side in enumerate(("height", "width"))
    },
    "params": lambda figures: figures.totals.params,
    "macs": lambda figures: figures.totals.macs,
    "activation_bytes": lambda figures: figures.totals.activation_bytes,
    "batch_size": lambda figures: figures.batch_size,
    "memory_bytes": lambda figures: figures.memory.total,
    "peak_memory_bytes": lambda figures: figures.memory.peak,
    "evaluation_memory_bytes": lambda figures: (
        figures.memory.evaluation.size if figures.memory.evaluation_is_known else None
    ),
    "warnings": lambda figures: " ".join(figures.warnings),
}
"""After variant, ok and error; an impossible variant leaves them empty."""


def write_csv(rows: Iterable[VariantRow], out: TextIO) -> None:
    """One line a variant, always with the same columns."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["variant", "ok", "error", *CSV_COLUMNS])
    for row in rows:
        figures = row.figures
        cells = [cell(figures) for cell in CSV_COLUMNS.values()] if figures else [""] * len(CSV_COLUMNS)
        writer.writerow([row.name, "true" if figures else "false", row.error or "", *cells])

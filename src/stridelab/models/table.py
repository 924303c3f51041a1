"""The geometry of a network as a table that a person reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stridelab.geometry import LayerGeometry, LayerPlan, Totals, totals
from stridelab.tables import as_html, as_text, table
from stridelab.text import at_least, side

COLUMNS = (
    "layer",
    "kind",
    "kernel",
    "stride",
    "pad",
    "map",
    "field",
    "jump",
    "params",
    "MACs",
    "saved KiB",
    "notes",
)


@dataclass(frozen=True)
class Geometry:
    """One `LayerGeometry` a layer, in the order of computation; prints as a table, in a notebook too."""

    plan: LayerPlan
    layers: tuple[LayerGeometry, ...]

    def __iter__(self) -> Iterator[LayerGeometry]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, layer: int | str) -> LayerGeometry:
        """By position or by name."""
        if isinstance(layer, int):
            return self.layers[layer]
        for candidate in self.layers:
            if candidate.name == layer:
                return candidate
        raise KeyError(layer)

    @property
    def opaque(self) -> dict[str, str]:
        """The layers that could not be followed, and why."""
        return {layer.name: layer.function for layer in self.plan.layers if layer.kind == "opaque"}

    @property
    def uncounted(self) -> dict[str, str]:
        """The layers whose MACs are unknown, and the operations that have no formula."""
        return {layer.name: layer.uncounted for layer in self.plan.layers if layer.uncounted}

    @property
    def totals(self) -> Totals:
        return totals(self.layers)

    def rows(self) -> list[tuple[str, ...]]:
        """The table's cells, in the order of `COLUMNS`; the last row holds the totals."""
        reasons = self.opaque | {
            name: ", ".join([*filter(None, [self.opaque.get(name)]), f"MACs of {operations} not counted"])
            for name, operations in self.uncounted.items()
        }
        rows = [row(layer, reasons.get(layer.name)) for layer in self.layers]
        whole = self.totals
        costs = (
            at_least(whole.params, whole.params_at_least, number),
            at_least(whole.macs, whole.macs_at_least, number),
            at_least(whole.activation_bytes, whole.activation_bytes_at_least, kib),
        )
        return [*rows, ("total", *[""] * 7, *costs, "")]

    def to_html(self, path: str | Path) -> Path:
        """A page to touch the geometry in: strides, padding, kernels and dilations can be changed."""
        from stridelab.explorer.page import PageNetwork, explorer_page

        page = explorer_page([PageNetwork(Path(path).stem, self.plan)], title=f"Geometry of {Path(path).stem}")
        Path(path).write_text(page, encoding="utf-8")
        return Path(path)

    def __str__(self) -> str:
        return as_text(table(COLUMNS, self.rows(), words={"layer", "kind", "notes"}))

    def _repr_html_(self) -> str:
        return as_html(COLUMNS, self.rows())


def row(layer: LayerGeometry, reason: str | None) -> tuple[str, ...]:
    if layer.kind == "unused":
        return (layer.name, layer.kind, *[""] * 6, number(layer.params), *[""] * 3)
    (top, bottom), (left, right) = layer.pad
    symmetric = top == bottom and left == right
    return (
        layer.name,
        layer.kind,
        side(layer.kernel_size),
        side(layer.stride),
        side((top, left)) if symmetric else f"{left},{right},{top},{bottom}",
        f"{layer.out_channels} x {layer.output_size[0]} x {layer.output_size[1]}",
        side(layer.receptive_field),
        side(layer.effective_stride),
        number(layer.params),
        number(layer.macs),
        kib(layer.activation_bytes),
        notes(layer, reason),
    )


def notes(layer: LayerGeometry, reason: str | None) -> str:
    said = [reason] if reason else []
    if layer.dilation != (1, 1):
        said.append(f"dilation {side(layer.dilation)}")
    if any(layer.uneven):
        said.append("uneven padding")
    said += [flag for flag in ("unproductive", "misaligned", "gated") if getattr(layer, flag)]
    return ", ".join(said)


def number(count: int | None) -> str:
    return "?" if count is None else f"{count:,}"


def kib(count: int | None) -> str:
    return "?" if count is None else f"{count / 1024:,.1f}"

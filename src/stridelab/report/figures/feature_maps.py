"""Feature maps side by side: the same image, the same channels, one colour scale a row."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stridelab import names
from stridelab.report.comparison import feature_maps
from stridelab.report.figures.style import GREY, NothingToDraw, headline, looks, new_figure, plain, tick
from stridelab.text import by, side

if TYPE_CHECKING:
    from stridelab.report.comparison import Comparison

Maps = Mapping[str, NDArray[Any]]
MOST_VARIANTS, MOST_LAYERS = 5, 6
QUANTILE = 0.995
_GAP = 0.06
"""Between tiles, as a share of a tile."""


@dataclass(frozen=True)
class ShownMaps:
    """What all cells of one figure share."""

    maps: dict[str, Maps]
    """Variant -> arrays of its run."""
    step: int
    steps: list[int]
    layers: list[str]
    image: int
    channels: int


class ColourScale(NamedTuple):
    """The colours of one row."""

    low: float
    high: float
    cmap: str

    @property
    def norm(self) -> Normalize:
        return Normalize(self.low, self.high, clip=True)


def feature_maps_last(comparison: Comparison, *, image: int = 0) -> Figure:
    """After training: every variant's own features."""
    return _draw(comparison, shown_maps(comparison, which=-1, image=image))


def feature_maps_first(comparison: Comparison, *, image: int = 0) -> Figure:
    """Before training: equal weights, so what differs is the work of stride and padding alone."""
    shown = shown_maps(comparison, which=0, image=image)
    if len(shown.steps) < 2:
        raise NothingToDraw("Feature maps were kept at one step only.")
    return _draw(comparison, shown)


def shown_maps(comparison: Comparison, *, which: int, image: int = 0) -> ShownMaps:
    runs = comparison.feature_map_runs
    wanted = [name for name in comparison.shown(MOST_VARIANTS) if name in runs]
    maps = {name: found for name in wanted if (found := feature_maps(runs[name]))}
    keys = [{key for key in found if "/" in key} for found in maps.values()]
    common = set.intersection(*keys) if keys else set()
    steps = sorted({int(key.split("/")[0]) for key in common})
    if not steps:
        raise NothingToDraw("No finished run kept feature maps at a step that all variants share.")
    step = steps[which]
    layers = [key.split("/", 1)[1] for key in next(iter(maps.values())) if key in common]
    layers = [name for name in dict.fromkeys(layers) if f"{step}/{name}" in common]
    picked = np.unique(np.linspace(0, len(layers) - 1, min(len(layers), MOST_LAYERS)).round().astype(int))
    count = min(found[f"{step}/{layer}"].shape[1] for found in maps.values() for layer in layers)
    return ShownMaps(maps, step, steps, [layers[i] for i in picked], image, min(8 if len(maps) <= 3 else 4, count))


def _draw(comparison: Comparison, shown: ShownMaps) -> Figure:
    names, look = list(shown.maps), looks(comparison)
    across = shown.channels if len(names) == 1 else max(1, shown.channels // 2)
    down = -(-shown.channels // across)
    cell_in = 6.3 / len(names)
    height_in = cell_in * (down / across) * _aspect(shown) + 0.3
    figure = new_figure(1.3 + len(shown.layers) * height_in, width_in=8.4)
    grid = figure.subplots(
        len(shown.layers), len(names) + 2, squeeze=False,
        width_ratios=[0.8, *[cell_in] * len(names), 0.12], gridspec_kw={"wspace": 0.02, "hspace": 0.02},
    )  # fmt: skip
    for row, layer in zip(grid, shown.layers, strict=True):
        _draw_row(comparison, figure, row, layer, shown, across=across)
    for axes, name in zip(grid[0, 1:-1], names, strict=True):
        title = "\n".join(plain(part, limit=int(12 * cell_in)) for part in comparison.short(name).split(" ")[:3])
        axes.set_title(title, loc="center", fontsize=9, color=look[name].color)
    _draw_image(grid[0, 0], next(iter(shown.maps.values())), shown.image)
    when = "before training" if shown.step == 0 else f"after epoch {shown.step}"
    headline(figure, f"Feature maps of one test image, {when}", note=_note(comparison, shown))
    return figure


def _draw_row(
    comparison: Comparison, figure: Figure, row: Sequence[Axes], layer: str, shown: ShownMaps, *, across: int
) -> None:
    stacks = {name: maps[f"{shown.step}/{layer}"][shown.image].astype(np.float32) for name, maps in shown.maps.items()}
    channels = _telling_channels(list(stacks.values()), shown.channels)
    tiles = {name: stack[channels] for name, stack in stacks.items()}
    scale = _scale([tile for maps in tiles.values() for tile in maps])
    for axes, (name, maps) in zip(row[1:-1], tiles.items(), strict=True):
        _tiles(axes, maps, across=across, aspect=_aspect(shown), scale=scale)
        axes.set_xlabel(_caption(comparison, name, layer, maps), fontsize=8, color=GREY, labelpad=2)
    _row_title(row[0], plain(layer, limit=12), channels)
    bar = figure.colorbar(ScalarMappable(scale.norm, scale.cmap), cax=row[-1])
    bar.set_ticks([scale.low, 0.0, scale.high] if scale.low else [0.0, scale.high])
    bar.ax.yaxis.set_major_formatter(tick)
    bar.ax.tick_params(labelsize=7, length=2)
    bar.outline.set_visible(False)


def _row_title(axes: Axes, layer: str, channels: Sequence[int]) -> None:
    axes.set_axis_off()
    axes.text(0, 1, layer, transform=axes.transAxes, fontsize=9.5, fontweight="bold", va="top")
    axes.annotate(
        "channels\n" + textwrap.fill(", ".join(map(str, channels)), width=14),
        (0, 1),
        xycoords="axes fraction",
        xytext=(0, -15),
        textcoords="offset points",
        fontsize=7,
        color=GREY,
        va="top",
    )


def _tiles(axes: Axes, maps: NDArray[np.float32], *, across: int, aspect: float, scale: ColourScale) -> None:
    down = -(-len(maps) // across)
    for index, tile in enumerate(maps):
        x, y = index % across, (index // across) * aspect
        gap = _GAP / 2
        axes.imshow(tile, extent=(x + gap, x + 1 - gap, y + aspect - gap, y + gap), norm=scale.norm, cmap=scale.cmap,
                    interpolation="nearest", aspect="equal")  # fmt: skip
    axes.set_xlim(0, across)
    axes.set_ylim(down * aspect, 0)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def _telling_channels(stacks: Sequence[NDArray[np.float32]], count: int) -> list[int]:
    """The `count` channels that vary most over the image, averaged over variants, each variant in its own unit."""
    channels = min(len(stack) for stack in stacks)
    mean = np.zeros(channels)
    for stack in stacks:
        finite = np.where(np.isfinite(stack[:channels]), stack[:channels], 0.0)
        spread = finite.std(axis=(1, 2))
        mean += spread / max(float(spread.mean()), 1e-12)
    return sorted(int(i) for i in np.argsort(-mean, kind="stable")[:count])


def robust_top(tiles: Iterable[NDArray[np.float32]]) -> float:
    """Where colours end: three of four tiles reach no further, so that no single channel bleaches the others."""
    finite = [np.abs(tile[np.isfinite(tile)]) for tile in tiles]  # training may have diverged
    tops = [float(np.quantile(tile, QUANTILE)) for tile in finite if tile.any()]
    return float(np.quantile(tops, 0.75)) if tops else 1.0


def _scale(tiles: Sequence[NDArray[np.float32]]) -> ColourScale:
    """Red and blue about zero for signed maps, dark to light from zero for maps after a ReLU."""
    top = robust_top(tiles)
    signed = any((tile[np.isfinite(tile)] < 0).any() for tile in tiles)
    return ColourScale(-top, top, "RdBu_r") if signed else ColourScale(0.0, top, "viridis")


def _caption(comparison: Comparison, variant: str, layer: str, maps: NDArray[np.float32]) -> str:
    known = {entry.name: entry.receptive_field for entry in comparison.geometries.get(variant, [])}
    return f"{by(maps.shape[1:])}, RF {side(known[layer])}" if known.get(layer) else by(maps.shape[1:])


def _draw_image(axes: Axes, maps: Maps, image: int) -> None:
    """The input itself, in the corner that the first layer's name leaves free."""
    if "images" not in maps:
        return
    pixels = np.moveaxis(maps["images"][image], 0, -1)
    inset = axes.inset_axes((0.0, 0.0, 0.8, 0.42))
    inset.imshow(pixels.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    inset.set_anchor("W")
    inset.set_axis_off()


def _aspect(shown: ShownMaps) -> float:
    images = next(iter(shown.maps.values())).get("images")
    return images.shape[2] / images.shape[3] if images is not None else 1.0


def _note(comparison: Comparison, shown: ShownMaps) -> str:
    runs = [comparison.feature_map_runs[name] for name in shown.maps]
    seeds = {run.tags.get(names.SEED, "?") for run in runs}
    digests = {run.tags.get(names.INIT_DIGEST) for run in runs}
    same = len(digests) == 1 and None not in digests
    if shown.step == 0 and same:
        meaning = "All variants still have the same weights: channel k is the same filter in every column."
    elif same:
        meaning = "The weights were equal before training; by now channel k need not be the same filter in two columns."
    else:
        meaning = "Weights were not shown to be equal at the start: channels of two columns need not correspond."
    seed = f"Seed {seeds.pop()}" if len(seeds) == 1 else "Different seeds"
    kept = min(maps[f"{shown.step}/{layer}"].shape[1] for maps in shown.maps.values() for layer in shown.layers)
    return (
        f"{meaning} {seed}, image {shown.image} of those kept, after the non-linearity. One colour scale a row, shared "
        "by all its variants and channels; it ends where three of four maps do, and what is brighter is cut. Of the "
        f"first {kept} channels those that vary most, the same in all columns. One square: one unit. RF: receptive "
        "field, in pixels of the image."
    )

"""Names beside marks, so that none covers another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.transforms import ScaledTranslation, Transform


def spread(wanted: Sequence[float], *, gap: float, within: tuple[float, float] = (-math.inf, math.inf)) -> list[float]:
    """Positions at least `gap` apart, in the order of `wanted` and as near to it as possible (least squares).

    >>> spread([0.0, 1.0, 10.0], gap=2.0)
    [-0.5, 1.5, 10.0]
    >>> spread([0.0, 1.0, 10.0], gap=2.0, within=(0.0, 20.0))
    [0.0, 2.0, 10.0]
    """
    low, high = within
    last = len(wanted) - 1
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    blocks: list[tuple[float, int]] = []  # pool adjacent violators of (wanted - own offset): its mean, its size
    for rank, i in enumerate(order):
        inside = max(min(wanted[i], high - (last - rank) * gap), low + rank * gap)
        mean, count = inside - rank * gap, 1
        while blocks and blocks[-1][0] >= mean:
            before, members = blocks.pop()
            mean, count = (mean * count + before * members) / (count + members), count + members
        blocks.append((mean, count))
    shifted = [mean for mean, count in blocks for _ in range(count)]
    placed = {i: shifted[rank] + rank * gap for rank, i in enumerate(order)}
    return [placed[i] for i in range(len(wanted))]


class Label(NamedTuple):
    """A name for the point (x, y), in data coordinates."""

    x: float
    y: float
    text: str
    color: str
    shift_pt: float = 0.0
    """How far its mark is drawn right of x."""


def label_ends(axes: Axes, labels: Sequence[Label]) -> None:
    """Names right of the points, moved apart where they would collide."""
    points = _in_points(axes, [(label.x, label.y) for label in labels])
    bottom, top = (y * 72 / axes.figure.dpi for y in axes.get_window_extent().intervaly)
    heights = spread([float(y) for y in points[:, 1]], gap=11.0, within=(bottom, top))
    for label, (_, y), height in zip(labels, points, heights, strict=True):
        _annotate(axes, label, (14, height - y), line=True)


def label_points(axes: Axes, labels: Sequence[Label], *, avoid: Sequence[tuple[float, float]]) -> None:
    """Names beside points, on the side where they cover fewer of the points `avoid`; moved apart vertically."""
    left_edge, right_edge = (x * 72 / axes.figure.dpi for x in axes.get_window_extent().intervalx)
    others = _in_points(axes, avoid)
    boxes = []
    for label, (plain_x, y) in zip(labels, _in_points(axes, [(label.x, label.y) for label in labels]), strict=True):
        x, width = plain_x + label.shift_pt, 5.0 * len(label.text)
        sides = [(x + 9, 9.0), (x - 15 - width, -15.0)]
        covered = [
            np.count_nonzero((others[:, 0] > start) & (others[:, 0] < start + width) & (abs(others[:, 1] - y) < 8))
            + 1000 * (start < left_edge or start + width > right_edge)
            for start, _ in sides
        ]
        start, offset = sides[int(np.argmin(covered))]
        boxes.append((start, start + width, y, offset, label))
    boxes.sort(key=lambda box: box[0])
    groups: list[list[Any]] = []
    for box in boxes:
        if groups and box[0] < max(other[1] for other in groups[-1]):
            groups[-1].append(box)
        else:
            groups.append([box])
    for group in groups:
        heights = spread([box[2] for box in group], gap=12.0)
        for (_, _, y, offset, label), height in zip(group, heights, strict=True):
            _annotate(axes, label, (offset, height - y), line=abs(height - y) > 5)


def _in_points(axes: Axes, points: Sequence[tuple[float, float]]) -> Any:
    """Where data coordinates lie on the page, in points; the layout must be final."""
    return axes.transData.transform(np.array(points, dtype=float).reshape(-1, 2)) * 72 / axes.figure.dpi


def _annotate(axes: Axes, label: Label, offset: tuple[float, float], *, line: bool) -> None:
    arrow = {"arrowstyle": "-", "color": label.color, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 2}
    axes.annotate(
        label.text,
        (label.x, label.y),
        xycoords=shifted(axes, x_pt=label.shift_pt),
        xytext=offset,
        textcoords="offset points",
        ha="left" if offset[0] > 0 else "right",
        va="center",
        fontsize=8.5,
        bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.7},
        arrowprops=arrow | {"relpos": (0, 0.5) if offset[0] > 0 else (1, 0.5)} if line else None,
        annotation_clip=False,
        in_layout=False,
        zorder=6,
    )


def shifted(axes: Axes, *, x_pt: float) -> Transform:
    """Data coordinates, moved by some points."""
    return axes.transData + ScaledTranslation(x_pt / 72, 0, axes.figure.dpi_scale_trans)

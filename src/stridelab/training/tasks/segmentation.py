"""task=segment: the class of every pixel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from stridelab.data.splits import Split

BORDER_PX = 2
"""A pixel belongs to the border when a pixel of another class is at most this far away, along rows and columns."""


def targets(split: Split) -> Tensor:
    """uint8 [n, height, width]: the class of each pixel."""
    return split.targets["mask"]


def example(outputs: Tensor) -> Tensor:
    import torch

    return torch.zeros(len(outputs), *outputs.shape[2:], dtype=torch.uint8, device=outputs.device)


def loss(outputs: Tensor, masks: Tensor, *, label_smoothing: float = 0.0, reduction: str = "mean") -> Tensor:
    """Cross-entropy, the mean over the pixels of each image."""
    from torch.nn.functional import cross_entropy

    mean = cross_entropy(outputs, masks.long(), label_smoothing=label_smoothing)
    return mean * len(masks) if reduction == "sum" else mean


def near_border(masks: Tensor, distance: int = BORDER_PX) -> Tensor:
    """Bool [n, height, width]: whether a pixel of another class is at most `distance` rows and columns away."""
    from torch.nn.functional import max_pool2d

    values, side = masks[:, None].float(), 2 * distance + 1
    most, least = (sign * max_pool2d(sign * values, side, 1, distance) for sign in (1, -1))
    return (most != least)[:, 0]


def tally(outputs: Tensor, masks: Tensor) -> dict[str, Tensor]:
    import torch

    classes, found = outputs.shape[1], outputs.argmax(1)
    wrong, border = found != masks, near_border(masks)
    pairs = torch.bincount((masks.long() * classes + found).flatten(), minlength=classes**2)
    return {
        "confusion": pairs.view(classes, classes),
        "border": border.sum(),
        "wrong_at_border": (wrong & border).sum(),
        "wrong": wrong.sum(),
    }


def metrics(sums: Mapping[str, Tensor], images: int) -> dict[str, float]:
    confusion = sums["confusion"].double()  # of the mask's classes (rows) and those found (columns)
    both, either = confusion.diagonal(), confusion.sum(0) + confusion.sum(1) - confusion.diagonal()
    pixels, border = confusion.sum().item(), sums["border"].item()
    wrong, wrong_at_border = sums["wrong"].item(), sums["wrong_at_border"].item()
    found = {
        "miou": (both[either > 0] / either[either > 0]).mean().item(),
        "pixel_acc": 1 - wrong / pixels,
    }
    if border:
        found["boundary_error"] = wrong_at_border / border
    if pixels > border:
        found["inside_error"] = (wrong - wrong_at_border) / (pixels - border)
    return found

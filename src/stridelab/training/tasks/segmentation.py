"""task=segment: the class of every pixel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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

    if outputs.is_cuda:
        mean = pixel_cross_entropy(outputs, masks, label_smoothing=label_smoothing)
    else:
        mean = cross_entropy(outputs, masks.long(), label_smoothing=label_smoothing)
    return mean * len(masks) if reduction == "sum" else mean


def pixel_cross_entropy(outputs: Tensor, masks: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """The mean over all pixels, as `cross_entropy` has it, whose form for maps is not deterministic on CUDA."""
    import torch

    logs = outputs.log_softmax(1)
    classes = torch.arange(outputs.shape[1], device=outputs.device).view(1, -1, 1, 1)
    right = torch.where(masks.unsqueeze(1) == classes, logs, 0).sum(1).mean()
    return (label_smoothing - 1) * right - label_smoothing * logs.mean()


def near_border(masks: Tensor, distance: int = BORDER_PX) -> Tensor:
    """Bool [n, height, width]: whether a pixel of another class is at most `distance` rows and columns away."""
    import torch

    most = least = masks
    for dim in (1, 2):
        most = spread(torch.maximum, most, dim, distance)
        least = spread(torch.minimum, least, dim, distance)
    return most != least


def spread(pick: Callable[..., Tensor], values: Tensor, dim: int, distance: int) -> Tensor:
    """The largest, or smallest, of the values at most `distance` away along `dim`."""
    found = values.clone()
    for step in range(1, min(distance, values.shape[dim] - 1) + 1):
        size = values.shape[dim] - step
        for to, start in ((0, step), (step, 0)):
            there = found.narrow(dim, to, size)
            pick(there, values.narrow(dim, start, size), out=there)
    return found


def tally(outputs: Tensor, masks: Tensor) -> dict[str, Tensor]:
    import torch

    classes, found = outputs.shape[1], outputs.max(1).indices  # argmax takes four times as long
    wrong, border = found != masks, near_border(masks)
    pairs = (masks.long() * classes + found).flatten()
    counts = pairs.new_zeros(classes**2).index_add_(0, pairs, torch.ones_like(pairs))  # bincount would wait for a GPU
    return {
        "confusion": counts.view(classes, classes),
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

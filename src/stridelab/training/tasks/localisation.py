"""task=locate: whether there is an object, and where its centre is, in pixels of the input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from stridelab.data.splits import Split

SCALE_PX = 4.0
"""Distance at which the loss of a place turns from square to linear, and what it is counted in."""


def targets(split: Split) -> Tensor:
    """Float32 [n, 3]: 1 where there is an object (else 0), row and column of the centre of its box."""
    import torch

    top, left, bottom, right = split.targets["box"].float().unbind(1)
    present = (bottom > top).float()
    return torch.stack([present, (top + bottom - 1) / 2 * present, (left + right - 1) / 2 * present], 1)


def example(outputs: Tensor) -> Tensor:
    return outputs.new_ones(len(outputs), 3)


def loss(outputs: Tensor, targets: Tensor, *, label_smoothing: float = 0.0, reduction: str = "mean") -> Tensor:
    """Binary cross-entropy of presence, and where there is an object the Huber loss of its place along both axes and
    the square root of the weights' variance (so that one peak is learnt, not a balance of several; after Nibali et al.
    2018), in units of `SCALE_PX`."""
    from torch.nn.functional import binary_cross_entropy_with_logits, huber_loss

    place, logit, spread = outputs[:, :2], outputs[:, 2], outputs[:, 3]
    present = targets[:, 0].to(outputs.dtype)
    apart = huber_loss(place / SCALE_PX, targets[:, 1:].to(outputs.dtype) / SCALE_PX, reduction="none").sum(1)
    peak = (spread.clamp(min=0) + 1).sqrt() / SCALE_PX
    each = binary_cross_entropy_with_logits(logit, present, reduction="none") + present * (apart + peak)
    return each.sum() if reduction == "sum" else each.mean()


def distances(outputs: Tensor, targets: Tensor) -> Tensor:
    """Euclidean, in pixels of the input, from the place found to the centre of the box: [n]."""
    return (outputs[:, :2] - targets[:, 1:].to(outputs.dtype)).square().sum(1).sqrt()


def tally(outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    present = targets[:, 0] > 0
    apart = distances(outputs, targets).double()
    return {
        "present": present.sum(),
        "error_px": apart.where(present, 0).sum(),  # choosing them would wait for a GPU to count them
        "presence": ((outputs[:, 2] > 0) == present).sum(),
    }


def metrics(sums: Mapping[str, Tensor], images: int) -> dict[str, float]:
    present = int(sums["present"])
    found = {"error_px": sums["error_px"].item() / present} if present else {}
    return found | {"presence_acc": sums["presence"].item() / images}

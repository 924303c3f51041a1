"""task=classify: cross-entropy of one class an image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from stridelab.data.splits import Split


def targets(split: Split) -> Tensor:
    return split.labels


def example(outputs: Tensor) -> Tensor:
    import torch

    labels = torch.randint(outputs.shape[1], (len(outputs),), generator=torch.Generator().manual_seed(0))
    return labels.to(outputs.device)


def loss(logits: Tensor, labels: Tensor, *, label_smoothing: float = 0.0, reduction: str = "mean") -> Tensor:
    from torch.nn.functional import cross_entropy

    return cross_entropy(logits, labels, label_smoothing=label_smoothing, reduction=reduction)


def decide(logits: Tensor) -> Tensor:
    return logits.argmax(1)


def tally(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    return {"correct": (logits.argmax(1) == labels).sum()}


def metrics(sums: Mapping[str, Tensor], images: int) -> dict[str, float]:
    return {"acc": sums["correct"].item() / images}

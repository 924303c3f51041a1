"""How many directions the outputs of a layer use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .trained import Trained

SHARE = 0.99
"""Of the variance."""
IMAGES = 1000
"""Of the test split, from the first on."""


def saturation(trained: Trained) -> dict[str, Any]:
    """Of each convolution: the number of directions that hold 99 % of the variance of its outputs, by their number
    (Richter et al. 2021, Should You Go Deeper?). Each place of each image is one sample of as many values as there are
    channels; directions are eigenvectors of their covariance. The value is the mean of all layers; one a layer besides.
    """
    import torch

    layers = [name for name, module in trained.named_layers() if isinstance(module, torch.nn.Conv2d)]
    if not layers:
        raise ValueError("not defined for this network: it has no convolution")
    sums: dict[str, Any] = {}
    for pixels in torch.split(trained.data.test.take(slice(IMAGES)), 250):
        for name, maps in trained.maps(pixels, layers).items():
            samples = maps.double().movedim(1, -1).flatten(0, -2)
            moments = (len(samples), samples.sum(0), samples.T @ samples)
            sums[name] = (
                [one + other for one, other in zip(sums[name], moments, strict=True)] if name in sums else moments
            )
    found = {name: directions(*sums[name]) / len(sums[name][1]) for name in layers if name in sums}
    return {"": sum(found.values()) / len(found), **found}


def directions(count: int, total: Any, products: Any) -> int:
    """How many eigenvectors of the covariance, the largest first, hold `SHARE` of the variance."""
    import torch

    mean = total / count
    variances = torch.linalg.eigvalsh(products / count - torch.outer(mean, mean)).flip(0).clamp(min=0)
    if not variances.sum():
        return 0
    return int((variances.cumsum(0) < SHARE * variances.sum() * (1 - 1e-12)).sum()) + 1

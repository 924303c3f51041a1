"""Whether a prediction stays when the image is shifted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from .trained import Trained

MAX_SHIFT_PX = 4


def shift_consistency(trained: Trained) -> dict[str, Any]:
    """Classification consistency (Zhang 2019, Making Convolutional Networks Shift-Invariant Again, section 4): the
    share of test images whose top-1 class is the same under two shifts of the image.

    Each shift is drawn uniformly from -4 to 4 px down and, apart from it, right, as a function of the run's seed and
    the image: all variants of a seed see the same shifts. What comes in at the border is black (pixel value 0), as in
    training with `trainer.crop`; `circular`: what left on the other side. `agrees` (bool [images]) is of the former.
    """
    from stridelab.training.randomness import keyed_seed, random_bits

    split = trained.data.test
    found: dict[str, Any] = {}
    bits = random_bits(keyed_seed(trained.seed, "shift_consistency"), len(split))
    first, second = ((drawn(bits, at), drawn(bits, at + 15)) for at in (0, 30))
    images = split.images
    for name, circular in (("", False), ("circular", True)):
        classes = [trained.top1(shifted(images, *by, circular=circular)) for by in (first, second)]
        agrees = classes[0] == classes[1]
        found[name] = agrees.double().mean().item()
        if not circular:
            found["agrees"] = agrees.numpy()
    return found


def top1_change(trained: Trained) -> dict[str, Any]:
    """P(top-1 change) of Azulay and Weiss 2019: the share of test images whose top-1 class is another one when the
    image is moved by one pixel; the mean of up, down, left and right. Black comes in at the border; `circular`: what
    left on the other side. Read it beside the accuracy: a network that always says the same never changes."""
    import torch

    images = trained.data.test.images
    before, found = trained.top1(images), {}
    for name, circular in (("", False), ("circular", True)):
        changes = []
        for by in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            down, right = (torch.full((len(images),), one) for one in by)
            changes.append((trained.top1(shifted(images, down, right, circular=circular)) != before).double().mean())
        found[name] = (sum(changes) / len(changes)).item()  # type: ignore[union-attr]
    return found


def drawn(bits: Tensor, at: int) -> Tensor:
    """Whole numbers from -4 to 4, int64 [n], of 15 of 64 random bits, from bit `at` on: uniform to 1 in 3,640."""
    return (((bits >> at) & 0x7FFF) * (2 * MAX_SHIFT_PX + 1) >> 15) - MAX_SHIFT_PX


def shifted(images: Tensor, down: Tensor, right: Tensor, *, circular: bool) -> Tensor:
    """Each of `images` [n, channels, height, width] moved by its own whole number of pixels, `down` and `right` [n]."""
    import torch

    count, _, height, width = images.shape
    rows, columns = (torch.arange(size) - by[:, None] for size, by in ((height, down), (width, right)))  # [n, size]
    moved = images[
        torch.arange(count)[:, None, None], :, (rows % height)[:, :, None], (columns % width)[:, None, :]
    ].movedim(-1, 1)
    if circular:
        return moved
    inside = [((at >= 0) & (at < size)) for at, size in ((rows, height), (columns, width))]
    return moved * (inside[0][:, None, :, None] & inside[1][:, None, None, :])

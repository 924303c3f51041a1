"""The layers that PyTorch lacks: pads that differ on two sides, sums and joins of maps, norms over channels."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stridelab.geometry import PADDING_MODES

Pads = tuple[int, int, int, int]
"""(left, right, top, bottom): the order of `F.pad`."""


def padded(images: Tensor, pads: Pads, *, mode: str, value: float | None = None) -> Tensor:
    if mode == "reflect" and images.is_cuda and torch.are_deterministic_algorithms_enabled():
        return reflected(images, pads)  # PyTorch's own has no deterministic backward pass on CUDA
    if mode not in {"constant", "reflect", "replicate", "circular"}:
        return repeated(images, pads, PADDING_MODES[mode].repeats)
    return F.pad(images, pads, mode=mode, value=value)


def reflected(images: Tensor, pads: Pads) -> Tensor:
    """What `F.pad` gives with mode reflect, joined from flipped strips."""
    for dim, (before, after) in ((3, pads[:2]), (2, pads[2:])):
        size = images.shape[dim]
        cut = max(0, -before)
        parts = [images.narrow(dim, cut, size - cut - max(0, -after))]
        if before > 0:
            parts.insert(0, images.narrow(dim, 1, before).flip(dim))
        if after > 0:
            parts.append(images.narrow(dim, size - 1 - after, after).flip(dim))
        images = torch.cat(parts, dim)
    return images


def repeated(images: Tensor, pads: Pads, repeats: Callable[[int, int], int | None]) -> Tensor:
    """Padded with the columns and rows that `repeats` names."""
    for dim, (before, after) in ((3, pads[:2]), (2, pads[2:])):
        size = images.shape[dim]
        sources = [at if 0 <= at < size else repeats(at, size) for at in range(-before, size + after)]
        images = images.index_select(dim, torch.tensor(sources, device=images.device))
    return images


class PaddedConv2d(nn.Conv2d):
    """A convolution with explicit pads, which may differ on the two sides of an axis."""

    def __init__(self, *args: int, pads: Pads, pad_mode: str, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self.pads = pads
        self.pad_mode = pad_mode

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(padded(images, self.pads, mode=self.pad_mode))

    def extra_repr(self) -> str:
        inherited = super().extra_repr()  # type: ignore[no-untyped-call]
        return f"{inherited}, pads={self.pads}, pad_mode={self.pad_mode}"


class Pad(nn.Module):
    """Explicit pads ahead of a pooling layer; a negative pad crops what no window reads."""

    def __init__(self, pads: Pads, *, mode: str = "constant", value: float | None = None) -> None:
        super().__init__()
        self.pads, self.mode, self.value = pads, mode, value

    def forward(self, images: Tensor) -> Tensor:
        return padded(images, self.pads, mode=self.mode, value=self.value)

    def extra_repr(self) -> str:
        return f"pads={self.pads}, mode={self.mode}, value={self.value}"


class GlobalAvgPool(nn.Module):
    """(batch, channels, height, width) -> (batch, channels); a mean saves nothing for backward."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each position, as ConvNeXt's (Liu et al. 2022)."""

    def forward(self, images: Tensor) -> Tensor:
        if images.ndim == 2:  # behind a global pool
            return super().forward(images)
        return super().forward(images.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Scale(nn.Module):
    """Each channel times a weight of its own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return images * self.weight


class Add(nn.Module):
    def forward(self, first: Tensor, *others: Tensor) -> Tensor:
        for other in others:
            first = first + other
        return first


class Concat(nn.Module):
    """Joins feature maps along the channels."""

    def forward(self, *maps: Tensor) -> Tensor:
        return torch.cat(maps, dim=1)

"""Whether the last map moves with the image, and what its units see of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from .trained import Trained

IMAGES = 500
"""Of the test split, from the first on."""
SEEN = 0.0455
"""Of the greatest gradient: two standard deviations of a Gaussian (Luo et al. 2016, section 3)."""


def equivariance_error(trained: Trained) -> dict[str, Any]:
    """|| f(T x) - T' f(x) || / || f(x) || of the last map f, for circular shifts T of the image, down and right alike.

    The value: shifts by the effective stride S, where T' moves the map by one unit. `off`: the mean over shifts of 1 to
    S - 1 px, where T' moves it by a part of a unit, by the phase of its Fourier transform: exact for a map without
    aliasing. ValueError where the units do not tile the image.
    """
    layer = trained.last_map
    steps = trained.effective_stride(layer)
    split = trained.data.test
    size = split.image_shape[1:]
    if any(units * step != side for units, step, side in zip(layer.output_size, steps, size, strict=True)):
        raise ValueError(
            f"not defined for this network: the {layer.output_size[0]}x{layer.output_size[1]} units of its last map, "
            f"{steps[0]}x{steps[1]} px apart, do not tile images of {size[0]}x{size[1]}"
        )
    images = split.take(slice(IMAGES))
    before = trained.maps(images, [layer.name])[layer.name].double()

    def error(by: tuple[int, int]) -> float:
        moved = trained.maps(images.roll(by, (2, 3)), [layer.name])[layer.name].double()
        expected = shifted(before, by[0] / steps[0], by[1] / steps[1])
        return float((moved - expected).norm() / before.norm())

    found = {"": error(steps)}
    if off := [error((min(by, steps[0]), min(by, steps[1]))) for by in range(1, max(steps))]:
        found["off"] = sum(off) / len(off)
    return found


def shifted(maps: Tensor, down: float, right: float) -> Tensor:
    """Moved by parts of a unit, around the edges."""
    import torch

    height, width = maps.shape[-2:]
    rows, columns = torch.fft.fftfreq(height).double(), torch.fft.rfftfreq(width).double()
    turn = torch.exp(-2j * torch.pi * (rows[:, None] * down + columns * right))
    found: Tensor = torch.fft.irfft2(torch.fft.rfft2(maps) * turn, s=(height, width))
    return found


def effective_receptive_field(trained: Trained) -> dict[str, Any]:
    """The mean over test images of | d(sum of the channels of the centre unit of the last map) / d(image) |, summed
    over the image's channels (Luo et al. 2016, Understanding the Effective Receptive Field).

    The value: the root of the number of pixels above 4.55 % of the greatest, in px: the side of a square as large.
    `theoretical`: the side of the field by geometry. `sigma`: the deviation from its centre along one axis, in px.
    `gradient` (float32 [height, width]) is that mean itself.
    """
    import torch

    layer = trained.last_map
    row, column = (size // 2 for size in layer.output_size)
    images = trained.normalised(trained.data.test.take(slice(IMAGES)))
    total = torch.zeros(images.shape[2:], dtype=torch.float64)
    for part in torch.split(images, 100):
        part = part.detach().requires_grad_(True)
        with trained.captured([layer.name]) as kept:
            trained.network(part)
        (gradient,) = torch.autograd.grad(kept[layer.name][:, :, row, column].sum(), part)
        total += gradient.abs().sum((0, 1)).double().cpu()
    mean = total / len(images)
    if not mean.sum():
        raise ValueError("not defined for this network: the centre unit of its last map depends on no pixel")
    places = [torch.arange(size, dtype=torch.float64) for size in mean.shape]
    variances = []
    for along, place in zip((mean.sum(1), mean.sum(0)), places, strict=True):
        weights = along / along.sum()
        variances.append((weights * (place - (weights * place).sum()).square()).sum())
    found: dict[str, Any] = {
        "": (mean >= SEEN * mean.max()).sum().double().sqrt().item(),
        "sigma": (sum(variances) / 2).sqrt().item(),  # type: ignore[union-attr]
        "gradient": mean.float().numpy(),
    }
    return found | ({"theoretical": float(max(layer.receptive_field))} if layer.receptive_field else {})

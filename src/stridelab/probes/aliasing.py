"""What sub-sampling folds into other frequencies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .trained import Trained

IMAGES = 500
"""Of the test split, from the first on."""


def aliasing(trained: Trained) -> dict[str, Any]:
    """Of each layer that makes its map smaller by a stride s: the share of the energy of its own output at stride 1,
    which sub-sampling reads in steps of s, at frequencies above the new Nyquist frequency, 1 / (2 s) cycles a unit,
    along either axis (as Grabinski et al. 2022 measure it).

    Energy is the squared modulus of the discrete Fourier transform of each channel, its mean left out, summed over
    channels and images. The value is the largest share of all layers; one a layer besides.
    """
    import torch

    strided = {name: part for name, module in trained.named_layers() if (part := strided_part(module)) is not None}
    if not strided:
        raise ValueError("not defined for this network: no layer of it has a stride above 1")
    high, total = dict.fromkeys(strided, 0.0), dict.fromkeys(strided, 0.0)
    images = trained.data.test.take(slice(IMAGES))
    for pixels in torch.split(images, 100):
        for name, maps in trained.maps(pixels, strided, inputs=True).items():
            above, whole = energies(at_stride_one(strided[name])(maps).detach(), pair(strided[name].stride))
            high[name] += above
            total[name] += whole
    shares = {name: high[name] / total[name] for name in strided if total[name]}
    if not shares:
        raise ValueError("not defined for this network: all maps ahead of its strides are constant")
    return {"": max(shares.values()), **shares}


def strided_part(module: nn.Module) -> Any:
    """The convolution, pool or filter in a layer's module whose stride is above 1; None where there is none."""
    parts = [part for part in module.modules() if max(pair(getattr(part, "stride", 1))) > 1]
    return parts[0] if len(parts) == 1 else None


def pair(stride: Any) -> tuple[int, int]:
    return (stride, stride) if isinstance(stride, int) else (int(stride[0]), int(stride[1]))


def at_stride_one(module: Any) -> Any:
    """A copy that shares the weights; the layer's own stays as it is."""
    from copy import copy

    dense = copy(module)
    dense.stride = (1, 1)
    return dense


def energies(maps: Tensor, strides: tuple[int, int]) -> tuple[float, float]:
    """Above the Nyquist frequencies of `strides`, and in all, of [n, channels, height, width]."""
    import torch

    maps = maps.double()
    power = torch.fft.fft2(maps - maps.mean((2, 3), keepdim=True)).abs().square().sum((0, 1))
    over = [
        torch.fft.fftfreq(size, dtype=torch.float64).abs() > 1 / (2 * step) + 1e-9
        for size, step in zip(maps.shape[2:], strides, strict=True)
    ]
    above = (over[0][:, None] | over[1]).to(power.device)
    return power[above].sum().item(), power.sum().item()

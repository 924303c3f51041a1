"""Functions that slide a window over the grid of a feature map."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd
from typing import Any

from stridelab.text import by

from .calls import Call, Made, NotOnGrid, Unfollowed, first
from .origins import GRID


def pair(value: int | Sequence[int]) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    height, width = value if len(value) == 2 else (value[0], value[0])
    return int(height), int(width)


def on_grid(call: Call) -> None:
    """A 2-d layer reads (n, c, h, w); a dimension of size 1 may stand for either axis of the map."""
    dims, shape = call.dims[0], call.maps[0].shape
    if len(dims) != 4 or any(
        dim != want and not (dim == "1" and size == 1) for dim, want, size in zip(dims, GRID, shape, strict=True)
    ):
        raise NotOnGrid(f"reads a tensor of {'-'.join(dims)} instead of n-c-h-w")


def conv2d(call: Call) -> Made:
    on_grid(call)
    weight, padding = call.get(1, "weight"), call.get(4, "padding", 0)
    if isinstance(padding, str):
        padding = "torch_same" if padding == "same" else padding
        policy: Any = (padding, padding)
    else:
        policy = pair(padding)
    return Made(
        "conv",
        GRID,
        {
            "kernel_size": pair(weight.shape[2:]),
            "stride": pair(call.get(3, "stride", 1)),
            "padding": policy,
            "dilation": pair(call.get(5, "dilation", 1)),
            "groups": call.get(6, "groups", 1),
            "bias": call.get(2, "bias") is not None,
        },
    )


def conv_transpose2d(call: Call) -> Made:
    on_grid(call)
    weight = call.get(1, "weight")
    stride, padding = pair(call.get(3, "stride", 1)), pair(call.get(4, "padding", 0))
    kernel_size, dilation = pair(weight.shape[2:]), pair(call.get(7, "dilation", 1))
    if any(
        step > 1 and (k < step or gcd(d, step) > 1) for k, d, step in zip(kernel_size, dilation, stride, strict=True)
    ):
        raise Unfollowed(f"by steps of {by(stride)} leaves gaps, where it reads nothing")
    return Made(
        "conv_transpose",
        GRID,
        {
            "kernel_size": kernel_size,
            "stride": stride,
            "padding": padding,
            "dilation": dilation,
            "groups": call.get(6, "groups", 1),
            "bias": call.get(2, "bias") is not None,
            "output_size": pair(call.output.shape[2:]),
        },
    )


def interpolate(call: Call) -> Made:
    """By the ratio of both sizes, which is PyTorch's unless a factor had to be rounded to whole pixels."""
    on_grid(call)
    mode, aligned = call.get(3, "mode", "nearest"), call.get(4, "align_corners")
    factor = call.get(2, "scale_factor")
    if mode not in INTERPOLATIONS or call.get(6, "antialias", False):
        raise Unfollowed(f"mixes pixels in mode {mode!r}, smoothed or with negative weights")
    size, made = call.maps[0].shape[2:], pair(call.output.shape[2:])
    factors = () if factor is None or call.get(5, "recompute_scale_factor") or aligned else factor
    factors = factors if isinstance(factors, tuple | list) else (factors, factors)
    if any(before * times != after for before, times, after in zip(size, factors, made, strict=False)):
        raise Unfollowed(f"by a factor of {factor} makes no whole number of pixels of {by(size)}")
    how = "aligned" if aligned else mode
    return Made(
        "interpolate", GRID, {"output_size": made, "function": how, "padding_mode": "zeros" if aligned else "replicate"}
    )


INTERPOLATIONS = ("nearest", "nearest-exact", "bilinear")


def depth_to_space(call: Call) -> Made:
    on_grid(call)
    return Made("interpolate", GRID, {"output_size": pair(call.output.shape[2:]), "function": "nearest"})


def max_pool2d(call: Call) -> Made:
    on_grid(call)
    fields = {"dilation": pair(call.get(4, "dilation", 1)), "ceil_mode": call.get(5, "ceil_mode", False)}
    return Made("max_pool", GRID, fields | windows(call))


def avg_pool2d(call: Call) -> Made:
    on_grid(call)
    return Made("avg_pool", GRID, {"ceil_mode": call.get(4, "ceil_mode", False)} | windows(call))


def windows(call: Call) -> dict[str, Any]:
    kernel_size = pair(call.get(1, "kernel_size"))
    stride = call.get(2, "stride")
    return {
        "kernel_size": kernel_size,
        "stride": pair(stride) if stride or stride == 0 else kernel_size,
        "padding": pair(call.get(3, "padding", 0)),
    }


def adaptive_pool(call: Call) -> Made:
    on_grid(call)
    size = first(call.output).shape
    kind = "adaptive_avg_pool" if "avg" in call.name else "adaptive_max_pool"
    return Made(kind, GRID, {"output_size": (size[2], size[3])})


def pad(call: Call) -> Made:
    dims = call.dims[0]
    amounts = list(call.get(1, "pad"))
    per_dim = {dims[-1 - axis]: (amounts[2 * axis], amounts[2 * axis + 1]) for axis in range(len(amounts) // 2)}
    if any(dim not in {"c", "h", "w"} for dim, both in per_dim.items() if any(both)):
        raise Unfollowed(f"pads along {'-'.join(per_dim)}")
    if any(amount < 0 for amount in amounts):
        raise Unfollowed("crops the map by a negative pad")
    mode = call.get(2, "mode", "constant")
    return Made(
        "pointwise" if any(per_dim.get("c", ())) else "pad",
        dims,
        {
            "padding": (per_dim.get("h", (0, 0)), per_dim.get("w", (0, 0))),
            "padding_mode": "zeros" if mode == "constant" else mode,
        },
    )


def space_to_depth(call: Call) -> Made:
    on_grid(call)
    factor = pair(call.get(1, "downscale_factor"))
    return Made("space_to_depth", GRID, {"kernel_size": factor, "stride": factor})

"""How each torch function moves a feature map's grid: the rules by which `trace` follows a network."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from stridelab.geometry import ACTIVATIONS, NORMS

from .calls import Call, Made, NewLayout, NotOnGrid, Unfollowed, first
from .layouts import expand, moved, permute, reshape, transpose
from .windows import (
    adaptive_pool,
    avg_pool2d,
    conv2d,
    conv_transpose2d,
    depth_to_space,
    interpolate,
    max_pool2d,
    pad,
    space_to_depth,
)

Rule = Callable[[Call], NewLayout | Made]


def reduction(call: Call) -> Made:
    """A mean, sum or maximum: over the whole map a global pool, over the channels a 1x1 window."""
    dims = call.dims[0]
    axes = call.get(1, "dim")
    if axes is None:
        raise Unfollowed("reduces over the images as well")
    reduced = {int(axis) % len(dims) for axis in ([axes] if isinstance(axes, int) else axes)}
    over = "".join(sorted(dims[axis] for axis in reduced)).replace("1", "")
    keep = call.get(2, "keepdim", False)
    left = tuple(dim for axis, dim in enumerate(dims) if keep or axis not in reduced)
    if over == "hw":
        return Made("global_avg_pool" if call.name in {"mean", "sum"} else "global_max_pool", left, {})
    if over == "c":
        return Made("pointwise", left, {})
    raise Unfollowed(f"reduces over {over or 'nothing'} of {'-'.join(dims)}")


def extreme(call: Call) -> NewLayout | Made:
    """torch.max of two maps is their maximum, as in a maxout; of one, a reduction."""
    return arithmetic("add")(call) if isinstance(call.get(1, "other"), Tensor) else reduction(call)


def norm(call: Call) -> Made:
    """Its statistics may span the whole map; by convention they do not widen the receptive field."""
    function = call.name.removesuffix("_norm")
    assert function in NORMS, function
    dims = call.dims[0]
    if function != "layer" and not (dims[0] == "n" and dims[1] in {"c", "1"}):
        raise NotOnGrid(f"reads a tensor of {'-'.join(dims)} instead of n-c-...")
    groups = {"groups": call.get(1, "num_groups")} if function == "group" else {}
    return Made("norm", dims, {"function": function} | groups)


def pointwise(call: Call) -> Made:
    function = {"function": call.name} if call.name in ACTIVATIONS else {}
    return Made("activation" if function else "pointwise", call.dims[0], function)


def over_channels(call: Call) -> Made:
    """A softmax or a unit norm: pointwise over the channels, a view of the whole map over the pixels."""
    axis = call.get(1, "dim") if "softmax" in call.name else call.get(2, "dim", 1)
    if axis is None or call.dims[0][axis] != "c":
        raise Unfollowed("reads more than the channels of a pixel")
    return pointwise(call)


def dropout(call: Call) -> Made:
    return Made("dropout", call.dims[0], {})


def arithmetic(kind: str) -> Rule:
    """Maps joined element by element: branches, or one map and numbers that do not come from the image."""

    def rule(call: Call) -> Made:
        out = first(call.output).shape
        whole = [dims for tensor, dims in zip(call.maps, call.dims, strict=True) if tuple(tensor.shape) == out]
        if not whole:
            raise Unfollowed("broadcasts a map to a larger tensor")
        for tensor, dims in zip(call.maps, call.dims, strict=True):
            pairs = zip(reversed(dims), reversed(whole[0]), reversed(tensor.shape), strict=False)
            if any(have not in (want, "1") and size > 1 for have, want, size in pairs):
                raise Unfollowed(f"combines {'-'.join(dims)} with {'-'.join(whole[0])}")
        return Made(kind, whole[0], {})

    return rule


def concat(call: Call) -> Made:
    """Along the channels. A dimension of size 1 behind a reshape may be any: on a map of one pixel, either axis."""
    dims = tuple(next((dim for dim in alike if dim != "1"), "1") for alike in zip(*call.dims, strict=True))
    axis = call.get(1, "dim", 0) % len(dims)
    for tensor, own in zip(call.maps, call.dims, strict=True):
        if any(
            dim != want and not (dim == "1" and n == 1) for dim, want, n in zip(own, dims, tensor.shape, strict=True)
        ):
            raise Unfollowed(f"joins maps of {'-'.join(own)} and {'-'.join(dims)}")
    if not (dims[axis] == "c" or (dims[axis] == "1" and "c" not in dims)):
        raise Unfollowed(f"joins maps along {dims[axis]!r}, not along the channels")
    return Made("concat", (*dims[:axis], "c", *dims[axis + 1 :]), {})  # single channels too, sliced out before


def linear(call: Call) -> Made:
    """On a map with the channels last a 1x1 convolution, on a flat vector a linear layer."""
    dims = call.dims[0]
    bias = call.get(2, "bias") is not None
    if dims[-1] == "c" and {"h", "w", "hw"} & set(dims):
        return Made("conv", dims, {"bias": bias, "function": "linear"})
    if dims in (("n", "c"), ("n", "1")):
        return Made("linear", ("n", "c"), {"bias": bias})
    raise Unfollowed(f"mixes along {dims[-1]!r} of {'-'.join(dims)}")


def getitem(call: Call) -> Made:
    """Slices: some of the channels, or every s-th pixel from some pixel on, to some pixel."""
    dims = iter(zip(call.dims[0], call.maps[0].shape, strict=True))
    index = call.args[1] if isinstance(call.args[1], tuple) else (call.args[1],)
    if any(isinstance(part, Tensor | list) for part in index):
        raise Unfollowed("picks elements by a list or a mask")
    if Ellipsis in index:
        at = index.index(Ellipsis)
        missing = call.maps[0].ndim - sum(part is not None for part in index) + 1
        index = index[:at] + (slice(None),) * missing + index[at + 1 :]
    left: list[str] = []
    pieces = {"h": range(1), "w": range(1)}
    pieces |= {dim: range(size) for dim, size in zip(call.dims[0], call.maps[0].shape, strict=True) if dim in pieces}
    whole = dict(pieces)
    for part in index:
        if part is None:
            left.append("1")
            continue
        dim, size = next(dims)
        if isinstance(part, slice):
            left.append(dim)
        if dim in pieces and isinstance(part, slice):
            pieces[dim] = range(size)[part]
        elif part != slice(None) and dim != "c" and size > 1:
            raise Unfollowed(f"cuts a piece out along {dim!r}")
    left += [dim for dim, _ in dims]
    if pieces == whole:
        return Made("pointwise", tuple(left), {})
    height, width = pieces.values()
    return Made(
        "slice",
        tuple(left),
        {
            "stride": (height.step, width.step),
            "padding": ((-height.start, 0), (-width.start, 0)),
            "output_size": (len(height), len(width)),
        },
    )


def split(call: Call) -> Made:
    dims = call.dims[0]
    axis = call.get(2, "dim", 0)
    if dims[axis] != "c":
        raise Unfollowed(f"splits along {dims[axis]!r}, not along the channels")
    return Made("pointwise", dims, {})


def named(rule: Rule, names: str) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), rule)


RULES: dict[str, Rule] = {
    **named(conv2d, "conv2d"),
    **named(conv_transpose2d, "conv_transpose2d"),
    **named(interpolate, "interpolate"),
    **named(depth_to_space, "pixel_shuffle"),
    **named(linear, "linear"),
    **named(max_pool2d, "max_pool2d max_pool2d_with_indices"),
    **named(avg_pool2d, "avg_pool2d"),
    **named(adaptive_pool, "adaptive_avg_pool2d adaptive_max_pool2d adaptive_max_pool2d_with_indices"),
    **named(extreme, "max min"),
    **named(reduction, "mean sum amax amin var std argmax"),
    **named(pointwise, "gt lt ge le eq ne logical_not isnan"),
    **named(norm, "batch_norm layer_norm group_norm instance_norm"),
    **named(
        pointwise,
        "relu relu6 hardtanh leaky_relu prelu rrelu elu selu celu gelu silu mish sigmoid logsigmoid tanh "
        "hardswish hardsigmoid softplus softsign threshold clamp clip exp log log1p sqrt "
        "rsqrt abs neg pow square reciprocal sign round floor local_response_norm rms_norm",
    ),
    **named(over_channels, "softmax log_softmax normalize"),
    **named(dropout, "dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout bernoulli"),
    **named(arithmetic("add"), "add iadd radd sub isub rsub maximum minimum lerp"),
    **named(arithmetic("multiply"), "mul imul rmul div idiv rdiv truediv rtruediv addcmul where"),
    **named(concat, "cat concat concatenate"),
    **named(pad, "pad"),
    **named(getitem, "getitem"),
    **named(split, "chunk split tensor_split"),
    **named(space_to_depth, "pixel_unshuffle"),
    **named(permute, "permute"),
    **named(transpose, "transpose swapaxes swapdims"),
    **named(reshape, "view reshape flatten unflatten squeeze unsqueeze"),
    **named(expand, "expand expand_as broadcast_to"),
    **named(
        moved,
        "contiguous to clone detach float half double bfloat16 type type_as cpu cuda requires_grad data "
        "view_as reshape_as",
    ),
}
"""Bare function name -> rule. A function that is not here makes an opaque layer."""

VALUELESS = frozenset(
    {f"{what}_like" for what in ("zeros", "ones", "empty", "full", "rand", "randn")}
    | {f"new_{what}" for what in ("zeros", "ones", "empty", "full", "tensor")}
)
"""Functions that take only the shape of a feature map: what they return was not made from the image."""

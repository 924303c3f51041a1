"""How each torch function moves a feature map's grid: the rules by which `trace` follows a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

from torch import Tensor

from stridelab.geometry import ACTIVATIONS, NORMS

Dims = tuple[str, ...]
"""What each dimension of a tensor counts: n (images), c (channels), h, w, a product such as "chw", or "1"."""

GRID: Dims = ("n", "c", "h", "w")


class Unfollowed(Exception):
    """Raised by a rule, with the reason why it cannot say what becomes of the grid."""


class Moved(NamedTuple):
    """The same feature map, laid out differently: no layer."""

    dims: Dims


class Made(NamedTuple):
    """A new feature map, made by a layer of this kind with these fields of `Layer`."""

    kind: str
    dims: Dims
    fields: dict[str, Any]


@dataclass(frozen=True)
class Call:
    """One call of a torch function that reads at least one followed tensor."""

    name: str
    """The function's bare name: `relu` for F.relu, torch.relu_ and Tensor.relu_ alike."""
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    maps: tuple[Tensor, ...]
    """The followed tensors among the arguments."""
    dims: tuple[Dims, ...]
    """What their dimensions count."""
    output: Any

    def get(self, position: int, name: str, default: Any = None) -> Any:
        if name in self.kwargs:
            return self.kwargs[name]
        return self.args[position] if position < len(self.args) else default


Rule = Callable[[Call], Moved | Made]


def pair(value: int | Sequence[int]) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    height, width = value if len(value) == 2 else (value[0], value[0])
    return int(height), int(width)


def on_grid(call: Call) -> None:
    """A 2-d layer reads (n, c, h, w); a dimension of size 1 may stand for either axis of the map."""
    dims = call.dims[0]
    if len(dims) != 4 or any(dim not in (want, "1") for dim, want in zip(dims, GRID, strict=True)):
        raise Unfollowed(f"reads a tensor of {'-'.join(dims)} instead of n-c-h-w")


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


def norm(call: Call) -> Made:
    """Its statistics may span the whole map; by convention they do not widen the receptive field."""
    function = call.name.removesuffix("_norm")
    return Made("norm", call.dims[0], {"function": function} if function in NORMS else {})


def pointwise(call: Call) -> Made:
    function = {"function": call.name} if call.name in ACTIVATIONS else {}
    return Made("activation" if function else "pointwise", call.dims[0], function)


def dropout(call: Call) -> Made:
    return Made("dropout", call.dims[0], {})


def arithmetic(kind: str) -> Rule:
    """Maps joined element by element: branches, or one map and numbers that do not come from the image."""

    def rule(call: Call) -> Made:
        out = tuple(first(call.output).shape)
        whole = [
            dims for tensor, dims in zip(call.maps, call.dims, strict=True) if tuple(tensor.shape) == out
        ]
        if not whole:
            raise Unfollowed("broadcasts a map to a larger tensor")
        for tensor, dims in zip(call.maps, call.dims, strict=True):
            for have, want, size in zip(
                reversed(dims), reversed(whole[0]), reversed(tensor.shape), strict=False
            ):
                if have != want and size != 1:
                    raise Unfollowed(f"combines {'-'.join(dims)} with {'-'.join(whole[0])}")
            small = {
                dim for dim, size, full in zip(whole[0], tensor.shape, out, strict=False) if size != full
            }
            if small not in (set(), {"h", "w"}):
                raise Unfollowed(f"broadcasts along {'-'.join(sorted(small))}")
        return Made(kind, whole[0], {})

    return rule


def concat(call: Call) -> Made:
    dims = call.dims[0]
    axis = call.get(1, "dim", 0)
    if set(call.dims) != {dims} or dims[axis] != "c":
        raise Unfollowed(f"joins maps along {dims[axis]!r}, not along the channels")
    return Made("concat", dims, {})


def linear(call: Call) -> Made:
    """On a map with the channels last a 1x1 convolution, on a flat vector a linear layer."""
    dims = call.dims[0]
    bias = call.get(2, "bias") is not None
    if dims[-1] == "c" and {"h", "w", "hw"} & set(dims):
        return Made("conv", dims, {"bias": bias})
    if dims[0] == "n" and dims[-1].startswith("c") and len(dims) == 2:
        return Made("linear", ("n", "c"), {"bias": bias})
    raise Unfollowed(f"mixes along {dims[-1]!r} of {'-'.join(dims)}")


def pad(call: Call) -> Made:
    dims = call.dims[0]
    amounts = list(call.get(1, "pad"))
    per_dim = {
        dims[-1 - axis]: (amounts[2 * axis], amounts[2 * axis + 1]) for axis in range(len(amounts) // 2)
    }
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


def getitem(call: Call) -> Moved | Made:
    """Slices: some of the channels, or every s-th pixel."""
    dims, index = list(call.dims[0]), call.args[1]
    index = index if isinstance(index, tuple) else (index,)
    if any(isinstance(part, Tensor | list) for part in index):
        raise Unfollowed("picks elements by a list or a mask")
    if Ellipsis in index:
        at = index.index(Ellipsis)
        missing = len(dims) - sum(part is not None for part in index) + 1
        index = index[:at] + (slice(None),) * missing + index[at + 1 :]
    left: list[str] = []
    stride = {"h": 1, "w": 1}
    for part in index:
        if part is None:
            left.append("1")
            continue
        dim = dims.pop(0)
        if isinstance(part, slice):
            left.append(dim)
            if dim in stride and part.start in (None, 0) and part.stop is None:
                stride[dim] = part.step or 1
                continue
        if part != slice(None) and dim != "c":
            raise Unfollowed(f"cuts a piece out along {dim!r}")
    return Made("pointwise", (*left, *dims), {"stride": (stride["h"], stride["w"])})


def split(call: Call) -> Made:
    dims = call.dims[0]
    axis = call.get(2, "dim", 0)
    if dims[axis] != "c":
        raise Unfollowed(f"splits along {dims[axis]!r}, not along the channels")
    return Made("pointwise", dims, {})


def space_to_depth(call: Call) -> Made:
    on_grid(call)
    factor = pair(call.get(1, "downscale_factor"))
    return Made("pointwise", GRID, {"kernel_size": factor, "stride": factor})


def permute(call: Call) -> Moved:
    dims = call.dims[0]
    order = call.args[1:] if call.name == "permute" and "dims" not in call.kwargs else call.get(1, "dims")
    order = order[0] if len(order) == 1 and not isinstance(order[0], int) else order
    return Moved(tuple(dims[axis] for axis in order))


def transpose(call: Call) -> Moved:
    dims = list(call.dims[0])
    one, other = call.get(1, "dim0"), call.get(2, "dim1")
    dims[one], dims[other] = dims[other], dims[one]
    return Moved(tuple(dims))


def reshape(call: Call) -> Moved | Made:
    """Dimensions joined, split or dropped; joining channels with pixels is the layer `flatten`."""
    old, new = tuple(call.maps[0].shape), tuple(call.output.shape)
    dims = regroup(old, call.dims[0], new)
    if any("c" in dim and dim.strip("c") for dim in dims):
        return Made("flatten", dims, {})
    return Moved(dims)


def regroup(old: Sequence[int], dims: Dims, new: Sequence[int]) -> Dims:
    """What the dimensions count after a reshape.

    >>> regroup((9, 8, 4, 4), ("n", "c", "h", "w"), (9, 128))
    ('n', 'chw')
    >>> regroup((9, 8, 1, 1), ("n", "c", "h", "w"), (9, 8))
    ('n', 'c')
    """
    result: list[str] = []
    i = j = 0
    while i < len(old) or j < len(new):
        start_i, start_j = i, j
        i, j = min(i + 1, len(old)), min(j + 1, len(new))
        while prod(old[start_i:i]) != prod(new[start_j:j]):
            if prod(old[start_i:i]) < prod(new[start_j:j]):
                i += 1
            else:
                j += 1
        roles = [dims[axis] for axis in range(start_i, i) if old[axis] > 1]
        made = [axis for axis in range(start_j, j) if new[axis] > 1]
        if len(set(roles)) > 1 and len(made) > 1:
            raise Unfollowed(f"reshapes {spell(old)} to {spell(new)} across {'-'.join(roles)}")
        joined = "".join(dict.fromkeys(roles))
        result += [joined if axis in made else "1" for axis in range(start_j, j)]
    return tuple(result)


def moved(call: Call) -> Moved:
    if tuple(first(call.output).shape) != tuple(call.maps[0].shape):
        raise Unfollowed("changes the shape")
    return Moved(call.dims[0])


def first(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output[0]


def spell(size: Sequence[int]) -> str:
    return "x".join(map(str, size))


def named(rule: Rule, names: str) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), rule)


RULES: dict[str, Rule] = {
    **named(conv2d, "conv2d"),
    **named(linear, "linear"),
    **named(max_pool2d, "max_pool2d max_pool2d_with_indices"),
    **named(avg_pool2d, "avg_pool2d"),
    **named(adaptive_pool, "adaptive_avg_pool2d adaptive_max_pool2d adaptive_max_pool2d_with_indices"),
    **named(reduction, "mean sum max min amax amin var std argmax"),
    **named(norm, "batch_norm layer_norm group_norm instance_norm"),
    **named(
        pointwise,
        "relu relu6 hardtanh leaky_relu prelu rrelu elu selu celu gelu silu mish sigmoid logsigmoid tanh "
        "hardswish hardsigmoid softplus softsign threshold clamp clip softmax log_softmax exp log log1p sqrt "
        "rsqrt abs neg pow square reciprocal sign round floor normalize local_response_norm rms_norm",
    ),
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
    **named(
        moved,
        "contiguous to clone detach float half double bfloat16 type type_as cpu cuda requires_grad data "
        "expand expand_as view_as reshape_as",
    ),
}
"""Bare function name -> rule. A function that is not here makes an opaque layer."""

VALUELESS = frozenset(
    {f"{what}_like" for what in ("zeros", "ones", "empty", "full", "rand", "randn")}
    | {f"new_{what}" for what in ("zeros", "ones", "empty", "full", "tensor")}
)
"""Functions that take only the shape of a feature map: what they return was not made from the image."""

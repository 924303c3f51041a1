"""Functions that lay a feature map out differently without changing it: no layers, but for a flatten."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from stridelab.text import by

from .calls import Call, Made, NewLayout, Unfollowed, first
from .origins import Dims


def permute(call: Call) -> NewLayout:
    dims = call.dims[0]
    order = call.args[1:] if call.name == "permute" and "dims" not in call.kwargs else call.get(1, "dims")
    order = order[0] if len(order) == 1 and not isinstance(order[0], int) else order
    return NewLayout(tuple(dims[axis] for axis in order))


def transpose(call: Call) -> NewLayout:
    dims = list(call.dims[0])
    one, other = call.get(1, "dim0"), call.get(2, "dim1")
    dims[one], dims[other] = dims[other], dims[one]
    return NewLayout(tuple(dims))


def reshape(call: Call) -> NewLayout | Made:
    """Dimensions joined, split or dropped; channels and pixels joined to one vector are the layer `flatten`."""
    dims = regroup(call.maps[0].shape, call.dims[0], call.output.shape)
    if len(dims) == 2 and dims[0] == "n" and set(dims[1]) <= set("chw") and dims[1] != "c":
        return Made("flatten", ("n", "c"), {})
    for dim in dims:
        if len(set(dim)) > 1 and dim != "hw":
            raise Unfollowed(f"joins {dim!r} into one dimension of many")
    return NewLayout(dims)


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
            raise Unfollowed(f"reshapes {by(old)} to {by(new)} across {'-'.join(roles)}")
        joined = "".join(dict.fromkeys(roles))
        result += [joined if axis in made else "1" for axis in range(start_j, j)]
    return tuple(result)


def expand(call: Call) -> NewLayout:
    """A broadcast copy: its dimensions count no pixels of their own."""
    old, new = call.maps[0].shape, call.output.shape
    if len(old) != len(new):
        raise Unfollowed("adds dimensions")
    return NewLayout(tuple(dim if a == b else "1" for dim, a, b in zip(call.dims[0], old, new, strict=True)))


def moved(call: Call) -> NewLayout:
    if tuple(first(call.output).shape) != tuple(call.maps[0].shape):
        raise Unfollowed("changes the shape")
    return NewLayout(call.dims[0])

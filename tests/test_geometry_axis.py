"""Sizes, pads and unread columns of one axis, against a window-counting loop, PyTorch, and the
TensorFlow/XLA rule.
"""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from stridelab.geometry import PADDINGS, conv_axis, parse_padding, pool_axis

EXPLICIT = [0, 1, 2, 3, (0, 1), (1, 0), (0, 3), (4, 1)]
SIZES = {"n": range(1, 15), "k": range(1, 6), "s": range(1, 6), "d": range(1, 4)}


def grid(padding, limit=10**9):
    for n, k, s, d in itertools.product(*SIZES.values()):
        if n * k * s * d <= limit and (s == 1 or padding != "torch_same"):
            yield n, k, s, d


def xla_pads(n, k, s, d, policy):
    """The rules as their own documents tell them, in another form than ours."""
    span = d * (k - 1) + 1
    if policy in ("same", "same_lower"):
        total = max(span - s, 0) if n % s == 0 else max(span - n % s, 0)
        return (total // 2, total - total // 2) if policy == "same" else (total - total // 2, total // 2)
    if policy == "torch_same":
        return d * (k - 1) // 2, d * (k - 1) - d * (k - 1) // 2
    if policy == "half":
        return (d * (k - 1) // 2,) * 2
    if policy == "valid":
        return 0, 0
    return policy if isinstance(policy, tuple) else (policy, policy)


def windows(n, k, s, d, before, after):
    """Place windows until one does not fit: (their number, positions of the columns that they tap)."""
    taps, start = [], 0
    while start + d * (k - 1) < before + n + after:
        taps.append([start + d * tap for tap in range(k)])
        start += s
    return taps


@pytest.mark.parametrize("padding", [*PADDINGS, *EXPLICIT], ids=str)
def test_a_loop_that_places_windows_agrees(padding):
    for n, k, s, d in grid(padding):
        before, after = xla_pads(n, k, s, d, padding)
        taps = windows(n, k, s, d, before, after)
        setting = f"{n=} {k=} {s=} {d=} {padding=}"
        if not taps:
            with pytest.raises(ValueError, match="nothing is left"):
                conv_axis(n, kernel_size=k, stride=s, dilation=d, padding=padding)
            continue
        axis = conv_axis(n, kernel_size=k, stride=s, dilation=d, padding=padding)
        read = set().union(*taps)
        columns = range(before + n + after)
        real = range(before, before + n)
        behind = range(taps[-1][-1] + 1, len(columns))
        lost = [c for c in real if c not in read and c not in behind]
        between = [c for c in lost if not any(tap[0] <= c <= tap[-1] for tap in taps)]
        assert axis.output_size == len(taps), setting
        assert (axis.pad_before, axis.pad_after) == (before, after), setting
        assert axis.unread_padding == sum(c not in real for c in behind), setting
        assert axis.unread_pixels == sum(c in real for c in behind), setting
        assert axis.skipped_pixels == len(between), setting
        assert axis.hole_pixels == len(lost) - len(between), setting
        assert axis.uneven == ((min(read) < before) != (max(read) >= before + n)), setting


@pytest.mark.parametrize("padding", [*PADDINGS, *EXPLICIT], ids=str)
def test_a_torch_convolution_has_that_size_and_reads_those_columns(padding):
    for n, k, s, d in grid(padding, limit=36):
        padded = F.pad(torch.zeros(1, 1, n), xla_pads(n, k, s, d, padding)).requires_grad_()
        try:
            out = F.conv1d(padded, torch.ones(1, 1, k), stride=s, dilation=d)
        except RuntimeError:
            with pytest.raises(ValueError, match="nothing is left"):
                conv_axis(n, kernel_size=k, stride=s, dilation=d, padding=padding)
            continue
        axis = conv_axis(n, kernel_size=k, stride=s, dilation=d, padding=padding)
        out.sum().backward()
        unread = (padded.grad[0, 0] == 0).tolist()
        real = unread[axis.pad_before : axis.pad_before + n]
        assert axis.output_size == out.shape[-1]
        assert sum(real) == axis.unread_pixels + axis.skipped_pixels + axis.hole_pixels


def test_the_policies_compute_what_torch_computes():
    image, generator = torch.randn(1, 1, 11, 14), torch.Generator().manual_seed(0)
    for k, s, d in itertools.product(range(1, 6), range(1, 4), range(1, 3)):
        weight = torch.randn(1, 1, k, k, generator=generator)
        for policy, given_to_torch in (("half", d * (k - 1) // 2), ("valid", 0), ("torch_same", "same")):
            if policy == "torch_same" and (s > 1 or d * (k - 1) % 2):  # torch warns of its own padded copy
                continue
            height, width = (conv_axis(n, kernel_size=k, stride=s, dilation=d, padding=policy) for n in (11, 14))
            pads = (width.pad_before, width.pad_after, height.pad_before, height.pad_after)
            ours = F.conv2d(F.pad(image, pads), weight, stride=s, dilation=d)
            theirs = F.conv2d(image, weight, stride=s, dilation=d, padding=given_to_torch)
            torch.testing.assert_close(ours, theirs)
            assert ours.shape[2:] == (height.output_size, width.output_size)


def test_tensorflow_sizes():
    for n, k, s, d in grid("same"):
        span = d * (k - 1) + 1
        for policy in ("same", "same_lower"):
            assert conv_axis(n, kernel_size=k, stride=s, dilation=d, padding=policy).output_size == math.ceil(n / s)
        if n >= span:
            valid = conv_axis(n, kernel_size=k, stride=s, dilation=d, padding="valid")
            assert valid.output_size == math.ceil((n - span + 1) / s)


@pytest.mark.parametrize("pool", [F.max_pool1d, F.avg_pool1d])
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_pools_have_torch_s_size_wherever_torch_has_one(pool, ceil_mode):
    feasible = 0
    dilations = (1,) if pool is F.avg_pool1d else (1, 2)
    for n, k, s, p, d in itertools.product(range(1, 16), range(1, 6), range(1, 6), range(3), dilations):
        options = {} if pool is F.avg_pool1d else {"dilation": d}
        try:
            expected = pool(torch.zeros(1, 1, n), k, s, p, ceil_mode=ceil_mode, **options).shape[-1]
        except RuntimeError:
            with pytest.raises(ValueError, match=r"nothing is left|half the kernel"):
                pool_axis(n, kernel_size=k, stride=s, padding=p, dilation=d, ceil_mode=ceil_mode)
            continue
        axis = pool_axis(n, kernel_size=k, stride=s, padding=p, dilation=d, ceil_mode=ceil_mode)
        assert axis.output_size == expected, (n, k, s, p, d)
        feasible += 1
    assert feasible > 400


@pytest.mark.parametrize(
    ("n", "k", "s", "p", "expected"),
    [
        (2, 1, 2, 0, 1),
        (3, 2, 2, 1, 2),
        (5, 2, 2, 0, 3),
        (6, 2, 3, 0, 2),
        (112, 3, 2, 1, 57),
        (55, 3, 2, 0, 27),
    ],
)
def test_ceil_mode_is_not_a_mere_ceil(n, k, s, p, expected):
    assert pool_axis(n, kernel_size=k, stride=s, padding=p, ceil_mode=True).output_size == expected


def test_a_pool_strides_by_its_kernel_unless_told():
    assert pool_axis(28, kernel_size=2).output_size == 14


sizes = st.integers(1, 300)
kernels = st.integers(1, 11)
strides = st.integers(1, 8)
dilations = st.integers(1, 4)
policies = st.one_of(
    st.sampled_from(sorted(PADDINGS)), st.integers(0, 9), st.tuples(st.integers(0, 9), st.integers(0, 9))
)
several = settings(deadline=None, max_examples=300)


@several
@given(sizes, kernels, strides, dilations)
def test_half_padding_has_same_s_size_but_other_pads(n, k, s, d):
    assume(d * (k - 1) % 2 == 0)
    half = conv_axis(n, kernel_size=k, stride=s, dilation=d, padding="half")
    same = conv_axis(n, kernel_size=k, stride=s, dilation=d, padding="same")
    assert half.output_size == same.output_size == math.ceil(n / s)
    assert half.pad_before >= same.pad_before
    if s == 1:
        assert half == same


@several
@given(sizes, kernels, strides, dilations, policies)
def test_a_strided_convolution_is_the_plain_one_subsampled(n, k, s, d, policy):
    assume(policy not in ("same", "same_lower", "torch_same"))  # whose pads hang on the stride
    assume(policy != "valid" or n > d * (k - 1))
    try:
        plain = conv_axis(n, kernel_size=k, dilation=d, padding=policy)
    except ValueError:
        with pytest.raises(ValueError, match="nothing is left"):
            conv_axis(n, kernel_size=k, stride=s, dilation=d, padding=policy)
        return
    strided = conv_axis(n, kernel_size=k, stride=s, dilation=d, padding=policy)
    assert strided.output_size == len(range(plain.output_size)[::s])


@several
@given(sizes, kernels, strides, dilations, policies)
def test_every_column_is_read_or_accounted_for(n, k, s, d, policy):
    try:
        axis = conv_axis(n, kernel_size=k, stride=s, dilation=d, padding=policy)
    except ValueError:
        return
    read = {i * s + j * d for i in range(axis.output_size) for j in range(k)}
    real = range(axis.pad_before, axis.pad_before + n)
    lost = axis.unread_pixels + axis.skipped_pixels + axis.hole_pixels
    assert len(read.intersection(real)) + lost == n
    assert axis.unread_padding + axis.unread_pixels < s


@several
@given(sizes, kernels, strides, dilations)
def test_same_pads_no_more_than_it_must(n, k, s, d):
    same = conv_axis(n, kernel_size=k, stride=s, dilation=d, padding="same")
    lower = conv_axis(n, kernel_size=k, stride=s, dilation=d, padding="same_lower")
    assert (lower.pad_before, lower.pad_after) == (same.pad_after, same.pad_before)
    assert same.pad_after - same.pad_before in (0, 1)
    assert same.unread_padding == 0
    total = same.pad_before + same.pad_after
    if total and n + total > d * (k - 1) + 1:
        fewer = conv_axis(n, kernel_size=k, stride=s, dilation=d, padding=(0, total - 1))
        assert fewer.output_size == same.output_size - 1


@pytest.mark.parametrize("n", [28, 32, 224])
def test_even_inputs_waste_the_padding_that_odd_ones_use(n):
    even = conv_axis(n, kernel_size=3, stride=2, padding=1)
    odd = conv_axis(n + 1, kernel_size=3, stride=2, padding=1)
    assert (even.uneven, even.unread_padding) == (True, 1)
    assert (odd.uneven, odd.unread_padding) == (False, 0)


def test_padding_stays_even_through_d_layers_only_where_n_is_1_modulo_2_to_the_d():
    for n, depth in itertools.product(range(2, 260), range(1, 6)):
        size, clean = n, True
        for _ in range(depth):
            axis = conv_axis(size, kernel_size=3, stride=2, padding=1)
            size, clean = axis.output_size, clean and not axis.uneven
        assert clean == (n % 2**depth == 1), (n, depth)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (1, (1, 1)),
        ("same", ("same", "same")),
        ([1, 2], (1, 2)),
        ((0, 3), (0, 3)),
        ([0, 1, 2, 3], ((2, 3), (0, 1))),
        ([1, 1, 1, 1], (1, 1)),
        (["same", "valid"], ("same", "valid")),
        ([(0, 1), 2], ((0, 1), 2)),
    ],
)
def test_policies_are_parsed_once_and_for_all(policy, expected):
    assert parse_padding(policy) == expected
    assert parse_padding(parse_padding(policy)) == expected


@pytest.mark.parametrize(
    "policy", ["smae", "SAME", None, True, 1.5, [1], [1, 2, 3], [1, None], [True, 1], [[1, 2, 3], 1], {}]
)
def test_what_is_not_a_policy_is_refused_with_the_choices(policy):
    with pytest.raises(
        ValueError, match="is not a padding policy; choose one of half, same, same_lower, torch_same, valid"
    ):
        parse_padding(policy)


@pytest.mark.parametrize("policy", [-1, [0, -1], [0, 0, -1, 0]])
def test_negative_pads_are_refused(policy):
    with pytest.raises(ValueError, match="has a negative pad of -1; pads must be 0 or more"):
        parse_padding(policy)


def test_torch_same_explains_why_it_refuses_strides():
    with pytest.raises(ValueError, match=r"means nothing at stride 2.*choose same .* or half"):
        conv_axis(28, kernel_size=3, stride=2, padding="torch_same")


@pytest.mark.parametrize(
    ("wrong", "name"),
    [({"stride": 0}, "stride=0"), ({"dilation": 0}, "dilation=0"), ({"kernel_size": -1}, "kernel_size=-1")],
)
def test_sizes_below_one_are_refused(wrong, name):
    with pytest.raises(ValueError, match=f"{name} is not allowed; it must be an integer of 1 or more"):
        conv_axis(28, **{"kernel_size": 3, **wrong})


@pytest.mark.parametrize("stride", [True, 2.0, "2"])
def test_only_integers_are_sizes(stride):
    conv_axis(28, kernel_size=3, stride=2)
    with pytest.raises(ValueError, match="must be an integer of 1 or more"):
        conv_axis(28, kernel_size=3, stride=stride)

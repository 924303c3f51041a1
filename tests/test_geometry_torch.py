"""Receptive fields against where gradients reach, and costs against what PyTorch counts and keeps."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from stridelab.geometry import IMAGE, LayerPlan, layer, measure, pads_explicitly, totals, training_memory

MODES = {"zeros": "constant"}


def plan_of(*layers, size=(17, 14), channels=1):
    return LayerPlan(channels, size, tuple(layers))


# --- a network of sums: its gradients are where its fields are ---


def windows(x, g, fill):
    """Every window's sum; a pool's overhanging window is filled like padding."""
    (top, bottom), (left, right) = g.pad
    pads = (left, right, top, bottom)
    mode = MODES.get(g.padding_mode, g.padding_mode)
    padded = F.pad(x, pads, value=fill) if mode == "constant" else F.pad(x, pads, mode=mode)
    over = [
        max(0, (out - 1) * s + d * (k - 1) + 1 - size)
        for out, s, d, k, size in zip(g.output_size, g.stride, g.dilation, g.kernel_size, padded.shape[2:], strict=True)
    ]
    padded = F.pad(padded, (0, over[1], 0, over[0]), value=fill)
    ones = torch.ones(1, 1, *g.kernel_size, dtype=x.dtype)
    return F.conv2d(padded, ones, stride=g.stride, dilation=g.dilation)


def sums(plan, image, fill=0.0):
    """Each layer's map, were all weights one: the maps of a plan with a single channel throughout."""
    maps = {IMAGE: image}
    for g in measure(plan):
        inputs = [maps[name] for name in g.inputs]
        if g.kind in ("add", "concat"):
            maps[g.name] = sum(inputs)
        elif g.kind == "adaptive_avg_pool":
            maps[g.name] = F.adaptive_avg_pool2d(inputs[0], g.output_size)
        else:
            maps[g.name] = windows(inputs[0], g, fill)
        if fill:
            maps[g.name] = (maps[g.name] > 0).to(image.dtype)
    return maps


def reached(plan, name, unit=None):
    """Which pixels the map of layer `name`, or one unit of it, depends on."""
    image = torch.ones(1, 1, *plan.input_size, dtype=torch.float64, requires_grad=True)
    out = sums(plan, image)[name][0, 0]
    (out.sum() if unit is None else out[unit]).backward()
    return image.grad[0, 0] != 0


def share(mask):
    """Rows times columns, as is told: where each of two branches has holes of its own, less than this is read."""
    rows, columns = mask.any(1), mask.any(0)
    return rows.sum().item() * columns.sum().item() / mask.numel()


def hull(mask):
    rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
    return (rows.min().item(), rows.max().item()), (columns.min().item(), columns.max().item())


def touches_padding(plan, name):
    """For each unit of a map, whether any path to it starts in padding."""
    image = torch.zeros(1, 1, *plan.input_size, dtype=torch.float64)
    return sums(plan, image, fill=1.0)[name][0, 0] > 0


def assert_fields_are_where_gradients_reach(plan):
    for g in measure(plan):
        outside = touches_padding(plan, g.name)
        assert g.input_share == share(reached(plan, g.name)), g
        assert g.padding_share == pytest.approx(outside.double().mean().item()), g
        corners = itertools.product(*({0, size // 2, size - 1} for size in g.output_size))
        for unit in corners:
            region = g.region_of(unit)
            inside = all(a >= 0 and b < n for (a, b), n in zip(region, plan.input_size, strict=True))
            assert inside == (not outside[unit]), (g, unit)
            if inside:
                assert hull(reached(plan, g.name, unit)) == region, (g, unit)


SEQUENTIAL = plan_of(
    layer("conv", kernel_size=5, stride=2, padding="same"),
    layer("max_pool", kernel_size=3, stride=2, padding=1),
    layer("conv", kernel_size=3, padding="half"),
    size=(33, 29),
)
DILATED = plan_of(
    layer("conv", kernel_size=3, dilation=2),
    layer("conv", kernel_size=3, dilation=2, padding="half"),
    layer("conv", kernel_size=2, dilation=(3, 1), padding=[0, 1]),
    size=(21, 18),
)
HOLES = plan_of(
    layer("conv", kernel_size=3, dilation=2, padding=2),
    layer("conv", kernel_size=3, dilation=2, stride=2, padding=2),
    layer("conv", kernel_size=2, stride=3),
    size=(26, 31),
)
SKIPS = plan_of(
    layer("conv", kernel_size=1, stride=3, padding=[0, 1, 0, 0]),
    layer("conv", kernel_size=2, stride=(3, 1), padding=[1, 1]),
    size=(32, 20),
)
RECTANGLES = plan_of(
    layer("conv", kernel_size=(1, 7), stride=(1, 2), padding="half"),
    layer("conv", kernel_size=(7, 1), stride=(3, 1), padding=[0, 0, 2, 5]),
    layer("avg_pool", kernel_size=(2, 3), stride=(2, 1), ceil_mode=True),
    size=(24, 37),
)
CEIL = plan_of(
    layer("max_pool", kernel_size=3, stride=2, ceil_mode=True),
    layer("conv", kernel_size=3, padding=1),
    layer("max_pool", kernel_size=2, padding=1, ceil_mode=True),
    size=(18, 15),
)
RESIDUAL = plan_of(
    layer("conv", "stem", kernel_size=3, padding=1),
    layer("conv", "a1", kernel_size=3, stride=2, padding=1),
    layer("conv", "a2", kernel_size=3, padding=1),
    layer("conv", "short", inputs=("stem",), stride=2),
    layer("add", "sum1", inputs=("a2", "short")),
    layer("conv", "b1", kernel_size=3, padding=1),
    layer("add", "sum2", inputs=("b1", "sum1")),
    layer("global_avg_pool"),
    size=(19, 22),
)
INCEPTION = plan_of(
    layer("conv", "stem", kernel_size=3, stride=2),
    layer("conv", "one", inputs=("stem",)),
    layer("conv", "three", inputs=("stem",), kernel_size=3, padding="half"),
    layer("conv", "wide", inputs=("stem",), kernel_size=(1, 5), padding="half"),
    layer("conv", "tall", inputs=("wide",), kernel_size=(5, 1), padding="half"),
    layer("max_pool", "pool", inputs=("stem",), kernel_size=3, stride=1, padding=1),
    layer("concat", inputs=("one", "three", "tall", "pool")),
    layer("conv", kernel_size=3, stride=2),
    size=(23, 26),
)
MISALIGNED = plan_of(
    layer("conv", "left", inputs=(IMAGE,), kernel_size=3, padding=[0, 2, 1, 1]),
    layer("conv", "right", inputs=(IMAGE,), kernel_size=4, padding=[3, 0, 1, 2]),
    layer("add", inputs=("left", "right")),
    layer("conv", kernel_size=3, padding=1),
    size=(12, 14),
)
NETS = {name.lower(): plan for name, plan in list(globals().items()) if name.isupper() and isinstance(plan, LayerPlan)}


@pytest.mark.parametrize("name", NETS)
def test_fields_are_where_gradients_reach(name):
    assert_fields_are_where_gradients_reach(NETS[name])


sides = st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3), st.integers(0, 3))
windowed = st.builds(
    layer,
    st.sampled_from(["conv", "conv", "avg_pool"]),
    kernel_size=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    padding=st.one_of(st.sampled_from(["same", "same_lower", "half", "valid"]), sides),
    ceil_mode=st.booleans(),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(windowed, min_size=1, max_size=4), st.tuples(st.integers(5, 26), st.integers(5, 26)))
def test_fields_of_any_chain_are_where_gradients_reach(layers, size):
    plan = plan_of(*layers, size=size)
    try:
        *_, last = measure(plan)
    except ValueError:
        assume(False)
    assert_fields_are_where_gradients_reach(plan)
    assert last.input_share == pytest.approx(reached(plan, last.name).double().mean().item())


branch = st.builds(
    dict,
    kernel_size=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    dilation=st.integers(1, 2),
    padding=st.sampled_from(["same", "same_lower"]),
)


@settings(deadline=None, max_examples=40)
@given(branch, branch, st.integers(1, 3), st.tuples(st.integers(5, 20), st.integers(5, 20)))
def test_fields_of_any_two_branches_are_where_gradients_reach(one, other, stride, size):
    plan = plan_of(
        layer("conv", "one", inputs=(IMAGE,), stride=stride, **one),
        layer("conv", "other", inputs=(IMAGE,), stride=stride, **other),
        layer("add", "sum", inputs=("one", "other")),
        layer("conv", "last", kernel_size=2, padding="same"),
        size=size,
    )
    first, second, joined, _ = measure(plan)
    assert_fields_are_where_gradients_reach(plan)
    assert joined.misaligned == (first.center != second.center)
    if not joined.misaligned:
        assert joined.receptive_field == tuple(map(max, first.receptive_field, second.receptive_field))


def test_branches_of_unequal_stride_have_no_one_field():
    plan = plan_of(
        layer("conv", "crop", inputs=(IMAGE,), kernel_size=5),
        layer("conv", "step", inputs=(IMAGE,), stride=2),
        layer("add", "sum", inputs=("crop", "step")),
        layer("conv", "last", kernel_size=3),
        size=(9, 9),
    )
    *_, joined, last = measure(plan)
    assert (joined.misaligned, last.misaligned) == (True, False)
    assert joined.receptive_field is last.receptive_field is last.region_of((0, 0)) is last.input_share is None
    assert last.output_size == (3, 3)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_padding_that_repeats_pixels_reads_them(mode):
    plan = plan_of(
        layer("conv", kernel_size=3, stride=3, padding=[2, 0, 1, 1], padding_mode=mode),
        layer("conv", kernel_size=2, padding=[1, 1, 0, 1], padding_mode=mode),
        size=(10, 11),
    )
    for g in measure(plan):
        assert g.input_share == share(reached(plan, g.name))


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_pads_are_refused_where_torch_cannot_make_them(mode):
    for size, pad in itertools.product(range(1, 6), range(1, 6)):
        plan = plan_of(layer("conv", "edge", padding=(0, 0, pad, 0), padding_mode=mode), size=(size, 9))
        image = torch.zeros(1, 1, size, 9)
        try:
            F.pad(image, (0, 0, pad, 0), mode=MODES.get(mode, mode))
        except RuntimeError:
            wanted = rf"layer 'edge' .* map of {size}x9: .* '{mode}' cannot pad a height of {size} by {pad} and 0"
            with pytest.raises(ValueError, match=wanted):
                measure(plan)
        else:
            measure(plan)


# --- costs: the same plan as a network that trains ---


def build(plan):
    """{layer: module} of a plan as PyTorch users would write it."""
    modules = nn.ModuleDict()
    for asked, g in zip(plan.layers, measure(plan), strict=True):
        match g.kind:
            case "conv":
                explicit = pads_explicitly(g.pad, g.padding_mode)
                modules[g.name] = nn.Conv2d(
                    g.in_channels,
                    g.out_channels,
                    g.kernel_size,
                    g.stride,
                    (0, 0) if explicit else (g.pad[0][0], g.pad[1][0]),
                    g.dilation,
                    asked.groups,
                    asked.bias,
                )
            case "linear":
                modules[g.name] = nn.Linear(g.in_channels, g.out_channels, asked.bias)
            case "norm":
                modules[g.name] = {
                    "": nn.BatchNorm2d,
                    "group": lambda channels: nn.GroupNorm(2, channels),
                    "instance": lambda channels: nn.InstanceNorm2d(channels, affine=True),
                }[asked.function](g.in_channels)
    return modules


def forward(plan, modules, image, on_layer=lambda name: None):
    maps = {IMAGE: image}
    for asked, g in zip(plan.layers, measure(plan), strict=True):
        on_layer(g.name)
        x = [maps[name] for name in g.inputs]
        (top, bottom), (left, right) = g.pad
        pad = (top, left)
        if pads_explicitly(g.pad, g.padding_mode):
            pads, mode, pad = (left, right, top, bottom), MODES.get(g.padding_mode, g.padding_mode), (0, 0)
            x = [F.pad(x[0], pads, mode=mode, **({"value": -9e9} if g.kind == "max_pool" else {}))]
        match g.kind:
            case "conv" | "linear" | "norm":
                y = modules[g.name](x[0])
            case "activation":
                y = getattr(F, asked.function.rstrip("_") or "relu")(
                    x[0],
                    **({} if asked.function in ("gelu", "tanh") else {"inplace": asked.function[-1:] in ("", "_")}),
                )
            case "max_pool":
                y = F.max_pool2d(x[0], g.kernel_size, g.stride, pad, g.dilation, asked.ceil_mode)
            case "avg_pool":
                y = F.avg_pool2d(x[0], g.kernel_size, g.stride, pad, asked.ceil_mode)
            case "adaptive_avg_pool":
                y = F.adaptive_avg_pool2d(x[0], g.output_size)
            case "adaptive_max_pool":
                y = F.adaptive_max_pool2d(x[0], g.output_size)
            case "global_avg_pool":
                y = x[0].mean((2, 3))
            case "global_max_pool":
                y = x[0].amax((2, 3))
            case "flatten":
                y = x[0].flatten(1)
            case "dropout":
                y = F.dropout(x[0], 0.5)
            case "identity":
                y = x[0]
            case "add":
                y = sum(x[1:], x[0])
            case "multiply":
                y = x[0] * x[1].view(*x[1].shape[:2], *((1, 1) if x[1].ndim == 2 else x[1].shape[2:]))
            case "concat":
                y = torch.cat(x, 1)
        maps[g.name] = y
    return maps


def kept_by_torch(plan, modules, image):
    """{layer: bytes of the storages that it is the first to save}, without parameters and buffers."""
    seen = {t.untyped_storage().data_ptr() for t in [*modules.parameters(), *modules.buffers()]}
    kept, alive, current = {}, [], [None]

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            kept[current[0]] = kept.get(current[0], 0) + storage.nbytes()
        alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        alive.append(forward(plan, modules, image, on_layer=lambda name: current.__setitem__(0, name)))
    return kept


def block(name, channels, **conv):
    source = conv.pop("inputs", ())
    return (
        layer("conv", name, inputs=source, out_channels=channels, **{"kernel_size": 3, "padding": "half"} | conv),
        layer("norm", f"{name}_norm"),
        layer("activation", f"{name}_relu"),
    )


HEAD = (layer("global_avg_pool"), layer("linear", out_channels=10, bias=True))


def three(strides=(1, 2, 2), head=HEAD, **conv):
    blocks = [block(f"c{i}", 8 << i, stride=s, **conv) for i, s in enumerate(strides)]
    return plan_of(*itertools.chain(*blocks), *head, size=(28, 28))


COSTED = {
    **{
        f"three-{padding}-{s}": three(s, padding=padding)
        for padding in ("half", "same", "valid", "same_lower")
        for s in ((1, 2, 2), (2, 1, 3))
    },
    **{f"three-{mode}": three(padding_mode=mode) for mode in ("reflect", "replicate", "circular")},
    "three-same-reflect": three(padding="same", padding_mode="reflect"),
    "three-dilated": three(dilation=2),
    "three-rectangular": three(kernel_size=(3, 5), padding=[0, 2]),
    "three-flatten": three(head=(layer("flatten"), layer("linear", out_channels=10))),
    "three-dropout": three(head=(layer("global_avg_pool"), layer("dropout"), layer("linear", out_channels=10))),
    "pools": plan_of(
        *block("c1", 8),
        layer("max_pool", kernel_size=3, stride=2, padding=1),
        *block("c2", 16),
        layer("avg_pool", kernel_size=2, ceil_mode=True),
        *block("c3", 16),
        layer("max_pool", kernel_size=2, padding="same"),
        layer("adaptive_avg_pool", output_size=(3, 2)),
        layer("identity"),
        layer("adaptive_max_pool", output_size=(2, 2)),
        layer("global_max_pool"),
        layer("linear", out_channels=3),
        size=(27, 30),
    ),
    "pool-first": plan_of(
        layer("max_pool", kernel_size=2),
        layer("avg_pool", kernel_size=2, stride=1),
        *block("c1", 8, padding_mode="replicate"),
        layer("adaptive_avg_pool", output_size=(1, 1)),
        layer("flatten"),
        layer("linear", out_channels=3),
        size=(20, 24),
        channels=3,
    ),
    "no-norm": plan_of(
        layer("conv", "c1", out_channels=6, kernel_size=3, bias=True),
        layer("activation", function="gelu"),
        layer("conv", "c2", out_channels=12, kernel_size=3, groups=3, bias=True),
        layer("norm", function="group", groups=2),
        layer("activation", function="leaky_relu_"),
        layer("conv", "c3", kernel_size=3, groups=12, stride=2),
        layer("norm", function="instance"),
        layer("activation", function="relu6"),
        layer("conv", "c4", kernel_size=2, padding=[1, 0, 1, 0]),
        layer("activation", function="elu"),
        layer("activation", function="tanh"),
        *HEAD,
        channels=3,
    ),
    "residual": plan_of(
        *block("stem", 8),
        *block("a1", 16, stride=2),
        layer("conv", "a2", kernel_size=3, padding=1),
        layer("norm", "a2_norm"),
        layer("conv", "short", inputs=("stem_relu",), out_channels=16, stride=2),
        layer("norm", "short_norm"),
        layer("add", "sum", inputs=("a2_norm", "short_norm")),
        layer("activation", "out"),
        *block("b1", 16),
        layer("conv", "b2", kernel_size=3, padding=1),
        layer("norm", "b2_norm"),
        layer("add", "sum2", inputs=("b2_norm", "out")),
        layer("activation"),
        *HEAD,
        size=(32, 32),
        channels=3,
    ),
    "dense": plan_of(
        *block("stem", 8),
        *block("one", 4),
        layer("concat", "cat1", inputs=("stem_relu", "one_relu")),
        *block("two", 4, inputs=("cat1",)),
        layer("concat", "cat2", inputs=("cat1", "two_relu")),
        *block("last", 8, stride=2),
        *HEAD,
    ),
    "gated": plan_of(
        *block("stem", 8),
        layer("global_avg_pool", "squeeze"),
        layer("linear", "excite", out_channels=8),
        layer("activation", "squash", function="tanh"),
        layer("multiply", "gate", inputs=("stem_relu", "squash")),
        *block("last", 8),
        *HEAD,
    ),
}


@pytest.mark.parametrize("name", COSTED)
def test_every_byte_that_autograd_keeps_is_predicted(name):
    plan, batch = COSTED[name], 3
    predicted = training_memory(measure(plan), batch_size=batch, optimizer="adam")
    modules = build(plan)
    image = torch.randn(batch, plan.input_channels, *plan.input_size)
    kept = kept_by_torch(plan, modules, image)
    assert {part.name: part.activations for part in predicted.layers if part.activations} == kept
    assert predicted.activations == sum(kept.values())
    weights = sum(parameter.nbytes for parameter in modules.parameters())
    assert (predicted.parameters, predicted.gradients, predicted.optimizer_state) == (
        weights,
        weights,
        2 * weights,
    )
    assert predicted.total == 4 * weights + sum(kept.values())


@pytest.mark.parametrize("name", COSTED)
def test_parameters_multiplications_and_sizes_are_torch_s(name):
    plan = COSTED[name]
    modules = build(plan)
    with FlopCounterMode(display=False) as counter:
        maps = forward(plan, modules, torch.randn(1, plan.input_channels, *plan.input_size))
    figures = measure(plan)
    assert 2 * totals(figures).macs == counter.get_total_flops()
    assert totals(figures).params == sum(parameter.numel() for parameter in modules.parameters())
    for g in figures:
        assert g.params == sum(p.numel() for p in modules[g.name].parameters()) if g.name in modules else g.params == 0
        assert g.output_elements == maps[g.name].numel()
        assert maps[g.name].shape[1] == g.out_channels
        assert g.whole == (maps[g.name].ndim == 2) or g.kind == "adaptive_avg_pool"

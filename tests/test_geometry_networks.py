"""Whole networks, against figures that others published or measured."""

import itertools
import sys
from collections import Counter

import pytest

from stridelab.geometry import IMAGE, Layer, LayerPlan, compose, layer, measure, totals, training_memory


def conv(name, channels, kernel_size, stride=1, padding="half", inputs=(), **more):
    return layer(
        "conv",
        name,
        inputs=inputs,
        out_channels=channels,
        kernel_size=kernel_size,
        stride=stride,
        padding=padding,
        **more,
    )


def stem(kind):
    if kind == "imagenet":
        yield conv("stem", 64, 7, stride=2)
        yield layer("max_pool", "pool", kernel_size=3, stride=2, padding=1)
    else:
        yield conv("stem", 64, 3)


def basic_resnet(blocks, strides, kind="cifar"):
    """torchvision's ResNet-18 and -34: two 3x3 a block, a 1x1 projection where the shape changes."""
    layers = list(stem(kind))
    for stage, (count, first_stride) in enumerate(zip(blocks, strides, strict=True)):
        for index in range(count):
            name, stride, source = f"{stage}.{index}", first_stride if index == 0 else 1, layers[-1].name
            layers += [conv(f"{name}.a", 64 << stage, 3, stride), conv(f"{name}.b", 64 << stage, 3)]
            short = source
            if index == 0 and (stage or stride > 1):
                short = f"{name}.short"
                layers.append(conv(short, 64 << stage, 1, stride, inputs=(source,)))
            layers.append(layer("add", f"{name}.out", inputs=(f"{name}.b", short)))
    return [*layers, layer("global_avg_pool"), layer("linear", out_channels=10, bias=True)]


def bottleneck_resnet(blocks, *, strided):
    """1x1, 3x3, 1x1; `strided` is the unit of each stage that strides: torchvision's first, TF-slim's last."""
    layers = list(stem("imagenet"))
    if strided == "last":
        layers[-1] = layer("max_pool", "pool", kernel_size=3, stride=2, padding="same")
    for stage, count in enumerate(blocks):
        at = 0 if strided == "first" else count - 1
        steps = stage > 0 if strided == "first" else stage < len(blocks) - 1
        for index in range(count):
            name, source, stride = f"{stage}.{index}", layers[-1].name, 2 if steps and index == at else 1
            layers += [
                conv(f"{name}.a", 64 << stage, 1),
                conv(f"{name}.b", 64 << stage, 3, stride),
                conv(f"{name}.c", 256 << stage, 1),
                conv(f"{name}.short", 256 << stage, 1, stride, inputs=(source,)),
                layer("add", f"{name}.out", inputs=(f"{name}.c", f"{name}.short")),
            ]
    return layers


VGG_16 = [
    part
    for channels, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
    for part in [*(conv("", channels, 3) for _ in range(count)), layer("max_pool", kernel_size=2)]
]
ALEXNET_V2 = [
    conv("", 64, 11, 4, "valid"),
    layer("max_pool", kernel_size=3, stride=2),
    conv("", 192, 5, 1, "same"),
    layer("max_pool", kernel_size=3, stride=2),
    *(conv("", channels, 3, 1, "same") for channels in (384, 384, 256)),
    layer("max_pool", kernel_size=3, stride=2),
]


def mobilenet_v1():
    channels = 32
    yield conv("", channels, 3, 2, "same")
    for wider, stride in zip(
        (64, 128, 128, 256, 256, *[512] * 6, 1024, 1024), (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1), strict=True
    ):
        yield conv("", channels, 3, stride, "same", groups=channels)
        channels = wider
        yield conv("", channels, 1)


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (ALEXNET_V2, (195, 32, 64)),
        (VGG_16, (212, 32, 90)),
        (list(mobilenet_v1()), (315, 32, 126)),
        (bottleneck_resnet((3, 4, 6, 3), strided="last"), (483, 32, 239)),
        (bottleneck_resnet((3, 4, 23, 3), strided="last"), (1027, 32, 511)),
        (bottleneck_resnet((3, 8, 36, 3), strided="last"), (1507, 32, 751)),
    ],
    ids=["alexnet_v2", "vgg_16", "mobilenet_v1", "resnet_v1_50", "resnet_v1_101", "resnet_v1_152"],
)
def test_fields_published_with_the_distill_article(layers, expected):
    """google-research/receptive_field, README, commit 9e0227b: field, effective stride, effective padding."""
    last = compose(layers, input_size=224, input_channels=3)[-1]
    assert (last.receptive_field, last.effective_stride, last.effective_padding) == tuple((n, n) for n in expected)


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (basic_resnet((2, 2, 2, 2), (1, 2, 2, 2), "imagenet"), 435),
        (basic_resnet((3, 4, 6, 3), (1, 2, 2, 2), "imagenet"), 899),
        (bottleneck_resnet((3, 4, 6, 3), strided="first"), 427),
    ],
    ids=["resnet18", "resnet34", "resnet50"],
)
def test_fields_of_torchvision_s_residual_networks(layers, expected):
    figures = compose(layers, input_size=224, input_channels=3)
    assert totals(figures).last_map.receptive_field == (expected, expected)
    assert not any(one.misaligned for one in figures)


@pytest.mark.parametrize(
    ("strides", "jump", "field", "sides", "mega_macs"),
    [
        ((2, 2, 2), 8, 109, [32, 16, 8, 4], 555.4),
        ((2, 2, 3), 12, 133, [32, 16, 8, 3], 496.7),
        ((1, 3, 1), 3, 63, [32, 32, 11, 11], 1958.4),
        ((3, 1, 3), 9, 115, [32, 11, 11, 4], 604.2),
        ((3, 1, 2), 6, 97, [32, 11, 11, 6], 772.0),
        ((3, 2, 3), 18, 193, [32, 11, 6, 2], 325.3),
    ],
)
def test_the_six_networks_of_diffstride(strides, jump, field, sides, mega_macs):
    """Riad et al. 2022, table 1: a ResNet-18 on 32x32 images with the strides of its last three stages."""
    figures = compose(basic_resnet((2, 2, 2, 2), (1, *strides)), input_size=32, input_channels=3)
    last = totals(figures).last_map
    assert (last.effective_stride, last.receptive_field) == ((jump, jump), (field, field))
    ends = {g.name: g.output_size[0] for g in figures if g.name.endswith(".1.out")}
    assert list(ends.values()) == sides
    assert totals(figures).macs / 1e6 == pytest.approx(mega_macs, abs=0.05)
    assert not any(one.misaligned for one in figures)


def test_most_of_resnet18_cannot_add_context_on_cifar():
    """13 of its 16 3x3 convolutions, behind the ImageNet stem, have an input that already sees more than 32 px."""
    figures = compose(basic_resnet((2, 2, 2, 2), (1, 2, 2, 2), "imagenet"), input_size=32, input_channels=3)
    blocks = [g for g in figures if g.kernel_size == (3, 3) and g.kind == "conv"]
    assert [g.unproductive for g in blocks] == [False] * 3 + [True] * 13
    at_stages = [
        g
        for g in compose(basic_resnet((2, 2, 2, 2), (1, 2, 2, 2)), input_size=32, input_channels=3)
        if g.name.endswith("1.out")
    ]
    assert [g.receptive_field[0] for g in at_stages] == [11, 25, 53, 109]


def test_macs_of_mobilenet_are_half_its_published_flops():
    figures = compose(mobilenet_v1(), input_size=224, input_channels=3)
    assert 2 * totals(figures).macs / 1e9 == pytest.approx(1.14, abs=0.01)


def small(strides, head):
    convs = [conv("", 32 << i, 3, s, bias=True) for i, s in enumerate(strides)]
    return compose([*convs, layer(head), layer("linear", out_channels=10, bias=True)], input_size=28)


@pytest.mark.parametrize(
    ("strides", "flattened"), [((1, 1, 1), 1096202), ((1, 1, 2), 343562), ((1, 2, 2), 155402), ((2, 2, 2), 113162)]
)
def test_strides_leave_parameters_alone_but_for_a_flatten_head(strides, flattened):
    assert totals(small(strides, "global_avg_pool")).params == 93962
    assert totals(small(strides, "flatten")).params == flattened


@pytest.mark.parametrize(
    ("strides", "mega_macs"),
    [
        ((1, 1, 1), 72.48),
        ((1, 1, 2), 29.13),
        ((1, 2, 1), 18.29),
        ((2, 1, 1), 18.12),
        ((2, 2, 2), 2.14),
        ((3, 3, 3), 0.62),
    ],
)
def test_macs_by_stride(strides, mega_macs):
    assert totals(small(strides, "global_avg_pool")).macs / 1e6 == pytest.approx(mega_macs, abs=0.005)


def test_a_dilated_convolution_s_first_centre():
    [alone] = compose([layer("conv", kernel_size=3, dilation=2)], input_size=9)
    assert alone.center == (2.0, 2.0)


def test_centres_and_regions_step_by_the_jump():
    last = compose(VGG_16, input_size=224)[-1]
    assert last.center == (15.5, 15.5)
    assert last.region == ((-90, 121), (-90, 121))
    assert last.region_of((1, 6)) == ((-58, 153), (102, 313))


def test_shortcuts_are_misaligned_by_same_padding_but_not_by_half():
    def block(padding):
        return compose(
            [
                conv("main", 4, 3, 2, padding, inputs=(IMAGE,)),
                conv("short", 4, 1, 2, inputs=(IMAGE,)),
                layer("add", "sum", inputs=("main", "short")),
            ],
            input_size=32,
        )[-1]

    assert not block("half").misaligned
    assert block("same").misaligned
    assert block("same").receptive_field == (3, 3)


def test_heads_of_several_scales_are_not_called_misaligned():
    layers = [
        conv("fine", 4, 3, 2),
        conv("coarse", 4, 3, 2),
        layer("global_avg_pool", "a", inputs=("fine",)),
        layer("global_avg_pool", "b", inputs=("coarse",)),
        layer("concat", "both", inputs=("a", "b")),
    ]
    both = compose(layers, input_size=32)[-1]
    assert (both.out_channels, both.whole, both.misaligned) == (8, True, False)


def test_a_gate_leaves_the_local_figures_and_says_so():
    layers = [
        conv("map", 4, 3, padding="half"),
        layer("global_avg_pool", "squeeze"),
        layer("multiply", "gate", inputs=("map", "squeeze")),
        conv("next", 4, 3),
    ]
    before, _, gate, after = compose(layers, input_size=8)
    assert (before.gated, gate.gated, after.gated) == (False, True, True)
    assert gate.receptive_field == before.receptive_field
    assert (gate.whole, gate.output_size) == (False, (8, 8))


def test_behind_an_opaque_layer_sizes_and_costs_go_on_but_fields_do_not():
    layers = [
        conv("seen", 4, 3),
        layer("opaque", "mystery", output_size=(5, 6), out_channels=7),
        conv("after", 2, 3, 2),
        layer("flatten"),
        layer("linear", out_channels=3),
    ]
    figures = compose(layers, input_size=12)
    _, mystery, after, *_ = figures
    assert (mystery.params, mystery.macs, mystery.activation_bytes) == (None, None, None)
    assert (after.input_size, after.output_size, after.params) == ((5, 6), (3, 3), 126)
    assert after.receptive_field is after.region is after.padding_share is after.unproductive is None
    whole = totals(figures)
    assert (whole.params, whole.macs, whole.last_map.name) == (None, None, "after")
    memory = training_memory(figures, batch_size=2)
    assert memory.total is memory.activations is memory.layers[1].total is None
    assert memory.layers[2].total is not None


def test_what_a_layer_is_known_to_hold_goes_before_the_rule_of_its_kind():
    frozen = Layer("bn", "norm", params=0)
    assert compose([frozen], input_size=4)[0].params == 0


@pytest.mark.parametrize(("size", "asked", "known"), [(12, 4, True), (13, 4, False), (3, 7, False), (7, 7, True)])
def test_adaptive_bins_have_a_field_only_when_all_alike(size, asked, known):
    pool = layer("adaptive_avg_pool", output_size=(asked, asked))
    [figure] = compose([pool], input_size=size)
    assert figure.output_size == (asked, asked)
    assert (figure.receptive_field is not None) == known
    if known:
        assert figure.receptive_field == figure.effective_stride == (size // asked, size // asked)


# --- what is refused ---


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            [conv("", 1, 3, 2, 0), conv("deep", 1, 5, 1, 0)],
            r"layer 'deep' \(conv\) on a map of 3x3: a window of 5 .* nothing is left",
        ),
        ([layer("convv")], r"'convv' is not a kind of layer; choose one of activation, .*conv, "),
        ([conv("", 4, 3, padding_mode="mirror")], r"'mirror' is not a padding_mode; choose one of zeros, reflect"),
        ([conv("", 4, 3, groups=3)], r"groups=3 must divide its 1 input and 4 output channels"),
        ([conv("", 4, 3, groups=0)], r"groups=0 must divide"),
        ([conv("", 0, 3)], r"out_channels=0 is not allowed"),
        ([layer("linear", out_channels=2)], r"a linear layer reads a vector.*flatten before it"),
        ([layer("adaptive_avg_pool")], r"adaptive_avg_pool needs its output_size"),
        ([layer("adaptive_avg_pool", output_size=(0, 2))], r"output_size=0 is not allowed"),
        ([layer("opaque")], r"opaque layer needs its output_size and out_channels"),
        ([layer("activation", function="swish")], r"no activation is called 'swish'; choose one of relu, "),
        ([layer("norm", function="spectral")], r"no norm is called 'spectral'; choose one of batch, "),
        ([layer("max_pool", kernel_size=3, padding=2)], r"half the kernel at most"),
        ([conv("a", 1, 3), layer("norm", inputs=(IMAGE, "a"))], r"it reads one map, not 2"),
        ([conv("a", 1, 3, 2), layer("add", inputs=(IMAGE, "a"))], r"of one size, not 1x7x7 and 1x4x4"),
        ([conv("a", 1, 3, 2), layer("concat", inputs=(IMAGE, "a"))], r"concat needs maps of one size"),
        ([conv("a", 1, 3), layer("add", inputs=("b",))], r"layer 'add1' reads 'b', but no layer before it"),
        ([conv("a", 1, 3), conv("a", 1, 3)], r"layer name 'a' is used twice"),
        ([conv(IMAGE, 1, 3)], r"layer name 'image' is used twice"),
    ],
)
def test_impossible_networks_are_refused_with_the_reason(layers, message):
    with pytest.raises(ValueError, match=message):
        compose(layers, input_size=7)


def test_an_unknown_optimizer_is_refused_with_the_choices():
    with pytest.raises(ValueError, match="optimizer='lion' is not known; choose one of adam, sgd, sgd_momentum"):
        training_memory([], batch_size=1, optimizer="lion")
    with pytest.raises(ValueError, match="batch_size=0 is not allowed"):
        training_memory([], batch_size=0)
    with pytest.raises(
        ValueError, match=r"layers must be those of a whole plan, .*: second reads first, which is not a"
    ):
        training_memory(compose([conv("first", 1, 3), conv("second", 1, 3)], input_size=7)[1:], batch_size=1)
    for wrong in (0, (3, 3, 3), (3, 1.5), "3", None, True):
        with pytest.raises(ValueError, match=r"kernel_size=.* is not allowed; it must be an integer"):
            layer("conv", kernel_size=wrong)
        with pytest.raises(ValueError, match=r"input_size=.* is not allowed"):
            compose([], input_size=wrong)


# --- plans ---


def test_a_plan_fills_in_names_and_inputs():
    plan = LayerPlan(1, (7, 7), (layer("conv", kernel_size=3), layer("conv", "mine"), layer("norm"), layer("conv")))
    assert [(each.name, each.inputs) for each in plan.layers] == [
        ("conv1", (IMAGE,)),
        ("mine", ("conv1",)),
        ("norm1", ("mine",)),
        ("conv3", ("norm1",)),
    ]
    assert LayerPlan(1, (7, 7), plan.layers) == plan


def test_a_small_network_is_measured_in_few_calls_whatever_its_strides():
    def plan(strides):
        blocks = [[conv("", 32 << i, 3, s, "same"), layer("norm"), layer("activation")] for i, s in enumerate(strides)]
        return LayerPlan(
            1, (28, 28), (*itertools.chain(*blocks), layer("global_avg_pool"), layer("linear", out_channels=10))
        )

    plans = [plan(strides) for strides in itertools.product(range(1, 6), repeat=3)]
    calls: Counter[str] = Counter()
    sys.setprofile(lambda frame, event, argument: calls.update([event]))
    try:
        for each in plans:
            measure(each)
    finally:
        sys.setprofile(None)
    assert calls["call"] / len(plans) < 1_000

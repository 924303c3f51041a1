"""Multiply-accumulates of any module against formulas worked out by hand, and PyTorch's counter where it is right."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, library, nn
from torch.utils.flop_counter import FlopCounterMode

from stridelab.geometry import IMAGE, compose, layer
from stridelab.models.trace import geometry_of
from stridelab.run import cost
from stridelab.training.memory import measured_saved_bytes


class Net(nn.Module):
    """Modules by name, and a function of them and of the images."""

    def __init__(self, function: Callable[[nn.Module, Tensor], Tensor], **modules: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, images: Tensor) -> Tensor:
        return self.function(self, images)


def tokens(images: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, H * W, C)."""
    return images.flatten(2).transpose(1, 2)


def attend(**options: object) -> Net:
    return Net(
        lambda net, x: net.attention(*[tokens(net.patches(x))] * 3, **options)[0],
        patches=nn.Conv2d(3, 64, 4, stride=4),
        attention=nn.MultiheadAttention(64, 4, batch_first=True),
    )


def recurrent(module: nn.Module) -> Net:
    """Rows of 32 pixels, 32 of them, as a sequence."""
    return Net(lambda net, x: net.module(x[:, 0].transpose(0, 1))[0], module=module)


def lstm_head() -> Net:
    return Net(
        lambda net, x: net.lstm(net.conv(x).permute(2, 0, 1, 3).flatten(2))[0],
        conv=nn.Conv2d(1, 8, 3),
        lstm=nn.LSTM(240, 5),
    )


PATCHES, PROJECTIONS = 48 * 64 * 64, 4 * 64 * 64 * 64
CASES: dict[str, tuple[Callable[[], nn.Module], int, int]] = {
    "attention": (attend, 3, 1_769_472),
    "attention without weights": (lambda: attend(need_weights=False), 3, PATCHES + PROJECTIONS + 2 * 64 * 64 * 64),
    "encoder layer": (
        lambda: Net(
            lambda net, x: net.encoder(tokens(net.patches(x))),
            patches=nn.Conv2d(3, 64, 4, stride=4),
            encoder=nn.TransformerEncoderLayer(64, 4, dim_feedforward=128, batch_first=True),
        ),
        3,
        1_769_472 + 2 * 64 * 64 * 128,
    ),
    "causal attention to fewer and wider values": (
        lambda: Net(
            lambda net, x: F.scaled_dot_product_attention(
                x, x[:, :, ::2], net.wide(x)[:, :, ::2], is_causal=True, enable_gqa=False
            ),
            wide=nn.Linear(32, 48, bias=False),
        ),
        3,
        3 * 32 * 32 * 48 + 3 * 32 * 16 * (32 + 48),
    ),
    "attention to fewer tokens, with a bias for keys and a row of zeros": (
        lambda: Net(
            lambda net, x: net.attention(tokens(x), *[tokens(x)[:, :16]] * 2)[0],
            attention=nn.MultiheadAttention(4, 2, add_bias_kv=True, add_zero_attn=True, batch_first=True),
        ),
        4,
        2 * 1024 * 16 + 2 * 16 * 16 + 2 * 1024 * 18 * 4,
    ),
    "four heads that share two of keys": (
        lambda: Net(lambda net, x: F.scaled_dot_product_attention(x, x[:, :2, ::2], x[:, :2, ::2], enable_gqa=True)),
        4,
        4 * 32 * 16 * 64,
    ),
    "LSTM head": (lstm_head, 1, 211_800),
    "two layers, both ways": (
        lambda: recurrent(nn.LSTM(32, 5, num_layers=2, bidirectional=True)),
        1,
        32 * (2 * 20 * (32 + 5) + 2 * 20 * (10 + 5)),
    ),
    "projected LSTM": (lambda: recurrent(nn.LSTM(32, 6, proj_size=4)), 1, 32 * (24 * (32 + 4) + 4 * 6)),
    "GRU": (lambda: recurrent(nn.GRU(32, 7, num_layers=2)), 1, 32 * (21 * (32 + 7) + 21 * (7 + 7))),
    "RNN": (lambda: recurrent(nn.RNN(32, 7, bidirectional=True)), 1, 32 * 2 * 7 * (32 + 7)),
    "LSTM cell": (
        lambda: Net(lambda net, x: net.cell(x[:, 0, 0])[0], cell=nn.LSTMCell(32, 5)),
        1,
        20 * (32 + 5),
    ),
    "deformable": (
        lambda: Net(
            lambda net, x: net.deform(x, net.offset(x)),
            offset=nn.Conv2d(4, 18, 3, padding=1),
            deform=torchvision.ops.DeformConv2d(4, 8, 3, padding=1),
        ),
        4,
        32 * 32 * 9 * 4 * (18 + 8),
    ),
    "deformable, strided and grouped, with a mask": (
        lambda: Net(
            lambda net, x: net.deform(x, net.offset(x), net.mask(x)),
            offset=nn.Conv2d(4, 18, 1, stride=2),
            mask=nn.Conv2d(4, 9, 1, stride=2),
            deform=torchvision.ops.DeformConv2d(4, 8, 3, padding=1, stride=2, groups=2),
        ),
        4,
        16 * 16 * (4 * 27 + 9 * 2 * 8),
    ),
    "bmm": (lambda: Net(lambda net, x: torch.bmm(x[:, 0], x[:, 1].mT)), 2, 32**3),
    "matmul of maps": (lambda: Net(lambda net, x: x @ x.mT), 2, 2 * 32**3),
    "einsum": (lambda: Net(lambda net, x: torch.einsum("nchw,ndhw->ncd", x, x)), 6, 36 * 32 * 32),
    "baddbmm": (lambda: Net(lambda net, x: torch.baddbmm(x[:, 0], x[:, 0], x[:, 1])), 2, 32**3),
    "addmm with a functional linear layer": (
        lambda: Net(
            lambda net, x: torch.addmm(net.one.bias, F.linear(x.flatten(1), net.one.weight), net.one.weight[:, :9]),
            one=nn.Linear(1024, 9),
        ),
        1,
        1024 * 9 + 9 * 9,
    ),
    "transposed": (lambda: nn.ConvTranspose2d(4, 6, 3, stride=2), 4, 32 * 32 * 9 * 4 * 6),
    "transposed and grouped": (lambda: nn.ConvTranspose2d(4, 6, 3, groups=2), 4, 32 * 32 * 9 * 4 * 3),
    "grouped": (lambda: nn.Conv2d(4, 6, 3, groups=2, padding=1), 4, 32 * 32 * 9 * 2 * 6),
    "a bag of rows": (
        lambda: Net(lambda net, x: net.bag((x[:, 0, 0] > 0).long()), bag=nn.EmbeddingBag(2, 5, mode="sum")),
        1,
        0,
    ),
    "a weighted bag": (
        lambda: Net(
            lambda net, x: net.bag((x[:, 0, 0] > 0).long(), per_sample_weights=x[:, 0, 1]),
            bag=nn.EmbeddingBag(2, 5, mode="sum"),
        ),
        1,
        32 * 5,
    ),
    "weights made once a pass": (
        lambda: Net(
            lambda net, x: F.conv2d(x, (net.low.weight @ net.high.weight).view(10, 4, 3, 3)),
            low=nn.Linear(2, 10, bias=False),
            high=nn.Linear(36, 2, bias=False),
        ),
        4,
        10 * 2 * 36 + 30 * 30 * 10 * 36,
    ),
    "101 classes, embedded once a pass": (
        lambda: Net(
            lambda net, x: F.linear(x.mean((2, 3)), net.project(net.classes.weight)),
            classes=nn.Embedding(101, 16),
            project=nn.Linear(16, 4),
        ),
        4,
        101 * 16 * 4 + 101 * 4,
    ),
}


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("name", CASES)
def test_macs_are_those_worked_out_by_hand(name: str, mode: str) -> None:
    make, channels, right = CASES[name]
    geometry = geometry_of(make().train(mode == "train"), 32, input_channels=channels)
    assert geometry.totals.macs == right


@pytest.mark.parametrize("name", ["attention without weights", "encoder layer", "transposed", "matmul of maps"])
def test_macs_are_those_of_pytorch_s_counter_where_no_fused_kernel_hides_them(name: str) -> None:
    make, channels, right = CASES[name]
    with FlopCounterMode(display=False) as counter, torch.device("meta"):
        make()(torch.zeros(2, channels, 32, 32))
    assert counter.get_total_flops() == 4 * right


@pytest.mark.parametrize("name", ["swin_v2_t", "vit_b_16", "maxvit_t"])
def test_attention_networks_cost_what_pytorch_counts_on_meta(name: str) -> None:
    """Of one image, so that what is done once a pass is counted once: swin's position bias."""
    with torch.device("meta"):
        net = torchvision.models.get_model(name, weights=None).eval()
    with FlopCounterMode(display=False) as counter, torch.device("meta"):
        net(torch.zeros(1, 3, 224, 224))
    assert geometry_of(net, 224).totals.macs == counter.get_total_flops() // 2
    if name == "swin_v2_t":
        assert counter.get_total_flops() // 2 == 4_938_464_256


class InInferenceMode(nn.Sequential):
    @torch.inference_mode()
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images)


def test_inference_mode_hides_no_macs() -> None:
    layers = (nn.Conv2d(3, 5, 3), nn.ConvTranspose2d(5, 4, 2), nn.Flatten(), nn.Linear(4 * 7 * 7, 3))
    whole = geometry_of(nn.Sequential(*layers), 8).totals
    with torch.inference_mode():
        assert geometry_of(nn.Sequential(*layers), 8).totals == whole
        made = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5))
        assert geometry_of(made, 8).totals.macs == 6 * 6 * 5 * 27
    assert geometry_of(InInferenceMode(*layers), 8).totals.macs == whole.macs


@library.custom_op("stridelab_test::mystery", mutates_args=())
def mystery(images: Tensor) -> Tensor:
    return images * 2


@mystery.register_fake
def _(images: Tensor) -> Tensor:
    return torch.empty_like(images)


UNCOUNTED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "distances": (
        lambda: Net(lambda net, x: torch.cdist((maps := net.conv(x)), maps[:, :, :3]), conv=nn.Conv2d(3, 5, 3)),
        "_cdist_forward",
    ),
    "distances of many": (
        lambda: Net(lambda net, x: torch.cdist((rows := tokens(net.conv(x))), rows), conv=nn.Conv2d(3, 5, 3)),
        "_euclidean_dist",
    ),
    "an inverse": (lambda: Net(lambda net, x: torch.linalg.inv(net.conv(x)), conv=nn.Conv2d(3, 5, 3)), "linalg_inv"),
    "bilinear": (
        lambda: Net(lambda net, x: net.pair(net.conv(x)[..., 0, 0], net.conv(x)[..., 0, 1]), conv=nn.Conv2d(3, 5, 3),
                    pair=nn.Bilinear(5, 5, 2)),
        "_trilinear",
    ),
    "a Fourier transform": (
        lambda: Net(lambda net, x: torch.fft.fft2(net.conv(x)).abs(), conv=nn.Conv2d(3, 5, 3)),
        "_fft",
    ),
    "another library's operation": (lambda: Net(lambda net, x: mystery(net.conv(x)), conv=nn.Conv2d(3, 5, 3)),
                                    "mystery"),
    "images with images": (
        lambda: Net(lambda net, x: net.conv(x).flatten(1) @ net.conv(x).flatten(1).T, conv=nn.Conv2d(3, 5, 3)),
        "mm",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNCOUNTED)
def test_what_cannot_be_counted_is_none_and_the_sum_says_at_least(name: str) -> None:
    make, operation = UNCOUNTED[name]
    geometry = geometry_of(make(), 8)
    known = sum(one.macs or 0 for one in geometry)
    assert geometry.totals.macs is None
    assert (
        geometry.totals.macs_at_least == known == (2 if name in ("bilinear", "images with images") else 1) * 6**2 * 135
    )
    assert any(operation in reason for reason in geometry.uncounted.values())
    assert f"at least {known:,}" in str(geometry).splitlines()[-1]
    assert "not counted" in str(geometry)
    assert f"at least {known:,}" in geometry._repr_html_()


def test_a_run_logs_the_costs_of_its_last_map_and_none_that_it_cannot_know() -> None:
    """A residual block whose shortcut is listed last: 3x3 and 3x3 at stride 2 see 9 pixels, the shortcut alone 3."""
    block = [
        layer("conv", "stem", kernel_size=3, stride=1, padding=1, out_channels=4, inputs=(IMAGE,)),
        layer("conv", "first", kernel_size=3, stride=2, padding=1, out_channels=4),
        layer("conv", "second", kernel_size=3, padding=1, out_channels=4),
        layer("conv", "shortcut", stride=2, out_channels=4, inputs=("stem",)),
        layer("add", "sum", inputs=("second", "shortcut")),
        layer("global_avg_pool"),
        layer("linear", bias=True, out_channels=10),
    ]
    logged = cost(compose(block, input_size=28))
    assert (logged["cost/receptive_field_px"], logged["cost/effective_stride"]) == (9, 2)
    assert logged["cost/macs"] == 28**2 * 9 * 4 + 14**2 * (9 * 16 * 2 + 16) + 40
    askew = [
        layer("conv", "fine", kernel_size=3, padding=1, stride=2, inputs=(IMAGE,), out_channels=2),
        layer("conv", "coarse", kernel_size=3, padding=1, stride=4, inputs=(IMAGE,), out_channels=2),
        layer("conv", "coarser", kernel_size=2, stride=1, padding=[0, 1, 0, 1], inputs=("coarse",), out_channels=2),
        layer("max_pool", "halved", kernel_size=2, inputs=("fine",)),
        layer("add", inputs=("halved", "coarser")),
    ]
    assert cost(compose(askew, input_size=32))["cost/receptive_field_px"] == 7
    unequal = [
        layer("conv", "fine", kernel_size=29, inputs=(IMAGE,)),
        layer("conv", "coarse", kernel_size=1, stride=8, inputs=(IMAGE,)),
        layer("add", inputs=("fine", "coarse")),
    ]
    logged = cost(compose(unequal, input_size=32))
    assert set(logged) == {"cost/macs", "cost/params"}
    mysterious = [*unequal, layer("opaque", output_size=(4, 4), out_channels=1)]
    assert cost(compose(mysterious, input_size=32)) == {}
    assert json.loads(json.dumps([asdict(one) for one in compose(mysterious, input_size=32)]))[-1]["macs"] is None


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_what_a_recurrent_layer_keeps_is_counted_or_said_to_be_unknown(kind: type[nn.Module]) -> None:
    """oneDNN's LSTM keeps a workspace, whose size no tensor without numbers has."""
    module = recurrent(kind(32, 5))
    layers = geometry_of(module, 32, input_channels=1).layers
    kept = [layer.activation_bytes for layer in layers]
    found = measured_saved_bytes(module, (3, 1, 32, 32))
    known = 3 * sum(one or 0 for one in kept) + sum(layer.batch_bytes for layer in layers)
    assert (None in kept) == (kind is nn.LSTM)
    assert known < found if kind is nn.LSTM else known == found

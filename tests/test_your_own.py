"""Networks of torchvision and of a user's file, layers set by name, data sets of the user's, the Python API."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import stridelab
from stridelab.api import arguments_of
from stridelab.cli import reproduce
from stridelab.cli.train import start
from stridelab.config import expand, load
from stridelab.config.variants import variant_name, varying_keys
from stridelab.data import DATASETS, DataConfig
from stridelab.data.catalog.user import USER_DATASETS
from stridelab.geometry import measure, totals
from stridelab.models.build import build, load_weights
from stridelab.models.families import FAMILIES
from stridelab.models.surgery import change
from stridelab.models.user_family import USER_FAMILIES
from stridelab.plan import layer_plan_of
from stridelab.sweep.agenda import code_of
from stridelab.training.randomness import initialise

NETWORKS = {
    "resnet18": ("conv1.stride=1,2", 435),
    "resnet50": ("conv1.stride=1,2", 427),
    "vgg16": ("features.23.stride=1,2", 212),
    "mobilenet_v2": ("features.0.0.stride=1,2", 491),
    "mobilenet_v3_small": ("features.0.0.stride=1,2", 639),
    "efficientnet_b0": ("features.0.0.stride=1,2", 851),
    "densenet121": ("features.conv0.stride=1,2", 2071),
    "convnext_tiny": ("features.0.0.stride=2,4", 1688),
    "regnet_y_400mf": ("stem.0.stride=1,2", 575),
    "shufflenet_v2_x1_0": ("conv1.0.stride=1,2", 527),
    "googlenet": ("conv1.conv.stride=1,2", 379),
}
"""What is swept, the second stride the network's own; and its receptive field, that of large images."""
OFTEN = ("resnet18", "vgg16", "mobilenet_v3_small", "convnext_tiny", "shufflenet_v2_x1_0")
DOCUMENT = Path(__file__).parents[1] / "docs" / "your-own.md"


@pytest.fixture(autouse=True)
def _registries() -> Iterator[None]:
    """As they were, after each test."""
    before = [(one, dict(one)) for one in (FAMILIES, USER_FAMILIES, DATASETS, USER_DATASETS)]
    yield
    for one, content in before:
        one.clear()
        one.update(content)


def plan_of(*words: str) -> Any:
    return layer_plan_of(load(["model=torchvision", "data=cifar10", *words]))


@pytest.mark.parametrize(
    "name", [name if name in OFTEN else pytest.param(name, marks=pytest.mark.faults) for name in NETWORKS]
)
def test_a_network_of_torchvision_is_planned_at_two_strides_and_takes_a_step(name: str) -> None:
    """Its grids are those of large images, its parameters those of the module and the same for both strides."""
    swept, field = NETWORKS[name]
    key, _, strides = swept.partition("=")
    plans = [plan_of(f"model.name={name}", f"model.set.{key}={stride}") for stride in strides.split(",")]
    layers = [measure(plan) for plan in plans]
    smaller, larger = (
        next(one for one in reversed(found) if one.effective_stride and not one.whole) for found in layers
    )
    assert (smaller.name, smaller.effective_stride) == (larger.name, (16, 16))
    assert (larger.effective_stride, larger.receptive_field) == ((32, 32), (field, field))
    network = build(plans[1])
    assert {totals(found).params for found in layers} == {sum(weights.numel() for weights in network.parameters())}
    before = (last := list(network.parameters())[-1]).detach().clone()
    nn.functional.cross_entropy(network(torch.randn(2, 3, 32, 32)), torch.arange(2)).backward()
    torch.optim.SGD(network.parameters(), lr=0.1).step()
    assert torch.isfinite(last).all()
    assert not torch.equal(last, before)


def test_a_shortcut_follows_its_block_and_says_so() -> None:
    plan = plan_of("model.set.layer4.0.conv1.stride=1")
    assert plan.notes == ("layer4.0.downsample.0.stride: 2 to 1, as its block",)
    assert build(plan).layer4[0].downsample[0].stride == (1, 1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["model.set.layr4.0.conv1.stride=1"],
            "no layer is called layr4.0.conv1; the nearest names are layer4.0",
        ),
        (["model.set.fc.stride=1"], "fc is a Linear, which has no stride"),
        (
            ["model.set.layer2.0.stride=1"],
            "BasicBlock, which has no stride; layers inside it that have one",
        ),
        (["model.set.fc=identity"], "variants would differ in more than stride and padding"),
        (["model.set.conv1.stride=0"], "model.set.conv1.stride=0 is not allowed"),
        (["model.set.conv1.padding=same"], "must be a whole number, .height, width., half or valid"),
        (["model.set={layer*.0.conv1.stride: 1, layer2.?.conv1.stride: 2}"], "two values"),
        (
            ["model.set.layer2.1.conv1.stride=2"],
            "layer2.1's input on 4 and layer2.1.bn2 on 2; change layer2.1.conv",
        ),
        (["model.name=resnet19"], "not a classifier of torchvision; the nearest names are resnet18"),
        (["model.output_stride=7"], "goes from an effective stride of 4 to 8"),
        (["model.output_stride=64"], "strides are traded for dilation, not made"),
        (["model.weights=nowhere.pth"], "is not a file; nothing is downloaded"),
        (
            ["model.set={layer4.0.conv1.stride: 1, layer4.0.downsample.0.stride: 2}"],  # PyTorch would broadcast
            "branches of layer4.0 end on different grids: layer4.0.bn2 on 2 and layer4.0.downsample.1 on 1",
        ),
        (
            ["model.name=vgg16", "data=mnist"],
            "layer 'features.30' cannot run on a 28x28 image: .*; it runs on images of 32x32 .data.size=32 of",
        ),
    ],
)
def test_what_cannot_be_set_is_one_error_before_anything_is_made(words: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        plan_of(*words)


class Block(nn.Module):
    def __init__(self, main: list[nn.Module], **others: nn.Module) -> None:
        super().__init__()
        self.main = nn.Sequential(*main)
        for name, module in others.items():
            self.add_module(name, module)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if hasattr(self, "proj"):
            return self.proj(self.main(images))
        return self.main(images) + self.downsample(images)


def test_a_shortcut_follows_by_its_pool_too_and_what_is_none_stays() -> None:
    """timm's ResNets halve by an average pool ahead of a 1x1 convolution."""
    shortcut = nn.Sequential(nn.AvgPool2d(2, 2, ceil_mode=True), nn.Conv2d(2, 4, 1))
    block = Block([nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, stride=2, padding=1)], downsample=shortcut)
    images = torch.randn(1, 2, 9, 9)
    for stride, side in ((1, 9), (3, 3)):
        made = stridelab.set_strides(nn.Sequential(block), {"0.main.1.stride": stride})
        assert made(images).shape[2:] == (side, side)
    stem = Block([nn.Conv2d(2, 4, 3, padding=1)], proj=nn.Conv2d(4, 4, 1))
    made = stridelab.set_strides(nn.Sequential(stem), {"0.main.0.stride": 2})
    assert made[0].proj.stride == (1, 1)


def test_a_lower_output_stride_keeps_receptive_field_and_responses() -> None:
    """A dilated network computes on its dense grid, among others, what the strided one computes."""
    net = nn.Sequential(*(nn.Conv2d(2, 2, 3, stride=2, padding=1) for _ in range(3)), nn.Conv2d(2, 2, 3, padding=1))
    dense = stridelab.set_strides(net, {}, output_stride=2)
    assert [layer.dilation for layer in dense] == [(1, 1), (1, 1), (2, 2), (4, 4)]
    images = torch.randn(1, 2, 32, 32)
    torch.testing.assert_close(dense(images)[:, :, ::4, ::4], net(images))
    fields = [stridelab.geometry_of(one, 64)[-1].receptive_field for one in (net, dense)]
    assert fields[0] == fields[1]
    assert [layer.stride for layer in net][:3] == [(2, 2)] * 3


class Repeated(nn.Module):
    """A convolution that is called several times, or a pool that is a function."""

    def __init__(self, *, times: int) -> None:
        super().__init__()
        self.first, self.again = nn.Conv2d(2, 2, 3, stride=2, padding=1), nn.Conv2d(2, 2, 3, stride=2, padding=1)
        self.times = times

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.first(images)
        for _ in range(self.times):
            maps = self.again(maps)
        return maps if self.times > 1 else torch.nn.functional.max_pool2d(maps, 2)


@pytest.mark.parametrize(("times", "layer"), [(2, "again_2"), (1, "max_pool2d")])
def test_an_output_stride_that_cannot_be_kept_is_refused(times: int, layer: str) -> None:
    """Of the image's 32 pixels a side the last map has 4; with half the output stride it would have to have 8."""
    net = Repeated(times=times)
    assert net(torch.zeros(1, 2, 32, 32)).shape[2:] == (4, 4)
    assert stridelab.set_strides(net, {}, output_stride=8)(torch.zeros(1, 2, 32, 32)).shape[2:] == (4, 4)
    with pytest.raises(
        ValueError, match=rf"output_stride=4: {layer} would have an effective stride of 8 and .* not .* 4"
    ):
        stridelab.set_strides(net, {}, output_stride=4)


@pytest.mark.parametrize("order", [1, -1])
def test_half_a_padding_is_that_of_what_is_set_beside_it(order: int) -> None:
    """In any order of the keys, and where a pattern sets one and a name the other."""
    images = torch.zeros(1, 3, 9, 9)
    for settings in ({"0.padding": "half", "0.dilation": 2}, {"*.padding": "half", "0.dilation": 3}):
        words = dict(list(settings.items())[::order])
        assert stridelab.set_strides(nn.Sequential(nn.Conv2d(3, 4, 3)), words)(images).shape[2:] == (9, 9)
    net = nn.Sequential(nn.Conv2d(3, 4, 3))
    change(net, dict([("*.padding", "half"), ("0.kernel_size", 7)][::order]))
    assert net[0].padding == (3, 3)


def test_layers_of_one_axis_or_three_have_no_height_and_width_to_set() -> None:
    net = nn.Sequential(nn.Conv1d(3, 4, 3), nn.MaxPool3d(2))
    for key in ("0.stride", "0.padding", "1"):
        with pytest.raises(ValueError, match=r"is a (Conv1d|MaxPool3d), which has no height and width to set"):
            stridelab.set_strides(net, {key: 2})


class SameConv(nn.Conv2d):
    """As timm's Conv2dSame: TensorFlow's pads, whatever `padding` says."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        (height, width), (down, right) = images.shape[2:], self.stride
        rows, columns = (max(0, (-(-n // s) - 1) * s + 3 - n) for n, s in ((height, down), (width, right)))
        padded = nn.functional.pad(images, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
        return nn.functional.conv2d(padded, self.weight, self.bias, self.stride)


def test_a_padding_that_a_layer_does_not_read_is_refused() -> None:
    net = nn.Sequential(SameConv(3, 4, 3, stride=2), nn.MaxPool2d(3, 2, ceil_mode=True), nn.AvgPool2d(3, 2))
    for padding in ("valid", "half", 2):
        with pytest.raises(
            ValueError, match=r"model\.set\.0\.padding: 0 is a SameConv, which pads by a rule of its own"
        ):
            stridelab.set_strides(net, {"0.padding": padding})
    assert stridelab.set_strides(net, {"1.padding": 1, "2.padding": "half"})[2].padding == (1, 1)
    plan = stridelab.geometry_of(stridelab.set_strides(net, {"0.stride": 1}), 9).plan
    assert [(one.name, one.padding) for one in plan.layers][:1] == [("0", ("same", "same"))]


def test_set_strides_copies_the_module_and_keeps_its_weights() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding_mode="circular", padding=1), nn.MaxPool2d(2))
    made = stridelab.set_strides(net, {"0.stride": "1x2", "0.padding": 0, "1": "identity"})
    assert (net[0].stride, made[0].stride, type(made[1])) == ((2, 2), (1, 2), nn.Identity)
    assert torch.equal(net[0].weight, made[0].weight)
    assert made(torch.zeros(1, 3, 8, 8)).shape[2:] == (6, 3)
    with pytest.raises(ValueError, match="its weights are 3, and a copy keeps them"):
        stridelab.set_strides(net, {"0.kernel_size": 5})


def test_variants_are_called_after_the_layers_that_are_set() -> None:
    for words in (["model.set={conv1.stride: 1},{conv1.stride: 2}"], ["model.set.conv1.stride=1,2"]):
        configs = [job.config for job in expand(["model=torchvision", *words]) if job.config]
        keys = varying_keys(configs)
        assert [variant_name(config, keys) for config in configs] == ["conv1.stride=1", "conv1.stride=2"]
    (globbed,) = expand(["model=torchvision", "model.set.layer*.0.conv1.stride=1", "model.set={maxpool: identity}"])
    assert globbed.config is not None
    assert globbed.config.model.set == {"layer*.0.conv1.stride": 1, "maxpool": "identity"}  # type: ignore[attr-defined]


def test_weights_of_a_file_are_those_that_every_variant_starts_from(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    from torchvision.models import mobilenet_v3_small  # type: ignore[import-untyped]

    torch.manual_seed(0)
    saved = mobilenet_v3_small(num_classes=7).state_dict()
    torch.save({"state_dict": saved}, path)
    words = ["model.name=mobilenet_v3_small", f"model.weights={path}", "data=mnist"]
    plan = plan_of(*words)
    network = build(plan)
    initialise(network, seed=0)
    said = load_weights(network, plan)
    assert plan.notes == said
    assert [one.partition(":")[0] for one in said] == ["features.0.0.weight", "classifier.3"]
    first = "features.0.0.weight"
    torch.testing.assert_close(network.state_dict()[first], saved[first].sum(1, keepdim=True))
    assert torch.equal(network.state_dict()["classifier.0.weight"], saved["classifier.0.weight"])
    with pytest.raises(ValueError, match="is of another network: it lacks"):
        plan_of("model.name=resnet18", f"model.weights={path}")
    broken = tmp_path / "broken.pth"
    for content in (b"no weights", b"hello", b"", b"<html>", b"\x80\x02.", path.read_bytes()[:999]):
        broken.write_bytes(content)
        with pytest.raises(ValueError, match="is no file of weights alone"):
            plan_of(f"model.weights={broken}")
    os.mkfifo(tmp_path / "pipe.pth")
    with pytest.raises(ValueError, match="is not a file; nothing is downloaded"):
        plan_of(f"model.weights={tmp_path / 'pipe.pth'}")


def test_weights_of_a_safetensors_file_fit_to_the_bit(tmp_path: Path) -> None:
    save_file = pytest.importorskip("safetensors.torch", reason="an extra: pip install safetensors").save_file
    words = ["model.name=mobilenet_v3_small", f"model.weights={tmp_path / 'weights.safetensors'}"]
    saved = build(plan_of(words[0])).state_dict()
    save_file(saved, tmp_path / "weights.safetensors")
    network = build(plan := plan_of(*words))
    initialise(network, seed=0)
    assert load_weights(network, plan) == ()
    assert all(torch.equal(tensor, saved[name]) for name, tensor in network.state_dict().items())
    save_file({"a": torch.zeros(1)}, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match="is of another network: it lacks"):
        plan_of(words[1], "model.name=resnet18")


def test_a_network_of_timm_is_set_like_one_of_torchvision() -> None:
    pytest.importorskip("timm", reason="an extra: pip install timm")
    words = ["model=timm", "data=mnist", "model.name=resnet10t", "model.set.layer2.0.conv1.stride=1"]
    plan = layer_plan_of(load(words))
    assert plan.notes == ("layer2.0.downsample.0.stride: 2 to 1, as its block",)
    assert (last := totals(measure(plan)).last_map) is not None
    assert last.effective_stride == (16, 16)
    network = build(plan)
    initialise(network, seed=0)
    nn.functional.cross_entropy(network(torch.randn(2, 1, 28, 28)), torch.arange(2)).backward()
    assert all(torch.isfinite(weights.grad).all() for weights in network.parameters())
    with pytest.raises(ValueError, match=r"model.name='resnet10' is not a network of timm; the nearest names are resn"):
        layer_plan_of(load([*words, "model.name=resnet10"]))


def test_what_needs_an_extra_says_which(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for module in ("models.families.timm", "models.weights", "api"):
        monkeypatch.setattr(import_module(f"stridelab.{module}"), "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"model=timm needs the package timm: pip install timm .or stridelab.timm.."):
        load(["model=timm"])
    (tmp_path / "a.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="needs the package safetensors: pip install safetensors"):
        plan_of(f"model.weights={tmp_path / 'a.safetensors'}")
    with pytest.raises(ValueError, match="needs the package xarray: pip install xarray"):
        stridelab.Sweep("any", None, tmp_path).to_xarray()  # type: ignore[arg-type]


def test_arguments_of_a_function_are_typed_keys_of_its_family() -> None:
    @stridelab.family("tiny")
    def tiny(*, in_channels: int, num_classes: int, width: int = 4, tags: tuple[str, ...] = ("a",)) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(in_channels, width, 3, stride=2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(width, num_classes),
        )

    config = load(["model=tiny", "model.width=6", "model.set.0.stride=1"])
    assert build(layer_plan_of(config))[0].weight.shape == (6, 1, 3, 3)  # type: ignore[index]
    assert code_of(config) != code_of(load([]))
    with pytest.raises(ValueError, match=r"model.width=x: a whole number is expected"):
        load(["model=tiny", "model.width=x"])
    with pytest.raises(ValueError, match=r"model.depth is not a key of model.family=tiny"):
        load(["model=tiny", "model.depth=2"])
    with pytest.raises(ValueError, match=r"the family 'cnn' of .* is taken"):
        stridelab.family("cnn")(tiny)
    with pytest.raises(
        ValueError, match=r"the family 'tiny' of test_your_own.py is taken by .*tiny of test_your_own.py"
    ):
        stridelab.family("tiny")(lambda num_classes: None)
    with pytest.raises(ValueError, match=r"the argument 'depth' of .*needy needs a default"):

        @stridelab.family("needy")
        def needy(*, in_channels: int, depth: int) -> nn.Module:
            raise NotImplementedError


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (KeyError("x"), r"raised KeyError: 'x' \(test_your_own.py, line \d+\)"),
        (3, "returned a int, not an nn.Module"),
        (nn.Conv2d(1, 10, 3), r"returns \(images, 10, 26, 26\), not \(images, 10\)"),
        (nn.Sequential(nn.Flatten(), nn.Linear(784, 9)), r"returns \(images, 9\), not \(images, 10\)"),
        (nn.LSTM(28, 10), "returns a tuple|cannot run on a 28x28 image"),
    ],
)
def test_a_function_that_gives_no_classifier_is_one_error(returned: Any, said: str) -> None:
    @stridelab.family("wrong")
    def wrong(*, num_classes: int) -> Any:
        if isinstance(returned, Exception):
            raise returned
        return returned

    with pytest.raises(ValueError, match=said):
        layer_plan_of(load(["model=wrong"]))


IMAGES, LABELS = np.zeros((20, 6, 6), np.uint8), np.arange(20) % 2


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ((IMAGES / 255, LABELS), "training images of float64, from 0 to 0; expected are pixels of uint8"),
        ((IMAGES, np.where(LABELS, np.nan, 0.0)), "training labels that are no numbers: 10 are NaN or infinite"),
        ((IMAGES, LABELS, IMAGES, LABELS + 1), "a test label of 2, while training labels go from 0 to 1"),
        ((IMAGES, LABELS - 1), "a training label of -1; classes are counted from 0"),
        ((IMAGES, LABELS * 2), "no training image of class 1, while labels go to 2"),
        ((IMAGES[:0], LABELS[:0]), "no training image"),
        ((IMAGES, LABELS * 0), "training labels of one class; there is nothing to tell apart"),
        ((IMAGES, LABELS[:9]), r"20 training images, but labels of shape \[9\]"),
        ((IMAGES, LABELS, IMAGES[:, :5], LABELS), "training images of 6x6x1 and test images of 5x6x1"),
        (([(IMAGES[0], 0), (IMAGES[0, :4], 1)], [(IMAGES[0], 0)]), "images of 2 sizes"),
        (None, "returned a NoneType; expected are arrays"),
        (OSError("gone"), "raised OSError: gone"),
    ],
)
def test_what_is_no_data_set_is_one_error(returned: Any, said: str) -> None:
    @stridelab.dataset("odd")
    def odd() -> Any:
        if isinstance(returned, Exception):
            raise returned
        return returned

    with pytest.raises(ValueError, match=said):
        load(["data=odd"])


def test_a_torch_data_set_counts_as_one_of_arrays() -> None:
    from stridelab.data.load import load as load_data

    items = [(torch.full((3, 6, 6), index, dtype=torch.uint8), index % 2) for index in range(40)]
    stridelab.dataset("tensors")(lambda: (items, items[:10]))
    data = load_data(DataConfig(name="tensors", val_size=10))
    assert (data.spec.num_train, data.spec.num_test, data.spec.input_channels) == (30, 10, 3)
    assert data.test.images[3].unique().tolist() == [3]
    with pytest.raises(ValueError, match=r"the data set 'mnist' of .* is taken"):
        stridelab.dataset("mnist")(lambda: None)


def test_python_writes_the_arguments_that_a_person_types() -> None:
    keys = {"strides": ["1-2-2", (2, 2, 2)], "seeds": range(2), "train_size": None, "set": [{"conv1.stride": 1}]}
    typed = ["model.strides=1-2-2,[2,2,2]", "seed=0,1", "data.train_size=null", "model.set={conv1.stride: 1}"]
    assert arguments_of(keys) == typed
    assert arguments_of({"trainer": {"lr": [0.1, 0.2]}, "results": "a b"}) == [
        "trainer.lr=0.1,0.2",
        "paths.results_dir='a b'",
    ]


def test_the_sweep_of_python_is_that_of_the_command_line(tmp_path: Path) -> None:
    keys: dict[str, Any] = {
        "channels": (4,), "strides": [(1,), (2,)], "train_size": 100, "val_size": 100, "results": str(tmp_path),
        "trainer": {"max_epochs": 1}, "sweep": {"report": False}, "launcher": "in_process", "seeds": [0, 1],
    }  # fmt: skip
    made = stridelab.sweep(**keys)
    assert list(made.variants["variant"]) == ["strides=1", "strides=2"]
    assert len(made.runs) == 4
    assert made.compare(baseline="strides=2").baseline == "strides=2"
    again = stridelab.load_sweep(results=str(tmp_path))
    assert (again.name, list(again.runs["run_id"])) == (made.name, list(made.runs["run_id"]))
    if find_spec("xarray"):  # an extra: pip install xarray
        table = made.to_xarray()
        assert dict(table.sizes) == {"strides": 2, "seed": 2}
        first = made.runs.query("variant == 'strides=2' and seed == 1")["test/acc"].item()
        assert table["test/acc"].sel(strides="2", seed=1).item() == first
    planned = stridelab.plan(**{key: value for key, value in keys.items() if key in ("channels", "strides", "seeds")})
    assert list(planned["effective_stride_height"]) == [1, 2]


def test_the_document_takes_a_module_in_a_file_to_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its first file and its commands, from a folder of the user's, in processes of their own; then the run again; and
    here, where nobody has heard of that file."""
    text = DOCUMENT.read_text(encoding="utf-8")
    file = re.search(r"```python\n(.*?)```", text, re.S)
    commands = re.findall(r"^(python mine\.py .*)$", text, re.M)
    assert file is not None
    (tmp_path / "mine.py").write_text(file[1])
    small = ["data.train_size=100", "data.val_size=100", "trainer.max_epochs=1", "sweep.report=false"]
    for command in commands[:3]:
        words = [word.strip("'") for word in re.findall(r"'[^']*'|\S+", command)[2:]]
        more = small if "-m" in words else []
        done = subprocess.run(
            [sys.executable, "mine.py", *words, *more],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr + done.stdout
    assert "identical" in done.stdout
    monkeypatch.setattr("sys.argv", ["stridelab", f"paths.results_dir={tmp_path / 'results'}"])
    with pytest.raises(SystemExit) as ended:
        reproduce.main()
    assert ended.value.code == 1
    said = " ".join("".join(capsys.readouterr()).split())
    assert re.search(r"is of code that is not here \(mine.py [0-9a-f]+\): .* python mine.py reproduce run=...$", said)
    assert "Traceback" not in said


PACKAGE = {
    "pyproject.toml": """
        [build-system]
        requires = ["setuptools"]
        build-backend = "setuptools.build_meta"
        [project]
        name = "striped"
        version = "1.2"
        [project.entry-points."stridelab.families"]
        striped = "striped.nets"
        [project.entry-points."stridelab.datasets"]
        stripes = "striped.images"
        [tool.setuptools]
        packages = ["striped"]
        """,
    "striped/__init__.py": "",
    "striped/nets.py": """
        import stridelab
        from torch import nn

        @stridelab.family("striped")
        def striped(*, in_channels, num_classes, width: int = 2):
            layers = nn.Conv2d(in_channels, width, 3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
            return nn.Sequential(*layers, nn.Linear(width, num_classes))
        """,
    "striped/images.py": """
        import numpy as np
        import stridelab

        @stridelab.dataset("stripes")
        def stripes():
            return np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8), np.arange(60) % 2
        """,
}


def test_an_installed_package_offers_networks_and_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed without its dependencies; children train it, too."""
    for name, text in PACKAGE.items():
        (path := tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    install = [
        sys.executable,
        "-m",
        "uv",
        "pip",
        "install",
        "--quiet",
        "--offline",
        "--no-deps",
        "--no-build-isolation",
    ]
    where = ["--python", sys.executable, "--target", str(tmp_path / "site"), str(tmp_path / "source")]
    subprocess.run([*install, *where], check=True, capture_output=True)
    monkeypatch.syspath_prepend(tmp_path / "site")
    words = ["model=striped", "data=stripes", "model.set.0.stride=1,2", f"paths.results_dir={tmp_path}"]
    small = ["data.val_size=8", "trainer.max_epochs=1", "trainer.batch_size=16", "sweep.report=false", "plan=off"]
    configs = [job.config for job in expand([*words, *small]) if job.config]
    assert start(configs, multirun=True) == 0
    folders = [path.parent for path in tmp_path.glob("runs/*/result.json")]
    assert len(folders) == 2
    assert re.search(r"nets.py [0-9a-f]{64} striped 1.2", (folders[0] / "journal.jsonl").read_text())

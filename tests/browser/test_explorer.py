"""The explorer in a real browser: its arithmetic against Python, its networks against PyTorch, and its manners."""

from __future__ import annotations

import base64
import json
import math
import os
import pickle
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from shutil import which
from typing import Any
from urllib.parse import urlencode
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, Page, sync_playwright
from torch import nn

from layer_outputs import layer_outputs
from stridelab import set_strides
from stridelab.config import load
from stridelab.explorer.network_file import images_of, tensor_data, weights_of
from stridelab.explorer.page import PageImages, PageNetwork, explorer_page, layer_data, plan_data
from stridelab.geometry import PADDING_MODES, PADDINGS, LayerPlan, layer, measure, totals
from stridelab.models import CnnConfig, layer_plan
from stridelab.models.build import build
from stridelab.models.downsampling import DOWNSAMPLING
from stridelab.models.families import settings_of
from stridelab.models.plain_arrays import plain_arrays
from stridelab.models.trace import geometry_of
from stridelab.report.explorer import SETTINGS
from stridelab.training.randomness import initialise
from stridelab.training.tasks import TASKS

CHROMIUM = which("chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run"]
CLASSES = ["<script>alert(1)</script>", 'bag" onerror="x', "Ankle boot"]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs the command chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)


def trained(config: CnnConfig, *, seed: int) -> tuple[nn.Module, LayerPlan]:
    """A small network whose norms have seen images."""
    plan = layer_plan(config, input_channels=1, input_size=(28, 28), num_classes=3)
    network = build(plan)
    initialise(network, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    network.train()
    for _ in range(3):
        network(torch.randn(8, 1, 28, 28, generator=generator))
    return network.eval(), plan


def arrays_of(network: nn.Module, epoch: int = 5) -> dict[str, Any]:
    return {f"{epoch}/{name}": values for name, values in plain_arrays(network).items()}


def page_network(name: str, network: nn.Module, plan: LayerPlan, **more: Any) -> PageNetwork:
    return PageNetwork(name, plan, weights=weights_of(arrays_of(network)), **more)


def some_images() -> PageImages:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 1, 28, 28), np.uint8)
    facts = {"mean": [0.3], "std": [0.4], "class_names": CLASSES}
    return images_of({"images": pixels, "labels": np.array([0, 1, 2, 0])}, facts)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    fine, coarse = (
        page_network(
            f"strides={spelled} <b>",
            *trained(CnnConfig(channels=(4, 4, 6), strides=strides), seed=1),
            score="84.2 (83.3 to 85.1) %",
            score_label="test accuracy, mean of 7 seeds with its 95 % interval",
            command=["stridelab", "train", "trainer.lr=0.1", f"model.strides={spelled}"],
            settings={"strides": "stride", "padding": "padding"},
        )
        for spelled, strides in (("1-1-1", 1), ("2-2-1", "2-2-1"))
    )
    path = tmp_path_factory.mktemp("explorer") / "explorer.html"
    page = explorer_page([fine, coarse], title="Explorer <i>", images=some_images())
    path.write_text(page, encoding="utf-8")
    return path


@pytest.fixture
def opened(browser: Browser, written: Path) -> Iterator[tuple[Page, list[str], list[str]]]:
    """The page, the addresses that it asked for, and what the browser complained of."""
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(written.as_uri())
    yield page, asked, said
    page.close()


@pytest.fixture(scope="module")
def calculator(browser: Browser, written: Path) -> Iterator[Page]:
    page = browser.new_page()
    page.goto(written.as_uri())
    yield page
    page.close()


FIGURES = ("output_size", "pad", "unread_padding", "unread_pixels", "skipped_pixels", "hole_pixels", "uneven")
FIGURES += ("receptive_field", "effective_stride", "region", "misaligned", "whole", "params", "macs")
FIGURES += ("activation_bytes", "batch_bytes", "in_channels", "out_channels", "kernel_size", "stride")


def plain(value: Any) -> Any:
    """As JSON has it."""
    return json.loads(json.dumps(value, default=float))


def in_python(plan: LayerPlan) -> Any:
    try:
        return plain([[getattr(one, name) for name in FIGURES] for one in measure(plan)])
    except ValueError as error:
        return str(error)


def in_page(page: Page, plans: list[LayerPlan]) -> list[Any]:
    script = """([plans, names]) => plans.map((plan) => {
        try { return geometry.measure(plan).map((layer) => names.map((name) => layer[name])); }
        catch (error) { if (error instanceof geometry.Refusal) return error.message; throw error; }
    })"""
    return page.evaluate(script, [[plain(plan_data(plan)) for plan in plans], FIGURES])  # type: ignore[no-any-return]


def test_every_window_is_placed_as_python_places_it(calculator: Page) -> None:
    policies = [*PADDINGS, 0, 1, [0, 1, 2, 1]]
    sizes = [(5, 8), (7, 7), (12, 9)]
    settings = product(
        ("conv", "max_pool", "avg_pool"), policies, PADDING_MODES, (1, 2, 3), (1, 2, 3, 5), (1, 2), sizes
    )
    plans = [
        LayerPlan(
            2,
            size,
            (
                layer(kind, padding=padding, padding_mode=mode, stride=stride, kernel_size=kernel, dilation=dilation),
                layer("conv", kernel_size=2, stride=2, out_channels=3),
            ),
        )
        for kind, padding, mode, stride, kernel, dilation, size in settings
        if not (kind == "avg_pool" and dilation > 1)
    ]
    wanted, found = [in_python(plan) for plan in plans], in_page(calculator, plans)
    assert sum(isinstance(one, str) for one in wanted) > 100  # refusals too
    wrong = [(plan, a, b) for plan, a, b in zip(plans, wanted, found, strict=True) if a != b]
    assert wrong == []


def test_branches_broadcasts_and_maps_that_grow_are_measured_as_in_python(calculator: Page) -> None:
    def block(stride: int, shortcut: int) -> LayerPlan:
        conv = layer("conv", "a", inputs=("image",), kernel_size=3, stride=stride, padding=1, out_channels=4)
        other = layer("conv", "b", inputs=("image",), stride=shortcut, out_channels=4, bias=True)
        return LayerPlan(
            3, (11, 14), (conv, other, layer("add", "sum", inputs=("a", "b")), layer("max_pool", kernel_size=2))
        )

    up = LayerPlan(
        1,
        (9, 9),
        (
            layer("conv_transpose", kernel_size=4, stride=2, padding=1, out_channels=2, output_size=(18, 18)),
            layer("conv", kernel_size=3, stride=2, padding="same", out_channels=2),
            layer("interpolate", function="nearest-exact", output_size=(11, 12)),
            layer("interpolate", function="bilinear", output_size=(12, 27)),
            layer("norm"),
            layer("activation", function="silu"),
            layer("adaptive_avg_pool", output_size=(5, 3)),
            layer("flatten"),
            layer("linear", out_channels=3, bias=True),
        ),
    )
    conv, pool = layer("conv", "a", kernel_size=3), layer("adaptive_max_pool", output_size=(1, 1))
    most = LayerPlan(1, (9, 9), (conv, pool, layer("linear", out_channels=3)))
    torn = LayerPlan(1, (9, 9), (conv, layer("concat", inputs=("image", "a"))))
    plans = [block(1, 1), block(2, 2), block(2, 1), up, most, torn]
    assert in_page(calculator, plans) == [in_python(plan) for plan in plans]


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "googlenet", "densenet121"])
def test_torchvision_s_networks_are_measured_as_in_python(calculator: Page, name: str) -> None:
    import torchvision

    options = {"init_weights": False} if name == "googlenet" else {}
    plan = geometry_of(getattr(torchvision.models, name)(**options).eval(), 64).plan
    [found] = in_page(calculator, [plan])
    assert found == in_python(plan)


@pytest.mark.parametrize("mode", PADDING_MODES)
@pytest.mark.parametrize("padding", [*(name for name in PADDINGS if name != "torch_same"), 1])
def test_maps_and_logits_are_pytorch_s(calculator: Page, padding: Any, mode: str) -> None:
    config = CnnConfig(channels=(4, 5, 6), strides="1-2-3", kernel_sizes="3-4-2", padding=padding, padding_mode=mode)
    network, plan = trained(config, seed=2)
    assert_same_maps(calculator, network, plan)


def test_residual_depthwise_and_pooled_networks_compute_as_in_pytorch(calculator: Page) -> None:
    plan = LayerPlan(
        1,
        (28, 28),
        (
            layer("conv", "stem", kernel_size=3, padding="same", stride=2, out_channels=4),
            layer("norm", "n"),
            layer("activation", "r"),
            layer("max_pool", "p", kernel_size=3, stride=2, padding=1),
            layer("conv", "d", kernel_size=3, padding=1, groups=4, out_channels=4, bias=True),
            layer("activation", "g", function="gelu"),
            layer("add", "sum", inputs=("p", "g")),
            layer("avg_pool", "q", kernel_size=3, stride=2, padding=1, ceil_mode=True),
            layer("concat", "c", inputs=("q", "q")),
            layer("adaptive_avg_pool", "aa", output_size=(3, 3)),
            layer("flatten", "f"),
            layer("linear", "l", out_channels=3, bias=True),
        ),
    )
    network = build(plan)
    initialise(network, seed=3)
    network(torch.randn(8, 1, 28, 28, generator=torch.Generator().manual_seed(0)))
    assert_same_maps(calculator, network.eval(), plan)


@pytest.mark.parametrize("how", [name for name in DOWNSAMPLING if name not in ("stride", "none")])
def test_the_page_s_down_sampling_is_the_plan_s(calculator: Page, how: str) -> None:
    config = CnnConfig(channels=(4, 5, 6), strides="1-2-2", downsample=f"stride-{how}-{how}", padding="same")
    network, plan = trained(config, seed=6)
    assert_same_maps(calculator, network, plan)
    plain_plan = layer_plan(
        CnnConfig(channels=(4, 5, 6), strides="1-2-2", padding="same"),
        input_channels=1,
        input_size=(28, 28),
        num_classes=3,
    )
    script = """([plan, how]) => {
        const edits = {conv2: {downsample: how}, conv3: {downsample: how}};
        return plans.identity(geometry.measure(plans.edited(plan, edits)));
    }"""
    edited = calculator.evaluate(script, [plain(plan_data(plain_plan)), how])
    assert edited == calculator.evaluate("(plan) => plans.identity(geometry.measure(plan))", plain(plan_data(plan)))


@pytest.mark.parametrize("family", ["resnet", "vgg", "allconv", "convnext"])
def test_other_families_are_measured_and_computed_as_in_python(calculator: Page, family: str) -> None:
    plan = layer_plan(settings_of(family)(family=family), input_channels=1, input_size=(28, 28), num_classes=3)
    assert in_page(calculator, [plan]) == [in_python(plan)]
    network = build(plan)
    initialise(network, seed=7)
    network(torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(0)))
    assert_same_maps(calculator, network.eval(), plan, within=3e-3)


@pytest.mark.parametrize("task", ["locate", "segment"])
def test_heads_that_tell_places_compute_as_in_pytorch_wherever_the_strides_put_their_units(
    calculator: Page, task: str
) -> None:
    def headed(strides: str) -> LayerPlan:
        config = CnnConfig(channels=(4, 5), strides=strides, padding="same")
        return TASKS[task].head(layer_plan(config, input_channels=1, input_size=(28, 28), num_classes=3), 3)

    plan = headed("2-1")
    assert in_page(calculator, [plan]) == [in_python(plan)]
    network = build(plan)
    initialise(network, seed=8)
    network(torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(0)))
    assert_same_maps(calculator, network.eval(), plan)
    edited = calculator.evaluate(
        "(plan) => plans.edited(plan, {conv1: {stride: '1'}, conv2: {stride: '3'}}).layers.at(-1)",
        plain(plan_data(plan)),
    )
    last = plain(layer_data(headed("1-3").layers[-1]))
    assert {name: edited[name] for name in last} == last


def assert_same_maps(page: Page, network: Any, plan: LayerPlan, *, within: float = 1e-3) -> None:
    """`within`: of each map's largest value. Weights are float16 in the page, and their roundings add up in depth."""
    image = torch.rand(1, 1, 28, 28, generator=torch.Generator().manual_seed(5))
    wanted = layer_outputs(network, image)
    script = """([plan, weights, image]) => {
        const maps = network.forward(geometry.measure(plan), network.decoded(weights),
            network.map(1, [28, 28], Float32Array.from(image)));
        return Object.fromEntries(Object.entries(maps).map(([name, map]) => [name, Array.from(map.values)]));
    }"""
    [weights] = weights_of(arrays_of(network)).values()
    found = page.evaluate(script, [plain(plan_data(plan)), weights, image.flatten().tolist()])
    for name, made in wanted.items():
        values = made.detach().flatten()
        error = (torch.tensor(found[name]) - values).abs().max().item()
        assert error <= within * max(values.abs().max().item(), 1e-3), name


def plan_of(config: Any, size: tuple[int, int] = (28, 28)) -> LayerPlan:
    return layer_plan(config, input_channels=1, input_size=size, num_classes=10)


CODED = [word for word in PADDINGS if word != "torch_same"]  # which stride 2 cannot have
PLANS = {
    "default": plan_of(CnnConfig()),
    "flatten": plan_of(CnnConfig(head="flatten", strides="1-2-2")),
    **{f"padding={word}": plan_of(CnnConfig(strides="2-2-1", padding=word, dilations="1-2-1")) for word in CODED},
    **{f"padding_mode={word}": plan_of(CnnConfig(padding_mode=word, padding="same")) for word in PADDING_MODES},
    **{
        f"downsample={word}": plan_of(CnnConfig(strides="1-2-2", downsample=word))
        for word in DOWNSAMPLING
        if word != "none"
    },
    "odd pools": plan_of(CnnConfig(strides="1-2-2", downsample="max_pool"), (27, 29)),
    "odd blur": plan_of(CnnConfig(strides="2-2-1", downsample="blur_pool", blur_size=4, padding_mode="circular")),
    **{family: plan_of(settings_of(family)(family=family)) for family in ("resnet", "vgg", "allconv", "convnext")},
}


def copied_weights(network: nn.Module, names: list[str]) -> dict[str, Any]:
    """Under the names that the copied code has: a dot in a layer's name is an underscore there."""
    given = {}
    for name, values in network.state_dict().items():
        layer_name, _, part = name.rpartition(".")
        plain_name = layer_name.replace(".", "_")
        given[f"{plain_name}_{part}" if f"{plain_name}_{part}" in names else f"{plain_name}.{part}"] = values
    return given


@pytest.mark.parametrize("name", PLANS)
def test_the_pytorch_code_to_copy_is_that_network(calculator: Page, name: str) -> None:
    plan = PLANS[name]
    scope: dict[str, Any] = {}
    exec(calculator.evaluate("(plan) => code.torch(geometry.measure(plan))", plain(plan_data(plan))), scope)
    copied, ours = scope["Network"](), build(plan)
    initialise(ours, seed=1)
    copied.load_state_dict(copied_weights(ours, list(copied.state_dict())))
    images = torch.rand(2, 1, *plan.input_size)
    assert torch.equal(copied.eval()(images), ours.eval()(images))


def in_keras_order(network: nn.Module) -> dict[str, list[Any]]:
    """The arrays of each layer as Keras takes them: its kernels have the channels last."""
    found: dict[str, list[Any]] = {}
    for name, module in network.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)) and isinstance(module.weight, nn.Parameter):
            weight = module.weight.permute(2, 3, 1, 0) if isinstance(module, nn.Conv2d) else module.weight.T
            found[name] = [weight] if module.bias is None else [weight, module.bias]
        elif isinstance(module, nn.BatchNorm2d):
            found[name] = [module.weight, module.bias, module.running_mean, module.running_var]
        elif isinstance(module, nn.LayerNorm):
            found[name] = [module.weight, module.bias]
    return {name.replace(".", "_"): [one.detach().numpy() for one in arrays] for name, arrays in found.items()}


NOT_IN_KERAS = {"padding_mode=replicate", "padding_mode=circular", "odd blur", "convnext"}
RUN_IN_KERAS = {"flatten", "padding=same_lower", "padding_mode=reflect", "odd pools", "resnet"}
RUN_IN_KERAS |= {f"downsample={word}" for word in ("avg_pool", "blur_pool", "space_to_depth")}


@pytest.mark.skipif(find_spec("keras") is None, reason="needs the package keras")
def test_the_keras_code_to_copy_is_that_network(calculator: Page, tmp_path: Path) -> None:
    jobs = {}
    for name, plan in PLANS.items():
        words = calculator.evaluate("(plan) => code.keras(geometry.measure(plan), plan)", plain(plan_data(plan)))
        assert (words is None) == (name in NOT_IN_KERAS), name
        if name not in RUN_IN_KERAS:
            continue
        network = build(plan)
        initialise(network, seed=1)
        images = torch.rand(2, 1, *plan.input_size)
        network(images)  # so that the norms have something to say
        logits = network.eval()(images).detach().numpy()
        jobs[name] = (words, in_keras_order(network), images.permute(0, 2, 3, 1).numpy(), logits)
    (tmp_path / "jobs").write_bytes(pickle.dumps(jobs))
    environment = os.environ | {"KERAS_BACKEND": "torch", "KERAS_HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", RUN_KERAS, tmp_path / "jobs"], check=True, env=environment)


RUN_KERAS = """
import pickle, sys
import numpy as np
for name, (words, weights, images, logits) in pickle.load(open(sys.argv[1], "rb")).items():
    scope = {}
    exec(words, scope)
    for layer, arrays in weights.items():
        made = scope["x_" + layer]._keras_history.operation
        while not getattr(made, "weights", None):  # the steps that are taken after a convolution
            made = made.input._keras_history.operation
        made.set_weights(arrays)
    found = scope["network"](images, training=False).detach().numpy()
    np.testing.assert_allclose(found, logits, atol=2e-5 * max(1, abs(logits).max()), err_msg=name)
"""


def test_it_asks_for_nothing_and_complains_of_nothing(opened: tuple[Page, list[str], list[str]], written: Path) -> None:
    page, asked, said = opened
    assert [address for address in asked if not address.startswith("data:image/png")] == [written.as_uri()]
    assert said == []
    assert page.title() == "Explorer <i>"
    assert page.evaluate("document.scripts.length") == 2
    for name in CLASSES:
        assert name in page.inner_text("#side-a")


def test_an_address_names_a_network_and_opens_its_code(browser: Browser, written: Path) -> None:
    """As the report's link to the PyTorch code of the plan that it chose."""
    page = browser.new_page()
    page.goto(f"{written.as_uri()}#{urlencode({'a': 'strides=2-2-1 <b>', 'compare': 0, 'code': 1})}")
    code = page.locator("details[open] pre").first.inner_text()
    assert "self.conv1 = nn.Conv2d(1, 4, 3, stride=2, padding=1, bias=False)" in code
    assert "code=1" in page.evaluate("location.hash")
    page.close()


def test_a_script_that_got_in_would_be_stopped(browser: Browser, written: Path, tmp_path: Path) -> None:
    text = written.read_text(encoding="utf-8").replace("<main>", "<main><script>window.got_in = 1</script>")
    spoiled = tmp_path / "spoiled.html"
    spoiled.write_text(text, encoding="utf-8")
    page = browser.new_page()
    page.goto(spoiled.as_uri())
    assert page.evaluate("window.got_in") is None
    assert "MACs" in page.inner_text("#side-a")
    page.close()


def test_it_works_in_the_frame_that_mlflow_shows_artifacts_in(browser: Browser, written: Path, tmp_path: Path) -> None:
    outer = tmp_path / "outer.html"
    outer.write_text("<iframe sandbox='allow-scripts' width=1000 height=600></iframe>", encoding="utf-8")
    page = browser.new_page()
    page.goto(outer.as_uri())
    page.evaluate("(html) => { document.querySelector('iframe').srcdoc = html }", written.read_text(encoding="utf-8"))
    frame = page.frame_locator("iframe")
    frame.locator("#side-a .figures").wait_for()
    frame.get_by_label("conv1 stride, A").select_option("3")
    assert "Not trained" in frame.locator("#side-a").inner_text()
    page.close()


def test_a_change_is_measured_at_once_and_named_for_what_it_is(opened: tuple[Page, list[str], list[str]]) -> None:
    page, _, said = opened
    assert "84.2 (83.3 to 85.1) %" in page.inner_text("#side-a .score")
    page.get_by_label("conv1 stride, A").select_option("2")
    plan = layer_plan(
        CnnConfig(channels=(4, 4, 6), strides="2-1-1"), input_channels=1, input_size=(28, 28), num_classes=3
    )
    macs = totals(measure(plan)).macs
    assert macs is not None
    shown = page.inner_text("#side-a .figures")
    assert f"{macs / 1e3:.1f} k" in shown
    text = page.inner_text("#side-a .score")
    assert "Not trained" in text
    assert "other settings than they were trained for" in text
    assert "stridelab train trainer.lr=0.1 model.strides=2-1-1" in text
    page.get_by_label("conv2 stride, A").select_option("2")  # which is the other network's plan
    assert "trained as strides=2-2-1 <b>" in page.inner_text("#side-a .score")
    assert said == []


def test_a_change_that_no_key_makes_has_no_command(opened: tuple[Page, list[str], list[str]]) -> None:
    page, _, _ = opened
    page.get_by_label("conv1 stride, A").select_option("2")
    assert page.get_by_label("copy the command that trains it").count() == 1
    page.get_by_label("conv1 kernel, A").select_option("5")
    assert "Not trained" in page.inner_text("#side-a .score")
    assert page.get_by_label("copy the command that trains it").count() == 0


@pytest.mark.parametrize(
    "edits",
    [
        {"conv1": {"stride": "2"}, "conv3": {"padding": "valid"}},
        {"conv1": {"kernel_size": "5"}, "conv2": {"padding": "same", "dilation": "2"}},
        {"conv2": {"downsample": "avg_pool"}, "conv3": {"downsample": "space_to_depth"}},
        {"conv2": {"downsample": "blur_pool"}, "conv3": {"downsample": "max_pool", "stride": "3"}},
    ],
)
def test_the_command_trains_what_the_page_shows(calculator: Page, edits: dict[str, dict[str, str]]) -> None:
    base = {
        "plan": plan_data(plan_of(CnnConfig())),
        "settings": SETTINGS,
        "command": ["model=cnn", "model.strides=1-2-2"],
    }
    script = """([base, edits]) => [plans.command(plans.chosen(base.plan, edits), base),
        plans.identity(geometry.measure(plans.edited(base.plan, edits)))]"""
    command, shown = calculator.evaluate(script, [plain(base), edits])
    trained_plan = plain(plan_data(plan_of(load(shlex.split(command)).model)))
    assert calculator.evaluate("(plan) => plans.identity(geometry.measure(plan))", trained_plan) == shown


class Branches(nn.Module):
    """Layers whose costs and sizes a trace tells."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.GroupNorm(2, 8)
        self.second = nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=4, padding_mode="reflect")
        self.up = nn.ConvTranspose2d(8, 8, 4, stride=2, padding=1)
        self.pool = nn.AvgPool2d(3, 2, ceil_mode=True)
        self.read = nn.Linear(16, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        below = torch.nn.functional.silu(self.norm(self.first(images)))
        above = self.up(self.second(below))
        joined = self.pool(torch.cat([above, below * torch.sigmoid(above)], 1))
        return self.read(joined.mean((2, 3)))


@pytest.mark.parametrize(
    "changed", ["first.stride=1", "first.stride=3 first.padding=0", "pool.stride=3", "first.dilation=2 first.padding=2"]
)
def test_a_changed_network_of_a_module_is_measured_as_the_changed_module(calculator: Page, changed: str) -> None:
    module = Branches()
    settings = dict(word.split("=") for word in changed.split())
    edits: dict[str, dict[str, str]] = {}
    for key, value in settings.items():
        name, _, attribute = key.partition(".")
        edits.setdefault(name, {})[attribute] = value
    script = """([plan, edits]) => {
        const all = geometry.totals(geometry.measure(plans.edited(plan, edits)));
        return [all.macs, all.params, all.activation_bytes, all.last_map.output_size, all.last_map.receptive_field];
    }"""
    plan = plain(plan_data(geometry_of(module, 36).plan))
    ours = geometry_of(set_strides(module, {key: int(value) for key, value in settings.items()}), 36).totals
    assert ours.last_map is not None
    costs = [ours.macs, ours.params, ours.activation_bytes]
    wanted = plain([*costs, ours.last_map.output_size, ours.last_map.receptive_field])
    found = calculator.evaluate(script, [plan, edits])
    if found[2] is None:  # the sigmoid's gate keeps what no rule tells, of a map that has another size now
        wanted[2] = None
    assert found == wanted


class Again(nn.Module):
    """A convolution and a pool that run twice, between layers that run once."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.pool, self.last_2 = nn.MaxPool2d(3, stride=2, padding=1), nn.Conv2d(4, 4, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.pool(self.conv(self.stem(images)).relu())
        return self.last_2(self.pool(self.conv(maps).relu()))


@pytest.mark.parametrize(("layer", "stride"), [("conv", 2), ("pool", 1), ("pool", 3), ("last_2", 2)])
def test_a_module_that_runs_twice_is_changed_for_both_its_calls(calculator: Page, layer: str, stride: int) -> None:
    plan = plain(plan_data(geometry_of(Again(), 36).plan))
    assert calculator.evaluate("(plan) => plans.editable(plan).map((one) => one.name)", plan) == [
        *("stem", "conv", "pool", "last_2")
    ]
    ours = geometry_of(set_strides(Again(), {layer: stride}), 36).totals
    assert ours.last_map is not None
    script = """([plan, edits]) => {
        const all = geometry.totals(geometry.measure(plans.edited(plan, edits)));
        return [all.macs, all.params, all.activation_bytes, all.last_map.output_size];
    }"""
    found = calculator.evaluate(script, [plan, {layer: {"stride": str(stride)}}])
    assert found == plain([ours.macs, ours.params, ours.activation_bytes, ours.last_map.output_size])


def test_what_was_seen_of_one_map_alone_is_not_told_of_another(calculator: Page) -> None:
    resized = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.Upsample(scale_factor=2), nn.Conv2d(4, 2, 3))
    script = """([plan, edits]) => {
        try { return geometry.measure(plans.edited(plan, edits)).at(-1).output_size; }
        catch (error) { return error.message; }
    }"""
    plan = plain(plan_data(geometry_of(resized, 16).plan))
    assert "it made 16x16 of 8x8 when it ran" in calculator.evaluate(script, [plan, {"0": {"stride": "1"}}])
    assert calculator.evaluate(script, [plan, {"2": {"stride": "2"}}]) == [7, 7]


def test_the_code_of_a_module_is_its_own(browser: Browser, tmp_path: Path) -> None:
    path = geometry_of(nn.Sequential(nn.Conv2d(3, 4, 3), nn.LeakyReLU(0.2)), 8).to_html(tmp_path / "own.html")
    page = browser.new_page()
    page.goto(path.as_uri())
    assert page.locator("#side-a .figures").count() == 1
    assert page.locator("#side-a summary").count() == 0
    page.close()


def test_what_is_impossible_is_refused_in_the_plan_s_words(opened: tuple[Page, list[str], list[str]]) -> None:
    page, _, said = opened
    page.goto(page.url.partition("#")[0] + "#a.conv1.stride=4&a.conv2.stride=4&a.conv3.padding=valid")
    page.reload()
    changed = CnnConfig(channels=(4, 4, 6), strides="4-4-1", padding=["half", "half", "valid"])
    with pytest.raises(ValueError, match="does not fit") as refused:
        measure(layer_plan(changed, input_channels=1, input_size=(28, 28), num_classes=3))
    assert page.inner_text("#side-a [role=alert]") == f"Not possible: {refused.value}."
    page.get_by_label("conv1 stride, A").select_option("1")
    assert page.locator("#side-a [role=alert]").count() == 0
    assert said == []


def test_the_address_holds_the_state(opened: tuple[Page, list[str], list[str]], browser: Browser) -> None:
    page, _, _ = opened
    page.get_by_label("conv3 stride, B").select_option("2")
    page.get_by_label("channel 2").first.click()
    address = page.url
    other = browser.new_page()
    other.goto(address)
    assert other.inner_text("#side-b .figures") == page.inner_text("#side-b .figures")
    assert other.locator(".tile.chosen[aria-label='channel 2']").count() > 0
    other.close()


ELSEWHERE = ("a=99", "a.conv1.stride=17", "a.nothing.stride=2", "unit=x", "layer=<img>", "image=-1", "%%%", "tour=0")


def test_an_address_from_elsewhere_is_a_sentence(opened: tuple[Page, list[str], list[str]]) -> None:
    page, _, said = opened
    for words in (*ELSEWHERE, "__proto__=1"):
        page.goto(page.url.partition("#")[0] + "#" + words)
        page.reload()
        assert "which this page does not have" in page.inner_text("#said"), words
        assert "MACs" in page.inner_text("#side-a"), words
        assert said == [], words


def test_a_picture_of_another_size_is_taken_and_a_broken_one_is_a_sentence(
    opened: tuple[Page, list[str], list[str]],
) -> None:
    page, _, said = opened
    before = page.inner_text("#side-a .predictions")
    picture = page.evaluate(
        """() => { const canvas = document.createElement('canvas'); [canvas.width, canvas.height] = [90, 40];
        const context = canvas.getContext('2d'); context.fillStyle = '#fff'; context.fillRect(30, 5, 25, 30);
        return canvas.toDataURL('image/png').split(',')[1]; }"""
    )
    chooser = page.get_by_label("a picture of your own")
    chooser.set_input_files({"name": "dress.png", "mimeType": "image/png", "buffer": base64.b64decode(picture)})
    page.wait_for_function("(old) => document.querySelector('#side-a .predictions').innerText !== old", arg=before)
    assert "90 x 40 pixels" in page.inner_text("#said")
    page.get_by_label("a picture of your own").set_input_files(
        {"name": "broken.png", "mimeType": "image/png", "buffer": b"not a picture"}
    )
    page.get_by_text("broken.png is not a picture").wait_for()
    assert said == []


def test_a_drawing_changes_what_the_networks_say(opened: tuple[Page, list[str], list[str]]) -> None:
    page, _, _ = opened
    before = page.inner_text("#side-a .predictions")
    area = page.locator("#pad").bounding_box()
    assert area is not None
    page.mouse.move(area["x"] + 20, area["y"] + 20)
    page.mouse.down()
    page.mouse.move(area["x"] + 110, area["y"] + 120, steps=6)
    page.mouse.up()
    page.wait_for_function("(old) => document.querySelector('#side-a .predictions').innerText !== old", arg=before)


def test_keys_move_the_unit_and_say_what_it_sees(opened: tuple[Page, list[str], list[str]]) -> None:
    page, _, _ = opened
    page.locator("#side-a [data-map=conv3]").focus()
    page.keyboard.press("ArrowRight")
    words = page.inner_text("#unit")
    assert words.startswith("A, conv3, unit 13, 14: rows 12 to 14 and columns 13 to 15 of the map before it")
    assert "rows 10 to 16 and columns 11 to 17 of the image" in words
    page.keyboard.press("ArrowUp")
    assert "unit 12, 14" in page.inner_text("#unit")
    assert page.evaluate("document.activeElement.dataset.map") == "conv3"


def test_the_sum_that_is_shown_is_the_unit_s_value(opened: tuple[Page, list[str], list[str]]) -> None:
    page, _, _ = opened
    network, _ = trained(CnnConfig(channels=(4, 4, 6), strides=1), seed=1)
    images = some_images()
    pixels = torch.frombuffer(bytearray(base64.b64decode(images.pixels[0])), dtype=torch.uint8).reshape(1, 1, 28, 28)
    maps = layer_outputs(network, (pixels / 255 - 0.3) / 0.4)["conv2"]
    page.goto(page.url.partition("#")[0] + "#layer=conv2&channel=3&unit=5,7")
    page.reload()
    shown = float(page.inner_text("#filter .totals strong").rpartition(":")[2])
    assert math.isclose(shown, maps[0, 3, 5, 7].item(), abs_tol=2e-3)


def test_each_kept_epoch_of_training_can_be_looked_at(browser: Browser, tmp_path: Path) -> None:
    (begun, plan), (ended, _) = (trained(CnnConfig(channels=(4, 4), strides="1-2"), seed=seed) for seed in (1, 2))
    weights = weights_of(arrays_of(begun, 0) | arrays_of(ended, 3) | arrays_of(begun, 6))
    path = tmp_path / "epochs.html"
    one = PageNetwork("one", plan, weights=weights, score="80.0 %", score_label="test accuracy")
    path.write_text(explorer_page([one], title="epochs", images=some_images()), encoding="utf-8")
    page = browser.new_page()
    page.goto(path.as_uri())
    seen = {}
    for epoch in ("last", "3", "0"):
        page.locator("#feature-maps").get_by_label("weights").select_option(epoch)
        seen[epoch] = page.inner_text("#side-a .predictions")
    assert seen["0"] == seen["last"] != seen["3"]
    assert "Before training" in page.inner_text("#side-a .score")
    page.reload()
    assert page.inner_text("#side-a .predictions") == seen["0"]
    content = json.loads(page.evaluate("document.getElementById('data').textContent"))
    assert len(content["weights"]) == 2  # equal weights are in the page once
    page.close()


def test_a_place_that_was_found_is_said_and_how_far_off_it_is(browser: Browser, tmp_path: Path) -> None:
    config = CnnConfig(channels=(4, 5), strides="1-2")
    plan = TASKS["locate"].head(layer_plan(config, input_channels=1, input_size=(28, 28), num_classes=3), 3)
    network = build(plan)
    initialise(network, seed=8)
    images = replace(some_images(), places=[(13.5, 20.0), None, None, None])
    path = tmp_path / "locate.html"
    page_of = explorer_page([page_network("locate", network.eval(), plan)], title="places", images=images)
    path.write_text(page_of, encoding="utf-8")
    page = browser.new_page()
    page.goto(path.as_uri())
    pixels = torch.frombuffer(bytearray(base64.b64decode(images.pixels[0])), dtype=torch.uint8).reshape(1, 1, 28, 28)
    row, column, *_ = network((pixels / 255 - 0.3) / 0.4)[0].tolist()
    text = page.inner_text("#side-a .answer")
    assert f"at row {row:.1f}, column {column:.1f}" in text
    assert f"{math.hypot(row - 13.5, column - 20):.1f} px from its middle" in text
    page.close()


def test_every_view_can_be_saved_as_a_drawing(opened: tuple[Page, list[str], list[str]]) -> None:
    page, _, said = opened
    for section, words, pictures in (
        ("#side-a", "conv3", 4),
        ("#feature-maps", "A: 28", 12),
        ("#filter", "weights", 1),
    ):
        with page.expect_download() as saved:
            page.locator(section).get_by_role("button", name="Save picture (SVG)").click()
        drawn = ElementTree.parse(saved.value.path()).getroot()
        assert drawn.tag == "{http://www.w3.org/2000/svg}svg"
        assert words in "".join(drawn.itertext()), section
        assert len(drawn.findall(".//{*}image")) == pictures, section
    assert said == []


def test_the_tour_has_eight_steps_that_each_can_be_seen(opened: tuple[Page, list[str], list[str]]) -> None:
    page, _, said = opened
    page.click("#tour-button")
    for step in range(1, 9):
        assert f"Step {step} of 8" in page.inner_text("#tour")
        assert page.locator("[role=alert]").count() == 0, step
        if step < 8:
            page.get_by_role("button", name="Next").click()
    page.get_by_role("button", name="End").click()
    assert not page.is_visible("#tour")
    assert said == []


@pytest.mark.parametrize("width", [390, 1400])
def test_nothing_is_wider_than_the_screen(opened: tuple[Page, list[str], list[str]], width: int) -> None:
    page, _, _ = opened
    page.set_viewport_size({"width": width, "height": 800})
    page.reload()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_of_a_network_that_is_too_large_the_recorded_maps_are_shown(browser: Browser, tmp_path: Path) -> None:
    network, plan = trained(CnnConfig(channels=(4, 4), strides="1-2"), seed=1)
    maps = layer_outputs(network, torch.rand(2, 1, 28, 28))["conv1"].detach().half().numpy()
    path = tmp_path / "recorded.html"
    one = PageNetwork("large", plan, recorded={"conv1": tensor_data(maps)}, score="80.0 %", score_label="test accuracy")
    path.write_text(explorer_page([one], title="large", images=some_images()), encoding="utf-8")
    page = browser.new_page()
    page.goto(path.as_uri())
    assert "too large for this page" in page.inner_text("#side-a .score")
    assert page.locator("#side-a [data-map=conv1] image").count() == 1
    assert page.locator("#side-a [data-map=conv2] image").count() == 0
    page.close()


def test_a_page_of_a_large_network_without_weights(browser: Browser, tmp_path: Path) -> None:
    import torchvision

    path = geometry_of(torchvision.models.resnet50().eval(), 224).to_html(tmp_path / "resnet50.html")
    page = browser.new_page()
    said: list[str] = []
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(path.as_uri())
    assert "4.09 G" in page.inner_text("#side-a .figures")
    assert "25,557,032" in page.inner_text("#side-a .figures")
    page.get_by_label("layer2.0.conv2 stride, A").select_option("1")
    assert "must be of one size" in page.inner_text("#side-a [role=alert]")
    page.get_by_label("layer2.0.conv2 stride, A").select_option("2")
    if not page.is_visible("#side-b"):
        page.get_by_role("button", name="Compare two").click()
    for width in (1280, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        boxes = "['#side-a', '#side-b'].map((side) => document.querySelector(`${side} .scroll:has(table)`))"
        cut = page.evaluate(f"{boxes}.map((box) => box.scrollWidth - box.clientWidth)")
        assert (width, cut) == (width, [0, 0]), "a column of figures is cut"
    assert said == []
    page.close()


def test_a_page_needs_a_network() -> None:
    with pytest.raises(ValueError, match="a page needs a network to show"):
        explorer_page([], title="nothing")

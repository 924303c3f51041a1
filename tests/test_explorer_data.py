"""What the explorer's page is made from: a run's network as plain arrays, and the command of its sweep."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from stridelab.data import DataConfig
from stridelab.data.load import load
from stridelab.explorer.network_file import plan_of, weights_of
from stridelab.explorer.page import MOST_BYTES, PageNetwork
from stridelab.geometry import LayerPlan, layer, parse_plan
from stridelab.models import CnnConfig, layer_plan
from stridelab.models.build import build
from stridelab.report import explorer
from stridelab.training import network_file
from stridelab.training.network_file import save_network
from stridelab.training.randomness import initialise


@pytest.fixture(scope="module")
def data() -> Any:
    return load(DataConfig(train_size=100, val_size=50))


def saved(data: Any, folder: Path, config: CnnConfig) -> tuple[dict[str, Any], Any, LayerPlan]:
    plan = layer_plan(config, input_channels=1, input_size=(28, 28), num_classes=10)
    network = build(plan)
    initialise(network, seed=4)
    network(torch.rand(16, 1, 28, 28))
    with np.load(save_network(network.eval(), plan, data, folder, seed=4), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}, network, plan


def test_a_run_keeps_its_network_as_arrays_that_compute_the_same(data: Any, tmp_path: Path) -> None:
    arrays, network, plan = saved(data, tmp_path, CnnConfig(channels=(4, 6), strides="1-2", padding=["same", 1]))
    assert plan_of(arrays) == plan
    scale, shift = arrays["trained/norm1/scale"], arrays["trained/norm1/shift"]
    image = torch.rand(1, 1, 28, 28)
    maps = network.feature_maps(image, ["conv1", "norm1"])
    by_hand = maps["conv1"].detach().numpy() * scale[None, :, None, None] + shift[None, :, None, None]
    np.testing.assert_allclose(by_hand, maps["norm1"].detach().numpy(), atol=1e-6)
    untrained = build(plan)
    initialise(untrained, seed=4)
    np.testing.assert_array_equal(
        arrays["initial/conv2/weight"], untrained.conv2.weight.detach().numpy().astype(np.float16)
    )
    assert arrays["images"].shape == (20, 1, 28, 28)
    assert sorted(arrays["labels"][:10].tolist()) == list(range(10))
    weights = weights_of(arrays, stage="trained")
    assert weights is not None
    assert weights.keys() == {"conv1", "norm1", "conv2", "norm2", "classifier"}


def test_of_a_network_that_is_too_large_the_plan_alone_is_kept(
    data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_file, "MOST_BYTES", 100)
    arrays, _, plan = saved(data, tmp_path, CnnConfig(channels=(4, 6), strides="1-2"))
    assert arrays.keys() == {"plan", "images", "labels"}
    assert plan_of(arrays) == plan
    assert weights_of(arrays, stage="trained") is None


def test_a_plan_survives_json() -> None:
    plan = LayerPlan(
        3, (9, 7), (layer("conv", padding=[0, 1, 2, 1], kernel_size=(3, 2), out_channels=4), layer("norm"))
    )
    assert parse_plan(json.loads(json.dumps(asdict(plan)))) == plan


def test_weights_fill_the_page_up_to_its_limit_and_recorded_maps_stand_in_for_the_rest() -> None:
    plan = LayerPlan(1, (5, 5), (layer("conv", out_channels=2),))
    tensor = {"shape": [2, 1, 1, 1], "f16": "x" * (MOST_BYTES // 2)}
    recorded = {"conv1": {"shape": [1, 2, 5, 5], "f16": ""}}
    networks = [PageNetwork(str(at), plan, weights={"conv1": {"weight": tensor}}, recorded=recorded) for at in range(3)]
    shown = explorer.limited(networks)
    assert [one.weights is not None for one in shown] == [True, True, False]
    assert [one.recorded is not None for one in shown] == [False, False, True]


@pytest.mark.parametrize(
    ("word", "swept"),
    [
        ("model.strides=1-1,2-2", True),
        ("model.strides=[1,1],[2,2]", True),
        ("model.strides=[1,1]", False),
        ("model.padding=[0,1,0,1]", False),
        ("seed=range(0,7)", False),
        ("tags=[a,b],[c]", True),
    ],
)
def test_a_swept_word_has_a_comma_outside_brackets(word: str, *, swept: bool) -> None:
    assert explorer.is_swept(word) is swept


def test_the_command_of_one_network_is_the_sweep_s_without_what_was_swept(monkeypatch: pytest.MonkeyPatch) -> None:
    argv = ["train.py", "-m", "model.strides=1-1,2-2", "seed=0,1", "data.root=~/my data", "model.padding=same"]
    monkeypatch.setattr(explorer, "provenance", lambda run: {"argv": argv})
    comparison: Any = SimpleNamespace(sweep=SimpleNamespace(run=None))
    words, swept = explorer.command_of(comparison, None)  # type: ignore[arg-type]
    assert words == ["stridelab", "train", "'data.root=~/my data'", "model.padding=same"]
    assert swept == ["strides"]

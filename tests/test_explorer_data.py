"""What the explorer's page is made from: a run's network as plain arrays, and the command of its sweep."""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from layer_outputs import layer_outputs
from stridelab import names
from stridelab.data import DataConfig
from stridelab.data.load import load
from stridelab.explorer.network_file import images_of, plan_of, weights_of
from stridelab.explorer.page import MOST_BYTES, PageNetwork
from stridelab.geometry import LayerPlan, layer, parse_plan
from stridelab.models import CnnConfig, layer_plan
from stridelab.models.build import build
from stridelab.models.families import settings_of
from stridelab.report import command, explorer
from stridelab.training import network_file
from stridelab.training.checksummed import read_sealed
from stridelab.training.fit import fit
from stridelab.training.randomness import initialise
from stridelab.training.settings import TrainerConfig
from stridelab.training.tasks import TASKS


@pytest.fixture(scope="module")
def data() -> Any:
    return load(DataConfig(train_size=100, val_size=50))


class Unrecorded:
    """A recorder that keeps nothing but its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **options: None


def trained(data: Any, folder: Path, **settings: Any) -> dict[str, Any]:
    plan = layer_plan(CnnConfig(**settings), input_channels=1, input_size=(28, 28), num_classes=10)
    config = TrainerConfig(max_epochs=2, limit_train_batches=1)
    fit(plan, data, config, seed=4, recorder=Unrecorded(folder))
    with np.load(folder / names.NETWORK_FILE, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def test_a_run_keeps_its_network_of_some_epochs_as_arrays_that_compute_the_same(data: Any, tmp_path: Path) -> None:
    arrays = trained(data, tmp_path, channels=(4, 6), strides="1-2", padding=["same", 1])
    plan = plan_of(arrays)
    network: Any = build(plan)
    network.load_state_dict(state_of(tmp_path))
    network.eval()
    scale, shift = arrays["2/norm1/scale"], arrays["2/norm1/shift"]
    image = torch.rand(1, 1, 28, 28)
    maps = layer_outputs(network, image)
    by_hand = maps["conv1"].detach().numpy() * scale[None, :, None, None] + shift[None, :, None, None]
    np.testing.assert_allclose(by_hand, maps["norm1"].detach().numpy(), atol=1e-6)
    untrained: Any = build(plan)
    initialise(untrained, seed=4)
    np.testing.assert_array_equal(arrays["0/conv2/weight"], untrained.conv2.weight.detach().half().numpy())
    assert arrays["images"].shape == (20, 1, 28, 28)
    assert sorted(arrays["labels"][:10].tolist()) == list(range(10))
    weights = weights_of(arrays)
    assert list(weights) == [0, 1, 2]
    assert weights[2].keys() == {"conv1", "norm1", "conv2", "norm2", "classifier"}


def state_of(folder: Path) -> dict[str, Any]:
    """Of the network in the last checkpoint."""
    content = torch.load(io.BytesIO(read_sealed(folder / "checkpoints" / "epoch-0002.ckpt")), weights_only=True)
    return {
        name.removeprefix("network."): values
        for name, values in content["state_dict"].items()
        if name.startswith("network.")
    }


def test_of_a_network_that_is_too_large_the_plan_alone_is_kept(
    data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_file, "MOST_BYTES", 100)
    arrays = trained(data, tmp_path, channels=(4, 6), strides="1-2")
    assert arrays.keys() == {"plan", "images", "labels"}
    assert [one.name for one in plan_of(arrays).layers][:2] == ["conv1", "norm1"]
    assert weights_of(arrays) == {}


def test_a_network_that_places_objects_keeps_where_they_are(tmp_path: Path) -> None:
    data = load(DataConfig(name="canvas", train_size=60, val_size=20))
    plan = TASKS["locate"].head(
        layer_plan(CnnConfig(channels=(4,), strides=4), input_channels=1, input_size=(64, 64), num_classes=11), 11
    )
    with np.load(network_file.save_network(network_file.NetworkWeights(1), plan, data, tmp_path)) as file:
        images = images_of(dict(file), {"mean": [0.5], "std": [0.5]})
        boxes = file["box"]
    assert images.places is not None
    for place, (top, left, bottom, right) in zip(images.places, boxes.tolist(), strict=True):
        assert place == (None if bottom == top else ((top + bottom - 1) / 2, (left + right - 1) / 2))
    assert any(place is None for place in images.places)


def test_a_plan_survives_json() -> None:
    plan = LayerPlan(
        3, (9, 7), (layer("conv", padding=[0, 1, 2, 1], kernel_size=(3, 2), out_channels=4), layer("norm"))
    )
    assert parse_plan(json.loads(json.dumps(asdict(plan)))) == plan


def of_size(num_bytes: int, mark: str = "") -> dict[str, Any]:
    return {"conv1": {"weight": {"shape": [2, 1, 1, 1], "f16": mark + "x" * num_bytes}}}


def test_weights_fill_the_page_up_to_its_limit_and_recorded_maps_stand_in_for_the_rest() -> None:
    plan = LayerPlan(1, (5, 5), (layer("conv", out_channels=2),))
    recorded = {"conv1": {"shape": [1, 2, 5, 5], "f16": ""}}
    networks = [
        PageNetwork(str(at), plan, weights={5: of_size(MOST_BYTES * 2 // 5, str(at))}, recorded=recorded)
        for at in range(3)
    ]
    shown = explorer.limited(networks)
    assert [list(one.weights) for one in shown] == [[5], [5], []]
    assert [one.recorded is not None for one in shown] == [False, False, True]


def test_what_every_network_began_with_fills_the_page_once_and_comes_before_the_epochs_between() -> None:
    plan = LayerPlan(1, (5, 5), (layer("conv", out_channels=2),))
    part = MOST_BYTES // 11
    networks = [
        PageNetwork(
            str(at), plan, weights={0: of_size(part), 1: of_size(part, f"{at} 1"), 3: of_size(part * 3, f"{at} 3")}
        )
        for at in range(3)
    ]
    assert [list(one.weights) for one in explorer.limited(networks)] == [[0, 3], [0, 3], [0, 3]]
    assert [list(one.weights) for one in explorer.limited(networks[:2])] == [[0, 1, 3], [0, 1, 3]]


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
    assert command.is_swept(word) is swept


def test_the_command_of_one_network_is_the_sweep_s_without_what_was_swept(monkeypatch: pytest.MonkeyPatch) -> None:
    argv = ["train.py", "-m", "model.strides=1-1,2-2", "seed=0,1", "data.root=~/my data", "model.padding=same"]
    monkeypatch.setattr(command, "read_json", lambda run, path: {"argv": argv})
    comparison: Any = SimpleNamespace(sweep=SimpleNamespace(run=None))
    words = command.command_of(comparison)
    assert words == ["stridelab", "train", "'data.root=~/my data'", "model.padding=same"]


def test_settings_are_keys_that_say_all_that_the_page_can_change() -> None:
    plain = explorer.settings_of(as_stored(CnnConfig()))
    assert plain == explorer.SETTINGS
    wide = explorer.settings_of(as_stored(CnnConfig(blur_size=4)))
    assert plain.keys() - wide.keys() == {"downsample"}
    for config in (
        CnnConfig(downsample="max_pool"),
        *(settings_of(family)(family=family) for family in ("resnet", "vgg")),
    ):
        assert explorer.settings_of(as_stored(config)) == {}


def as_stored(config: Any) -> Any:
    return json.loads(json.dumps(asdict(config)))

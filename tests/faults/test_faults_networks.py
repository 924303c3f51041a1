"""Promise: every family, and the networks that people really use, are planned, swept over two strides, reported, go on
after SIGKILL to the bit, and can be reproduced to the bit."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from injection import agenda_of, attempt, complete, evidence, sweep

from stridelab.cli import reproduce
from stridelab.data import DATASETS
from stridelab.data.catalog.user import USER_DATASETS
from stridelab.models.families import FAMILIES
from stridelab.models.user_family import USER_FAMILIES
from stridelab.sweep.launchers.local import LocalLauncher
from stridelab.system.user_code import FunctionSource

MINE = """
import numpy as np
import stridelab
from torch import nn

@stridelab.family("mine")
def mine(*, in_channels, num_classes):
    return nn.Sequential(
        nn.Conv2d(in_channels, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, 2, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))

@stridelab.dataset("tiles")
def tiles():
    images = np.random.default_rng(0).integers(0, 256, (60, 32, 32, 3), dtype=np.uint8)
    return images, np.arange(60) % 3
"""
DATA = ("data=tiles", "data.train_size=32", "data.val_size=8")
SHORT = ("trainer.batch_size=16", "trainer.max_epochs=2", "trainer.lr=0.01")
STEPS_AN_EPOCH = 2

FAMILY_CASES = {
    "resnet": ("model.strides=1-2-2,2-2-2", "model.width=2", "trainer.channels_last=false"),
    "convnext": ("model.strides=2-2,2-1", "model.width=2", "model.depths=[1,1]"),
    "cnn": ("model.strides=1-2-2,2-2-1", "model.channels=[4,4,4]"),
    "vgg": ("model.strides=1-2-2-2-2,2-2-2-2-2", "model.width=2"),
    "allconv": ("model.strides=2-2,2-4", "model.width=2"),
    "mine": ("model.set.2.stride=1,2",),
    "diffstride": ("model.smoothness=2.0,4.0", "model.channels=[4,4,4]", "trainer.lr=0.3"),
}
LEARNED = Path(__file__).parents[2] / "evidence" / "diffstride.py"
NETWORKS = {
    "torchvision resnet18": "conv1.stride=1,2",
    "torchvision resnet50": "conv1.stride=1,2",
    "torchvision vgg16": "features.23.stride=1,2",
    "torchvision mobilenet_v2": "features.0.0.stride=1,2",
    "torchvision mobilenet_v3_small": "features.0.0.stride=1,2",
    "torchvision efficientnet_b0": "features.0.0.stride=1,2",
    "torchvision densenet121": "features.conv0.stride=1,2",
    "torchvision convnext_tiny": "features.0.0.stride=2,4",
    "torchvision regnet_y_400mf": "stem.0.stride=1,2",
    "torchvision shufflenet_v2_x1_0": "conv1.0.stride=1,2",
    "torchvision googlenet": "conv1.conv.stride=1,2",
    "timm resnet10t": "layer2.0.conv1.stride=1,2",
}
REPORTED = "STRIDELAB_FAULTS" in os.environ
"""A report takes seconds, and tests of its own."""
EVERY_DAY = ("resnet", "convnext")


def cases() -> Iterator[Any]:
    for name, words in FAMILY_CASES.items():
        marks = () if name in EVERY_DAY else pytest.mark.faults
        yield pytest.param((f"model={name}", *words), id=name, marks=marks)
    for name, swept in NETWORKS.items():
        package, network = name.split()
        absent = pytest.mark.skipif(find_spec(package) is None, reason=f"{package} is an extra: pip install {package}")
        words = (f"model={package}", f"model.name={network}", f"model.set.{swept}")
        yield pytest.param(words, id=name.replace(" ", "-"), marks=(pytest.mark.faults, absent))


@pytest.fixture(scope="module", autouse=True)
def mine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Files of the user's, registered as processes for runs register them."""
    before = [(one, dict(one)) for one in (FAMILIES, USER_FAMILIES, DATASETS, USER_DATASETS)]
    path = tmp_path_factory.mktemp("own") / "mine.py"
    path.write_text(MINE)
    for one in (path, LEARNED):
        FunctionSource("", str(one)).load()
    yield
    for one, content in before:
        one.clear()
        one.update(content)


@pytest.mark.parametrize("words", list(cases()))
def test_a_network_is_swept_reported_continued_and_reproduced(
    words: tuple[str, ...],
    pool: LocalLauncher,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = (*words, *DATA, *SHORT)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert sweep(whole, *given, f"sweep.report={REPORTED}") == 0
    assert len(list(whole.glob("reports/*/comparison.html"))) == REPORTED
    specs, whole_specs = agenda_of(killed, *given).specs, agenda_of(whole, *given).specs
    assert len(specs) == 2
    spec, undisturbed = specs[1], evidence(whole_specs[1].folder)
    assert undisturbed.digests["weights_digest"] != evidence(whole_specs[0].folder).digests["weights_digest"]
    assert attempt(pool, spec, fault=f"step:{STEPS_AN_EPOCH + 1}:kill").status == "killed"
    assert complete(pool, spec) == undisturbed
    monkeypatch.setattr("sys.argv", ["reproduce", f"paths.results_dir={whole}"])
    with suppress(SystemExit):
        reproduce.main()
    assert "identical: the final weights and all" in " ".join(capsys.readouterr().out.split())
    shutil.rmtree(tmp_path)  # a vgg16 leaves gigabytes

"""What a run says of its own speed and memory: each figure of what it names, and of nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from stridelab.config import load
from stridelab.data.load import load as load_data
from stridelab.data.splits import Data
from stridelab.models import layer_plan
from stridelab.training import memory as peak
from stridelab.training import throughput
from stridelab.training.checkpoints import EpochCheckpoints
from stridelab.training.feature_maps import FeatureMaps
from stridelab.training.fit import fit
from stridelab.training.module import Classifier
from test_training import Notes

pytestmark = pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*")
WARM_S, STEP_S, ELSEWHERE_S = 100.0, 0.5, 1000.0


@pytest.fixture(scope="module")
def data() -> Data:
    return load_data(load(["data.train_size=320", "data.val_size=100"]).data)


class Watch:
    """A clock that goes on only when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def slow(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, watch: Watch, seconds: float) -> None:
    """`owner.name` does what it did and takes `seconds` more of the watch."""
    before = getattr(owner, name)

    def slowed(*arguments: Any, **named: Any) -> Any:
        watch.now += seconds
        return before(*arguments, **named)

    monkeypatch.setattr(owner, name, slowed)


def test_throughput_is_of_warm_training_steps_and_nothing_else(
    tmp_path: Path, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch, steps = Watch(), 0

    def training_step(self: Classifier, batch: Any, index: int) -> Any:
        nonlocal steps
        steps += 1
        watch.now += WARM_S if steps <= throughput.WARM_UP_STEPS else STEP_S
        return original(self, batch, index)

    original = Classifier.training_step
    monkeypatch.setattr(throughput, "perf_counter", watch)
    monkeypatch.setattr(Classifier, "training_step", training_step)
    for owner, name in ((Classifier, "validation_step"), (FeatureMaps, "take"), (FeatureMaps, "show")):
        slow(monkeypatch, owner, name, watch, ELSEWHERE_S)
    for name in ("metrics", "image", "artifact", "tags"):
        slow(monkeypatch, Notes, name, watch, ELSEWHERE_S)
    slow(monkeypatch, EpochCheckpoints, "on_train_epoch_end", watch, ELSEWHERE_S)

    one_by_one = "trainer.limit_train_batches=20"  # all of them, and not several a call
    config = load(
        ["trainer.max_epochs=3", "trainer.batch_size=16", one_by_one, "model.channels=[4]", "model.strides=2"]
    )
    plan = layer_plan(config.model, input_channels=1, input_size=(28, 28), num_classes=10)
    result = fit(plan, data, config.trainer, seed=0, recorder=Notes(tmp_path))
    found = result.metrics
    timed = (20 - throughput.WARM_UP_STEPS) + 2 * (20 - 1)  # an epoch's first step is set-up
    assert watch.now > 10 * ELSEWHERE_S, "the rest took its time"
    assert found["throughput/train_timed_images"] == 16 * timed
    assert found["throughput/train_timed_s"] == STEP_S * timed
    assert found["throughput/train_images_per_s"] == 16 / STEP_S


def test_a_run_too_short_to_be_timed_gives_no_speed(tmp_path: Path, data: Data) -> None:
    config = load(["trainer.max_epochs=1", "trainer.batch_size=320", "model.channels=[4]", "model.strides=2"])
    plan = layer_plan(config.model, input_channels=1, input_size=(28, 28), num_classes=10)
    found = fit(plan, data, config.trainer, seed=0, recorder=Notes(tmp_path)).metrics
    assert "throughput/train_images_per_s" not in found
    assert found["throughput/train_timed_images"] == 0


IN_ONE_PROCESS = """
import sys, torch
from stridelab.training.memory import OF_THE_RUN, PeakMemory

def run(mib):
    start = PeakMemory.start(torch.device("cpu"))
    assert start.meaning == OF_THE_RUN, start
    small = [torch.ones(16_000) for _ in range(mib * 2**20 // 64_000)]  # below the size that is mapped on its own
    large = torch.ones(mib * 2**18)
    return start.metrics()["memory/peak_rss_mib"]

run(1)
print(*[run(mib) for mib in (20, 200, 20)])
"""


@pytest.mark.skipif(not peak.reset_peak(), reason="this system does not let a process reset its peak")
def test_a_small_run_after_a_big_one_in_one_process_has_its_own_peak() -> None:
    done = subprocess.run([sys.executable, "-c", IN_ONE_PROCESS], capture_output=True, text=True, check=True)
    first, big, second = map(float, done.stdout.split())
    assert 390 < big < 440
    assert first == pytest.approx(40, abs=8)
    assert second == pytest.approx(first, abs=8)


@pytest.mark.parametrize("clear_refs", ["read-only", "without effect"])
def test_a_peak_that_cannot_be_reset_is_said_to_be_a_bound(
    clear_refs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path if clear_refs == "read-only" else tmp_path / "written"
    monkeypatch.setattr("stridelab.system.memory.CLEAR_REFS", target)
    block = torch.ones(2**25)  # so that the peak is above the present
    del block
    start = peak.PeakMemory.start(torch.device("cpu"))
    assert start.meaning == peak.BOUND
    assert start.metrics()["memory/peak_rss_mib"] == pytest.approx(peak.peak_mib(), abs=1)


def test_a_run_says_which_of_the_two_its_peak_is(tmp_path: Path, data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, str] = {}
    monkeypatch.setattr(Notes, "tags", lambda self, values: told.update(values))
    config = load(["trainer.max_epochs=1", "model.channels=[4]", "model.strides=2"])
    plan = layer_plan(config.model, input_channels=1, input_size=(28, 28), num_classes=10)
    fit(plan, data, config.trainer, seed=0, recorder=Notes(tmp_path))
    assert told["stridelab.peak_rss"] in (peak.OF_THE_RUN, peak.BOUND)


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
def test_a_run_measures_itself_in_the_precision_that_it_trains_with(
    precision: str, tmp_path: Path, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[torch.dtype] = set()
    before = nn.Conv2d.forward

    def forward(self: nn.Conv2d, images: torch.Tensor) -> torch.Tensor:
        output = before(self, images)
        seen.add(output.dtype)
        return output

    monkeypatch.setattr(nn.Conv2d, "forward", forward)
    settings = ["trainer.max_epochs=1", "model.channels=[4]", "model.strides=2", "trainer.feature_map_images=0"]
    config = load([*settings, f"trainer.precision={precision}"])
    plan = layer_plan(config.model, input_channels=1, input_size=(28, 28), num_classes=10)
    found = fit(plan, data, config.trainer, seed=0, recorder=Notes(tmp_path)).metrics
    assert seen == {torch.bfloat16 if precision == "bf16-mixed" else torch.float64}
    assert found["latency/batch1_ms"] > 0
    assert found["memory/saved_activations_mib"] > 0

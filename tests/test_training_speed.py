"""What makes training fast changes nothing that is learnt, and still says what it said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from stridelab.cli.train import start
from stridelab.config import load
from stridelab.data.load import load as load_data
from stridelab.data.splits import Data
from stridelab.plan import layer_plan_of
from stridelab.training import Result, loop
from stridelab.training.fit import fit
from stridelab.training.randomness import initialise
from stridelab.training.settings import TrainerConfig
from stridelab.training.step import TrainingStep
from stridelab.training.step_grouping import Steps, steps_of
from test_training import Notes, timeless

pytestmark = pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*")


@pytest.fixture(scope="module")
def data() -> Data:
    return load_data(load(["data.train_size=400", "data.val_size=100"]).data)


def train(folder: Path, data: Data, *overrides: str, **options: Any) -> tuple[Result, Notes]:
    config = load(["trainer.max_epochs=2", "model.channels=[4,8,8]", "trainer.batch_size=16", *overrides])
    notes = Notes(folder)
    return fit(layer_plan_of(config), data, config.trainer, seed=0, recorder=notes, **options), notes


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_grouped_steps_learn_the_same_bits_as_single_ones(
    precision: str, tmp_path: Path, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    """25 steps an epoch, three at once; with bf16, a cast of the weights that outlived its step would show."""
    chosen = f"trainer.precision={precision}"
    grouped, _ = train(tmp_path / "a", data, chosen)
    monkeypatch.setattr(loop, "steps_of", lambda *args, **options: replace(steps_of(*args, **options), at_once=1))
    single, _ = train(tmp_path / "b", data, chosen)
    assert grouped.weights_digest == single.weights_digest
    assert grouped.batch_order_digest == single.batch_order_digest
    assert timeless(grouped.metrics) == pytest.approx(timeless(single.metrics), rel=1e-6)


def test_steps_are_told_one_by_one(tmp_path: Path, data: Data) -> None:
    told: list[tuple[int, int]] = []
    train(tmp_path, data, progress=lambda event: told.append((event["step"], event["steps"])))
    assert {steps for _, steps in told} == {25}
    assert told.count((25, 25)) == 2
    assert all(step % 3 == 0 or step == 25 for step, _ in told)


def test_the_very_step_that_diverged_is_named(tmp_path: Path, data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    """Step 8 of 25 is the second of the second group."""
    real, calls = torch.nn.functional.cross_entropy, []

    def spoil(*args: Any, **options: Any) -> torch.Tensor:
        calls.append(args)
        return real(*args, **options) * (float("nan") if len(calls) == 8 else 1.0)

    monkeypatch.setattr("torch.nn.functional.cross_entropy", spoil)
    with pytest.raises(FloatingPointError, match=r"the training loss is nan in epoch 1 at step 8 of 25; lower"):
        train(tmp_path, data)


@pytest.mark.parametrize(
    ("count", "shape", "changed", "expected"),
    [
        (7200, (1, 28, 28), {}, Steps(8, 113, 5)),
        (7200, (1, 28, 28), {"batch_size": 256}, Steps(7, 29, 5)),
        (100, (1, 28, 28), {}, Steps(1, 2, 5)),
        (50_000, (3, 224, 224), {}, Steps(1, 782, 5)),
        (7200, (1, 28, 28), {"limit_train_batches": 1}, Steps(1, 113, 5)),
        (7200, (1, 28, 28), {"overfit_batches": 3}, Steps(1, 113, 5)),
    ],
)
def test_how_many_steps_are_taken_at_once(
    count: int, shape: tuple[int, ...], changed: dict[str, Any], expected: Steps
) -> None:
    assert steps_of(TrainerConfig(**changed), count=count, image_shape=shape) == expected


@pytest.mark.faults
@pytest.mark.filterwarnings("ignore")
def test_a_compiled_step_learns_the_same_and_continues_to_the_same_bits(tmp_path: Path, data: Data) -> None:
    """400 images in batches of 64: the last of each epoch is smaller."""
    chosen = ("trainer.batch_size=64", "trainer=fast", "trainer.lr=0.05")
    plain, _ = train(tmp_path / "plain", data, *chosen, "trainer.compile=false")
    whole, _ = train(tmp_path / "whole", data, *chosen)
    part = tmp_path / "whole" / "checkpoints" / "epoch-0001.ckpt"
    rest, _ = train(tmp_path / "rest", data, *chosen, ckpt_path=str(part))
    assert whole.init_digest == plain.init_digest
    assert whole.metrics["final/train_loss"] == pytest.approx(plain.metrics["final/train_loss"], rel=0.02)
    assert rest.weights_digest == whole.weights_digest != plain.weights_digest
    assert timeless(rest.metrics) == timeless(whole.metrics)


@pytest.mark.parametrize(("variable", "value"), [("CXX", "no-such-compiler"), ("PATH", "")])
def test_without_a_compiler_nothing_is_created(
    variable: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    if variable == "PATH":
        monkeypatch.delenv("CXX", raising=False)
    results = tmp_path / "results"
    with pytest.raises(ValueError, match=r"trainer.compile=true needs a C\+\+ compiler, and .* is not found; install"):
        start([load(["trainer=fast", f"paths.results_dir={results}"])], multirun=False)
    assert not results.exists()


@pytest.mark.parametrize(("precision", "smoothing"), [("64-true", 0.0), ("64-true", 0.2)])
def test_accumulated_gradients_are_those_of_the_whole(precision: str, smoothing: float) -> None:
    """Without batch norm a step on 7 images in batches of 3, 3 and 1 is the step on all 7."""
    images, labels = torch.randn(7, 1, 6, 6, dtype=torch.float64), torch.arange(7) % 3
    found = []
    for size, accumulate in ((7, 1), (3, 3), (1, 7)):
        config = TrainerConfig(batch_size=size, accumulate=accumulate, precision=precision, label_smoothing=smoothing)
        network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
        initialise(network, seed=0)
        step = TrainingStep(network.double(), config, num_steps=9)
        taken = [step(images, labels) for _ in range(3)]
        found.append(([loss.item() for loss, _ in taken], taken[-1][1], *network.parameters()))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0])


def test_accumulating_is_a_larger_batch_in_the_loop_and_continues_to_the_same_bits(tmp_path: Path, data: Data) -> None:
    """400 images: 8 steps of 48 images and one of 16, which is a whole batch."""
    chosen = ("trainer.accumulate=3", "trainer.lr=0.05")
    told: list[int] = []
    whole, notes = train(tmp_path / "whole", data, *chosen, progress=lambda event: told.append(event["steps"]))
    assert set(told) == {9}
    assert notes.values["train/loss", 2] < notes.values["train/loss", 1]
    rest, _ = train(tmp_path / "rest", data, *chosen, ckpt_path=str(first_checkpoint(tmp_path / "whole")))
    assert rest.weights_digest == whole.weights_digest
    assert timeless(rest.metrics) == timeless(whole.metrics)
    single, _ = train(tmp_path / "single", data, "trainer.lr=0.05")
    assert single.weights_digest != whole.weights_digest
    assert single.batch_order_digest == whole.batch_order_digest


def first_checkpoint(folder: Path) -> Path:
    return sorted((folder / "checkpoints").iterdir())[0]


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine", "constant"])
def test_a_fit_of_any_number_of_steps_has_a_learning_rate_for_each(schedule: str) -> None:
    """Of exactly three steps, one_cycle once divided by zero."""
    for num_steps in range(1, 20):
        config = TrainerConfig(schedule=schedule, lr=0.5)
        step = TrainingStep(nn.Linear(2, 2), config, num_steps=num_steps)
        rates = []
        for _ in range(num_steps):
            rates.append(step.optimizer.param_groups[0]["lr"])
            step(torch.randn(4, 2), torch.zeros(4, dtype=torch.int64))
        assert all(0 < rate <= 0.5 for rate in rates), (num_steps, rates)
        assert max(rates) > 0.2

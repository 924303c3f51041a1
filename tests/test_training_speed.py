"""What makes training fast changes nothing that is learnt, and still says what it said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from stridelab.cli.train import start
from stridelab.config import load
from stridelab.data.loaders import load as load_data
from stridelab.data.splits import Data
from stridelab.plan import layer_plan_of
from stridelab.training import Result
from stridelab.training import fit as fitting
from stridelab.training.settings import TrainerConfig
from stridelab.training.step_grouping import Steps, steps_of
from test_training import Notes, timeless

pytestmark = pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*")


@pytest.fixture(scope="module")
def data() -> Data:
    return load_data(load(["data.train_size=400", "data.val_size=100"]).data)


def train(folder: Path, data: Data, *overrides: str, **options: Any) -> tuple[Result, Notes]:
    config = load(["trainer.max_epochs=2", "model.channels=[4,8,8]", "trainer.batch_size=16", *overrides])
    notes = Notes(folder)
    return fitting.fit(layer_plan_of(config), data, config.trainer, seed=0, recorder=notes, **options), notes


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_grouped_steps_learn_the_same_bits_as_single_ones(
    precision: str, tmp_path: Path, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    """25 steps an epoch, three at once; with bf16, a cast of the weights that outlived its step would show."""
    chosen = f"trainer.precision={precision}"
    grouped, _ = train(tmp_path / "a", data, chosen)
    monkeypatch.setattr(fitting, "steps_of", lambda *args, **options: replace(steps_of(*args, **options), at_once=1))
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
    """Step 8 of 25 is the second of the third group."""
    real, calls = torch.nn.functional.cross_entropy, []

    def spoil(*args: Any, **options: Any) -> torch.Tensor:
        calls.append(args)
        return real(*args, **options) * (float("nan") if len(calls) == 8 else 1.0)

    monkeypatch.setattr("stridelab.training.step.F.cross_entropy", spoil)
    with pytest.raises(FloatingPointError, match=r"the training loss is nan in epoch 1 at step 8 of 25; lower"):
        train(tmp_path, data)


@pytest.mark.parametrize(
    ("count", "shape", "changed", "expected"),
    [
        (7200, (1, 28, 28), {}, Steps(8, 113, 5)),
        (7200, (1, 28, 28), {"batch_size": 256}, Steps(3, 29, 5)),
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

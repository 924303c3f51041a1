"""Optimizers, warm-up and the average of weights: what they do to the bit, and exact continuation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from stridelab.config import load
from stridelab.data.load import load as load_data
from stridelab.data.splits import Data
from stridelab.geometry import measure, training_memory
from stridelab.models.build import build
from stridelab.plan import examine, layer_plan_of
from stridelab.plan.variant_row import row_of
from stridelab.probes.trained import final_weights
from stridelab.system.memory import MIB
from stridelab.training.average import Average
from stridelab.training.fit import fit
from stridelab.training.optimizers import OPTIMIZERS
from stridelab.training.randomness import weights_digest
from stridelab.training.recorder import Silent
from stridelab.training.settings import TrainerConfig
from stridelab.training.step import TrainingStep, groups_of

pytestmark = pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*")
RECIPE = (
    "trainer.optimizer=adamw", "trainer.schedule=cosine", "trainer.warmup=3", "trainer.ema=0.9",
    "model.channels=[2,2,2]", "trainer.batch_size=32", "trainer.max_epochs=3", "trainer.feature_map_images=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def data() -> Data:
    return load_data(load(["data.train_size=96", "data.val_size=32"]).data)


def train(data: Data, folder: Path, *words: str) -> Any:
    config = load([*RECIPE, *words])
    plan = layer_plan_of(config)
    return fit(plan, data, config.trainer, seed=0, recorder=Silent(folder), ckpt_path=config.ckpt_path)


def test_adamw_warm_up_and_average_go_on_to_the_bit_and_the_average_is_what_is_kept(data: Data, tmp_path: Path) -> None:
    whole = train(data, tmp_path / "whole")
    rest = train(data, tmp_path / "rest", f"ckpt_path='{tmp_path}/whole/checkpoints/epoch-0002.ckpt'")
    assert (rest.weights_digest, rest.metrics["test/loss"]) == (whole.weights_digest, whole.metrics["test/loss"])
    network = build(layer_plan_of(load([*RECIPE])))
    network.load_state_dict(final_weights(tmp_path / "whole"))
    assert weights_digest(network) == whole.weights_digest
    live = torch.load(tmp_path / "whole" / "checkpoints" / "epoch-0003.ckpt", weights_only=True)["state_dict"]
    assert not torch.equal(live["network.conv1.weight"], network.conv1.weight)
    plain = train(data, tmp_path / "plain", "trainer.ema=0")
    assert plain.init_digest == whole.init_digest
    assert plain.weights_digest != whole.weights_digest
    assert plain.metrics["final/train_loss"] == whole.metrics["final/train_loss"]  # averaging changes no step
    predicted = training_memory(measure(layer_plan_of(load([*RECIPE]))), batch_size=32).activations
    assert [one.metrics["memory/saved_activations_mib"] * MIB for one in (whole, plain)] == [predicted, predicted]
    with pytest.raises(ValueError, match=r"trained with .*trainer.ema=0.9, .*; this run has .*trainer.ema=0, "):
        train(data, tmp_path / "other", "trainer.ema=0", f"ckpt_path='{tmp_path}/whole/checkpoints/epoch-0002.ckpt'")


def test_the_average_is_the_recursion_of_its_formula() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    average = Average(network, decay=0.4)
    expected = network[0].weight.detach().clone().double()
    for step in range(8):
        with torch.no_grad():
            network[0].weight.add_(torch.randn_like(network[0].weight))
        network(torch.randn(4, 1, 3, 3))
        average.update(network)
        decay = min(0.4, (1 + step) / (10 + step))  # 0.1, 0.18, 0.25, ... and 0.4 from step 5 on
        expected = decay * expected + (1 - decay) * network[0].weight.detach().double()
    torch.testing.assert_close(average.network[0].weight.double(), expected, rtol=1e-5, atol=1e-6)
    assert average.network[1].num_batches_tracked == network[1].num_batches_tracked == 8
    assert not torch.equal(average.network[1].running_mean, network[1].running_mean)


@pytest.mark.parametrize("warmup", [4, 0.4])
def test_the_rate_rises_in_equal_parts_and_then_follows_its_schedule(warmup: float) -> None:
    config = TrainerConfig(schedule="cosine", warmup=warmup, lr=1.0)
    step = TrainingStep(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), config, num_steps=10)
    rates = []
    for _ in range(10):
        rates.append(step.optimizer.param_groups[0]["lr"])
        step(torch.randn(2, 1, 2, 2), torch.tensor([0, 1]))
    cosine = [0.5 * (1 + torch.cos(torch.tensor(torch.pi * at / 6)).item()) for at in range(6)]
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, *cosine])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_first_step_whose_scaled_gradient_is_infinite_leaves_nothing(
    optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fresh memory is NaN here, where a run finds whatever was there; scaling by powers of two changes no bit."""
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    config = TrainerConfig(optimizer=optimizer, schedule="constant", lr=0.01)
    generator = torch.Generator().manual_seed(0)
    batches = [(torch.rand(4, 3, generator=generator), torch.tensor([0, 1, 1, 0])) for _ in range(3)]
    ended = []
    torch.use_deterministic_algorithms(True)
    try:
        for scaler in (torch.amp.GradScaler("cpu", init_scale=2.0**127), None):
            network = nn.Linear(3, 2)
            nn.init.eye_(network.weight)
            nn.init.zeros_(network.bias)
            step = TrainingStep(network, config, num_steps=4, scaler=scaler)
            for images, labels in [(1e3 * batches[0][0], batches[0][1])] * (scaler is not None) + batches:
                step(images, labels)
            ended.append(network.weight.detach())
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(*ended)


@pytest.mark.parametrize("words", [("optimizer=sgd",), ("optimizer=sgd", "momentum=0"), ("optimizer=adamw", "ema=0.9")])
def test_the_memory_of_an_optimizer_is_what_it_keeps(words: tuple[str, ...]) -> None:
    config = load([f"trainer.{word}" for word in words])
    network = build(layer_plan_of(config))
    average = Average(network, decay=0.9) if config.trainer.ema else None
    step = TrainingStep(network, config.trainer, num_steps=2, average=average)
    step(torch.randn(2, 1, 28, 28), torch.tensor([0, 1]))
    kept = [t for state in step.optimizer.state.values() for t in state.values() if torch.is_tensor(t) and t.ndim > 0]
    kept += list(average.network.parameters()) if average else []
    figures = row_of(config, ()).figures
    assert figures is not None
    assert figures.memory.optimizer_state == 4 * sum(tensor.numel() for tensor in kept)


def test_an_optimizer_brings_its_own_usual_rate() -> None:
    assert load([]).trainer.lr == OPTIMIZERS["sgd"].lr == 0.3
    assert load(["trainer.optimizer=adamw"]).trainer.lr == 0.003
    assert load(["trainer.optimizer=adamw", "trainer.lr=1"]).trainer.lr == 1.0


REFUSED = {
    ("optimizer=adam",): r"trainer\.optimizer='adam' is not one of its choices; choose one of sgd, adamw",
    ("warmup=0.1",): r"trainer\.warmup=0\.1 with trainer\.schedule=one_cycle: it rises by itself",
    ("warmup=1.5", "schedule=cosine"): r"trainer\.warmup=1\.5 must be a share \(0\.0 to 1\.0\) or a number of steps",
    ("warmup=-1", "schedule=cosine"): r"trainer\.warmup=-1 must be a share",
    ("ema=1",): r"trainer\.ema=1\.0 must be less than 1",
    ("ema=-0.5",): r"trainer\.ema=-0\.5 must be at least 0",
    ("lr=0",): r"trainer\.lr=0\.0 must be greater than 0",
    ("lr=fast",): r"trainer\.lr=fast: a number is expected, or null",
}


@pytest.mark.parametrize("words", REFUSED, ids=" ".join)
def test_a_recipe_that_cannot_be_is_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=REFUSED[words]):
        load([f"trainer.{word}" for word in words])


@pytest.mark.parametrize(("warmup", "epochs"), [("10", 1), ("1.0", 2), ("1000", 5)])
def test_a_warm_up_as_long_as_the_training_is_refused(warmup: str, epochs: int) -> None:
    """640 images, 64 a step."""
    words = [f"trainer.warmup={warmup}", f"trainer.max_epochs={epochs}", "trainer.schedule=cosine"]
    config = load([*words, "data.train_size=640"])
    said = rf"trainer.warmup={warmup} is \S+ steps, and the training has {10 * epochs} in all, which leaves none"
    assert re.match(said, examine(config, keys=()).error or "")
    with pytest.raises(ValueError, match=said):
        TrainingStep(nn.Linear(1, 1), config.trainer, num_steps=10 * epochs)
    assert load([*words, "data.train_size=640", "trainer.warmup=9"]).trainer.warmup_steps(10) == 9


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_weights_of_convolutions_of_any_axes_decay_and_nothing_else_does(rank: int) -> None:
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1](4, 6, 3)
    depthwise = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1](4, 4, 3, groups=4)
    norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[rank - 1](6)
    network = nn.Sequential(conv, depthwise, norm, nn.Linear(6, 2))
    network.register_parameter("scale", nn.Parameter(torch.ones(6, 1, 1)))
    network.register_parameter("positions", nn.Parameter(torch.ones(1, 9, 6)))
    decayed, others = (group["params"] for group in groups_of(network, TrainerConfig(weight_decay=0.1)))
    assert {id(one) for one in decayed} == {id(conv.weight), id(depthwise.weight), id(network[3].weight)}
    assert len(decayed) + len(others) == len(list(network.parameters()))

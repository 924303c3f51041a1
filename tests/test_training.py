"""The controlled experiment: what is random is a pure function of seed and purpose, and what is measured is meant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from stridelab.config import load
from stridelab.data.load import load as load_data
from stridelab.data.splits import Data
from stridelab.models import layer_plan
from stridelab.models.build import build
from stridelab.system.files import write_atomic
from stridelab.training import Result
from stridelab.training.feature_maps import enlarge, snapshot_epochs, tile_grid
from stridelab.training.fit import fit
from stridelab.training.randomness import BatchOrder, batch_order, initialise, keyed_seed, weights_digest

pytestmark = pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*")


@dataclass
class Notes:
    """A recorder that keeps what it is told."""

    folder: Path
    values: dict[tuple[str, int], float] = field(default_factory=dict)
    images: list[tuple[str, int]] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)

    def metrics(self, values: Mapping[str, float], *, step: int) -> None:
        self.values |= {(name, step): value for name, value in values.items()}

    def image(self, key: str, array: Any, *, step: int) -> None:
        self.images.append((key, step))

    def artifact(self, path: Path, *, to: str = "") -> None:
        self.files.append(path)

    def tags(self, values: Mapping[str, str]) -> None: ...


@pytest.fixture(scope="module")
def data() -> Data:
    return load_data(load(["data.train_size=400", "data.val_size=100"]).data)


def train(folder: Path, data: Data, *overrides: str) -> tuple[Result, Notes]:
    config = load(["trainer.max_epochs=2", "model.channels=[4,8,8]", *overrides])
    plan = layer_plan(config.model, input_channels=1, input_size=(28, 28), num_classes=10)
    notes = Notes(folder)
    result = fit(plan, data, config.trainer, seed=config.seed, recorder=notes, ckpt_path=config.ckpt_path)
    return result, notes


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, data: Data) -> Result:
    return train(tmp_path_factory.mktemp("base"), data)[0]


def timeless(metrics: Mapping[str, float]) -> dict[str, float]:
    return {
        name: value
        for name, value in metrics.items()
        if not name.startswith(("time/", "throughput/", "latency/", "memory/peak"))
    }


def test_the_same_command_twice_gives_the_same_bits(tmp_path: Path, data: Data, base: Result) -> None:
    again, _ = train(tmp_path, data)
    assert again.weights_digest == base.weights_digest
    assert timeless(again.metrics) == timeless(base.metrics)


def test_variants_of_one_seed_share_weights_and_batches_and_other_seeds_do_not(
    tmp_path: Path, data: Data, base: Result
) -> None:
    other, _ = train(tmp_path / "b", data, "model.strides=2-2-1", "model.padding=valid")
    seed, _ = train(tmp_path / "c", data, "seed=1")
    assert base.init_digest == other.init_digest != seed.init_digest
    assert base.batch_order_digest == other.batch_order_digest != seed.batch_order_digest
    assert base.weights_digest != other.weights_digest


def test_continuing_from_a_checkpoint_equals_never_having_stopped(tmp_path: Path, data: Data) -> None:
    whole, _ = train(tmp_path / "whole", data, "trainer.max_epochs=3")
    part = tmp_path / "whole" / "checkpoints" / "epoch-0002.ckpt"
    rest, notes = train(tmp_path / "rest", data, "trainer.max_epochs=3", f"ckpt_path='{part}'")
    assert rest.weights_digest == whole.weights_digest
    assert timeless(rest.metrics) == timeless(whole.metrics)
    assert ("train/loss", 3) in notes.values
    assert ("train/loss", 2) not in notes.values


def test_what_a_run_records(tmp_path: Path, data: Data) -> None:
    result, notes = train(tmp_path, data, "trainer.batch_size=32")
    for epoch in (1, 2):
        for name in ("train/loss", "train/acc", "val/loss", "val/acc"):
            assert (name, epoch) in notes.values
    expected = {
        "test/acc", "test/loss", "final/val_acc", "best/val_acc", "throughput/train_images_per_s",
        "throughput/eval_images_per_s", "latency/batch1_ms", "memory/peak_rss_mib",
        "memory/saved_activations_mib", "memory/params_mib", "time/fit_s", "time/total_s",
    }  # fmt: skip
    assert expected <= set(result.metrics)
    assert result.metrics["best/val_acc"] == max(notes.values["val/acc", epoch] for epoch in (1, 2))
    layers = ("01_conv1", "02_conv2", "03_conv3")
    assert sorted(notes.images) == sorted((f"feature_maps/{name}", step) for name in layers for step in (0, 1, 2))
    with np.load(tmp_path / "feature_maps.npz") as kept:
        assert kept["images"].shape == (4, 1, 28, 28)
        assert kept["0/conv1"].shape == (4, 4, 28, 28)
        assert kept["2/conv3"].dtype == np.float16


def test_accuracy_is_counted_over_images_not_averaged_over_batches(tmp_path: Path, data: Data) -> None:
    """400 images in batches of 128 leave a last one of 16: a mean of batch means would weigh it eightfold."""
    whole, _ = train(tmp_path, data, "trainer.batch_size=128")
    for share in (whole.metrics["final/train_acc"] * 400, whole.metrics["final/val_acc"] * 100):
        assert share == pytest.approx(round(share), abs=1e-6)


def test_snapshots_do_not_change_training(tmp_path: Path, data: Data, base: Result) -> None:
    without, notes = train(tmp_path, data, "trainer.feature_map_images=0")
    assert base.weights_digest == without.weights_digest
    assert notes.images == []


def test_divergence_is_said_with_its_epoch(tmp_path: Path, data: Data) -> None:
    with pytest.raises(FloatingPointError, match=r"diverged: the training loss is (nan|inf) in epoch \d"):
        train(tmp_path, data, "trainer.lr=1e9")


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine", "constant"])
def test_every_schedule_trains(tmp_path: Path, data: Data, schedule: str) -> None:
    _, notes = train(tmp_path, data, f"trainer.schedule={schedule}", "trainer.lr=0.05")
    assert notes.values["train/loss", 2] < notes.values["train/loss", 1]


def test_layout_does_not_change_what_is_learnt(tmp_path: Path, data: Data, base: Result) -> None:
    nchw, _ = train(tmp_path, data, "trainer.channels_last=false")
    assert base.init_digest == nchw.init_digest
    assert base.metrics["final/train_loss"] == pytest.approx(nchw.metrics["final/train_loss"], rel=1e-2)


def test_a_parameter_depends_on_its_name_and_the_seed_alone() -> None:
    small = nn.ModuleDict({"conv": nn.Conv2d(1, 4, 3)})
    large = nn.ModuleDict({"other": nn.Linear(3, 3), "conv": nn.Conv2d(1, 4, 3)})
    for module in (large, small):
        initialise(module, seed=5)
    assert torch.equal(small["conv"].weight, large["conv"].weight)
    before = weights_digest(small)
    initialise(small, seed=6)
    assert weights_digest(small) != before


def test_initial_weights_have_the_scale_of_he() -> None:
    conv = nn.Conv2d(64, 128, 3)
    initialise(conv, seed=0)
    assert float(conv.weight.detach().std()) == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.02)
    assert float(conv.bias.detach().abs().max()) == 0


def test_orders_are_permutations_that_differ_by_epoch() -> None:
    orders = [batch_order(3, epoch=epoch, count=50) for epoch in range(3)]
    assert all(sorted(order.tolist()) == list(range(50)) for order in orders)
    assert len({tuple(order.tolist()) for order in orders}) == 3
    assert torch.equal(orders[1], batch_order(3, epoch=1, count=50))


def test_the_order_digest_is_of_what_was_handed_out() -> None:
    one, two = (BatchOrder(0, count=10, batch_size=2) for _ in range(2))
    one(0)
    assert one.digest() != two.digest()
    two(0)
    assert one.digest() == two.digest()
    assert replace_batch_size(two).digest() != two.digest()


def replace_batch_size(order: BatchOrder) -> BatchOrder:
    other = BatchOrder(order.seed, count=order.count, batch_size=order.batch_size + 1)
    other(0)
    return other


def test_keys_do_not_run_into_each_other() -> None:
    assert keyed_seed(1, "a", 23) != keyed_seed(1, "a2", 3) != keyed_seed(12, "a", 3)


def test_snapshot_epochs_are_first_some_middle_and_last() -> None:
    assert snapshot_epochs(1) == (0, 1)
    assert snapshot_epochs(10) == (0, 1, 5, 10)


def test_a_tile_grid_keeps_pixels_square_and_sharp() -> None:
    maps = np.zeros((2, 3, 4, 5), np.float16)
    maps[1, 2, 3, 4] = 7
    grid = tile_grid(maps)
    factor = grid.shape[1] // (3 * 6 - 1)
    assert grid.shape == ((2 * 5 - 1) * factor, (3 * 6 - 1) * factor)
    assert grid.shape[1] <= 512
    assert (grid[-factor:, -factor:] == 255).all()
    assert set(np.unique(grid)) == {0, 255}


def test_enlarging_repeats_pixels() -> None:
    small = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert (enlarge(small)[::170, ::170] == small).all()


def test_a_replaced_file_is_the_new_one_and_leaves_nothing_beside(tmp_path: Path) -> None:
    target = tmp_path / "folder" / "file"
    target.parent.mkdir()
    write_atomic(target, b"old")
    write_atomic(target, b"new")
    assert target.read_bytes() == b"new"
    assert list(target.parent.iterdir()) == [target]


def test_the_network_of_a_plan_has_the_plan_of_its_config() -> None:
    config = load(["model.strides=1-2-2"]).model
    plan = layer_plan(config, input_channels=1, input_size=(28, 28), num_classes=10)
    names = [name for name, _ in build(plan).named_parameters()]
    other = replace(plan, layers=tuple(replace(layer, stride=(1, 1)) for layer in plan.layers))
    assert names == [name for name, _ in build(other).named_parameters()]

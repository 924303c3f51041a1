"""Where training starts, and what is refused instead of being reported as a result."""

from __future__ import annotations

import gc
import json
import math
import os
import weakref
from pathlib import Path

import pytest
import torch

from stridelab.config import load
from stridelab.data.load import load as load_data
from stridelab.data.splits import Data
from stridelab.tracking.status import RESULT, read_result, set_aside_bad_result
from stridelab.training.checkpoints import refuse_unfit_checkpoint
from stridelab.training.checksummed import read_sealed
from stridelab.training.memory import measured_saved_bytes
from stridelab.training.progress import epochs_without_gain
from stridelab.training.settings import TrainerConfig
from test_training import timeless, train
from tracking_stores import leave_result

pytestmark = pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*")


@pytest.fixture(scope="module")
def data() -> Data:
    return load_data(load(["data.train_size=400", "data.val_size=100"]).data)


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_checkpoint_with_nothing_left_to_train_is_no_result(tmp_path: Path, data: Data, epochs: int) -> None:
    """It would show the accuracy of the run that it is from, under another seed's name."""
    train(tmp_path / "first", data, "trainer.schedule=constant")
    given = tmp_path / "first" / "checkpoints" / "epoch-0002.ckpt"
    with pytest.raises(ValueError, match=r"end of epoch 2, .*nothing is left to train; give trainer.max_epochs=3"):
        train(tmp_path / "next", data, f"trainer.max_epochs={epochs}", "seed=4", f"ckpt_path='{given}'")


@pytest.mark.parametrize(
    ("override", "match"),
    [
        ("trainer.limit_train_batches=0", "leaves nothing to train on"),
        ("trainer.limit_train_batches=0.0", "leaves nothing to train on"),
        ("trainer.limit_train_batches=0.1", "of 7 training batches is less than one"),
        ("trainer.overfit_batches=0.01", "of 7 training batches is less than one"),
        ("trainer.limit_val_batches=0", "leaves nothing to validate and test on"),
        ("trainer.limit_val_batches=0.0", "leaves nothing to validate and test on"),
        ("trainer.limit_val_batches=0.5", "of 1 validation batches is less than one"),
    ],
)
def test_an_untrained_network_is_no_result(tmp_path: Path, data: Data, override: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        train(tmp_path, data, override)


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine"])
def test_a_schedule_with_a_length_is_not_continued_past_it(tmp_path: Path, data: Data, schedule: str) -> None:
    """One-cycle would crash in PyTorch, and a cosine would silently rise again."""
    train(tmp_path / "first", data, f"trainer.schedule={schedule}")
    given = tmp_path / "first" / "checkpoints" / "epoch-0002.ckpt"
    more = (f"trainer.schedule={schedule}", "trainer.max_epochs=4", f"ckpt_path='{given}'")
    with pytest.raises(
        ValueError, match=rf"{schedule} over 14 steps.*{schedule} over 28 steps.*only trainer.schedule=c"
    ):
        train(tmp_path / "next", data, *more)
    with pytest.raises(ValueError, match=rf"trained with trainer.schedule={schedule} over 14"):
        train(tmp_path / "next", data, *more[1:], "trainer.schedule=constant")


def test_a_constant_schedule_is_continued_as_if_it_had_never_ended(tmp_path: Path, data: Data) -> None:
    constant = ("trainer.schedule=constant", "trainer.lr=0.05")
    whole, _ = train(tmp_path / "whole", data, *constant, "trainer.max_epochs=4")
    train(tmp_path / "first", data, *constant, "trainer.max_epochs=2")
    given = tmp_path / "first" / "checkpoints" / "epoch-0002.ckpt"
    rest, _ = train(tmp_path / "rest", data, *constant, "trainer.max_epochs=4", f"ckpt_path='{given}'")
    assert rest.weights_digest == whole.weights_digest
    assert timeless(rest.metrics)["test/acc"] == timeless(whole.metrics)["test/acc"]
    with pytest.raises(ValueError, match=r"trainer\.lr=0\.05; this run has .*trainer\.lr=0\.1"):
        refuse_unfit_checkpoint(given, TrainerConfig(max_epochs=4, schedule="constant", lr=0.1), count=400)
    for key, value in {"momentum": 0.5, "weight_decay": 0.01}.items():  # PyTorch would go on with those of the file
        other = TrainerConfig(max_epochs=4, schedule="constant", lr=0.05, **{key: value})
        with pytest.raises(ValueError, match=rf"trained with .*; this run has .*trainer\.{key}={value}, "):
            refuse_unfit_checkpoint(given, other, count=400)


def test_what_is_no_file_or_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    pipe, sparse = tmp_path / "pipe.ckpt", tmp_path / "sparse.ckpt"
    os.mkfifo(pipe)
    with sparse.open("wb") as file:
        file.truncate(10 * 2**30)
    for path, match in ((pipe, "not a file"), (tmp_path, "not a file"), (Path("/dev/zero"), "not a file")):
        with pytest.raises(ValueError, match=match):
            read_sealed(path)
    with pytest.raises(ValueError, match=r"has 10,737,418,240 bytes; a checkpoint has at most"):
        read_sealed(sparse)
    os.truncate(sparse, 4 * 2**30)
    with pytest.raises(ValueError, match="does not end in its checksum"):
        read_sealed(sparse)


@pytest.mark.parametrize("content", [b"", b'{"metrics": {"test/acc": 0.5', b"{}", b"[1]", b'{"metrics": 1}', b"\xff\0"])
def test_a_broken_result_does_not_count_and_is_put_aside(tmp_path: Path, content: bytes) -> None:
    (tmp_path / RESULT).write_bytes(content)
    assert read_result(tmp_path) is None
    assert "put aside as result.json.bad" in set_aside_bad_result(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["result.json.bad"]
    leave_result(tmp_path)
    sound = read_result(tmp_path)
    assert sound is not None
    (tmp_path / RESULT).write_text(json.dumps(sound | {"train_images_timed": 1}))
    assert read_result(tmp_path) == sound, "of an earlier version, which wrote more"
    assert set_aside_bad_result(tmp_path) == ""


def test_measuring_what_is_saved_leaves_no_activation_behind() -> None:
    """Each fit of a process would keep its own: the saved tensor held its graph, which held the tensor."""
    kept: list[weakref.ref[torch.Tensor]] = []

    class Remembering(torch.nn.ReLU):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            output = super().forward(input)
            kept.append(weakref.ref(output))
            return output

    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), Remembering(), torch.nn.Conv2d(2, 2, 3), Remembering())
    gc.disable()
    try:
        assert measured_saved_bytes(network, (2, 1, 8, 8)) > 0
        assert [ref() for ref in kept] == [None, None]
    finally:
        gc.enable()


@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed"])
def test_every_precision_trains(tmp_path: Path, data: Data, precision: str) -> None:
    result, _ = train(tmp_path, data, f"trainer.precision={precision}", "trainer.max_epochs=1")
    assert 0 <= result.metrics["test/acc"] <= 1


def test_a_cluster_beside_changes_nothing(tmp_path: Path, data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slurm's `srun` on the PATH, or its variables of a job with two tasks: no warning (warnings are errors here), no
    other strategy, the same bits."""
    alone, _ = train(tmp_path / "alone", data, "trainer.max_epochs=1")
    srun = tmp_path / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text("#!/bin/sh\nexit 1\n")
    srun.chmod(0o755)
    monkeypatch.setenv("PATH", str(srun.parent), prepend=os.pathsep)
    beside, _ = train(tmp_path / "beside", data, "trainer.max_epochs=1")
    job = {"NTASKS": "2", "JOB_NAME": "sweep", "PROCID": "1", "LOCALID": "1", "NODEID": "0", "JOB_ID": "7"}
    for name, value in job.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    within, _ = train(tmp_path / "within", data, "trainer.max_epochs=1")
    assert alone.weights_digest == beside.weights_digest == within.weights_digest


STOPPING = ("trainer.early_stopping=2", "trainer.max_epochs=12", "trainer.schedule=constant", "trainer.lr=0.4")


def test_training_ends_after_epochs_without_gain_and_goes_on_to_the_same_bits(tmp_path: Path, data: Data) -> None:
    """Killed after its last checkpoint, or an epoch before it: the rest is what it would have been, and no more."""
    whole, notes = train(tmp_path, data, *STOPPING)
    losses = [notes.values["val/loss", epoch] for epoch in range(1, int(whole.metrics["final/epoch"]) + 1)]
    lowest = losses.index(min(losses)) + 1
    assert len(losses) == lowest + 2 < 12
    assert ("val/loss", len(losses) + 1) not in notes.values
    assert whole.metrics["final/val_loss"] == losses[-1]
    assert whole.metrics["best/val_acc"] == max(notes.values["val/acc", at] for at in range(1, len(losses) + 1))
    assert notes.values["test/acc", 0] == whole.metrics["test/acc"]
    assert max(step for _, step in notes.images) == len(losses)
    checkpoints = sorted((tmp_path / "checkpoints").iterdir())
    for _ in checkpoints:
        again, more = train(tmp_path, data, *STOPPING)
        assert timeless(again.metrics) == timeless(whole.metrics)
        assert (again.weights_digest, again.batch_order_digest) == (whole.weights_digest, whole.batch_order_digest)
        assert ("val/loss", len(losses) + 1) not in more.values
        checkpoints.pop().unlink()
    full, _ = train(tmp_path / "full", data, *STOPPING[1:])
    assert full.batch_order_digest == whole.batch_order_digest, "variants that stop at other epochs are comparable"
    assert "final/epoch" not in full.metrics


def test_a_patience_of_accumulated_steps_goes_on_to_the_same_bits(tmp_path: Path, data: Data) -> None:
    """Stopped early, with gradients of several batches a step, and begun again before the end of its patience."""
    keys = ("trainer.accumulate=3", "trainer.early_stopping=1", "trainer.max_epochs=9", "trainer.lr=1.5")
    whole, _ = train(tmp_path, data, *keys)
    assert whole.metrics["final/epoch"] < 9
    (tmp_path / "checkpoints" / f"epoch-{whole.metrics['final/epoch']:04.0f}.ckpt").unlink()
    again, _ = train(tmp_path, data, *keys)
    assert timeless(again.metrics) == timeless(whole.metrics)
    assert (again.weights_digest, again.batch_order_digest) == (whole.weights_digest, whole.batch_order_digest)


def test_patience_that_is_never_lost_changes_no_bit(tmp_path: Path, data: Data) -> None:
    plain, _ = train(tmp_path / "plain", data)
    patient, _ = train(tmp_path / "patient", data, "trainer.early_stopping=9")
    assert patient.metrics["final/epoch"] == 2
    assert patient.weights_digest == plain.weights_digest


def test_a_checkpoint_whose_patience_is_lost_has_nothing_left_to_train(tmp_path: Path, data: Data) -> None:
    first, _ = train(tmp_path / "first", data, *STOPPING)
    given = tmp_path / "first" / "checkpoints" / f"epoch-{first.metrics['final/epoch']:04.0f}.ckpt"
    with pytest.raises(ValueError, match=r"for 2 epochs, and trainer.early_stopping=2: nothing is left to train"):
        train(tmp_path / "next", data, *STOPPING, "seed=4", f"ckpt_path='{given}'")


@pytest.mark.parametrize(
    ("history", "epochs"),
    [
        ([], 0),
        ([2.0], 0),
        ([2, 1], 0),
        ([2, 1, 1], 1),
        ([1, 2, 3], 2),
        ([3, 4, 2, 2.5], 1),
        ([math.nan, 2], 0),
        ([2, math.nan, math.inf], 2),
    ],
)
def test_epochs_without_gain(history: list[float], epochs: int) -> None:
    assert epochs_without_gain({n: {"val/loss": loss} for n, loss in enumerate(history, start=1)}) == epochs


@pytest.mark.parametrize(
    ("override", "match"),
    [
        ("trainer.early_stopping=0", "trainer.early_stopping=0 must be at least 1"),
        ("trainer.precision=16-mixed", "needs trainer.accelerator=gpu; on a CPU, choose one of 32-true, bf16-mixed"),
    ],
)
def test_what_training_cannot_do_is_refused(override: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        load([override])

"""One run on two devices (processes of the CPU, gloo) against the same on one: what is equal to the bit, what within
which tolerance, and what is left when either process is killed."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from stridelab.cli.train import start
from stridelab.config import load
from stridelab.system.files import read_json
from stridelab.tracking.journal import JOURNAL, read
from stridelab.training import ranks
from stridelab.training.checkpoints import read_checkpoint
from stridelab.training.settings import TrainerConfig
from stridelab.training.step_grouping import refuse_fewer_images

EPOCHS = 12
SMALL = (
    *(
        "data.train_size=331",
        "data.val_size=101",
        "model.channels=[4,8]",
        "model.strides=[2,1]",
        "trainer.batch_size=32",
    ),
    *("trainer.accumulate=2", "trainer.flip=true", "trainer.precision=64-true", f"trainer.max_epochs={EPOCHS}"),
    *("trainer.ema=0.9", "trainer.threads=1", "trainer.feature_map_images=1"),
)  # the last step has 331 - 5 * 64 = 11 images, which two devices cannot halve


@dataclass
class Done:
    folder: Path

    @property
    def result(self) -> dict[str, Any]:
        found = read_json(self.folder / "result.json")
        assert isinstance(found, dict)
        return found

    def metrics(self) -> dict[tuple[str, int], float]:
        """All that is no measured time or size."""
        records = [one.data for one in read(self.folder / JOURNAL) if one.kind == "metrics"]
        points = [(key, one["step"], float(value)) for one in records for key, value in one["values"].items()]
        kept = [point for point in points if point[0].partition("/")[0] in ("train", "val", "test", "final", "best")]
        assert len({point[:2] for point in kept}) == len(kept), "each once"
        return {(key, step): value for key, step, value in kept}

    def weights(self) -> dict[str, torch.Tensor]:
        state = read_checkpoint(self.folder / "checkpoints" / f"epoch-{EPOCHS:04d}.ckpt")["state_dict"]
        return {name: value for name, value in state.items() if value.is_floating_point()}


def train(results: Path, *words: str) -> tuple[int, Done]:
    config = load([*SMALL, f"paths.results_dir={results}", *words])
    code = start([config], multirun=False)
    (folder,) = (results / "runs").iterdir()
    return code, Done(folder)


def of(tmp: Path, name: str, *words: str) -> Done:
    code, done = train(tmp / name, "launcher=in_process", *words)
    assert code == 0
    return done


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Done:
    return of(tmp_path_factory.mktemp("ranks"), "alone")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Done:
    return of(tmp_path_factory.mktemp("ranks"), "two", "trainer.devices=2", "trainer.sync_batchnorm=true")


def test_two_devices_begin_and_see_the_same_to_the_bit(alone: Done, two: Done) -> None:
    for digest in ("init_digest", "batch_order_digest"):
        assert alone.result[digest] == two.result[digest]
    assert alone.result["weights_digest"] != two.result["weights_digest"], "sums of two halves are rounded elsewhere"


def test_two_devices_with_batch_norm_over_both_train_as_one(alone: Done, two: Done) -> None:
    assert alone.metrics().keys() == two.metrics().keys()
    differ = {key: abs(value - two.metrics()[key]) for key, value in alone.metrics().items()}
    assert max(value for (key, _), value in differ.items() if key.endswith("loss")) < 1e-6, "sums of float32"
    assert max(value for (key, _), value in differ.items() if key.endswith("acc")) == 0
    for name, weight in alone.weights().items():
        assert (weight - two.weights()[name]).abs().max() < 1e-9, name


def test_throughput_is_of_all_images_and_memory_of_one_process(alone: Done, two: Done) -> None:
    timed, timed_alone = (one.result["metrics"]["throughput/train_timed_images"] for one in (two, alone))
    assert timed == pytest.approx(timed_alone, abs=EPOCHS * 32)
    assert timed > 0.75 * EPOCHS * 331
    names = {"memory/peak_rss_mib", "memory/saved_activations_mib", "throughput/train_images_per_s"}
    assert names <= two.result["metrics"].keys()
    saved = [one.result["metrics"]["memory/saved_activations_mib"] for one in (alone, two)]
    assert saved[1] == pytest.approx(saved[0] / 2, rel=0.05), "of a device's share of the batch"


def kill(rank: int, folder: Path) -> None:
    """When two epochs are kept. The run's own process is in its journal, the other is its child."""
    until = time.monotonic() + 300
    while not list(folder.glob("*/checkpoints/epoch-0002.ckpt")):
        assert time.monotonic() < until, "no second epoch"
        time.sleep(0.001)
    (journal,) = folder.glob(f"*/{JOURNAL}")
    first = [json.loads(line)["data"]["pid"] for line in journal.read_text().splitlines() if '"pid"' in line][-1]
    (other,) = Path(f"/proc/{first}/task/{first}/children").read_text().split()
    os.kill(first if rank == 0 else int(other), signal.SIGKILL)
    for _ in range(600):  # whichever is left goes, too
        if not any(is_alive(int(pid)) for pid in (first, other)):
            return
        time.sleep(0.1)
    raise AssertionError(f"process {first} or {other} is still there")


def is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("rank", [0, pytest.param(1, marks=pytest.mark.faults)])
def test_whichever_process_is_killed_the_same_command_ends_with_the_same_bits(
    rank: int, two: Done, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not Path("/proc/self/task").is_dir():
        pytest.skip("children are found in /proc")
    words = ("trainer.devices=2", "trainer.sync_batchnorm=true", "launcher=local")
    killer = threading.Thread(target=kill, args=(rank, tmp_path / "runs"), daemon=True)
    killer.start()
    code, done = train(tmp_path, *words)
    killer.join()
    assert code == 1
    assert not (done.folder / "result.json").exists()
    said = capsys.readouterr()
    assert "killed by SIGKILL" in said.out + said.err
    assert train(tmp_path, *words)[0] == 0
    for digest in ("init_digest", "batch_order_digest", "weights_digest"):
        assert done.result[digest] == two.result[digest]
    assert done.metrics() == two.metrics()
    assert "goes on after epoch" in (said.out + capsys.readouterr().out + (done.folder / "output.txt").read_text())


@pytest.mark.parametrize("count", [1, 7, 64, 331])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_each_image_of_a_step_is_given_to_one_device(count: int, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "size", lambda: size)
    parts = []
    for number in range(size):
        monkeypatch.setattr(ranks, "number", lambda number=number: number)
        parts.append(ranks.share(count, grain=32))
    assert sorted(torch.cat(parts).tolist()) == list(range(count))
    lengths = [len(part) for part in parts]
    assert max(lengths) - min(lengths) <= count // 32 + 1


@pytest.mark.faults
def test_without_it_each_device_has_its_own_batch_norm(two: Done, tmp_path: Path) -> None:
    own = of(tmp_path, "own", "trainer.devices=2")
    assert own.result["batch_order_digest"] == two.result["batch_order_digest"]
    losses = [one.metrics()["train/loss", 1] for one in (own, two)]
    assert abs(losses[0] - losses[1]) > 1e-6
    assert np.isfinite(own.result["metrics"]["test/loss"])


REFUSED = {
    "batch_size=33 devices=2": r"batch_size=33 must be a multiple of trainer\.devices=2",
    "devices=0": r"devices=0 must be at least 1",
    "devices=2 accelerator=mps": r"accelerator=mps is one device",
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_shared_is_refused(words: str) -> None:
    with pytest.raises(ValueError, match=REFUSED[words]):
        load([f"trainer.{word}" for word in words.split()])


def test_a_last_batch_with_an_image_for_each_device_is_asked_for() -> None:
    with pytest.raises(ValueError, match=r"trainer\.devices=2: of 65 training images .* 1 are in the last one"):
        refuse_fewer_images(TrainerConfig(devices=2, batch_size=64), count=65)
    refuse_fewer_images(TrainerConfig(devices=2, batch_size=64), count=66)


def test_batch_norm_over_all_is_plain_batch_norm_where_there_is_one_device() -> None:
    from stridelab.training.batch_norm import synchronise_batch_norm

    network, other = (nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3)) for _ in range(2))
    other.load_state_dict(network.state_dict())
    synchronise_batch_norm(other)
    images = torch.rand(5, 1, 8, 8)
    assert torch.equal(network(images), other(images))
    assert network.state_dict().keys() == other.state_dict().keys()

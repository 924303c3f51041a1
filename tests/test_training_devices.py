"""What a GPU asks of training, as far as it can be held without one."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from stridelab.cli.train import start
from stridelab.config import load
from stridelab.data.load import load as load_data
from stridelab.plan import layer_plan_of
from stridelab.sweep.devices import Devices
from stridelab.training.checkpoints import AtomicCheckpointIO
from stridelab.training.fit import fit
from stridelab.training.memory import PeakMemory, measured_saved_bytes
from stridelab.training.module import Classifier, aligned
from stridelab.training.progress import refuse_divergence
from stridelab.training.randomness import LayerNoise, keyed_seed
from stridelab.training.step_grouping import Steps
from stridelab.training.throughput import batch1_latency_ms
from test_training import Notes


class HostReads(TorchDispatchMode):
    """Counts what the processor would wait for a GPU for."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += torch.Tag.data_dependent_output in func.tags
        return func(*args, **(kwargs or {}))


def test_cuda_is_begun_before_its_peak_is_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in ("init", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda *given, name=name: calls.append(name))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3 * 2**20)
    peak = PeakMemory.start(torch.device("cuda", 0))
    assert calls == ["init", "reset_peak_memory_stats"]
    assert peak.metrics()["memory/peak_device_mib"] == 3.0
    calls.clear()
    PeakMemory.start(torch.device("cpu"))
    assert calls == []


@pytest.mark.parametrize("kind", ["cpu", "cuda", "mps"])
def test_noise_is_what_manual_seed_gives_on_the_devices_in_use(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a device that is not, PyTorch would keep the call."""
    seeded, kept = dict[str, int](), len(torch.cuda._queued_calls)
    for name in ("cuda", "mps"):
        monkeypatch.setattr(getattr(torch, name), "manual_seed", lambda seed, name=name: seeded.update({name: seed}))
    given: Any = (SimpleNamespace(current_epoch=3), SimpleNamespace(device=torch.device(kind)))
    LayerNoise(7).on_train_epoch_start(*given)
    assert len(torch.cuda._queued_calls) == kept
    drawn, seed = torch.rand(5), keyed_seed(7, "layers", 3)
    assert seeded == ({kind: seed} if kind != "cpu" else {})
    torch.manual_seed(seed)
    assert torch.equal(torch.rand(5), drawn)


@pytest.mark.parametrize(("count", "copied"), [(8, [False, False, False]), (2, [False, True, True])])
def test_a_part_of_several_batches_begins_in_memory_as_a_batch_does(count: int, copied: list[bool]) -> None:
    whole = torch.rand(3 * count, 5, 5, 1).permute(0, 3, 1, 2)  # 100 bytes each
    for part, moved in zip(torch.split(whole, count), copied, strict=True):
        found = aligned(part)
        assert found.data_ptr() % 32 == 0
        assert (found is not part) is moved
        assert torch.equal(found, part)
        assert found.stride() == part.stride()


def test_weights_that_are_no_numbers_are_found_by_name_and_asked_for_once() -> None:
    config = load(["trainer.ema=0.9"]).trainer
    module = Classifier(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)), config, steps=Steps(1, 9, 1))
    with HostReads() as reads:
        refuse_divergence(module, epoch=2)
    assert reads.count == 1
    module.network[1].running_var[1] = float("inf")
    with pytest.raises(FloatingPointError, match=r"^diverged: 1.running_var holds .* after epoch 2; lower trainer.lr"):
        refuse_divergence(module, epoch=2)


def test_a_network_that_was_moved_to_be_timed_can_be_asked_for_gradients_after(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors that are made in inference mode, as a move to another device does, never take part in autograd."""
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def move(self: nn.Module, *where: Any, **named: Any) -> nn.Module:
        for module in self.modules():
            module._parameters.update(
                {name: nn.Parameter(one.detach().clone()) for name, one in module._parameters.items()}
            )
            module._buffers.update({name: one.clone() for name, one in module._buffers.items()})
        return self

    monkeypatch.setattr(nn.Module, "to", move)
    assert batch1_latency_ms(network, torch.rand(1, 1, 8, 8), repeats=2) > 0
    assert not any(tensor.is_inference() for tensor in network.state_dict().values())
    assert measured_saved_bytes(network, (5, 1, 8, 8)) > 0


def test_a_checkpoint_of_a_gpu_loads_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = {"weight": torch.arange(6.0), "step": torch.tensor(3)}
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        AtomicCheckpointIO().save_checkpoint({"state_dict": weights}, tmp_path / "gpu.ckpt")
    with pytest.raises(RuntimeError, match="CUDA"):
        torch.load(tmp_path / "gpu.ckpt", weights_only=True)
    found = AtomicCheckpointIO().load_checkpoint(tmp_path / "gpu.ckpt")["state_dict"]
    assert {tensor.device.type for tensor in found.values()} == {"cpu"}
    assert all(torch.equal(found[name], tensor) for name, tensor in weights.items())


@pytest.mark.parametrize(
    ("wanted", "there", "choices"), [("gpu", "mps", "cpu, auto, mps"), ("mps", "cuda", "cpu, auto, gpu")]
)
def test_a_device_that_is_not_here_is_refused_before_anything_is_created(
    wanted: str, there: str, choices: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Devices("2.14", gpus=int(there == "cuda"), mps=there == "mps")
    monkeypatch.setattr("stridelab.sweep.preflight.found_devices", lambda: found)
    config = load([f"trainer.accelerator={wanted}", f"paths.results_dir={tmp_path / 'results'}", "launcher=in_process"])
    with pytest.raises(
        ValueError, match=rf"trainer.accelerator={wanted}: .* no such device here; choose one of {choices}\."
    ):
        start([config], multirun=False)
    assert list(tmp_path.iterdir()) == []


def test_what_a_gpu_is_to_run_can_be_read_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its modules, and the network of each of its cases."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "gpu"))
    here = sorted((Path(__file__).parent / "gpu").glob("test_*.py"))
    modules = {path.stem: import_module(path.stem) for path in here}
    configured = import_module("fits").configured
    cases = modules["test_gpu_training"].CASES.values()
    assert len(cases) > 20
    for words in cases:
        config = configured(*words)
        assert config.trainer.accelerator == "gpu"
        assert layer_plan_of(config).layers
    for words in modules["test_gpu_memory"].NETWORKS:
        assert modules["test_gpu_memory"].predicted(*words).peak > 0


@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed"])
def test_feature_maps_are_taken_in_the_precision_of_the_network(precision: str, tmp_path: Path) -> None:
    config = load(
        ["data.train_size=100", "data.val_size=100", "trainer.max_epochs=1", "model.channels=[4]", "model.strides=2",
         f"trainer.precision={precision}", "trainer.lr=0.02"]
    )  # fmt: skip
    notes = Notes(tmp_path)
    fit(layer_plan_of(config), load_data(config.data), config.trainer, seed=0, recorder=notes)
    assert notes.images == [("feature_maps/01_conv1", 0), ("feature_maps/01_conv1", 1)]

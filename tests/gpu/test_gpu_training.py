"""A fit on a GPU: the same bits again, as a CUDA graph and step by step, in every precision and mode."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from fits import ACCELERATOR, EAGER, REHEARSED, Fits, configured, data_of, needs_gpu
from PIL import Image
from torch import nn

from stridelab.names import CUDA_GRAPH
from stridelab.sweep.launchers.local import LocalLauncher
from stridelab.sweep.task import Task
from stridelab.training.loop import batches_of
from stridelab.training.randomness import BatchOrder
from stridelab.training.runtime import prepare_process
from stridelab.training.step import TrainingStep
from stridelab.training.step_grouping import Steps

CASES = {
    "32 bits with TF32": (),
    "32 bits": ("trainer.tf32=false",),
    "64 bits": ("trainer.precision=64-true",),
    "bf16": ("trainer.precision=bf16-mixed",),
    "16 bits": ("trainer.precision=16-mixed",),
    "reflect": ("model.padding_mode=reflect",),
    "replicate": ("model.padding_mode=replicate",),
    "circular": ("model.padding_mode=circular",),
    "NCHW": ("trainer.channels_last=false",),
    "flatten": ("model.head=flatten",),
    "max pool": ("model.downsample=max_pool",),
    "average pool": ("model.downsample=avg_pool",),
    "blur pool": ("model.downsample=blur_pool",),
    "space to depth": ("model.downsample=space_to_depth",),
    "crop and flip": ("trainer.crop=2", "trainer.flip=true"),
    "adamw": ("trainer.optimizer=adamw", "trainer.lr=0.003", "trainer.schedule=cosine", "trainer.warmup=4"),
    "plain sgd": ("trainer.momentum=0", "trainer.schedule=constant", "trainer.label_smoothing=0.1"),
    "moving average": ("trainer.ema=0.9",),
    "accumulated": ("trainer.accumulate=2",),
    "resnet": ("model=resnet",),
    "vgg": ("model=vgg",),
    "allconv": ("model=allconv",),
    "convnext": ("model=convnext", "trainer.optimizer=adamw", "trainer.lr=0.003"),
    "dropout": ("model=torchvision", "model.name=mobilenet_v3_small"),
    "stochastic depth": ("model=torchvision", "model.name=efficientnet_b0"),
    "locate": ("task=locate", "data=canvas"),
    "segment": ("task=segment", "data=canvas", "trainer.precision=bf16-mixed"),
}
CHECKED_TWICE = ("32 bits with TF32", "bf16", "16 bits", "crop and flip", "dropout", "segment")
"""Run again, too: each costs a second."""


def fitted(fits: Fits, name: str, *more: str):
    if REHEARSED and "=16-mixed" in " ".join(CASES[name]):
        pytest.skip("of a real GPU")
    return fits(*CASES[name], *more)


@pytest.mark.parametrize("name", CASES)
def test_a_recorded_step_is_the_step_to_the_bit(name: str, fits: Fits) -> None:
    recorded, eager = fitted(fits, name), fitted(fits, name, EAGER)
    assert recorded.bits == eager.bits
    assert eager.step == ""
    assert recorded.step == ("" if REHEARSED else CUDA_GRAPH)
    losses = [value for (name, _), value in recorded.values.items() if name == "train/loss"]
    assert len(losses) == 2
    assert np.isfinite(losses).all()


@pytest.mark.parametrize("name", CHECKED_TWICE)
def test_the_same_fit_twice_has_the_same_bits(name: str, fits: Fits) -> None:
    assert fitted(fits, name).bits == fits.again(*CASES[name]).bits


@needs_gpu
def test_precisions_are_what_they_say(fits: Fits) -> None:
    names = ("32 bits with TF32", "32 bits", "64 bits", "bf16", "16 bits")
    wide = ("model.channels=[32,32,64]",)  # for which cuDNN has kernels that use TF32
    digests = {fitted(fits, name, *wide).result.weights_digest for name in names}
    assert len(digests) == len(names), "TF32 and each precision rounds in its own way"


def test_in_double_precision_a_gpu_learns_what_the_cpu_learns(fits: Fits) -> None:
    """The processor's fit is the oracle: another device, other kernels, the same numbers but for rounding."""
    words = ("trainer.precision=64-true", "trainer.crop=2", "trainer.flip=true", "trainer.ema=0.9")
    here, there = fits("trainer.accelerator=cpu", *words), fits(*words)
    assert here.result.init_digest == there.result.init_digest
    assert here.result.batch_order_digest == there.result.batch_order_digest
    learnt = [key for key in here.values if key[0].endswith("loss")]
    assert len(learnt) > 4
    for key in learnt:
        assert there.values[key] == pytest.approx(here.values[key], rel=1e-6), key  # told in 32 bits


def test_files_of_images_train_as_images_in_memory_do(fits: Fits, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for kind in range(3):
        for number in range(40):
            path = tmp_path / "set" / f"class{kind}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = generator.integers(0, 120 + 60 * kind, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
    words = ("data=image_folder", f"data.root={tmp_path / 'set'}", f"data.cache_dir={tmp_path / 'cache'}")
    words = (*words, "data.train_size=null", "data.val_size=10", "trainer.batch_size=8", "data.size=24")
    assert fits(*words).bits == fits(*words, EAGER).bits


@pytest.mark.parametrize("words", [(), ("trainer.crop=3", "trainer.flip=true")], ids=["plain", "augmented"])
@pytest.mark.parametrize("layout", ["true", "false"])
def test_batches_on_a_gpu_are_those_of_the_cpu_to_the_bit(words: tuple[str, ...], layout: str) -> None:
    made = []
    for device in (ACCELERATOR, "trainer.accelerator=cpu"):
        config = configured(device, f"trainer.channels_last={layout}", *words)
        data, order = data_of(config.data), BatchOrder(0, count=1000, batch_size=64)
        batches = batches_of(data, config.trainer, order, Steps(at_once=2, an_epoch=16, epochs=2))["train"]
        batches.set_epoch(1)
        made.append([tensor.cpu() for batch in batches for tensor in batch])
    assert len(made[0]) == 2 * 8
    assert all(map(torch.equal, *made))


class NoWaiting(pl.Callback):
    """Turns an operation that waits for the GPU within a training turn into an error, from the second epoch on: in the
    first one steps are recorded and what is sent to the GPU once is sent."""

    turns = 0

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: object, index: int) -> None:
        if trainer.current_epoch:
            watch_for_waiting("error")
            self.turns += 1

    def on_train_batch_end(self, *given: object) -> None:
        watch_for_waiting("default")


def watch_for_waiting(mode: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch says once that this is a prototype
        torch.cuda.set_sync_debug_mode(mode)


@needs_gpu
@pytest.mark.parametrize(
    "more",
    [
        (),
        (EAGER,),
        ("trainer.crop=2", "trainer.flip=true"),
        ("trainer.ema=0.9",),
        ("task=locate", "data=canvas"),
        ("task=segment", "data=canvas"),
    ],
)
def test_no_training_turn_waits_for_the_gpu(more: tuple[str, ...], fits: Fits) -> None:
    watch = NoWaiting()
    try:
        fits.again(*more, callbacks=[watch])
    finally:
        watch_for_waiting("default")
    assert watch.turns > 4


class Waits(nn.Module):
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values * float(values.detach().mean().item() < math.inf)


class CannotBeRecorded(nn.Module):
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        torch.cuda.synchronize()  # which is no operation on a tensor, and not found ahead
        return values


def trained_with(kind: type[nn.Module], graph: str, *, progress: Any) -> tuple[list[Any], list[str]]:
    """In a child: what a record that CUDA ended leaves behind could spoil the tests after it."""
    config, told = configured(f"trainer.cuda_graph={graph}", "trainer.batch_size=8").trainer, list[str]()
    prepare_process(config)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), kind(), nn.Dropout(0.5), nn.Linear(8, 3)).cuda()
    step = TrainingStep(network, config, num_steps=9, tell=told.append)
    generator = torch.Generator().manual_seed(0)
    for _ in range(9):
        step(torch.rand(8, 4, generator=generator).cuda(), torch.randint(3, (8,), generator=generator).cuda())
    torch.cuda.empty_cache()  # an error while the allocator believes that a graph is being recorded
    del network[1]
    other = TrainingStep(network, config, num_steps=9, tell=told.append)
    for _ in range(5):
        other(torch.rand(8, 4).cuda(), torch.randint(3, (8,)).cuda())
    return [tensor.tolist() for tensor in step.state()], told


@needs_gpu
@pytest.mark.parametrize(
    ("kind", "said"),
    [(Waits, "no CUDA graph: the step waits for the GPU"), (CannotBeRecorded, "no CUDA graph: it cannot be recorded")],
)
def test_a_step_that_cannot_be_recorded_trains_as_it_is(kind: type[nn.Module], said: str, pool: LocalLauncher) -> None:
    """Dropout draws its noise from where a failed record had taken it over; a later step is recorded."""
    outcomes = pool.run([Task(trained_with, (kind, graph)) for graph in ("true", "false")])
    assert [outcome.reason for outcome in outcomes] == [None, None]
    (recorded, told), (eager, untold) = (outcome.value for outcome in outcomes)
    assert told[0].startswith(said)
    assert told[1:] == [CUDA_GRAPH]
    assert untold == []
    assert recorded == eager


def test_a_checkpoint_goes_on_on_the_other_device(fits: Fits) -> None:
    one, other = (ACCELERATOR,), ("trainer.accelerator=cpu",)
    for here, there in ((one, other), (other, one)):
        words = ("trainer.schedule=constant", "trainer.max_epochs=1")
        first = fits(*here, *words)
        given = f"ckpt_path={first.folder / 'checkpoints' / 'epoch-0001.ckpt'}"
        second = fits.again(*there, "trainer.schedule=constant", given)
        assert ("train/loss", 1) not in second.values
        assert second.values["train/loss", 2] < first.values["train/loss", 1]

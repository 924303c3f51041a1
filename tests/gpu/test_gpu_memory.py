"""Memory of one GPU: the allocator's peak against the prediction, and a card that is too small."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from fits import ACCELERATOR, EAGER, configured, needs_gpu
from injection import attempt, work_of

from benchmarks import peak
from stridelab.geometry import TrainingMemory, measure
from stridelab.plan import layer_plan_of
from stridelab.sweep.launchers.local import LocalLauncher
from stridelab.training.predicted_memory import predicted_memory
from stridelab.training.runtime import prepare_process

pytestmark = needs_gpu
MIB = 2**20


def predicted(*words: str) -> TrainingMemory:
    config = configured(EAGER, *words)
    return predicted_memory(measure(layer_plan_of(config)), config.trainer)


def measured_peak(*words: str) -> int:
    """Bytes of PyTorch's allocator at the peak of a step, the network's own memory and its images included."""
    config = configured(EAGER, *words)
    prepare_process(config.trainer)
    torch.cuda.empty_cache()
    return peak.measured(layer_plan_of(config), config.trainer)


NETWORKS = [
    ("model.channels=[16,32,64]", "trainer.batch_size=256"),
    ("model.channels=[16,32,64]", "trainer.batch_size=64"),
    ("model.channels=[16,32,64]", "model.strides=2-2-2", "trainer.batch_size=256"),
    ("model.channels=[32,64,128]", "trainer.batch_size=256"),
    ("model.channels=[16,32,64]", "model.padding_mode=reflect", "trainer.batch_size=256"),
    ("model=resnet", "trainer.batch_size=128"),
    ("model=vgg", "trainer.batch_size=128"),
]


@pytest.mark.parametrize("words", NETWORKS, ids=" ".join)
def test_the_peak_of_a_step_is_predicted_within_five_percent(words: tuple[str, ...]) -> None:
    """Of tensors it is a lower bound; cuDNN's workspaces come from the same allocator."""
    memory, measured = predicted(*words), measured_peak(*words)
    assert memory.peak is not None
    said = f"{memory.peak / MIB:.1f} to {memory.with_workspaces.size / MIB:.1f}, and was {measured / MIB:.1f} MiB"
    assert 0.99 * memory.peak <= measured <= 1.05 * memory.with_workspaces.size, said


def small_card() -> None:
    torch.cuda.set_per_process_memory_fraction(40 * MIB / torch.cuda.get_device_properties(0).total_memory)


def test_a_card_that_is_too_small_is_said_to_be(pool: LocalLauncher, tmp_path: Path) -> None:
    words = ("model.channels=[64,64,64]", "model.strides=1-1-1", "trainer.batch_size=300", "data.train_size=600")
    outcome = attempt(pool, work_of(tmp_path, *words, ACCELERATOR), setup=small_card)
    assert outcome.status == "out of memory"
    assert "out of memory on the GPU: " in outcome.reason
    assert " were wanted, and of " in outcome.reason

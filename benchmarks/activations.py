"""Predicted training memory against what autograd keeps, and what the allocator hands out and has out at most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from stridelab.config import Config, load
from stridelab.geometry import measure, training_memory
from stridelab.models.build import build
from stridelab.models.families import FAMILIES
from stridelab.models.settings import spell_field
from stridelab.plan import layer_plan_of
from stridelab.training.memory import measured_saved_bytes
from stridelab.training.predicted_memory import predicted_memory
from stridelab.training.runtime import prepare_process
from stridelab.training.settings import TrainerConfig

from . import peak
from .native_messages import native_messages_dropped
from .rows import Row

MIB = 2**20
STRIDES = ("[1,1,1]", "[1,2,2]", "[2,2,1]", "[2,2,2]")
PADDINGS = ("half", "same", "valid")


def rows(*, tiny: bool) -> Iterator[Row]:
    """At 32 bits, on a GPU where there is one: a forward pass in training mode, and the peak of a training step; ratio:
    predicted to measured, the goal being 0.95 to 1.05."""
    grid = [("[1,2,2]", "same")] if tiny else list(product(STRIDES, PADDINGS))
    for strides, padding in grid:
        config = load([f"model.strides={strides}", f"model.padding={padding}", "trainer.batch_size=64"])
        yield from compared(config, padding)
    yield from peaks(peak.SETTINGS[:1] if tiny else peak.SETTINGS)


def peaks(plans: Sequence[tuple[str, dict[str, Any]]]) -> Iterator[Row]:
    """On a GPU, whose allocator the workspaces of cuDNN come from too, between two predictions: without them, and
    with those that are known; there in a process set up as a run's."""
    accelerator = "gpu" if torch.cuda.is_available() else "cpu"
    for family, settings in plans:
        batch = 8 if FAMILIES[family].module else 64
        trainer = TrainerConfig(batch_size=batch, accelerator=accelerator, cuda_graph=False)
        if accelerator == "gpu":
            prepare_process(trainer)
        plan = peak.plan_of(family, settings)
        memory, found = predicted_memory(measure(plan), trainer), peak.measured(plan, trainer)
        guesses: dict[str, float | None] = {"": memory.peak}
        if accelerator == "gpu":
            guesses[", predicted with workspaces"] = memory.with_workspaces.size
        for how, guess in guesses.items():
            assert guess is not None
            yield Row(
                section="memory",
                name=" ".join(
                    ["peak of a step,", family, *(str(value) for name, value in settings.items() if name != "strides")]
                )
                + how,
                strides=settings.get("strides"),
                batch=batch,
                value=found / MIB,
                unit="MiB",
                ratio=guess / found,
                n=1,
            )


def compared(config: Config, padding: str) -> Iterator[Row]:
    plan, batch = layer_plan_of(config), config.trainer.batch_size
    predicted = training_memory(measure(plan), batch_size=batch).activations
    assert predicted is not None
    network = build(plan)
    shape = (batch, plan.input_channels, *plan.input_size)
    found = {
        f"kept by autograd, padding {padding}": measured_saved_bytes(network, shape),
        f"handed out by the allocator, padding {padding}": allocated_bytes(network, shape),
    }
    for name, measured in found.items():
        yield Row(
            section="memory",
            name=name,
            strides=spell_field(config.model, "strides"),
            batch=batch,
            value=measured / MIB,
            unit="MiB",
            ratio=predicted / measured,
            n=1,
        )


def allocated_bytes(network: torch.nn.Module, shape: tuple[int, ...]) -> int:
    """Bytes that a forward pass leaves allocated while its output lives: on the GPU where there is one."""
    if torch.cuda.is_available():
        network = network.cuda()
        network(torch.zeros(shape, device="cuda"))  # workspaces, once
        before = torch.cuda.memory_allocated()
        output = network(torch.zeros(shape, device="cuda"))
        held = torch.cuda.memory_allocated() - before
    else:
        with native_messages_dropped(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
            output = network(torch.zeros(shape))
        held = sum(event.self_cpu_memory_usage for event in record.key_averages())
    return int(held - output.numel() * output.element_size())

"""The peak of a training step: what geometry predicts against what PyTorch's allocator handed out at most."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from stridelab.geometry import LayerPlan, measure
from stridelab.models import layer_plan
from stridelab.models.build import build
from stridelab.models.families import FAMILIES
from stridelab.training.average import average_of
from stridelab.training.runtime import dtype_of, layout_of
from stridelab.training.settings import TrainerConfig
from stridelab.training.step import TrainingStep
from stridelab.training.tasks import TASKS

from .native_messages import native_messages_dropped

STEM: dict[str, Any] = {"stem_kernel": 7, "stem_stride": 2, "stem_pool": "max_pool"}
SETTINGS: tuple[tuple[str, dict[str, Any]], ...] = (
    *(("cnn", {"strides": strides}) for strides in ("1-1-1", "1-2-2", "2-2-1", "2-2-2")),
    *(("cnn", {"strides": "1-2-2", "padding_mode": mode}) for mode in ("reflect", "replicate", "circular")),
    *(("cnn", {"strides": "1-2-2", "padding": padding}) for padding in ("same", "valid")),
    *(("cnn", {"strides": "2-2-1", "downsample": way}) for way in ("max_pool", "avg_pool", "blur_pool")),
    ("cnn", {"strides": "2-2-1", "downsample": "space_to_depth"}),
    ("cnn", {"strides": "1-2-2", "head": "flatten"}),
    *(("resnet", {"strides": strides}) for strides in ("1-2-2", "2-2-2")),
    ("resnet", {"depth": 50, "width": 8, **STEM}),
    *(("vgg", {"strides": strides}) for strides in ("2-2-1-1-1", "1-1-2-2-2")),
    *(("allconv", {"reduction": reduction}) for reduction in ("pool", "stride", "conv")),
    *(("convnext", {"strides": strides}) for strides in ("1-2", "2-2")),
    *(("torchvision", {"name": name}) for name in ("resnet18", "mobilenet_v2", "googlenet", "densenet121")),
    *(("torchvision", {"name": name}) for name in ("efficientnet_b0", "mobilenet_v3_small", "regnet_y_400mf")),
    *(("torchvision", {"name": name}) for name in ("squeezenet1_1", "convnext_tiny", "shufflenet_v2_x0_5")),
)
"""Families and what is set of them."""


def plan_of(family: str, settings: dict[str, Any]) -> LayerPlan:
    """On grey images of 28 px; modules, which are made for more, on RGB images of 64."""
    channels, size = (3, 64) if FAMILIES[family].module else (1, 28)
    config = FAMILIES[family].settings(family=family, **settings)
    return layer_plan(config, input_channels=channels, input_size=(size, size), num_classes=10)


def measured(
    plan: LayerPlan, trainer: TrainerConfig, *, task: str = "classify", run: Callable[..., None] | None = None
) -> int:
    """Bytes at the peak of two steps and what leads to them, or of `run`, from an empty memory: on a GPU with
    `accelerator` gpu, where it has the workspaces of cuDNN, but not those of cuBLAS."""
    threads, peak = torch.get_num_threads(), gpu_peak if trainer.accelerator == "gpu" else cpu_peak
    torch.set_num_threads(trainer.threads)
    try:
        return peak(lambda device: (run or steps)(plan, trainer, task, device))
    finally:
        torch.set_num_threads(threads)


def steps(plan: LayerPlan, trainer: TrainerConfig, task: str, device: torch.device) -> None:
    count, dtype, layout = trainer.images_a_step, dtype_of(trainer), layout_of(trainer)
    network = build(plan).to(device, dtype).to(memory_format=layout)
    step = TrainingStep(network, trainer, num_steps=10, loss=TASKS[task].loss, average=average_of(network, trainer))
    shape = (count, plan.input_channels, *plan.input_size)
    images = torch.zeros(shape, dtype=dtype, device=device).to(memory_format=layout)
    targets = targets_of(plan, task, count, device)
    for _ in range(2):
        step(images, targets)


@torch.inference_mode()
def evaluation(plan: LayerPlan, trainer: TrainerConfig, task: str, device: torch.device) -> None:
    """A pass over `trainer.batch_size` images beside the gradients and the momentum of a step before."""
    network = build(plan).to(device).to(memory_format=layout_of(trainer)).eval()
    kept = [torch.zeros_like(weights) for weights in network.parameters() for _ in ("gradient", "momentum")]
    images = torch.zeros((trainer.batch_size, plan.input_channels, *plan.input_size), device=device)
    images = images.to(memory_format=layout_of(trainer))
    targets = targets_of(plan, task, trainer.batch_size, device)
    TASKS[task].loss(network(images), targets, reduction="sum")
    assert kept


def targets_of(plan: LayerPlan, task: str, count: int, device: torch.device) -> torch.Tensor:
    last = measure(plan)[-1]
    size = last.output_size if max(last.output_size) > 1 else ()
    return TASKS[task].example(torch.zeros(1, last.out_channels, *size, device=device)).repeat_interleave(count, dim=0)


def cpu_peak(run: Callable[[torch.device], None]) -> int:
    with native_messages_dropped(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        run(torch.device("cpu"))
    events = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def gpu_peak(run: Callable[[torch.device], None]) -> int:
    device = torch.device("cuda")
    square = torch.zeros(8, 8, device=device, requires_grad=True)
    for made in (square @ square, torch.nn.functional.linear(square, square, square[0])):
        torch.autograd.backward(made.sum())  # makes the workspaces of cuBLAS and cuBLASLt, which stay
    del square, made
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run(device)
    return torch.cuda.max_memory_allocated() - before

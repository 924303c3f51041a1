"""One variant's geometry, or the reason why it is impossible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stridelab.config import Config
from stridelab.config.variants import variant_name
from stridelab.data.contents import contents_of
from stridelab.geometry import LayerGeometry, LayerPlan, measure
from stridelab.models import FAMILIES, layer_plan
from stridelab.models.module_plan import ModuleConfig, ModulePlan
from stridelab.text import plural
from stridelab.training.step_grouping import Steps, steps_of
from stridelab.training.tasks import TASKS

ONEDNN_BLOCK = 16
"""Channels that the kernel takes at a time with AVX-512; 8 with AVX2."""


@dataclass(frozen=True)
class Variant:
    """`layers` in the plan's order; None with an `error` when the network cannot be built."""

    name: str
    config: Config
    layers: tuple[LayerGeometry, ...] | None
    error: str | None = None
    keys: tuple[str, ...] = ()
    """What varies, and so what it is called after."""


def examine(config: Config, *, keys: Sequence[str]) -> Variant:
    """The variant's geometry; `keys` are what varies."""
    name = variant_name(config, keys)
    try:
        return Variant(name, config, layers_of(config), keys=tuple(keys))
    except ValueError as error:
        return Variant(name, config, None, str(error), keys=tuple(keys))


def layers_of(config: Config) -> tuple[LayerGeometry, ...]:
    """ValueError with the reason why `config` cannot be trained."""
    layers = measure(layer_plan_of(config))
    refuse_lonely_image(config, layers)
    refuse_wide_crop(config)
    refuse_spoilt_kernel(config, layers)
    config.trainer.warmup_steps(grouped_steps(config, layers).in_all)
    return layers


def grouped_steps(config: Config, layers: Sequence[LayerGeometry]) -> Steps:
    """The steps of a fit. ValueError where a limit leaves none."""
    contents = contents_of(config.data)
    shape = (contents.facts.input_channels, *contents.facts.input_size)
    outputs = next(layer.output_elements for layer in reversed(layers) if layer.kind != "unused")
    return steps_of(config.trainer, count=contents.num_train, image_shape=shape, outputs=outputs)


def refuse_lonely_image(config: Config, layers: Sequence[LayerGeometry]) -> None:
    """Batch norm over a single value has no variance: a batch of one image on a 1x1 map cannot be trained on."""
    images, batch_size = contents_of(config.data).num_train, config.trainer.batch_size
    if (images - 1) % batch_size == 0:
        for layer in layers:
            if layer.kind == "norm" and layer.output_size == (1, 1):
                raise ValueError(
                    f"trainer.batch_size={batch_size} leaves a last batch of one of the {images} training images, "
                    f"and layer {layer.name!r} has a map of 1x1: one value has no variance to normalise by; "
                    "choose another batch size"
                )


def refuse_wide_crop(config: Config) -> None:
    side = min(contents_of(config.data).facts.input_size)
    if config.trainer.crop >= side:
        raise ValueError(
            f"trainer.crop={config.trainer.crop} must be less than {side}, the shorter side of the images of "
            f"data={config.data.name}: a crop must not miss its image"
        )


def refuse_spoilt_kernel(config: Config, layers: Sequence[LayerGeometry]) -> None:
    """PyTorch's kernel on CPUs for the weights' gradient of a strided 1x1 convolution, channels last, writes past its
    memory (https://github.com/uxlfoundation/oneDNN/issues/6035; PyTorch 2.11 and 2.14 crash on maps of 48 or 64 px,
    by machine; grouped ones and 64 bits take other kernels)."""
    trainer = config.trainer
    if trainer.accelerator not in ("cpu", "auto") or not trainer.channels_last or trainer.precision == "64-true":
        return
    for layer in layers:
        if is_strided_point(layer) and layer.groups == 1 and layer.in_channels < ONEDNN_BLOCK:
            raise ValueError(
                f"layer {layer.name!r} is a 1x1 convolution with a stride, of {plural(layer.in_channels, 'channel')}; "
                f"with fewer than {ONEDNN_BLOCK}, PyTorch's kernel for CPUs writes past its memory (oneDNN issue "
                "6035): training may crash, or go wrong; choose trainer.channels_last=false or trainer.accelerator=gpu"
            )


def is_strided_point(layer: LayerGeometry) -> bool:
    return layer.kind == "conv" and set(layer.kernel_size) == {1} and max(layer.stride) > 1


def notes_of(config: Config) -> tuple[str, ...]:
    """What of a module was changed beside what was asked for, a sentence each."""
    plan = layer_plan_of(config) if isinstance(config.model, ModuleConfig) else None
    return plan.notes if isinstance(plan, ModulePlan) else ()


def layer_plan_of(config: Config) -> LayerPlan:
    """The plan of `config`'s network on `config`'s data set, from its published facts alone."""
    facts = contents_of(config.data).facts
    plan = layer_plan(
        config.model,
        input_channels=facts.input_channels,
        input_size=facts.input_size,
        num_classes=facts.num_classes,
    )
    if isinstance(plan, ModulePlan) and config.task != "classify":
        raise ValueError(
            f"task={config.task} reads the last map, and a network of model={config.model.family} ends with its own "
            f"classifier; choose one of {', '.join(name for name, one in FAMILIES.items() if not one.module)}."
        )
    return TASKS[config.task].head(plan, facts.num_classes)

"""Families: from a person's choices to a layer plan. No torch here."""

from __future__ import annotations

from collections.abc import Callable

from stridelab.geometry import IMAGE, Layer, LayerPlan, parse_padding

from .settings import ModelConfig, Pair, require_choice


def cnn(config: ModelConfig, *, input_channels: int, input_size: Pair, num_classes: int) -> LayerPlan:
    """conv, batch norm, ReLU a layer; then the head."""
    layers: list[Layer] = []
    source = IMAGE
    for index in range(len(config.channels)):
        layers += conv_block(config, index, source=source)
        source = layers[-1].name
    layers += head(config, source=source, num_classes=num_classes)
    return LayerPlan(input_channels, input_size, tuple(layers))


def conv_block(config: ModelConfig, index: int, *, source: str) -> list[Layer]:
    number = index + 1
    conv = Layer(
        name=f"conv{number}",
        kind="conv",
        inputs=(source,),
        out_channels=config.channels[index],
        kernel_size=config.kernel_sizes[index],
        stride=config.strides[index],
        dilation=config.dilations[index],
        padding=parse_padding(config.padding[index]),
        padding_mode=config.padding_mode,
    )
    norm = Layer(name=f"norm{number}", kind="norm", inputs=(conv.name,))
    return [conv, norm, Layer(name=f"relu{number}", kind="activation", inputs=(norm.name,))]


def head(config: ModelConfig, *, source: str, num_classes: int) -> list[Layer]:
    collapse = Layer(
        name="pool" if config.head == "gap" else "flatten",
        kind="global_avg_pool" if config.head == "gap" else "flatten",
        inputs=(source,),
    )
    classify = Layer(name="classifier", kind="linear", inputs=(collapse.name,), out_channels=num_classes, bias=True)
    return [collapse, classify]


FAMILIES: dict[str, Callable[..., LayerPlan]] = {"cnn": cnn}


def layer_plan(config: ModelConfig, *, input_channels: int, input_size: Pair, num_classes: int) -> LayerPlan:
    """The layer plan of `config.family`."""
    require_choice("model.family", config.family, tuple(FAMILIES))
    return FAMILIES[config.family](
        config, input_channels=input_channels, input_size=input_size, num_classes=num_classes
    )

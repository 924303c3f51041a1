"""cnn: convolutions one after another."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from stridelab.geometry import IMAGE, Layer, LayerPlan, parse_padding
from stridelab.text import plural

from ..heads import head
from ..settings import ConvNetConfig, Pair, each_layer, padding_policy, pair, per_layer, positive


@dataclass(frozen=True)
class CnnConfig(ConvNetConfig):
    """Convolutions one after another; every per-layer field is one value for all layers or one a layer."""

    channels: Any = (16, 32, 64)
    """Feature maps of each convolution; its length is the number of layers."""
    kernel_sizes: Any = field(default=3, metadata=each_layer("kernel_size", uniform=True))
    """Pixels: an int, or [height, width]."""
    dilations: Any = field(default=1, metadata=each_layer("dilation", uniform=True))
    """Pixels between the taps of a kernel."""

    def __post_init__(self) -> None:
        channels = per_layer("channels", self.channels, count=None, parse=positive)
        count = len(channels)
        self.settle(
            count=count,
            of=f"model.channels has {plural(count, 'layer')}",
            channels=channels,
            kernel_sizes=per_layer("kernel_sizes", self.kernel_sizes, count=count, parse=pair),
            dilations=per_layer("dilations", self.dilations, count=count, parse=pair),
            padding=per_layer("padding", self.padding, count=count, parse=padding_policy),
        )


def cnn(config: CnnConfig, *, input_channels: int, input_size: Pair, num_classes: int) -> LayerPlan:
    """conv, batch norm, ReLU and, where `downsample` needs one, a pooling a layer; then the head."""
    layers: list[Layer] = []
    source = IMAGE
    for index in range(len(config.channels)):
        block = conv_block(config, index, source=source)
        layers += config.smaller(block, how=config.downsample[index], name=f"down{index + 1}")
        source = layers[-1].name
    layers += head(config, source=source, num_classes=num_classes)
    return LayerPlan(input_channels, input_size, tuple(layers))


def conv_block(config: CnnConfig, index: int, *, source: str) -> list[Layer]:
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

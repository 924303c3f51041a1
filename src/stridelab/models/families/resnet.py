"""resnet: He et al. 2016, with the names of torchvision's parameters, so that its weights fit."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from stridelab.geometry import IMAGE, Layer, LayerPlan, parse_padding

from ..downsampling import DOWNSAMPLING
from ..heads import head
from ..settings import GEOMETRY, PAIR, ConvNetConfig, Pair, down_sampling, pair, positive, refuse_unfit, require_choice

IMAGENET = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
"""Depth -> blocks of each of four stages."""
STEM_POOLS = ("none", "max_pool")
ONE_GRID = "choose a model.padding that keeps both branches on one grid: half, same or same_lower"


@dataclass(frozen=True)
class ResnetConfig(ConvNetConfig):
    """Stages of residual blocks; the first block of a stage has its stride, and so has its shortcut. The number of
    parameters does not depend on the strides."""

    depth: int = 8
    """Layers with weights. 18, 34 and 50 (of bottlenecks): four stages, as for ImageNet. 6n + 2 (8, 14, 20, 32, 44, 56,
    110): three stages of n blocks, as for CIFAR."""
    width: int = 16
    """Feature maps of the first stage, doubled with each stage: 64 in torchvision's, 16 in those for CIFAR."""
    strides: Any = None
    """One a stage, of its first block; null: 1, then 2. `1-2-2` is short for [1, 2, 2]."""
    stem_kernel: int = 3
    """Pixels of the first convolution: 7 in torchvision's."""
    stem_stride: Any = field(default=1, metadata=GEOMETRY | PAIR)
    """Of the first convolution: 2 in torchvision's."""
    stem_pool: str = field(default="none", metadata=GEOMETRY)
    """max_pool: 3x3 windows in steps of 2 behind the first convolution, as in torchvision's. none: no pooling."""
    stem_downsample: str = field(default="stride", metadata={"choices": DOWNSAMPLING} | GEOMETRY)
    """As model.downsample, which is of the stages alone, for the stem; with blur_pool, its pool is blurred too."""

    def __post_init__(self) -> None:
        if self.depth not in IMAGENET and (positive("model.depth", self.depth) < 8 or (self.depth - 2) % 6):
            raise ValueError(f"model.depth={self.depth} must be 18, 34, 50 or 6n + 2: 8, 14, 20, 26, 32, ...")
        positive("model.width", self.width)
        positive("model.stem_kernel", self.stem_kernel)
        object.__setattr__(self, "stem_stride", pair("model.stem_stride", self.stem_stride))
        down_sampling("model.stem_downsample", self.stem_downsample)
        refuse_unfit("model.stem_stride", self.stem_stride, self.stem_downsample, "model.stem_downsample")
        require_choice("model.stem_pool", self.stem_pool, STEM_POOLS)
        stages = len(self.blocks)
        if self.strides is None:
            object.__setattr__(self, "strides", (1, *[2] * (stages - 1)))
        self.settle(count=stages, of=f"model.depth={self.depth} has {stages} stages")

    @property
    def blocks(self) -> tuple[int, ...]:
        """Of each stage."""
        return IMAGENET.get(self.depth) or ((self.depth - 2) // 6,) * 3

    @property
    def expansion(self) -> int:
        """A block's feature maps for each of its 3x3 convolution's."""
        return 4 if self.depth == 50 else 1


def resnet(config: ResnetConfig, *, input_channels: int, input_size: Pair, num_classes: int) -> LayerPlan:
    layers = stem(config)
    channels = config.width
    for stage, num_blocks in enumerate(config.blocks):
        width = config.width * 2**stage
        for number in range(num_blocks):
            layers += block(
                config,
                f"layer{stage + 1}.{number}",
                source=layers[-1].name,
                channels=channels,
                width=width,
                stage=stage if number == 0 else None,
            )
            channels = width * config.expansion
    layers += head(config, source=layers[-1].name, num_classes=num_classes, name="fc")
    return LayerPlan(input_channels, input_size, tuple(layers))


def stem(config: ResnetConfig) -> list[Layer]:
    first = conv(config, "conv1", config.width, kernel=config.stem_kernel, stride=config.stem_stride, source=IMAGE)
    layers = config.smaller([first, *norm_relu("bn1", "relu")], how=config.stem_downsample, name="down")
    if config.stem_pool == "max_pool":
        pool = Layer(
            "maxpool", "max_pool", (layers[-1].name,), kernel_size=(3, 3), stride=(2, 2), padding=policy(config)
        )
        blurred = config.stem_downsample == "blur_pool"
        layers += config.smaller([pool], how="blur_pool" if blurred else "stride", name="maxpool_down")
    return layers


def block(config: ResnetConfig, name: str, *, source: str, channels: int, width: int, stage: int | None) -> list[Layer]:
    """`channels`: of the map that it reads; `stage`: whose stride it has, None: stride 1."""
    stride, how = ((1, 1), "stride") if stage is None else (config.strides[stage], config.downsample[stage])
    out = width * config.expansion
    after = norm_relu(f"{name}.bn1", f"{name}.relu1")
    if config.expansion == 1:
        strided = conv(config, f"{name}.conv1", width, stride=stride, source=source)
        main = config.smaller([strided, *after], how=how, name=f"{name}.down")
        main += [conv(config, f"{name}.conv2", out), Layer(f"{name}.bn2", "norm")]
    else:
        main = [conv(config, f"{name}.conv1", width, kernel=1, source=source), *after]
        strided = conv(config, f"{name}.conv2", width, stride=stride, source=after[-1].name)
        after = norm_relu(f"{name}.bn2", f"{name}.relu2")
        main += config.smaller([strided, *after], how=how, name=f"{name}.down")
        main += [conv(config, f"{name}.conv3", out, kernel=1), Layer(f"{name}.bn3", "norm")]
    short = shortcut(config, f"{name}.downsample", channels, out, source=source, stride=stride, how=how)
    joined = (main[-1].name, short[-1].name if short else source)
    last = f"{name}.relu{2 if config.expansion == 1 else 3}"
    return [*main, *short, Layer(f"{name}.add", "add", joined, remedy=ONE_GRID), Layer(last, "activation")]


def shortcut(
    config: ResnetConfig, name: str, channels: int, out: int, *, source: str, stride: Pair, how: str
) -> list[Layer]:
    """A 1x1 convolution and its norm where the number of maps changes; what makes them smaller comes ahead of it, as it
    mixes no pixels. Else no parameters, whatever the stride, so that strides can be compared."""
    if channels != out or (how == "space_to_depth" and stride != (1, 1)):
        project = conv(config, f"{name}.0", out, kernel=1, stride=stride, source=source)
        made = config.smaller([project], how=how, name=f"{name}.down", ahead=True)
        return [*made, Layer(f"{name}.1", "norm")]
    if stride == (1, 1):
        return []
    every = Layer(f"{name}.down", "avg_pool", (source,), stride=stride)  # of one pixel: every s-th as it is
    return [replace(config.smaller([every], how=how, name=every.name)[-1], inputs=(source,))]


def conv(
    config: ResnetConfig, name: str, out: int, *, kernel: int = 3, stride: Pair = (1, 1), source: str = ""
) -> Layer:
    return Layer(
        name,
        "conv",
        (source,) if source else (),
        out_channels=out,
        kernel_size=(kernel, kernel),
        stride=stride,
        padding=policy(config) if kernel > 1 else (0, 0),
        padding_mode=config.padding_mode,
    )


def policy(config: ResnetConfig) -> Any:
    return parse_padding(config.padding[0])


def norm_relu(norm: str, relu: str) -> list[Layer]:
    return [Layer(norm, "norm"), Layer(relu, "activation")]

"""convnext: Liu et al. 2022, with the names of torchvision's modules."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from stridelab.geometry import IMAGE, Layer, LayerPlan, parse_padding

from ..heads import head
from ..settings import PAIR, ConvNetConfig, Pair, each_layer, pair, per_layer, positive

ONE_GRID = "choose model.padding and model.kernel_size that leave a map as large as it was: half and an odd number"


@dataclass(frozen=True)
class ConvNextConfig(ConvNetConfig):
    """Stages of blocks: a depthwise convolution, layer norm, two 1x1 convolutions with GELU between them, a scale,
    and the shortcut. Ahead of each stage a convolution of patches. No stochastic depth."""

    depths: Any = (2, 2)
    """Blocks of each stage; its length is the number of stages. 3-3-9-3 in ConvNeXt-T."""
    width: int = 24
    """Feature maps of the first stage, doubled with each stage; 96 in ConvNeXt-T."""
    kernel_size: Any = field(default=7, metadata=PAIR)
    """Pixels of the depthwise convolutions: an int, or [height, width]."""
    strides: Any = field(default=(2, 2), metadata=each_layer("stride", geometry=True))
    """One a stage, of its patches; 4-2-2-2 in ConvNeXt-T."""
    patch_sizes: Any = field(default=2, metadata=each_layer("patch_size", uniform=True))
    """Pixels of each stage's patches, which are not padded; 4-2-2-2 in ConvNeXt-T, where patches do not overlap."""

    def __post_init__(self) -> None:
        depths = per_layer("depths", self.depths, count=None, parse=positive)
        of = f"model.depths has {len(depths)} stages"
        positive("model.width", self.width)
        self.settle(
            count=len(depths),
            of=of,
            depths=depths,
            kernel_size=pair("model.kernel_size", self.kernel_size),
            patch_sizes=per_layer("patch_sizes", self.patch_sizes, count=len(depths), parse=pair, of=of),
        )


def convnext(config: ConvNextConfig, *, input_channels: int, input_size: Pair, num_classes: int) -> LayerPlan:
    layers: list[Layer] = []
    for stage, depth in enumerate(config.depths):
        width = config.width * 2**stage
        layers += patches(config, stage, width)
        for number in range(depth):
            layers += block(config, f"features.{2 * stage + 1}.{number}", width, source=layers[-1].name)
    layers += head(config, source=layers[-1].name, num_classes=num_classes, name="classifier.2", norm="classifier.0")
    return LayerPlan(input_channels, input_size, tuple(layers))


def patches(config: ConvNextConfig, stage: int, width: int) -> list[Layer]:
    """The first stage's are normalised behind the convolution, the others' ahead of it."""
    name = f"features.{2 * stage}"
    conv = Layer(
        f"{name}.{0 if stage == 0 else 1}",
        "conv",
        (IMAGE,) if stage == 0 else (f"{name}.0",),
        out_channels=width,
        kernel_size=config.patch_sizes[stage],
        stride=config.strides[stage],
        bias=True,
    )
    made = config.smaller([conv], how=config.downsample[stage], name=f"{name}.down")
    norm = Layer(f"{name}.{1 if stage == 0 else 0}", "norm", function="layer")
    return [*made, norm] if stage == 0 else [norm, *made]


def block(config: ConvNextConfig, name: str, width: int, *, source: str) -> list[Layer]:
    within = f"{name}.block"
    depthwise = Layer(
        f"{within}.0",
        "conv",
        (source,),
        kernel_size=config.kernel_size,
        padding=parse_padding(config.padding[0]),
        padding_mode=config.padding_mode,
        groups=width,
        bias=True,
    )
    return [
        depthwise,
        Layer(f"{within}.2", "norm", function="layer"),
        Layer(f"{within}.3", "conv", out_channels=4 * width, bias=True),
        Layer(f"{within}.4", "activation", function="gelu"),
        Layer(f"{within}.5", "conv", out_channels=width, bias=True),
        Layer(f"{name}.layer_scale", "multiply"),
        Layer(f"{name}.add", "add", (f"{name}.layer_scale", source), remedy=ONE_GRID),
    ]

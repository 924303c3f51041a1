"""What a person should know about a variant that its figures do not say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from stridelab.config import Config
from stridelab.geometry import LayerGeometry

from .variant import notes_of

LayerNames = tuple[str, ...]
"""The layers that a warning is about; none, where it is about the whole network."""


@dataclass(frozen=True)
class PlanWarning:
    find: Callable[[Config, Sequence[LayerGeometry]], LayerNames | None]
    meaning: str


def where(test: Callable[[LayerGeometry], object]) -> Callable[[Config, Sequence[LayerGeometry]], LayerNames | None]:
    return lambda config, layers: tuple(layer.name for layer in layers if test(layer)) or None


def followed(config: Config, layers: Sequence[LayerGeometry]) -> LayerNames | None:
    return tuple(note.partition(":")[0].removesuffix(".stride") for note in notes_of(config)) or None


def not_32_bit(config: Config, layers: Sequence[LayerGeometry]) -> LayerNames | None:
    return None if config.trainer.precision == "32-true" else ()


WARNINGS: Mapping[str, PlanWarning] = {
    "uneven": PlanWarning(
        where(lambda layer: any(layer.uneven)),
        "windows reach past the map on one side only, so that the two edges are treated differently; "
        "3x3, stride 2, padding 1 does so on every even size",
    ),
    "changed": PlanWarning(
        followed,
        "beside what was set, so that the branches of a block end on one grid, or the weights of a file fit",
    ),
    "unread": PlanWarning(
        where(lambda layer: any(layer.unread_pixels)),
        "the last rows or columns of a map are read by no window; their information is lost",
    ),
    "skipped": PlanWarning(
        where(lambda layer: any(layer.skipped_pixels)),
        "the stride exceeds the kernel, so that pixels between two windows are never read",
    ),
    "holes": PlanWarning(
        where(lambda layer: any(layer.hole_pixels)),
        "pixels that windows span but that no tap reads, because of dilation",
    ),
    "unproductive": PlanWarning(
        where(lambda layer: layer.unproductive),
        "a layer whose input sees more than the whole image already: it adds no context (Richter et al. 2021)",
    ),
    "misaligned": PlanWarning(
        where(lambda layer: layer.misaligned),
        "branches are joined that see the image at different places or steps (Araujo et al. 2019)",
    ),
    "flatten": PlanWarning(
        where(lambda layer: layer.kind == "flatten" and max(layer.input_size) > 1),
        "the flatten head has parameters for each pixel of the last map: strides then change the size of "
        "the network too, and a comparison cannot tell which of the two made the difference; "
        "model.head=gap keeps it equal",
    ),
    "reflect": PlanWarning(
        where(lambda layer: layer.padding_mode == "reflect" and any(map(any, layer.pad))),
        "PyTorch's reflect padding has no deterministic backward pass on CUDA; there, unless "
        "trainer.deterministic=false, the map is padded with flipped strips of itself instead, which has one",
    ),
    "nondeterministic": PlanWarning(
        where(lambda layer: layer.kind == "adaptive_avg_pool" and max(layer.output_size) > 1),  # else it is a mean
        "adaptive pooling has no deterministic backward pass on CUDA: training fails there unless "
        "trainer.deterministic=false; a global mean has one",
    ),
    "not-32-bit": PlanWarning(
        not_32_bit,
        "what layers keep is told in 32-bit numbers, whatever trainer.precision says; the peak of training memory is "
        "that of trainer.precision",
    ),
}
"""Its short name -> how it is found, and what it means."""


def warnings_of(config: Config, layers: Sequence[LayerGeometry]) -> dict[str, LayerNames]:
    """Short name -> layers, for those that apply."""
    found = {name: rule.find(config, layers) for name, rule in WARNINGS.items()}
    return {name: names for name, names in found.items() if names is not None}

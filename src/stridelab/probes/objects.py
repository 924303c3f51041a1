"""How a network does on small objects and at the borders of objects."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from .trained import Trained

BIN_PX = 4
DISTANCES_PX = (1, 2, 4)


def accuracy_by_size(trained: Trained) -> dict[str, Any]:
    """Of the test images with an object: the share whose class is right (task=classify), whose object is told present
    and found inside its box (locate), or the share of the object's pixels whose class is right (segment). The value is
    of all of them; `_6to9px` and so on of those whose object's box is so many pixels long, along its longer side."""
    right = RIGHT[trained.task](trained)
    sides = longer_sides(trained)
    return mean_by_size(right, sides)


def localisation_error(trained: Trained) -> dict[str, Any]:
    """Distance in pixels from the place found to the centre of the object's box: the mean over test images with an
    object, the same by its size, as in `accuracy_by_size`, and `median`."""
    from stridelab.training.tasks import localisation

    split = trained.data.test
    distances = localisation.distances(trained.logits(split.images), localisation.targets(split))
    sides = longer_sides(trained)
    return mean_by_size(distances, sides) | {"median": distances[sides > 0].median().item()}


def boundary_error(trained: Trained) -> dict[str, Any]:
    """Share of pixels whose class is wrong, of those at most 2 px from a pixel of another class; `_1px` and so on: at
    most that far away; `inside`: of the pixels farther than the largest."""
    import torch

    from stridelab.training.tasks.segmentation import near_border

    split = trained.data.test
    wrong, near = dict.fromkeys(DISTANCES_PX, 0), dict.fromkeys(DISTANCES_PX, 0)
    inside = [0, 0]
    for images, masks in zip(torch.split(split.images, 500), torch.split(split.targets["mask"], 500), strict=True):
        missed = trained.top1(images) != masks
        borders = {distance: near_border(masks, distance) for distance in DISTANCES_PX}
        for distance, border in borders.items():
            wrong[distance] += int((missed & border).sum())
            near[distance] += int(border.sum())
        far = ~borders[DISTANCES_PX[-1]]
        inside = [inside[0] + int((missed & far).sum()), inside[1] + int(far.sum())]
    if not near[2]:
        raise ValueError("not defined for these images: none has a border between classes")
    shares = {f"{distance}px": wrong[distance] / near[distance] for distance in DISTANCES_PX}
    return {"": shares["2px"], **shares, **({"inside": inside[0] / inside[1]} if inside[1] else {})}


def right_class(trained: Trained) -> Tensor:
    return trained.top1(trained.data.test.images) == trained.data.test.labels


def found_inside(trained: Trained) -> Tensor:
    outputs, boxes = trained.logits(trained.data.test.images), trained.data.test.targets["box"]
    places = outputs[:, :2]
    inside = (places >= boxes[:, :2] - 0.5) & (places <= boxes[:, 2:] - 0.5)
    return inside.all(1) & (outputs[:, 2] > 0)


def right_pixels(trained: Trained) -> Tensor:
    """Of each object, the share of its pixels: float64 [n]."""
    import torch

    split, nothing = trained.data.test, trained.data.spec.num_classes - 1
    shares = []
    for images, masks in zip(torch.split(split.images, 500), torch.split(split.targets["mask"], 500), strict=True):
        of_object = masks != nothing
        right = (trained.top1(images) == masks) & of_object
        shares.append(right.sum((1, 2)).double() / of_object.sum((1, 2)).clamp(min=1))
    return torch.cat(shares)


RIGHT: dict[str, Callable[[Trained], Tensor]] = {
    "classify": right_class,
    "locate": found_inside,
    "segment": right_pixels,
}


def longer_sides(trained: Trained) -> Tensor:
    """Of the objects' boxes in the test split, in pixels; 0 where there is none."""
    boxes = trained.data.test.targets.get("box")
    if boxes is None:
        raise ValueError(f"not defined for data={trained.data.spec.name}: the sizes of its objects are not known")
    return (boxes[:, 2:] - boxes[:, :2]).amax(1)


def mean_by_size(values: Tensor, sides: Tensor) -> dict[str, float]:
    """The mean over all objects, and over those of 2 to 5 px, 6 to 9 px, ..."""
    import torch

    values, sides = values.double()[sides > 0], sides[sides > 0]
    bins = (sides - 2).div(BIN_PX, rounding_mode="floor")
    found = {"": values.mean().item()}
    for number in torch.unique(bins).tolist():
        low = 2 + BIN_PX * number
        found[f"{low}to{low + BIN_PX - 1}px"] = values[bins == number].mean().item()
    return found

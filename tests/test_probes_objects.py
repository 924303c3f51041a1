"""Probes of objects, on networks that are off by a known distance."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from stridelab.data.splits import Data, Split
from stridelab.probes.objects import accuracy_by_size, boundary_error, localisation_error
from stridelab.probes.trained import Trained
from test_probes_maps import DOUBLE, data_of

SIDES, NOTHING = (4, 4, 8, 0), 1


def squares() -> Data:
    """White squares of 4, 4, 8 and no pixels on 16x16; class 0, and 1 where and when there is none."""
    images = torch.zeros(len(SIDES), 1, 16, 16, dtype=torch.uint8)
    boxes = torch.zeros(len(SIDES), 4, dtype=torch.int64)
    for number, side in enumerate(SIDES):
        top, left = 3 + number, 2
        images[number, :, top : top + side, left : left + side] = 255
        boxes[number] = torch.tensor([top, left, top + side, left + side] if side else [0] * 4)
    masks = torch.where(images[:, 0] > 0, 0, NOTHING).to(torch.uint8)
    labels = torch.tensor([0 if side else NOTHING for side in SIDES])
    made = data_of(images.numpy())
    return replace(made, test=Split(images, labels, targets={"box": boxes, "mask": masks}))


def asked(network: nn.Module, task: str) -> Trained:
    return Trained(network.eval(), squares(), 0, DOUBLE, torch.device("cpu"), task)


class Beside(nn.Module):
    """Says of each white square that it is there, and that its centre is 3 px farther down."""

    def forward(self, images: Tensor) -> Tensor:
        light = images[:, 0] / images[:, 0].sum((1, 2), keepdim=True).clamp(min=1)
        at = torch.arange(16, dtype=images.dtype)
        row, column = (light.sum(2) * at).sum(1) + 3, (light.sum(1) * at).sum(1)
        return torch.stack([row, column, torch.ones_like(row), torch.zeros_like(row)], 1)


class Large(nn.Module):
    """Class 0 where more than 20 pixels are white."""

    def forward(self, images: Tensor) -> Tensor:
        more = (images > 0).sum((1, 2, 3)).double() - 20
        return torch.stack([more, -more], 1)


class Moved(nn.Module):
    """The right class of each pixel, one pixel too far to the right."""

    def forward(self, images: Tensor) -> Tensor:
        white = (images.roll(1, 3) > 0).double()
        return torch.cat([white, 1 - white], 1)


def test_a_place_three_pixels_off_is_three_pixels_off_at_every_size() -> None:
    found = localisation_error(asked(Beside(), "locate"))
    assert found == {
        "": pytest.approx(3),
        "2to5px": pytest.approx(3),
        "6to9px": pytest.approx(3),
        "median": pytest.approx(3),
    }


def test_three_pixels_off_is_inside_a_large_object_alone() -> None:
    assert accuracy_by_size(asked(Beside(), "locate")) == {"": pytest.approx(1 / 3), "2to5px": 0, "6to9px": 1}


def test_a_class_told_by_the_area_is_right_for_large_objects_alone() -> None:
    assert accuracy_by_size(asked(Large(), "classify")) == {"": pytest.approx(1 / 3), "2to5px": 0, "6to9px": 1}


def test_a_mask_one_pixel_off_loses_one_column_of_each_object() -> None:
    found = accuracy_by_size(asked(Moved(), "segment"))
    assert found == {"": pytest.approx((3 / 4 + 3 / 4 + 7 / 8) / 3), "2to5px": 0.75, "6to9px": pytest.approx(7 / 8)}


def test_a_mask_one_pixel_off_is_wrong_in_two_columns_and_nowhere_inside() -> None:
    wrong = 2 * (4 + 4 + 8)
    near = {}
    for distance in (1, 2, 4):  # squares grown by the distance, less what stays of them when they shrink by it
        near[distance] = sum(
            len(rows) * (side + distance + min(2, distance)) - max(side - 2 * distance, 0) ** 2
            for number, side in enumerate(SIDES)
            if side
            for rows in [range(max(3 + number - distance, 0), min(3 + number + side + distance, 16))]
        )
    found = boundary_error(asked(Moved(), "segment"))
    for distance in (1, 2, 4):
        assert found[f"{distance}px"] == pytest.approx(wrong / near[distance])
    assert found[""] == found["2px"]
    assert found["inside"] == 0

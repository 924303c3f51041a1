"""From the arrays that a run keeps of its network to what the page takes."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from stridelab.geometry import LayerPlan, parse_plan

from .page import PageImages, Weights


def plan_of(arrays: Mapping[str, Any]) -> LayerPlan:
    return parse_plan(json.loads(str(arrays["plan"])))


def weights_of(arrays: Mapping[str, Any]) -> dict[int, Weights]:
    """By epoch; {} where none were kept."""
    weights: dict[int, dict[str, dict[str, Any]]] = {}
    for name, values in arrays.items():
        if "/" in name:
            epoch, rest = name.split("/", 1)
            layer, _, part = rest.rpartition("/")
            weights.setdefault(int(epoch), {}).setdefault(layer, {})[part] = tensor_data(values)
    return dict(sorted(weights.items()))


def tensor_data(values: Any) -> Any:
    """{shape, f16 or f32: base64, little-endian}; a single number as it is."""
    if values.ndim == 0:
        return float(values)
    kind = {"float16": "f16", "float32": "f32"}[values.dtype.name]
    content = values.astype(values.dtype.newbyteorder("<")).tobytes()
    return {"shape": list(values.shape), kind: base64.b64encode(content).decode()}


def images_of(arrays: Mapping[str, Any], facts: Mapping[str, Any]) -> PageImages:
    """`facts`: the run's data.json."""
    images = arrays["images"]
    _, channels, height, width = images.shape
    return PageImages(
        pixels=[base64.b64encode(image.tobytes()).decode() for image in images],
        labels=[int(label) for label in arrays["labels"]],
        channels=channels,
        size=(height, width),
        mean=facts["mean"],
        std=facts["std"],
        classes=facts.get("class_names"),
        places=[middle(*box) for box in arrays["box"].tolist()] if "box" in arrays else None,
    )


def middle(top: int, left: int, bottom: int, right: int) -> tuple[float, float] | None:
    """Of a box whose end is just outside; None of an empty one."""
    return ((top + bottom - 1) / 2, (left + right - 1) / 2) if bottom > top else None

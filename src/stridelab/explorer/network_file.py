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


def weights_of(arrays: Mapping[str, Any], *, stage: str) -> Weights | None:
    """Of `stage`, trained or initial; None where they were not kept."""
    weights: dict[str, dict[str, Any]] = {}
    for name, values in arrays.items():
        if name.startswith(f"{stage}/"):
            layer, _, part = name.removeprefix(f"{stage}/").rpartition("/")
            weights.setdefault(layer, {})[part] = tensor_data(values)
    return weights or None


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
    )

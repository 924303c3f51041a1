"""One file that loads nothing: the page's own script is all that may run, by its digest."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from stridelab.geometry import Layer, LayerPlan
from stridelab.text import printable

SCRIPTS = ("geometry.js", "network.js", "plans.js", "code.js", "drawing.js", "tour.js", "app.js")
"""In this order: each may use what those before it define."""
MOST_BYTES = 1 << 20
"""Of all weights in a page, as text; without them it shows geometry alone, and says so."""

Weights = Mapping[str, Mapping[str, Any]]
"""Layer -> parameter -> {"shape": [...], "f16" or "f32": base64}, or a number."""


@dataclass(frozen=True)
class PageNetwork:
    """A network that the page offers; without weights, its geometry."""

    name: str
    plan: LayerPlan
    weights: Mapping[int, Weights] = field(default_factory=dict)
    """Epochs of training -> the weights after them; 0: before training."""
    recorded: Mapping[str, Any] | None = None
    """Without weights: layer -> {"shape": [images, channels, height, width], "f16": base64} of the first images."""
    score: str | None = None
    """How good it was found to be: `84.2 % ± 0.9`."""
    score_label: str = ""
    """What `score` is: `test accuracy, mean of 7 seeds with its 95 % interval`."""
    command: Sequence[str] = ()
    """The words that train it, as a shell takes them."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Which key of `model.*` holds what of each convolution, and changes nothing else: {"strides": "stride"}."""


@dataclass(frozen=True)
class PageImages:
    """Test images, uint8 [channels, height, width] as base64, and how networks want them."""

    pixels: Sequence[str]
    labels: Sequence[int]
    channels: int
    size: tuple[int, int]
    mean: Sequence[float]
    std: Sequence[float]
    classes: Sequence[str] | None
    places: Sequence[tuple[float, float] | None] | None = None
    """Row and column of the middle of the object, where the networks are asked for it."""


def explorer_page(
    networks: Sequence[PageNetwork],
    *,
    title: str,
    subtitle: str = "",
    images: PageImages | None = None,
    links: Mapping[str, str] | None = None,
) -> str:
    """The page as HTML. `links`: text -> relative address. ValueError without a network."""
    if not networks:
        raise ValueError("networks=[] is not allowed; a page needs a network to show.")
    distinct = [*unique(weights for network in networks for weights in network.weights.values())]
    content = {
        "title": printable(title),
        "subtitle": printable(subtitle),
        "networks": [network_data(network, distinct) for network in networks],
        "weights": distinct,
        "image": None if images is None else image_data(images),
    }
    # No "<" may stand in the data: the browser would end the element at "</script".
    data = json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")
    anchors = "".join(f'<a href="{escape(to)}">{escape(text)}</a>' for text, to in (links or {}).items())
    parts = {
        "policy": policy(),
        "title": escape(printable(title)),
        "css": file("page.css"),
        "links": anchors,
        "data": data,
        "script": script(),
    }
    page = file("page.html")
    for name, part in parts.items():
        page = page.replace(f"{{{{ {name} }}}}", part, 1)
    return page


def policy() -> str:
    """What the browser may do with the page: run this very script, and show pictures that it makes itself."""
    digest = base64.b64encode(hashlib.sha256(script().encode()).digest()).decode()
    return f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data: blob:"


@cache
def script() -> str:
    return "\n".join(file(name) for name in SCRIPTS)


@cache
def file(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def unique(all_weights: Iterable[Weights]) -> list[Weights]:
    """Networks that began alike have those weights in the page once."""
    found: list[Weights] = []
    for weights in all_weights:
        if weights not in found:
            found.append(weights)
    return found


def network_data(network: PageNetwork, distinct: Sequence[Weights]) -> dict[str, Any]:
    score = None if network.score is None else {"text": network.score, "label": network.score_label}
    return {
        "name": printable(network.name),
        "plan": plan_data(network.plan),
        "weights": {epoch: distinct.index(weights) for epoch, weights in network.weights.items()},
        "recorded": network.recorded,
        "score": score,
        "command": [printable(word) for word in network.command],
        "settings": dict(network.settings),
    }


def plan_data(plan: LayerPlan) -> dict[str, Any]:
    """The plan as plain data, less what is as it is by default."""
    return {
        "input_channels": plan.input_channels,
        "input_size": plan.input_size,
        "layers": [layer_data(layer) for layer in plan.layers],
    }


def layer_data(layer: Layer) -> dict[str, Any]:
    plain = {one.name: one.default for one in fields(Layer)}
    return {name: value for name, value in asdict(layer).items() if value != plain[name] or name == "inputs"}


def image_data(images: PageImages) -> dict[str, Any]:
    shown = [{"pixels": pixels, "label": label} for pixels, label in zip(images.pixels, images.labels, strict=True)]
    return {
        "images": shown,
        "channels": images.channels,
        "size": images.size,
        "mean": list(images.mean),
        "std": list(images.std),
        "places": images.places,
        "classes": None if images.classes is None else [printable(name) for name in images.classes],
    }

"""The explorer's page in headless Chromium: frames while a unit is dragged over a map, and time of a change."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from shutil import which
from typing import Any

from .rows import Row, middle_of

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run"]
STRIDES = ("1-1-1", "1-2-2")
DRAG = """async ([name, count]) => {
    const map = document.querySelector(`#side-a [data-map=${name}]`);
    const area = map.querySelector('rect').getBoundingClientRect();
    const frames = [], handled = [];
    let last = await new Promise(requestAnimationFrame);
    for (let step = 0; step < count; step++) {
        const at = (step % 97) / 97;
        const start = performance.now();
        map.dispatchEvent(new PointerEvent('pointermove', {bubbles: true,
            clientX: area.left + at * area.width, clientY: area.top + at * area.height}));
        handled.push(performance.now() - start);
        const now = await new Promise(requestAnimationFrame);
        frames.push(now - last);
        last = now;
    }
    return [frames, handled];
}"""
CHANGE = """async (count) => {
    const times = [];
    for (let step = 0; step < count; step++) {
        const select = document.querySelector('[data-edit="a.conv1.stride"]');
        select.value = String(1 + (step % 2));
        const start = performance.now();
        select.dispatchEvent(new Event('change'));
        times.push(performance.now() - start);
    }
    return times;
}"""


def rows(*, tiny: bool) -> Iterator[Row]:
    """Of the default network, at two plans. ValueError without the command chromium."""
    from playwright.sync_api import sync_playwright

    if (chromium := which("chromium")) is None:
        raise ValueError("section explorer needs the command chromium.")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        for strides in STRIDES:
            path = Path(folder) / f"{strides}.html"
            path.write_text(page_of(strides), encoding="utf-8")
            page = browser.new_page(viewport={"width": 1400, "height": 900})
            page.goto(path.as_uri())
            frames, handled = page.evaluate(DRAG, ["conv3", 20 if tiny else 600])
            yield row("frames while a unit is dragged", "1/s", [1000 / frame for frame in frames], strides)
            yield row("the page's own work for a moved unit", "ms", handled, strides)
            yield row(
                "a changed stride: measured, computed, drawn", "ms", page.evaluate(CHANGE, 4 if tiny else 40), strides
            )


def page_of(strides: str) -> str:
    import numpy as np

    from stridelab.explorer.network_file import images_of, weights_of
    from stridelab.explorer.page import PageNetwork, explorer_page
    from stridelab.models import CnnConfig, layer_plan
    from stridelab.models.build import build
    from stridelab.models.plain_arrays import plain_arrays

    plan = layer_plan(CnnConfig(strides=strides), input_channels=1, input_size=(28, 28), num_classes=10)
    arrays: dict[str, Any] = {f"1/{name}": values for name, values in plain_arrays(build(plan)).items()}
    pixels = np.random.default_rng(0).integers(0, 256, (20, 1, 28, 28), np.uint8)
    facts = {"mean": [0.3], "std": [0.4], "class_names": [str(label) for label in range(10)]}
    images = images_of({"images": pixels, "labels": np.arange(20) % 10}, facts)
    network = PageNetwork(strides, plan, weights=weights_of(arrays))
    return explorer_page([network], title="benchmark", images=images)


def row(name: str, unit: str, values: Sequence[float], strides: str) -> Row:
    return Row(section="explorer", name=name, strides=strides, unit=unit, **middle_of(values)._asdict())

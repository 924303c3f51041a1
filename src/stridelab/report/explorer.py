"""The explorer of a sweep: its networks of one seed, as the variants were found to be over all seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stridelab import names
from stridelab.explorer.network_file import images_of, plan_of, tensor_data, weights_of
from stridelab.explorer.page import MOST_BYTES, PageImages, PageNetwork, explorer_page
from stridelab.report.artifacts import read_arrays, read_json
from stridelab.report.command import variant_words
from stridelab.report.comparison import Comparison, feature_maps
from stridelab.report.display import EXPLORER, quantity

if TYPE_CHECKING:
    from stridelab.tracking.mlflow_reader import RunRecord

MOST_RECORDED_BYTES = 256 << 10
"""Of the maps of a network whose weights are too large for the page."""
SETTINGS = {
    "strides": "stride",
    "padding": "padding",
    "padding_mode": "padding_mode",
    "kernel_sizes": "kernel_size",
    "dilations": "dilation",
    "downsample": "downsample",
}
"""Keys of `model.*` that say something of each convolution of family cnn, and what."""
PAGE_BLUR = 3
"""Taps of the filter that the page puts in for a blur_pool."""


def write_explorer(comparison: Comparison, folder: Path) -> Path | None:
    """explorer.html in `folder`; None when no finished run kept its network."""
    kept = {name: arrays for name, run in comparison.feature_map_runs.items() if (arrays := network_arrays(run))}
    if not kept:
        (folder / EXPLORER).unlink(missing_ok=True)  # of an earlier state of the sweep
        return None
    runs = comparison.feature_map_runs
    networks = [page_network(comparison, name, runs[name], arrays) for name, arrays in kept.items()]
    first = next(iter(kept))
    page = explorer_page(
        limited(networks),
        title=f"Explorer: {comparison.sweep.name}",
        subtitle=subtitle(runs[first], len(networks)),
        images=images(runs[first], kept[first]),
        links={"the comparison": "comparison.html"},
    )
    path = folder / EXPLORER
    path.write_text(page, encoding="utf-8")
    return path


def network_arrays(run: RunRecord) -> dict[str, Any]:
    """{} when the run kept none, or another version of this file."""
    arrays = read_arrays(run, names.NETWORK_FILE)
    return {} if {"plan", "images", "labels"} - arrays.keys() else arrays


def images(run: RunRecord, arrays: Mapping[str, Any]) -> PageImages | None:
    facts = read_json(run, names.DATA_FILE)
    return images_of(arrays, facts) if facts else None


def page_network(comparison: Comparison, name: str, run: RunRecord, arrays: Mapping[str, Any]) -> PageNetwork:
    plan = plan_of(arrays)
    score, label = score_of(comparison, name)
    config = read_json(run, names.CONFIG_FILE)
    return PageNetwork(
        name=name,
        plan=plan,
        weights=weights_of(arrays),
        recorded=recorded_maps(run),
        score=score,
        score_label=label,
        command=variant_words(comparison, name),
        settings=settings_of(config.get("model") or {}),
    )


def score_of(comparison: Comparison, name: str) -> tuple[str | None, str]:
    """`84.2 (83.3 to 85.1) %`, and what that is."""
    row, metric, measure = comparison.by_variant[name], comparison.metric, comparison.measure
    mean, low, high = (row.get(f"{metric}_{part}", row.get(metric)) for part in ("mean", "low", "high"))
    if mean is None or np.isnan(mean):
        return None, ""
    count = int(row["n"])
    seeds = f"mean of {count} seeds" if count > 1 else "one seed"
    interval = what = ""
    if count > 1 and low is not None and high is not None and not np.isnan(low):
        interval = f" ({quantity(low, measure)} to {quantity(high, measure)})"
        what = " with its 95 % interval"
    return (
        f"{quantity(mean, measure)}{interval} {measure.shown_unit}".rstrip(),
        f"{comparison.metric_text}, {seeds}{what}",
    )


def settings_of(model: Mapping[str, Any]) -> dict[str, str]:
    """Those of SETTINGS that say all that the page can change of the network; none where one key is that of several
    convolutions, or where a stride is the step of another layer."""
    if model.get("family") != "cnn" or set(model.get("downsample", ())) != {"stride"}:
        return {}
    return {name: key for name, key in SETTINGS.items() if name != "downsample" or model.get("blur_size") == PAGE_BLUR}


def limited(networks: Sequence[PageNetwork]) -> list[PageNetwork]:
    """As many weights as fit into the page: those after training, network by network, then before it, then between.
    A network without them is shown with the maps that were recorded."""
    kept: list[set[int]] = [set() for _ in networks]
    size, seen = 0, set()
    for at, epoch in by_worth(networks):
        weights = networks[at].weights[epoch]
        key = json.dumps(weights, sort_keys=True)
        size += 0 if key in seen else len(key)
        if size > MOST_BYTES:
            break
        seen.add(key)
        kept[at].add(epoch)
    return [
        replace(network, weights={epoch: network.weights[epoch] for epoch in sorted(epochs)}, recorded=None)
        if epochs
        else replace(network, weights={})
        for network, epochs in zip(networks, kept, strict=True)
    ]


def by_worth(networks: Sequence[PageNetwork]) -> list[tuple[int, int]]:
    """(index, epoch) of all weights, those that a page can least do without first."""

    def worth(one: tuple[int, int]) -> tuple[int, int, int]:
        at, epoch = one
        if epoch == max(networks[at].weights):
            return 0, 0, at
        return (1, 0, at) if epoch == 0 else (2, -epoch, at)

    return sorted(((at, epoch) for at, network in enumerate(networks) for epoch in network.weights), key=worth)


def recorded_maps(run: RunRecord) -> dict[str, Any]:
    """Of the last epoch, by layer; as many layers, from the first on, as fit into a fair share of the page."""
    arrays = feature_maps(run)
    steps = [int(name.partition("/")[0]) for name in arrays if "/" in name]
    last = {name: values for name, values in arrays.items() if steps and name.startswith(f"{max(steps)}/")}
    kept = zip(last, accumulate(values.nbytes for values in last.values()), strict=True)
    return {name.partition("/")[2]: tensor_data(last[name]) for name, size in kept if size <= MOST_RECORDED_BYTES}


def subtitle(run: RunRecord, count: int) -> str:
    facts = read_json(run, names.DATA_FILE)
    seed = run.tags.get(names.SEED, "?")
    networks = f"{count} trained networks" if count > 1 else "A trained network"
    return f"{networks} of seed {seed}, on {facts.get('name', 'unknown data')}"

"""The trained network in one file of plain arrays, with a few test images: what the explorer's page is made from."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from torch import nn

from stridelab import names
from stridelab.data.splits import Data, probe_rows
from stridelab.geometry import LayerPlan
from stridelab.models.build import Network, build
from stridelab.models.plain_arrays import plain_arrays

from .randomness import initialise

MOST_BYTES = 4 << 20
"""Of the weights; a larger network is kept as its plan alone."""
IMAGES = 20
IMAGE_BYTES = 256 << 10
"""Of all images together, at most, but one image at least."""


def save_network(network: nn.Module, plan: LayerPlan, data: Data, folder: Path, *, seed: int) -> Path:
    """`network.npz`: the layer plan as JSON in `plan`, uint8 `images` and their `labels`, and, unless they are too
    large, the arrays of `plain_arrays` under `trained/` and, from before training, under `initial/`."""
    path = folder / names.NETWORK_FILE
    count = max(1, min(IMAGES, IMAGE_BYTES // max(1, plan.input_channels * plan.input_size[0] * plan.input_size[1])))
    rows = probe_rows(data, count)
    images, labels = data.test.take(rows), data.test.labels[rows]
    arrays = {"plan": np.array(json.dumps(asdict(plan))), "images": images.cpu().numpy(), "labels": labels.numpy()}
    if isinstance(network, Network):
        trained = plain_arrays(network)
        if sum(values.nbytes for values in trained.values()) <= MOST_BYTES:
            untrained = build(plan)
            initialise(untrained, seed=seed)
            for stage, found in (("trained", trained), ("initial", plain_arrays(untrained))):
                arrays |= {f"{stage}/{name}": values for name, values in found.items()}
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    return path

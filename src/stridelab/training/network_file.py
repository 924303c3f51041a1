"""The trained network in one file of plain arrays, with a few test images: what the explorer's page is made from."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from stridelab import names
from stridelab.data.splits import Data, probe_rows
from stridelab.geometry import LayerPlan
from stridelab.models.build import Network
from stridelab.models.plain_arrays import plain_arrays

from .feature_maps import Snapshots

MOST_BYTES = 1 << 20
"""Of the weights of one epoch; a larger network is kept as its plan alone."""
IMAGES = 20
IMAGE_BYTES = 256 << 10
"""Of all images together, at most, but one image at least."""


class NetworkWeights(Snapshots):
    """Keeps `plain_arrays` by `<epoch>/<layer>/<parameter>`, of the epochs that feature maps are kept of."""

    def __init__(self, epochs: int) -> None:
        super().__init__(epochs)
        self.arrays: dict[str, NDArray[Any]] = {}

    def take(self, module: Any, *, step: int) -> None:
        network: nn.Module = module.evaluated
        if not isinstance(network, Network):
            return
        if sum(weight.numel() for weight in network.parameters()) * 2 <= MOST_BYTES:
            self.arrays |= {f"{step}/{name}": values for name, values in plain_arrays(network).items()}

    def state_dict(self) -> dict[str, Any]:
        return {name: torch.from_numpy(values) for name, values in self.arrays.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.arrays = {name: values.numpy() for name, values in state_dict.items()}


def save_network(weights: NetworkWeights, plan: LayerPlan, data: Data, folder: Path) -> Path:
    """`network.npz`: the plan as JSON in `plan`, uint8 `images`, their `labels` and `box`es, and the kept weights."""
    path = folder / names.NETWORK_FILE
    count = max(1, min(IMAGES, IMAGE_BYTES // max(1, plan.input_channels * plan.input_size[0] * plan.input_size[1])))
    rows = probe_rows(data, count)
    images, labels = data.test.take(rows), data.test.labels[rows]
    arrays = {"plan": np.array(json.dumps(asdict(plan))), "images": images.cpu().numpy(), "labels": labels.numpy()}
    if "box" in data.test.targets:
        arrays["box"] = data.test.targets["box"][rows].numpy()
    np.savez_compressed(path, **arrays, **weights.arrays)  # type: ignore[arg-type]
    return path

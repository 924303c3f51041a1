"""The network that a finished run left, and the images that it is asked about."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from stridelab import names
from stridelab.data.splits import Data
from stridelab.geometry import LayerPlan
from stridelab.models.build import build
from stridelab.tracking.status import read_tag
from stridelab.training.checkpoints import AtomicCheckpointIO, by_epoch
from stridelab.training.randomness import weights_digest
from stridelab.training.runtime import autocast, device_of, dtype_of, layout_of, prepare_process
from stridelab.training.settings import TrainerConfig

BATCH_SIZE = 500
NETWORK, AVERAGE = "network.", "average.network."


@dataclass(frozen=True)
class Trained:
    network: nn.Module
    """In eval mode, on `device`."""
    data: Data
    seed: int
    """Of the run: what a probe draws at random is a function of it, a purpose and the image."""
    config: TrainerConfig
    device: torch.device

    @torch.no_grad()
    def logits(self, pixels: Tensor) -> Tensor:
        """Float32 [n, classes] on the CPU, of uint8 [n, channels, height, width], normalised as in training and
        computed in the run's precision."""
        found = []
        for part in torch.split(pixels, BATCH_SIZE):
            with autocast(self.config.precision, self.device):
                found.append(self.network(self.normalised(part)).float().cpu())
        return torch.cat(found)

    def top1(self, pixels: Tensor) -> Tensor:
        """The predicted classes, int64 [n]."""
        return self.logits(pixels).argmax(1)

    def normalised(self, pixels: Tensor) -> Tensor:
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (self.data.spec.mean, self.data.spec.std))
        images = pixels.to(torch.float32).div_(255).sub_(mean).div_(torch.where(std == 0, 1.0, std))
        return images.to(self.device, dtype_of(self.config)).contiguous(memory_format=layout_of(self.config))


def load_trained(plan: LayerPlan, data: Data, config: TrainerConfig, *, seed: int, folder: Path) -> Trained:
    """ValueError when the data is not what the run trained on, or its final weights are not in its folder."""
    refuse_other_data(data, folder)
    prepare_process(config)
    device = device_of(config)
    network = build(plan).to(dtype_of(config))
    network.load_state_dict(final_weights(folder))
    if weights_digest(network) != read_tag(folder, names.WEIGHTS_DIGEST):
        raise ValueError(f"{folder}: the newest checkpoint does not hold the weights that the run ended with.")
    network = network.to(device).to(memory_format=layout_of(config)).eval()
    return Trained(network, data, seed, config, device)


def refuse_other_data(data: Data, folder: Path) -> None:
    known = read_tag(folder, names.DATA_DIGEST)
    if known != data.spec.digest:
        raise ValueError(
            f"data={data.spec.name} is not what the run trained on: its digest was {known[:12]} and is "
            f"{data.spec.digest[:12]}; give the run's own data by data.root=."
        )


def final_weights(folder: Path) -> dict[str, Tensor]:
    """Of the newest checkpoint, by the names of the network's own state, on the CPU wherever they were trained."""
    newest = by_epoch(folder / "checkpoints")[-1:]
    if not newest:
        raise ValueError(f"{folder} has no checkpoint, so that its final weights are not on this machine.")
    state = AtomicCheckpointIO().load_checkpoint(newest[0], map_location="cpu")["state_dict"]
    prefix = AVERAGE if any(name.startswith(AVERAGE) for name in state) else NETWORK
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}

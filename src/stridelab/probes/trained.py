"""The network that a finished run left, and the images that it is asked about."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stridelab import names
from stridelab.data.splits import Data
from stridelab.geometry import LayerGeometry, LayerPlan, measure
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
    task: str = "classify"
    plan: LayerPlan | None = None
    """Of the network: its layers are the sub-modules of these names."""

    @cached_property
    def layers(self) -> Sequence[LayerGeometry]:
        return () if self.plan is None else measure(self.plan)

    def named_layers(self) -> Iterator[tuple[str, nn.Module]]:
        """Those layers of the plan that are a module of the network, in its order."""
        modules = dict(self.network.named_modules())
        names = [layer.name for layer in self.layers] or list(modules)
        return ((name, modules[name]) for name in names if name in modules)

    @property
    def last_map(self) -> LayerGeometry:
        """The last layer whose output is a map, of those that are modules. ValueError where there is none."""
        modules = {name for name, _ in self.named_layers()}
        maps = [layer for layer in self.layers if layer.name in modules and not layer.whole]
        if not maps:
            raise ValueError("not defined for this network: no module of it makes a map that its geometry knows")
        return maps[-1]

    def effective_stride(self, layer: LayerGeometry) -> tuple[int, int]:
        """ValueError where it is not known, or no whole number."""
        steps = layer.effective_stride
        if steps is None or not all(step == int(step) for step in steps):
            raise ValueError(f"not defined for this network: the effective stride of {layer.name} is {steps}")
        return int(steps[0]), int(steps[1])

    @contextmanager
    def captured(self, names: Iterable[str], *, inputs: bool = False) -> Iterator[dict[str, Tensor]]:
        """The outputs (or else inputs) of these layers in the pass within, as they were before anything overwrote
        them."""
        kept: dict[str, Tensor] = {}

        def keep(name: str) -> Callable[..., None]:
            def hook(module: nn.Module, arguments: Any, output: Any = None) -> None:
                kept[name] = (arguments[0] if inputs else output).clone()

            return hook

        modules = dict(self.network.named_modules())
        register = "register_forward_pre_hook" if inputs else "register_forward_hook"
        handles = [getattr(modules[name], register)(keep(name)) for name in names]
        try:
            yield kept
        finally:
            for handle in handles:
                handle.remove()

    @torch.no_grad()
    def maps(self, pixels: Tensor, names: Iterable[str], *, inputs: bool = False) -> dict[str, Tensor]:
        """The outputs of these layers for uint8 images, float32 [n, channels, height, width] or as the run computes,
        on the CPU; `inputs`: what goes into them."""
        found: dict[str, list[Tensor]] = {}
        for part in torch.split(pixels, BATCH_SIZE):
            with self.captured(names, inputs=inputs) as kept, autocast(self.config.precision, self.device):
                self.network(self.normalised(part))
            for name, values in kept.items():
                found.setdefault(name, []).append(values.cpu())
        return {name: torch.cat(parts) for name, parts in found.items()}

    @torch.no_grad()
    def logits(self, pixels: Tensor) -> Tensor:
        """The network's outputs, float32 [n, ...] on the CPU, of uint8 [n, channels, height, width], normalised as in
        training and computed in the run's precision."""
        found = []
        for part in torch.split(pixels, BATCH_SIZE):
            with autocast(self.config.precision, self.device):
                found.append(self.network(self.normalised(part)).float().cpu())
        return torch.cat(found)

    def top1(self, pixels: Tensor) -> Tensor:
        """The predicted classes, int64 [n]."""
        return self.logits(pixels).max(1).indices

    def normalised(self, pixels: Tensor) -> Tensor:
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (self.data.spec.mean, self.data.spec.std))
        images = pixels.to(torch.float32).div_(255).sub_(mean).div_(torch.where(std == 0, 1.0, std))
        return images.to(self.device, dtype_of(self.config)).contiguous(memory_format=layout_of(self.config))


def load_trained(
    plan: LayerPlan, data: Data, config: TrainerConfig, *, seed: int, folder: Path, task: str = "classify"
) -> Trained:
    """ValueError when the data is not what the run trained on, or its final weights are not in its folder."""
    refuse_other_data(data, folder)
    prepare_process(config)
    device = device_of(config)
    network = build(plan).to(dtype_of(config))
    network.load_state_dict(final_weights(folder))
    if weights_digest(network) != read_tag(folder, names.WEIGHTS_DIGEST):
        raise ValueError(f"{folder}: the newest checkpoint does not hold the weights that the run ended with.")
    network = network.to(device).to(memory_format=layout_of(config)).eval()
    return Trained(network, data, seed, config, device, task, plan)


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

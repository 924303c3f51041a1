"""An exponential moving average of a network's weights, which is what is then evaluated and kept."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from .settings import TrainerConfig


class Average(nn.Module):
    """`network` follows another of the same kind, its batch norm's statistics included: at step t by
    min(decay, (1 + t) / (10 + t)), so that the start is soon forgotten (as TensorFlow's ExponentialMovingAverage)."""

    def __init__(self, network: nn.Module, *, decay: float) -> None:
        super().__init__()
        self.network = deepcopy(network).requires_grad_(False)
        self.decay, self.steps = decay, 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        pairs = list(zip(self.network.state_dict().values(), network.state_dict().values(), strict=True))
        floats = [pair for pair in pairs if pair[0].is_floating_point()]
        torch._foreach_lerp_([mine for mine, _ in floats], [theirs for _, theirs in floats], 1 - decay)
        for mine, theirs in pairs:
            if not mine.is_floating_point():  # a count of batches
                mine.copy_(theirs)

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.steps)

    def set_extra_state(self, state: Tensor) -> None:
        self.steps = int(state)


def average_of(network: nn.Module, config: TrainerConfig) -> Average | None:
    return Average(network, decay=config.ema) if config.ema else None

"""Optimizers by name. Torch is imported when one is made: a configuration is read without it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch


class Optimizer(NamedTuple):
    make: Callable[[list[dict[str, Any]], float, float], torch.optim.Optimizer]
    """(groups of parameters, each with its weight decay; learning rate; momentum) -> optimizer."""
    lr: float
    """The peak learning rate where `trainer.lr` names none."""
    memory: str
    """What geometry.OPTIMIZERS calls it."""


def sgd(groups: list[dict[str, Any]], lr: float, momentum: float) -> torch.optim.Optimizer:
    import torch

    return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=momentum > 0, fused=True)


def adamw(groups: list[dict[str, Any]], lr: float, momentum: float) -> torch.optim.Optimizer:
    import torch

    return torch.optim.AdamW(groups, lr=lr, betas=(momentum, 0.999), fused=True)


OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": Optimizer(sgd, lr=0.3, memory="sgd_momentum"),
    "adamw": Optimizer(adamw, lr=0.003, memory="adam"),
}
"""`trainer.optimizer` -> how it is made."""

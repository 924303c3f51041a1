"""How many optimizer steps are taken for each batch that Lightning hands over."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .settings import TrainerConfig

MOST_AT_ONCE = 8
FEWEST_TURNS = 4
"""Turns an epoch, where it has as many steps: what is told and timed once a turn stays fine enough."""
MOST_BYTES = 2**24
"""Of float images, or of what the network makes of them, at once."""


@dataclass(frozen=True)
class Steps:
    """Of a fit. Grouping changes no result: the same batches, in the same order, each with a step of its own."""

    at_once: int
    an_epoch: int
    epochs: int

    @property
    def in_all(self) -> int:
        return self.an_epoch * self.epochs


def steps_of(config: TrainerConfig, *, count: int, image_shape: Sequence[int], outputs: int = 0) -> Steps:
    """Of a fit on `count` images, of which the network makes `outputs` numbers each. One at a time where the batches
    of an epoch are limited: those limits count batches as Lightning sees them."""
    refuse_fewer_images(config, count=count)
    an_epoch = math.ceil(count / config.images_a_step)
    for name in ("limit_train_batches", "overfit_batches"):
        refuse_less_than_one(name, getattr(config, name), count=an_epoch, batches="training batches")
    limited = config.overfit_batches or config.limit_train_batches != 1.0 or isinstance(config.limit_train_batches, int)
    room = MOST_BYTES // (4 * config.images_a_step * max(math.prod(image_shape), outputs))
    at_once = 1 if limited else max(1, min(MOST_AT_ONCE, an_epoch // FEWEST_TURNS, room))
    return Steps(at_once, an_epoch, config.max_epochs)


def refuse_fewer_images(config: TrainerConfig, *, count: int) -> None:
    """ValueError where a last batch has not one image for each rank."""
    last = count % config.batch_size or config.batch_size
    if last < config.devices:
        raise ValueError(
            f"trainer.devices={config.devices}: of {count:,} training images in batches of {config.batch_size}, {last} "
            "are in the last one, fewer than devices; choose another trainer.batch_size."
        )


def refuse_less_than_one(name: str, share: float, *, count: int, batches: str) -> None:
    if isinstance(share, float) and share and int(count * share) == 0:
        raise ValueError(f"trainer.{name}={share} of {count} {batches} is less than one; give a larger share, or 1.")

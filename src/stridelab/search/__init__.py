"""Which plans and seeds to train next. To add a search: one function, one line in `SEARCHES`, and conf/search/NAME.yaml
(`name: NAME`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from .halving import halving
from .optuna import optuna
from .race import race
from .space import Space, Step, Trial

__all__ = ["SEARCHES", "Search", "Space", "Step", "Trial"]


class Search(Protocol):
    """Says what comes next, from what is finished, and promises:

    no state    the answer depends on the space and the scores alone, not on the order in which trials ended: killed
                anywhere, a search goes on from the runs that it left;
    once        it asks for no trial that has a score;
    it ends     with each answer that asks for trials, their scores bring it closer to one that asks for none.
    """

    def __call__(self, space: Space, scores: Mapping[Trial, float]) -> Step:
        """`scores`: of every finished trial, more is better; -inf where training diverged. ValueError for settings
        that cannot do, before any trial is asked for."""


SEARCHES: dict[str, Search] = {"halving": halving, "race": race, "optuna": optuna}
"""`search=` -> what it does."""

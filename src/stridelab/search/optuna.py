"""Optuna by ask and tell, for spaces too large to list. It keeps no state: its study is played again from the finished
runs at every step, and no plan is trained twice."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from stridelab.text import plural

from .halving import refuse_stale
from .space import Point, Space, Step, Trial, share_of

WORST, MOST_OCTAVES = -1e9, 64.0
"""What a diverged plan has reached, and what one outside the bounds costs: a sampler takes no infinity."""
REPEATS = 20
"""Proposals in a row of plans that are known or outside the bounds, after which one is drawn at random."""
DRAWS = 10_000
"""Random plans looked at for one within the bounds that is new."""


def optuna(space: Space, scores: Mapping[Trial, float]) -> Step:
    """See `Search`. Every plan is trained once, in full, with a seed of the search's own; the finalists are the front
    of these scores and MACs. Arithmetic knows MACs beforehand, and what is outside the bounds."""
    refuse_stale(space)
    if find_spec("optuna") is None:
        raise ValueError("search=optuna needs Optuna 5 or later: pip install 'stridelab[search]'.")
    sampler, tried = Proposals(space), dict[Point, float]()
    while len(tried) < space.settings.trials:
        batch = sampler.ask(min(space.settings.batch, space.settings.trials - len(tried)))
        trials = [Trial(point, space.max_epochs, space.settings.seed) for point in batch]
        if missing := tuple(trial for trial in trials if trial not in scores):
            said = f"plans {len(tried) + 1} to {len(tried) + len(batch)} of {space.settings.trials}"
            return Step(missing, said=said)
        if not batch:
            break
        tried |= {trial.point: scores[trial] for trial in trials}
        sampler.tell({trial.point: scores[trial] for trial in trials})
    finalists = front(space, tried)
    beaten = "beaten by a plan of no more MACs" if space.settings.front else "others are better"
    when = f"after {plural(space.max_epochs, 'epoch')} with one seed"
    lost = {point: "diverged" if tried[point] == -math.inf else beaten for point in tried if point not in finalists}
    return Step(finalists=finalists, dropped={point: f"{when}: {why}" for point, why in lost.items()})


def front(space: Space, tried: Mapping[Point, float]) -> tuple[Point, ...]:
    """The plans that no other one beats at no more MACs; where no front is wanted, the best search.keep of them."""
    sound = [point for point in tried if tried[point] > -math.inf]
    if not space.settings.front:
        ranked = sorted(sound, key=lambda point: tried[point], reverse=True)
        return tuple(ranked[: share_of(len(ranked), space.settings.keep)])
    return tuple(
        point
        for point in sound
        if not any(tried[other] > tried[point] and space.macs(other) <= space.macs(point) for other in sound)
    )


class Proposals:
    """A study, and the plans whose trials in it are open."""

    def __init__(self, space: Space) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.optuna: Any = optuna
        self.space, self.random = space, random.Random(space.settings.seed)
        self.directions: list[Any] = ["maximize", "minimize"] if space.settings.front else ["maximize"]
        sampler = optuna.samplers.TPESampler(seed=space.settings.seed % 2**32, multivariate=True, constant_liar=True)
        self.study = optuna.create_study(directions=self.directions, sampler=sampler)
        self.known: set[Point] = set()
        self.open: dict[Point, Any] = {}

    def ask(self, count: int) -> list[Point]:
        """Up to `count` new plans within the bounds; fewer where there seem to be no more."""
        for _ in range(count):
            if not any(self.proposed() for _ in range(REPEATS)) and not self.drawn():
                break
        return list(self.open)

    def drawn(self) -> bool:
        for _ in range(DRAWS):
            point = tuple(self.random.randrange(len(axis)) for axis in self.space.axes)
            if point not in self.known and self.space.price(point) is not None:
                self.study.enqueue_trial({str(at): choice for at, choice in enumerate(point)})
                return self.proposed()
        return False

    def proposed(self) -> bool:
        """Whether a proposal is to be trained. One outside the bounds is told at once, and a repeated one left out."""
        trial = self.study.ask()
        point = tuple(
            trial.suggest_categorical(str(at), list(range(len(axis)))) for at, axis in enumerate(self.space.axes)
        )
        known, macs = point in self.known, self.space.price(point)
        self.known.add(point)
        if known:
            self.study.tell(trial, state=self.optuna.trial.TrialState.FAIL)
        else:
            trial.set_constraint("bounds", 1.0 if macs is None else -1.0)
            self.open[point] = trial
            if macs is None:
                self.tell({point: WORST})
        return not known and macs is not None

    def tell(self, scores: Mapping[Point, float]) -> None:
        for point, score in scores.items():
            macs = self.space.price(point)
            values = [max(score, WORST), math.log2(macs) if macs else MOST_OCTAVES]
            self.study.tell(self.open.pop(point), values[: len(self.directions)])

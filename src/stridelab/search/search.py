"""A search: a sweep of short or single trainings that grows until the search ends, then one of the finalists with all
seeds. Both are sweeps like any other: nothing is trained twice, and the same command goes on."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import islice, product
from typing import Any

from stridelab import names
from stridelab.config import Config
from stridelab.config.axes import job_at
from stridelab.config.compose import Choice
from stridelab.config.grid import Grid
from stridelab.config.variants import science, sweep_name, variant_name
from stridelab.plan.space import Selection
from stridelab.plan.variant import layers_of
from stridelab.plan.variant_row import Figures
from stridelab.sweep.agenda import Agenda, is_a_beginning
from stridelab.sweep.launchers import launcher_for
from stridelab.sweep.planner import Series
from stridelab.sweep.progress import screen
from stridelab.sweep.sweep import run_sweep
from stridelab.tracking.status import read_result
from stridelab.training.tasks import TASKS

from . import SEARCHES
from .space import Point, Space, Step, Trial

MOST_PLANS = 100_000
SCREENING = "screening"
OWN = ("trainer.max_epochs", "data.")
"""What plans of a search cannot differ in: it sets the one itself, and scores on other data are not comparable."""


def run_search(grid: Grid, *, resend: str = "") -> int:
    """Train as `search=` of `grid` says; the exit code. ValueError before anything is created."""
    search = Running(grid)
    first = search.next({})
    launcher = launcher_for(search.config, num_runs=len(first))
    series = Series(search.keys, grow=search.grow, compared=False)
    code = run_sweep(first, launcher, multirun=True, resend=resend, series=series)
    if code or grid.settings.sweep.preview:
        return code
    final = search.finals()
    series = Series(grid.keys, files={names.SEARCH_FILE: json.dumps(search.record(), indent=1)})
    return run_sweep(final, launcher_for(final[0], num_runs=len(final)), multirun=True, resend=resend, series=series)


def name_of(grid: Grid, config: Config) -> str:
    """Of the sweep that ends the search."""
    return config.sweep.name or f"{sweep_name([config], grid.keys)}-{config.search.name}"


class Running:
    """Turns trials into configurations, and finished runs into scores."""

    def __init__(self, grid: Grid) -> None:
        settings = grid.settings.search
        if settings.name not in SEARCHES:
            raise ValueError(f"search={settings.name} is not one of its choices; choose one of {', '.join(SEARCHES)}.")
        if own := next((key for key in grid.keys if key.startswith(OWN)), None):
            raise ValueError(f"{own} cannot differ between the plans of a search; give one value.")
        self.grid, self.plans, self.prices = grid, Plans(grid), Prices(Plans(grid))
        self.config = self.plans.any_config()
        self.name = name_of(grid, self.config)
        epochs = self.config.trainer.max_epochs
        self.space = Space(self.plans.axes, self.prices, self.prices.listed, grid.seeds, epochs, settings)
        self.keys = (*grid.keys, "trainer.max_epochs") if settings.name == "halving" else grid.keys
        self.asked: dict[str, list[Trial]] = {}
        """By what makes a run: plans that come to the same configuration share it."""
        self.step = Step()

    def next(self, scores: Mapping[Trial, float]) -> list[Config]:
        self.step = SEARCHES[str(self.space.settings.name)](self.space, scores)
        found: dict[str, Config] = {}
        for trial in self.step.trials:
            config = self.made(trial)
            found[key_of(config)] = config
            self.asked.setdefault(key_of(config), []).append(trial)
        if found:
            screen().print(f"search={self.space.settings.name}, {self.step.said}")
        return list(found.values())

    def made(self, trial: Trial) -> Config:
        config = self.plans.config(trial.point)
        assert config is not None
        sweep = replace(config.sweep, plans=None, name=f"{self.name}-{SCREENING}", report=False)
        trainer = replace(config.trainer, max_epochs=trial.epochs)
        return replace(config, seed=trial.seed, trainer=trainer, sweep=sweep, probes=[], plan="off")

    def grow(self, agenda: Agenda) -> list[Config]:
        """What comes after an agenda that is done. Scores are of validation images: the test images choose nothing."""
        task = TASKS[self.config.task]
        scores: dict[Trial, float] = {}
        for spec in agenda.specs:
            result = read_result(spec.folder)
            value = -math.inf if result is None else result["metrics"][f"final/val_{task.primary}"] * task.measure.sign
            scores |= dict.fromkeys(self.asked[key_of(spec.config)], value)
        return self.next(scores)

    def finals(self) -> list[Config]:
        if not self.step.finalists:
            raise ValueError(f"search={self.space.settings.name}: training diverged with every plan; lower trainer.lr.")
        found = []
        for point in self.step.finalists:
            config = self.plans.config(point)
            assert config is not None
            sweep = replace(config.sweep, plans=None, name=self.name)
            found += [replace(config, seed=seed, sweep=sweep) for seed in self.grid.seeds]
        return found

    def record(self) -> dict[str, Any]:
        """What the report tells of the search."""
        settings, plans = self.space.settings, self.space.num_plans
        of_a_plan = len(self.space.seeds) * self.space.max_epochs
        fresh = settings.name != "race"
        return {
            "search": settings.name,
            "settings": asdict(settings),
            "seeds": list(self.space.seeds),
            "fresh": fresh,
            "trials": len(self.asked),
            "epochs": self.epochs(),
            "final_epochs": len(self.step.finalists) * of_a_plan if fresh else 0,
            "exhaustive_epochs": (plans or len(self.grid)) * of_a_plan,
            "exhaustive_is_bound": plans is None,
            "finalists": [self.called(point) for point in self.step.finalists],
            "dropped": [
                {"variant": self.called(point), "macs": self.space.macs(point), "when": when}
                for point, when in self.step.dropped.items()
            ],
        }

    def epochs(self) -> int:
        """Trained in the search; a run that goes on from a shorter one's checkpoint counts what it adds."""
        spent: dict[tuple[Point, int], list[int]] = {}
        for trial, *_ in self.asked.values():
            spent.setdefault((trial.point, trial.seed), []).append(trial.epochs)
        return sum(max(epochs) if is_a_beginning(self.config) else sum(epochs) for epochs in spent.values())

    def called(self, point: Point) -> str:
        config = self.plans.config(point)
        assert config is not None
        return variant_name(config, self.grid.keys)


def key_of(config: Config) -> str:
    return f"{science(config)} {config.seed}"


@dataclass(frozen=True)
class Plans:
    """The plans of a grid as points of a space, one coordinate for each layer that varies independently."""

    grid: Grid

    @cached_property
    def choices(self) -> list[dict[Point, Choice]]:
        """Of each axis, its choices by their coordinates."""
        return [by_coordinates(axis) for axis in self.grid.axes]

    @property
    def axes(self) -> tuple[tuple[str, ...], ...]:
        columns = [list(zip(*axis, strict=True)) for axis in self.choices]
        return tuple(tuple(map(str, sorted(set(column)))) for axis in columns for column in axis)

    def choice(self, point: Point) -> tuple[Choice, ...]:
        coordinates, found = iter(point), []
        for axis in self.choices:
            found.append(axis[tuple(islice(coordinates, len(next(iter(axis)))))])
        return tuple(found)

    def __iter__(self) -> Iterator[Point]:
        for parts in product(*self.choices):
            yield tuple(coordinate for part in parts for coordinate in part)

    def figures(self, point: Point) -> Figures | None:
        """None where the plan is impossible."""
        config = self.config(point)
        if config is None:
            return None
        try:
            return Figures(config, layers_of(config))
        except ValueError:
            return None

    def any_config(self) -> Config:
        """For what is common to all of them. ValueError where none can be read."""
        job = None
        for _, job in islice(self.grid, MOST_PLANS):
            if job.config is not None:
                return job.config
        raise ValueError(job.error if job else "a search needs a plan to begin with.")

    def config(self, point: Point) -> Config | None:
        return job_at(self.choice(point)).config


def by_coordinates(axis: Sequence[Choice]) -> dict[Point, Choice]:
    """One coordinate an entry where the choices are all combinations of values a layer; else, one for all."""
    values = [choice.value for choice in axis]
    if len(axis) > 1 and all(isinstance(value, list) and len(value) == len(values[0]) for value in values):
        columns = [list(dict.fromkeys(map(str, column))) for column in zip(*values, strict=True)]
        if math.prod(map(len, columns)) == len(axis):
            return {
                tuple(column.index(str(entry)) for column, entry in zip(columns, choice.value, strict=True)): choice
                for choice in axis
            }
    return {(at,): choice for at, choice in enumerate(axis)}


class Prices:
    """MACs of each plan, None where it is impossible or outside the bounds; counted once."""

    def __init__(self, plans: Plans) -> None:
        self.plans, self.selection = plans, Selection[Point](plans.grid.settings.sweep)
        self.known: dict[Point, int | None] = {}

    def __call__(self, point: Point) -> int | None:
        if point not in self.known:
            figures = self.plans.figures(point)
            within = figures is not None and self.selection.meets(figures)
            self.known[point] = figures.totals.macs_at_least if figures is not None and within else None
        return self.known[point]

    def listed(self) -> list[Point]:
        """Those that sweep.plans and sweep.plans_keep leave."""
        if len(self.plans.grid) > MOST_PLANS:
            raise ValueError(
                f"these arguments span {len(self.plans.grid):,} plans, more than the {MOST_PLANS:,} that are listed; "
                "give a smaller space, or search=optuna."
            )
        found = list(self.selection(self.described(point) for point in self.plans))
        screen().print(str(self.selection), soft_wrap=True)
        return found

    def described(self, point: Point) -> tuple[Point, str, Figures | None]:
        figures = self.plans.figures(point)
        return point, "" if figures is None else variant_name(figures.config, self.plans.grid.keys), figures

"""Which plans of a space `sweep.plans` and `sweep.plans_keep` leave, by arithmetic alone."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Generic, TypeVar

from stridelab.config.grid import Grid
from stridelab.config.plans import Bound, parse_plans
from stridelab.config.schema import SweepConfig
from stridelab.text import human, plural

from .variant import Variant
from .variant_row import Figures, VariantRow, all_rows

FIGURES: Mapping[str, Callable[[Figures], float | None]] = {
    "macs": lambda plan: plan.totals.macs,
    "params": lambda plan: plan.totals.params,
    "memory": lambda plan: None if plan.memory.peak is None else plan.memory.peak / 2**20,
    "field": lambda plan: None if plan.receptive_field is None else max(plan.receptive_field),
    "effective_stride": lambda plan: None if plan.effective_stride is None else float(max(plan.effective_stride)),
    "map": lambda plan: None if plan.last_map is None else min(plan.last_map.output_size),
}
"""By the names of `config.plans.BOUNDS`. None cannot be known, and meets no bound."""

Item = TypeVar("Item")
Plan = tuple[Item, str, Figures | None]
"""Anything, what its plan is called, and what is known of it: None where it is impossible."""


class Selection(Generic[Item]):
    """Lets plans within the bounds pass, and counts the others."""

    def __init__(self, settings: SweepConfig) -> None:
        self.text, self.keep = settings.plans, settings.plans_keep
        self.total = self.impossible = self.within = self.kept = 0
        self.left_out: Counter[str] = Counter()
        self.nearest: dict[str, float] = {}

    @cached_property
    def bounds(self) -> tuple[Bound, ...]:
        return parse_plans(self.text).bounds if self.text else ()

    def __call__(self, plans: Iterable[Plan[Item]]) -> Iterator[Item]:
        """ValueError when none is left."""
        found = (plan for plan in plans if self.meets(plan[2]))
        for item, _, _ in KEEP[self.keep](found) if self.keep in KEEP else drawn(found, count=int(self.keep)):
            self.kept += 1
            yield item
        if not self.kept:
            raise ValueError(self.why_none())

    def meets(self, figures: Figures | None) -> bool:
        self.total += 1
        if figures is None:
            self.impossible += 1
            return False
        broken = [bound for bound in self.bounds if not self.holds(bound, FIGURES[bound.figure](figures))]
        self.left_out.update(bound.text for bound in broken)
        self.within += not broken
        return not broken

    def holds(self, bound: Bound, figure: float | None) -> bool:
        if figure is None or bound.holds(figure):
            return figure is not None
        nearest = self.nearest.setdefault(bound.text, figure)
        self.nearest[bound.text] = min(nearest, figure, key=lambda one: min(abs(one - limit) for limit in bound.limits))
        return False

    def why_none(self) -> str:
        if self.impossible == self.total:
            return f"sweep.plans: none of its {plural(self.total, 'plan')} is possible; stridelab plan KEYS says why."
        (worst, count), possible = self.left_out.most_common(1)[0], self.total - self.impossible
        figure = self.nearest.get(worst)
        nearest = f", the nearest has {human(figure)}" if figure is not None else ", it cannot be known of them"
        others = "; ".join(f"{text} {excluded:,}" for text, excluded in self.left_out.most_common()[1:])
        return (
            f"sweep.plans: none of {plural(possible, 'possible plan')} is within all bounds: {worst} leaves out "
            f"{'all' if count == possible else f'{count:,}'} of them{nearest}{f' ({others})' if others else ''}."
        )

    def __str__(self) -> str:
        """What became of all of them, in one line."""
        parts = [f"{self.impossible:,} impossible"] if self.impossible else []
        parts += [f"{text} leaves out {count:,}" for text, count in self.left_out.most_common()]
        how = {
            "all": "all kept",
            "pareto_cost": f"{self.kept:,} kept: no other has at least their field and map for less",
        }
        kept = how.get(self.keep, f"{self.kept:,} kept, drawn by the digests of their names")
        return f"sweep.plans: {', '.join([plural(self.total, 'plan'), *parts])}; {self.within:,} within bounds, {kept}."


def on_the_front(plans: Iterable[Plan[Item]]) -> Iterator[Plan[Item]]:
    """Those that no other equals at no more MACs and memory with as large a field and as fine a map."""
    known = [(merits(plan[2]), plan) for plan in plans if plan[2] is not None]
    front: list[tuple[float, ...]] = []
    for one in sorted({merit for merit, _ in known}):
        if not any(all(x <= y for x, y in zip(other, one, strict=True)) for other in front):
            front.append(one)
    yield from (plan for merit, plan in known if merit in front)


def merits(figures: Figures) -> tuple[float, ...]:
    """Less of each is better."""
    signs = {"macs": 1, "memory": 1, "field": -1, "effective_stride": 1}
    found = {name: FIGURES[name](figures) for name in signs}
    return tuple(float("inf") if value is None else signs[name] * value for name, value in found.items())


def drawn(plans: Iterable[Plan[Item]], *, count: int) -> Iterator[Plan[Item]]:
    """`count` of them by the SHA-256 of what they are called: as good as a random draw, and a larger one holds it."""
    known = list(plans)
    digests = sorted((hashlib.sha256(name.encode()).hexdigest(), at) for at, (_, name, _) in enumerate(known))
    yield from (known[at] for at in sorted(at for _, at in digests[:count]))


KEEP: Mapping[str, Callable[[Iterable[Plan[Any]]], Iterator[Plan[Any]]]] = {"all": iter, "pareto_cost": on_the_front}


def rows_of(grid: Grid, *, say: Callable[[str], None] = lambda said: None) -> Iterator[VariantRow]:
    """One by one: what is behind is forgotten. Of a space, those that it leaves; `say` is told how many."""
    selection = Selection[VariantRow](grid.settings.sweep)
    if not selection.text:
        yield from all_rows(grid)
        return
    yield from selection((row, row.name, row.figures) for row in all_rows(grid))
    say(str(selection))


def variants_of(variants: Sequence[Variant], *, say: Callable[[str], None] = lambda said: None) -> list[Variant]:
    """As `rows_of`, of variants with all their seeds."""
    selection = Selection[str](variants[0].config.sweep)
    if not selection.text:
        return list(variants)
    once = {one.name: one for one in variants}
    figures = {name: None if one.layers is None else Figures(one.config, one.layers) for name, one in once.items()}
    left = set(selection((name, name, known) for name, known in figures.items()))
    say(str(selection))
    return [one for one in variants if one.name in left]

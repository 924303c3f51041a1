"""Which runs of a sweep are to be trained: of its variants, and of those that a search adds to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from rich.console import Console
from rich.markup import escape

from stridelab.config import Config
from stridelab.data import DataConfig, DataSpec
from stridelab.plan import Variant, examine
from stridelab.tracking.restore import Recall
from stridelab.tracking.store import Store

from .agenda import Agenda, make_agenda, shortened
from .launcher import Launcher
from .preflight import refuse
from .restore import Stored, ask_store, fetch


@dataclass(frozen=True)
class Series:
    """What a search adds to a sweep of its own."""

    keys: tuple[str, ...]
    """What variants are called after; else, what varies."""
    grow: Callable[[Agenda], Sequence[Config]] = lambda agenda: ()
    """Looks at an agenda that is done, and says what is trained next in the same sweep; nothing: no more."""
    compared: bool = True
    """Whether the sweep ends with a comparison of its variants."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Name and content of what the sweep's own run keeps beside its configuration."""


@dataclass(frozen=True)
class Planner:
    """Makes the agenda of a sweep, and makes it again when the store had some of its runs, or when it grows."""

    variants: list[Variant]
    series: Series
    name: str
    """Of the sweep; empty: one run, without."""
    data_specs: Mapping[DataConfig, DataSpec]
    store: Store
    launcher: Launcher
    console: Console

    @cached_property
    def recall(self) -> Recall:
        return Recall(self.store)

    def agenda(self) -> Agenda:
        return make_agenda(self.variants, data_specs=self.data_specs, name=self.name)

    def stored(self, agenda: Agenda) -> Stored:
        return ask_store(agenda, self.recall, self.console)

    def fetched(self, agenda: Agenda, stored: Stored) -> Agenda:
        """With what the store has of it."""
        return self.agenda() if fetch(agenda, stored, self.store, self.console) else agenda

    def grown(self, agenda: Agenda) -> Agenda | None:
        """What comes after an agenda that is done; None: nothing, it has ended."""
        if not (new := [examine(config, keys=self.series.keys) for config in self.series.grow(agenda)]):
            return None
        refuse(new, stop=True)
        self.variants.extend(new)
        say(self.launcher.choose_jobs(self.variants), self.console)
        made = self.agenda()
        return shortened(self.fetched(made, self.stored(made)))


def say(sentence: str, console: Console) -> None:
    if sentence:
        console.print(escape(sentence), soft_wrap=True)

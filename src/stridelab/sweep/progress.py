"""What a person sees while runs train: which run of how many, how far each is, and how long it may take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from stridelab.text import duration

PIPED_WIDTH = 120


def screen() -> Console:
    """As wide as the terminal; 120 columns where there is none, so that tables in logs stay readable. Plain lines in a
    notebook, where rich would ask for ipywidgets at every bar. Numbers have no colour of their own."""
    console = Console(highlight=False)
    if console.is_terminal:
        return console
    return Console(width=PIPED_WIDTH, force_terminal=False, force_jupyter=False, highlight=False)


def bars(console: Console, *columns: ProgressColumn) -> Progress:
    """On a terminal; nowhere else."""
    first = (TextColumn("{task.description}"), BarColumn(bar_width=24))
    return Progress(*first, *columns, console=console, disable=not console.is_terminal, transient=True)


class Board:
    """Live bars on a terminal; elsewhere one line when a run starts and one when it ends."""

    def __init__(
        self, names: Sequence[str], *, epochs: Sequence[int], console: Console, images: Sequence[int] = ()
    ) -> None:
        """`images`: trained on in an epoch of each run."""
        self.names, self.epochs, self.console = names, epochs, console
        self.images = images or [0] * len(names)
        self.done = [0.0] * len(names)
        self.first = dict[int, float]()
        """Epochs that a run had behind it when it was begun here."""
        self.trained = [0.0] * len(names)
        """Epochs that were trained here; of a run that ended early, not all that are done with it."""
        self.ended = 0
        self.began: dict[int, float] = {}
        self.bars: dict[int, TaskID] = {}
        self.start = monotonic()
        self.progress = bars(console, TextColumn("{task.fields[said]}"), TimeElapsedColumn())

    def __enter__(self) -> Board:
        self.progress.start()
        self.total = self.progress.add_task("", total=max(sum(self.epochs), 1), said="")
        self._total()
        return self

    def __exit__(self, *error: object) -> None:
        self.progress.stop()

    def started(self, index: int) -> None:
        if index in self.bars:  # it was about to begin when another process was quicker
            return
        self.began[index] = monotonic()
        self.bars[index] = self.progress.add_task(
            f"  {escape(self.names[index])}", total=self.epochs[index], said="starting"
        )
        if not self.console.is_terminal:
            self._line(index, "started")

    def event(self, index: int, event: Mapping[str, Any]) -> None:
        if "said" in event:
            self._line(index, escape(event["said"]))
            return
        if "decoded" in event:
            said = f"decoding images, {event['decoded']:,} of {event['of']:,}"
            self.progress.update(self.bars[index], said=said)
            return
        done = event["epoch"] - 1 + event["step"] / event["steps"]
        self.done[index] = done
        self.trained[index] = done - self.first.setdefault(index, event["epoch"] - 1)
        said = f"epoch {event['epoch']}/{event['epochs']}"
        for name, value in event.items():
            if name.startswith("final/val_"):
                said += f"  val {name.removeprefix('final/val_').replace('_', ' ')} {value:.3f}"
        self.progress.update(self.bars[index], completed=done, said=said)
        self._total()

    def finished(self, index: int, said: str) -> None:
        self.ended += 1
        self.done[index] = self.epochs[index]
        if index in self.bars:
            self.progress.remove_task(self.bars.pop(index))
            said += f"  ({monotonic() - self.began[index]:.0f} s)"
        self._line(index, said)
        self._total()

    def waits(self, index: int, holder: str) -> None:
        self._line(index, f"is being trained by {escape(holder)}; its result will be used")

    def _line(self, index: int, said: str) -> None:
        where = f"[dim]run {index + 1} of {len(self.names)}[/]"
        self.progress.console.print(f"{where}  {escape(self.names[index])}  {said}")

    def _total(self) -> None:
        before = sum(self.first.values())
        share = (sum(self.done) - before) / max(sum(self.epochs) - before, 1)
        said = f"{self.ended} of {len(self.names)} runs done"
        if 0.02 < share < 1:
            left = (monotonic() - self.start) * (1 - share) / share
            said += f", about {duration(left)} left"
        trained = sum(epochs * images for epochs, images in zip(self.trained, self.images, strict=True))
        if trained and share < 1:
            said += f", {trained / (monotonic() - self.start):,.0f} images/s"
        description = "[bold]all runs[/]" if len(self.names) > 1 else "[bold]run[/]"
        self.progress.update(self.total, description=description, completed=sum(self.done), said=said)


class Decoding:
    """While libraries are loaded and data are checked: a status on a terminal. While image files are decoded: a bar
    there, elsewhere a line before and after."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.began = 0.0
        self.bar: TaskID | None = None
        self.status = console.status("loading libraries and checking the data ...")
        self.progress = bars(console, MofNCompleteColumn(), TimeRemainingColumn())

    def __enter__(self) -> Decoding:
        self.status.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.status.stop()
        self.progress.stop()

    def event(self, event: Mapping[str, Any]) -> None:
        if "said" in event:
            self.console.print(escape(event["said"]))
            return
        self.status.stop()
        count = f"{event['of']:,} image files of {event['set']}"
        if self.bar is None:
            self.began = monotonic()
            self.progress.start()
            self.bar = self.progress.add_task(f"decoding, once: {event['set']}", total=event["of"])
            if not self.console.is_terminal:
                self.console.print(f"decoding, once: {count}")
        self.progress.update(self.bar, completed=event["decoded"])
        if event["decoded"] == event["of"]:
            self.progress.remove_task(self.bar)
            self.bar = None
            self.console.print(f"decoded {count} in {duration(monotonic() - self.began)}")

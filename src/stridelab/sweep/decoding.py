"""What a person sees while image files are decoded: a bar on a terminal, elsewhere a line before and after."""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from stridelab.text import duration


class Decoding:
    def __init__(self, console: Console) -> None:
        self.console = console
        self.began = 0.0
        self.bar: TaskID | None = None
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )

    def __enter__(self) -> Decoding:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def event(self, event: Mapping[str, Any]) -> None:
        if "said" in event:
            self.console.print(escape(event["said"]), highlight=False)
            return
        count = f"{event['of']:,} image files of {event['set']}"
        if self.bar is None:
            self.began = monotonic()
            self.progress.start()
            self.bar = self.progress.add_task(f"decoding, once: {event['set']}", total=event["of"])
            if not self.console.is_terminal:
                self.console.print(f"decoding, once: {count}", highlight=False)
        self.progress.update(self.bar, completed=event["decoded"])
        if event["decoded"] == event["of"]:
            self.progress.remove_task(self.bar)
            self.bar = None
            self.console.print(f"decoded {count} in {duration(monotonic() - self.began)}", highlight=False)

"""What a command would do, and how long it may take."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from stridelab.config import Config
from stridelab.data.contents import contents_of
from stridelab.plan import Variant
from stridelab.run import Work, cost, read_result

from .agenda import Agenda
from .progress import duration

START_S, IMAGE_S, MACS_A_SECOND = 1.0, 5e-5, 5e9
"""Of one core while it trains: guesses for the first run on a machine; from then on they only weigh runs."""
FORWARD_AND_BACKWARD = 3


def preview(
    agenda: Agenda, variants: Mapping[str, Variant], console: Console, *, jobs: int, stored: Collection[str] = ()
) -> None:
    """`variants` by the name of the work; `stored`: signatures of runs that would be fetched from the store."""
    console.print(f"[bold]{escape(agenda.identity.name if agenda.identity else 'one run')}[/]: nothing is created")
    for status, name in lines(agenda, stored):
        console.print(f"  {status:<34} {escape(name)}", highlight=False)
    agenda = replace(agenda, to_do=tuple(work for work in agenda.to_do if work.identity.signature not in stored))
    count = len(agenda.to_do)
    if not count:
        console.print("Nothing to train.")
        return
    seconds, basis = estimate(agenda, variants)
    at_once = min(jobs, count)
    how = f" with {at_once} at a time" if at_once > 1 else ""
    console.print(f"{count} to train, about {duration(seconds / at_once)}{how} ({basis}).", highlight=False)


def lines(agenda: Agenda, stored: Collection[str]) -> Iterator[tuple[str, str]]:
    left = {one.work.identity.signature: one.status for one in agenda.left}
    refused = {work.identity.signature for work, _ in agenda.refused}
    for work in agenda.works:
        key = work.identity.signature
        if work in agenda.done:
            yield "done" + (f" ({agenda.foreign[key]})" if key in agenda.foreign else ""), work.identity.name
        elif key in left:
            yield f"{left[key]} earlier; left", work.identity.name
        elif key in refused:
            yield "refused", work.identity.name
        elif key in stored:
            yield "done, in the tracking store", work.identity.name
        elif epoch := reached(work):
            yield f"to continue, epoch {epoch} of {work.config.trainer.max_epochs} done", work.identity.name
        else:
            yield "to do", work.identity.name


def reached(work: Work) -> int:
    """The newest checkpoint's epoch, unread."""
    names = [path.stem.partition("=")[2] for path in (work.folder / "checkpoints").glob("epoch=*.ckpt")]
    return max((int(name) for name in names if name.isdigit()), default=0)


def estimate(agenda: Agenda, variants: Mapping[str, Variant]) -> tuple[float, str]:
    """Seconds for all that is to do, one run after the other, and what that rests on."""

    def guessed(work: Work) -> float:
        return guess(work.config, variants[work.identity.name])

    left = sum(guessed(work) * (1 - reached(work) / work.config.trainer.max_epochs) for work in agenda.to_do)
    if not agenda.done:
        return left, "a guess: no run of it is finished yet"
    taken = sum(seconds(work.folder) for work in agenda.done)
    runs = "run" if len(agenda.done) == 1 else "runs"
    return left * taken / sum(map(guessed, agenda.done)), f"as {len(agenda.done)} finished {runs} took"


def guess(config: Config, variant: Variant) -> float:
    """Seconds of one run on one core."""
    assert variant.layers is not None
    images = contents_of(config.data).num_train * config.trainer.max_epochs
    operations = cost(variant.layers)["cost/macs"] * FORWARD_AND_BACKWARD * images
    return START_S + images * IMAGE_S + operations / MACS_A_SECOND


def seconds(folder: Path) -> float:
    result = read_result(folder)
    assert result is not None
    return float(result["metrics"]["time/total_s"])

"""What a command would do, and how long it may take."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from stridelab.config import Config
from stridelab.data.contents import contents_of
from stridelab.geometry import totals
from stridelab.plan import Variant
from stridelab.run import RunSpec
from stridelab.text import duration
from stridelab.tracking.status import read_result

from .agenda import Agenda

START_S, IMAGE_S, MACS_A_SECOND = 1.0, 5e-5, 5e9
"""Of one core while it trains: guesses for the first run on a machine; from then on they only weigh runs."""
FORWARD_AND_BACKWARD = 3


def preview(
    agenda: Agenda, variants: Mapping[str, Variant], console: Console, *, jobs: int, stored: Collection[str] = ()
) -> None:
    """`variants` by the name of the run; `stored`: signatures of runs that would be fetched from the store."""
    console.print(f"[bold]{escape(agenda.identity.name if agenda.identity else 'one run')}[/]: nothing is created")
    for status, name in lines(agenda, stored):
        console.print(f"  {status:<34} {escape(name)}")
    agenda = replace(agenda, to_do=tuple(spec for spec in agenda.to_do if spec.identity.signature not in stored))
    count = len(agenda.to_do)
    if not count:
        console.print("Nothing to train.")
        return
    seconds, basis = estimate(agenda, variants)
    at_once = min(jobs, count)
    how = f" with {at_once} at a time" if at_once > 1 else ""
    console.print(f"{count} to train, about {duration(seconds / at_once)}{how} ({basis}).")


def lines(agenda: Agenda, stored: Collection[str]) -> Iterator[tuple[str, str]]:
    left = {one.spec.identity.signature: one.status for one in agenda.skipped}
    done = {spec.identity.signature for spec in agenda.done}
    refused = {spec.identity.signature for spec, _ in agenda.refused}
    for spec in agenda.specs:
        key = spec.identity.signature
        if key in done:
            yield "done" + (f" ({agenda.differences[key]})" if key in agenda.differences else ""), spec.identity.name
        elif key in left:
            yield f"{left[key]} earlier; skipped", spec.identity.name
        elif key in refused:
            yield "refused", spec.identity.name
        elif key in stored:
            yield "done, in the tracking store", spec.identity.name
        elif epoch := reached(spec):
            yield f"to continue, epoch {epoch} of {spec.config.trainer.max_epochs} done", spec.identity.name
        else:
            yield "to do", spec.identity.name


def reached(spec: RunSpec) -> int:
    """The newest checkpoint's epoch, unread."""
    names = [path.stem.partition("-")[2] for path in (spec.folder / "checkpoints").glob("epoch-*.ckpt")]
    return max((int(name) for name in names if name.isdigit()), default=0)


def estimate(agenda: Agenda, variants: Mapping[str, Variant]) -> tuple[float, str]:
    """Seconds for all that is to do, one run after the other, and what that rests on."""

    def guessed(spec: RunSpec) -> float:
        return guess(spec.config, variants[spec.identity.name])

    left = sum(guessed(spec) * (1 - reached(spec) / spec.config.trainer.max_epochs) for spec in agenda.to_do)
    if not agenda.done:
        return left, "a guess: no run of it is finished yet"
    taken = sum(seconds(spec.folder) for spec in agenda.done)
    runs = "run" if len(agenda.done) == 1 else "runs"
    return left * taken / sum(map(guessed, agenda.done)), f"as {len(agenda.done)} finished {runs} took"


def guess(config: Config, variant: Variant) -> float:
    """Seconds of one run on one core."""
    assert variant.layers is not None
    images = contents_of(config.data).num_train * config.trainer.max_epochs
    operations = totals(variant.layers).macs_at_least * FORWARD_AND_BACKWARD * images
    return START_S + images * IMAGE_S + operations / MACS_A_SECOND


def seconds(folder: Path) -> float:
    result = read_result(folder)
    assert result is not None
    return float(result["metrics"]["time/total_s"])

"""Conduct a sweep, or one run: check, prepare, train in children, close."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from rich.console import Console

from stridelab import tracking
from stridelab.config import Config
from stridelab.config.variants import sweep_name, varying_keys
from stridelab.data import DataConfig, DataSpec, fetch
from stridelab.models.settings import spell_field
from stridelab.plan import Variant, examine
from stridelab.run import Work, prepare, run

from .board import Board, screen
from .closing import close
from .pool import Here, Outcome, Pool, Task
from .works import Agenda, jobs_at_once, make_agenda

INTERRUPTED, TERMINATED = 130, 143


def conduct(configs: Sequence[Config], *, multirun: bool) -> int:
    """Train every configuration; the exit code. ValueError or FileNotFoundError before anything is created."""
    console, first = screen(), configs[0]
    variants = [examine(config, keys=varying_keys(configs)) for config in configs]
    refuse(variants, stop=not multirun or first.on_invalid == "stop")
    for variant in variants:
        refuse_lonely_image(variant)
    fetch_data(config.data for config in configs)
    results = writable(Path(first.paths.results_dir))
    pool = pool_for(first, runs=len(configs))
    pool.warm_up()
    agenda = make_agenda(
        variants,
        specs=data_specs(pool, configs),
        name=(first.sweep.name or sweep_name(configs)) if multirun else "",
    )
    tracking.repair(results)
    store = tracking.resolve_store(first.tracking, results_dir=results)
    with (
        tracking.Mirror(store.uri, store.artifact_root, store.experiment) as mirror,
        termination_as_exception(),
    ):
        try:
            return carry_out(agenda, pool, mirror, console)
        except KeyboardInterrupt as interruption:
            settle_interrupted(agenda)
            console.print("\nInterrupted. The same command continues: what is finished is not done again.")
            return TERMINATED if isinstance(interruption, Terminated) else INTERRUPTED


def pool_for(config: Config, *, runs: int) -> Pool | Here:
    if not config.sweep.isolated:
        return Here()
    return Pool(jobs_at_once(config, runs=runs, cores=len(os.sched_getaffinity(0))))


def refuse(variants: Sequence[Variant], *, stop: bool) -> None:
    """ValueError for impossible variants: all of them at once; in a sweep only when none is left or on request."""
    bad = [variant for variant in variants if variant.error is not None]
    if bad and (stop or len(bad) == len(variants)):
        raise ValueError("\n       ".join(dict.fromkeys(f"{settings(variant)}: {variant.error}." for variant in bad)))


def settings(variant: Variant) -> str:
    """The keys that decide a geometry, as they are typed."""
    model = variant.config.model
    keys = ("strides", "padding", "padding_mode", "kernel_sizes", "dilations")
    return " ".join(f"model.{key}={spell_field(model, key)}" for key in keys)


def refuse_lonely_image(variant: Variant) -> None:
    """Batch norm over a single value has no variance: a last batch of one image on a 1x1 map cannot be trained on."""
    config = variant.config
    lonely = config.data.num_train % config.trainer.batch_size == 1
    if lonely and any(layer.kind == "norm" and layer.output_size == (1, 1) for layer in variant.layers or ()):
        raise ValueError(
            f"trainer.batch_size={config.trainer.batch_size} leaves a last batch of one of the {config.data.num_train} "
            f"training images, which {variant.name} cannot normalise on its 1x1 maps; choose another batch size."
        )


def fetch_data(wanted: Iterable[DataConfig]) -> None:
    """Find the files of each data set, or download them here, where a person sees the progress."""
    for config in dict.fromkeys(wanted):
        fetch(config)


def writable(results: Path) -> Path:
    try:
        results.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"paths.results_dir={results} cannot be made: {error.strerror}.") from None
    if not os.access(results, os.W_OK):
        raise ValueError(f"paths.results_dir={results} cannot be written to.")
    return results


def data_specs(pool: Pool | Here, configs: Sequence[Config]) -> dict[DataConfig, DataSpec]:
    """Each data set read once, in a child, so that a damaged file is known before the first run."""
    found: dict[DataConfig, DataSpec] = {}
    for config in configs:
        if config.data not in found:
            found[config.data] = pool.call(Task(prepare, (config,)))
    return found


def carry_out(agenda: Agenda, pool: Pool | Here, mirror: tracking.Mirror, console: Console) -> int:
    if agenda.identity is None:
        outcomes = train(agenda, pool, mirror, console)
        return close(agenda, outcomes, None, mirror, console)
    mirror.watch(agenda.folder)
    failed = 0
    with suppress(Incomplete), tracking.open_run(agenda.folder, agenda.identity) as parent:
        parent.members([work.identity.signature for work in agenda.works])
        outcomes = train(agenda, pool, mirror, console)
        failed = close(agenda, outcomes, parent, mirror, console)
        if failed:
            raise Incomplete("not every run finished")
    return failed


class Incomplete(Exception):
    """Marks the sweep's own run as failed when one of its runs is."""


def train(agenda: Agenda, pool: Pool | Here, mirror: tracking.Mirror, console: Console) -> list[Outcome]:
    """All that is to do, seen on a board; a run that dies without a word is settled for it."""
    for work, reason in agenda.refused:
        record_refusal(work, reason)
    for work in agenda.works:
        mirror.watch(work.folder)
    works = agenda.to_do
    tasks = [Task(run, (work,), log=work.folder / "output.txt") for work in works]
    board = Board(
        [work.identity.name for work in works],
        epochs=[work.config.trainer.max_epochs for work in works],
        console=console,
    )

    def ended(index: int, outcome: Outcome) -> None:
        if outcome.died:
            tracking.settle(works[index].folder, status="FAILED", reason=outcome.reason or "")
        board.finished(index, in_words(outcome))

    with board:
        return pool.run(tasks, on_event=board.event, on_start=board.started, on_end=ended)


def in_words(outcome: Outcome) -> str:
    if outcome.reason is not None:
        return f"[red]failed[/]: {outcome.reason}"
    return f"test acc {outcome.value.metrics.get('test/acc', float('nan')):.4f}"


def record_refusal(work: Work, reason: str) -> None:
    with suppress(ValueError), tracking.open_run(work.folder, work.identity):
        raise ValueError(f"refused: {reason}")


def settle_interrupted(agenda: Agenda) -> None:
    for work in agenda.to_do:
        tracking.settle(work.folder, status="KILLED", reason="interrupted")


class Terminated(KeyboardInterrupt):
    """SIGTERM, which a scheduler or a container sends."""


@contextmanager
def termination_as_exception() -> Iterator[None]:
    """SIGTERM ends us as Ctrl-C does, so that children and records are looked after."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

"""Runs a second into one store, from 1, 2 and 8 processes: SQLite, and an MLflow server with PostgreSQL behind it. What
they recorded is made up; journals, mirrors, files and stores are the real ones."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from tempfile import mkdtemp
from time import monotonic
from typing import Any

from stridelab.cli.server import database
from stridelab.system.postgres import program
from stridelab.tracking import server
from stridelab.tracking.mlflow_reader import Reader
from stridelab.tracking.settings import TrackingConfig
from stridelab.tracking.store import Store, apply_settings, connect, resolve_store
from stridelab.tracking.sync import Mirror

from .rows import Row, middle_of
from .store import Shape, recorded

PORT = 5599
FLUSH_S = 600.0


def rows(*, tiny: bool) -> Iterator[Row]:
    """The kinds of store in turns; `ratio`: to one writer of the same store."""
    apply_settings()
    writers, num_runs, rounds = ((1, 2), 4, 1) if tiny else ((1, 2, 8), 64, 3)
    place = Path(mkdtemp(prefix="stridelab-", dir="/tmp"))
    place.chmod(0o755)  # PostgreSQL's user has to pass
    try:
        with team(place) as uri:
            stores = {"SQLite": "", **({"server, PostgreSQL": uri} if uri else {})}
            found: dict[tuple[str, int], list[float]] = {}
            for turn in range(rounds):
                for count in writers:
                    for name, address in stores.items():
                        results = place / f"{turn}-{count}-{len(name)}"
                        found.setdefault((name, count), []).append(measured(results, address, count, num_runs))
            for name in stores:
                for count in writers:
                    speed = middle_of([num_runs / seconds for seconds in found[name, count]])
                    one = middle_of([num_runs / seconds for seconds in found[name, 1]]).value
                    text = f"{name}, {count} writers"
                    yield Row(section="writers", name=text, unit="runs/s", ratio=speed.value / one, **speed._asdict())
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextmanager
def team(place: Path) -> Iterator[str]:
    """A server's address; empty where there is no PostgreSQL."""
    try:
        program("initdb")
    except ValueError as error:
        print(error)
        yield ""
        return
    with database(place / "server", "") as uri:
        words = server.command(uri, place / "artifacts", port=PORT)
        process = server.start(words, folder=place / "server", environment={})
        try:
            server.wait_until_up(process, port=PORT, folder=place / "server")
            yield f"http://127.0.0.1:{PORT}"
        finally:
            process.terminate()
            process.wait()


def measured(results: Path, address: str, writers: int, num_runs: int) -> float:
    """Seconds from the common start to the end of the last; all runs are then there, once."""
    store = resolve_store(TrackingConfig(address, experiment=results.name), results_dir=results)
    folders = recorded(results, Shape(num_runs, 1))
    connect(store)
    with Mirror(store) as mirror:  # the sweep's own run, and the experiment
        mirror.watch(folders[0])
        assert mirror.flush(FLUSH_S)
    context = get_context("spawn")
    start, spans = context.Barrier(writers), context.Queue()
    parts = [folders[1 + number :: writers] for number in range(writers)]
    processes = [context.Process(target=write, args=(store, part, start, spans)) for part in parts]
    for process in processes:
        process.start()
    times = [spans.get(timeout=FLUSH_S) for _ in processes]
    for process in processes:
        process.join()
    uids = [run.tags["stridelab.uid"] for run in Reader(store).search("")]
    assert len(uids) == len(set(uids)) == num_runs + 1
    return float(max(end for _, end in times) - min(begin for begin, _ in times))


def write(store: Store, folders: list[Path], start: Barrier, spans: Any) -> None:
    """In a process of its own: MLflow is loaded, and the store opened, before all begin."""
    connect(store)
    start.wait()
    begin = monotonic()
    with Mirror(store) as mirror:
        for folder in folders:
            mirror.watch(folder)
        assert mirror.flush(FLUSH_S), os.getpid()
    spans.put((begin, monotonic()))

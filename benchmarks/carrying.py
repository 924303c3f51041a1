"""A mirror in a process of its own, as what conducts a sweep has it: a fit shares its cores with it, no more."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from uuid import uuid4

from stridelab.config import Config
from stridelab.tracking.run import Run, RunIdentity, open_run
from stridelab.tracking.store import resolve_store
from stridelab.tracking.sync import Mirror

FLUSH_S = 60.0

_mirrors: list[Mirror] = []
"""The one of this process."""


class Carrier:
    """Runs in a results folder whose journals go into its store meanwhile."""

    def __init__(self, results: Path, process: ProcessPoolExecutor) -> None:
        self.results, self.process = results, process

    @contextmanager
    def run(self) -> Iterator[Run]:
        """Followed until all that it recorded is in the store."""
        signature = uuid4().hex[:16]
        folder = self.results / "runs" / signature
        with open_run(folder, RunIdentity(signature, "benchmark")) as record:
            self.process.submit(_follow, folder).result()
            yield record
        self.process.submit(_flush).result()


@contextmanager
def carrier(config: Config) -> Iterator[Carrier]:
    """With a store that is ready, in a folder that goes away."""
    with tempfile.TemporaryDirectory() as place:
        results = Path(place)
        start = (config, results)
        with ProcessPoolExecutor(1, get_context("spawn"), initializer=_open, initargs=start) as process:
            carrying = Carrier(results, process)
            with carrying.run():
                pass
            yield carrying
            process.submit(_close).result()


def _open(config: Config, results: Path) -> None:
    store = resolve_store(config.tracking, results_dir=results)
    _mirrors.append(Mirror(store))


def _follow(folder: Path) -> None:
    _mirrors[0].watch(folder)


def _flush() -> None:
    if not _mirrors[0].flush(FLUSH_S):
        raise RuntimeError("the store of the benchmark does not take what it is sent")


def _close() -> None:
    _mirrors[0].close()

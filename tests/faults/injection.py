"""Runs that something happens to, and what is compared afterwards: everything that is not a measured time."""

from __future__ import annotations

import ctypes
import hashlib
import itertools
import json
import os
import resource
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stridelab.cli.train import start
from stridelab.config import expand
from stridelab.config.variants import varying_keys
from stridelab.data import DataSpec
from stridelab.data.load import load
from stridelab.plan import examine
from stridelab.run import RunSpec, run
from stridelab.sweep.agenda import Agenda, make_agenda
from stridelab.sweep.launcher import Launcher
from stridelab.sweep.task import Outcome, Task
from stridelab.system import points
from stridelab.tracking.journal import JOURNAL, read
from stridelab.tracking.settings import TrackingConfig
from stridelab.tracking.status import read_status
from stridelab.tracking.store import resolve_store
from stridelab.tracking.sync import Mirror

TINY = (
    "model.channels=[4,4,8]", "model.strides=4-2-2", "data.train_size=300", "data.val_size=100",
    "trainer.max_epochs=3", "trainer.feature_map_images=1", "sweep.report=false",
)  # fmt: skip
OF_CNN = TINY[:2]
STEPS_AN_EPOCH = 5
TIMES = ("time/", "throughput/", "latency/", "memory/peak")
Setup = Callable[..., None]


def agenda_of(results: Path, *overrides: str) -> Agenda:
    """What `train.py -m` would do with these arguments."""
    configs = configs_of(results, *overrides)
    variants = [examine(config, keys=varying_keys(configs)) for config in configs]
    return make_agenda(variants, data_specs={config.data: spec_of(config.data) for config in configs}, name="test")


def configs_of(results: Path, *overrides: str) -> list[Any]:
    tiny = TINY if not any(word.startswith("model=") for word in overrides) else TINY[len(OF_CNN) :]
    jobs = list(expand([*tiny, f"paths.results_dir={results}", "sweep.name=test", *overrides]))
    for job in jobs:
        if job.config is None:
            raise ValueError(job.error)
    return [job.config for job in jobs]


def work_of(results: Path, *overrides: str) -> RunSpec:
    (work,) = agenda_of(results, *overrides).specs
    return work


@cache
def spec_of(config: Any) -> DataSpec:
    return load(config).spec


def sweep(results: Path, *overrides: str) -> int:
    """All of `train.py -m` but its command line, in this process; its runs are in children."""
    return start(configs_of(results, *overrides), multirun=True)


def task(work: RunSpec, *, fault: str = "", once: Path | None = None, setup: Setup | None = None) -> Task:
    return Task(struck, (work, fault, once, setup), log=work.folder / "output.txt")


def struck(work: RunSpec, fault: str, once: Path | None, setup: Setup | None, *, progress: Any) -> Any:
    """In a child: a run that meets `fault` (`point:nth:action`: the nth time that it comes by the point) after `setup`
    has prepared its process. `once`: a file that is made first; of all processes one is struck, and that one once."""
    if fault:
        strike(fault, once)
    if setup:
        setup()
    return run(work, progress=progress)


def strike(fault: str, once: Path | None = None) -> None:
    """Let this process meet the fault."""
    name, nth, action = fault.split(":")
    passed = itertools.count(1)

    def come_by() -> None:
        if next(passed) == int(nth) and (once is None or _is_first(once)):
            ACTIONS[action]()

    points.hooks[name] = come_by


def wait_at(name: str, nth: int, gate: Path, once: Path) -> None:
    """Let this process wait there until `gate` exists; of all processes one, and that one once."""
    passed = itertools.count(1)

    def come_by() -> None:
        if next(passed) == nth and _is_first(once):
            while not gate.exists():
                time.sleep(0.05)

    points.hooks[name] = come_by


def hang_in_turn(turns: Mapping[Path, tuple[str, int]]) -> None:
    """Let this process hang there, if it is the first to come to one of the turns; of their order, each process takes
    the first that is left."""
    turn = next((path for path in turns if not path.exists()), None)
    if turn is not None:
        name, nth = turns[turn]
        strike(f"{name}:{nth}:hang", turn)


def _is_first(once: Path) -> bool:
    try:
        once.open("x").close()
    except FileExistsError:
        return False
    return True


def _exhaust() -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**26, used + 2**26))
    torch.ones(2**28)


ACTIONS: dict[str, Callable[[], object]] = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "exit": lambda: os._exit(0),
    "hang": lambda: time.sleep(3600),
    "crash": lambda: ctypes.string_at(0),
    "exhaust": _exhaust,
}


def attempt(pool: Launcher, work: RunSpec, **what: Any) -> Outcome:
    (outcome,) = pool.run([task(work, **what)])
    return outcome


def complete(pool: Launcher, work: RunSpec) -> Evidence:
    """The same run again, undisturbed, to its end."""
    outcome = attempt(pool, work)
    assert outcome.status == "finished", outcome
    return evidence(work.folder)


@dataclass(frozen=True)
class Evidence:
    """All that must be equal to the bit, however a run came about."""

    digests: Mapping[str, str]
    points: Mapping[tuple[str, int], float]
    """Every metric of the journal by name and step."""
    maps: str
    """Digest of the feature maps."""
    images: tuple[tuple[str, int], ...]


def evidence(folder: Path) -> Evidence:
    assert read_status(folder) == ("FINISHED", "")
    result = json.loads((folder / "result.json").read_text())
    assert not list(folder.rglob("*.partial"))
    return Evidence(
        digests={key: value for key, value in result.items() if key.endswith("_digest")},
        points=points_of(folder),
        maps=maps_of(folder),
        images=images_of(folder),
    )


def points_of(folder: Path) -> dict[tuple[str, int], float]:
    points = [
        ((name, record.data["step"]), float(value))
        for record in read(folder / JOURNAL)
        if record.kind == "metrics"
        for name, value in record.data["values"].items()
        if not name.startswith(TIMES)
    ]
    twice = [key for key, count in Counter(key for key, _ in points).items() if count > 1]
    assert not twice, f"recorded more than once: {twice}"
    return dict(points)


def maps_of(folder: Path) -> str:
    digest = hashlib.sha256()
    with np.load(folder / "feature_maps.npz") as kept:
        for name in sorted(kept):
            digest.update(name.encode() + kept[name].tobytes())
    return digest.hexdigest()


def images_of(folder: Path) -> tuple[tuple[str, int], ...]:
    found = [(record.data["key"], record.data["step"]) for record in read(folder / JOURNAL) if record.kind == "image"]
    assert len(found) == len(set(found))
    return tuple(sorted(found))


def attempts(folder: Path) -> int:
    """How many times a process began to train it."""
    return sum(record.kind == "status" and record.data["status"] == "RUNNING" for record in read(folder / JOURNAL))


def use_store(results: Path, template: Path) -> Path:
    results.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(template, results / "mlflow.db")
    return results


def stored(results: Path, folders: Sequence[Path]) -> dict[str, dict[tuple[str, int], float]]:
    """What MLflow's database holds of each run's untimed metrics by signature, one row each; the journals' content
    is sent first."""
    from tracking_stores import rows, stored_points

    store = resolve_store(TrackingConfig(), results_dir=results)
    with Mirror(store) as mirror:
        for folder in folders:
            mirror.watch(folder)
        assert mirror.flush(60)
    found = {}
    for folder in folders:
        signature = json.loads((folder / "run.json").read_text())["signature"]
        ids = rows(store, "SELECT run_uuid FROM tags WHERE key = 'stridelab.signature' AND value = ?", signature)
        assert len(ids) == 1, f"{len(ids)} runs in MLflow for one folder"
        points = [(name, step, value) for name, step, value in stored_points(store, ids[0][0])]
        assert len(points) == len({(name, step) for name, step, _ in points}), "a metric is stored twice"
        found[signature] = {(name, step): value for name, step, value in points if not name.startswith(TIMES)}
    return found


def elsewhere(work: RunSpec, folder: Path) -> RunSpec:
    return replace(work, folder=folder)

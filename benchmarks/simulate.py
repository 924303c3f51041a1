"""A sweep far larger than can be run here, simulated event by event: workers that fail, a driver that hands out one run
at a time, senders that carry finished runs into stores. What each costs is measured (docs/scaling.md), or given."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappop, heappush

from .rows import Row

REPAIR_S = 120.0
"""Until a worker that failed takes work again."""
SPREAD = 0.5
"""Of the logarithm of a run's time: two thirds of the runs take between 0.6 and 1.6 times the median."""


@dataclass(frozen=True)
class Costs:
    """Seconds a run, but for `mtbf_s`."""

    train_s: float
    """The median."""
    start_s: float
    """Of a worker, before it trains: a process that loads PyTorch, or one that has."""
    driver_s: float
    """Of the one driver: look, start, hear, end."""
    store_s: float
    """Of one sender."""
    report_s: float
    """Of reading and reporting, one process."""
    mtbf_s: float
    """Mean time between failures of one worker."""
    epochs: int = 10
    """Checkpoints a run; what follows the last one is lost with the worker."""


@dataclass(frozen=True)
class Design:
    drivers: int
    """Each with its share of runs and workers."""
    senders: int
    """Each with a store of its own, or as many writers as one store serves at this cost."""


@dataclass
class Outcome:
    trained_s: float = 0.0
    """When the last run ends."""
    stored_s: float = 0.0
    """When the last is in a store."""
    busy_s: float = 0.0
    """Of all workers, at work that counts."""
    lost_s: float = 0.0
    """Trained twice, after failures."""
    driver_s: float = 0.0
    failures: int = 0
    most_behind: int = 0
    """Finished runs that no store has, at most."""


DESIGNS = {"today": Design(1, 1), "sharded": Design(20, 40)}


def rows(*, tiny: bool, **given: str) -> Iterator[Row]:
    """For each design: when it ends, what its workers do meanwhile, and how far its store is behind."""
    known = {name: number(name, text) for name, text in given.items()}
    runs, workers = int(known["runs"]) // (1000 if tiny else 1), int(known["workers"]) // (10 if tiny else 1)
    costs = Costs(
        train_s=known["train_s"], start_s=known["start_s"], driver_s=known["driver_ms"] / 1000,
        store_s=known["store_ms"] / 1000, report_s=known["report_ms"] / 1000, mtbf_s=known["mtbf_h"] * 3600,
    )  # fmt: skip
    for name, design in DESIGNS.items():
        found = simulate(runs, workers, costs, design, seed=int(known["seed"]))
        alive = workers * found.trained_s
        figures = [
            ("trained after", found.trained_s / 3600, "h"),
            ("workers busy", 100 * found.busy_s / alive, "%"),
            ("trained again after failures", 100 * found.lost_s / alive, "%"),
            ("failures", float(found.failures), "workers"),
            ("a driver busy", 100 * found.driver_s / design.drivers / found.trained_s, "%"),
            ("most runs that no store has yet", float(found.most_behind), "runs"),
            ("stored after", found.stored_s / 3600, "h"),
            ("reported, in one process", runs * costs.report_s / 3600, "h"),
        ]
        for what, value, unit in figures:
            said = f"{name} ({design.drivers} drivers, {design.senders} senders): {what}"
            yield Row(section="simulate", name=said, value=value, unit=unit, n=1)


def number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf or (value == 0 and name in ("runs", "workers", "mtbf_h", "train_s")):
        raise ValueError(f"{name}={text} must be a positive number.")
    return value


def simulate(runs: int, workers: int, costs: Costs, design: Design, *, seed: int) -> Outcome:
    """One event for each end of an attempt. A worker asks its driver, which answers one at a time, then trains until it
    is done or fails; what it finished waits for the sender that is free first."""
    chance, done = random.Random(seed), Outcome()
    left = [runs // design.drivers + (number < runs % design.drivers) for number in range(design.drivers)]
    unfinished: list[list[float]] = [[] for _ in left]  # seconds still to train, of runs whose workers failed
    free = [0.0] * design.drivers
    senders = [0.0] * design.senders
    sending: list[float] = []
    events = [(0.0, worker) for worker in range(workers)]
    while events:
        now, worker = heappop(events)
        driver = worker % design.drivers
        if not left[driver] and not unfinished[driver]:
            continue
        if unfinished[driver]:
            train_s = unfinished[driver].pop()
        else:
            left[driver] -= 1
            train_s = chance.lognormvariate(math.log(costs.train_s), SPREAD)
        begin = max(now, free[driver]) + costs.driver_s
        free[driver] = begin
        done.driver_s += costs.driver_s
        lives_s, needs_s = chance.expovariate(1 / costs.mtbf_s), costs.start_s + train_s
        if lives_s < needs_s:
            fail(done, unfinished[driver], costs, train_s, max(0.0, lives_s - costs.start_s))
            heappush(events, (begin + lives_s + REPAIR_S, worker))
            continue
        end = begin + needs_s
        done.busy_s += train_s
        done.trained_s = max(done.trained_s, end)
        heappush(events, (end, worker))
        send(done, senders, sending, end, costs.store_s)
    return done


def fail(done: Outcome, unfinished: list[float], costs: Costs, train_s: float, trained_s: float) -> None:
    """The run goes on from its last checkpoint, wherever there is room."""
    kept_s = math.floor(trained_s / costs.train_s * costs.epochs) * costs.train_s / costs.epochs
    done.failures += 1
    done.busy_s += kept_s
    done.lost_s += trained_s - kept_s
    unfinished.append(train_s - kept_s)


def send(done: Outcome, senders: list[float], sending: list[float], end: float, store_s: float) -> None:
    """`senders`, a heap: when each is free; `sending`, a heap: when what was handed over is stored."""
    while sending and sending[0] <= end:
        heappop(sending)
    stored = max(end, heappop(senders)) + store_s
    heappush(senders, stored)
    heappush(sending, stored)
    done.stored_s = max(done.stored_s, stored)
    done.most_behind = max(done.most_behind, len(sending))

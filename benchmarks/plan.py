"""`plan` as a person calls it: whole processes, from the interpreter's start to the last line."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import islice, product
from typing import NamedTuple

from .rows import Row, middle_of

STRIDES = [f"[{a},{b},{c}]" for a, b, c in product(range(1, 11), repeat=3)]
AXES = {
    "model.strides": [f"[{a},{b},{c}]" for a, b, c in islice(product((1, 2, 3), (1, 2), (1, 2)), 10)],
    "model.kernel_sizes": [f"[{a},{b},{c}]" for a, b, c in islice(product((3, 2, 1), repeat=3), 10)],
    "model.padding": [str(pad) for pad in range(10)],
    "model.channels": [f"[{8 * width},{16 * width},{32 * width}]" for width in range(1, 11)],
    "trainer.batch_size": [str(16 * step) for step in range(1, 11)],
}
"""Ten alternatives each, all of them possible together."""


class Process(NamedTuple):
    wall_s: float
    peak_rss_mib: float


def rows(*, tiny: bool) -> Iterator[Row]:
    """Wall time of one list and of products of keys, how it grows, and the memory of a long stream."""
    alternatives = 2 if tiny else 10
    repeats = {3: 2, 4: 1, 5: 1} if tiny else {3: 9, 4: 3, 5: 1}
    strides = STRIDES[: alternatives**3]
    listed = [measure([f"model.strides={','.join(strides)}"]) for _ in range(repeats[3])]
    yield wall(f"{len(strides):,} variants, one list", listed)
    before: list[Process] = []
    fewest: list[Process] = []
    for keys, times in repeats.items():
        arguments = [f"{key}={','.join(values[:alternatives])}" for key, values in islice(AXES.items(), keys)]
        processes = [measure(arguments) for _ in range(times)]
        name = f"{alternatives**keys:,} variants, {keys} keys"
        yield wall(f"{name}; ratio to the row above" if before else name, processes, than=before)
        before, fewest = processes, fewest or processes
    yield memory(f"{name}; ratio to the fewest", before, than=fewest)


def measure(arguments: Sequence[str]) -> Process:
    command = [sys.executable, "-m", "stridelab.cli.plan", *arguments]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"plan ended with exit code {process.returncode}")
    return Process(wall_s, usage.ru_maxrss / 1024)


def wall(name: str, processes: Sequence[Process], *, than: Sequence[Process] = ()) -> Row:
    return row(name, "s", [process.wall_s for process in processes], [process.wall_s for process in than])


def memory(name: str, processes: Sequence[Process], *, than: Sequence[Process]) -> Row:
    values, others = ([process.peak_rss_mib for process in some] for some in (processes, than))
    return row(f"peak memory, {name}", "MiB", values, others)


def row(name: str, unit: str, values: Sequence[float], others: Sequence[float]) -> Row:
    found = middle_of(values)
    return Row(
        section="plan",
        name=name,
        unit=unit,
        ratio=found.value / middle_of(others).value if others else None,
        **found._asdict(),
    )

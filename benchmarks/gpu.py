"""What one GPU is to answer, for whoever has it for minutes: `make test-gpu`, then training, sweeps and memory, each in
a process of its own. A part that fails, or takes more than its time, is named at the end; its rows are given as they
come, so that what was measured until then counts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, sleep

from .commands import CHECKOUT
from .device import is_gpu
from .rows import Row

TESTS = (
    *(f"tests/gpu/test_gpu_{name}.py" for name in ("training", "memory", "sweep", "jobs")),
    *("tests/test_augmentation.py", "tests/test_data_batches.py", "tests/gpu/test_gpu_compiled.py"),
)
"""In the order of what they are worth."""
SHARES = {"tests": 0.45, "training": 0.2, "sweep": 0.3, "memory": 0.05}
"""Of the time, at most; what a part leaves is shared by those behind it."""
STUCK_S, LIMIT_S = 60, 150
"""Of a test: it is said where all threads are, and it is ended."""
LOOK_S, LAST_WORDS_S = 0.5, 20.0


def rows(*, tiny: bool, minutes: str) -> Iterator[Row]:
    """Tiny where there is no GPU, the tests are only collected, and what trains does so on the CPU."""
    if not minutes.replace(".", "", 1).isdigit():
        raise ValueError(f"minutes={minutes}: a number is expected.")
    device = "cpu" if tiny and not has_gpu() else "cuda"
    is_gpu(device)
    end, failed = perf_counter() + 60 * float(minutes), list[str]()
    todo = dict(parts(tiny=tiny, device=device))
    with TemporaryDirectory(prefix="stridelab-") as folder:
        while todo:
            name = next(iter(todo))
            began, share = perf_counter(), SHARES[name] / sum(SHARES[one] for one in todo)
            limit_s = max(1.0, share * (end - began))
            print(f"-- {name}, {limit_s:.0f} s at most", file=sys.stderr, flush=True)
            if why := (yield from carried_out(todo.pop(name), Path(folder, f"{name}.json"), limit_s=limit_s)):
                failed.append(f"{name}: {why}")
                print(f"-- {failed[-1]}", file=sys.stderr, flush=True)
            yield Row(section="gpu", name=name, value=perf_counter() - began, unit="s", n=1)
    if failed:
        raise ValueError("; ".join(failed))


def has_gpu() -> bool:
    try:
        return is_gpu("cuda")
    except ValueError:
        return False


def parts(*, tiny: bool, device: str) -> Mapping[str, Sequence[str]]:
    """In the order of what they are worth; {} in a word: where the rows go."""
    python, size = (sys.executable, "-m"), ["size=tiny"] if tiny else []
    sections = {"training": ["training", "part=gpu", f"device={device}"], "memory": ["memory"]}
    if device == "cuda":
        sections["sweep"] = ["sweep", "device=cuda"]
    measured = {name: [*python, "benchmarks", *words, "json={}", *size] for name, words in sections.items()}
    tests = [*python, "pytest", *(["--collect-only", "-q"] if device == "cpu" else how_to_test()), *TESTS]
    return {name: {"tests": tests, **measured}[name] for name in SHARES if name in {"tests", *measured}}


def how_to_test() -> list[str]:
    limits = [f"--timeout={LIMIT_S}", "-o", f"faulthandler_timeout={STUCK_S}", "--maxfail=20"]
    return ["-v", "--tb=short", "--durations=15", *limits]


def carried_out(command: Sequence[str], found: Path, *, limit_s: float) -> Generator[Row, None, str]:
    """Its rows, which it writes to `found`; in the end why it failed, empty when all went well. What it says goes to
    standard error, as it comes."""
    given, end = 0, perf_counter() + limit_s
    process = subprocess.Popen(
        [word.format(found) if word == "json={}" else word for word in command],
        cwd=CHECKOUT, stdout=sys.stderr.fileno(), stdin=subprocess.DEVNULL, start_new_session=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"},
    )  # fmt: skip
    try:
        while (running := process.poll() is None) and perf_counter() < end:
            sleep(LOOK_S)
            for row in new_rows(found, given):
                given += 1
                yield row
    finally:
        stop(process)
    yield from new_rows(found, given)
    if running:
        return f"not done after {limit_s:.0f} s"
    return f"exit code {process.returncode}" if process.returncode else ""


def new_rows(found: Path, given: int) -> list[Row]:
    """Those behind the first `given`; none while they are being written."""
    with suppress(OSError, ValueError):
        return [Row(**row | {"section": "gpu"}) for row in json.loads(found.read_text())[given:]]
    return []


def stop(process: subprocess.Popen[bytes]) -> None:
    """With all that it has started; first it may say how far it came."""
    with suppress(ProcessLookupError, subprocess.TimeoutExpired):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(LAST_WORDS_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()

"""What one GPU is to answer, for whoever has it for minutes: `make test-gpu`, then training and sweeps, each in a
process of its own. A part that fails or has no time left is named at the end; what it measured until then counts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from .commands import CHECKOUT
from .device import is_gpu
from .rows import Row

TESTS = ("tests/gpu", "tests/test_augmentation.py", "tests/test_data_batches.py")


def rows(*, tiny: bool, minutes: str) -> Iterator[Row]:
    """Tiny where there is no GPU, the tests are only collected, and what trains does so on the CPU."""
    if not minutes.replace(".", "", 1).isdigit():
        raise ValueError(f"minutes={minutes}: a number is expected.")
    device = "cpu" if tiny and not has_gpu() else "cuda"
    is_gpu(device)
    end, failed = perf_counter() + 60 * float(minutes), list[str]()
    with TemporaryDirectory(prefix="stridelab-") as folder:
        for name, command in parts(tiny=tiny, device=device).items():
            found, began = Path(folder) / f"{name}.json", perf_counter()
            found.touch()
            print(f"-- {name}, {end - began:.0f} s left", file=sys.stderr, flush=True)
            if why := ended_badly([*command, *([] if name == "tests" else [f"json={found}"])], end - began):
                failed.append(f"{name}: {why}")
            yield Row(section="gpu", name=name, value=perf_counter() - began, unit="s", n=1)
            yield from [Row(**row | {"section": "gpu"}) for row in json.loads(found.read_text() or "[]")]
    if failed:
        raise ValueError("; ".join(failed))


def has_gpu() -> bool:
    try:
        return is_gpu("cuda")
    except ValueError:
        return False


def parts(*, tiny: bool, device: str) -> Mapping[str, Sequence[str]]:
    python, size = (sys.executable, "-m"), ["size=tiny"] if tiny else []
    tests = ["--collect-only", "-q"] if device == "cpu" else ["--maxfail=20", "--durations=15"]
    sections = {"training": ["training", "part=gpu"]} | ({"sweep": ["sweep"]} if device == "cuda" else {})
    return {"tests": [*python, "pytest", *tests, *TESTS]} | {
        name: [*python, "benchmarks", *words, f"device={device}", *size] for name, words in sections.items()
    }


def ended_badly(command: Sequence[str], seconds: float) -> str:
    """Its output goes to standard error, as it comes; empty when all went well."""
    try:
        ended = subprocess.run(
            command, cwd=CHECKOUT, stdout=sys.stderr.fileno(), stdin=subprocess.DEVNULL, timeout=max(seconds, 1),
            env=os.environ | {"PYTHONUNBUFFERED": "1"}, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"no time left after {seconds:.0f} s"
    return f"exit code {ended.returncode}" if ended.returncode else ""

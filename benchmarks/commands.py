"""`train.py` and its neighbours as a person calls them: whole processes, in a folder of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import stridelab

CHECKOUT = Path(stridelab.__file__).parents[2]


@dataclass(frozen=True)
class Ended:
    """A process that has ended, on the clock of the wall."""

    began: float
    wall_s: float
    lines: tuple[tuple[float, str], ...]
    """Of its output, with the seconds after its start at which each came."""
    returncode: int


def train_command() -> list[str]:
    script = CHECKOUT / "train.py"
    return (
        [sys.executable, str(script)]
        if script.exists()
        else [str(Path(sys.executable).with_name("stridelab")), "train"]
    )


def plan_command() -> list[str]:
    return [sys.executable, "-m", "stridelab.cli.plan"]


def call(command: Sequence[str], *, folder: Path, code: int = 0, environment: Mapping[str, str] | None = None) -> Ended:
    """RuntimeError with the last lines when it ends with another exit code."""
    began, start = time.time(), time.perf_counter()
    process = subprocess.Popen(
        command, cwd=folder, env=os.environ | (environment or {}), text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None
    with process.stdout as output:
        lines = [(time.perf_counter() - start, line.rstrip()) for line in output]
    process.wait()
    ended = Ended(began, time.perf_counter() - start, tuple(lines), process.returncode)
    if process.returncode != code:
        said = "\n".join(line for _, line in lines[-20:])
        raise RuntimeError(f"{' '.join(command)} ended with exit code {process.returncode}, not {code}:\n{said}")
    return ended

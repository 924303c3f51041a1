"""A folder of JPEG files as a person has it: decoded once, then read at the speed of memory."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from .rows import Row, middle_of

FILE_PX, SIZE_PX, BATCH, CLASSES = 96, 64, 256, 10
DISTINCT = 500
"""Pictures; files repeat them, each a file of its own."""


def rows(*, tiny: bool) -> Iterator[Row]:
    """Every process is fresh; times of epochs are taken in turns with what they are compared with."""
    few, many = (100, 300) if tiny else (10_000, 50_000)
    with TemporaryDirectory(prefix="stridelab-benchmark-") as name:
        folder = Path(name)
        for count in (few, many):
            write_pictures(folder / f"{count}", count)
        built = {count: measured(folder, count, "build", tiny=tiny) for count in (few, many)}
        epochs = measured(folder, many, "epochs", tiny=tiny)
        peaks = {count: measured(folder, count, "peak", tiny=tiny) for count in (few, many)}
    yield from building(built[many], many)
    yield from reading(epochs)
    small, large = (peaks[count]["peak_mib"] for count in (few, many))
    yield row(f"peak memory of a process that reads an epoch, {few:,} files", [small], "MiB")
    yield row(f"peak memory of a process that reads an epoch, {many:,} files; ratio to {few:,}", [large], "MiB", small)


def building(built: dict[str, Any], count: int) -> Iterator[Row]:
    files = f"{count:,} JPEG files of {FILE_PX}x{FILE_PX}"
    yield row(f"{files}, decoded once to {SIZE_PX}x{SIZE_PX}", [count / built["build_s"]], "images/s")
    yield row("a later start: every file looked at, every byte of the cache checked", built["checked_s"], "s")
    yield row("a run of a sweep that has done so: every file looked at, the header trusted", built["trusted_s"], "s")


def reading(epochs: dict[str, Any]) -> Iterator[Row]:
    memory = middle_of(epochs["memory"]).value
    loader = epochs["loader"]
    yield row("an epoch of shuffled batches from arrays in memory", epochs["memory"], "images/s", batch=BATCH)
    yield row("the same from the cache; ratio to memory", epochs["cache"], "images/s", memory, batch=BATCH)
    name = f"ImageFolder and DataLoader of torchvision, {epochs['workers']} workers; ratio to memory"
    yield row(name, loader, "images/s", memory, batch=BATCH)


def row(name: str, values: list[float], unit: str, than: float | None = None, *, batch: int | None = None) -> Row:
    found = middle_of(values)
    ratio = None if than is None else found.value / than
    return Row(section="data", name=name, batch=batch, unit=unit, ratio=ratio, **found._asdict())


def write_pictures(folder: Path, count: int) -> None:
    pictures = [picture(seed) for seed in range(min(DISTINCT, count))]
    for label in range(CLASSES):
        (folder / f"class{label}").mkdir(parents=True)
    for number in range(count):
        path = folder / f"class{number % CLASSES}" / f"{number:06}.jpg"
        path.write_bytes(pictures[number % len(pictures)])


def picture(seed: int) -> bytes:
    """Smooth colours with some noise, as large as a photograph of this size: about 3 kB."""
    random = np.random.default_rng(seed)
    colours = Image.fromarray(random.integers(0, 256, (6, 6, 3), np.uint8)).resize((FILE_PX, FILE_PX))
    noisy = np.asarray(colours).astype(np.int16) + random.integers(-12, 13, (FILE_PX, FILE_PX, 3), np.int16)
    out = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(out, "JPEG", quality=85)
    return out.getvalue()


def measured(folder: Path, count: int, what: str, *, tiny: bool) -> dict[str, Any]:
    """What a process of its own finds."""
    command = [sys.executable, "-m", "benchmarks.data_process", what, str(folder / f"{count}")]
    command += [str(folder / "cache"), "tiny" if tiny else "full"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    if done.returncode:
        raise RuntimeError(f"measuring {what} failed: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found

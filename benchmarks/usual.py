"""Whole processes: `train.py` and the script of plain_lightning.py, on the same images, in turns."""

from __future__ import annotations

import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from torch import Tensor

from stridelab.config import load
from stridelab.data.load import load as load_data
from stridelab.data.splits import Split
from stridelab.system.processes import usable_cores

from .commands import call, train_command
from .rows import Row, middle_of

STRIDES = {"1-1-1": 2, "1-2-2": 6, "2-2-1": 15, "2-2-2": 15}
"""And epochs, so that each takes some seconds."""
BATCH, ROUNDS = 256, 2


def rows(*, tiny: bool) -> Iterator[Row]:
    threads = 1 if tiny else usable_cores()
    words = [f"trainer.batch_size={BATCH}", f"trainer.threads={threads}", "trainer.lr=0.02"]
    words += ["data.train_size=1000", "data.val_size=100"] if tiny else []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        data = load_data(load(words).data)
        write_as_published(folder, data.train, data.val)
        for strides, epochs in ({"2-2-2": 2} if tiny else STRIDES).items():
            given = {"root": place, "threads": threads, "batch": BATCH, "workers": 0, "channels": [16, 32, 64]}
            given |= {"strides": [int(stride) for stride in strides.split("-")], "epochs": epochs}
            given |= {"mean": data.spec.mean, "std": data.spec.std}
            ours = [*words, f"model.strides={strides}", f"trainer.max_epochs={epochs}"]
            yield from compared(strides, ours, given, folder, images=len(data.train), rounds=1 if tiny else ROUNDS)


def compared(
    strides: str, ours: Sequence[str], given: dict[str, Any], folder: Path, *, images: int, rounds: int
) -> Iterator[Row]:
    found: defaultdict[str, list[float]] = defaultdict(list)
    script = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("plain_lightning.py")), json.dumps(given)]
    for turn in range(rounds):
        results = folder / f"{strides}-{turn}"
        ended = call([*train_command(), *ours, f"paths.results_dir={results}"], folder=folder)
        (result,) = results.glob("runs/*/result.json")
        metrics = json.loads(result.read_text())["metrics"]
        found["our wall"].append(ended.wall_s)
        found["ours"].append(metrics["throughput/train_images_per_s"])
        ended = call(script, folder=folder)
        found["their wall"].append(ended.wall_s)
        rates = json.loads(next(text for _, text in reversed(ended.lines) if text.startswith("[")))
        found["theirs"].append(median(rates[1:]))
    yield row("a plain script: training steps after the first epoch", strides, "images/s", found["theirs"])
    yield row("train.py: the tracked throughput; ratio to it", strides, "images/s", found["ours"], found["theirs"])
    epochs = f"{given['epochs']} epochs of {images:,} images"
    yield row(f"a plain script: whole process, {epochs}", strides, "s", found["their wall"])
    yield row(f"train.py: whole process, {epochs}; ratio to it", strides, "s", found["our wall"], found["their wall"])


def row(name: str, strides: str, unit: str, values: Sequence[float], others: Sequence[float] = ()) -> Row:
    ratio = median(values) / median(others) if others else None
    middle = middle_of(values)._asdict()
    return Row(section="training", name=name, strides=strides, batch=BATCH, unit=unit, ratio=ratio, **middle)


def write_as_published(folder: Path, train: Split, test: Split) -> None:
    """The files that torchvision's FashionMNIST looks for."""
    raw = folder / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for name, split in (("train", train), ("t10k", test)):
        (raw / f"{name}-images-idx3-ubyte").write_bytes(idx(split.images[:, 0]))
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(idx(split.labels))


def idx(values: Tensor) -> bytes:
    """MNIST's format: magic number (unsigned bytes, rank), big-endian sizes, then the bytes."""
    header = np.array([0x0800 + values.ndim, *values.shape], dtype=">i4")
    return header.tobytes() + values.numpy().astype(np.uint8).tobytes()

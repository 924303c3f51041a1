"""How long a person waits after pressing return: whole processes, files in the disk cache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from stridelab.tracking.journal import JOURNAL, read

from .commands import call, plan_command, train_command
from .rows import Row, middle_of

REFUSED = "1-50-50"
"""Strides under which nothing of a 28x28 image is left."""


def rows(*, tiny: bool) -> Iterator[Row]:
    """The median of `n` calls after one that warms the disk cache."""
    train, plan = train_command(), plan_command()
    calls = {
        "train.py --help": ([*train, "--help"], 0),
        "train.py --cfg job": ([*train, "--cfg", "job"], 0),
        "train.py, a key that does not exist": ([*train, "model.stride=1-2-2"], 1),
        "train.py, an impossible network": ([*train, f"model.strides={REFUSED}", "model.padding=valid"], 1),
        "plan.py, two variants": ([*plan, "model.strides=1-1-1,1-2-2"], 0),
    }
    times = 1 if tiny else 5
    with TemporaryDirectory(prefix="stridelab-") as name:
        folder = Path(name)
        for what, (command, code) in calls.items():
            walls = [call(command, folder=folder, code=code).wall_s for _ in range(times + 1)][1:]
            yield row(f"{what}; goal 1 s", walls)
        steps = [first_step_s(folder, number) for number in range(1 if tiny else 4)]
        yield row("train.py, until the first optimizer step; goal 6 s", steps if tiny else steps[1:])


def first_step_s(folder: Path, number: int) -> float:
    """From the start of `train.py` to the record of an epoch of one step and one batch of validation."""
    results = folder / f"results-{number}"
    short = ("trainer.max_epochs=1", "trainer.limit_train_batches=1", "trainer.limit_val_batches=1")
    ended = call([*train_command(), f"paths.results_dir={results}", *short], folder=folder)
    (journal,) = results.glob(f"runs/*/{JOURNAL}")
    return next(one.ms / 1000 - ended.began for one in read(journal) if one.data.get("step") == 1)


def row(name: str, seconds: list[float]) -> Row:
    return Row(section="start", name=name, unit="s", **middle_of(seconds)._asdict())

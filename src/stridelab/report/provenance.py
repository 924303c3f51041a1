"""Where a sweep comes from: command, commit, machine, recipe."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from stridelab import names
from stridelab.report.artifacts import read_json, read_packages, read_settings
from stridelab.text import by, side

if TYPE_CHECKING:
    from stridelab.tracking.find import SweepRecord
    from stridelab.tracking.mlflow_reader import RunRecord

RECIPE = {
    "data.name": "data",
    "data.train_size": "training images",
    "model.family": "family",
    "model.channels": "channels",
    "model.kernel_sizes": "kernel sizes",
    "model.strides": "strides",
    "model.padding": "padding",
    "model.padding_mode": "padding mode",
    "model.head": "head",
    "trainer.max_epochs": "epochs",
    "trainer.early_stopping": "early stopping patience",
    "trainer.batch_size": "batch size",
    "trainer.lr": "learning rate",
    "trainer.schedule": "schedule",
    "trainer.precision": "precision",
    "trainer.accelerator": "accelerator",
    "trainer.threads": "threads a run",
    "sweep.jobs": "runs at a time",
}
"""Configuration keys that a reader needs beside every number, and their names in the report."""


SOFTWARE = ("stridelab", "torch", "pytorch-lightning", "numpy", "scipy")
"""Packages whose versions the methods name."""


@dataclass(frozen=True)
class SweepOrigin:
    command: str
    """As it could be typed again; of the first run that recorded it."""
    commit: str
    """Git commit, and whether the code had uncommitted changes."""
    machine: str
    versions: dict[str, str]
    """Of Python and of the packages that were recorded."""
    recipe: dict[str, str]
    """What all runs share, by the names of RECIPE; what varies is the variants' and not here."""


def origin(sweep: SweepRecord) -> SweepOrigin:
    """From the sweep's own run; of one that did not write it down, from the first run that it trained itself."""
    own = list(filter(sweep.has_trained, sweep.runs))
    files = (read_json(run, names.PROVENANCE_FILE) for run in (sweep.run, *own))
    facts = next((found for found in files if found), {})
    machine = facts.get("machine") or {}
    parts = [
        machine.get("cpu"),
        f"{machine['usable_cores']} cores" if machine.get("usable_cores") else None,
        *[str(gpu) for gpu in machine.get("gpus") or []],
        machine.get("system"),
    ]
    return SweepOrigin(
        command=command_text(facts.get("argv") or []),
        commit=_commit(sweep),
        machine=", ".join(str(part) for part in parts if part),
        versions=_versions(own or sweep.runs, facts),
        recipe=_recipe(sweep),
    )


def _versions(runs: Sequence[RunRecord], facts: Mapping[str, Any]) -> dict[str, str]:
    found = {"Python": str((facts.get("python") or {}).get("version", ""))}
    packages = next(filter(None, map(read_packages, runs)), {})
    found |= {name: packages[name] for name in SOFTWARE if name in packages}
    return {name: version for name, version in found.items() if version}


def command_text(argv: list[str]) -> str:
    """`python train.py -m seed=0,1`, without the folders of this machine."""
    if not argv:
        return ""
    program = PurePath(argv[0]).name
    if program == "__main__.py":
        program = "train.py"
    start = ["python", program] if program.endswith(".py") else [program]
    return shlex.join([*start, *argv[1:]])


def _commit(sweep: SweepRecord) -> str:
    commits = {
        f"{run.tags[names.COMMIT][:12]}" + (" with uncommitted changes" if run.tags.get(names.DIRTY) == "true" else "")
        for run in sweep.runs
        if run.tags.get(names.COMMIT)
    }
    return " and ".join(sorted(commits))


def _recipe(sweep: SweepRecord) -> dict[str, str]:
    """What all variants share; a key whose value varies is left out."""
    found = settings(sweep)
    count = max(map(len, found.values()), default=0)
    values = {key: set().union(*by_variant.values()) for key, by_variant in found.items() if len(by_variant) == count}
    shared = {key: some.pop() for key, some in values.items() if len(some) == 1}
    return {name: shared[key] for key, name in RECIPE.items() if shared.get(key)}


def settings(sweep: SweepRecord) -> dict[str, dict[str, set[str]]]:
    """Every key of the configuration, such as `trainer.lr`, with the values that each variant's runs had: of each sweep
    that they are from, its first run's."""
    first = {(run.variant, run.tags.get(names.SWEEP)): run for run in reversed(sweep.runs)}
    found: dict[str, dict[str, set[str]]] = {}
    for (variant, _), run in first.items():
        for key, value in read_settings(run).items():
            found.setdefault(key, {}).setdefault(variant, set()).add(_text(value))
    return found


def _text(value: Any) -> str:
    """A list over layers as 16-32-64, or as one where all are alike; a [height, width] in it as 3, or 3x5."""
    if isinstance(value, list):
        layers = [_layer_text(entry) for entry in value]
        return layers[0] if len(set(layers)) == 1 else "-".join(layers)
    return "" if value is None else str(value)


def _layer_text(entry: Any) -> str:
    if not isinstance(entry, list):
        return str(entry)
    return side(entry) if len(entry) == 2 else by(entry)

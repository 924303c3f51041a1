"""Probes computed, and what they found recorded in the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stridelab.data.splits import Data
from stridelab.geometry import LayerPlan
from stridelab.tracking.run import amend
from stridelab.training.settings import TrainerConfig

from .catalog import PREFIX, PROBES, recorded, refuse_other_task
from .trained import load_trained


def probe(
    names: Sequence[str],
    plan: LayerPlan,
    data: Data,
    config: TrainerConfig,
    *,
    seed: int,
    folder: Path,
    task: str = "classify",
) -> dict[str, float]:
    """The values of the probes `names` on the finished run in `folder`, by metric, which are recorded in it.
    ValueError when its data or weights are not here, or, once the others are recorded, a probe cannot ask its network.
    """
    refuse_other_task(names, key="probe", task=task)
    trained = load_trained(plan, data, config, seed=seed, folder=folder, task=task)
    found, refused = {}, []
    for name in names:
        try:
            found[name] = PROBES[name].function(trained)
        except ValueError as error:
            refused.append(f"probe={name}: {error}.")
    metrics = {metric_name(name, part): float(v) for name, one in found.items() for part, v in numbers(one).items()}
    record(metrics, {name: arrays for name, one in found.items() if (arrays := arrays_of(one))}, folder)
    if refused:
        raise ValueError(" ".join(refused))
    return metrics


def metric_name(probe: str, part: str) -> str:
    return f"{PREFIX}{probe}_{part}" if part else f"{PREFIX}{probe}"


def numbers(found: Mapping[str, Any]) -> dict[str, float]:
    return {part: value for part, value in found.items() if not isinstance(value, np.ndarray)}


def arrays_of(found: Mapping[str, Any]) -> dict[str, Any]:
    return {part: value for part, value in found.items() if isinstance(value, np.ndarray)}


def record(metrics: Mapping[str, float], arrays: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
    """As one step more than such values had before, unless they are the same: the last step is what tables show."""
    known = recorded(folder)
    with amend(folder) as run:
        if any(known.get(name, (0, None))[1] != value for name, value in metrics.items()):
            run.metrics(metrics, step=1 + max((known[name][0] for name in metrics if name in known), default=0))
        for name, values in arrays.items():
            path = run.folder / "probes" / f"{name}.npz"
            path.parent.mkdir(exist_ok=True)
            np.savez_compressed(path, **values)
            run.artifact(path, to="probes")

"""The files that a run keeps beside its metrics. One that is missing, damaged or another version's is left out of a
report, and never a reason to have none."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stridelab import names

if TYPE_CHECKING:
    from stridelab.tracking.mlflow_reader import RunRecord


def read_json(run: RunRecord, path: str) -> dict[str, Any]:
    """{} when there is none that can be read."""
    try:
        found = json.loads(run.artifact(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def read_settings(run: RunRecord) -> dict[str, Any]:
    """Its configuration, each key in full: `trainer.lr`."""
    return dict(_flat(read_json(run, names.CONFIG_FILE)))


def read_packages(run: RunRecord) -> dict[str, str]:
    """Name -> version of what was installed; {} when that cannot be read."""
    try:
        lines = run.artifact(names.REQUIREMENTS_FILE).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return {}
    return {name: version for name, _, version in (line.partition("==") for line in lines) if version}


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def read_arrays(run: RunRecord, path: str) -> dict[str, NDArray[Any]]:
    """Of an .npz file; {} when there is none that can be read. Keys that say an epoch, `<epoch>/...`, have a number."""
    try:
        with run.artifact(path).open("rb") as content, np.load(content, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error):
        return {}
    return arrays if all(name.partition("/")[0].isdecimal() for name in arrays if "/" in name) else {}

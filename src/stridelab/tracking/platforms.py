"""Whether two runs ran where bits can be expected to agree."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from stridelab import names

DECIDING = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS")
"""Environment variables that choose other kernels."""


def platform_of(files: Mapping[str, str]) -> dict[str, str]:
    """What bits depend on beside the configuration, from the files of `provenance()`; empty when they are missing."""
    if names.PROVENANCE_FILE not in files:
        return {}
    origin = json.loads(files[names.PROVENANCE_FILE])
    machine, variables = origin["machine"], origin["environment"]
    torch = re.search(r"^torch==(.+)$", files.get(names.REQUIREMENTS_FILE, ""), re.M)
    return {
        "CPU": machine["cpu"],
        "CPU flags": " ".join(machine["cpu_flags"]),
        "GPU": "; ".join(machine["gpus"]),
        "torch": torch.group(1) if torch else "",
    } | {name: variables[name] for name in DECIDING if name in variables}


def stored_platform(folder: Path) -> dict[str, str]:
    """Of the run in a folder."""
    paths = [folder / name for name in (names.PROVENANCE_FILE, names.REQUIREMENTS_FILE)]
    try:
        return platform_of({path.name: path.read_text() for path in paths if path.exists()})
    except (OSError, ValueError, KeyError):
        return {}


def platform_difference(one: Mapping[str, str], other: Mapping[str, str]) -> str:
    """`torch 2.14.0, here 2.14.1`; empty when they are the same, or one is not known."""
    if not one or not other:
        return ""
    keys = [key for key in dict.fromkeys([*one, *other]) if one.get(key) != other.get(key)]
    return ", ".join(f"{key} {one.get(key, 'not set')}, here {other.get(key, 'not set')}" for key in keys)

"""A configuration is data: it names no code, reads no environment, and changes nothing of Hydra but places."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from hydra.core.override_parser.types import Override

HYDRA_KEY = re.compile(
    r"hydra\.(mode|verbose|run\.dir|sweep\.(dir|subdir)|output_subdir|(launcher|sweeper)(\.[A-Za-z]\w*)+)"
    r"|hydra/(launcher|sweeper)",
    re.ASCII,
)
"""Of Hydra's own keys, those that may be given."""
TARGET = re.compile(r"hydra_plugins\.[\w.]+|hydra\._internal\.core_plugins\.basic_\w+\.Basic\w+", re.ASCII)
RESOLVER = re.compile(r"\$\{[^{}]*:")
"""`${oc.env:HOME}` and its kin; `${paths.results_dir}` is none."""
FLAGS = {
    "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd", "--experimental-rerun",
}  # fmt: skip
"""Of the command line, those that bring configurations from elsewhere."""


def check_override(override: Override) -> None:
    """ValueError for an argument that could read the environment, or make Hydra call what it names."""
    line, key = str(override.input_line), str(override.key_or_group)
    if "${" in line:
        raise ValueError(f"{line}: values are taken as they are typed; ${{...}} is not replaced.")
    if "_target_" in key or "_target_" in line:
        raise ValueError(f"{line}: a configuration cannot name code (_target_).")
    if key.startswith("hydra"):
        if override.is_add() or override.is_delete():
            raise ValueError(f"{line}: keys can be set (key=value), not added or removed.")
        if not HYDRA_KEY.fullmatch(key):
            raise ValueError(
                f"{key} cannot be set; of Hydra's own keys: hydra.mode, hydra.verbose, hydra.run.dir, hydra.sweep.dir, "
                "hydra.sweep.subdir, hydra.output_subdir, hydra/launcher, hydra/sweeper and the settings of those two."
            )


def check_composed(node: Mapping[Any, Any]) -> None:
    """ValueError when the files in conf/ (an experiment somebody sent, say) hold more than data. `node`: unresolved."""
    for path, value in leaves(node, ""):
        key = path.rpartition(".")[2]
        if key == "_target_" and not (
            path in ("hydra.launcher._target_", "hydra.sweeper._target_") and TARGET.fullmatch(str(value))
        ):
            raise ValueError(f"{path}={value}: a configuration cannot name code (_target_).")
        if isinstance(value, str) and RESOLVER.search(value):
            raise ValueError(f"{path}={value}: values are taken as they are written; resolvers are not called.")
    hydra = node.get("hydra") or {}
    for key in ("callbacks", "searchpath"):
        if hydra.get(key):
            raise ValueError(f"hydra.{key} cannot be set by a configuration.")
    for key in ("env_set", "env_copy"):
        if (hydra.get("job") or {}).get(key):
            raise ValueError(f"hydra.job.{key} cannot be set by a configuration.")
    for key in ("job_logging", "hydra_logging"):
        extra = sorted({str(name) for name in hydra.get(key) or {}} - {"version", "root", "disable_existing_loggers"})
        if extra:
            raise ValueError(f"hydra.{key}.{extra[0]} cannot be set by a configuration: it could call code.")


def leaves(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from leaves(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list):
        for value in node:
            yield from leaves(value, path)
    else:
        yield path, node

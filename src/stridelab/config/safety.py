"""A configuration is data: it names no code, reads no environment, and changes nothing of Hydra."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.types import Override

INSTEAD = {
    "hydra.mode": "-m",
    "hydra/launcher": "launcher=",
    "hydra.launcher": "launcher= and sweep.jobs=",
    "hydra/sweeper": "-m with comma lists",
    "hydra.sweeper": "-m with comma lists, or hydra.sweeper.params in an experiment's YAML",
    "hydra.run": "paths.results_dir=",
    "hydra.sweep": "paths.results_dir=",
    "hydra.output_subdir": "paths.results_dir=",
    "hydra.searchpath": "--config-dir DIR",
    "hydra.job": "task_name=",
}
"""Hydra's own keys, and what to say for them: Hydra composes the configuration here and runs nothing."""
RESOLVER = re.compile(r"\$\{[^{}]*:")
"""`${oc.env:HOME}` and its kin; `${paths.results_dir}` is none."""
READ = re.compile(r"hydra\.(mode$|sweeper\.params\b)")
"""Of Hydra's settings, what an experiment may give."""
BY_COMPOSING = re.compile(r"hydra\.(runtime\.|overrides\.|job\.override_dirname$)")
"""Of Hydra's settings, what follows from the arguments."""


MOST_BYTES, MOST_VALUES, DEEPEST = 2**20, 10_000, 30
"""Of a YAML file, aliases counted as often as they stand for something."""


def check_file(path: Path) -> None:
    """ValueError with its name for a YAML file that is no text, or unfolds to what is no configuration any more."""
    if not path.is_file() or path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path} is not a file of at most {MOST_BYTES:,} bytes, as a configuration is.")
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), yaml.SafeLoader)
        count = unfolded(root, {}) if root else 0
    except yaml.YAMLError:
        return  # Hydra says where, if it is chosen
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text in UTF-8.") from None
    except RecursionError:
        raise ValueError(f"{path} is nested too deeply, or contains itself.") from None
    if count > MOST_VALUES:
        raise ValueError(f"{path} unfolds to {count:,} values; a configuration has at most {MOST_VALUES:,}.")
    if root and not isinstance(root, yaml.MappingNode):
        raise ValueError(f"{path}: keys with values are expected (key: value).")


def unfolded(node: yaml.Node, known: dict[int, int], depth: int = 0) -> int:
    """Values in it; `known` by the id of a node, for an alias is the very node that it stands for."""
    if depth > DEEPEST:
        raise RecursionError
    if id(node) not in known:
        inside = node.value if isinstance(node, yaml.CollectionNode) else ()
        parts = [part for entry in inside for part in (entry if isinstance(entry, tuple) else (entry,))]
        known[id(node)] = 1 + sum(unfolded(part, known, depth + 1) for part in parts)
    return known[id(node)]


def check_override(override: Override) -> None:
    """ValueError for an argument that could read the environment, name code, or speak to Hydra."""
    line, key = str(override.input_line), str(override.key_or_group)
    if "${" in line:
        raise ValueError(f"{line}: values are taken as they are typed; ${{...}} is not replaced.")
    if "_target_" in key or "_target_" in line:
        raise ValueError(f"{line}: a configuration cannot name code (_target_).")
    if override.is_add() or override.is_delete() or override.package is not None:
        raise ValueError(f"{line}: keys can be set (key=value), not added, removed or moved.")
    if key.partition(".")[0].partition("/")[0] == "hydra":
        word = next((word for name, word in INSTEAD.items() if re.match(rf"{re.escape(name)}\b", key)), "")
        instead = f"; say {word} instead" if word else ""
        raise ValueError(f"{line}: Hydra only composes the configuration here{instead}.")


def check_composed(node: Mapping[Any, Any], plain: Mapping[Any, Any], *, given: str) -> None:
    """ValueError when files (an experiment somebody sent, say) hold more than data. Both unresolved: what was
    composed, and what is composed when nothing is chosen. `given`: what Hydra was told on purpose, in its words."""
    known = dict(leaves(plain, ""))
    for path, value in leaves(node, ""):
        if path == "hydra.searchpath[0]" and f'hydra.searchpath=["{value}"]' == given:
            continue
        if BY_COMPOSING.match(path) or (path.startswith("hydra.") and known.get(path) == value):
            continue
        if path.rpartition(".")[2] == "_target_":
            raise ValueError(f"{path}={value}: a configuration cannot name code (_target_).")
        if isinstance(value, str) and RESOLVER.search(value):
            raise ValueError(f"{path}={value}: values are taken as they are written; resolvers are not called.")
        if path.startswith("hydra.") and not READ.match(path):
            raise ValueError(f"{path}={value}: of Hydra's settings only hydra.mode and hydra.sweeper.params are read.")


def leaves(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from leaves(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from leaves(value, f"{path}[{index}]")
    else:
        yield path, node

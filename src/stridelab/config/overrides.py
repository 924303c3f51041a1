"""`key=value` arguments in Hydra's grammar, but paths as people type them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    Glob,
    Override,
    OverrideType,
    Quote,
    QuotedString,
    RangeSweep,
    Transformer,
    ValueType,
)
from hydra.errors import HydraException

MOST_VALUES = 100_000
PATHS = ("ckpt_path", "data.root", "data.cache_dir", "paths.results_dir", "tracking.uri")
"""Keys that take all that follows their first `=` as it stands, unless it is null or in quotes."""
PLANS = "sweep.plans"
TEXTS = (PLANS, "launcher.address", "launcher.sbatch")
"""These, too, take all that follows their first `=` as it stands, unless it is null or in quotes."""
LAYERS = "model.set."


def parse(overrides: Sequence[str]) -> list[Override]:
    """ValueError for an argument that the grammar refuses, with how to write one."""
    return [literal(line) or setting_of_layer(line) or by_hydra(line.removeprefix("++")) for line in overrides]


def setting_of_layer(line: str) -> Override | None:
    """`model.set.layer*.0.conv1.stride=1,2`: Hydra's keys have no `*`, layers' names may."""
    key, equals, text = line.partition("=")
    if not (key.startswith(LAYERS) and equals):
        return None
    override = by_hydra(f"{LAYERS.rstrip('.')}={text}")
    override.key_or_group, override.input_line = key, line
    return override


def literal(line: str) -> Override | None:
    """`data.root=~/pictures of 2024, a=b`: a path needs no quotes, and `~/` is the home folder."""
    key, _, text = line.removeprefix("++").partition("=")
    if key not in (*PATHS, *TEXTS) or text in ("", "null") or text[0] in "\"'":
        return None
    if key in PATHS and (text == "~" or text.startswith("~/")):
        text = str(Path(text).expanduser())
    if key in PATHS and "," in text and not Path(text).exists():
        raise ValueError(f"{line}: one path is expected; one with a comma stands in quotes: '{key}=\"{text}\"'.")
    value = QuotedString(text, Quote.single)
    return Override(OverrideType.CHANGE, key, ValueType.ELEMENT, value, input_line=line)


def by_hydra(line: str) -> Override:
    try:
        (override,) = OverridesParser.create().parse_overrides([line])
    except (HydraException, RecursionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"cannot read the argument {line}: {reason}. Write key=value; quote lists for the shell, "
            "'model.strides=[1,1,1],[1,2,2]', and texts with other than letters, digits, '.', '_' or '-' twice, "
            "'tags=[\"a=b\"]'."
        ) from None
    return override


def alternatives(override: Override, *, files: Sequence[str]) -> list[tuple[str, Any]]:
    """(as Hydra writes it, value) of each; `files` are what a glob chooses from. ValueError if it cannot be listed."""
    if not override.is_sweep_override():
        return [(override.get_value_element_as_str(), override.value())]
    sweep: Any = override.value()
    if isinstance(sweep, Glob):
        return [(name, name) for name in sweep.filter(list(files))]
    if isinstance(sweep, RangeSweep) and not sweep.step:
        raise ValueError(f"{override.input_line}: the step of a range must not be 0.")
    if not override.is_discrete_sweep():
        raise ValueError(f"{override.key_or_group}: only lists, choice() and range() can be swept, not interval().")
    texts = override.sweep_string_iterator()
    values = override.sweep_iterator(transformer=Transformer.identity)
    found = [(text, unquoted(value)) for text, value in islice(zip(texts, values, strict=True), MOST_VALUES + 1)]
    if len(found) > MOST_VALUES:
        raise ValueError(f"{override.input_line}: more than {MOST_VALUES:,} values of one key are no sweep.")
    return found


def unquoted(value: Any) -> Any:
    if isinstance(value, list):
        return [unquoted(entry) for entry in value]
    if isinstance(value, dict):
        return {unquoted(key): unquoted(entry) for key, entry in value.items()}
    return value.text if isinstance(value, QuotedString) else value


def written(value: Any) -> str:
    """As Hydra's grammar has it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {written(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(written, value)) + "]"
    text = str(value)
    if isinstance(value, int | float) or text.replace("-", "").replace("_", "").replace(".", "").isalnum():
        return text
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"

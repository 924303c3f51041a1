"""From `key=value` arguments to a frozen `Config`, and from sweep syntax to one `Config` a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, get_type_hints

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.types import Override, QuotedString, Transformer
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from stridelab.data.contents import contents_of

from . import errors, safety
from .grammar import parse
from .schema import Config

CONF = Path(__file__).parents[1] / "conf"
SECTIONS: dict[str, type[Any]] = {
    name: kind for name, kind in get_type_hints(Config).items() if is_dataclass(kind) and isinstance(kind, type)
}


@dataclass(frozen=True)
class Job:
    """One point of a grid: the arguments that make it, and the configuration or why there is none."""

    overrides: tuple[str, ...]
    config: Config | None
    error: str | None = None


@dataclass(frozen=True)
class Choice:
    """One alternative of an overridden key, as written and as parsed."""

    key: str
    text: str
    value: Any

    @property
    def argument(self) -> str:
        return f"{self.key}={self.text}"

    @property
    def is_group(self) -> bool:
        return is_group(self.key)


@cache
def is_group(key: str) -> bool:
    return "/" in key or (CONF / key).is_dir()


def register_schema() -> None:
    """Make `schema` known to Hydra; idempotent."""
    node = OmegaConf.structured(Config)
    for name, section in SECTIONS.items():
        OmegaConf.set_readonly(node, False)
        node[name] = OmegaConf.structured(section)  # the class, so that defaults stay as they are written
        OmegaConf.set_readonly(node[name], None)
    OmegaConf.set_readonly(node, None)
    ConfigStore.instance().store(name="schema", node=node)


def load(overrides: Sequence[str]) -> Config:
    """The configuration that `overrides` ask for; ValueError with key, value, rule and choices."""
    (job,) = expand(overrides)
    if job.config is None:
        raise ValueError(job.error)
    return job.config


def expand(overrides: Sequence[str]) -> Iterator[Job]:
    """One job for each point of the grid that comma lists span, the last key varying fastest."""
    axes = grid_axes(overrides)
    for point in product(*axes.values()):
        yield job_at(tuple(point))


def grid_axes(overrides: Sequence[str]) -> dict[str, list[Choice]]:
    """Every overridden key with its alternatives; an experiment's own sweep comes first."""
    parsed = parse(overrides)
    for override in parsed:
        errors.check_key(override, Config, CONF)
    given = {override.get_key_element(): alternatives(override) for override in parsed}
    fixed = tuple(choices[0].argument for choices in given.values() if len(choices) == 1)
    extra = parse([f"{key}={value}" for key, value in sweep_of_experiment(fixed).items()])
    return {override.get_key_element(): alternatives(override) for override in extra} | given


def alternatives(override: Override) -> list[Choice]:
    key = override.get_key_element()
    if not override.is_sweep_override():
        return [Choice(key, override.get_value_element_as_str(), override.value())]
    if not override.is_discrete_sweep():
        raise ValueError(f"{key}: only lists, choice() and range() can be swept, not interval().")
    texts = override.sweep_string_iterator()
    values = override.sweep_iterator(transformer=Transformer.identity)
    return [Choice(key, text, unquoted(value)) for text, value in zip(texts, values, strict=True)]


def unquoted(value: Any) -> Any:
    if isinstance(value, list):
        return [unquoted(entry) for entry in value]
    return value.text if isinstance(value, QuotedString) else value


def sweep_of_experiment(fixed: tuple[str, ...]) -> Mapping[str, str]:
    chosen = tuple(argument for argument in fixed if argument.startswith(("experiment=", "hydra.sweeper")))
    if not chosen:
        return {}
    params = composed(chosen).hydra.sweeper.get("params") or {}
    return {str(key): str(value) for key, value in params.items()}


def job_at(point: tuple[Choice, ...]) -> Job:
    overrides = tuple(choice.argument for choice in point)
    try:
        config = config_at(point)
        if config.data.is_own_folder:
            contents_of(config.data)
        return Job(overrides, config)
    except ValueError as error:
        return Job(overrides, None, str(error))


def config_at(point: tuple[Choice, ...]) -> Config:
    """Only the sections that the point touches are built anew: a grid of 100,000 points stays cheap."""
    groups = tuple(choice.argument for choice in point if choice.is_group)
    raw, built = base(groups)
    changes: dict[str, dict[str, Any]] = {}
    for choice in point:
        if not choice.is_group and not choice.key.startswith("hydra."):
            section, _, name = choice.key.rpartition(".")
            changes.setdefault(section, {})[name] = typed(groups, choice)
    top = {name: raw[name] for name in raw if name not in SECTIONS} | changes.pop("", {})
    touched = {name: SECTIONS[name](**(raw[name] | change)) for name, change in changes.items()}
    return Config(**(top | built | touched))


@cache
def base(groups: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The plain values before any `key=value`, and the sections built from them."""
    node = composed(groups)
    raw = {str(key): plain(node[key]) for key in node if key != "hydra"}
    return raw, {name: section(**raw[name]) for name, section in SECTIONS.items()}


def typed(groups: tuple[str, ...], choice: Choice) -> Any:
    """The choice's value as the schema's type, converted once however often a grid repeats it."""
    known = (groups, choice.argument)
    if known not in _typed:
        hint = errors.hint(choice.key, Config)
        _typed[known] = choice.value if fits(choice.value, hint) else converted(composed(groups), choice)
    return _typed[known]


_typed: dict[tuple[tuple[str, ...], str], Any] = {}


def fits(value: Any, hint: Any) -> bool:
    """Whether OmegaConf would leave `value` as it is; false when in doubt."""
    if isinstance(value, str) and ("$" in value or "?" in value):
        return False
    if hint is Any:
        return type(value) in (int, str) or (type(value) is list and all(fits(entry, Any) for entry in value))
    return type(value) in (int, bool, str) and type(value) in errors.options(hint)


def converted(node: DictConfig, choice: Choice) -> Any:
    """Set in `node`, which checks and converts; read; put back."""
    before = OmegaConf.select(node, choice.key)
    try:
        OmegaConf.update(node, choice.key, choice.value, merge=False)  # merging would change `before`
        return plain(OmegaConf.select(node, choice.key))
    except OmegaConfBaseException as error:
        raise ValueError(errors.explain(error, Config)) from None
    finally:
        OmegaConf.update(node, choice.key, before, merge=False)


def plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


@cache
def composed(overrides: tuple[str, ...]) -> DictConfig:
    """Hydra's own composition, its errors in our words."""
    register_schema()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            node = compose("train", overrides=list(overrides), return_hydra_config=True)
            safety.check_composed(OmegaConf.to_container(node, resolve=False))  # type: ignore[arg-type]
            return node
    except OmegaConfBaseException as error:
        raise ValueError(errors.explain(error, Config)) from None
    except Exception as error:
        raise ValueError(errors.explain(error.__cause__ or error, Config)) from None

"""One point of a grid, composed by Hydra, as a frozen `Config`; its errors in our words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from stridelab.models.module_plan import leaves

from . import errors, safety
from .overrides import LAYERS
from .schema import Config, schema_of

CONF = Path(__file__).parents[1] / "conf"
SEARCH = "hydra.searchpath"
"""The key under which a folder of `--config-dir` goes to Hydra."""
FAMILY = "model.family"
SECTIONS: dict[str, type[Any]] = {
    name: kind for name, kind in get_type_hints(Config).items() if is_dataclass(kind) and isinstance(kind, type)
}


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
    return key == SEARCH or (CONF / key).is_dir()


@cache
def register_schema() -> None:
    """Make `schema` known to Hydra."""
    node = OmegaConf.structured(Config)
    for name, section in SECTIONS.items():
        OmegaConf.set_readonly(node, False)
        node[name] = OmegaConf.structured(section)  # the class, so that defaults stay as they are written
        OmegaConf.set_readonly(node[name], None)
    OmegaConf.set_readonly(node, None)
    OmegaConf.set_struct(node.model, False)  # the keys of its family are checked when that is known
    ConfigStore.instance().store(name="schema", node=node)


def as_yaml(overrides: Sequence[str], *, package: str = "", resolve: bool = False) -> str:
    """What Hydra composes from them; of it `package`, such as `trainer`. ValueError when there is no such part."""
    node: Any = composed(tuple(overrides)).copy()
    OmegaConf.set_struct(node, False)
    node.pop("hydra")
    try:
        part = OmegaConf.select(node, package, default=node) if package not in ("", "_global_") else node
    except OmegaConfBaseException as error:
        raise ValueError(f"--package {package}: {errors.explain(error, Config)}") from None
    if part is node and package not in ("", "_global_"):
        raise ValueError(f"--package {package} is no part of the configuration; parts: {', '.join(map(str, node))}.")
    text = "null" if part is None else part
    return OmegaConf.to_yaml(part, resolve=resolve) if OmegaConf.is_config(part) else f"{text}\n"


def config_at(point: tuple[Choice, ...]) -> Config:
    """Only the sections that the point touches are built anew: a grid of 100,000 points stays cheap."""
    groups = tuple(choice.argument for choice in point if choice.is_group)
    family = next((choice.value for choice in point if choice.key == FAMILY), None)
    raw, built = base(groups, family)
    changes: dict[str, dict[str, Any]] = {}
    layers: dict[str, Any] = {}
    for choice in point:
        if choice.key.startswith(LAYERS):
            layers[choice.key.removeprefix(LAYERS)] = typed(groups, family, choice)
        elif not choice.is_group:
            section, _, name = choice.key.rpartition(".")
            changes.setdefault(section, {})[name] = typed(groups, family, choice)
    if layers:
        model = changes.setdefault("model", {})
        model["set"] = dict(leaves(model.get("set", raw["model"]["set"]))) | layers
    top = {name: raw[name] for name in raw if name not in SECTIONS} | changes.pop("", {})
    touched = {name: type(built[name])(**(raw[name] | change)) for name, change in changes.items()}
    return Config(**(top | built | touched))


@cache
def base(groups: tuple[str, ...], family: object) -> tuple[dict[str, Any], dict[str, Any]]:
    """The plain values before any `key=value`, and the sections built from them."""
    node = composed(groups, family)
    raw = {str(key): plain(node[key]) for key in node if key != "hydra"}
    hints = get_type_hints(schema_of(node.model.family))
    return raw, {name: hints[name](**raw[name]) for name in SECTIONS}


def typed(groups: tuple[str, ...], family: object, choice: Choice) -> Any:
    """The choice's value as the schema's type, converted once however often a grid repeats it."""
    known = (groups, family, choice.argument)
    if known not in _typed:
        node = composed(groups, family)
        schema: type = schema_of(node.model.family)
        errors.check_path(choice.key, schema, family=str(node.model.family))
        hint = errors.hint(choice.key, schema)
        _typed[known] = choice.value if fits(choice.value, hint) else converted(node, choice, schema)
    return _typed[known]


_typed: dict[tuple[tuple[str, ...], object, str], Any] = {}


def fits(value: Any, hint: Any) -> bool:
    """Whether OmegaConf would leave `value` as it is; false when in doubt."""
    if isinstance(value, str) and ("$" in value or "?" in value):
        return False
    if hint is Any:
        return type(value) in (int, str) or (type(value) is list and all(fits(entry, Any) for entry in value))
    return type(value) in (int, bool, str) and type(value) in errors.options(hint)


def converted(node: DictConfig, choice: Choice, schema: type) -> Any:
    """Set in `node`, which checks and converts; read; put back."""
    before = OmegaConf.select(node, choice.key)
    try:
        OmegaConf.update(node, choice.key, choice.value, merge=False)  # merging would change `before`
        return plain(OmegaConf.select(node, choice.key))
    except OmegaConfBaseException as error:
        raise ValueError(errors.explain(error, schema)) from None
    finally:
        OmegaConf.update(node, choice.key, before, merge=False)


def plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


@cache
def composed(overrides: tuple[str, ...], family: object = None) -> DictConfig:
    """Hydra's own composition, its errors in our words; with the defaults of another `family`, if one is given."""
    register_schema()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            node = compose("train", overrides=list(overrides), return_hydra_config=True)
            check_model(node, family)
    except OmegaConfBaseException as error:
        raise ValueError(errors.explain(error, Config)) from None
    except (HydraException, YAMLError, OSError, UnicodeDecodeError) as error:
        raise ValueError(errors.explain(error.__cause__ or error, Config)) from None
    if overrides:
        safety.check_composed(unresolved(node), unresolved(composed(())), given=overrides[0])
    return node


def check_model(node: DictConfig, family: object) -> None:
    """Give the model the keys and types of its family; an error names what is not among them."""
    chosen = node.model.family if family is None else family
    content = {"family": chosen} if chosen != node.model.family else unresolved(node.model)
    schema: type = schema_of(chosen)
    for key in content:
        errors.check_path(f"model.{key!s}", schema, family=str(chosen))
    model = OmegaConf.structured(get_type_hints(schema)["model"])
    OmegaConf.set_readonly(model, None)
    with read_write(node), open_dict(node):
        del node["model"]
        node.model = OmegaConf.merge(model, content)


def unresolved(node: DictConfig) -> dict[Any, Any]:
    content = OmegaConf.to_container(node, resolve=False)
    assert isinstance(content, dict)
    return content

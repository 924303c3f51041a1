"""From `key=value` arguments to a frozen `Config`, and from sweep syntax to one `Config` a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, get_type_hints

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from stridelab.data.catalog.user import find_dataset
from stridelab.data.contents import contents_of
from stridelab.models.families import find_family
from stridelab.models.module_plan import leaves

from . import errors, safety
from .overrides import LAYERS, PLANS, alternatives, parse
from .plans import Domain, parse_plans, refuse_twice, written
from .schema import Config, schema_of, schema_of_all
from .variants import affects_results

CONF = Path(__file__).parents[1] / "conf"
SEARCH = "hydra.searchpath"
"""The key under which a folder of `--config-dir` goes to Hydra."""
FAMILY = "model.family"
NAMES = {"model": FAMILY, "data": "data.name", "launcher": "launcher.name"}
"""Groups whose choices need no YAML."""
IS_OWN: dict[str, Callable[[str], Any]] = {
    "model": find_family,
    "data": find_dataset,
    "launcher": lambda name: name.isidentifier() and name != "null",  # the registry, above this room, knows which are
}
SECTIONS: dict[str, type[Any]] = {
    name: kind for name, kind in get_type_hints(Config).items() if is_dataclass(kind) and isinstance(kind, type)
}


@dataclass(frozen=True)
class GridPoint:
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


def load(overrides: Sequence[str], *, config_dir: Path | None = None) -> Config:
    """The configuration that `overrides` ask for; ValueError with key, value, rule and choices."""
    jobs = list(expand(overrides, config_dir=config_dir))
    if len(jobs) > 1:
        raise ValueError(f"{' '.join(overrides)}: one configuration is expected here, and these are {len(jobs)}.")
    if jobs[0].config is None:
        raise ValueError(jobs[0].error)
    return jobs[0].config


def expand(overrides: Sequence[str], *, config_dir: Path | None = None) -> Iterator[GridPoint]:
    """One job for each point of the grid that comma lists span, the last key varying fastest.

    config_dir: a folder of the user's own, laid out as conf/, searched after it.
    """
    axes = grid_axes(overrides, config_dir=config_dir)
    for point in product(*axes.values()):
        yield job_at(tuple(point))


def grid_axes(overrides: Sequence[str], *, config_dir: Path | None = None) -> dict[str, list[Choice]]:
    """Every overridden key with its alternatives; an experiment's own sweep comes first."""
    search = search_axis(config_dir)
    given = axes_of(overrides, config_dir)
    fixed = tuple(choices[0].argument for choices in (search | given).values() if len(choices) == 1)
    extra = axes_of([f"{key}={value}" for key, value in sweep_of_experiment(fixed).items()], config_dir)
    axes = search | extra | given
    axes |= axes_of_plans(axes)
    for key, choices in axes.items():
        if len(choices) > 1:
            refuse_sweep(key)
    return axes


def axes_of_plans(axes: Mapping[str, Sequence[Choice]]) -> dict[str, list[Choice]]:
    """What `sweep.plans` spans, given or of the chosen experiment."""
    point = tuple(choices[0] for choices in axes.values())
    groups = tuple(choice.argument for choice in point if choice.is_group)
    text = axes[PLANS][0].value if PLANS in axes else composed(groups).sweep.plans
    domains = parse_plans(text).domains if text else ()
    refuse_twice(domains, list(axes))
    simplest = [Choice(one.key, written(one.values[0]), one.values[0]) for one in domains]
    found = {}
    for domain in domains:
        errors.check_path(domain.key, schema_of_all())
        values = domain.points(num_layers(domain, (*point, *simplest)))
        found[domain.key] = [Choice(domain.key, written(value), value) for value in values]
    return found


def num_layers(domain: Domain, point: tuple[Choice, ...]) -> int:
    """Entries that the value has in the network of `point`: one a layer or stage."""
    value = getattr(config_at(point).model, domain.key.rpartition(".")[2], None) if domain.each else ()
    if not isinstance(value, tuple):
        raise ValueError(f"sweep.plans: {domain.key} has no value a layer in this network; leave out `each`.")
    return len(value)


def search_axis(config_dir: Path | None) -> dict[str, list[Choice]]:
    if config_dir is None:
        return {}
    if not config_dir.is_dir():
        raise ValueError(f"--config-dir {config_dir}: there is no such folder.")
    address = f"file://{config_dir.resolve()}"
    if set(address) & set('"\\$'):
        raise ValueError(f'--config-dir {config_dir}: a folder whose path has none of ", \\ and $ is expected.')
    return {SEARCH: [Choice(SEARCH, f'["{address}"]', [address])]}


def axes_of(overrides: Sequence[str], config_dir: Path | None) -> dict[str, list[Choice]]:
    axes = {}
    for override in parse(overrides):
        key = override.key_or_group
        files = choices_of(key, config_dir) if is_group(key) else None
        errors.check_key(override, schema_of_all(), files)
        found = alternatives(override, files=files or ())
        for path in files_of(key, [text for text, _ in found], config_dir) if files else ():
            safety.check_file(path)
        own = [text for text, _ in found if is_own(key, text, files)]
        errors.check_choices(key, found, schema_of_all(), files and [*files, *own])
        axes[key] = [Choice(NAMES[key] if text in own else key, text, value) for text, value in found]
    return axes


def is_own(key: str, text: str, files: Sequence[str] | None) -> bool:
    """Whether it is a family, a data set or a launcher without a YAML, as the user's own are; it is found on the
    way."""
    return key in NAMES and text not in (files or ()) and bool(IS_OWN[key](text))


def files_of(group: str, choices: Sequence[str], config_dir: Path | None) -> Iterator[Path]:
    """Of what is chosen, and then those that its defaults may name."""
    folders = [folder / group for folder in (CONF, config_dir) if folder is not None]
    for folder, choice in product(folders, choices):
        if not (chosen := folder / f"{choice}.yaml").exists():
            continue
        yield chosen
        text = chosen.read_text(encoding="utf-8")
        if "defaults" in text:
            yield from (path for path in folder.rglob("*.yaml") if path != chosen and path.stem in text)


def choices_of(group: str, config_dir: Path | None = None) -> list[str]:
    folders = [folder / group for folder in (CONF, config_dir) if folder is not None]
    files = {path.relative_to(folder).with_suffix("") for folder in folders for path in folder.rglob("*.yaml")}
    return sorted(path.as_posix() for path in files)


def refuse_sweep(key: str) -> None:
    """ValueError for what can have only one value in a sweep."""
    if key in ("experiment", "debug"):
        raise ValueError(f"{key} cannot be swept: give one {key} at a time, each with a command of its own.")
    if not affects_results(key):
        raise ValueError(f"{key} cannot be swept: it changes no result, and one value holds for the whole sweep.")


def sweep_of_experiment(fixed: tuple[str, ...]) -> Mapping[str, str]:
    """What the chosen experiment sweeps: `hydra.sweeper.params` in its file, key -> a list as on the command line."""
    chosen = tuple(argument for argument in fixed if argument.startswith(("experiment=", SEARCH)))
    params = composed(chosen).hydra.sweeper.get("params") if chosen else None
    return {str(key): str(value) for key, value in (params or {}).items()}


def experiment_sweeps(axes: Mapping[str, Sequence[Choice]]) -> bool:
    """Whether the chosen experiment asks for a sweep, so that nobody need say -m."""
    chosen = tuple(axes[key][0].argument for key in (SEARCH, "experiment") if key in axes)
    hydra = composed(chosen).hydra
    return str(hydra.mode).endswith("MULTIRUN") or bool(hydra.sweeper.get("params"))


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


def job_at(point: tuple[Choice, ...]) -> GridPoint:
    overrides = tuple(choice.argument for choice in point)
    try:
        config = config_at(point)
        if config.data.is_own_folder:
            contents_of(config.data)
        return GridPoint(overrides, config)
    except ValueError as error:
        return GridPoint(overrides, None, str(error))


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

"""From `key=value` arguments, with sweep syntax, to one `Config` for each point of the grid that they span."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from stridelab.data.catalog.user import find_dataset
from stridelab.data.contents import contents_of
from stridelab.models.families import find_family

from . import compose, errors, safety
from .compose import FAMILY, SEARCH, Choice, composed, config_at, is_group
from .overrides import PLANS, alternatives, parse, written
from .plans import Domain, parse_plans, refuse_twice
from .schema import Config, schema_of_all
from .variants import affects_results

NAMES = {"model": FAMILY, "data": "data.name", "launcher": "launcher.name"}
"""Groups whose choices need no YAML."""
IS_OWN: dict[str, Callable[[str], Any]] = {
    "model": find_family,
    "data": find_dataset,
    "launcher": lambda name: name.isidentifier() and name != "null",  # the registry, above this room, knows which are
}


@dataclass(frozen=True)
class GridPoint:
    """One point of a grid: the arguments that make it, and the configuration or why there is none."""

    overrides: tuple[str, ...]
    config: Config | None
    error: str | None = None


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
    folders = [folder / group for folder in (compose.CONF, config_dir) if folder is not None]
    for folder, choice in product(folders, choices):
        if not (chosen := folder / f"{choice}.yaml").exists():
            continue
        yield chosen
        text = chosen.read_text(encoding="utf-8")
        if "defaults" in text:
            yield from (path for path in folder.rglob("*.yaml") if path != chosen and path.stem in text)


def choices_of(group: str, config_dir: Path | None = None) -> list[str]:
    folders = [folder / group for folder in (compose.CONF, config_dir) if folder is not None]
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


def job_at(point: tuple[Choice, ...]) -> GridPoint:
    overrides = tuple(choice.argument for choice in point)
    try:
        config = config_at(point)
        if config.data.is_own_folder:
            contents_of(config.data)
        return GridPoint(overrides, config)
    except ValueError as error:
        return GridPoint(overrides, None, str(error))

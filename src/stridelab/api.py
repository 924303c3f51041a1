"""What the command line does, for Python and notebooks: same keys, same store, same runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stridelab.config import Config
from stridelab.system.user_code import loading

if TYPE_CHECKING:
    import pandas as pd

    from stridelab.config.grid import Grid
    from stridelab.report.comparison import Comparison
    from stridelab.report.notebook import ReportPaths
    from stridelab.tracking.find import SweepRecord
    from stridelab.tracking.store import Store

ALIASES = {"seeds": "seed", "name": "model.name", "results": "paths.results_dir"}


@dataclass(frozen=True)
class Sweep:
    """A sweep that was trained, read from its store each time that it is asked."""

    name: str
    store: Store
    results: Path

    @property
    def record(self) -> SweepRecord:
        from stridelab.tracking.find import find_sweep

        return find_sweep(self.store, self.name, results=self.results)

    @property
    def runs(self) -> pd.DataFrame:
        """One row a run: run_id, run_name, variant, seed, status, reason, maps; what varies; then the metrics."""
        return self.compare().runs

    @property
    def variants(self) -> pd.DataFrame:
        """One row a variant: n, costs, and of each metric X the columns X_mean, X_sd, X_low and X_high over seeds."""
        return self.compare().variants

    def compare(self, *, baseline: str | None = None, metric: str | None = None) -> Comparison:
        """The variants against one of them, paired by seed; by test accuracy unless `metric` names another. ValueError
        for a baseline that is no variant."""
        from stridelab.report.comparison import compare

        return compare(self.record, baseline=baseline, metric=metric)

    def report(self, *, baseline: str | None = None, metric: str | None = None) -> ReportPaths:
        """Write the notebook, the page, the tables and the figures to results/reports/, and say where they are."""
        from stridelab.report.comparison import compare
        from stridelab.report.notebook import seeds_seen, write_report

        record = self.record
        folder = self.results / "reports" / record.folder_name
        comparison = compare(record, baseline=baseline, metric=metric, earlier=seeds_seen(folder))
        return write_report(comparison, folder, store=self.store)

    def to_xarray(self) -> Any:
        """An xarray Dataset of all finished runs' metrics, over what varies and `seed`. ValueError without xarray."""
        if find_spec("xarray") is None:
            raise ValueError("to_xarray() needs the package xarray: pip install xarray (or stridelab[xarray]).")
        runs = self.runs
        runs = runs[runs["status"] == "finished"]
        axes = runs["variant"].map(axes_of_name).apply(_series)
        metrics = runs.select_dtypes("number").drop(columns=["seed", *axes.columns], errors="ignore")
        table = axes.assign(seed=runs["seed"].astype(int)).join(metrics)
        return table.set_index([*axes.columns, "seed"]).to_xarray()

    def __str__(self) -> str:
        from stridelab.report.display import show_variants

        return show_variants(self.compare()).text

    def _repr_html_(self) -> str:
        from stridelab.report.display import show_variants

        return show_variants(self.compare())._repr_html_()


def _series(axes: Mapping[str, str]) -> pd.Series[Any]:
    import pandas as pd

    return pd.Series(dict(axes))


def axes_of_name(variant: str) -> dict[str, str]:
    """`strides=1-2-2 padding=same`, taken apart."""
    return dict(word.split("=", 1) for word in variant.split(" "))


def sweep(**keys: Any) -> Sweep:
    """Train what `stridelab train -m` trains with the same keys, and return it; what is finished is not trained again.

    A list is swept, anything else is one value: `strides=["1-2-2", (2, 2, 1)], padding=["same", "valid"]`. `seeds` is
    seed; keys of a network and of data stand alone (`strides`, `train_size`), others in a dict of their group
    (`trainer={"max_epochs": 3}`), or with dots in `**{"trainer.lr": [0.1, 0.2]}`.

    Raises ValueError before anything is created for what the command line refuses, and RuntimeError when a run of the
    sweep did not finish.
    """
    from stridelab.config.axes import expand
    from stridelab.config.grid import grid_of
    from stridelab.config.variants import sweep_name
    from stridelab.sweep.launchers import launcher_for
    from stridelab.sweep.sweep import run_sweep

    if loading():
        raise RuntimeError(
            "stridelab.sweep() was called while a process for runs loaded this file; put the call below "
            "if __name__ == '__main__':"
        )
    configs = []
    arguments = arguments_of(keys)
    if (grid := grid_of(arguments)).settings.search.name:
        return searched(grid, arguments)
    for job in expand(arguments):
        if job.config is None:
            raise ValueError(job.error)
        configs.append(job.config)
    first = configs[0]
    with program_hidden(["stridelab", "train", "-m", *arguments]):
        code = run_sweep(configs, launcher_for(first, num_runs=len(configs)), multirun=True)
    if code:
        raise RuntimeError("not every run of the sweep finished; what is printed above says why")
    return opened(first.sweep.name or sweep_name(configs), first)


def searched(grid: Grid, arguments: list[str]) -> Sweep:
    from stridelab.search.search import Running, run_search

    search = Running(grid)
    with program_hidden(["stridelab", "train", *arguments]):
        if run_search(grid):
            raise RuntimeError("not every run of the search finished; what is printed above says why")
    return opened(search.name, search.config)


def load_sweep(name: str = "latest", **keys: Any) -> Sweep:
    """A sweep of the store by its name or id; `results="folder"` or `paths=`, `tracking=` say where that is."""
    from stridelab.config import load

    sweep = opened(name, load(arguments_of(keys)))
    record = sweep.record
    return Sweep(record.name, sweep.store, sweep.results)


def opened(name: str, config: Config) -> Sweep:
    return Sweep(name, config.store, config.results)


def plan(**keys: Any) -> pd.DataFrame:
    """Geometry, cost and memory of every variant, without training: one row each, with `error` where it is impossible.
    Keys as in `sweep`; columns as in `stridelab plan format=csv`."""
    import pandas as pd

    from stridelab.config.grid import grid_of
    from stridelab.plan.json_csv import CSV_COLUMNS
    from stridelab.plan.space import rows_of

    return pd.DataFrame(
        {"variant": row.name, "ok": row.figures is not None, "error": row.error or ""}
        | {name: cell(row.figures) if row.figures else None for name, cell in CSV_COLUMNS.items()}
        for row in rows_of(grid_of(arguments_of(keys)))
    )


def arguments_of(keys: Mapping[str, Any]) -> list[str]:
    """`key=value` as they are typed on the command line.

    >>> arguments_of({"strides": ["1-2-2", (2, 2, 2)], "seeds": range(2), "trainer": {"max_epochs": 1}})
    ['model.strides=1-2-2,[2,2,2]', 'seed=0,1', 'trainer.max_epochs=1']
    """
    found = []
    for key, value in keys.items():
        if key in SECTIONS and isinstance(value, Mapping):
            found += [f"{key}.{name}={typed(one)}" for name, one in value.items()]
        else:
            found.append(f"{full(key)}={typed(value)}")
    return found


SECTIONS = {one.name for one in fields(Config) if is_dataclass(one.default_factory)}


def full(key: str) -> str:
    """A key by itself is one of the whole configuration, else of the data, else of the network."""
    if key in ALIASES or "." in key:
        return ALIASES.get(key, key)
    from stridelab.data.settings import DataConfig

    if key in {one.name for one in fields(Config)} | {"experiment", "debug"}:
        return key
    of_data = {one.name for one in fields(DataConfig)} - {"channels", "name"}
    return f"data.{key}" if key in of_data else f"model.{key}"


def typed(value: Any) -> str:
    """A list (or a range) is alternatives."""
    from stridelab.config.overrides import written

    return ",".join(map(written, value)) if isinstance(value, list | range) else written(value)


@contextmanager
def program_hidden(command: list[str]) -> Iterator[None]:
    """Child processes run the file of the program again, which may call us: they need not, they find what they need.
    What is recorded and advised is the `command` that does the same."""
    program: Any = sys.modules["__main__"]
    spec, path, called = getattr(program, "__spec__", None), vars(program).get("__file__"), sys.argv
    program.__spec__, sys.argv = None, command
    vars(program).pop("__file__", None)
    try:
        yield
    finally:
        program.__spec__, sys.argv = spec, called
        if path is not None:
            program.__file__ = path

"""`stridelab runs show|diff|delete`: single runs of a store."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from stridelab import names
from stridelab.config import load
from stridelab.probes.catalog import metric_of
from stridelab.text import duration, plural, printable, three_digits
from stridelab.tracking.listed import started

from .arguments import split
from .program import command, here
from .run_list import print_table

if TYPE_CHECKING:
    from stridelab.tracking.mlflow_reader import RunRecord


def show_run(arguments: Sequence[str]) -> None:
    from stridelab.tracking.find import find_run

    given, overrides = split(arguments, {"run": "latest"})
    config = load(overrides)
    run = find_run(config.store, given["run"], results=config.results)
    took = "" if run.end_ms is None else f", took {duration((run.end_ms - run.start_ms) / 1000)}"
    print(f"{printable(run.name)}\n  id        {run.run_id}\n  started   {started(run)}{took}")
    print(f"  status    {run.status.lower()}{': ' + printable(run.reason) if run.reason else ''}")
    for label, tag in {"sweep": names.SWEEP, "commit": names.COMMIT, "signature": names.SIGNATURE}.items():
        if run.tags.get(tag):
            print(f"  {label:<9} {printable(run.tags[tag])}")
    meaning = {key: known.meaning if (known := metric_of(key)) else "" for key in run.metrics}
    rows = [[key, three(value, key), meaning[key]] for key, value in run.metrics.items()]
    print()
    print_table(["metric", "value", "meaning"], rows, words={"metric", "meaning"})
    files = run.artifacts()
    others = [printable(path) for path in files if not path.startswith("images/")]
    pictures = plural(len(files) - len(others), "picture")
    print(f"\nFiles: {', '.join([*others, *([pictures] if len(others) < len(files) else [])]) or 'none'}")
    print(f"Again: {here(command('reproduce'), overrides)} run={run.run_id}")


def three(value: float, key: str) -> str:
    metric = metric_of(key)
    unit = f" {metric.shown_unit}" if metric and metric.shown_unit else ""
    return f"{three_digits(value * (metric.factor if metric else 1))}{unit}"


def diff_runs(arguments: Sequence[str]) -> int:
    """What differs between two runs: configuration, figures, code, packages. 0 where nothing does, as `diff`."""
    from stridelab.report.artifacts import read_packages, read_settings
    from stridelab.tracking.find import find_run

    wanted = [word for word in arguments if "=" not in word]
    config = load([word for word in arguments if "=" in word])
    if len(wanted) != 2:
        raise ValueError(
            f"two runs are compared, not {len(wanted)}: stridelab runs diff RUN RUN, each an id or a name."
        )
    one, other = (find_run(config.store, word, results=config.results) for word in wanted)
    sections = {
        "configuration": [
            {key: printable(value, limit=80) for key, value in read_settings(run).items()} for run in (one, other)
        ],
        "figures": [{key: f"{value:.9g}" for key, value in run.metrics.items()} for run in (one, other)],
        "code and digests": [code_of(run) for run in (one, other)],
        "packages": [read_packages(run) for run in (one, other)],
    }
    differs = False
    for title, (left, right) in sections.items():
        rows = [[key, left.get(key, ""), right.get(key, "")] for key in dict.fromkeys([*left, *right])]
        rows = [row for row in rows if row[1] != row[2]]
        print("" if rows else f"\n{title}: equal")
        if rows:
            headings = [title, f"{one.run_id[:8]} {printable(one.name)}", f"{other.run_id[:8]} {printable(other.name)}"]
            print_table(headings, rows, words=set(headings))
        differs = differs or bool(rows)
    return int(differs)


def code_of(run: RunRecord) -> dict[str, str]:
    tags = {"commit": names.COMMIT, "uncommitted changes": names.DIRTY, "code": names.CODE}
    tags |= {label: tag for tag, label in names.DIGESTS.items()}
    return {label: run.tags[tag][:16] for label, tag in tags.items() if tag in run.tags}


def delete_run(arguments: Sequence[str]) -> int:
    """Into MLflow's trash, and its folder into results/trash; asks first."""
    from stridelab.sweep.preflight import writable
    from stridelab.tracking.find import Finder, find_run
    from stridelab.tracking.mlflow_reader import Reader
    from stridelab.tracking.store import connect

    given, overrides = split(arguments, {"run": "", "yes": "false"})
    if not given["run"]:
        raise ValueError("run= must name the run to delete, by id or name.")
    config = load(overrides)
    store, results = config.store, config.results
    run = find_run(store, given["run"], results=results)
    if results.is_dir():
        writable(results)
    uid = run.tags.get(names.UID, "")
    folder = Finder(store, results).folders.get(uid)
    # a folder that was copied, or never sent, does not know its run's id in this store
    stored = [one.run_id for one in Reader(store).having({names.UID: uid})] if folder else [run.run_id]
    print(f"{printable(run.name)}, {run.status.lower()}, of {started(run)}; id {run.run_id}")
    if given["yes"] != "true" and not agreed():
        print("Nothing is deleted.")
        return 1
    for run_id in stored:
        connect(store, create=False).delete_run(run_id)
    if folder is not None:
        target = results / "trash" / folder.name
        target.parent.mkdir(exist_ok=True)
        folder.rename(target if not target.exists() else target.with_name(f"{target.name}-{run.run_id[:8]}"))
        print(f"Its folder is in {target.parent}.")
    where = "It is in MLflow's trash" if stored else "MLflow has it no more, or never had it"
    print(f"{where}; a sweep that lists it trains it again.")
    return 0


def agreed() -> bool:
    if not sys.stdin.isatty():
        raise ValueError("nobody can be asked here; say yes=true.")
    return input("Delete it? [y/N] ").strip().lower() in ("y", "yes")

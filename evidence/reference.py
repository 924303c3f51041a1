"""What is committed of a finished sweep: its tables, one figure, and where it comes from."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pandas as pd

from stridelab.config import load
from stridelab.report.comparison import Comparison, compare
from stridelab.report.figures import draw, render
from stridelab.report.provenance import origin
from stridelab.report.table import write_csv
from stridelab.text import plural
from stridelab.tracking.find import find_sweep
from stridelab.tracking.store import resolve_store

from . import REFERENCE
from .claims import CLAIMS, header

NAMED = re.compile(r"experiment=\w+")
FIGURE = "accuracy_vs_macs"
PLACES = re.compile(r" (?:data\.root|paths\.results_dir)=[^\s<\"&]+")
"""Where it lay on the machine that ran it."""
MOST_KIB = 1500
"""Of a comparison.html that is kept."""


def write_reference(experiment: str, results: Path) -> Path:
    """results/reference/<experiment>/ of the sweep of that name in a results folder. ValueError where there is none."""
    store = resolve_store(load([]).tracking, results_dir=results)
    comparison = compare(find_sweep(store, experiment, results=results))
    folder = REFERENCE / experiment
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(comparison.runs.drop(columns=["run_id", "run_name"]), folder / "runs.csv")
    write_csv(comparison.variants, folder / "variants.csv")
    if "test/acc" in comparison.runs:
        (folder / f"{FIGURE}.png").write_bytes(render(draw(by_arm(comparison, experiment), FIGURE))["png"])
    page = results / "reports" / comparison.sweep.folder_name / "comparison.html"
    kept = page.is_file() and page.stat().st_size <= MOST_KIB * 1024
    if kept:
        (folder / page.name).write_text(PLACES.sub("", page.read_text(encoding="utf-8")), encoding="utf-8")
    (folder / "README.md").write_text(readme(experiment, comparison, kept=kept), encoding="utf-8")
    return folder


def by_arm(comparison: Comparison, experiment: str) -> Comparison:
    """With the variants called as in CLAIMS, for a figure."""
    arms = next((claim.arms for claim in CLAIMS if claim.experiment == experiment), {})
    names = {variant: arm for arm, variant in arms.items()}
    runs, variants = (table.replace({"variant": names}) for table in (comparison.runs, comparison.variants))
    baseline = names.get(comparison.baseline, comparison.baseline)
    return replace(comparison, runs=runs, variants=variants, baseline=baseline)


def readme(experiment: str, comparison: Comparison, *, kept: bool) -> str:
    where, runs = origin(comparison.sweep), comparison.runs
    done = runs[runs["status"] == "finished"]
    seconds = done["time/total_s"].sum()
    versions = ", ".join(f"{name} {version}" for name, version in where.versions.items())
    page = (
        "`comparison.html`: the report."
        if kept
        else (
            f"The report itself is not kept (above {MOST_KIB} KiB): `stridelab compare sweep={experiment}` writes it."
        )
    )
    return f"""\
# Reference: {experiment}

    {command(experiment)}

Commit {where.commit}; {where.machine}; {versions}.
{plural(len(done), "run")}, one thread each, two at a time; their times sum to {seconds / 60:.0f} minutes, on a machine
shared with other work (runs that experiments have in common are trained once).

`runs.csv`: every run. `variants.csv`: n, mean, standard deviation and interval of each arm. {page}
What was predicted: conf/experiment/{experiment}.yaml. What was found: [docs/findings.md](../../../docs/findings.md).
"""


def command(experiment: str) -> str:
    """As the experiment's file has it, with a name for the sweep."""
    told = NAMED.sub(rf"\g<0> sweep.name={experiment}", header(experiment)["command"], count=1)
    return told.replace(" stridelab benchmark sweep=latest", f" && stridelab benchmark sweep={experiment}")


def tables(experiment: str) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """Runs and variants as they are committed; None where the experiment has not been run."""
    folder = REFERENCE / experiment
    if not (folder / "runs.csv").is_file():
        return None
    return pd.read_csv(folder / "runs.csv"), pd.read_csv(folder / "variants.csv")

"""The control check: did the variants differ in nothing but stride and padding?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from stridelab import names
from stridelab.config.variants import affects_results
from stridelab.models.families import is_geometry
from stridelab.report.provenance import settings
from stridelab.text import few

if TYPE_CHECKING:
    from stridelab.tracking.find import SweepRecord

DIGESTS = {tag: names.DIGESTS[tag] for tag in (names.INIT_DIGEST, names.BATCH_ORDER_DIGEST, names.DATA_DIGEST)}
"""Tags that every run of one seed must share, and what they stand for."""
WAYS = ("model.downsample", "model.stem_downsample", "model.stem_pool", "model.reduction")
"""Settings that say what makes a map smaller."""
LISTED = 4
SHAPES = "(the networks differ in their number of parameters)"


@dataclass(frozen=True)
class Controls:
    """What the control check found."""

    passed: bool
    """True when every digest was recorded and equal, and there was something to compare."""
    sentence: str
    violations: pd.DataFrame
    """Columns seed, what, problem, runs (the groups of runs that agree with each other)."""
    caveats: tuple[str, ...]
    """What also differs between variants and could explain a difference."""


def check_controls(sweep: SweepRecord, runs: pd.DataFrame) -> Controls:
    """Every finished run of one seed must have started from the same weights, batches and data."""
    tags = pd.DataFrame([{tag: run.tags.get(tag) for tag in DIGESTS} for run in sweep.runs], columns=list(DIGESTS))
    table = pd.concat([runs.reindex(columns=["run_name", "variant", "seed", "status", "cost/params"]), tags], axis=1)
    done = table[(table["status"] == "finished") & table["seed"].notna()]
    violations, compared = [], 0
    for seed, group in done.groupby("seed", sort=True):
        if group["variant"].nunique() < 2:
            continue
        compared += 1
        violations += [(seed, *found) for tag, what in DIGESTS.items() for found in _disagreement(group, tag, what)]
    found = pd.DataFrame(violations, columns=["seed", "what", "problem", "runs"])
    return Controls(
        passed=bool(compared) and found.empty,
        sentence=_sentence(found, compared=compared),
        violations=found,
        caveats=(*_also_varied(sweep), *_caveats(runs)),
    )


def _disagreement(group: pd.DataFrame, tag: str, what: str) -> list[tuple[str, str, str]]:
    missing = group[group[tag].isna()]
    found = []
    if len(missing):
        found.append((what, "not recorded", few([*missing["run_name"]], LISTED)))
    if group[tag].nunique() > 1:
        parts = [
            f"{str(digest)[:8]}: {few([*part['run_name']], LISTED)}" for digest, part in group.groupby(tag, sort=False)
        ]
        shapes = tag == names.INIT_DIGEST and group["cost/params"].nunique() > 1
        because = f" {SHAPES}" if shapes else ""
        found.append((what, f"{len(parts)} different digests{because}", "; ".join(parts)))
    return found


def _sentence(violations: pd.DataFrame, *, compared: int) -> str:
    everything = "initial weights, batch order and data"
    if not compared:
        return (
            f"Control check not possible: no seed has finished runs of two variants, so {everything} "
            "could not be compared."
        )
    seeds = f"{compared} seed{'s' if compared > 1 else ''}"
    if violations.empty:
        return f"Control check passed: for each of {seeds}, all variants had identical {everything} (digests compared)."
    different = violations[violations["problem"] != "not recorded"]
    what = " and ".join(dict.fromkeys(violations["what"]))
    bad = violations["seed"].nunique()
    if different.empty:
        return (
            f"Control check incomplete: for {bad} of {seeds} the {what} were not recorded, "
            "so they could not be compared."
        )
    what = " and ".join(dict.fromkeys(different["what"]))
    bad = different["seed"].nunique()
    return (
        f"Control check FAILED: for {bad} of {seeds} the variants differ in {what}; "
        "a difference in accuracy may come from that and not from stride or padding."
    )


def _also_varied(sweep: SweepRecord) -> list[str]:
    known = {key: by_variant for key, by_variant in settings(sweep).items() if key != "seed" and affects_results(key)}
    varied = [key for key, by_variant in known.items() if len({frozenset(one) for one in by_variant.values()}) > 1]
    others = [key for key in varied if not is_geometry(key)]
    said = [f"The variants differ in {', '.join(others)}, not in stride and padding alone."] if others else []
    if mixed := [key for key, by_variant in known.items() if any(len(one) > 1 for one in by_variant.values())]:
        said.append(
            f"Runs of one variant differ in {', '.join(mixed)}: its mean is of different things, and seeds are no "
            "repetitions of one. where= takes those that belong together."
        )
    if ways := [key for key in varied if key in WAYS]:
        said.append(
            f"The variants differ in how they down-sample ({', '.join(ways)}): ahead of a pool or a filter, "
            "convolutions run at stride 1, so that MACs, memory and receptive fields differ at equal strides."
        )
    return said


def _caveats(runs: pd.DataFrame) -> tuple[str, ...]:
    """Reasons in the table itself why the comparison is not of stride and padding alone."""
    done = runs[runs["status"] == "finished"]
    found = []
    params = done["cost/params"].dropna() if "cost/params" in done else pd.Series(dtype=float)
    if params.nunique() > 1:
        found.append(
            f"The variants differ in their number of parameters ({params.min():,.0f} to {params.max():,.0f}), "
            "as with a flatten head, space_to_depth, or other kernels and layers: stride and size of the network are "
            "confounded."
        )
    repeated = done[done["seed"].notna()].duplicated(["variant", "seed"]).sum()
    if repeated:
        found.append(
            f"{repeated} finished run{'s share' if repeated > 1 else ' shares'} variant and seed with another; "
            "such runs are averaged and count as one."
        )
    for cost in [name for name in done.columns if name.startswith("cost/")]:
        values = done.groupby("variant", sort=False)[cost].nunique()
        if (values > 1).any():
            found.append(
                f"{cost} differs between runs of one variant ({few([*values.index[values > 1]], LISTED)}): "
                "something varies that the variant's name does not tell."
            )
    return tuple(found)

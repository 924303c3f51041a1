"""A grid of several keys: the effect of each key and layer, and what two of them do together, paired by seed."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from stridelab.report import statistics
from stridelab.report.table import IDENTITY, per_draw

if TYPE_CHECKING:
    from stridelab.report.comparison import Comparison


def factors(comparison: Comparison) -> pd.DataFrame:
    """One row a variant that has a result, one column a swept key (a list over layers: a layer), values as text. Keys
    that never vary apart from each other are one column: `stride_2 and stride_3`."""
    runs = comparison.runs
    keys = [str(key) for key in runs.columns if key not in IDENTITY and "/" not in str(key)]
    keys = [key for key in keys if not _is_spelled_by_layer(key, keys)]
    measured = comparison.variants.loc[comparison.variants["n"] > 0, "variant"]
    first = runs.groupby("variant", sort=False)[keys].first().reindex(measured)
    levels = first.map(_text)
    merged: dict[tuple[int, ...], list[str]] = {}
    for key in keys:
        if levels[key].nunique() > 1:
            merged.setdefault(tuple(pd.factorize(levels[key])[0]), []).append(key)
    return pd.DataFrame({" and ".join(same): levels[same].agg(_same, axis=1) for same in merged.values()})


def _text(value: Any) -> str:
    return "-" if pd.isna(value) else f"{value:g}" if isinstance(value, float) else str(value)


def _is_spelled_by_layer(key: str, keys: Sequence[str]) -> bool:
    return any(re.fullmatch(rf"{re.escape(key.removesuffix('s'))}_[0-9]+", other) for other in keys)


def _same(values: pd.Series) -> str:
    return str(values.iloc[0]) if values.nunique() == 1 else "/".join(values)


def effects(comparison: Comparison) -> pd.DataFrame:
    """Least squares on the grid, for each seed: columns kind (main, interaction), factors, effect (in words), n, mean,
    low, high (Student's, 95 %), p, p_corrected (over all effects), verdict; empty where there is no grid.

    A main effect is what a level changes against the baseline's, the other keys held; an interaction, what two such
    changes do together beyond their sum, where a variant has both. A seed counts whose finished runs suffice for all
    effects of a kind; a kind that no seed suffices for is left out.
    """
    table = factors(comparison)
    if not (main := _main_terms(table, comparison.baseline)):
        return pd.DataFrame()
    pairs = [pair for pair in itertools.combinations(main, 2) if pair[0][0] != pair[1][0] and _occurs(table, pair)]
    terms: list[tuple[tuple[str, str], ...]] = [(term,) for term in main]
    draws, together = (_draws(comparison, table, some) for some in (terms, [*terms, *pairs]))
    if np.isfinite(together).any():
        draws, terms = np.hstack([draws, together[:, len(terms) :]]), [*terms, *pairs]
    return _summed_up(draws, terms, comparison) if np.isfinite(draws).any() else pd.DataFrame()


def _occurs(table: pd.DataFrame, term: Sequence[tuple[str, str]]) -> bool:
    return bool(np.logical_and.reduce([table[key] == level for key, level in term]).any())


def is_grid(comparison: Comparison) -> bool:
    """Whether `effects` has any, without computing them."""
    return bool(_main_terms(factors(comparison), comparison.baseline))


def _main_terms(table: pd.DataFrame, baseline: str) -> list[tuple[str, str]]:
    """Key and level; empty where the variants are no grid of two keys or more whose effects can be told apart."""
    if table.shape[1] < 2 or baseline not in table.index:
        return []
    reference = table.loc[baseline]
    keys = map(str, table.columns)
    main = [(key, str(level)) for key in keys for level in table[key].unique() if level != reference[key]]
    told_apart = len(main) + 1 < len(table) and _estimable(_design(table, [(term,) for term in main]))
    return main if told_apart else []


def _design(table: pd.DataFrame, terms: Sequence[tuple[tuple[str, str], ...]]) -> Any:
    """Variants x (1 + terms): 1 where a variant has all levels of the term."""
    columns = [np.logical_and.reduce([table[key] == level for key, level in term]) for term in terms]
    return np.column_stack([np.ones(len(table)), *columns]).astype(float)


def _estimable(design: Any) -> bool:
    """Every effect can be told from the others."""
    return bool(design.shape[0] >= design.shape[1] and np.linalg.matrix_rank(design) == design.shape[1])


def _draws(comparison: Comparison, table: pd.DataFrame, terms: Sequence[tuple[tuple[str, str], ...]]) -> Any:
    """Seeds x terms."""
    design = _design(table, terms)
    scores = per_draw(comparison.runs)[comparison.metric].unstack("draw").reindex(table.index)
    found = []
    for values in scores.to_numpy(dtype=float).T:
        there = np.isfinite(values)
        if np.linalg.matrix_rank(design[there]) == design.shape[1]:
            found.append(np.linalg.lstsq(design[there], values[there], rcond=None)[0][1:])
        else:
            found.append(np.full(len(terms), np.nan))
    return np.array(found)


def _summed_up(draws: Any, terms: Sequence[tuple[tuple[str, str], ...]], comparison: Comparison) -> pd.DataFrame:
    d = [column[np.isfinite(column)] for column in draws.T]
    n = [len(values) for values in d]
    mean = np.array([values.mean() for values in d])
    half = statistics.half_width([values.std(ddof=1) if len(values) > 1 else np.nan for values in d], n=n)
    few = np.array(n) < statistics.seeds_needed(len(d))
    p = np.array([statistics.sign_flip_p(values) for values in d])
    corrected = np.minimum(statistics.corrected(p) * (1 + len(comparison.earlier)), 1.0)
    p[few] = corrected[few] = np.nan
    return pd.DataFrame(
        {
            "kind": ["main" if len(term) == 1 else "interaction" for term in terms],
            "factors": [" with ".join(key for key, _ in term) for term in terms],
            "effect": [" with ".join(f"{key} = {level}" for key, level in term) for term in terms],
            "n": n,
            "mean": mean,
            "low": mean - half,
            "high": mean + half,
            "p": p,
            "p_corrected": corrected,
            "verdict": statistics.verdicts(corrected, p_equivalent=np.full(len(d), np.nan), n=n),
        }
    )

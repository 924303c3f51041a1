"""What a sweep says, in plain words and no stronger than its seeds allow."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from stridelab.names import Metric
from stridelab.report import statistics
from stridelab.text import human, plural

if TYPE_CHECKING:
    from stridelab.report.comparison import Comparison

SHARE = Metric("share", "")
NAMED = 7
"""Variants that the summary speaks of one by one; the table has all."""


def points(difference: float, *, decimals: int = 1) -> str:
    """A difference of shares (0 to 1) in percentage points, signed: -1.2.

    >>> points(-0.0123), points(0.0004), points(0.0004, decimals=2)
    ('-1.2', '0.0', '+0.04')
    """
    text = f"{100 * difference:+.{decimals}f}"
    return text if float(text) else text[1:]


def decimals_for(low: float, high: float) -> int:
    """One, or two where the interval is narrower than 0.2 points."""
    return 2 if high - low < 0.002 else 1  # NaN: one


def change(difference: float, metric: Metric, *, decimals: int = 1) -> str:
    """A signed difference as it is shown: of shares in points, else in the metric's unit."""
    if not math.isfinite(difference):
        return "-"
    if metric.is_share:
        return points(difference, decimals=decimals)
    size = human(abs(difference))
    return size if not difference else f"{'-' if difference < 0 else '+'}{size}"


def interval_text(mean: float, low: float, high: float, metric: Metric = SHARE) -> str:
    """-1.2 [-2.0, -0.4] points; without an interval (one seed) the mean alone."""
    decimals = decimals_for(low, high)
    ends = [change(end, metric, decimals=decimals) for end in (low, high) if math.isfinite(end)]
    return f"{change(mean, metric, decimals=decimals)}{f' [{ends[0]}, {ends[1]}]' if ends else ''}"


def value_text(mean: float, sd: float, metric: Metric = SHARE) -> str:
    """91.20 +- 0.31, with the sign for it, in the shown unit; without a spread (one seed) the mean alone."""
    if math.isnan(mean):
        return "-"
    mean_text, sd_text = (f"{100 * value:.2f}" if metric.is_share else human(value) for value in (mean, sd))
    return mean_text if math.isnan(sd) else f"{mean_text} \u00b1 {sd_text}"


def runs_text(row: Mapping[str, Any]) -> str:
    """Seeds with a finished run: 2, or 1 of 2 runs when one did not finish."""
    n, missing = int(row["n"]), int(row["not_finished"])
    return f"{n} of {n + missing}" if missing else str(n)


def p_text(p: float) -> str:
    return "p<0.001" if p < 0.001 else f"p={p:.2g}" if p < 0.1 else f"p={p:.2f}"


def seeds_text(counts: Iterable[int]) -> str:
    """2, or 1 to 3."""
    known = [int(count) for count in counts if count > 0] or [0]
    return str(known[0]) if min(known) == max(known) else f"{min(known)} to {max(known)}"


def times(ratio: float) -> str:
    """0.064x, 0.25x, 1.00x, 9.5x, 120x."""
    if not math.isfinite(ratio):
        return "-"
    if ratio < 2:
        return f"{ratio:#.2g}x" if ratio < 0.1 else f"{ratio:.2f}x"
    return f"{ratio:.1f}x" if ratio < 20 else f"{ratio:,.0f}x"


def cost_words(macs: float, *, baseline: float) -> str:
    """`needs 4.0x fewer MACs than`, to be followed by the baseline's name; "" when either is unknown."""
    if not (math.isfinite(macs) and math.isfinite(baseline) and macs > 0 and baseline > 0):
        return ""
    if macs == baseline:
        return "needs exactly as many MACs as"
    if macs < baseline:
        return f"needs {times(baseline / macs)} fewer MACs than"
    return f"needs {times(macs / baseline)} as many MACs as"


def outcome_words(row: Mapping[str, Any], comparison: Comparison) -> str:
    """`is 1.2 points less accurate than`, to be followed by the baseline's name; "" when it is unknown."""
    mean, metric = row["difference_mean"], comparison.measure
    if not math.isfinite(mean):
        return ""
    size = change(abs(mean), metric, decimals=decimals_for(row["difference_low"], row["difference_high"])).lstrip("+")
    none = not mean or float(size) == 0 if metric.is_share else not mean
    if comparison.metric_text.endswith("accuracy"):
        if none:
            return "is as accurate as"
        return f"is {size} point{'' if size == '1.0' else 's'} {'more' if mean > 0 else 'less'} accurate than"
    unit = "points" if metric.is_share else metric.shown_unit
    level = "the same" if none else f"{f'{size} {unit}'.strip()} {'more' if mean > 0 else 'less'}"
    return f"has {level} {comparison.metric_text} {'as' if none else 'than'}"


def certainty(row: Mapping[str, Any], comparison: Comparison) -> str:
    """The interval, the seeds, and what may be concluded."""
    n, verdict = int(row["difference_seeds"]), row["difference_verdict"]
    if verdict == statistics.UNPAIRED:
        return "no finished seed in common, so they are not compared"
    low, high = row["difference_low"], row["difference_high"]
    low_text, high_text = (change(end, comparison.measure, decimals=decimals_for(low, high)) for end in (low, high))
    found = f"95 % interval {low_text} to {high_text}, " if math.isfinite(low) else ""
    found += f"n = {plural(n, 'seed')}"
    if verdict == statistics.TOO_FEW:
        return f"{found}: too few to call it significant"
    p = f"{p_text(row['difference_p_holm']).replace('=', ' = ').replace('<', ' < ')}"
    corrected = " after Holm's correction" if num_comparisons(comparison) > 1 else ""
    conclusion = "the difference is significant" if verdict == statistics.DIFFERS else "within noise"
    return f"{found}, {p}{corrected}: {conclusion}"


def num_comparisons(comparison: Comparison) -> int:
    """Variants that share a finished seed with the baseline."""
    return int((comparison.variants["difference_seeds"] > 0).sum())


def sentence(row: Mapping[str, Any], comparison: Comparison) -> str:
    """One variant against the baseline."""
    if int(row["n"]) == 0:
        return f"{row['variant']} has no finished run."
    baseline = comparison.by_variant[comparison.baseline]
    cost = cost_words(row.get("cost/macs", math.nan), baseline=baseline.get("cost/macs", math.nan))
    outcome, how_sure = outcome_words(row, comparison), certainty(row, comparison)
    if cost and outcome:
        return f"{row['variant']} {cost} {comparison.baseline} and {outcome.rpartition(' ')[0]} ({how_sure})."
    if outcome or cost:
        return f"{row['variant']} {outcome or cost} {comparison.baseline} ({how_sure})."
    return f"{row['variant']}: {how_sure}."


def overview(comparison: Comparison) -> str:
    """How many variants, seeds and runs; what did not finish."""
    runs = comparison.runs
    states = runs["status"].value_counts()
    done = int(states.get("finished", 0))
    others = [f"{states[state]:,} {state}" for state in states.index if state != "finished"]
    variants = comparison.variants
    text = f"{plural(len(variants), 'variant')}, {plural(len(runs), 'run')}"
    if others:
        return f"{text}: {done:,} finished, {', '.join(others)}."
    return f"{text}, all finished (n = {seeds_text(variants['n'])} a variant)."


def best(comparison: Comparison) -> str:
    """The best variant, by its mean."""
    mean, metric = f"{comparison.metric}_mean", comparison.measure
    known = [row for row in comparison.by_variant.values() if not math.isnan(row[mean])]
    if not known:
        return "No run finished with an accuracy, so there is nothing to compare."
    top = max(known, key=lambda row: metric.sign * row[mean])
    most = "Highest" if metric.sign > 0 else "Lowest"
    value = f"{100 * top[mean]:.1f} %" if metric.is_share else f"{human(top[mean])} {metric.unit}".strip()
    return f"{most} mean {comparison.metric_text}: {top['variant']}, {value}{spread_text(top, comparison)}."


def spread_text(row: Mapping[str, Any], comparison: Comparison) -> str:
    low, high = row[f"{comparison.metric}_low"], row[f"{comparison.metric}_high"]
    seeds = f"n = {plural(int(row['n']), 'seed')}"
    if not math.isfinite(low):
        return f" ({seeds})"
    share = comparison.measure.is_share
    low_text, high_text = (f"{100 * end:.1f}" if share else human(end) for end in (low, high))
    return f" (95 % interval {low_text} to {high_text}, {seeds})"


@dataclass(frozen=True)
class Summary:
    """Sentences."""

    opening: tuple[str, ...]
    """What was run, and what came out on top."""
    variants: tuple[str, ...]
    """Each variant against the baseline."""
    closing: tuple[str, ...]
    """What the seeds allow to say, and the control check."""


def summary(comparison: Comparison) -> Summary:
    """The sweep in sentences: what was run, what differs and how sure, whether the control check passed."""
    table, rows = comparison.variants, comparison.by_variant
    named = [name for name in comparison.shown(NAMED + 1) if name != comparison.baseline]
    if table[f"{comparison.metric}_mean"].isna().all():
        named = []
    closing = []
    if (table["difference_verdict"] == statistics.TOO_FEW).any():
        closing.append(needed(num_comparisons(comparison)))
    if named and len(table) > len(named) + 1:
        closing.append(tally(table, comparison, said=len(named) + 1))
    return Summary(
        opening=(overview(comparison), *comparison.warnings, best(comparison)),
        variants=tuple(sentence(rows[name], comparison) for name in named),
        closing=(*closing, comparison.controls.sentence, *comparison.controls.caveats),
    )


def needed(comparisons: int) -> str:
    """How many seeds a verdict would take."""
    family = f"With {comparisons} comparisons (Holm), a" if comparisons > 1 else "A"
    seeds = statistics.seeds_needed(comparisons)
    return f"{family} paired sign-flip test needs at least {seeds} seeds to reach p < 0.05."


def tally(table: pd.DataFrame, comparison: Comparison, *, said: int) -> str:
    verdicts = table.loc[table["variant"] != comparison.baseline, "difference_verdict"].value_counts()
    said_of = {
        statistics.DIFFERS: "differ significantly",
        statistics.NOISE: "are within noise",
        statistics.TOO_FEW: "have too few seeds to say",
        statistics.UNPAIRED: "share no finished seed with it",
    }
    counts = ", ".join(f"{count:,} {said_of[str(verdict)]}" for verdict, count in verdicts.items())
    return f"{said} of {len(table):,} variants are named here. Against {comparison.baseline}, {counts}."

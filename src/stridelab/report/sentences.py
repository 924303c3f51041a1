"""What a sweep says, in plain words and no stronger than its seeds allow."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from stridelab.report import statistics

if TYPE_CHECKING:
    from stridelab.report.comparison import Comparison

NAMED = 7
"""Variants that the summary speaks of one by one; the table has all."""


def points(difference: float, *, decimals: int = 1) -> str:
    """A difference of accuracies (0 to 1) in percentage points, signed: -1.2.

    >>> points(-0.0123), points(0.0004), points(0.0004, decimals=2)
    ('-1.2', '0.0', '+0.04')
    """
    text = f"{100 * difference:+.{decimals}f}"
    return text if float(text) else text[1:]


def decimals_for(low: float, high: float) -> int:
    """One, or two where the interval is narrower than 0.2 points."""
    return 2 if high - low < 0.002 else 1  # NaN: one


def interval_text(mean: float, low: float, high: float) -> str:
    """-1.2 [-2.0, -0.4] points; without an interval (one seed) the mean alone."""
    decimals = decimals_for(low, high)
    ends = [points(end, decimals=decimals) for end in (low, high) if math.isfinite(end)]
    return f"{points(mean, decimals=decimals)}{f' [{ends[0]}, {ends[1]}]' if ends else ''}"


def accuracy_text(mean: float, sd: float) -> str:
    """Both in percent: 91.20 +- 0.31 with the sign for it; without a spread (one seed) the mean alone."""
    if math.isnan(mean):
        return "-"
    return f"{mean:.2f}" if math.isnan(sd) else f"{mean:.2f} \u00b1 {sd:.2f}"


def runs_text(row: Mapping[str, Any]) -> str:
    """Seeds with a finished run: 2, or 1 of 2 runs when one did not finish."""
    n, missing = int(row["n"]), int(row["not_finished"])
    return f"{n} of {n + missing}" if missing else str(n)


def peak_memory_mib(row: Mapping[str, Any]) -> float:
    """Of the accelerator where there was one, else of the process."""
    device = float(row.get("memory/peak_device_mib_mean", math.nan))
    return float(row.get("memory/peak_rss_mib_mean", math.nan)) if math.isnan(device) else device


def p_text(p: float) -> str:
    return "p<0.001" if p < 0.001 else f"p={p:.2g}" if p < 0.1 else f"p={p:.2f}"


def seeds_text(counts: Iterable[int]) -> str:
    """2, or 1 to 3."""
    known = [int(count) for count in counts if count > 0] or [0]
    return str(known[0]) if min(known) == max(known) else f"{min(known)} to {max(known)}"


def count_text(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


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


def accuracy_words(row: Mapping[str, Any]) -> str:
    mean = row["difference_mean"]
    if not math.isfinite(mean):
        return ""
    size = points(abs(mean), decimals=decimals_for(row["difference_low"], row["difference_high"])).lstrip("+")
    if not float(size):
        return "is as accurate"
    return f"is {size} point{'' if size == '1.0' else 's'} {'more' if mean > 0 else 'less'} accurate"


def certainty(row: Mapping[str, Any], *, comparisons: int) -> str:
    """The interval, the seeds, and what may be concluded."""
    n, verdict = int(row["difference_seeds"]), row["difference_verdict"]
    if verdict == statistics.UNPAIRED:
        return "no finished seed in common, so accuracies are not compared"
    low, high = row["difference_low"], row["difference_high"]
    low_text, high_text = (points(end, decimals=decimals_for(low, high)) for end in (low, high))
    found = f"95 % interval {low_text} to {high_text}, " if math.isfinite(low) else ""
    found += f"n = {count_text(n, 'seed')}"
    if verdict == statistics.TOO_FEW:
        return f"{found}: too few to call it significant"
    p = f"{p_text(row['difference_p_holm']).replace('=', ' = ').replace('<', ' < ')}"
    corrected = " after Holm's correction" if comparisons > 1 else ""
    conclusion = "the difference is significant" if verdict == statistics.DIFFERS else "within noise"
    return f"{found}, {p}{corrected}: {conclusion}"


def sentence(row: Mapping[str, Any], *, baseline: Mapping[str, Any], comparisons: int) -> str:
    """One variant against the baseline."""
    name = baseline["variant"]
    cost = cost_words(row.get("cost/macs", math.nan), baseline=baseline.get("cost/macs", math.nan))
    accuracy = accuracy_words(row)
    than = "as" if accuracy.startswith("is as") else "than"
    how_sure = certainty(row, comparisons=comparisons)
    if int(row["n"]) == 0:
        return f"{row['variant']} has no finished run."
    if cost and accuracy:
        return f"{row['variant']} {cost} {name} and {accuracy} ({how_sure})."
    if accuracy:
        return f"{row['variant']} {accuracy} {than} {name} ({how_sure})."
    return f"{row['variant']} {cost} {name} ({how_sure})." if cost else f"{row['variant']}: {how_sure}."


def overview(comparison: Comparison) -> str:
    """How many variants, seeds and runs; what did not finish."""
    runs = comparison.runs
    states = runs["status"].value_counts()
    done = int(states.get("finished", 0))
    others = [f"{states[state]:,} {state}" for state in states.index if state != "finished"]
    variants = comparison.variants
    text = f"{count_text(len(variants), 'variant')}, {count_text(len(runs), 'run')}"
    if others:
        return f"{text}: {done:,} finished, {', '.join(others)}."
    return f"{text}, all finished (n = {seeds_text(variants['n'])} a variant)."


def best(comparison: Comparison) -> str:
    """The most accurate variant, by its mean."""
    mean = f"{comparison.metric}_mean"
    known = [row for row in comparison.by_variant.values() if not math.isnan(row[mean])]
    if not known:
        return "No run finished with an accuracy, so there is nothing to compare."
    top = max(known, key=lambda row: row[mean])
    spread = spread_text(top, comparison)
    return f"Highest mean {comparison.metric_text}: {top['variant']}, {100 * top[mean]:.1f} %{spread}."


def spread_text(row: Mapping[str, Any], comparison: Comparison) -> str:
    low, high = row[f"{comparison.metric}_low"], row[f"{comparison.metric}_high"]
    if not math.isfinite(low):
        return f" (n = {count_text(int(row['n']), 'seed')})"
    return f" (95 % interval {100 * low:.1f} to {100 * high:.1f}, n = {count_text(int(row['n']), 'seed')})"


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
    comparisons = int(table["difference_p"].notna().sum())
    named = [name for name in comparison.shown(NAMED + 1) if name != comparison.baseline]
    if table[f"{comparison.metric}_mean"].isna().all():
        named = []
    closing = []
    if (table["difference_verdict"] == statistics.TOO_FEW).any():
        closing.append(needed(comparisons))
    if named and len(table) > len(named) + 1:
        closing.append(tally(table, comparison, said=len(named) + 1))
    return Summary(
        opening=(overview(comparison), best(comparison)),
        variants=tuple(
            sentence(rows[name], baseline=rows[comparison.baseline], comparisons=comparisons) for name in named
        ),
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

"""What a sweep says, in plain words and no stronger than its seeds allow."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from stridelab.metrics import Metric
from stridelab.report import statistics
from stridelab.report.mistakes import image_error
from stridelab.text import human, plural

if TYPE_CHECKING:
    from stridelab.report.comparison import Comparison

SHARE = Metric("share", "")


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
    """-1.2 [-2.0, -0.4] points; without an interval (one seed) the mean alone; "in every seed" where all are equal."""
    decimals = decimals_for(low, high)
    if high - low <= statistics.NO_SPREAD:
        return f"{change(mean, metric, decimals=decimals)} in every seed"
    ends = [change(end, metric, decimals=decimals) for end in (low, high) if math.isfinite(end)]
    return f"{change(mean, metric, decimals=decimals)}{f' [{ends[0]}, {ends[1]}]' if ends else ''}"


def value_text(mean: float, sd: float, metric: Metric = SHARE) -> str:
    """91.20 +- 0.31, with the sign for it, in the shown unit; without a spread (one seed) the mean alone."""
    if math.isnan(mean):
        return "-"
    mean_text, sd_text = (f"{100 * value:.2f}" if metric.is_share else human(value) for value in (mean, sd))
    return mean_text if math.isnan(sd) else f"{mean_text} \u00b1 {sd_text}"


def score_text(row: Mapping[str, Any], comparison: Comparison) -> str:
    """Of a variant: what is compared, and its spread over seeds."""
    return value_text(row[f"{comparison.metric}_mean"], row[f"{comparison.metric}_sd"], comparison.measure)


def difference_text(row: Mapping[str, Any], metric: Metric) -> str:
    """Of a variant, to the baseline; empty where the two share no seed."""
    if not row["difference_seeds"]:
        return ""
    return interval_text(row["difference_mean"], row["difference_low"], row["difference_high"], metric)


def runs_text(row: Mapping[str, Any]) -> str:
    """Seeds with a finished run: 2, or 1 of 2 runs when one did not finish."""
    n, missing = int(row["n"]), int(row["not_finished"])
    return f"{n} of {n + missing}" if missing else str(n)


def p_text(p: float) -> str:
    return "p<0.001" if p < 0.001 else f"p={p:.2g}" if p < 0.1 else f"p={p:.2f}"


def verdict_text(row: Mapping[str, Any]) -> str:
    verdict, p = str(row["difference_verdict"]), row["difference_p_corrected"]
    if verdict == statistics.DIFFERS and row["difference_p_equivalent"] < statistics.ALPHA:
        verdict += ", within the margin"
    return f"{verdict} ({p_text(p)})" if p >= 0 else verdict


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


def margin_text(margin: float, metric: Metric) -> str:
    return f"{margin:g} {metric.difference_unit(margin)}".rstrip()


def equivalent_text(comparison: Comparison) -> str:
    return f"equivalent within \u00b1{margin_text(comparison.margin, comparison.measure)}"


def correction(comparison: Comparison) -> str:
    """How p was corrected, after it; empty for a single look at a single comparison."""
    count, looks = num_comparisons(comparison), len(comparison.earlier) + 1
    how = "Benjamini and Hochberg's" if statistics.is_screening(count) else "Holm's" if count > 1 else ""
    again = f"{looks} looks" if looks > 1 else ""
    return f" after {' and '.join(filter(None, (how, again)))} correction" if how or again else ""


def num_comparisons(comparison: Comparison) -> int:
    """Variants that share a finished seed with the baseline."""
    return int((comparison.variants["difference_seeds"] > 0).sum())


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
    return f"{text}, all finished (n = {seeds_text(comparison.seeds_trained)} a variant)."


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
    if high - low <= statistics.NO_SPREAD:
        return f" (in every seed, {seeds})"
    share = comparison.measure.is_share
    low_text, high_text = (f"{100 * end:.1f}" if share else human(end) for end in (low, high))
    return f" (95 % interval {low_text} to {high_text}, {seeds})"


def summary(comparison: Comparison) -> list[str]:
    """What was run, what the seeds allow to say, whether the control check passed; the tables say what was found."""
    few = (comparison.variants["difference_verdict"] == statistics.TOO_FEW).any()
    return [
        overview(comparison),
        *comparison.warnings,
        best(comparison),
        *looks_text(comparison),
        *([needed(num_comparisons(comparison))] if few else []),
        *strength(comparison),
        comparison.controls.sentence,
        *comparison.controls.caveats,
    ]


def needed(comparisons: int) -> str:
    """How many seeds a verdict would take."""
    how = "Benjamini and Hochberg" if statistics.is_screening(comparisons) else "Holm"
    family = f"With {comparisons} comparisons ({how}), a" if comparisons > 1 else "A"
    seeds = statistics.seeds_needed(comparisons)
    return f"{family} paired sign-flip test needs at least {seeds} seeds to reach p < 0.05."


def looks_text(comparison: Comparison) -> Iterator[str]:
    """That seeds were added after a report could have been decisive; that this is a screening."""
    if comparison.earlier:
        seen = " and ".join(map(str, comparison.earlier))
        yield (
            f"Seeds were added after a report with {seen} seeds a variant: p is multiplied by "
            f"{len(comparison.earlier) + 1}, the number of looks."
        )
    if statistics.is_screening(count := num_comparisons(comparison)):
        yield (
            f"{count} comparisons are a screening: of what is called different, 5 % may be false (Benjamini and "
            "Hochberg). Confirm a finding with fresh seeds."
        )


def strength(comparison: Comparison) -> Iterator[str]:
    """What the test could have found, what the test images leave open, and what pairing by seed bought."""
    rows = comparison.variants[comparison.variants["difference_seeds"] > 1]
    metric, n = comparison.measure, rows["difference_seeds"].max()
    spread = math.sqrt((rows["difference_sd"] ** 2).mean()) if len(rows) else math.nan
    if not spread > 0:
        return
    unit = f" {metric.difference_unit()}".rstrip()
    level = statistics.strictest_level(num_comparisons(comparison)) / (1 + len(comparison.earlier))
    size = statistics.detectable(int(n), level=level)
    if math.isfinite(size):
        found = change(size * spread, metric).lstrip("+")
        yield f"With {n} seeds and this spread, a difference of {found}{unit} would have been found 8 times in 10."
    elif n >= statistics.seeds_needed(num_comparisons(comparison)):
        yield f"With {n} seeds no difference that stands alone could have been found: only many at once."
    yield from image_noise(comparison)
    apart = math.sqrt((rows["difference_sd_unpaired"] ** 2).mean())
    low, high = rows["difference_correlation"].min(), rows["difference_correlation"].max()
    if n > 3 and math.isfinite(low):
        r = f"{low:.2f}" if low == high else f"{low:.2f} to {high:.2f}"
        paired, unpaired = (change(sd, metric, decimals=2).lstrip("+") for sd in (spread, apart))
        yield (
            f"Pairing by seed: the sd of the differences is {paired}{unit}, and {unpaired} were the seeds not shared "
            f"(correlation over seeds {r})."
        )


def image_noise(comparison: Comparison) -> Iterator[str]:
    """The error of accuracies that comes from the choice of test images, which no seed shows: of each image's share of
    seeds; where no predictions were kept, binomial, which is that of a single seed."""
    found, baseline = comparison.mistakes, comparison.baseline
    count = len(found.labels) if found else comparison.num_test_images  # fewer are tested where they are limited
    shares = comparison.variants[f"{comparison.metric}_mean"].dropna()
    if comparison.metric != "test/acc" or not count or not (shares * (1 - shares) > 0).any():
        return
    errors = [image_error(found, name) for name in comparison.names] if found else []
    errors = [one for one in errors if one > 0] or [math.sqrt((shares * (1 - shares)).max() / count)]
    apart = [image_error(found, name, baseline) for name in comparison.names if name != baseline] if found else []
    apart = [one for one in apart if one > 0]
    paired = f", and every difference one of up to {100 * max(apart):.2f}" if apart else ""
    yield (
        f"The {count:,} test images themselves are a sample: they give every accuracy a standard error of up to "
        f"{100 * max(errors):.2f} points{paired}, which is in no interval over seeds."
    )

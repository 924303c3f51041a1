"""What a sweep answers, in the order in which it is asked: the verdict, what to type next, what to choose."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stridelab import names
from stridelab.metrics import Metric
from stridelab.report import statistics
from stridelab.report.artifacts import read_json
from stridelab.report.differences import paired
from stridelab.report.provenance import command_text
from stridelab.report.sentences import change, equivalent_text, margin_text, num_comparisons, times
from stridelab.report.speed import column_of
from stridelab.text import duration, few, human, plural
from stridelab.tracking.status import DIVERGED, FINISHED, REFUSED

if TYPE_CHECKING:
    from stridelab.report.comparison import Comparison

WITHIN = 1.0
"""Points from the best within which the cheapest is looked for, where no `sweep.margin` says otherwise."""
BUDGETS = {"macs": "cost/macs", "ms": "latency/batch1_ms", "mib": "memory/peak_mib"}
"""`compare budget.<key>=` -> the cost that it limits."""
COSTS = {"cost/macs": "MACs", "throughput/train_images_per_s": "training speed", "memory/peak_mib": "peak memory"}
NAMED, MOST_LISTED = 3, 10
MOST_START_S = 60.0
"""From a sweep's start to its first run: libraries, data; more was a pause."""
AROUND_S = 15.0
"""Of a sweep on two cores, outside its own record: libraries before it, the report after it."""


def verdict(comparison: Comparison) -> str:
    """One line: what is decided against the baseline, and what is not."""
    rows = [row for row in comparison.by_variant.values() if row["difference_seeds"] > 0]
    if comparison.variants[f"{comparison.metric}_mean"].isna().all():
        return f"No run finished with {comparison.metric_text}: nothing to compare."
    if not rows:
        return "No other variant shares a finished seed with the baseline: nothing to compare."
    baseline = comparison.short(comparison.baseline)
    by_verdict = {kind: [r for r in rows if r["difference_verdict"] == kind] for kind in statistics.VERDICTS}
    undecided = sum(len(by_verdict[kind]) for kind in statistics.OPEN)
    if undecided == len(rows):
        if all(row["difference_verdict"] == statistics.TOO_FEW for row in rows):
            who = f"any of {len(rows)} variants" if len(rows) > 1 else comparison.short(rows[0]["variant"])
            return f"Undecided: too few seeds to tell {who} from {baseline}."
        who = f"of {len(rows)} variants" if len(rows) > 1 else f"of {comparison.short(rows[0]['variant'])}"
        return f"Undecided: a difference {who} from {baseline} may be chance."
    said = []
    if differ := by_verdict[statistics.DIFFERS]:
        ranked = sorted(differ, key=lambda row: -comparison.measure.sign * row["difference_mean"])
        listed = few([f"{comparison.short(r['variant'])} {_size(r, comparison.measure)}" for r in ranked], NAMED)
        verb = "differs" if len(ranked) == 1 else "differ"
        said.append(f"{len(ranked)} of {plural(len(rows), 'variant')} {verb} from {baseline}: {listed}")
    if same := by_verdict[statistics.EQUIVALENT]:
        listed = few([comparison.short(row["variant"]) for row in same], NAMED)
        verb = "is" if len(same) == 1 else "are"
        to = "" if differ else f" to {baseline}"
        said.append(f"{listed} {verb} {equivalent_text(comparison)}{to}")
    if undecided:
        said.append(f"{undecided} {'is' if undecided == 1 else 'are'} undecided")
    return f"{'Partly decided' if undecided else 'Decided'}: {'; '.join(said)}."


def _size(row: Mapping[str, Any], metric: Metric) -> str:
    return f"by {change(row['difference_mean'], metric)} {metric.difference_unit()}".rstrip()


def next_step(comparison: Comparison) -> tuple[str, str]:
    """The command that would decide what is undecided, and what it takes; ("", why not) where there is none; ("", "")
    where nothing is open."""
    rows = [row for row in comparison.by_variant.values() if row["difference_verdict"] in statistics.OPEN]
    if not rows:
        return "", ""
    wanted = {row["variant"]: seeds for row in rows if (seeds := _seeds_wanted(row, comparison))}
    if not wanted:
        if comparison.margin:
            size = margin_text(comparison.margin, comparison.measure)
            return "", f"Seeds scatter so widely that to tell {size} takes more than {statistics.MOST_SEEDS} of them."
        return "", (
            f"What is undecided is small for how seeds scatter: to find it takes more than {statistics.MOST_SEEDS} "
            "seeds. Say with sweep.margin= what does not matter, and ask for equivalence."
        )
    known = sorted({int(seed) for seed in comparison.runs["seed"].dropna()})
    ended = _ended(comparison)
    more = max(count - _can_share(name, known, comparison, ended) for name, count in wanted.items())
    fresh = [seed for seed in range(more + len(known)) if seed not in known][: max(more, 0)]
    possible = [name for name in comparison.names if REFUSED not in [ended.get((name, seed)) for seed in known]]
    runs = [(name, seed) for name in possible for seed in [*known, *fresh]]
    foreign = comparison.sweep.is_imported  # its runs stand for none of this machine's, nor its paths
    count = sum(foreign or ended.get(run) not in (FINISHED, DIVERGED) for run in runs)
    argv = read_json(comparison.sweep.run, names.PROVENANCE_FILE).get("argv") or []
    if not argv or not count:
        few = any(row["difference_verdict"] == statistics.TOO_FEW for row in rows)
        says = "are the fewest that can decide it" if few else "would decide it 8 times in 10"
        return "", f"{max(wanted.values())} seeds a variant {says}."
    left_out = ("seed=", "paths.", "tracking.") if foreign else "seed="
    words = [word for word in map(str, argv) if not word.startswith(left_out)]
    words.append(f"seed={_seeds_text([*known, *fresh])}")
    return command_text(words), f"{plural(count, 'run' if foreign else 'more run')}{_about(comparison, count)}"


def _ended(comparison: Comparison) -> dict[tuple[str, int], str]:
    """How the run of a variant and a seed ended, as far as it did."""
    runs = comparison.runs[["variant", "seed", "status"]].dropna()
    return {(name, int(seed)): status for name, seed, status in runs.itertuples(index=False)}


def _can_share(variant: str, seeds: Sequence[int], comparison: Comparison, ended: Mapping[tuple[str, int], str]) -> int:
    """How many seeds a variant has in common with the baseline once the sweep's command has tried again what failed:
    all but those of which either diverged, which it does again."""
    pairs = [(ended.get((variant, seed)), ended.get((comparison.baseline, seed))) for seed in seeds]
    return sum(not {DIVERGED, REFUSED} & set(pair) for pair in pairs)


def _seeds_text(seeds: Sequence[int]) -> str:
    """As one types them: 0,1,2; many in a row as Hydra's range."""
    if len(seeds) > MOST_LISTED and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"range({seeds[0]},{seeds[-1] + 1})"
    return ",".join(map(str, seeds))


def _seeds_wanted(row: Mapping[str, Any], comparison: Comparison) -> int | None:
    """Enough for a p below 0.05; where that is had, to find the margin, or the difference that was seen, in a report to
    which this one was an earlier look."""
    comparisons, now = num_comparisons(comparison), int(row["difference_seeds"])
    if row["difference_verdict"] == statistics.TOO_FEW:
        return statistics.seeds_needed(comparisons)
    level = statistics.strictest_level(comparisons) / (len(comparison.earlier) + 2)
    size = comparison.margin / comparison.measure.factor or abs(row["difference_mean"])
    found = statistics.seeds_to_find(size / row["difference_sd"], level=level) if row["difference_sd"] > 0 else None
    return max(found, now + 3) if found else None


def _about(comparison: Comparison, count: int) -> str:
    """Wall time by the clock of the sweep's runs: from its start to its first run, then as they followed each other."""
    timed = [run for run in comparison.sweep.runs if run.end_ms and run.is_finished]
    own = list(filter(comparison.sweep.has_trained, timed)) or timed
    if not own:
        return ""
    first = min(run.start_ms for run in own)
    span = (max(run.end_ms or 0 for run in own) - first) / len(own)
    alone = sum((run.end_ms or 0) - run.start_ms for run in own) / len(own)
    start = min(max(first - comparison.sweep.run.start_ms, 0) / 1000, MOST_START_S)
    seconds = start + count * min(span, alone) / 1000 + AROUND_S  # a span may hold a pause of hours
    rounded = 60 * math.ceil(seconds / 60) if seconds > 90 else 5 * math.ceil(seconds / 5)
    return f", about {duration(rounded).removesuffix(' 00 s')}"


def fits(row: Mapping[str, Any], comparison: Comparison) -> bool:
    """Whether a variant is within the budget; one whose cost is not known is not."""
    budget = (comparison.budget or {}).items()
    return all(row.get(column_of(comparison, BUDGETS[key]), math.inf) <= most for key, most in budget)


def budget_text(comparison: Comparison) -> str:
    return " and ".join(
        f"{human(most)} {key.replace('macs', 'MACs')}" for key, most in (comparison.budget or {}).items()
    )


def choice(comparison: Comparison) -> Iterator[str]:
    """The cheapest variant within a margin of the best, by each cost, and how sure it is that it lies within."""
    within = _within(comparison)
    if comparison.budget and not _affordable(comparison):
        yield f"No variant with a result is within {budget_text(comparison)}."
    best, cheapest = cheapest_near_best(comparison)
    if best is None:
        return
    chosen: dict[str, list[str]] = {}
    for cost, row in cheapest.items():
        column, sign = column_of(comparison, cost), -1 if cost.startswith("throughput") else 1
        ratio = best.get(column, math.nan) / row[column]
        factor = times(ratio if sign > 0 else 1 / ratio)
        words = " (by less than 1 %)" if factor == "1.00x" else f" ({factor} {'less' if sign > 0 else 'faster'})"
        chosen.setdefault(row["variant"], []).append(COSTS[cost] + ("" if row is best else words))
    limit = f" of those within {budget_text(comparison)}" if comparison.budget else ""
    around = f"within {margin_text(within, comparison.measure)} of the best{limit}, {comparison.short(best['variant'])}"
    if list(chosen) == [best["variant"]]:
        yield f"Nothing {around}, costs less by {', '.join(chosen[best['variant']])}."
        return
    found = "; ".join(
        f"by {' and '.join(labels)}: {comparison.short(name)}{_how_far(name, best['variant'], within, comparison)}"
        for name, labels in chosen.items()
    )
    yield f"Cheapest {around}: {found}."


def cheapest_near_best(comparison: Comparison) -> tuple[dict[str, Any] | None, dict[str, dict[str, Any]]]:
    """The best variant, and by each of COSTS that is known the cheapest within the margin of it, over the seeds that
    they share; None where there is nothing to choose between."""
    metric, mean, within = comparison.measure, f"{comparison.metric}_mean", _within(comparison)
    rows = _affordable(comparison)
    if len(rows) < 2 or not within:
        return None, {}
    best = max(rows, key=lambda row: metric.sign * row[mean])
    apart = paired(comparison.runs, metric=comparison.metric, baseline=best["variant"])
    behind = -metric.sign * apart.mean().fillna(comparison.variants.set_index("variant")[mean] - best[mean])
    near = [row for row in rows if behind[row["variant"]] <= within / metric.factor + statistics.NO_SPREAD]
    cheapest = {}
    for cost in COSTS:
        column, sign = column_of(comparison, cost), -1 if cost.startswith("throughput") else 1
        if known := [row for row in near if math.isfinite(row.get(column, math.nan))]:
            cheapest[cost] = min(known, key=lambda row: sign * row[column])
    return best, cheapest


def _within(comparison: Comparison) -> float:
    return comparison.margin or (WITHIN if comparison.measure.is_share else 0.0)


def _affordable(comparison: Comparison) -> list[dict[str, Any]]:
    mean = f"{comparison.metric}_mean"
    return [row for row in comparison.by_variant.values() if math.isfinite(row[mean]) and fits(row, comparison)]


def _how_far(variant: str, best: str, within: float, comparison: Comparison) -> str:
    """How far below the best, seed by seed, and the one-sided 95 % bound of that."""
    if variant == best:
        return " itself"
    metric = comparison.measure
    ahead = paired(comparison.runs, metric=comparison.metric, baseline=best)[variant].dropna()
    d = -metric.sign * metric.factor * ahead
    is_ahead = d.mean() < 0  # in the seeds that both have, of which the best is not the best of all
    where = "ahead in shared seeds" if is_ahead else "behind"
    size = " ".join(filter(None, (amount(abs(d.mean()), metric), metric.difference_unit(), where)))
    if len(d) < 2:
        return f", {size} with one seed" if len(d) else ""
    if (sd := float(d.std(ddof=1))) <= statistics.NO_SPREAD:
        p = float(statistics.equivalence_p(d.mean(), sd, n=len(d), margin=within))
        said = "so within it" if p < statistics.ALPHA else "too few to be sure"
        return f", {size} in each of {len(d)} seeds, {said}"
    bound = d.mean() + statistics.one_sided_width(sd, n=len(d))
    sure = "so within it" if bound <= within else "so it may lie outside"
    most = f"{amount(bound, metric)}{' behind' if is_ahead else ''}"
    return f", {size} and at most {most} (one-sided 95 %, n = {len(d)}), {sure}"


def amount(shown: float, metric: Metric) -> str:
    return f"{shown:.2f}" if metric.is_share else human(shown)


def order_of(comparison: Comparison) -> list[str]:
    """The variants, best first; without a result, last."""
    score = -comparison.measure.sign * comparison.variants[f"{comparison.metric}_mean"].to_numpy(dtype=float)
    return [comparison.names[i] for i in np.argsort(score, kind="stable")]

"""The first screen: verdict, what to type next, what to choose."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import unescape
from typing import Any

import numpy as np
import pytest
import scipy.stats

from report_sweeps import ARGV, Fake, grid, sweep_of
from stridelab import report
from stridelab.cli.compare import budget_of
from stridelab.config import expand
from stridelab.report import statistics
from stridelab.report.answer import choice, fits, next_step, order_of, verdict
from stridelab.report.chart import chart_data
from stridelab.report.comparison import Comparison, compare
from stridelab.report.paper import methods
from stridelab.report.sentences import best, interval_text, summary


def of(shifts: Sequence[float], *, seeds: int, sd: float = 0.002, margin: float | None = None) -> Comparison:
    own = np.random.default_rng(5).normal(0, sd, (len(shifts), seeds))
    own -= own.mean(axis=1, keepdims=True)
    strides = ("1-1-1", "1-2-2", "2-2-1", "2-2-2")
    return compare(
        sweep_of(
            [
                Fake(strides[i], seed, 0.9 + shift + own[i, seed], config={"sweep": {"margin": margin}})
                for i, shift in enumerate(shifts)
                for seed in range(seeds)
            ]
        )
    )


@pytest.fixture(scope="module")
def two_seeds() -> Comparison:
    return compare(sweep_of(grid()))


@pytest.fixture(scope="module")
def eight_seeds() -> Comparison:
    return of([0, -0.007, -0.02], seeds=8)


def test_too_few_seeds_get_the_very_command_that_decides(two_seeds: Comparison) -> None:
    assert verdict(two_seeds) == "Undecided: too few seeds to tell any of 2 variants from 1-1-1."
    command, takes = next_step(two_seeds)
    assert command == f"python train.py -m '{ARGV[2]}' seed=0,1,2,3,4,5,6"
    assert takes.startswith("15 more runs, about ")


def test_of_an_imported_sweep_no_run_counts_as_one_of_this_machine() -> None:
    sweep = sweep_of(grid())
    imported = replace(sweep, tags={**sweep.tags, "stridelab.imported": "a" * 64})
    assert next_step(compare(imported))[1].startswith("21 runs, about ")


@pytest.mark.parametrize(
    ("begins_s", "lasts_s", "said"),
    [
        ((4, 4, 14, 14, 24, 24), 10, "2 min"),  # two at once, 5 s a run: 4 + 15 * 5 and 15 s around it
        ((4, 5, 6, 9000, 9001, 9002), 1, "35 s"),  # interrupted for hours: 4 + 15 * 1 and 15 s
    ],
)
def test_more_runs_take_as_long_as_these_did_by_the_clock(
    two_seeds: Comparison, begins_s: tuple[int, ...], lasts_s: int, said: str
) -> None:
    sweep = two_seeds.sweep
    start = sweep.run.start_ms
    runs = [
        replace(run, start_ms=start + 1000 * begin, end_ms=start + 1000 * (begin + lasts_s))
        for run, begin in zip(sweep.runs, begins_s, strict=True)
    ]
    timed = replace(two_seeds, sweep=replace(sweep, runs=tuple(runs)))
    assert next_step(timed)[1] == f"15 more runs, about {said}"


def test_what_differs_is_named_by_how_much_it_is_better(eight_seeds: Comparison) -> None:
    said = verdict(eight_seeds)
    assert said == "Decided: 2 of 2 variants differ from 1-1-1: 1-2-2 by -0.7 points, 2-2-1 by -2.0 points."
    assert next_step(eight_seeds) == ("", "")


def test_three_verdicts_in_one_line() -> None:
    comparison = of([0, 0.0001, -0.02, 0.0045], seeds=8, sd=0.005, margin=1.0)
    assert verdict(comparison) == (
        "Partly decided: 1 of 3 variants differs from 1-1-1: 2-2-1 by -2.0 points; "
        "1-2-2 is equivalent within \u00b11 point; 1 is undecided."
    )
    command, _ = next_step(comparison)
    words = shlex.split(command)
    seeds = [job.config.seed for job in expand(words[words.index("-m") + 1 :]) if job.config]
    assert "'seed=range(0," in command
    assert set(seeds) == set(range(max(seeds) + 1))


@pytest.mark.parametrize(
    ("ended", "last_seed", "runs"),
    [
        ("failed", 7, 5),  # which the same command tries again: seven seeds are there then
        ("diverged", 11, 4 * 3),  # which it does not: four seeds more, of three variants
    ],
)
def test_the_next_command_counts_what_failed_and_what_diverged(ended: str, last_seed: int, runs: int) -> None:
    own = np.random.default_rng(3).normal(0, 0.002, (3, 8))
    lost = {"failure": "no luck", "tags": {"stridelab.status": ended}}
    fakes = [
        Fake(strides, seed, 0.9 + own[row, seed], **(lost if (strides, seed > 2) == ("2-2-1", True) else {}))
        for row, strides in enumerate(("1-1-1", "1-2-2", "2-2-1"))
        for seed in range(8)
    ]
    comparison = compare(sweep_of(fakes))
    open_rows = [row["difference_verdict"] for row in comparison.by_variant.values()]
    assert open_rows == ["baseline", "undecided", "too few seeds"]
    command, takes = next_step(comparison)
    words = shlex.split(command)
    seeds = {job.config.seed for job in expand(words[words.index("-m") + 1 :]) if job.config}
    assert seeds == set(range(last_seed + 1))
    assert takes.startswith(f"{runs} more runs, ")


def test_seeds_are_asked_for_at_the_level_that_they_are_judged_at() -> None:
    own = np.random.default_rng(4).normal(0, 0.002, 8)
    own += 0.001 - own.mean()
    fakes = [
        Fake(s, seed, 0.9 + shift) for s, d in (("1-1-1", 0 * own), ("1-2-2", own)) for seed, shift in enumerate(d)
    ]
    sweep = sweep_of(fakes)
    for earlier in ((), (6,), (6, 7)):
        command, _ = next_step(compare(sweep, earlier=earlier))
        words = shlex.split(command)
        count = len({job.config.seed for job in expand(words[words.index("-m") + 1 :]) if job.config})
        size = 0.001 / own.std(ddof=1)
        level = 0.05 / (len(earlier) + 2)  # the next report's looks: the earlier ones, this one, itself
        bound = scipy.stats.t.ppf(1 - level / 2, count - 1)
        power = scipy.stats.nct.sf(bound, count - 1, size * np.sqrt(count))
        assert 0.79 < power < 0.85, (earlier, count)
    found = 100 * own.std(ddof=1) * statistics.detectable(8, level=0.05 / 3)
    said = " ".join(summary(compare(sweep, earlier=(6, 7))))
    assert f"With 8 seeds and this spread, a difference of {found:.1f} points would have been found" in said


def test_what_no_number_of_seeds_would_find_is_not_asked_for() -> None:
    command, why = next_step(of([0, 0.0001], seeds=6, sd=0.01))
    assert command == ""
    assert "more than 50 seeds" in why
    assert "sweep.margin=" in why


def test_the_cheapest_near_the_best_and_how_sure(eight_seeds: Comparison) -> None:
    (said,) = choice(eight_seeds)
    runs = eight_seeds.runs.set_index(["variant", "seed"])["test/acc"]
    d = 100 * (runs["strides=1-1-1"] - runs["strides=1-2-2"])
    bound = d.mean() + scipy.stats.t.ppf(0.95, 7) * d.std(ddof=1) / np.sqrt(8)
    assert said.startswith("Cheapest within 1 point of the best, 1-1-1: by MACs (9.5x less) and training speed")
    assert f": 1-2-2, 0.70 points behind and at most {bound:.2f} (one-sided 95 %, n = 8), so within it." in said


def test_how_far_is_told_in_the_digits_of_its_unit(eight_seeds: Comparison) -> None:
    (said,) = choice(replace(compare(eight_seeds.sweep, metric="test/loss"), margin=1.0))
    assert ": 2-2-1, 0.0200 behind and at most 0.0212 (one-sided" in said


@pytest.mark.parametrize(
    ("seeds", "sure", "decided"),
    [
        (2, "too few to be sure", "Undecided: too few seeds to tell 1-2-2 from 1-1-1."),
        (4, "too few to be sure", "Undecided: too few seeds to tell 1-2-2 from 1-1-1."),
        (5, "so within it", "Decided: 1-2-2 is equivalent within \u00b11 point to 1-1-1."),
    ],
)
def test_equal_seeds_make_nothing_sure(seeds: int, sure: str, decided: str) -> None:
    """As on a dozen test images, all of them right: Student's interval would be a point."""
    comparison = of([0, 0], seeds=seeds, sd=0, margin=1.0)
    (said,) = choice(comparison)
    assert f": 1-2-2, 0.00 points behind in each of {seeds} seeds, {sure}." in said
    assert verdict(comparison) == decided
    row = comparison.by_variant["strides=1-2-2"]
    assert difference_of(row) == "0.00 in every seed"
    assert f"(in every seed, n = {seeds} seeds)" in best(comparison)


def difference_of(row: Mapping[str, Any]) -> str:
    return interval_text(row["difference_mean"], row["difference_low"], row["difference_high"])


def test_what_is_near_the_best_is_judged_by_the_seeds_that_both_have() -> None:
    fine = [Fake("1-1-1", 0, 0.93), Fake("1-1-1", 1, 0.932)]
    far = [Fake("2-2-2", seed, acc) for seed, acc in enumerate((0.91, 0.915, 0.935, 0.94, 0.94))]  # 0.928 in the mean
    assert choice_of([*fine, *far]).startswith("Nothing within 1 point of the best, 1-1-1, costs less")
    near = [Fake("2-2-2", seed, acc) for seed, acc in enumerate((0.931, 0.935, 0.92, 0.92, 0.92))]
    assert ": 2-2-2, 0.20 points ahead in shared seeds and at most 0.43 behind (one-sided" in choice_of([*fine, *near])


def choice_of(runs: Sequence[Fake]) -> str:
    (said,) = choice(compare(sweep_of(runs)))
    return said


def test_a_metric_of_fewer_seeds_says_so() -> None:
    probed = [
        Fake(strides, seed, 0.9, metrics={"probe/shift_consistency": 0.5 + 0.01 * seed} if seed < 2 else {})
        for strides in ("1-1-1", "1-2-2")
        for seed in range(4)
    ]
    assert best(compare(sweep_of(probed), metric="probe/shift_consistency")).endswith("n = 2 seeds).")


def test_where_nothing_near_the_best_is_cheaper_that_is_said() -> None:
    runs = [replace(fake, acc=0.9 if fake.strides == "2-2-1" else 0.5) for fake in grid(("1-1-1", "2-2-1"))]
    (said,) = choice(compare(sweep_of(runs)))
    assert said == "Nothing within 1 point of the best, 2-2-1, costs less by MACs, training speed, peak memory."


def test_a_budget_marks_what_fits_and_limits_the_choice() -> None:
    sweep = sweep_of(grid())
    comparison = compare(sweep, budget={"macs": 1.5e6})
    assert [fits(row, comparison) for row in comparison.by_variant.values()] == [False, False, True]
    assert "within budget" in report.show_answer(comparison).html
    (none,) = choice(compare(sweep, budget={"macs": 10, "ms": 1.0}))
    assert none == "No variant with a result is within 10 MACs and 1.00 ms."


def test_smaller_is_better_where_the_metric_says_so() -> None:
    runs = [replace(fake, metrics={"test/loss": 0.5 + 0.1 * fake.strides.count("2")}) for fake in grid()]
    comparison = compare(sweep_of(runs), metric="test/loss")
    assert order_of(comparison)[0] == "strides=1-1-1"


def test_names_are_short_only_where_they_stay_different() -> None:
    runs = grid(("1-1-1", "2-2-1"), seeds=(0,))
    runs = [replace(fake, name=f"strides={fake.strides} padding=valid lr=0.1") for fake in runs]
    assert compare(sweep_of(runs)).short("strides=2-2-1 padding=valid lr=0.1") == "2-2-1 valid lr=0.1"
    same = [replace(fake, name=f"{key}=1") for fake, key in zip(runs, ("strides", "padding"), strict=True)]
    assert compare(sweep_of(same)).short("padding=1") == "padding=1"


def test_the_page_can_compare_with_another_baseline_as_compare_itself_does(eight_seeds: Comparison) -> None:
    html = report.show_answer(eight_seeds).html
    data = json.loads(unescape(html.split("data-chart='")[1].split("'")[0]))
    assert data == json.loads(json.dumps(chart_data(eight_seeds)))
    other = compare(eight_seeds.sweep, baseline="strides=2-2-1")
    row = other.by_variant["strides=1-2-2"]
    difference, said = data["against"]["2-2-1"]["1-2-2"]
    assert difference.startswith(f"+{100 * row['difference_mean']:.1f} [")
    assert said == f"differs (p={row['difference_p_corrected']:.2g})"
    assert [len(one["seeds"]) for one in data["variants"]] == [8, 8, 8]


def test_a_budget_is_typed_with_or_without_a_unit() -> None:
    assert budget_of({"budget.macs": "5M", "budget.ms": "0.5"}) == {"macs": 5e6, "ms": 0.5}
    for text in ("lots", "-1", "M", "nan"):
        with pytest.raises(ValueError, match=r"budget.macs='.+' must be a number above 0, such as 500, 5e6 or 5M"):
            budget_of({"budget.macs": text})


def test_the_methods_speak_of_tests_only_where_variants_were_compared() -> None:
    alone, two = (methods(compare(sweep_of(grid(names, seeds=(0,))))) for names in (["1-1-1"], ["1-1-1", "2-2-2"]))
    assert alone.startswith("1 variant was trained with 1 seed each (")
    assert "Variants were compared" not in alone
    assert two.startswith("2 variants were trained with 1 seed each (")
    assert "Variants were compared with 1-1-1" in two
    assert "(p of 1 comparison, level 0.05)" in two


def test_the_methods_say_how_many_runs_did_not_finish() -> None:
    runs = [*grid(["1-1-1", "2-2-2"], seeds=(0, 1)), Fake("1-2-2", 0, 0.1, failure="out of luck")]
    assert "3 variants, 5 runs: 4 finished, 1 failed." in methods(compare(sweep_of(runs)))
    assert "finished" not in methods(compare(sweep_of(runs[:4])))


def test_what_costs_nearly_the_same_is_not_said_to_be_a_multiple() -> None:
    runs = [replace(run, metrics={**run.metrics, "memory/peak_rss_mib": mib}) for run, mib in zip(
        sweep_of([Fake("1-1-1", 0, 0.9), Fake("2-2-2", 0, 0.9)]).runs, (36.5, 36.4), strict=True
    )]  # fmt: skip
    (said,) = choice(compare(replace(sweep_of([Fake("1-1-1", 0, 0.9)]), runs=tuple(runs))))
    assert "peak memory (by less than 1 %)" in said

"""Statistics against scipy, brute force and their own definitions."""

from __future__ import annotations

import doctest
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from stridelab.report import statistics
from stridelab.report.statistics import half_width, holm, pareto, seeds_needed, sign_flip_p, verdicts

accuracies = st.integers(0, 2000).map(lambda hits: hits / 2000)
"""As a test split of 2,000 images gives them: full of ties."""
differences = st.lists(st.integers(-60, 60).map(lambda hits: hits / 2000), min_size=1, max_size=9)
p_values = st.lists(st.integers(0, 64).map(lambda k: k / 64), min_size=1, max_size=6)


@pytest.mark.parametrize("n", [2, 3, 5, 6, 10, 50])
def test_interval_is_student_s(n: int) -> None:
    values = np.random.default_rng(n).normal(0.9, 0.01, n)
    half = half_width(values.std(ddof=1), n=n)
    low, high = scipy.stats.t.interval(0.95, n - 1, loc=values.mean(), scale=scipy.stats.sem(values))
    np.testing.assert_allclose([values.mean() - half, values.mean() + half], [low, high], rtol=1e-12)


def test_interval_needs_two_values_and_works_on_columns() -> None:
    halves = half_width([np.nan, 0.1, 0.1], n=[1, 2, 0])
    assert np.isnan(halves[[0, 2]]).all()
    assert halves[1] == pytest.approx(12.7062047 * 0.1 / math.sqrt(2))


@given(differences)
@settings(max_examples=200, deadline=None)
def test_sign_flip_counts_every_pattern(values: list[float]) -> None:
    hits = [round(2000 * value) for value in values]  # integers: no rounding in the oracle
    patterns = [abs(sum(s * h for s, h in zip(signs, hits, strict=True))) for signs in _signs(len(hits))]
    assert sign_flip_p(values) == sum(found >= abs(sum(hits)) for found in patterns) / len(patterns)


def _signs(n: int) -> itertools.product[tuple[int, ...]]:
    return itertools.product((-1, 1), repeat=n)


@given(differences)
def test_sign_flip_cannot_fall_below_its_floor_and_ignores_sign_and_unit(values: list[float]) -> None:
    p = sign_flip_p(values)
    assert 2 / 2 ** len(values) <= p <= 1
    assert p == sign_flip_p([-value for value in values]) == sign_flip_p([100 * value for value in values])


def test_sign_flip_agrees_with_scipy() -> None:
    values = np.random.default_rng(3).normal(0.4, 1, 11)
    oracle = scipy.stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_p(values) == pytest.approx(oracle.pvalue, abs=1e-12)


def test_sign_flip_of_many_seeds_is_sampled_and_repeatable() -> None:
    values = np.random.default_rng(4).normal(0.35, 1, statistics.EXACT_SEEDS + 5)
    oracle = scipy.stats.ttest_1samp(values, 0).pvalue
    assert sign_flip_p(values) == sign_flip_p(values) == pytest.approx(oracle, abs=0.02)
    assert sign_flip_p(np.ones(40)) == pytest.approx(0.00001, abs=1e-6)  # never zero


def test_sign_flip_of_no_difference_is_one() -> None:
    assert sign_flip_p([0.0, 0.0, 0.0]) == 1.0


@given(p_values)
def test_holm_is_closed_testing_with_bonferroni(values: list[float]) -> None:
    """Adjusted p of a hypothesis: the greatest Bonferroni p of all sets of hypotheses that hold it."""
    everyone = range(len(values))
    sets = [s for size in everyone for s in itertools.combinations(everyone, size + 1)]
    oracle = [min(1.0, max(len(s) * min(values[j] for j in s) for s in sets if i in s)) for i in everyone]
    np.testing.assert_allclose(holm(values), oracle, atol=1e-12)


def test_holm_passes_over_what_was_not_tested() -> None:
    np.testing.assert_array_equal(holm([np.nan, 0.01, np.nan, 0.04]), [np.nan, 0.02, np.nan, 0.04])


@pytest.mark.parametrize("comparisons", [1, 2, 3, 7, 26, 499])
def test_seeds_needed_is_the_first_number_that_can_do(comparisons: int) -> None:
    def least_p(n: int) -> float:
        return float(statistics.corrected([2 / 2**n] * comparisons)[0])

    needed = seeds_needed(comparisons)
    assert least_p(needed) < 0.05 <= least_p(needed - 1)


def test_seeds_needed_of_one_comparison_is_six() -> None:
    assert seeds_needed(1) == 6
    assert sign_flip_p([0.01] * 5) > 0.05 > sign_flip_p([0.01] * 6)


def test_a_verdict_claims_no_more_than_the_seeds_allow() -> None:
    nothing = [np.nan] * 4
    assert verdicts([0.03, 0.3, 0.5, np.nan], p_equivalent=nothing, n=[9, 9, 3, 0]) == [
        statistics.DIFFERS,
        statistics.UNDECIDED,
        statistics.TOO_FEW,
        statistics.UNPAIRED,
    ]
    assert verdicts([0.5], p_equivalent=[np.nan], n=[5]) == [statistics.TOO_FEW]
    assert verdicts([0.5], p_equivalent=[0.2], n=[6]) == [statistics.UNDECIDED]
    found = verdicts([0.5, 0.5], p_equivalent=[np.nan] * 2, n=[6, 7])
    assert found == [statistics.TOO_FEW, statistics.UNDECIDED]  # two comparisons need seven
    assert verdicts([0.5, 0.01], p_equivalent=[0.01, 0.01], n=[5, 9]) == [statistics.EQUIVALENT, statistics.DIFFERS]


points = st.lists(
    st.tuples(accuracies, st.sampled_from([1.0, 2.0, 3.0, 5.0]), st.sampled_from([0.0, 0.01, 0.1, math.nan])),
    min_size=1,
    max_size=8,
)


@given(points)
def test_pareto_by_definition(variants: list[tuple[float, float, float]]) -> None:
    score, cost, half = (np.array(column) for column in zip(*variants, strict=True))
    found = pareto(score, cost=cost, low=score - half, high=score + half)
    for i, (mine, my_cost, my_half) in enumerate(variants):
        others = [other for j, other in enumerate(variants) if j != i and other[1] <= my_cost]
        beaten = [o for o in others if o[0] >= mine and (o[0] > mine or o[1] < my_cost)]
        clearly = [o for o in others if o[0] - o[2] > mine + my_half]
        assert found[i] == ("dominated" if clearly else "undecided" if beaten else "front")
    assert "front" in found


def test_pareto_does_not_call_dominated_what_the_seeds_leave_open() -> None:
    assert pareto([0.9, 0.8], cost=[1, 2], low=[0.85, 0.79], high=[0.95, 0.81]) == ["front", "dominated"]
    assert pareto([0.9, 0.8], cost=[1, 2], low=[0.75, 0.7], high=[1.05, 0.9]) == ["front", "undecided"]
    nothing = [math.nan, math.nan]
    assert pareto([0.9, 0.8], cost=[1, 2], low=nothing, high=nothing) == ["front", "undecided"]


def test_pareto_knows_nothing_of_a_variant_without_score_or_cost() -> None:
    found = pareto([0.9, math.nan, 0.7], cost=[math.nan, 1, 2], low=[0.8] * 3, high=[0.95] * 3)
    assert found == ["", "", "front"]


@given(p_values)
def test_benjamini_and_hochberg_agrees_with_scipy(values: list[float]) -> None:
    found = statistics.benjamini_hochberg([np.nan, *values])
    np.testing.assert_allclose(found[1:], scipy.stats.false_discovery_control(values), atol=1e-12)
    assert np.isnan(found[0])


def test_more_than_twenty_contrasts_are_a_screening() -> None:
    p = np.linspace(0.001, 0.9, 21)
    np.testing.assert_allclose(statistics.corrected(p), scipy.stats.false_discovery_control(p))
    np.testing.assert_allclose(statistics.corrected(p[:20]), holm(p[:20]))
    assert (seeds_needed(20), seeds_needed(21)) == (10, 6)


@pytest.mark.parametrize("margin", [0.5, 1.0, 3.0])
def test_equivalent_is_where_the_90_percent_interval_lies_within_the_margin(margin: float) -> None:
    rng = np.random.default_rng(1)
    for n in (2, 3, 6, 10):
        d = rng.normal(rng.normal(), 1, n)
        low, high = scipy.stats.t.interval(0.9, n - 1, d.mean(), scipy.stats.sem(d))
        p = float(statistics.equivalence_p(d.mean(), d.std(ddof=1), n=n, margin=margin))
        assert (p < 0.05) == (-margin < low and high < margin)
        tests = [
            scipy.stats.ttest_1samp(d, end, alternative=side).pvalue
            for end, side in ((-margin, "greater"), (margin, "less"))
        ]
        assert p == pytest.approx(max(tests), abs=1e-12)
    assert np.isnan(statistics.equivalence_p([0.1, 0.1], [0.1, np.nan], n=[6, 1], margin=0.0)).all()


DRAWS = 4000
"""Simulated sets of differences: shares of 5 % are known to 0.7 points, two standard errors."""


def p_of_rows(d: np.ndarray) -> np.ndarray:
    """The sign-flip test of each row, all patterns written out."""
    signs = np.array(list(_signs(d.shape[1])), dtype=float)
    far = np.abs(d @ signs.T)
    return (far >= np.abs(d.sum(axis=1, keepdims=True)) - 1e-9).mean(axis=1)


@pytest.mark.parametrize("n", [6, 7, 8])
def test_of_differences_that_are_none_five_in_a_hundred_are_called_different(n: int) -> None:
    """As often as the grid of possible p values allows, whatever the distribution, if it is symmetrical."""
    rng = np.random.default_rng(n)
    allowed = np.floor(0.05 * 2 ** (n - 1)) / 2 ** (n - 1)
    for d in (rng.normal(size=(DRAWS, n)), rng.standard_t(3, size=(DRAWS, n))):
        p = p_of_rows(d)
        assert p[0] == sign_flip_p(d[0])
        assert (p < 0.05).mean() == pytest.approx(allowed, abs=0.011)
        assert (p < 0.05).mean() < 0.061


def test_three_comparisons_with_one_baseline_together_err_in_five_of_a_hundred_claims() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(4, 2000, 8))
    p = np.array([p_of_rows(other - scores[0]) for other in scores[1:]])
    wrong = np.array([(holm(column) < 0.05).any() for column in p.T]).mean()
    assert wrong < 0.061


@pytest.mark.parametrize("n", [2, 5, 7, 10])
def test_95_of_100_intervals_hold_the_true_mean(n: int) -> None:
    d = np.random.default_rng(n).normal(0.3, 2, size=(DRAWS, n))
    half = half_width(d.std(axis=1, ddof=1), n=n)
    assert (np.abs(d.mean(axis=1) - 0.3) <= half).mean() == pytest.approx(0.95, abs=0.011)


def test_what_is_not_equivalent_is_called_so_in_five_of_a_hundred() -> None:
    d = np.random.default_rng(2).normal(1.0, 0.7, size=(DRAWS, 8))  # the margin itself
    p = statistics.equivalence_p(d.mean(axis=1), d.std(axis=1, ddof=1), n=8, margin=1.0)
    assert (p < 0.05).mean() == pytest.approx(0.05, abs=0.011)


@pytest.mark.parametrize("n", [6, 7, 8, 10])
def test_a_detectable_difference_is_found_eight_times_in_ten(n: int) -> None:
    d = np.random.default_rng(100 + n).normal(statistics.detectable(n), 1, size=(DRAWS, n))
    assert (p_of_rows(d) < 0.05).mean() == pytest.approx(0.8, abs=0.035)


def test_the_power_of_many_seeds_is_that_of_the_t_test() -> None:
    """Measured beforehand: 80 % power at alpha 0.05, 0.025 and 0.01, in sd of the differences."""
    for n, sizes in {10: (1.00, 1.14, 1.33), 15: (0.78, 0.88, 1.00), 30: (0.53, 0.59, 0.66)}.items():
        found = [statistics.detectable(n, level=level) for level in (0.05, 0.025, 0.01)]
        assert found == pytest.approx(sizes, abs=0.006)
    assert statistics.detectable(5) == statistics.detectable(6, level=0.025) == math.inf
    assert statistics.seeds_to_find(0.01) is None


def test_the_page_on_statistics_is_executed() -> None:
    page = Path(__file__).parents[1] / "docs" / "statistics.md"
    failed, tried = doctest.testfile(str(page), module_relative=False, encoding="utf-8")
    assert failed == 0
    assert tried > 12

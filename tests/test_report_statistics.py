"""Statistics against scipy, brute force and their own definitions."""

from __future__ import annotations

import itertools
import math

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
        return float(holm([2 / 2**n] * comparisons)[0])

    needed = seeds_needed(comparisons)
    assert least_p(needed) < 0.05 <= least_p(needed - 1)


def test_seeds_needed_of_one_comparison_is_six() -> None:
    assert seeds_needed(1) == 6
    assert sign_flip_p([0.01] * 5) > 0.05 > sign_flip_p([0.01] * 6)


def test_a_verdict_claims_no_more_than_the_seeds_allow() -> None:
    assert verdicts([0.03, 0.3, 0.5, np.nan], n=[9, 9, 3, 0]) == [
        statistics.DIFFERS,
        statistics.NOISE,
        statistics.TOO_FEW,
        statistics.UNPAIRED,
    ]
    assert verdicts([0.5], n=[5]) == [statistics.TOO_FEW]
    assert verdicts([0.5], n=[6]) == [statistics.NOISE]
    assert verdicts([0.5, 0.5], n=[6, 7]) == [statistics.TOO_FEW, statistics.NOISE]  # two comparisons need seven


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


@given(differences, st.sampled_from([0.05, 0.2, 0.01]))
@settings(max_examples=200, deadline=None)
def test_the_interval_holds_what_the_test_does_not_refuse_and_nothing_else(values: list[float], level: float) -> None:
    low, high = statistics.sign_flip_interval(values, level=level)
    if math.isnan(low):
        assert 2 / 2 ** len(values) > level  # no mean could ever be refused
        return
    assert (low <= 0 <= high) == (sign_flip_p(values) > level)
    for end, outside in ((low, low - 1e-6), (high, high + 1e-6)):
        at_end = np.round(np.array(values) - end, 12)  # a tie at the end is one, whatever its last bit
        assert sign_flip_p(at_end) > level >= sign_flip_p(np.array(values) - outside)


def test_the_interval_of_many_seeds_is_near_student_s() -> None:
    values = np.random.default_rng(0).normal(0.4, 1, 30)
    student = scipy.stats.t.interval(0.95, 29, values.mean(), scipy.stats.sem(values))
    np.testing.assert_allclose(statistics.sign_flip_interval(values, level=0.05), student, atol=0.02)


@given(p_values)
def test_a_p_is_below_its_level_of_holm_if_and_only_if_holm_refuses_it(values: list[float]) -> None:
    levels = statistics.holm_levels(values)
    assert [p < level for p, level in zip(values, levels, strict=True)] == [p < 0.05 for p in holm(values)]

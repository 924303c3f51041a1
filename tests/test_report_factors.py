"""The factor view, against marginal means and against designs written out by hand."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from report_sweeps import Fake, sweep_of
from stridelab import report
from stridelab.report.comparison import Comparison, compare
from stridelab.report.factors import effects, factors
from stridelab.report.figures import NothingToDraw, draw

PLANS = ["-".join(map(str, steps)) for steps in itertools.product((1, 2), repeat=3)]


def grid(truth: Callable[[str, str], float], *, seeds: int = 7, left_out: tuple[str, str] = ("", "")) -> Comparison:
    noise = np.random.default_rng(4).normal(0, 0.003, (len(PLANS), 2, seeds))
    runs = [
        Fake(plan, s, 0.9 + truth(plan, pad) + noise[i, j, s], padding=pad, name=f"strides={plan} padding={pad}",
             params={"padding": pad, "strides": plan, "alias": plan[0]})
        for i, plan in enumerate(PLANS) for j, pad in enumerate(("half", "valid")) for s in range(seeds)
        if (plan, pad) != left_out
    ]  # fmt: skip
    return compare(sweep_of(runs))


def valid_hurts_a_strided_first_layer(plan: str, pad: str) -> float:
    return -0.02 * (plan[0] == "2") - 0.01 * (plan[1] == "2") - 0.03 * (plan[0] == "2" and pad == "valid")


@pytest.fixture(scope="module")
def full() -> Comparison:
    return grid(valid_hurts_a_strided_first_layer)


def test_what_varies_is_one_column_a_key_and_layer_and_no_key_twice(full: Comparison) -> None:
    table = factors(full)
    assert list(table) == ["stride_1 and alias", "stride_2", "stride_3", "padding"]
    assert table.loc["strides=2-1-1 padding=valid"].tolist() == ["2", "1", "1", "valid"]


def test_on_a_full_grid_effects_are_differences_of_marginal_means(full: Comparison) -> None:
    found = effects(full).set_index("effect")
    table = full.runs.assign(first=full.runs["variant"].str[8], pad=full.runs["variant"].str[22:])
    first, pads = (table.groupby(["seed", key])["test/acc"].mean().unstack() for key in ("first", "pad"))
    for effect, d in (
        ("stride_1 and alias = 2", first["2"] - first["1"]),
        ("padding = valid", pads["valid"] - pads["half"]),
    ):
        assert found.loc[effect, "mean"] == pytest.approx(d.mean())
        interval = scipy.stats.t.interval(0.95, 6, d.mean(), scipy.stats.sem(d))
        assert found.loc[effect, ["low", "high"]].tolist() == pytest.approx(list(interval))
    cells = table.groupby(["seed", "first", "pad"])["test/acc"].mean().unstack(["first", "pad"])
    d = cells["2", "valid"] - cells["2", "half"] - cells["1", "valid"] + cells["1", "half"]
    assert found.loc["stride_1 and alias = 2 with padding = valid", "mean"] == pytest.approx(d.mean())
    assert found["kind"].tolist() == ["main"] * 4 + ["interaction"] * 6
    assert found.loc["stride_1 and alias = 2 with padding = valid", "mean"] == pytest.approx(-0.03, abs=0.005)


def test_a_grid_with_a_hole_is_solved_by_least_squares() -> None:
    """The design, term by term, and numpy's normal equations."""
    comparison = grid(valid_hurts_a_strided_first_layer, seeds=2, left_out=("2-2-2", "valid"))
    found = effects(comparison).set_index("effect")
    names = comparison.names
    main = np.array([[name[8 + 2 * layer] == "2" for layer in range(3)] + [name.endswith("valid")] for name in names])
    pairs = np.column_stack([main[:, a] & main[:, b] for a, b in itertools.combinations(range(4), 2)])
    scores = comparison.runs.pivot(index="variant", columns="seed", values="test/acc").loc[names].to_numpy()
    for columns, kind in ((main, "main"), (np.hstack([main, pairs]), "interaction")):
        x = np.column_stack([np.ones(len(names)), columns]).astype(float)
        solved = np.linalg.solve(x.T @ x, x.T @ scores).mean(axis=1)[1:]
        expected = solved[:4] if kind == "main" else solved[4:]
        np.testing.assert_allclose(found.loc[found["kind"] == kind, "mean"], expected, atol=1e-12)
    assert found["p"].isna().all()  # two seeds


@pytest.mark.parametrize(
    "lost", [{("2-2-2", "valid")}, {("1-1-1", "valid"), ("2-2-2", "valid")}], ids=["a cell", "a level"]
)
def test_variants_that_never_finish_take_no_effect_of_the_others_away(lost: set[tuple[str, str]]) -> None:
    noise = np.random.default_rng(3).normal(0, 0.003, (2, 3, 8))
    score = {
        (plan, pad, seed): 0.8 + 0.05 * i + 0.02 * i * (pad == "same") + noise[i, j, seed]
        for i, plan in enumerate(("1-1-1", "2-2-2"))
        for j, pad in enumerate(("half", "same", "valid"))
        for seed in range(8)
    }
    runs = [
        Fake(plan, seed, acc, padding=pad, name=f"strides={plan} padding={pad}",
             params={"padding": pad, "strides": plan}, failure="out of luck" if (plan, pad) in lost else "")
        for (plan, pad, seed), acc in score.items()
    ]  # fmt: skip
    found = effects(compare(sweep_of(runs)))
    by = found.set_index(["kind", "factors"])
    first = [score["2-2-2", "half", seed] - score["1-1-1", "half", seed] for seed in range(8)]
    second = [score["2-2-2", "same", seed] - score["1-1-1", "same", seed] for seed in range(8)]
    both = by.loc["interaction"].iloc[0]
    assert both["mean"] == pytest.approx(np.mean(second) - np.mean(first)), "its four cells are there"
    assert (found["n"] == 8).all()
    assert len(found) == (4 if len(lost) == 1 else 3)
    stride = by.loc["main"].iloc[0]
    assert stride["mean"] == pytest.approx((np.mean(first) + np.mean(second)) / 2)
    assert stride["p_corrected"] == pytest.approx(len(found) * 2 / 2**8)
    assert stride["verdict"] == "differs"


def test_an_effect_of_too_few_seeds_counts_in_the_correction_of_the_others() -> None:
    noise = np.random.default_rng(6).normal(0, 0.001, (2, 2, 7))
    runs = [
        Fake(plan, seed, 0.8 + 0.05 * i + 0.01 * j + noise[i, j, seed], padding=pad,
             name=f"strides={plan} padding={pad}", params={"padding": pad, "strides": plan},
             failure="out of luck" if (plan, pad, seed) == ("2-2-2", "same", 0) else "")
        for i, plan in enumerate(("1-1-1", "2-2-2")) for j, pad in enumerate(("half", "same")) for seed in range(7)
    ]  # fmt: skip
    found = effects(compare(sweep_of(runs)))
    assert found["n"].tolist() == [7, 7, 6]
    assert found["p"].tolist()[:2] == [2 / 2**7] * 2
    assert found["p_corrected"].tolist()[:2] == [3 * 2 / 2**7] * 2, "Holm over three effects"
    assert math.isnan(found["p"][2])
    assert found["verdict"].tolist() == ["differs", "differs", "too few seeds"]
    figure = draw(compare(sweep_of(runs)), "factor_effects")
    assert "(n = 6 to 7)" in " ".join(text.get_text() for text in figure.texts).replace("\n", " ")


def test_plans_that_are_no_grid_have_no_factor_view() -> None:
    runs = [Fake(plan, seed, 0.9) for plan in ("1-1-1", "1-2-2", "2-2-1") for seed in (0, 1)]
    comparison = compare(sweep_of(runs))
    assert effects(comparison).empty
    assert not report.FIGURES["factor_effects"].applies(comparison)
    with pytest.raises(NothingToDraw, match=r"no grid of two keys or more"):
        draw(comparison, "factor_effects")


def test_the_figure_shows_every_effect_and_the_cells_of_the_largest_interaction(full: Comparison) -> None:
    figure = draw(full, "factor_effects")
    forest, heat_map = figure.axes[0], figure.axes[1]
    dots = [float(line.get_xdata()[0]) for line in forest.lines if len(line.get_xdata()) == 1]
    assert sorted(dots) == pytest.approx(sorted(100 * effects(full)["mean"]))
    assert (heat_map.get_ylabel(), heat_map.get_xlabel()) == ("stride_1 and alias", "padding")
    table = full.runs.assign(first=full.runs["variant"].str[8], pad=full.runs["variant"].str[22:])
    cells = table.pivot_table(index="first", columns="pad", values="test/acc")
    np.testing.assert_allclose(np.asarray(heat_map.images[0].get_array()), cells)
    assert [text.get_text() for text in heat_map.texts] == [f"{100 * cell:.2f}" for cell in cells.to_numpy().flat]
    labels = [label.get_text().replace("\n", " ") for label in forest.get_yticklabels()]
    assert sorted(labels) == sorted(effects(full)["effect"]), "none is cut short"


def test_an_effect_that_is_there_is_found_and_one_that_is_not_is_not(full: Comparison) -> None:
    found = effects(full).set_index("effect")
    assert seeds_are_enough(found)
    assert found.loc["stride_1 and alias = 2", "mean"] == pytest.approx(-0.035, abs=0.003)
    assert abs(found.loc["stride_3 = 2", "mean"]) < 0.003
    assert report.FIGURES["factor_effects"].applies(full)


def seeds_are_enough(found: pd.DataFrame) -> bool:
    """Seven are too few for ten effects: no p."""
    return bool(found["p"].isna().all()) and math.isfinite(found["low"].iloc[0])

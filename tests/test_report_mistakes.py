"""What the variants get wrong, against counts made by hand."""

from __future__ import annotations

from copy import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from report_sweeps import LABELS, Fake, grid, sweep_of
from stridelab import report
from stridelab.report.comparison import Comparison, compare
from stridelab.report.mistakes import Mistakes, by_class, confusion, disagreements, image_error, taken_for


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return compare(sweep_of(grid(("1-1-1", "2-2-2"), seeds=range(3))))


def with_mistakes(comparison: Comparison, found: Mistakes) -> Comparison:
    made = copy(comparison)
    vars(made)["mistakes"] = found
    return made


def predictions(comparison: Comparison) -> dict[tuple[str, str], np.ndarray]:
    found = {}
    for run in comparison.sweep.runs:
        with np.load(run.artifact("predictions.npz")) as file:
            found[run.tags["stridelab.variant"], run.tags["stridelab.seed"]] = file["predicted"].astype(int)
    return found


def test_accuracy_by_class_and_its_paired_difference(comparison: Comparison) -> None:
    assert comparison.mistakes is not None
    table = by_class(comparison.mistakes, "strides=1-1-1").set_index(["variant", "class"])
    known = predictions(comparison)
    for number in (0, 7):
        there = number == LABELS
        right = {key: float((one[there] == number).mean()) for key, one in known.items()}
        d = np.array([right["strides=2-2-2", seed] - right["strides=1-1-1", seed] for seed in "012"])
        row = table.loc[("strides=2-2-2", f"class {number}")]
        assert row["difference"] == pytest.approx(d.mean())
        assert row["n"] == 3
        assert row["accuracy"] == pytest.approx(np.mean([right["strides=2-2-2", seed] for seed in "012"]))


def test_confusion_is_of_true_classes_and_over_all_seeds(comparison: Comparison) -> None:
    assert comparison.mistakes is not None
    table = confusion(comparison.mistakes, "strides=2-2-2")
    known = np.concatenate([one for (name, _), one in predictions(comparison).items() if name == "strides=2-2-2"])
    crossed = pd.crosstab(np.tile(LABELS, 3), known, normalize="index").to_numpy()
    np.testing.assert_allclose(table, crossed)
    np.testing.assert_allclose(table.sum(axis=1), 1)


def test_images_on_which_variants_disagree_come_first(comparison: Comparison) -> None:
    assert comparison.mistakes is not None
    known = predictions(comparison)
    share = {name: np.mean([known[name, seed] == LABELS for seed in "012"], axis=0) for name in comparison.names}
    apart = np.abs(np.subtract(*share.values()))
    found = disagreements(comparison.mistakes, 5)
    assert apart[found["image"].to_numpy()].tolist() == sorted(apart, reverse=True)[:5]
    page = report.show_disagreements(comparison)
    assert str(int(found["image"].iloc[0])) in page.text


def test_variants_that_are_right_on_the_same_images_disagree_on_none(comparison: Comparison) -> None:
    assert comparison.mistakes is not None
    same = dict.fromkeys(comparison.names, next(iter(comparison.mistakes.predicted.values())))
    agreed = replace(comparison.mistakes, predicted=same)
    assert disagreements(agreed, 5).empty
    assert report.show_disagreements(with_mistakes(comparison, agreed)).text.startswith("On every test image")


def test_an_image_is_taken_for_what_most_seeds_say() -> None:
    predicted = {"a": {seed: np.array([one]) for seed, one in zip("012", (1, 2, 2), strict=True)}}
    predicted |= {"b": {"0": np.array([0])}, "c": {seed: np.array([one]) for seed, one in (("0", 0), ("1", 2))}}
    found = Mistakes(np.array([0]), predicted, ("boot", "bag", "coat"))
    assert [taken_for(found, name, 0) for name in "abc"] == ["coat 2 of 3", "right", "right 1 of 2"]


def test_the_error_of_a_difference_from_the_test_images_is_mcnemar_s(comparison: Comparison) -> None:
    one = compare(sweep_of(grid(("1-1-1", "2-2-2"), seeds=(0,))))
    assert one.mistakes is not None
    a, b = (predictions(one)[name, "0"] == LABELS for name in one.names)
    p10, p01 = float((b & ~a).mean()), float((a & ~b).mean())
    expected = np.sqrt((p10 + p01 - (p10 - p01) ** 2) / len(LABELS))
    assert image_error(one.mistakes, one.names[1], one.names[0]) == pytest.approx(expected, rel=1e-3)


def test_the_error_of_an_accuracy_from_the_test_images_is_binomial_for_one_seed_and_smaller_for_their_mean(
    comparison: Comparison,
) -> None:
    name = comparison.names[0]
    seeds = predictions(comparison)
    right = np.array([seeds[name, seed] == LABELS for seed in sorted(seed for one, seed in seeds if one == name)])
    assert comparison.mistakes is not None
    assert image_error(comparison.mistakes, name) == pytest.approx(right.mean(axis=0).std(ddof=1) / len(LABELS) ** 0.5)
    share = right.mean()
    assert image_error(comparison.mistakes, name) < np.sqrt(share * (1 - share) / len(LABELS))
    one = replace(comparison.mistakes, predicted={name: {"0": seeds[name, "0"]}})
    share = right[0].mean()
    assert image_error(one, name) == pytest.approx(np.sqrt(share * (1 - share) / len(LABELS)), rel=1e-3)


def test_runs_without_predictions_have_no_such_section(comparison: Comparison) -> None:
    failed = compare(sweep_of([Fake("1-1-1", 0, 0.9, failure="stopped"), Fake("2-2-2", 0, 0.9, failure="stopped")]))
    assert failed.mistakes is None
    with pytest.raises(report.NothingToDraw, match="No finished run kept its predictions"):
        report.draw(failed, "class_accuracy")


def test_the_figure_names_every_class_and_difference(comparison: Comparison) -> None:
    figure = report.draw(comparison, "class_accuracy")
    assert comparison.mistakes is not None
    table = by_class(comparison.mistakes, "strides=1-1-1").set_index(["variant", "class"])["difference"]
    drawn = [text.get_text() for text in figure.axes[0].texts]
    assert drawn == [f"{100 * value:+.1f}" for value in table.loc["strides=2-2-2"]]


def test_the_figure_leaves_out_classes_without_test_images_and_variants_without_a_seed_of_the_baseline_s() -> None:
    one, other = np.array([0, 2, 2]), np.array([2, 2, 0])
    predicted = {"strides=1-1-1": {"0": one}, "strides=2-2-2": {"0": other}, "strides=1-2-2": {"9": other}}
    runs = [Fake(strides, 9 if strides == "1-2-2" else 0, 0.9) for strides in ("1-1-1", "2-2-2", "1-2-2")]
    found = Mistakes(np.array([0, 2, 2]), predicted, ("boot", "one", "coat"))
    figure = report.draw(with_mistakes(compare(sweep_of(runs)), found), "class_accuracy")
    assert [text.get_text() for text in figure.axes[0].texts] == ["-100.0", "-50.0"]
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["boot", "coat"]
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["2-2-2"]

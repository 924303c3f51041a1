"""The front of accuracy and cost: shares of bootstrap draws, and what a search tells."""

from __future__ import annotations

import re
import shlex
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from report_sweeps import Fake, record_sweep, shared_results, sweep_of
from stridelab import report
from stridelab.config import load
from stridelab.names import SEARCH_FILE
from stridelab.report import compare, front, front_tables
from stridelab.report.command import variant_words
from stridelab.report.comparison import Comparison


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    """2-2-2 is the cheapest, 1-1-1 the dearest; 1-2-2 is clearly beaten, 2-2-1 and 1-1-1 are close."""
    accuracy = {
        "2-2-2": [0.80, 0.81, 0.80],
        "2-2-1": [0.85, 0.84, 0.86],
        "1-2-2": [0.7, 0.7, 0.7],
        "1-1-1": [0.85, 0.86, 0.85],
    }
    return compare(sweep_of([Fake(s, seed, acc) for s, found in accuracy.items() for seed, acc in enumerate(found)]))


def test_a_variant_that_none_beats_is_on_the_front_in_every_draw(comparison: Comparison) -> None:
    table = front.front_table(comparison).set_index("variant")
    shares = table["on_front/cost/macs"]
    assert list(table.index) == [f"strides={s}" for s in ("2-2-2", "2-2-1", "1-2-2", "1-1-1")]
    assert shares.iloc[[0, 1, 2]].tolist() == [1.0, 1.0, 0.0]
    assert 0.1 < shares.iloc[3] < 0.9


def test_shares_are_those_of_all_resamples(comparison: Comparison) -> None:
    """Three seeds have 27 resamples: the exact share of those in which 1-1-1 beats 2-2-1."""
    dear, cheap = np.array([0.85, 0.86, 0.85]), np.array([0.85, 0.84, 0.86])
    rows = np.array(np.meshgrid(*[range(3)] * 3)).reshape(3, -1)
    exact = np.mean(dear[rows].mean(axis=0) > cheap[rows].mean(axis=0) + 1e-12)
    share = front.front_table(comparison).set_index("variant").loc["strides=1-1-1", "on_front/cost/macs"]
    assert share == pytest.approx(exact, abs=0.04)


def test_the_seeds_that_are_drawn_are_those_of_all_variants_together() -> None:
    runs = [Fake("1-1-1", seed, 0.8) for seed in (0, 1, 2)] + [Fake("2-2-2", seed, 0.7) for seed in (2, 3, 4)]
    assert "bootstrap draws of the 5 seeds" in front_tables.show_front(compare(sweep_of(runs))).html


def test_the_report_says_what_a_search_dropped_and_never_estimates_it(
    comparison: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    record: dict[str, Any] = {
        "search": "race", "fresh": False, "trials": 20, "epochs": 180, "exhaustive_epochs": 1458,
        "finalists": comparison.names,
        "dropped": [{"variant": "strides=3-3-3", "macs": 1, "when": "after 2 seeds: worse, p = 1e-5"}],
    }  # fmt: skip
    monkeypatch.setattr(front_tables, "read_json", lambda run, name: record if name == SEARCH_FILE else {})
    text = unescape(report.show_front(comparison).html)
    assert "Dropped after 2 seeds, and so not estimated: strides=3-3-3" in text
    assert "20 trainings of 180 epochs in all chose 4 variants" in text
    assert "a little high" in text
    record |= {"fresh": True, "final_epochs": 108}
    text = unescape(report.show_front(comparison).html)
    assert "winner's curse" in text
    assert "chose 4 variants, which took 108 epochs more with every seed; every plan with every seed would be" in text


SWEPT = {
    "a search": ["sweep.plans=strides in {1,2}, padding in {half,valid}", "search=halving", "search.keep=0.5"],
    "lists": ["model.strides=[1,1,1],[1,2,2],[2,2,2]", "model.padding=half,valid", "sweep.name=mine"],
}


@pytest.mark.parametrize("how", SWEPT)
def test_the_command_of_the_chosen_plan_trains_that_plan(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [
        Fake(strides, seed, acc, padding=padding, name=f"strides={strides} padding={padding}")
        for strides, padding, acc in (("1-1-1", "half", 0.85), ("1-2-2", "valid", 0.848), ("2-2-2", "valid", 0.7))
        for seed in (0, 1)
    ]
    argv = ["stridelab", "train", "-m", *SWEPT[how], "seed=0,1", "trainer.lr=0.1"]
    sweep = record_sweep(shared_results(), runs, name=f"chosen-{how[0]}", argv=argv, mirrored=False)[1]
    (tmp_path / "explorer.html").touch()
    monkeypatch.chdir(tmp_path)
    page = unescape(report.show_front(compare(sweep)).html)
    assert "To train the cheapest, 1-2-2 valid" in page
    assert "explorer.html#a=strides%3D1-2-2+padding%3Dvalid&compare=0&code=1" in page
    (command,) = re.findall("<code>(.*)</code>", page)
    program, verb, *words = shlex.split(command)
    assert (program, verb) == ("stridelab", "train")
    config: Any = load(words)
    assert config.model == runs[2].model
    assert (config.trainer.lr, config.sweep.plans, config.search.name) == (0.1, None, None)


def test_a_plan_of_a_file_of_one_s_own_is_trained_by_that_file() -> None:
    runs = [Fake("2-2-2", seed, 0.8, name="conv1.stride=2 width=8") for seed in (0, 1)]
    runs += [Fake("1-1-1", seed, 0.8, name="conv1.stride=default width=8") for seed in (0, 1)]
    argv = ["/somewhere/mine.py", "-m", "model=mine", "model.set.conv1.stride=1,2"]
    sweep = record_sweep(shared_results(), runs, name="chosen-own", argv=argv, mirrored=False)[1]
    assert variant_words(compare(sweep), runs[0].variant) == [], "its width is no key that its run knows"

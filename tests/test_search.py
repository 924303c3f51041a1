"""Searches: what they ask for, what they drop, that they stop, and that they find what is there."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stridelab
from stridelab.config.grid import grid_of
from stridelab.config.schema import SearchConfig
from stridelab.names import SEARCH_FILE
from stridelab.search import SEARCHES, Space, Step, Trial
from stridelab.search.race import t_test
from stridelab.search.search import Plans, run_search
from stridelab.search.space import Point
from tracking_stores import local_store

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def space_of(name: str, *, sides: tuple[int, ...] = (3, 3, 3), seeds: int = 3, **settings: Any) -> Space:
    """Plans whose MACs double with each coordinate's step."""
    axes = tuple(tuple(map(str, range(side))) for side in sides)
    points = list(itertools.product(*(range(side) for side in sides)))
    config = SearchConfig(name=name, **settings)
    return Space(axes, lambda point: 1000 * 2 ** sum(point), lambda: points, tuple(range(seeds)), 9, config)


def play(space: Space, score: Any, *, scores: Mapping[Trial, float] | None = None) -> tuple[Step, dict[Trial, float]]:
    """Answer every trial until the search ends."""
    known = dict(scores or {})
    for _ in range(10_000):
        step = SEARCHES[str(space.settings.name)](space, known)
        if not step.trials:
            return step, known
        assert not known.keys() & set(step.trials), "a trial is asked for once"
        known |= {trial: score(trial) for trial in step.trials}
    raise AssertionError("it never ends")


def noisy(trial: Trial) -> float:
    """More MACs and epochs are better; seeds scatter."""
    random = np.random.default_rng([*trial.point, trial.epochs, trial.seed])
    return float(sum(trial.point) + 0.1 * trial.epochs + 0.01 * random.standard_normal())


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_that_was_cut_off_goes_on_to_the_same_end(name: str) -> None:
    space = space_of(name, seeds=4, trials=12)
    whole, scores = play(space, noisy)
    for count in (1, len(scores) // 2, len(scores)):
        kept = sorted(scores, key=str)[:count]  # whatever of them is left
        again, known = play(space, noisy, scores={trial: scores[trial] for trial in kept})
        assert (again, known) == (whole, scores)


@pytest.mark.parametrize("name", SEARCHES)
def test_a_plan_that_diverges_is_given_up(name: str) -> None:
    space = space_of(name, trials=27)
    bad = (1, 1, 1)
    step, scores = play(space, lambda trial: -math.inf if trial.point == bad else noisy(trial))
    assert bad not in step.finalists
    assert len([trial for trial in scores if trial.point == bad]) <= 2
    assert step.dropped[bad].endswith(": diverged")


def test_halving_says_why_it_dropped_a_plan_that_diverged_alone_in_its_octave() -> None:
    space = space_of("halving")
    [bad] = [point for point in space.points if sum(point) == max(map(sum, space.points))]
    step, _ = play(space, lambda trial: -math.inf if trial.point == bad else noisy(trial))
    assert step.dropped[bad] == "after 1 epoch: diverged"
    assert {*step.dropped, *step.finalists} == {*space.points}


@pytest.mark.parametrize(("keep", "kept"), [(0.55, 11), (0.07, 2), (1 / 3, 7)])
def test_halving_keeps_the_share_that_was_asked_for(keep: float, kept: int) -> None:
    space = space_of("halving", sides=(20,), front=False, keep=keep)
    _, scores = play(space, noisy)
    assert len({trial.point for trial in scores if trial.epochs == 3}) == kept


def test_halving_takes_the_best_third_of_each_octave_up_the_rungs() -> None:
    space = space_of("halving")
    step, scores = play(space, noisy)
    octaves = [sum(point) for point in space.points]
    left = list(space.points)
    for epochs in (1, 3, 9):
        assert sorted(trial.point for trial in scores if trial.epochs == epochs) == sorted(left)
        best = {point: scores[Trial(point, epochs, space.settings.seed)] for point in left}
        left = [
            point
            for point in left
            if sum(best[other] > best[point] for other in left if sum(other) == sum(point))
            < math.ceil(sum(sum(other) == sum(point) for other in left) / 3)
        ]
    assert sorted(step.finalists) == sorted(left)
    assert {sum(point) for point in step.finalists} == set(octaves), "plain halving would drop the cheap ones"
    assert set(step.dropped) == set(space.points) - set(step.finalists)


def test_halving_of_108_plans_in_one_band_trains_252_epochs_of_972() -> None:
    space = space_of("halving", sides=(3, 3, 3, 4), front=False, keep=1 / 3)
    _, scores = play(space, noisy)
    longest: dict[Point, int] = {}
    for trial in scores:
        longest[trial.point] = max(longest.get(trial.point, 0), trial.epochs)
    assert len(space.points) == 108
    assert sum(longest.values()) == 252


def test_a_race_drops_what_is_worse_than_something_cheaper_and_keeps_the_front() -> None:
    space = space_of("race", sides=(9,), seeds=6)
    worth = [5, 1, 6, 2, 7, 3, 8, 4, 9]  # of plans that cost more and more

    def score(trial: Trial) -> float:
        return worth[trial.point[0]] + 0.1 * noisy(replace(trial, point=(0,), epochs=trial.point[0]))

    step, scores = play(space, score)
    assert step.finalists == ((0,), (2,), (4,), (6,), (8,))
    assert all(when.startswith("after 2 seeds: worse than a plan of no more MACs") for when in step.dropped.values())
    assert len(scores) == 5 * 6 + 4 * 2


def test_a_race_of_equals_drops_a_plan_no_more_often_than_it_says() -> None:
    """All plans are equal, so that dropping one is an error, whichever leads; of normal and of skewed scores."""
    random, races = np.random.default_rng(0), 60
    space = space_of("race", sides=(20,), seeds=5)
    draw = {"normal": random.standard_normal, "skewed": lambda size: random.exponential(size=size)}
    for kind, drawn in draw.items():
        lost = 0
        for scores in [drawn((20, 5)) for _ in range(races)]:
            step, _ = play(space, lambda trial, scores=scores: float(scores[trial.point[0], trial.seed]))
            lost += len(step.dropped)
        assert lost / (races * 20) <= space.settings.alpha, kind


def test_the_spread_of_two_plans_is_that_of_the_paired_t_test() -> None:
    from scipy.stats import ttest_rel

    table = np.random.default_rng(1).standard_normal((2, 6)) + np.array([[1.0], [0.0]])
    expected = ttest_rel(table[0], table[1], alternative="greater").pvalue
    assert t_test(table, [0, 0])[1] == pytest.approx(expected)


def test_optuna_trains_each_plan_once_and_none_outside_the_bounds() -> None:
    space = space_of("optuna", trials=20, batch=3)
    bounded = replace(space, price=lambda point: None if point[0] == 2 else 1000 * 2 ** sum(point))
    step, scores = play(bounded, noisy)
    points = [trial.point for trial in scores]
    assert len(points) == 18 == len(set(points)), "all that there are"
    assert not any(point[0] == 2 for point in points)
    values = {trial.point: value for trial, value in scores.items()}
    assert set(step.finalists) == {
        point
        for point in points
        if not any(values[other] > values[point] and sum(other) <= sum(point) for other in points)
    }


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("halving", {"rungs": [1, 20]}, r"a rung of 20 epochs is longer than trainer.max_epochs=9"),
        ("halving", {"seed": 1}, r"search.seed=1 is one of the sweep's seeds.*winner's curse"),
        ("optuna", {"seed": 2}, r"search.seed=2 is one of the sweep's seeds"),
        ("race", {"seeds": 2}, r"search=race with search.test=t needs at least 3 seeds for 27 plans, and seed= has 2"),
        ("race", {"seeds": 5, "test": "sign_flip"}, r"needs at least 11 seeds for 27 plans, and seed= has 5"),
    ],
)
def test_settings_that_cannot_do_are_refused_before_any_trial(name: str, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SEARCHES[name](space_of(name, **settings), {})


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("rungs", [3, 1], r"search.rungs=\[3, 1\] must be numbers of epochs that grow"),
        ("keep", 1.5, r"search.keep=1.5 must be above 0 and below 1"),
        ("alpha", 0.0, r"search.alpha=0.0 must be above 0"),
        ("test", "wilcox", r"search.test='wilcox' is not one of its choices; choose one of t, sign_flip"),
        ("trials", 0, r"search.trials=0 must be at least 1"),
    ],
)
def test_a_setting_says_what_it_takes(key: str, value: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SearchConfig(**{key: value})


def test_a_plan_is_a_point_with_a_coordinate_a_layer() -> None:
    plans = Plans(grid_of(["sweep.plans=strides in {1,2}, padding in {half,valid}", "seed=3,4"]))
    varied = [axis for axis in plans.axes if len(axis) > 1]
    assert len(varied) == 4, "three layers and a padding"
    spelled = set()
    for point in plans:
        config: Any = plans.config(point)
        spelled.add((config.model.strides, config.model.padding[0]))
    assert len(spelled) == 16


TINY = (
    "model.channels=2-2", "data.train_size=50", "data.val_size=50", "trainer.max_epochs=3", "trainer.lr=0.05",
    "trainer.schedule=constant", "trainer.limit_val_batches=1", "trainer.feature_map_images=0", "launcher=in_process",
    "sweep.report=false", "search.rungs=[1,3]",
)  # fmt: skip
IN_PYTHON: dict[str, Any] = {
    "channels": "2-2", "train_size": 50, "val_size": 50, "launcher": "in_process", "seeds": [0],
    "trainer": {
        "max_epochs": 3, "lr": 0.05, "schedule": "constant", "limit_val_batches": 1, "feature_map_images": 0,
    },
    "sweep": {"report": False, "plans": "strides in {1-1,2-2,3-3}, effective_stride>=4"},
    "search": "halving", "search.rungs": (1, 3), "search.keep": 0.4, "search.front": False,
}  # fmt: skip
"""What `arguments` says."""


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, template: Path) -> stridelab.Sweep:
    """A search by halving, of two plans, from Python."""
    results = tmp_path_factory.mktemp("halved") / "results"
    local_store(results, template)
    return stridelab.sweep(**IN_PYTHON, results=str(results))


@pytest.fixture(scope="module")
def halved(searched: stridelab.Sweep) -> Path:
    return searched.results


def arguments(results: Path, *more: str) -> list[str]:
    own = ["search=halving", "search.keep=0.4", "search.front=false", "seed=0", f"paths.results_dir={results}"]
    return [*TINY, "sweep.plans=strides in {1-1,2-2,3-3}, effective_stride>=4", *own, *more]


def results_of(results: Path) -> dict[str, dict[str, Any]]:
    return {path.parent.name: json.loads(path.read_text()) for path in results.glob("runs/*/result.json")}


def test_a_search_is_two_sweeps_and_says_what_it_dropped(searched: stridelab.Sweep, halved: Path) -> None:
    (final,) = [path for path in (halved / "sweeps").iterdir() if not path.name.endswith("-screening")]
    record = json.loads((final / SEARCH_FILE).read_text())
    assert final.name == searched.name
    assert final.name.endswith("-halving")
    assert (record["trials"], record["epochs"], record["exhaustive_epochs"]) == (3, 1 + 3, 2 * 3)
    assert record["final_epochs"] == 3, "of the one that was chosen"
    (best,), (dropped,) = record["finalists"], record["dropped"]
    assert {best, dropped["variant"]} == {"strides=2-2", "strides=3-3"}
    assert dropped["when"] == "after 1 epoch: 2 of 2 of all plans"
    assert list(searched.variants["variant"]) == [best]
    assert list(searched.runs["seed"]) == [0]


def test_a_rung_goes_on_from_the_checkpoint_and_ends_in_the_same_bits(halved: Path, tmp_path: Path) -> None:
    """Against the same configuration trained from its first step."""
    from stridelab.cli.train import start
    from stridelab.config import load

    rungs = {}
    for path in halved.glob("runs/*/config.json"):
        config = json.loads(path.read_text())
        if config["seed"] == 1000 and config["trainer"]["max_epochs"] == 3:
            rungs[path.parent] = config
    assert rungs
    folder, config = next(iter(rungs.items()))
    assert "stridelab.continued_from" in (folder / "journal.jsonl").read_text()
    strides = "-".join(str(pair[0]) for pair in config["model"]["strides"])
    alone = load([*TINY[:-1], f"model.strides={strides}", "seed=1000", f"paths.results_dir={tmp_path}"])
    assert start([alone], multirun=False) == 0
    ((signature, whole),) = results_of(tmp_path).items()
    continued = results_of(halved)[folder.name]
    assert signature == folder.name
    for key in ("weights_digest", "init_digest", "batch_order_digest"):
        assert continued[key] == whole[key]
    exact = [name for name in whole["metrics"] if name.startswith(("test/", "final/", "best/"))]
    assert {name: continued["metrics"][name] for name in exact} == {name: whole["metrics"][name] for name in exact}
    assert np.load(folder / "network.npz").files == np.load(tmp_path / "runs" / signature / "network.npz").files


def test_the_same_search_again_from_the_command_line_trains_nothing(halved: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in halved.glob("runs/*/result.json")}
    assert run_search(grid_of(arguments(halved))) == 0
    assert {path: path.stat().st_mtime_ns for path in halved.glob("runs/*/result.json")} == before


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("search.rungs=[1,30]",), r"a rung of 30 epochs is longer than trainer.max_epochs=3"),
        (("search.seed=0",), r"search.seed=0 is one of the sweep's seeds"),
        (("search.name=luck",), r"search=luck is not one of its choices; choose one of halving, race, optuna"),
        (("trainer.max_epochs=3,4",), r"trainer.max_epochs cannot differ between the plans of a search"),
    ],
)
def test_a_search_that_cannot_be_creates_nothing(tmp_path: Path, more: tuple[str, ...], said: str) -> None:
    given = [one for one in arguments(tmp_path / "none") if one.split("=")[0] not in {m.split("=")[0] for m in more}]
    with pytest.raises(ValueError, match=said):
        run_search(grid_of([*given, *more]))
    assert not list(tmp_path.iterdir())


def test_a_search_is_one_function_and_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The extension that CONTRIBUTING promises: plans in the order of the list, as many as search.trials."""

    def first_ones(space: Space, scores: Mapping[Trial, float]) -> Step:
        trials = tuple(Trial(point, 1, space.settings.seed) for point in space.points[: space.settings.trials])
        missing = tuple(trial for trial in trials if trial not in scores)
        return Step(missing, said="all at once") if missing else Step(finalists=tuple(trial.point for trial in trials))

    monkeypatch.setitem(SEARCHES, "first_ones", first_ones)
    step, scores = play(space_of("first_ones", trials=2), noisy)
    assert step.finalists == ((0, 0, 0), (0, 0, 1))
    assert len(scores) == 2
    preview = arguments(tmp_path / "none", "search.name=first_ones", "search.trials=1", "sweep.preview=true")
    assert run_search(grid_of(preview)) == 0
    assert not list(tmp_path.iterdir())

"""`sweep.plans`: spaces in words, their bounds, and what is refused."""

from __future__ import annotations

import io
import itertools
from typing import Any

import pytest
from rich.console import Console

from stridelab.cli import plan as plan_command
from stridelab.config import expand
from stridelab.config.grid import grid_of
from stridelab.config.plans import BOUNDS, parse_plans
from stridelab.geometry import totals
from stridelab.plan import examine
from stridelab.plan.space import FIGURES, rows_of
from stridelab.sweep.launchers.in_process import InProcessLauncher
from stridelab.sweep.sweep import carry_out


def spelled(text: str, *more: str) -> list[str]:
    return [row.name for row in rows_of(grid_of([f"sweep.plans={text}", *more]))]


def test_every_bound_has_its_figure() -> None:
    assert set(BOUNDS) == set(FIGURES)


def test_a_space_is_the_product_of_its_layers_and_settings() -> None:
    names = spelled("strides in {1,2,3}, padding in {half,valid}")
    strides = ("-".join(point) for point in itertools.product("123", repeat=3))
    assert sorted(names) == sorted(f"strides={s} padding={p}" for s in strides for p in ("half", "valid"))


@pytest.mark.parametrize(
    ("text", "more", "count"),
    [
        ("strides in {1,2}, padding in {half,valid,same,same_lower}", ("model.channels=4-4-4-4",), 62),
        ("strides in {1-2-2,2-2-1}, all kernel_sizes in {3,5}", (), 4),
        ("each padding in {half,valid}", (), 8),
        ("strides in {1,2}", ("model=resnet",), 8),
        ("conv1.stride in {1,2}, layer4.0.conv1.stride in {1,2}", ("model=torchvision",), 4),
        ("trainer.lr in {0.1,0.2}, strides in {1-2-2}", (), 2),
    ],
)
def test_what_a_key_spans(text: str, more: tuple[str, ...], count: int) -> None:
    assert len(spelled(text, *more)) == count


def test_bounds_leave_what_a_filter_of_all_plans_leaves() -> None:
    """Against arithmetic on each plan by itself."""
    jobs = list(expand(["sweep.plans=strides in {1,2,3}"]))
    expected = []
    for job in jobs:
        assert job.config is not None
        found = examine(job.config, keys=("model.strides",))
        assert found.layers is not None
        whole = totals(found.layers)
        assert whole.macs is not None
        assert whole.last_map is not None
        field, stride = max(whole.last_map.receptive_field or ()), max(whole.last_map.effective_stride or ())
        if whole.macs <= 1_500_000 and field >= 15 and stride in (4, 8):
            expected.append(found.name)
    assert expected == spelled("strides in {1,2,3}, macs<=1.5M, field>=15, effective_stride in {4,8}") != []


def test_a_larger_draw_holds_the_smaller_one_and_no_seed_changes_it() -> None:
    few, more = (spelled("strides in {1,2,3}", f"sweep.plans_keep={count}") for count in (5, 9))
    assert len(few) == 5
    assert set(few) < set(more)
    assert few == spelled("strides in {1,2,3}", "sweep.plans_keep=5", "seed=7")


def test_the_front_of_cost_and_geometry_is_what_no_other_plan_dominates() -> None:
    rows = list(rows_of(grid_of(["sweep.plans=strides in {1,2,3}"])))
    signs = {"macs": 1, "memory": 1, "field": -1, "effective_stride": 1}
    merits: dict[str, list[float]] = {}
    for row in rows:
        assert row.figures is not None
        merits[row.name] = [sign * (FIGURES[key](row.figures) or 0) for key, sign in signs.items()]
    front = [
        name
        for name, own in merits.items()
        if not any(other != own and all(x <= y for x, y in zip(other, own, strict=True)) for other in merits.values())
    ]
    assert spelled("strides in {1,2,3}", "sweep.plans_keep=pareto_cost") == front


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("strides in {1,2", r"cannot read"),
        ("strides of 1", r"conditions are KEY in \{A,B\} and BOUND<=NUMBER"),
        ("strides in {}", r"a set of values is"),
        ("stides in {1,2}", r"stides is neither a setting nor a bound. Did you mean strides\?"),
        ("strides<=2", r"a setting takes a set of values"),
        ("strides in {1,2}, macs<=many", r"'many' is not a number"),
        ("strides in {1,2}, strides in {3}", r"model.strides has two sets of values"),
        ("each strides in {1-2-2}", r"leave out `each`"),
        ("each head in {gap}", r"model.head has no value a layer"),
        ("strides in {1,2}, macs<=5k, field>=15", r"macs<=5k leaves out all of them, the nearest has"),
        ("strides in {3}, padding in {valid}, field>=1", r"none of its 1 plan is possible"),
    ],
)
def test_a_space_that_is_none_is_refused_in_one_sentence(text: str, said: str) -> None:
    more = ["model.channels=4-4-4-4-4"] if "is possible" in said else []
    with pytest.raises(ValueError, match=said):
        spelled(text, *more)


def test_a_key_is_given_once() -> None:
    with pytest.raises(ValueError, match=r"model.strides is given twice"):
        spelled("strides in {1,2}", "model.strides=1-2-2")


def test_plans_keep_is_a_word_or_a_number() -> None:
    with pytest.raises(ValueError, match=r"sweep.plans_keep=best must be all, pareto_cost or a number"):
        spelled("strides in {1,2}", "sweep.plans_keep=best")


def test_the_preview_of_a_space_creates_nothing_and_says_how_many_remain(tmp_path: Any) -> None:
    arguments = ["sweep.plans=strides in {1,2}, macs<=2M", "sweep.preview=true", f"paths.results_dir={tmp_path}/none"]
    configs = [job.config for job in expand(["seed=0,1", *arguments]) if job.config is not None]
    out = io.StringIO()
    assert carry_out(configs, InProcessLauncher(), Console(file=out, width=200), multirun=True, resend="") == 0
    assert "sweep.plans: 8 plans, macs<=2M leaves out 4; 4 within bounds, all kept." in out.getvalue()
    assert "8 to train" in out.getvalue()
    assert not list(tmp_path.iterdir())


def test_the_plan_command_says_it_beside_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan_command.plan(["sweep.plans=strides in {1,2}, macs<=2M", "format=csv"]) == 0
    found = capsys.readouterr()
    assert len(found.out.splitlines()) == 5
    assert "4 within bounds" in found.err


def test_numbers_have_units() -> None:
    assert parse_plans("macs<=0.5M").bounds[0].limits == (500_000.0,)

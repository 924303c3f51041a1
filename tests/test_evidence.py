"""The experiments that ship: their plans compose, their contrasts are right, and their page holds to its tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evidence import PAGE
from evidence.claims import CLAIMS, OVERFIT, SPAN, header, slope
from evidence.contrasts import (
    ABOVE,
    BELOW,
    CONTRADICTED,
    EQUAL,
    EQUIVALENT,
    MET,
    NOT_WORSE,
    UNDECIDED,
    Contrast,
    difference,
    draws,
    estimates,
    verdict,
)
from evidence.page import findings
from evidence.reference import tables
from stridelab.cli.train import start
from stridelab.config import Config, expand
from stridelab.config.variants import variant_name, varying_keys
from stridelab.plan import layer_plan_of

NAMES = [claim.experiment for claim in CLAIMS]


def configs(*overrides: str) -> list[Config]:
    return [job.config for job in expand(overrides) if job.config]


@pytest.mark.parametrize("claim", CLAIMS, ids=NAMES)
def test_the_arms_of_a_claim_are_the_variants_of_its_experiment(claim) -> None:
    grid = configs(f"experiment={claim.experiment}")
    keys = varying_keys(grid)
    assert {variant_name(config, keys) for config in grid} == set(claim.arms.values())
    seeds = {config.seed for config in grid}
    assert len(seeds) in (1, 7, 8)
    assert len(grid) == len(claim.arms) * len(seeds)
    planned = header(claim.experiment)["planned"]
    assert planned.startswith(f"n = {len(seeds)}") or f"n = {len(seeds)} " in planned or len(seeds) == 1
    assert all(term[1] in claim.arms for contrast in claim.contrasts for term in contrast.terms)


@pytest.mark.parametrize("name", NAMES)
def test_every_arm_can_be_built_and_has_a_twin_where_one_is_promised(name: str) -> None:
    for config in configs(f"experiment={name}", "seed=0"):
        layer_plan_of(config)
    twin = header(name).get("twin", "").split()[2:]
    twins = [layer_plan_of(config) for config in configs(*twin, "seed=0")] if twin else []
    assert all(plan.input_size == (32, 32) for plan in twins)


def test_the_narrow_arm_has_the_macs_of_the_one_that_it_stands_against() -> None:
    from stridelab.geometry import measure, totals

    arms = [configs("experiment=early_late", f"arm=early_late/{arm}", "seed=0")[0] for arm in ("2-1-1", "narrow")]
    macs = [totals(measure(layer_plan_of(config))).macs for config in arms]
    assert macs[0] == pytest.approx(macs[1], rel=1e-4)


@pytest.mark.parametrize("name", ["tiny_objects", "texture_shape", "pooling", "shift"])
def test_an_experiment_runs_at_its_smoke_size(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = [] if name in ("tiny_objects", "texture_shape") else ["data=fashion_mnist_mini"]
    grid = configs(f"experiment={name}", "debug=smoke", "seed=0", f"paths.results_dir={tmp_path}", *data)
    embedded = [config for config in grid if config.data.name != "animals"]  # those would be fetched
    assert start(embedded[-1:], multirun=False) == 0
    assert "error" not in capsys.readouterr().err
    said = next(tmp_path.rglob("journal.jsonl")).read_text()
    assert all(f'"probe/{probe}"' in said for probe in grid[0].probes)


def runs_of(**arms: list[float]) -> pd.DataFrame:
    rows = [
        {"variant": arm, "seed": seed, "status": "finished", "test/acc": value}
        for arm, values in arms.items()
        for seed, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


SEEDS = np.array([0.0, 0.002, -0.002, 0.001, -0.001, 0.003, -0.003])
BASE = 0.8 + SEEDS


@pytest.mark.parametrize(
    ("shift", "claimed", "margin", "expected"),
    [
        (0.02, ABOVE, 0.5, MET),
        (-0.02, ABOVE, 0.5, CONTRADICTED),
        (-0.02, BELOW, 0.5, MET),
        (0.0, ABOVE, 0.5, EQUIVALENT),
        (0.0, ABOVE, 0.05, UNDECIDED),
        (0.0, EQUAL, 0.5, MET),
        (0.02, EQUAL, 0.5, CONTRADICTED),
        (0.0, EQUAL, 0.05, UNDECIDED),
        (0.02, NOT_WORSE, 0.5, MET),
        (0.0, NOT_WORSE, 0.05, UNDECIDED),
        (-0.02, NOT_WORSE, 0.5, CONTRADICTED),
    ],
)
def test_an_outcome_is_what_the_seeds_say_of_the_claim(shift, claimed, margin, expected) -> None:
    wobble = np.array([1, -1, 1, -1, 1, -1, 0]) * 0.001
    runs = runs_of(base=list(BASE), other=list(BASE + shift + wobble))
    contrast = difference("other", "base", claimed=claimed, margin=margin)
    (row,) = estimates([contrast], runs, {"base": "base", "other": "other"}).to_dict("records")
    assert row["outcome"] == expected
    assert row["mean"] == pytest.approx(100 * shift)


def test_what_is_claimed_of_every_seed_needs_every_seed() -> None:
    runs = runs_of(base=[0.8] * 8, other=[0.85, 0.85, 0.85, 0.85, 0.85, 0.85, 0.85, 0.7999])
    arms = {"base": "base", "other": "other"}
    for every, expected in ((False, MET), (True, UNDECIDED)):
        table = estimates([difference("other", "base", every_seed=every)], runs, arms)
        assert table["outcome"].item() == expected


def test_corrections_are_within_a_family_and_only_those_that_decide_make_the_verdict() -> None:
    runs = runs_of(base=list(BASE), other=list(BASE + 0.02))
    arms = {"base": "base", "other": "other"}
    up, down = difference("other", "base"), difference("base", "other")
    alone = difference("other", "base", family="alone")
    table = estimates([up, up, alone], runs, arms)
    assert table["p_holm"].tolist() == [2 * 2 / 2**7, 2 * 2 / 2**7, 2 / 2**7]
    assert verdict(table) == "supported"
    beside = difference("base", "other", decides=False)
    assert verdict(estimates([up, beside], runs, arms)) == "supported"
    assert verdict(estimates([up, down], runs, arms)) == "not supported"


def test_the_slope_of_the_gap_is_least_squares() -> None:
    random = np.random.default_rng(0)
    rows = [
        {"variant": variant, "seed": 0, "status": "finished", "test/acc": a, "final/train_acc": b}
        for variant, (a, b) in zip(OVERFIT.values(), random.random((6, 2)), strict=True)
    ]
    runs = pd.DataFrame(rows)
    found = draws(Contrast("slope", slope("fine")), runs, OVERFIT).item()
    of = runs.set_index("variant")
    sizes = [450, 1800, 7200]
    gaps = [of.loc[OVERFIT[f"fine {n}"], "final/train_acc"] - of.loc[OVERFIT[f"fine {n}"], "test/acc"] for n in sizes]
    assert found == pytest.approx(100 * np.polyfit(np.log10(sizes), gaps, 1)[0])
    assert pytest.approx(np.log10(16)) == SPAN


def test_every_number_of_the_page_is_that_of_the_tables() -> None:
    assert PAGE.read_text(encoding="utf-8") == findings()


def test_a_table_holds_all_seeds_of_all_arms() -> None:
    for claim in CLAIMS:
        if found := tables(claim.experiment):
            counts = found[0].loc[found[0]["status"] == "finished", "variant"].value_counts()
            assert set(counts.index) == set(claim.arms.values())
            assert counts.nunique() == 1, claim.experiment

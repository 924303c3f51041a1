"""Arguments become a grid whose names are known beforehand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stridelab.config import Config, expand, load
from stridelab.config.compose import Choice, composed, converted, fits
from stridelab.config.errors import hint
from stridelab.config.grid import grid_of
from stridelab.config.schema import schema_of
from stridelab.config.variants import variant_name, varying_keys
from stridelab.plan.space import rows_of

VALUES = st.recursive(
    st.one_of(
        st.integers(-9, 9), st.booleans(), st.floats(-1, 1), st.sampled_from(["a", "1", "???", "${seed}", "true"])
    ),
    lambda entries: st.lists(entries, max_size=3),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["seed", "force", "ckpt_path", "model.head", "model.strides", "trainer.lr", "tags"]), VALUES)
def test_a_value_is_left_as_it_is_only_where_omegaconf_would_leave_it(key: str, value: object) -> None:
    if fits(value, hint(key, schema_of("cnn"))):
        found = converted(composed(()), Choice(key, str(value), value), Config)
        assert (type(found), found) == (type(value), value)


AXES = {
    "model.strides": ["[1,1,1]", "2", "[[1,2],1,1]"],
    "model.padding": ["same", "valid", "1", "[same,valid,2]"],
    "model.head": ["gap", "flatten"],
    "data": ["fashion_mnist_mini", "cifar10", "mnist"],
    "trainer": ["cpu", "gpu"],
    "trainer.batch_size": ["16", "32"],
    "ckpt_path": ["'a'", "'b'"],
    "seed": ["0", "1", "2"],
}
GRIDS = st.lists(st.sampled_from(list(AXES)), unique=True, max_size=4).flatmap(
    lambda keys: st.fixed_dictionaries(
        {key: st.lists(st.sampled_from(AXES[key]), min_size=1, max_size=3, unique=True) for key in keys}
    )
)


@settings(max_examples=60, deadline=None)
@given(GRIDS)
def test_variants_are_called_what_a_sweep_calls_its_runs(axes: dict[str, list[str]]) -> None:
    arguments = [f"{key}={','.join(values)}" for key, values in axes.items()]
    grid = grid_of(arguments)
    configs = [job.config for job in expand(arguments) if job.config]
    assert grid.num_runs == len(configs)
    assert grid.keys == varying_keys(configs)
    names = [variant_name(config, grid.keys) for config in configs]
    assert [row.name for row in rows_of(grid)] == list(dict.fromkeys(names))


def test_seeds_make_no_variants_but_are_checked() -> None:
    grid = grid_of(["seed=0,1,2", "model.strides=1,2", "sweep.jobs=2"])
    assert (len(grid), grid.num_runs, grid.keys) == (2, 6, ("model.strides",))
    with pytest.raises(ValueError, match=r"seed=-1 must be from 0"):
        grid_of(["model.strides=1,2", "seed=0,-1"])
    with pytest.raises(ValueError, match=r"sweep\.jobs=0 must be at least 1"):
        grid_of(["sweep.jobs=0"])


@pytest.mark.parametrize("task", [["task=segment", "data=canvas"], ["experiment=segment_stride"]])
def test_probes_of_a_task_are_asked_where_that_task_is(task: list[str]) -> None:
    points = [point for _, point in grid_of([*task, "probes=[boundary_error]", "model.strides=1,2"])]
    assert [point.config and point.config.probes for point in points] == [["boundary_error"]] * 2


def test_an_experiment_brings_its_grid() -> None:
    grid = grid_of(["experiment=stride_ladder"])
    assert len(grid) == 5
    assert grid.num_runs > len(grid)


@pytest.mark.parametrize(
    "argument", ["modell=1", "model.strid=1,2", "seed=interval(0,1)", "data=imagenet", "model.strides=[1"]
)
def test_a_wrong_argument_is_refused_as_train_does(argument: str) -> None:
    reasons = []
    for read in (load, grid_of):
        with pytest.raises(ValueError) as refusal:  # noqa: PT011  (the two messages are compared)
            read([argument])
        reasons.append(str(refusal.value))
    assert reasons[0] == reasons[1]

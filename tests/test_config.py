"""Arguments become frozen configurations, or one clear error."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from stridelab.config import CONF, Config, expand, load
from stridelab.config.variants import sweep_name, variant_name, varying_keys, varying_params

CHOICES = sorted(path.relative_to(CONF).with_suffix("").as_posix() for path in CONF.glob("*/*.yaml"))
EXPERIMENTS = sorted((CONF / "experiment").glob("*.yaml"))


def configs(*overrides: str) -> list[Config]:
    jobs = list(expand(overrides))
    assert all(job.error is None for job in jobs)
    return [job.config for job in jobs if job.config]


@pytest.mark.parametrize("choice", CHOICES)
def test_every_file_of_conf_composes(choice: str, tmp_path: Path) -> None:
    group, _, name = choice.partition("/")
    own = []
    if name == "image_folder":  # there is no such folder by default
        for image in ("a/1.png", "b/1.png", "a/2.png", "b/2.png", "b/3.png"):
            (tmp_path / image).parent.mkdir(exist_ok=True)
            (tmp_path / image).touch()
        own = [f"data.root={tmp_path}"]
    assert all(job.error is None for job in expand([f"{group}={name}", *own]))


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_an_experiment_opens_with_its_contract(path: Path) -> None:
    head = path.read_text().splitlines()[:6]
    for word in ("question:", "command:", "runtime:", "prediction:"):
        assert any(line.startswith(f"# {word}") for line in head), word
    assert f"python train.py experiment={path.stem}" in path.read_text()
    params = yaml.safe_load(path.read_text())["hydra"]["sweeper"]["params"]
    assert len(configs(f"experiment={path.stem}")) > 1
    assert set(params) <= {"model.strides", "model.padding", "seed"}


def test_the_spellings_of_a_per_layer_value_are_one_value() -> None:
    spelled = ["[1,2,2]", "1-2-2", "[[1,1],[2,2],[2,2]]", "1x1-2x2-2", "'1-2-2'"]
    assert len({load([f"model.strides={text}"]).model for text in spelled}) == 1


def test_one_value_serves_all_layers_and_a_list_is_one_a_layer() -> None:
    model = load(["model.strides=2", "model.padding=[same,1,[1,0,2,1]]", "model.kernel_sizes=[5,3,[3,1]]"]).model
    assert model.strides == ((2, 2),) * 3
    assert model.padding == ("same", 1, (1, 0, 2, 1))
    assert model.kernel_sizes == ((5, 5), (3, 3), (3, 1))


def test_a_grid_is_a_product_with_the_last_key_fastest() -> None:
    grid = configs("model.strides=[1,1,1],[1,2,2]", "model.padding=same,valid", "seed=0,1,2")
    assert len(grid) == 12
    assert [config.seed for config in grid[:4]] == [0, 1, 2, 0]
    assert [config.model.padding[0] for config in grid[:4]] == ["same"] * 3 + ["valid"]


def test_lists_without_brackets_sweep() -> None:
    assert [config.model.strides[0] for config in configs("model.strides=1-2-2,2-2-1")] == [(1, 1), (2, 2)]


def test_range_and_choice_sweep() -> None:
    assert [config.seed for config in configs("seed=range(0,3)")] == [0, 1, 2]
    assert [config.model.padding[0] for config in configs("model.padding=choice(same,valid)")] == [
        "same",
        "valid",
    ]


def test_the_command_line_wins_over_an_experiment() -> None:
    grid = configs("experiment=stride_ladder", "model.strides=2-2-2", "seed=7", "trainer.max_epochs=1")
    assert [(config.seed, config.model.strides[0], config.task_name) for config in grid] == [
        (7, (2, 2), "stride_ladder")
    ]


def test_groups_can_be_swept() -> None:
    assert [config.data.name for config in configs("data=fashion_mnist_mini,mnist")] == [
        "fashion_mnist_mini",
        "mnist",
    ]


REFUSED = {
    "model.strid=1": r"model\.strid is not a key\. Did you mean model\.strides\?",
    "modell.strides=1": r"modell is not a key\. Did you mean model\?",
    "trainer.lr.x=1": r"trainer\.lr\.x is not a key: trainer\.lr holds a value",
    "+new=1": r"\+new=1: keys can be set \(key=value\), not added",
    "sweep=1": r"sweep is a group of keys.*sweep\.jobs",
    "data=imagenet": r"data=imagenet is not one of its choices; choose one of .*fashion_mnist_mini",
    "trainer=tpu": r"trainer=tpu is not one of its choices; choose one of cpu,",
    "trainer.max_epochs=many": r"trainer\.max_epochs=many: a whole number is expected",
    "trainer.max_epochs=0": r"trainer\.max_epochs=0 must be at least 1",
    "trainer.lr=fast": r"trainer\.lr=fast: a number is expected",
    "trainer.lr=0": r"trainer\.lr=0\.0 must be greater than 0",
    "trainer.schedule=step": r"trainer\.schedule='step' is not one of its choices.*one_cycle, cosine, constant",
    "trainer.precision=8": r"trainer\.precision='8' is not one of its choices",
    "trainer.label_smoothing=1": r"trainer\.label_smoothing=1\.0 must be less than 1",
    "trainer.limit_val_batches=2.5": r"trainer\.limit_val_batches=2\.5 must be a share",
    "seed=-1": r"seed=-1 must be from 0",
    "seed=one": r"seed=one: a whole number is expected",
    "model.strides=0": r"model\.strides=0 must be a whole number of at least 1",
    "model.strides=[1,-2,2]": r"model\.strides\[1\]=-2 must be a whole number of at least 1",
    "model.strides=1.5": r"model\.strides=1\.5 must be a whole number",
    "model.strides=[1,2]": r"model\.strides=1-2 has 2 entries, but model\.channels has 3 layers",
    "model.strides=[[1,2,3],2,2]": r"model\.strides\[0\]=1-2-3 must be a whole number or \[height, width\]",
    "model.channels=[]": r"model\.channels=\[\] names no layer",
    "model.padding=smae": r"model\.padding='smae' is not a padding policy; choose one of .*same.*valid",
    "model.padding=-1": r"model\.padding=-1: .*must be 0 or more",
    "model.padding_mode=wrap": r"model\.padding_mode='wrap' is not one of its choices.*circular",
    "model.head=dense": r"model\.head='dense' is not one of its choices; choose one of gap, flatten",
    "data.train_size=0": r"data\.train_size=0 must be",
    "tracking.uri=folder": r"tracking\.uri is not the address of a store",
    "sweep.jobs=0": r"sweep\.jobs=0 must be at least 1",
    "sweep.name=../x": r"sweep\.name='\.\./x' must be letters, digits",
    "plan=maybe": r"plan='maybe' must be one of on, off",
    "model.strides=[1,2": r"cannot read the arguments model\.strides=\[1,2",
    "seed=interval(0,1)": r"seed: only lists, choice\(\) and range\(\)",
}


@pytest.mark.parametrize("argument", REFUSED)
def test_bad_input_gets_key_value_rule_and_choices(argument: str) -> None:
    with pytest.raises(ValueError, match=REFUSED[argument]) as refusal:
        load([argument])
    assert "\n" not in str(refusal.value)


def test_one_bad_point_of_a_grid_is_named_and_the_others_stand() -> None:
    good, bad = expand(["model.strides=2,0"])
    assert good.config is not None
    assert bad.config is None
    assert bad.error is not None
    assert "model.strides=0" in bad.error


def test_names_say_what_varies() -> None:
    grid = configs("model.strides=[1,1,2],[1,2,2]", "model.padding=same", "seed=0,1")
    keys = varying_keys(grid)
    assert keys == ("model.strides",)
    assert [variant_name(config, keys) for config in grid] == ["strides=1-1-2"] * 2 + ["strides=1-2-2"] * 2
    assert varying_params(grid[2], grid) == {"stride_2": "2", "seed": 0}


def test_a_sweep_keeps_its_name_when_its_grid_grows_and_loses_it_when_the_question_changes() -> None:
    small = configs("model.strides=[1,1,2],[1,2,2]", "seed=0")
    grown = configs("model.strides=[1,1,2],[1,2,2],[2,2,2]", "seed=0,1,2")
    other = configs("model.strides=[1,1,2],[1,2,2]", "seed=0", "trainer.max_epochs=9")
    assert sweep_name(small) == sweep_name(grown) != sweep_name(other)
    assert sweep_name(small).startswith("strides-")


def test_loading_a_configuration_imports_nothing_heavy() -> None:
    code = (
        "import sys; from stridelab.config import load; load(['model.strides=1-2-2']);"
        "print([m for m in ('torch', 'mlflow', 'pandas', 'numpy', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

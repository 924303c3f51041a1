"""Arguments become frozen configurations, or one clear error."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stridelab.config import CONF, Config, expand, load
from stridelab.config.variants import refuse_mixed, sweep_name, variant_name, varying_keys, varying_params
from stridelab.names import PLAIN_NAME

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
    if name == "timm":
        pytest.importorskip("timm", reason="an extra: pip install timm")
        own = ["model.name=resnet10t"]
    assert all(job.error is None for job in expand([f"{group}={name}", *own]))


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_an_experiment_opens_with_its_contract(path: Path) -> None:
    head = [line for line in path.read_text().splitlines() if line.startswith("#")]
    words = ("question:", "command:", "runtime:", "prediction:")
    for word in (*words, "planned:") if any(line.startswith("# claim:") for line in head) else words:
        assert any(line.startswith(f"# {word}") for line in head), word
    assert f"python train.py experiment={path.stem}" in path.read_text()
    assert len(configs(f"experiment={path.stem}")) > 1


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
    "trainer.accumulate_grad_batches=2": r"Did you mean trainer\.accumulate\?",
    "trainer.learning_rate=1": r"Did you mean trainer\.lr\?",
    "trainer.epochs=1": r"Did you mean trainer\.max_epochs\?",
    "trainer.devices=0": r"trainer\.devices=0 must be at least 1",
    "trainer=glob(z*)": r"trainer: no choice fits; choose among cpu, fast, gpu",
    "model.strides=glob(*)": r"model.strides: no choice fits; glob\(\) is for groups, whose choices are files",
    "seed=range(0,3,0)": r"the step of a range must not be 0",
    'model.strides="[1,1,1],[1,2,2]"': r"quotes make one text of the list.*'model\.strides=\[1,1,1\],\[1,2,2\]'",
    "model.padding='[same,valid,1]'": r"quotes make one text of the list",
    "data@foo=mnist": r"not added, removed or moved",
    "~trainer": r"not added, removed or moved",
    f"task_name={'x' * 300}": r"task_name='x+' must be letters, digits.*100 at most",
    "task_name=a/b": r"task_name='a/b' must be letters, digits",
    "tracking.port=70000": r"tracking\.port=70000 must be from 1 to 65535",
    "hydra/launcher=basic": r"hydra/launcher=basic: .*say launcher= instead",
    "hydra.launcher.n_jobs=2": r"say launcher= and sweep\.jobs= instead",
    "hydra/sweeper=optuna": r"say -m with comma lists instead",
    "hydra.mode=MULTIRUN": r"say -m instead",
    "hydra.sweep.dir=x": r"hydra\.sweep\.dir=x: .*say paths\.results_dir= instead",
    "hydra.run.dir=x": r"say paths\.results_dir= instead",
    "hydra.output_subdir=x": r"say paths\.results_dir= instead",
    "hydra.verbose=true": r"Hydra only composes the configuration here\.",
    "paths.results_dir=a,b": r"one path is expected; one with a comma stands in quotes",
    "data=imagenet": r"data=imagenet is not one of its choices; choose one of .*fashion_mnist_mini",
    "trainer=tpu": r"trainer=tpu is not one of its choices; choose one of cpu,",
    "trainer.max_epochs=many": r"trainer\.max_epochs=many: a whole number is expected",
    "trainer.max_epochs=0": r"trainer\.max_epochs=0 must be at least 1",
    "trainer.lr=fast": r"trainer\.lr=fast: a number is expected",
    "trainer.lr=0": r"trainer\.lr=0\.0 must be greater than 0",
    "trainer.lr=inf": r"trainer\.lr=inf must be greater than 0 and finite",
    "trainer.momentum=nan": r"trainer\.momentum=nan must be at least 0",
    "trainer.weight_decay=inf": r"trainer\.weight_decay=inf must be at least 0 and finite",
    "trainer.label_smoothing=nan": r"trainer\.label_smoothing=nan must be at least 0",
    "trainer.batch_size=99999999999": r"trainer\.batch_size=99999999999 must be at most 2,147,483,647",
    "trainer.max_epochs=99999999999": r"trainer\.max_epochs=99999999999 must be at most",
    "trainer.threads=99999": r"trainer\.threads=99999 must be at most 1,024",
    "trainer.feature_map_images=99999": r"trainer\.feature_map_images=99999 must be at most 4,096",
    "trainer.limit_train_batches=99999999999": r"trainer\.limit_train_batches=99999999999 must be a share",
    "trainer.schedule=step": r"trainer\.schedule='step' is not one of its choices.*one_cycle, cosine, constant",
    "trainer.precision=8": r"trainer\.precision='8' is not one of its choices",
    "trainer.label_smoothing=1": r"trainer\.label_smoothing=1\.0 must be less than 1",
    "trainer.limit_val_batches=2.5": r"trainer\.limit_val_batches=2\.5 must be a share",
    "seed=-1": r"seed=-1 must be from 0",
    "seed=one": r"seed=one: a whole number is expected",
    "model.strides=0": r"model\.strides=0 must be a whole number of at least 1",
    "model.strides=[1,-2,2]": r"model\.strides\[1\]=-2 must be a whole number of at least 1",
    "model.strides=99999999999999999999": r"model\.strides=9+ must be at most 65,536",
    "model.kernel_sizes=99999": r"model\.kernel_sizes=99999 must be at most 65,536",
    "model.padding=99999999999": r"model\.padding=9+ must be at most 65,536",
    "model.padding=[same,1,[1,1,1,99999]]": r"model\.padding\[2\]=1x1x1x99999 must be at most 65,536",
    "model.channels=[4,99999999,8]": r"model\.channels\[1\]=99999999 must be at most 65,536",
    "model.dilations=99999": r"model\.dilations=99999 must be at most 65,536",
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
    "sweep.jobs=99999999999": r"sweep\.jobs=99999999999 must be at least 1 and at most 4,096, or null",
    "seed=range(0,1000000000)": r"more than 100,000 values of one key are no sweep",
    "sweep.name=../x": r"sweep\.name='\.\./x' must be letters, digits",
    "plan=maybe": r"plan='maybe' must be one of on, off",
    "model.strides=[1,2": r"cannot read the argument model\.strides=\[1,2.*'model.strides=\[1,1,1\],\[1,2,2\]'",
    "seed=interval(0,1)": r"seed: only lists, choice\(\) and range\(\)",
}


@pytest.mark.parametrize("argument", REFUSED)
def test_bad_input_gets_key_value_rule_and_choices(argument: str) -> None:
    with pytest.raises(ValueError, match=REFUSED[argument]) as refusal:
        load([argument])
    assert "\n" not in str(refusal.value)


UNSWEPT = [
    "paths.results_dir='a','b'", "tracking.experiment=e1,e2", "tracking=sqlite,server", "sweep.jobs=1,2",
    "launcher=local,in_process", "plan=on,off", "on_invalid=skip,stop", "force=true,false", "reuse=any,none",
    "task_name=a,b", "trainer.timeout_min=1,2", "data.download=true,false", "data.root='a','b'",
]  # fmt: skip


@pytest.mark.parametrize("argument", UNSWEPT)
def test_what_holds_for_a_whole_sweep_cannot_be_swept(argument: str) -> None:
    key = argument.partition("=")[0]
    with pytest.raises(ValueError, match=rf"^{re.escape(key)} cannot be swept: it changes no result"):
        list(expand([argument]))


@pytest.mark.parametrize("argument", ["experiment=stride_ladder,stem", "experiment=glob(*)", "debug=fdr,limit"])
def test_one_experiment_at_a_time(argument: str) -> None:
    with pytest.raises(ValueError, match=r"(experiment|debug) cannot be swept: give one"):
        list(expand([argument]))


@pytest.mark.parametrize(
    ("section", "key", "values"),
    [("paths", "results_dir", ("A", "B")), ("sweep", "name", ("one", "two")), ("tracking", "port", (5001, 5002))],
)
def test_files_of_a_swept_group_cannot_split_a_sweep_either(tmp_path: Path, section, key, values) -> None:
    (tmp_path / "trainer").mkdir()
    for name, value in zip("ab", values, strict=True):
        content = (
            f"# @package _global_\n{section}: {{{key}: {value}}}\ntrainer: {{lr: 0.{len(name) + ord(name) % 3}}}\n"
        )
        (tmp_path / "trainer" / f"{name}.yaml").write_text(content)
    configs = [job.config for job in expand(["trainer=a,b"], config_dir=tmp_path) if job.config]
    with pytest.raises(ValueError, match=rf"^{section}\.{key} differs between the runs of this sweep"):
        refuse_mixed(configs)
    refuse_mixed(configs[:1])


def test_globs_choose_among_the_files_of_a_group() -> None:
    assert [config.trainer.accelerator for config in configs("trainer=glob(*)")] == ["cpu", "cpu", "gpu"]


def test_force_adding_a_key_that_exists_sets_it() -> None:
    assert configs("++model.padding=valid")[0].model.padding == ("valid",) * 3


HOME = str(Path.home())
TYPED = {
    "ckpt_path=runs/a/epoch=0001.ckpt": "runs/a/epoch=0001.ckpt",
    "ckpt_path=null": None,
    "data.root=~/datasets": f"{HOME}/datasets",
    "data.root=/media/Größe #1/a = b (x) {y} [z]": "/media/Größe #1/a = b (x) {y} [z]",
    'data.root="quoted: a, b"': "quoted: a, b",
    "data.root='single, too'": "single, too",
    "data.cache_dir=~": HOME,
    "paths.results_dir=été/results": "été/results",
    "tracking.uri=postgresql+psycopg2://u@h/db?sslmode=require&options=-c%20x=1":
        "postgresql+psycopg2://u@h/db?sslmode=require&options=-c%20x=1",
    "++data.root=a=b": "a=b",
}  # fmt: skip


@pytest.mark.parametrize("argument", TYPED)
def test_paths_are_taken_as_they_are_typed(argument: str) -> None:
    key = argument.removeprefix("++").partition("=")[0]
    node: Any = load([argument])
    for name in key.split("."):
        node = getattr(node, name)
    assert node == TYPED[argument]


def test_a_path_with_a_comma_is_taken_when_it_is_there(tmp_path: Path) -> None:
    (tmp_path / "a,b").mkdir()
    assert load([f"data.root={tmp_path}/a,b"]).data.root == f"{tmp_path}/a,b"


@pytest.fixture
def own_folder(tmp_path: Path) -> Path:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ntask_name: mine\nhydra:\n  sweeper:\n    params:\n"
        "      trainer.lr: 0.1,0.2\n      model.channels: '[4,8],[8,8]'\n"
        "      model.strides: 1\n      data: mnist,kmnist\n"
    )
    return tmp_path


def test_an_experiment_of_ones_own_may_sweep_any_key(own_folder: Path) -> None:
    grid = [job.config for job in expand(["experiment=mine", "seed=3"], config_dir=own_folder) if job.config]
    assert len(grid) == 8
    assert {(config.trainer.lr, len(config.model.channels), config.data.name) for config in grid} == {
        (lr, 2, name) for lr in (0.1, 0.2) for name in ("mnist", "kmnist")
    }
    assert {(config.seed, config.task_name) for config in grid} == {(3, "mine")}
    assert varying_keys(grid) == ("model.channels", "data.name", "trainer.lr")


def test_a_folder_of_ones_own_adds_to_ours_and_is_named_when_absent(own_folder: Path) -> None:
    with pytest.raises(
        ValueError, match=r"experiment=mine is not one of its choices; choose one of detail, early_late"
    ):
        list(expand(["experiment=mine"]))
    with pytest.raises(ValueError, match=r"choose one of detail, early_late, .*mine, overfit"):
        list(expand(["experiment=yours"], config_dir=own_folder))
    with pytest.raises(ValueError, match=r"--config-dir .*absent: there is no such folder"):
        list(expand([], config_dir=own_folder / "absent"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("task_name: ${oc.env:HOME}", "resolvers are not called"),
        ("model:\n  _target_: os.system", "_target_"),
        ("hydra:\n  searchpath: [file:///tmp]", "searchpath"),
        ("hydra:\n  launcher:\n    _target_: os.system", "_target_"),
        ("hydra:\n  verbose: true", r"hydra\.verbose=True: of Hydra's settings only"),
        ("trainer:\n  lrr: 1", "lrr"),
        ("trainer: [", "expected"),
    ],
)
def test_a_file_of_ones_own_is_data_only(own_folder: Path, content: str, said: str) -> None:
    (own_folder / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{content}\n")
    with pytest.raises(ValueError, match=said):
        load(["experiment=mine"], config_dir=own_folder)


ALIASES = "".join(f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 9)}]\n" for n in range(1, 9))
UNREADABLE = {
    "aliases of aliases": (
        "x0: &x0 [1]\n" + ALIASES,
        r"mine\.yaml unfolds to [\d,]+ values; a configuration has at most",
    ),
    "nested deeply": (f"tags: {'[' * 90}{']' * 90}", r"mine\.yaml is nested too deeply"),
    "in itself": ("tags: &a [*a]", r"mine\.yaml is nested too deeply, or contains itself"),
    "a list": ("- seed: 1", r"mine\.yaml: keys with values are expected"),
    "a large file": ("# " + "x" * 2**20, r"mine\.yaml is not a file of at most 1,048,576 bytes"),
    "Latin-1": (b"# Gr\xf6\xdfe", r"mine\.yaml is no text in UTF-8"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_file_that_is_no_configuration_is_named_before_it_is_unfolded(own_folder: Path, case: str) -> None:
    content, said = UNREADABLE[case]
    bad = own_folder / "experiment" / "mine.yaml"
    bad.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=said):
        load(["experiment=mine"], config_dir=own_folder)
    (own_folder / "experiment" / "harmless.yaml").write_text("# @package _global_\nseed: 3\n")
    assert load(["experiment=harmless"], config_dir=own_folder).seed == 3
    (own_folder / "experiment" / "outer.yaml").write_text("# @package _global_\ndefaults: [mine]\n")
    with pytest.raises(ValueError, match=said):
        load(["experiment=outer"], config_dir=own_folder)


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
    assert varying_params(grid)[2] == {
        "channels": "16-32-64",
        "epochs": 5,
        "strides": "1-2-2",
        "stride_2": "2",
        "seed": 0,
    }


def test_a_sweep_of_many_keys_still_has_a_name_for_a_folder() -> None:
    many = ["model.padding", "model.dilations", "trainer.label_smoothing", "trainer.weight_decay", "trainer.batch_size",
            "trainer.momentum", "trainer.max_epochs", "trainer.limit_train_batches", "data.train_size"]  # fmt: skip
    grid = [
        load([]),
        load([f"{key}={value}" for key, value in zip(many, [0, 2, 0.1, 0, 32, 0, 1, 2, 500], strict=True)]),
    ]
    assert PLAIN_NAME.fullmatch(sweep_name(grid))
    assert PLAIN_NAME.fullmatch(sweep_name([replace(config, task_name="x" * 100) for config in grid]))


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

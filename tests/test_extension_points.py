"""What CONTRIBUTING promises: each addition in one or two files, performed here on a toy entry."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

import stridelab
from report_sweeps import Fake, grid, shared_store, sweep_of
from stridelab.benchmark.worker import Worker
from stridelab.benchmark.workloads import Subject, Workload
from stridelab.cli import help as help_command
from stridelab.cli import plan as plan_command
from stridelab.cli import probe as probe_command
from stridelab.cli import train as train_command
from stridelab.cli.train import start
from stridelab.config import Config, compose, expand, load
from stridelab.data import DATASETS, DataConfig
from stridelab.data.catalog.facts import ArrayFunction, DatasetFacts
from stridelab.data.load import load as load_data
from stridelab.geometry import IMAGE, PADDING_MODES, PADDINGS, LayerPlan, layer, measure
from stridelab.geometry.padding import PaddingMode
from stridelab.metrics import METRICS, Metric
from stridelab.models.build import build
from stridelab.models.families import FAMILIES, Family
from stridelab.models.settings import ModelConfig, each_layer, pair, per_layer
from stridelab.plan import layer_plan_of
from stridelab.probes.catalog import PROBES, Probe
from stridelab.probes.trained import Trained
from stridelab.report import notebook
from stridelab.report.comparison import Comparison, compare
from stridelab.report.display import show_columns, show_figure, show_variants
from stridelab.report.figures import FIGURES, ReportFigure
from stridelab.report.page_parts import Picture
from stridelab.report.sentences import summary
from stridelab.report.table import run_table, variant_table
from stridelab.reproduce.rebuild import rebuild
from stridelab.sweep.launcher import Launcher
from stridelab.sweep.launchers import LAUNCHERS
from stridelab.sweep.task import SILENT, Listener, Outcome, Task, attempt
from stridelab.tracking.find import find_sweep
from stridelab.tracking.settings import TrackingConfig
from stridelab.tracking.store import resolve_store
from stridelab.training.step import TrainingStep

SMALL = (
    "model.channels=[4]", "data.train_size=100", "data.val_size=100", "trainer.max_epochs=1", "launcher=in_process",
    "sweep.report=false",
)  # fmt: skip


def train(results: Path, *overrides: str) -> int:
    configs = [job.config for job in expand([*SMALL, f"paths.results_dir={results}", *overrides]) if job.config]
    return start(configs, multirun=len(configs) > 1)


@dataclass(frozen=True)
class ToyResidualConfig(ModelConfig):
    width: int = 4
    """Feature maps of each block."""
    block_strides: Any = field(default=(1, 2), metadata=each_layer("block_stride"))
    """Of the first convolution of each block, and of its shortcut."""

    def __post_init__(self) -> None:
        strides = per_layer("block_strides", self.block_strides, count=None, parse=pair)
        object.__setattr__(self, "block_strides", strides)


def toy_residual(
    config: ToyResidualConfig, *, input_channels: int, input_size: tuple[int, int], num_classes: int
) -> LayerPlan:
    """Two 3x3 convolutions a block, and a 1x1 shortcut that is listed last."""
    layers, source = [], IMAGE
    for at, stride in enumerate(config.block_strides, start=1):
        layers += [
            layer(
                "conv", f"one{at}", kernel_size=3, padding=1, stride=stride, inputs=(source,), out_channels=config.width
            ),
            layer("activation", f"relu{at}"),
            layer("conv", f"two{at}", kernel_size=3, padding=1, out_channels=config.width),
            layer("conv", f"shortcut{at}", stride=stride, inputs=(source,), out_channels=config.width),
            layer("add", f"sum{at}", inputs=(f"two{at}", f"shortcut{at}")),
        ]
        source = f"sum{at}"
    layers += [layer("global_avg_pool", "pool"), layer("linear", "classifier", out_channels=num_classes, bias=True)]
    return LayerPlan(input_channels, input_size, tuple(layers))


def test_a_family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A function with its settings, and a YAML: in plan, help, training, store, names, report and reproduction."""
    folder = tmp_path / "conf"
    shutil.copytree(compose.CONF, folder)
    (folder / "model" / "toy.yaml").write_text("family: toy_residual\nblock_strides: [1, 2, 1]\n")
    for module in (compose, help_command):
        monkeypatch.setattr(module, "CONF", folder)
    monkeypatch.setitem(FAMILIES, "toy_residual", Family(toy_residual, ToyResidualConfig))
    for cached in (compose.base, compose.composed, compose.is_group):
        cached.cache_clear()
    try:
        show_a_family(tmp_path / "results", capsys)
    finally:
        for cached in (compose.base, compose.composed, compose.is_group):
            cached.cache_clear()


def show_a_family(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = load(["model=toy", "model.width=3"])
    assert config.model == ToyResidualConfig("toy_residual", width=3, block_strides=[1, 2, 1])
    assert load(["model.family=toy_residual"]).model.block_strides == ((1, 1), (2, 2))
    for wrong, message in (
        (
            ["model=toy", "model.strides=1-2-2"],
            r"model.strides is not a key of model.family=toy_residual\..*model.width",
        ),
        (["model.width=3"], r"model.width is not a key of model.family=cnn\..*model.strides"),
        (["model=toy", "model.widths=3"], "model.widths is not a key.*Did you mean model.width"),
        (["model=toy", "model.width=x"], "model.width=x: a whole number is expected"),
        (["model.family=vit"], "model.family='vit' is not one of its choices; choose one of cnn, .*toy_residual"),
    ):
        with pytest.raises(ValueError, match=message):
            load(wrong)
    toy = ["model=toy", "model.block_strides=1-2,2-2", "trainer.channels_last=false"]  # strided 1x1 of few channels
    plan_command.main(toy)
    said = capsys.readouterr().out
    assert "block_strides" in said
    assert "1-2" in said
    assert "11 of 28 px" in said  # 3, 5, then 5 + 2 and 7 + 2 * 2
    assert "19 of 28 px" in said  # 3, 3 + 2 * 2, 7 + 2 * 2, 11 + 2 * 4
    help_command.print_help(everything=True)
    said = capsys.readouterr().out
    assert "model.width" in said
    assert "toy" in said
    small = [one for one in SMALL if "model." not in one and "report" not in one]
    words = [*small, *toy, "seed=0,1", f"paths.results_dir={results}"]
    configs = [job.config for job in expand(words) if job.config]
    assert start(configs, multirun=True) == 0
    sweep = find_sweep(resolve_store(TrackingConfig(), results_dir=results))
    runs = {run.params["block_stride_1"]: run for run in sweep.runs}
    assert {run.params["seed"] for run in sweep.runs} == {"0", "1"}
    assert [runs[first].metrics["cost/receptive_field_px"] for first in ("1", "2")] == [11, 19]
    assert "block_strides=1-2" in runs["1"].name
    recorded = json.loads(runs["2"].artifact("config.json").read_text())
    assert rebuild(recorded).config.model == ToyResidualConfig("toy_residual", block_strides="2-2")
    (page,) = results.glob("reports/*/comparison.html")
    assert "block_strides=1-2" in page.read_text()


def test_a_padding_mode_and_a_padding_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry of a table each: in the plan, the refusals, help, and the network, whose gradients confirm it."""
    symmetric = PaddingMode(lambda at, size: -1 - at if at < 0 else 2 * size - 1 - at)
    monkeypatch.setitem(PADDING_MODES, "symmetric", symmetric)
    monkeypatch.setitem(PADDINGS, "twice", lambda size, span, stride: (span - 1, span - 1))
    compose.composed.cache_clear()
    config = load(["model.channels=[1]", "model.strides=1", "model.padding=twice", "model.padding_mode=symmetric"])
    assert any("symmetric" in meaning for key, _, meaning in help_command.described(Config) if key.endswith("_mode"))
    with pytest.raises(ValueError, match=r"choose one of zeros, reflect, replicate, circular, symmetric"):
        load(["model.padding_mode=mirror"])
    plan = layer_plan_of(config)
    (conv, *_) = measure(plan)
    assert (conv.pad, conv.output_size, conv.padding_mode) == (((2, 2), (2, 2)), (30, 30), "symmetric")
    images = torch.randn(2, 1, 28, 28, dtype=torch.float64)
    network = build(plan).double()
    weight = network.conv1.weight
    right = F.conv2d(torch.from_numpy(np.pad(images, ((0, 0), (0, 0), (2, 2), (2, 2)), mode="symmetric")), weight)
    assert torch.equal(network.conv1(images), right)


def test_a_probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One entry of PROBES: in help, in the configuration, in the runs of a sweep, in the table."""

    def sparsity(trained: Trained) -> Mapping[str, Any]:
        weights = [p.detach().abs().numpy() for p in trained.network.parameters()]
        return {"": float(np.mean([(w < 0.01).mean() for w in weights])), "sizes": np.array([w.size for w in weights])}

    entry = Probe(sparsity, "share", "weights below 0.01, averaged over tensors", "higher")
    monkeypatch.setitem(PROBES, "sparsity", entry)
    probe_command.main(["--help"])
    assert "sparsity (share, higher is better)" in capsys.readouterr().out
    assert train(tmp_path, "model.strides=2,4", "probes=[sparsity]") == 0
    sweep = find_sweep(resolve_store(TrackingConfig(), results_dir=tmp_path))
    assert all(0 < run.metrics["probe/sparsity"] < 1 for run in sweep.runs)
    assert np.load(sweep.runs[0].artifact("probes/sparsity.npz"))["sizes"].tolist() == [36, 4, 4, 40, 10]
    assert (run_table(sweep)["probe/sparsity"] == [run.metrics["probe/sparsity"] for run in sweep.runs]).all()
    assert "probe/sparsity_mean" in variant_table(run_table(sweep))
    comparison = compare(sweep, metric="probe/sparsity")
    assert "sparsity" in show_variants(comparison).text
    assert entry.meaning in show_columns().text


def test_a_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line of METRICS: a column, an explanation, and a choice of `compare metric=`."""
    toy = Metric(
        "images/J", "images a joule", "higher", "thrift", "thrift, images/J",
        function=lambda run: run["throughput/train_images_per_s"] / run["toy/watts"],
    )  # fmt: skip
    monkeypatch.setitem(METRICS, "toy/images_per_j", toy)
    runs = [replace(fake, metrics={"toy/watts": 10.0 + fake.seed}) for fake in grid()]
    comparison = compare(sweep_of([*runs, Fake("3-3-3", 0, 0.5)]), metric="toy/images_per_j")
    row = comparison.runs.iloc[1]
    assert row["toy/images_per_j"] == row["throughput/train_images_per_s"] / 11
    assert math.isnan(comparison.runs["toy/images_per_j"].iloc[-1])  # it has no watts
    assert "thrift, images/J" in show_variants(comparison).html
    assert "images a joule" in show_columns().html
    assert summary(comparison)[1].startswith("Highest mean thrift: strides=")


def test_a_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One entry of FIGURES: drawn, a section of the notebook with its sentence, a picture with its description."""

    def seeds(comparison: Comparison) -> Figure:
        figure = Figure()
        figure.subplots().hist(comparison.runs["seed"])
        return figure

    monkeypatch.setitem(FIGURES, "seeds", ReportFigure(seeds, "Seeds", "Bars: runs of each seed.", "All alike?"))
    comparison = compare(sweep_of(grid()))
    picture = show_figure(comparison, "seeds", folder=tmp_path)
    assert (tmp_path / "seeds.png").read_bytes().startswith(b"\x89PNG")
    assert isinstance(picture, Picture)
    assert picture._repr_mimebundle_()[1]["image/png"]["alt"] == "Bars: runs of each seed."
    cells = [cell["source"] for cell in notebook.build(comparison, shared_store(), folder=tmp_path)["cells"]]
    assert cells[cells.index("## Seeds\n\nAll alike?") + 1] == 'report.show_figure(comparison, "seeds")'


def test_a_gpu_optimisation_of_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One file: what training/step.py does is trained and measured; no other file makes an optimizer."""
    seen: list[int] = []
    before = TrainingStep.__call__

    def faster(self: TrainingStep, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(len(labels))
        return before(self, images, labels)

    monkeypatch.setattr(TrainingStep, "__call__", faster)
    assert train(tmp_path, "model.strides=2", "trainer.batch_size=40") == 0
    assert seen == [40, 40, 20]
    config = load([*SMALL, "model.strides=2"])
    worker = Worker(Subject("a", layer_plan_of(config), config.trainer, seed=0))
    worker.prepare(Workload("training", 256), warm_up_s=0.0, block_s=0.0)
    assert set(seen[3:]) == {256}
    source = Path(stridelab.__file__).parent
    makers = [path.name for path in source.rglob("*.py") if "torch.optim.SGD(" in path.read_text()]
    assert makers == ["optimizers.py"]


def test_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row of DATASETS, whose function gives arrays, and a YAML: planned, trained, recorded, compared."""

    def stripes() -> Any:
        random, labels = np.random.default_rng(0), np.arange(90) % 3
        images = random.integers(0, 60, (90, 12, 12, 1)).astype(np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[:: label + 2] += 150
        return images[:60], labels[:60], images[60:], labels[60:]

    row = DatasetFacts(
        input_channels=1, input_size=(12, 12), class_names=("two", "three", "four"), num_train=60, num_test=30,
        source="this test", licence="none", files=ArrayFunction(stripes),
    )  # fmt: skip
    monkeypatch.setitem(DATASETS, "stripes", row)
    conf = tmp_path / "conf"
    shutil.copytree(compose.CONF, conf)
    (conf / "data" / "stripes.yaml").write_text("# Toy stripes: 60 + 30 images of 12x12.\nname: stripes\n")
    monkeypatch.setattr(compose, "CONF", conf)
    compose.composed.cache_clear(), compose.base.cache_clear()
    try:
        assert layer_plan_of(load(["data=stripes"])).input_size == (12, 12)
        small = ["data.train_size=30", "data.val_size=null", "trainer.batch_size=10"]
        assert train(tmp_path / "results", "data=stripes", "model.strides=1,2", *small) == 0
    finally:
        compose.composed.cache_clear(), compose.base.cache_clear()
    sweep = find_sweep(resolve_store(TrackingConfig(), results_dir=tmp_path / "results"))
    facts = [json.loads(run.artifact("data.json").read_text()) for run in sweep.runs]
    assert [(found["name"], found["class_names"], found["num_train"]) for found in facts] == [
        ("stripes", ["two", "three", "four"], 30)
    ] * 2
    assert len(run_table(sweep)) == 2
    monkeypatch.setitem(DATASETS, "stripes", replace(row, class_names=("two", "three")))
    with pytest.raises(ValueError, match=r"data\.name=stripes: its training labels go from 0 to 2; with 2 classes"):
        load_data(DataConfig(name="stripes"))
    monkeypatch.setitem(DATASETS, "stripes", replace(row, num_train=50))
    with pytest.raises(ValueError, match=r"training images are uint8 \[60, 12, 12, 1\], not uint8 \[50, 12, 12"):
        load_data(DataConfig(name="stripes"))


class BackwardsLauncher(Launcher):
    """Runs in this process, the last first."""

    jobs = 1
    here = True

    def run(self, tasks: Sequence[Task], listener: Listener = SILENT) -> list[Outcome]:
        outcomes: dict[int, Outcome] = {}
        for index in reversed(range(len(tasks))):
            known = listener.look(index)
            if known is None:
                listener.start(index)
                known = attempt(tasks[index], partial(listener.event, index))
            outcomes[index] = known
            listener.end(index, known)
        return [outcomes[index] for index in range(len(tasks))]


def test_a_launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A class that keeps its promises, and a line of LAUNCHERS: runs are executed by it, and errors name it."""
    with pytest.raises(
        ValueError, match=r"launcher=backwards is not one of its choices; choose one of local, in_process, ray, slurm\."
    ):
        train(tmp_path / "results", "model.strides=1", "launcher=backwards")
    assert not (tmp_path / "results").exists()
    monkeypatch.setitem(LAUNCHERS, "backwards", lambda config, num_runs: BackwardsLauncher())
    with pytest.raises(ValueError, match=r"choose one of local, in_process, ray, slurm, backwards\."):
        train(tmp_path / "results", "model.strides=1", "launcher=forwards")
    assert train(tmp_path / "results", "model.strides=1,2", "launcher=backwards") == 0
    printed = capsys.readouterr().out
    assert printed.index("2 s0  started") < printed.index("1 s0  started")
    sweep = find_sweep(resolve_store(TrackingConfig(), results_dir=tmp_path / "results"))
    assert [(run.name, run.status) for run in sweep.runs] == [
        ("1 s0", "FINISHED"),
        ("2 s0", "FINISHED"),
    ]


def test_an_experiment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One YAML, in a folder of the user's own: whatever it sweeps, train, plan and compare take it from there."""
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "heads.yaml").write_text(
        "# @package _global_\ntask_name: heads\nmodel:\n  strides: 1\nhydra:\n  sweeper:\n    params:\n"
        "      model.head: gap,flatten\n      trainer.momentum: 0.5,0.9\n"
    )
    asked = ["--config-dir", str(tmp_path), "experiment=heads"]
    plan_command.main([*asked, *SMALL[:3], "format=csv"])
    assert "flatten" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="0"):
        train_command.main([*asked, *SMALL, f"paths.results_dir={tmp_path}/results"])
    sweep = find_sweep(resolve_store(TrackingConfig(), results_dir=tmp_path / "results"))
    assert sweep.name.startswith("heads-head-momentum-")
    assert [run.tags["stridelab.variant"] for run in sweep.runs] == [
        f"head={head} momentum={momentum}" for head in ("gap", "flatten") for momentum in (0.5, 0.9)
    ]
    assert len(variant_table(run_table(sweep))) == 4


def test_a_tracking_store(tmp_path: Path, template: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One YAML with an address, in a folder of the user's own: training, the comparison and `runs` go there."""
    (tmp_path / "tracking").mkdir()
    (tmp_path / "lab").mkdir()
    shutil.copyfile(template, tmp_path / "lab" / "ours.db")
    uri = f"sqlite:///{tmp_path}/lab/ours.db"
    (tmp_path / "tracking" / "lab.yaml").write_text(f"uri: {uri}\nexperiment: ours\n")
    asked = ["--config-dir", str(tmp_path), "-m", "tracking=lab", "sweep.name=there", "seed=0"]
    with pytest.raises(SystemExit, match="0"):
        train_command.main([*asked, *SMALL, "model.strides=2", f"paths.results_dir={tmp_path}/results"])
    assert uri in capsys.readouterr().out, "how to open its pages"
    store = resolve_store(TrackingConfig(uri, "ours"), results_dir=tmp_path / "results")
    (run,) = find_sweep(store, "there").runs
    assert run.artifact("config.json").is_relative_to(tmp_path / "lab" / "artifacts")
    assert not (tmp_path / "results" / "mlflow.db").exists()

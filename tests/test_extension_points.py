"""What CONTRIBUTING promises: each addition in one or two files, performed here on a toy entry."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

import stridelab
from stridelab.benchmark.worker import Worker
from stridelab.benchmark.workloads import Subject, Workload
from stridelab.cli import probe as probe_command
from stridelab.cli.train import start
from stridelab.config import compose, expand, load
from stridelab.data import DATASETS, DataConfig
from stridelab.data.catalog.facts import ArrayFunction, DatasetFacts
from stridelab.data.load import load as load_data
from stridelab.plan import layer_plan_of
from stridelab.probes.catalog import PROBES, Probe
from stridelab.probes.trained import Trained
from stridelab.report.comparison import compare
from stridelab.report.display import show_columns, show_variants
from stridelab.report.table import run_table, variant_table
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
    assert makers == ["step.py"]


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

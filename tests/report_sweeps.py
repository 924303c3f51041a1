"""Sweeps in a real store, as training leaves them, with accuracies that a test chooses."""

from __future__ import annotations

import atexit
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from stridelab import report
from stridelab.geometry import LayerGeometry, measure
from stridelab.models import CnnConfig, layer_plan
from stridelab.run import cost
from stridelab.tracking.find import SweepRecord, find_sweep, read_sweep
from stridelab.tracking.run import RunIdentity, open_run
from stridelab.tracking.settings import TrackingConfig
from stridelab.tracking.store import Store, analyze, resolve_store
from stridelab.tracking.sync import Mirror

EPOCHS = 3
ARGV = ["train.py", "-m", "model.strides=[1,1,1],[1,2,2],[2,2,1]", "seed=0,1"]


@dataclass(frozen=True)
class Fake:
    """One run; its geometry and costs are real, its accuracy is given."""

    strides: str
    seed: int
    acc: float
    padding: str = "half"
    downsample: str = "stride"
    head: str = "gap"
    name: str = ""
    """Of the variant; empty: made from strides."""
    failure: str = ""
    epochs: int = EPOCHS
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    """More of the configuration, by section."""

    @property
    def variant(self) -> str:
        return self.name or f"strides={self.strides}"

    @property
    def model(self) -> CnnConfig:
        return CnnConfig(strides=self.strides, padding=self.padding, downsample=self.downsample, head=self.head)

    @property
    def geometry(self) -> tuple[LayerGeometry, ...]:
        return measure(layer_plan(self.model, input_channels=1, input_size=(28, 28), num_classes=10))


def grid(strides: Sequence[str] = ("1-1-1", "1-2-2", "2-2-1"), seeds: Sequence[int] = (0, 1)) -> list[Fake]:
    """Accuracies that fall with the strides, with noise that seeds share and noise of their own."""
    shared = np.random.default_rng(0).normal(0, 0.003, 1000)
    own = np.random.default_rng(1).normal(0, 0.002, (len(strides), 1000))
    return [
        Fake(text, seed, acc=round(0.91 - 0.008 * row + shared[seed] + own[row, seed], 4))
        for row, text in enumerate(strides)
        for seed in seeds
    ]


@cache
def shared_results() -> Path:
    """One results folder for all sweeps of a test process: a new SQLite store takes a second or more."""
    folder = TemporaryDirectory(prefix="stridelab-tests-")
    atexit.register(folder.cleanup)
    return Path(folder.name)


def shared_store() -> Store:
    return resolve_store(TrackingConfig(), results_dir=shared_results())


def sweep_of(runs: Sequence[Fake], *, maps: bool = False, mirrored: bool = False) -> SweepRecord:
    """A sweep of its own in the shared results folder; in its store, too, if it is to be mirrored."""
    return record_sweep(shared_results(), runs, name=f"strides-{next(_numbers)}", maps=maps, mirrored=mirrored)[1]


_numbers = itertools.count(1)


def record_sweep(
    results: Path,
    runs: Sequence[Fake],
    *,
    name: str = "strides-ab12cd",
    maps: bool = False,
    argv: Sequence[str] = (),
    reused: Sequence[str] = (),
    mirrored: bool = True,
) -> tuple[Store, SweepRecord]:
    """Write the runs as training would, mirror them into SQLite (which takes seconds), read the sweep back. `reused`:
    the signatures of runs that another sweep trained, in the place of the first of these."""
    store = resolve_store(TrackingConfig(), results_dir=results)
    signatures = [*reused, *(f"{name}-{index}" for index in range(len(reused), len(runs)))]
    with Mirror(store) if mirrored else nullcontext() as mirror:
        parent = RunIdentity(f"{name}-sweep", name, role="sweep", sweep=name)
        folder = results / "sweeps" / name
        if mirror:
            mirror.watch(folder)
        with open_run(folder, parent) as record:
            record.members(signatures)
            for file, content in {**_provenance(argv or ARGV), **_variants(signatures, runs)}.items():
                (folder / file).write_text(content)
                record.artifact(folder / file)
        for signature, fake in list(zip(signatures, runs, strict=True))[len(reused) :]:
            if mirror:
                mirror.watch(results / "runs" / signature)
            with suppress(FakeFailure):
                _record_run(results / "runs" / signature, signature, fake, sweep=name, maps=maps)
        if mirror is None:
            return store, read_sweep(folder, store)
        assert mirror.flush(600)
    analyze(store)
    return store, find_sweep(store, name)


class FakeFailure(Exception):
    """How a run that is told to fail does."""


def _record_run(folder: Path, signature: str, fake: Fake, *, sweep: str, maps: bool) -> None:
    identity = RunIdentity(
        signature,
        f"{fake.variant} seed={fake.seed}",
        sweep=sweep,
        variant=fake.variant,
        parent=f"{sweep}-sweep",
        params=params_of(fake) | dict(fake.params),
        tags={"stridelab.commit": "0123456789abcdef", "stridelab.dirty": "true"} | dict(fake.tags),
    )
    with open_run(folder, identity) as run:
        run.tags({"stridelab.seed": str(fake.seed), "stridelab.data_digest": "d0"})
        layers = fake.geometry
        costs = cost(layers)
        macs = int(costs["cost/macs"])
        run.metrics(costs, step=0)
        for file, content in _files(fake, layers).items():
            (folder / file).write_text(content)
            run.artifact(folder / file)
        if fake.failure:
            raise FakeFailure(fake.failure)
        for step, values in _history(fake):
            run.metrics(values, step=step)
        run.metrics(_finals(fake, macs) | dict(fake.metrics), step=fake.epochs)
        run.artifact(_predictions(folder, fake))
        if maps:
            run.artifact(_feature_maps(folder, fake), to="feature_maps")
        digests = {"stridelab.init_digest": f"w{fake.seed}", "stridelab.batch_order_digest": f"b{fake.seed}"}
        run.tags(digests | dict(fake.tags))


def _files(fake: Fake, layers: Sequence[LayerGeometry]) -> dict[str, str]:
    config = {
        "model": asdict(fake.model),
        "data": {"name": "fashion_mnist_mini", "train_size": None} | fake.config.get("data", {}),
        "trainer": {"max_epochs": fake.epochs, "batch_size": 64, "lr": 0.1, "precision": "32-true"}
        | fake.config.get("trainer", {}),
        "sweep": fake.config.get("sweep", {}),
    }
    return {
        "geometry.json": json.dumps([asdict(layer) for layer in layers]),
        "config.json": json.dumps(config),
        "data.json": json.dumps({"num_test": 2000, "class_names": CLASSES}),
        "requirements.txt": "attrs==26.1.0\ntorch==2.14.1\n",
        **_provenance(ARGV),
    }


def _provenance(argv: Sequence[str]) -> dict[str, str]:
    machine = {"cpu": "A processor", "usable_cores": 2, "gpus": [], "system": "Linux"}
    return {"provenance.json": json.dumps({"argv": list(argv), "machine": machine, "python": {"version": "3.11.0"}})}


def _variants(signatures: Sequence[str], runs: Sequence[Fake]) -> dict[str, str]:
    own = {
        signature: {
            "name": f"{fake.variant} seed={fake.seed}",
            "variant": fake.variant,
            "params": params_of(fake) | dict(fake.params),
        }
        for signature, fake in zip(signatures, runs, strict=True)
    }
    return {"variants.json": json.dumps(own)}


def params_of(fake: Fake) -> dict[str, str]:
    params = {f"stride_{layer}": step for layer, step in enumerate(fake.strides.split("-"), start=1)}
    return {**params, "seed": str(fake.seed)}


def _history(fake: Fake) -> Iterator[tuple[int, dict[str, float]]]:
    for epoch in range(1, fake.epochs + 1):
        missing = np.exp(-epoch)
        yield (
            epoch,
            {
                "train/loss": 0.3 + missing,
                "train/acc": 0.95 - missing,
                "val/loss": 0.35 + missing,
                "val/acc": fake.acc - 0.3 * missing,
            },
        )


def _finals(fake: Fake, macs: int) -> dict[str, float]:
    return {
        "test/acc": fake.acc,
        "test/loss": 1 - fake.acc,
        "final/val_acc": fake.acc,
        "best/val_acc": fake.acc,
        "throughput/train_images_per_s": 2e10 / macs * (1 + 0.01 * fake.seed),
        "throughput/train_timed_images": 1e4,
        "throughput/train_timed_s": macs / 2e6,
        "latency/batch1_ms": 0.2 + macs / 2e7,
        "memory/saved_activations_mib": macs / 5e5,
        "memory/peak_rss_mib": 400 + macs / 4e5,
        "memory/params_mib": 0.1,
        "time/fit_s": macs / 4e5,
        "time/total_s": macs / 4e5 + 2,
    }


CLASSES = [f"class {number}" for number in range(10)]
LABELS = np.arange(2000) % 10


def _predictions(folder: Path, fake: Fake) -> Path:
    """As many wrong as the accuracy says: the first of an order that is the seed's, each taken for the next class."""
    wrong = np.random.default_rng(fake.seed).permutation(2000)[: round(2000 * (1 - fake.acc))]
    predicted = LABELS.copy()
    predicted[wrong] = (LABELS[wrong] + 1) % 10
    path = folder / "predictions.npz"
    np.savez_compressed(path, labels=LABELS.astype(np.uint8), predicted=predicted.astype(np.uint8))
    return path


def _feature_maps(folder: Path, fake: Fake) -> Path:
    """Of a network as it is before training, and of one with other weights, on real test images."""
    import torch

    from stridelab.data import DataConfig
    from stridelab.data.load import load
    from stridelab.data.splits import probe_images
    from stridelab.models.build import build
    from stridelab.models.feature_maps import feature_maps

    data = load(DataConfig())
    images = probe_images(data, 2)
    arrays: dict[str, Any] = {"images": images.numpy()}
    plan = layer_plan(fake.model, input_channels=1, input_size=(28, 28), num_classes=10)
    for step in (0, fake.epochs):
        torch.manual_seed(fake.seed + step)
        network = build(plan).eval()
        with torch.no_grad():
            for layer, maps in feature_maps(network, images / 127.5 - 1, network.conv_layers).items():
                arrays[f"{step}/{layer}"] = maps[:, :16].numpy().astype(np.float16)
    path = folder / "feature_maps.npz"
    np.savez_compressed(path, **arrays)
    return path


HOSTILE = {
    "1-1-1": "<script>document.title='owned'</script>",
    "1-2-2": '=HYPERLINK("http://evil.example/")',
    "2-2-1": "$\\frac{1}{0} **b** [red]x[/] ![](http://evil.example/a.png)",
}
REASON = "<img src='http://evil.example/b.png' onerror='document.title=1'>"


@cache
def hostile_report() -> report.ReportPaths:
    """A whole report of a sweep whose names and reasons try to be more than text."""
    runs = [replace(fake, name=HOSTILE[fake.strides]) for fake in grid()]
    runs[-1] = replace(runs[-1], failure=REASON)
    sweep = sweep_of(runs, maps=True, mirrored=True)
    return report.write_report(report.compare(sweep), shared_results() / "reports" / sweep.name, store=shared_store())

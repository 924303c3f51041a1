"""Many runs: to store them, to read them back, to report on them. What they recorded is made up; journals, mirror,
SQLite store and report are the real ones."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from unittest.mock import patch

import numpy as np

from stridelab import names, report
from stridelab.config import load
from stridelab.geometry import LayerGeometry, measure
from stridelab.plan import layer_plan_of
from stridelab.run import cost
from stridelab.tracking.find import find_sweep
from stridelab.tracking.provenance import provenance
from stridelab.tracking.run import RunIdentity, open_run
from stridelab.tracking.settings import TrackingConfig
from stridelab.tracking.store import analyze, resolve_store
from stridelab.tracking.sync import Mirror

from .rows import Row

SIDES = range(1, 11)
FLUSH_S = 60.0
EPOCHS = 10
CHANNELS, IMAGES = 8, 2
WITH_MAPS = 5
"""Variants whose first run keeps feature maps: the report shows no more."""


@dataclass(frozen=True)
class Shape:
    variants: int
    seeds: int

    @property
    def runs(self) -> int:
        return self.variants * self.seeds

    @property
    def text(self) -> str:
        return f"{self.runs:,} runs ({self.variants:,} variants x {self.seeds:,} seeds)"


FULL = (Shape(20, 10), Shape(1000, 1), Shape(3, 333))
SMALL = (Shape(4, 1), Shape(2, 4))
SEEDS = 50
"""Of the numbers of runs that a person may ask for."""


@dataclass(frozen=True)
class Seconds:
    stored: float
    read: float
    reported: float
    page_mib: float


def rows(*, tiny: bool, runs: str) -> Iterator[Row]:
    """Each number of runs in a store of its own, or only those of `runs`; rows as soon as they are measured. Ratios:
    per run, to the first row of its kind; 1 is linear."""
    first: dict[str, float] = {}
    for shape in asked(runs) or (SMALL if tiny else FULL):
        seconds = measured(shape)
        for what in ("stored", "read", "reported"):
            value = getattr(seconds, what)
            goal = "; goal 30 s" if what == "reported" and not tiny and shape.runs <= 1000 else ""
            ratio = value / shape.runs / first.setdefault(what, value / shape.runs)
            yield row(f"{what}, {shape.text}{goal}", value, unit="s", ratio=ratio)
        yield row(f"the report's page, {shape.text}", seconds.page_mib, unit="MiB")


def asked(runs: str) -> list[Shape]:
    most = SEEDS * len(SIDES) ** 3
    for word in filter(None, runs.split(",")):
        if not word.isdecimal() or int(word) % SEEDS or not 0 < int(word) <= most:
            raise ValueError(f"runs={word} must be a multiple of {SEEDS} (seeds a variant), {most:,} at most.")
    return [Shape(int(word) // SEEDS, SEEDS) for word in filter(None, runs.split(","))]


def measured(shape: Shape) -> Seconds:
    with TemporaryDirectory(prefix="stridelab-") as name:
        results = Path(name)
        store = resolve_store(TrackingConfig(), results_dir=results)
        folders = recorded(results, shape)
        start = perf_counter()
        with Mirror(store) as mirror:
            for folder in folders:
                mirror.watch(folder)
            while not mirror.flush(FLUSH_S):  # minutes, of thousands of runs on a busy machine
                assert not mirror.remedy, mirror.remedy
        analyze(store)
        stored = perf_counter()
        sweep = find_sweep(store)
        sweep.runs[0].history("val/acc")
        read = perf_counter()
        paths = report.write_report(report.compare(sweep), results / "reports" / sweep.name, store=store)
        reported = perf_counter()
        assert not paths.problems, paths.problems
        assert len(sweep.runs) == shape.runs
        return Seconds(stored - start, read - stored, reported - read, paths.html.stat().st_size / 2**20)


def recorded(results: Path, shape: Shape) -> list[Path]:
    """The journals of a sweep and its runs, as training leaves them, but that nothing waits for the disk; their
    folders, the sweep's first."""
    with patch("os.fsync"):
        return written(results, shape)


def written(results: Path, shape: Shape) -> list[Path]:
    points = list(product(strides_of(shape.variants), range(shape.seeds)))
    signatures = [f"{index:016x}" for index in range(len(points))]
    folders = [results / "sweeps" / "many"]
    with open_run(folders[0], RunIdentity("many", "many", role="sweep", sweep="many")) as parent:
        parent.members(signatures)
    origin = provenance()
    for signature, (strides, seed) in zip(signatures, points, strict=True):
        folders.append(results / "runs" / signature)
        record(folders[-1], signature, strides, seed, origin, maps=seed == 0 and strides in strides_of(WITH_MAPS))
    return folders


def strides_of(count: int) -> Sequence[str]:
    return ["-".join(map(str, sides)) for sides in product(SIDES, repeat=3)][:count]


@cache
def geometry_of(strides: str) -> tuple[LayerGeometry, ...]:
    return tuple(measure(layer_plan_of(load([f"model.strides={strides}"]))))


def record(folder: Path, signature: str, strides: str, seed: int, origin: dict[str, str], *, maps: bool) -> None:
    random = np.random.default_rng([seed, *map(int, strides.split("-"))])
    layers = geometry_of(strides)
    costs = cost(layers)
    sides = {f"stride_{layer}": side for layer, side in enumerate(strides.split("-"), start=1)}
    identity = RunIdentity(
        signature, f"strides={strides} seed={seed}", sweep="many", variant=f"strides={strides}", parent="many",
        params={**sides, "seed": seed}, tags={"stridelab.commit": "0" * 40, "stridelab.dirty": "false"},
    )  # fmt: skip
    with open_run(folder, identity) as run:
        run.tags({"stridelab.data_digest": "d", "stridelab.seed": str(seed), names.STATUS: "finished"})
        run.metrics(costs, step=0)
        last = {}
        best = 0.7 + 0.02 * np.log10(costs["cost/macs"]) + random.normal(0, 0.004)
        for epoch in range(1, EPOCHS + 1):
            accuracy = best - 0.3 * 0.6**epoch + random.normal(0, 0.002, size=2)
            loss = 2.2 * (1 - accuracy)
            last = dict(zip(["train/acc", "val/acc", "train/loss", "val/loss"], [*accuracy, *loss], strict=True))
            run.metrics(last, step=epoch)
        speed = 2e10 / (costs["cost/macs"] + 2e6)
        run.metrics(
            {
                **{f"final/{name.replace('/', '_')}": value for name, value in last.items()},
                "best/val_acc": last["val/acc"],
                "test/acc": best + random.normal(0, 0.002),
                "test/loss": last["val/loss"],
                "throughput/train_images_per_s": speed * random.normal(1, 0.03),
                "throughput/eval_images_per_s": 3 * speed * random.normal(1, 0.03),
                "latency/batch1_ms": 0.4 + costs["cost/macs"] / 1e7,
                "memory/peak_rss_mib": 60 + costs["cost/macs"] / 1e5 * random.normal(1, 0.02),
                "memory/saved_activations_mib": 4 + costs["cost/macs"] / 2e5,
                "memory/params_mib": costs["cost/params"] * 4 / 2**20,
                "time/fit_s": 7200 * EPOCHS / speed,
                "time/total_s": 7200 * EPOCHS / speed + 1,
            },
            step=EPOCHS,
        )
        digest = f"{seed:064x}"
        run.tags({"stridelab.init_digest": digest, "stridelab.batch_order_digest": digest})
        config = asdict(load([f"model.strides={strides}"])) | {"seed": seed}
        files = origin | {
            "geometry.json": json.dumps([asdict(layer) for layer in layers], indent=1),
            "config.json": json.dumps(config, indent=1),
        }
        for name, content in files.items():
            (folder / name).write_text(content)
            run.artifact(folder / name)
        if maps:
            run.artifact(feature_maps(folder, layers, random), to="feature_maps")


def feature_maps(folder: Path, layers: Sequence[LayerGeometry], random: np.random.Generator) -> Path:
    """Noise of the right shapes."""
    arrays = {
        f"{step}/{layer.name}": random.normal(size=(IMAGES, CHANNELS, *layer.output_size)).astype(np.float16)
        for step in (0, EPOCHS)
        for layer in layers
        if layer.kind == "conv"
    }
    path = folder / "feature_maps.npz"
    np.savez_compressed(path, images=np.zeros((IMAGES, 1, 28, 28), np.uint8), **arrays)  # type: ignore[arg-type]
    return path


def row(name: str, value: float, *, unit: str, ratio: float | None = None) -> Row:
    return Row(section="store", name=name, value=value, unit=unit, ratio=ratio, n=1)

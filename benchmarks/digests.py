"""Did a change of the code change the numbers? Eight small trainings, and digests of all that they compute.

    python benchmarks/digests.py --json before.json
    ... change the code ...
    python benchmarks/digests.py --against before.json

Each configuration is trained by `train.py` of the current folder, in seconds on the CPU, into a temporary folder. What
it leaves there is read as any other program could read it, without a module of this project: tags and metrics from the
run's journal or else from MLflow's database, feature maps from their `.npz`. The table has 12 hex digits of SHA-256 a
cell. The JSON file has every metric at every step and a digest of every array as well, so that `--against` can name the
first difference; it then exits with 1. Equal bits are promised on one kind of CPU, with one version of PyTorch.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

SMALL = "data.train_size=500 trainer.max_epochs=1 trainer.feature_map_images=2"
"""In every configuration: a last batch of 52 images, and feature maps before and after the epoch."""

CONFIGURATIONS = {
    "default": "",
    "same": "model.strides=2-2-1 model.padding=same",  # an even size at stride 2: pads of 0 before and 1 after
    "valid_flatten": "model.padding=valid model.head=flatten",
    "reflect_1x2": "model.padding=same model.padding_mode=reflect model.strides=1x2-2x1-1",
    "circular_dilated": "model.padding_mode=circular model.dilations=1-2-2",
    "crop_flip": "trainer.crop=2 trainer.flip=true",
    "two_epochs": "seed=1 trainer.max_epochs=2 trainer.lr=0.05 trainer.schedule=cosine trainer.label_smoothing=0.1 "
    "trainer.batch_size=48 data.val_size=333",
    "bf16": "trainer.precision=bf16-mixed trainer.lr=0.02 trainer.schedule=constant",
}

TAGS = {
    "initial weights": "stridelab.init_digest",
    "batch order": "stridelab.batch_order_digest",
    "final weights": "stridelab.weights_digest",
}
CELLS = (*TAGS, "feature maps", "metrics")
REPEATABLE = re.compile(r"cost/.*|.*(loss|acc)")
"""Metrics that follow from the configuration; all others measure time or memory."""
NUM_DIGITS = 12


@dataclass
class Record:
    """What a run recorded. A value that JSON has no number for is a text: nan."""

    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[tuple[int, str], float | str] = field(default_factory=dict)
    """By step and name."""


def main() -> int:
    options = parse_arguments()
    found = {}
    print(table_row("configuration", CELLS), flush=True)
    with TemporaryDirectory(prefix="digests-") as scratch:
        for name, choices in CONFIGURATIONS.items():
            results = Path(scratch, name)
            train([*SMALL.split(), *choices.split()], results)
            found[name] = {"arguments": f"{SMALL} {choices}".strip(), **outcome(results)}
            print(table_row(name, [cell_text(found[name][cell]) for cell in CELLS]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    if options.against:
        difference = first_difference(json.loads(options.against.read_text()), found)
        print(f"Not as in {options.against}: {difference}" if difference else f"All as in {options.against}.")
        return 1 if difference else 0
    return 0


def parse_arguments() -> argparse.Namespace:
    assert __doc__ is not None
    title, _, details = __doc__.partition("\n")
    parser = argparse.ArgumentParser(
        description=title, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was found")
    parser.add_argument("--against", type=Path, metavar="FILE", help="compare with what an earlier call wrote")
    return parser.parse_args()


def train(arguments: Sequence[str], results: Path) -> None:
    command = [sys.executable, "train.py", *arguments, f"paths.results_dir={results}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}")


def outcome(results: Path) -> dict[str, Any]:
    """By cell what the one run under `results` computed: a digest, or a mapping of several things by name."""
    for record in chain(in_journals(results), in_database(results)):
        metrics = repeatable(record)
        if metrics and all(tag in record.tags for tag in TAGS.values()):
            digests = {cell: record.tags[tag][:NUM_DIGITS] for cell, tag in TAGS.items()}
            return {**digests, "feature maps": feature_maps(results), "metrics": metrics}
    raise SystemExit(f"No journal or database under {results} has metrics and the tags {', '.join(TAGS.values())}.")


def in_journals(results: Path) -> Iterator[Record]:
    """One JSON record a line: {"kind": "tags", "data": {name: value}} or
    {"kind": "metrics", "data": {"step": ..., "values": {name: value}}}."""
    for path in sorted(results.rglob("*.jsonl")):
        record = Record()
        for line in path.read_text().splitlines():
            match json.loads(line):
                case {"kind": "tags", "data": tags}:
                    record.tags |= tags
                case {"kind": "metrics", "data": {"step": step, "values": values}}:
                    record.metrics |= {(step, name): value for name, value in values.items()}
        yield record


def in_database(results: Path) -> Iterator[Record]:
    for path in sorted(results.rglob("*.db")):
        with closing(sqlite3.connect(path)) as store:
            for (run,) in store.execute("SELECT run_uuid FROM runs").fetchall():
                tags = store.execute("SELECT key, value FROM tags WHERE run_uuid = ?", (run,))
                points = store.execute("SELECT step, key, value, is_nan FROM metrics WHERE run_uuid = ?", (run,))
                metrics = {(step, name): "nan" if is_nan else value for step, name, value, is_nan in points}
                yield Record(dict(tags), metrics)


def repeatable(record: Record) -> dict[str, float | str]:
    """By name and step, in the order of steps, so that a first difference is the earliest."""
    return {
        f"{name} at step {step}": record.metrics[step, name]
        for step, name in sorted(record.metrics)
        if REPEATABLE.fullmatch(name)
    }


def feature_maps(results: Path) -> dict[str, str]:
    """A digest of every array: of its `.npy` header, which has type and shape, and its values."""
    path = next(iter(sorted(results.rglob("*.npz"))), None)
    if path is None:
        raise SystemExit(f"There are no feature maps (.npz) under {results}.")
    with zipfile.ZipFile(path) as arrays:
        return {name: digest(arrays.read(name)) for name in sorted(arrays.namelist())}


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:NUM_DIGITS]


def cell_text(value: str | Mapping[str, Any]) -> str:
    return value if isinstance(value, str) else digest(json.dumps(value, sort_keys=True).encode())


def table_row(name: str, cells: Sequence[str]) -> str:
    return f"{name:16}" + "".join(f"  {cell:15}" for cell in cells).rstrip()


def first_difference(was: Any, now: Any, *place: str) -> str:
    """Where two nested mappings differ first, in words; empty: nowhere."""
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        keys = dict.fromkeys([*was, *now])
        return next(filter(None, (first_difference(was.get(key), now.get(key), *place, key) for key in keys)), "")
    return "" if was == now else f"{', '.join(place)}: {was}, now {now}"


if __name__ == "__main__":
    sys.exit(main())

"""The processes that `benchmark.py data` starts: `WHAT FOLDER CACHE tiny|full`; they print what they found as JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from stridelab.data.settings import DataConfig
from stridelab.system.processes import usable_cores

from .data import BATCH, SIZE_PX


def build(config: DataConfig, *, tiny: bool) -> dict[str, Any]:
    from stridelab.data.decode import decode

    def taken(*, checked: bool) -> float:
        start = time.perf_counter()
        decode(config, checked=checked, progress=lambda event: None)
        return time.perf_counter() - start

    build_s = taken(checked=False)
    again = range(1 if tiny else 5)
    return {
        "build_s": build_s,
        "checked_s": [taken(checked=False) for _ in again],
        "trusted_s": [taken(checked=True) for _ in again],
    }


def epochs(config: DataConfig, *, tiny: bool) -> dict[str, Any]:
    """Images a second, in turns, one thread each but for the loader's workers."""
    import torch

    from stridelab.data.load import load
    from stridelab.data.splits import Split

    torch.set_num_threads(1)
    data = load(config, checked=True)
    in_memory = Split(data.train.images, data.train.labels)
    workers = usable_cores()
    loader, num_loaded = loader_of(config, data.spec.mean, data.spec.std, workers=workers, tiny=tiny)
    found: dict[str, list[float]] = {"memory": [], "cache": [], "loader": []}
    for _ in range(1 if tiny else 5):
        found["memory"].append(speed(batches_of(in_memory, data.spec.mean, data.spec.std), len(data.train)))
        found["cache"].append(speed(batches_of(data.train, data.spec.mean, data.spec.std), len(data.train)))
    for _ in range(1 if tiny else 2):
        found["loader"].append(speed(loader, num_loaded))
    return {**found, "workers": workers}


def speed(batches: Iterable[Any], count: int) -> float:
    start = time.perf_counter()
    assert sum(len(labels) for _, labels in batches) == count
    return count / (time.perf_counter() - start)


def batches_of(split: Any, mean: Any, std: Any) -> Any:
    import torch

    from stridelab.data.batches import Batches

    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(split), generator=generator)
    return Batches(split, batch_size=BATCH, mean=mean, std=std, order=lambda epoch: order)


def loader_of(config: DataConfig, mean: Any, std: Any, *, workers: int, tiny: bool) -> tuple[Any, int]:
    """What a user would write; over a fifth of the images, as it is slow."""
    from torch.utils.data import DataLoader, Subset
    from torchvision.datasets import ImageFolder  # type: ignore[import-untyped]
    from torchvision.transforms import (  # type: ignore[import-untyped]
        CenterCrop,
        Compose,
        Normalize,
        Resize,
        ToTensor,
    )

    recipe = Compose([Resize(SIZE_PX), CenterCrop(SIZE_PX), ToTensor(), Normalize(mean, std)])
    files = ImageFolder(config.root, recipe)
    part = Subset(files, range(0, len(files), 1 if tiny else 5))
    return DataLoader(part, batch_size=BATCH, shuffle=True, num_workers=workers), len(part)


def peak(config: DataConfig, *, tiny: bool) -> dict[str, Any]:
    """VmHWM of this process (ru_maxrss would count what it was forked from)."""
    from stridelab.data.load import load

    data = load(config, checked=True)
    for split in (data.train, data.val, data.test):
        speed(batches_of(split, data.spec.mean, data.spec.std), len(split))
    status = Path("/proc/self/status").read_text()
    return {"peak_mib": int(status.split("VmHWM:")[1].split()[0]) / 1024}


PROCESSES: dict[str, Callable[..., dict[str, Any]]] = {"build": build, "epochs": epochs, "peak": peak}


def main() -> None:
    what, folder, cache, size = sys.argv[1:]
    config = DataConfig(name="image_folder", root=folder, size=SIZE_PX, cache_dir=cache)
    json.dump(PROCESSES[what](config, tiny=size == "tiny"), sys.stdout)


if __name__ == "__main__":
    main()

"""What is refused before anything is created."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from stridelab.config import Config
from stridelab.data import DataConfig, DataSpec
from stridelab.data.files import fetch
from stridelab.models.settings import spell_field
from stridelab.plan import Variant, layer_plan_of
from stridelab.run import prepare
from stridelab.system.processes import open_files
from stridelab.training.checksummed import read_sealed
from stridelab.training.settings import TrainerConfig

from .devices import Devices, found_devices
from .gpu_jobs import shared_process
from .launcher import Launcher
from .progress import Decoding, screen
from .task import Listener, Task

FILES, FILES_A_JOB = 128, 16
"""Open files that conducting takes (a store, a server's connections, libraries), and each run at a time."""
WANTED_FILES = 4096


def refuse(variants: Sequence[Variant], *, stop: bool) -> None:
    """ValueError for impossible variants: all of them at once; in a sweep only when none is left or on request."""
    bad = [variant for variant in variants if variant.error is not None]
    if bad and (stop or len(bad) == len(variants)):
        raise ValueError("\n       ".join(dict.fromkeys(f"{settings(variant)}: {variant.error}." for variant in bad)))


def settings(variant: Variant) -> str:
    """The keys that decide a geometry, as they are typed."""
    model = variant.config.model
    keys = (one.name for one in fields(model) if one.name != "family" and getattr(model, one.name) not in (None, {}))
    return " ".join(f"model.{key}={spell_field(model, key)}" for key in keys)


def refuse_bad_checkpoint(config: Config) -> None:
    """ValueError when `ckpt_path` is missing, damaged, or none of ours."""
    if config.ckpt_path is None:
        return
    try:
        read_sealed(Path(config.ckpt_path))
    except OSError as error:
        raise ValueError(f"ckpt_path={config.ckpt_path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise ValueError(f"ckpt_path={config.ckpt_path}: {error}") from None


def refuse_no_compiler(config: Config) -> None:
    """ValueError when the step is to be compiled on a CPU and what that takes is missing."""
    if not config.trainer.compile or config.trainer.accelerator != "cpu":
        return
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(compiler) is None:
        missing = f"a C++ compiler, and {compiler} is not found; install one, or name it in CXX"
    elif not Path(sysconfig.get_path("include"), "Python.h").exists():
        missing = "Python's headers, and Python.h is not found; install them (python3-dev)"
    else:
        return
    raise ValueError(f"trainer.compile=true needs {missing}, or give trainer.compile=false.")


def refuse_no_device(configs: Sequence[Config], console: Console) -> None:
    """ValueError when runs are to train on a device that PyTorch does not find here."""
    if not (asking := [config for config in configs if asks_for_device(config.trainer)]):
        return
    try:
        with console.status("loading PyTorch, and asking it for devices ..."):
            found = found_devices()
    except ValueError as error:
        wanted = asking[0].trainer.accelerator
        raise ValueError(
            f"trainer.accelerator={wanted}: PyTorch does not say which devices are here ({error}); does nvidia-smi?"
        ) from None
    for config in asking:
        refuse_missing(config.trainer, found)


def asks_for_device(trainer: TrainerConfig) -> bool:
    return trainer.accelerator in ("gpu", "mps") or trainer.precision == "16-mixed"


def refuse_missing(trainer: TrainerConfig, found: Devices) -> None:
    wanted, there = trainer.accelerator, {"gpu": found.gpus > 0, "mps": found.mps}
    if trainer.precision == "16-mixed" and not any(there.values()):
        raise ValueError("trainer.precision=16-mixed needs a GPU, and PyTorch finds none here; choose bf16-mixed.")
    if not there.get(wanted, True):
        others = [name for name, is_there in there.items() if is_there]
        raise ValueError(
            f"trainer.accelerator={wanted}: PyTorch {found.torch} finds no such device here; "
            f"choose one of {', '.join(['cpu', 'auto', *others])}."
        )
    if wanted == "gpu" and found.gpus < trainer.devices:
        raise ValueError(
            f"trainer.devices={trainer.devices}: PyTorch finds {found.gpus} GPUs here; give that, or less."
        )


def refuse_seeds_together(config: Config) -> None:
    """ValueError where a step cannot be a branch of one CUDA graph."""
    trainer, together = config.trainer, config.sweep.seeds_together
    if together == 1:
        return
    needs = {
        "trainer.accelerator=gpu": trainer.accelerator in ("gpu", "auto"),
        "trainer.cuda_graph=true": trainer.cuda_graph,
        "trainer.compile=false": not trainer.compile,
        "trainer.devices=1": trainer.devices == 1,
        "a network without dropout": all(layer.kind != "dropout" for layer in layer_plan_of(config).layers),
    }
    if missing := [what for what, given in needs.items() if not given]:
        raise ValueError(
            f"sweep.seeds_together={together}: seeds train together as branches of one CUDA graph, which needs "
            f"{', '.join(missing)}; or give sweep.seeds_together=1."
        )


def enough_files(jobs: int) -> None:
    """Raise our own limit of open files; ValueError when the system's is too low to work with."""
    most, needed = open_files(WANTED_FILES), FILES + FILES_A_JOB * jobs
    if most is not None and most < needed:
        raise ValueError(f"this system lets a process open {most} files; sweep.jobs={jobs} needs {needed}: ulimit -n.")


def fetch_data(wanted: Iterable[DataConfig], *, download: bool) -> None:
    """Find the files of each data set, or download them here, where a person sees the progress."""
    for config in dict.fromkeys(wanted):
        fetch(config if download else replace(config, download=False))


def writable(results: Path) -> Path:
    """The folder, made; a file is really written, since permissions do not tell of a read-only or a full disk."""
    try:
        results.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"paths.results_dir={results} cannot be made: {error.strerror}.") from None
    try:
        with tempfile.TemporaryFile(dir=results) as file:
            file.write(b"1")
    except OSError as error:
        raise ValueError(f"paths.results_dir={results} cannot be written to: {error.strerror}.") from None
    return results


def read_data_specs(launcher: Launcher, configs: Sequence[Config]) -> dict[DataConfig, DataSpec]:
    """Each data set read once, in a child, so that a damaged file is known before the first run."""
    found: dict[DataConfig, DataSpec] = {}
    with Decoding(screen()) as decoding:
        for config in configs:
            if config.data not in found or config.ckpt_path is not None:
                reading = Task(prepare, (config,), shares=shared_process(config))
                found[config.data] = call(launcher, reading, decoding.event)
    return found


def call(launcher: Launcher, task: Task, on_event: Callable[[Mapping[str, Any]], None]) -> Any:
    """The value of one task; ValueError with the reason why it has none."""
    (outcome,) = launcher.run([task], Listener(event=lambda index, event: on_event(event)))
    if outcome.reason is not None:
        raise ValueError(outcome.reason)
    return outcome.value

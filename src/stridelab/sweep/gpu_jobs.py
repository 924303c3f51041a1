"""How many runs train at once on the GPUs of this machine: as many as their memory, its cores and the runs allow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil

from stridelab.config import Config
from stridelab.data.catalog.user import USER_DATASETS
from stridelab.data.contents import contents_of
from stridelab.models.user_family import USER_FAMILIES
from stridelab.plan import Variant
from stridelab.plan.variant_row import Figures
from stridelab.system.gpus import Gpu
from stridelab.system.memory import MIB, available_mib
from stridelab.system.processes import usable_cores

PROCESS_MIB = 1100
"""Of a run, beside its own tensors: the CUDA context, the libraries' code, cuBLAS's workspaces (one H100)."""
BRANCH_MIB = 64
"""Of a run that trains beside others in its process: cuBLAS has a workspace of 32 MiB (CUBLAS_WORKSPACE_CONFIG=:4096:8)
on its CUDA stream for each thread, of the forward and of the backward pass."""
HOST_MIB = 2048
"""Of the machine, for each process that holds CUDA's libraries: assumed, to be on the safe side."""
SAFE_SHARE = 0.8
"""Of the free memory that is planned with."""
MOST_A_CARD = 12
"""Runs at once: so many have been measured, on an H100 (4.9 x the images/s of one; 6 at once: 3.7 x)."""
LABEL_BYTES = 8
PROCESS_KEYS = ("precision", "tf32", "deterministic", "threads", "cuda_graph")
"""Of the trainer: what they set holds for the whole process."""
GIB_MIB = 1024


@dataclass(frozen=True)
class GpuJobs:
    jobs: int
    said: str
    """One sentence for the screen; empty when there is nothing to say."""
    cards: tuple[str, ...] = ()
    """Values of CUDA_VISIBLE_DEVICES to spread the runs over; none: as it is."""


def shared_process(config: Config) -> str:
    """What makes runs alike that may have one process, one after the other, and so begin CUDA once; empty where a run
    needs one of its own: on a CPU, where that costs nothing, and where code that is not ours runs in it."""
    trainer = config.trainer
    users = config.model.family in USER_FAMILIES or config.data.name in USER_DATASETS
    together = config.sweep.seeds_together > 1
    if trainer.accelerator != "gpu" or trainer.devices > 1 or trainer.compile or trainer.profiler or users or together:
        return ""
    return " ".join(f"{key}={getattr(trainer, key)}" for key in PROCESS_KEYS)


def run_mib(figures: Figures) -> float | None:
    """Memory of a card that a run is predicted to need; None where a layer's is not known. The peak of a step counts
    twice: its CUDA graph keeps that memory, beside what steps of another batch size take, or evaluation."""
    memory = figures.memory
    if memory.total is None:
        return None
    step = max(memory.with_workspaces.size, memory.total)  # the former is a lower bound where there is no peak
    return PROCESS_MIB + (step + max(step, memory.evaluation.size) + data_bytes(figures.config)) / MIB


def data_bytes(config: Config) -> int:
    """Of all images as they lie on the card: uint8, and a label each."""
    contents = contents_of(config.data)
    height, width = contents.facts.input_size
    image = contents.facts.input_channels * height * width + LABEL_BYTES
    return image * (contents.num_train + contents.num_val + contents.facts.num_test)


def largest_mib(variants: Iterable[Variant]) -> float | None:
    """Of those that can be trained; None where one is not known."""
    once = {(variant.name, variant.config.data): variant for variant in variants}
    needs = [run_mib(Figures(one.config, one.layers)) for one in once.values() if one.layers is not None]
    return None if None in needs else max((need for need in needs if need), default=None)


def choose_here(config: Config, gpus: Sequence[Gpu] | None, *, need_mib: float | None, runs: int) -> GpuJobs:
    """With what this machine has."""
    here = {"cores": usable_cores(), "host_mib": available_mib()}
    return choose(config, gpus, need_mib=need_mib, runs=runs, **here)


def choose(
    config: Config, gpus: Sequence[Gpu] | None, *, need_mib: float | None, runs: int, cores: int, host_mib: int
) -> GpuJobs:
    """`gpus`: what is visible here, None where that is not known; `need_mib`: of the largest run; `host_mib`: available
    memory of the machine. A job is a process, of sweep.seeds_together runs."""
    wanted, together = config.sweep.jobs, config.sweep.seeds_together
    runs = ceil(runs / together)
    if not gpus or need_mib is None:
        unknown = "the memory of a layer" if gpus else "what is free on the GPU here"
        said = f"1 run at once: {unknown} is not known; sweep.jobs=N decides otherwise."
        return GpuJobs(min(wanted or 1, runs), "" if wanted or runs == 1 else said)
    need_mib = PROCESS_MIB + together * (need_mib - PROCESS_MIB + (BRANCH_MIB if together > 1 else 0))
    groups = grouped(gpus, config.trainer.devices)
    fit = sum(int(SAFE_SHARE * free_mib(group) / need_mib) for group in groups)
    bounds = {
        "the number of runs": runs,
        "that memory": fit,
        f"the {cores} cores": cores // (config.trainer.threads * config.trainer.devices),
        f"{host_mib / GIB_MIB:.0f} GiB of the machine's own memory": host_mib // (HOST_MIB * config.trainer.devices),
        f"what was tried, {MOST_A_CARD} on a card": MOST_A_CARD * len(groups),
    }
    least = min(bounds, key=lambda bound: bounds[bound])
    jobs = max(1, min(wanted or bounds[least], runs))
    pinned = len(groups) > 1 or len(groups[0]) < len(gpus)
    cards = tuple(",".join(gpu.card for gpu in group) for group in groups) if pinned else ()
    if jobs == 1 == runs and fit:
        return GpuJobs(jobs, "", cards)
    what = f"run{'s' * (jobs > 1)}" if together == 1 else f"x {together} runs"
    said = (
        f"{jobs} {what} at once{' (sweep.jobs)' * bool(wanted)} on {placed(groups)}: {need_mib / GIB_MIB:.1f} GiB each "
    )
    return GpuJobs(jobs, said + how(wanted, least, fits=jobs <= fit), cards)


def how(wanted: int | None, limit: str, *, fits: bool) -> str:
    share = f"{SAFE_SHARE:.0%} of what is free"
    if not fits:
        lower = "sweep.jobs or trainer.batch_size" if wanted and wanted > 1 else "trainer.batch_size"
        return f"predicted, more than {share}: they may end out of memory; lower {lower}."
    return (
        "predicted."
        if wanted
        else f"predicted, {share} planned with, limited by {limit}; sweep.jobs=N decides otherwise."
    )


def grouped(gpus: Sequence[Gpu], devices: int) -> list[Sequence[Gpu]]:
    """As many as a run trains on, each; all as one where they are unlike, since runs on unlike cards differ by more
    than what is compared."""
    alike = len({gpu.name for gpu in gpus}) == 1
    whole = range(0, len(gpus) - devices + 1, devices) if alike else ()
    return [gpus[at : at + devices] for at in whole] or [gpus]


def free_mib(group: Sequence[Gpu]) -> int:
    return min(gpu.free_mib for gpu in group)


def placed(groups: Sequence[Sequence[Gpu]]) -> str:
    """`2 x NVIDIA L4 (21.9 GiB free, at least)`"""
    free = f"{min(map(free_mib, groups)) / GIB_MIB:.1f} GiB free"
    names = Counter(gpu.name for group in groups for gpu in group)
    if len(names) > 1:
        return f"one of {', '.join(names)}, unlike cards that runs are not spread over ({free}, at least)"
    ((name, count),) = names.items()
    return f"{name} ({free})" if count == 1 else f"{count} x {name} ({free}, at least)"

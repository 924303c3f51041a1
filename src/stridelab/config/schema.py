"""The whole configuration, typed. Defaults live in these classes; a YAML file exists only where choices differ."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, make_dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from stridelab.data.catalog import DATASETS
from stridelab.data.settings import DataConfig
from stridelab.models.families import FAMILIES, CnnConfig, settings_of
from stridelab.models.settings import ModelConfig
from stridelab.names import MAX_NAME, NO_EFFECT, PLAIN_NAME
from stridelab.probes.catalog import refuse_other_task, refuse_unknown
from stridelab.tracking.settings import TrackingConfig
from stridelab.training.settings import TrainerConfig
from stridelab.training.tasks import TASKS

if TYPE_CHECKING:
    from stridelab.tracking.store import Store

MAX_JOBS = 4096
MAX_RUNS_PER_JOB = 100_000
MAX_SEEDS_TOGETHER = 64
NAME_RULE = (
    f"must be letters, digits, '.', '_' or '-', starting with a letter or digit, {MAX_NAME} at most: "
    "a folder is named after it"
)


@dataclass(frozen=True)
class PathsConfig:
    results_dir: str = "results"
    """Everything generated goes under it: store, artifacts, run folders, reports."""

    def __post_init__(self) -> None:
        if not self.results_dir:
            raise ValueError("paths.results_dir='' must name a folder.")
        if self.results_dir.encode(errors="replace").decode() != self.results_dir:
            raise ValueError(f"paths.results_dir={self.results_dir!r} must be text in UTF-8.")


@dataclass(frozen=True)
class SweepConfig:
    name: str | None = None
    """What the sweep is called in the store and in results/reports/; made from its question when null."""
    jobs: int | None = None
    """Runs at a time; null: as many as the processor's cores allow with trainer.threads each and, on a GPU, as the
    memory that is free there."""
    report: bool = True
    """Write the comparison notebook, HTML, tables and figures when the sweep ends."""
    preview: bool = False
    """Only say what is done, to continue and to do, and how long it may take; create nothing."""
    margin: float | None = None
    """Differences to the baseline that do not matter, up to this many points (or so much in the metric's unit): the
    report calls variants equivalent that are within it. To be set before the runs; null: none."""
    fail_fast: bool = False
    """End the sweep at the first run that does not finish."""
    plans: str | None = None
    """A space of plans in words, priced before anything trains: 'strides in {1,2,3}, padding in {half,valid},
    macs<=5M'. Sets of settings span it; macs, params, memory, field, effective_stride and map bound it."""
    plans_keep: str = "all"
    """Which of the plans within the bounds. all. pareto_cost: those that no other equals at no more MACs and memory
    with as large a field and as fine a map. A number: so many, drawn by the digests of their names; a larger number
    holds a smaller one's."""
    cpus_per_run: float | None = None
    """launcher=ray: processors that a run holds, parts of one too; null: trainer.threads."""
    gpus_per_run: float | None = None
    """launcher=ray: GPUs that a run holds; 0.25 lets four share one. null: one where the accelerator is a GPU, else
    none."""
    seeds_together: int = 1
    """Seeds of a variant that train together in one process on a GPU, the step of each a branch of one CUDA graph: the
    same bits, more of the GPU busy where networks are small; sweep.jobs counts such processes. A crash takes all of
    them; the same command goes on with each from its own checkpoint."""
    runs_per_job: int = 1
    """launcher=slurm: runs that one job of the array carries, as many at a time as its processors allow."""

    def __post_init__(self) -> None:
        for key in ("cpus_per_run", "gpus_per_run"):
            if (value := getattr(self, key)) is not None and not 0 <= value <= MAX_JOBS:
                raise ValueError(f"sweep.{key}={value} must be from 0 to {MAX_JOBS:,}, or null.")
        if not 1 <= self.seeds_together <= MAX_SEEDS_TOGETHER:
            raise ValueError(f"sweep.seeds_together={self.seeds_together} must be from 1 to {MAX_SEEDS_TOGETHER}.")
        if not 1 <= self.runs_per_job <= MAX_RUNS_PER_JOB:
            raise ValueError(f"sweep.runs_per_job={self.runs_per_job} must be from 1 to {MAX_RUNS_PER_JOB:,}.")
        if self.jobs is not None and not 1 <= self.jobs <= MAX_JOBS:
            raise ValueError(f"sweep.jobs={self.jobs} must be at least 1 and at most {MAX_JOBS:,}, or null.")
        if self.margin is not None and not 0 < self.margin < float("inf"):
            raise ValueError(f"sweep.margin={self.margin} must be above 0 (in points, or the metric's unit), or null.")
        if self.plans_keep not in ("all", "pareto_cost") and not re.fullmatch("[1-9][0-9]*", self.plans_keep):
            raise ValueError(f"sweep.plans_keep={self.plans_keep} must be all, pareto_cost or a number of plans.")
        if self.name is not None and not PLAIN_NAME.fullmatch(self.name):
            raise ValueError(f"sweep.name={self.name!r} {NAME_RULE}.")


@dataclass(frozen=True)
class SearchConfig:
    name: str | None = None
    """How the plans are found that all seeds are spent on: halving, race or optuna; null: all plans have all seeds."""
    seed: int = 1000
    """Of what the search draws, and of the training that chooses; none of the sweep's seeds, which are fresh then."""
    front: bool = True
    """true: a plan competes with those of no more MACs (halving: of its octave of MACs), so that the whole front of
    accuracy and cost is found. false: with all."""
    keep: float = 1 / 3
    """Share of the plans, of each octave of MACs, that halving takes to the next rung, rounded up."""
    rungs: list[int] = field(default_factory=list)
    """Epochs of halving's rungs; empty: a ninth, a third and all of trainer.max_epochs."""
    test: str = "t"
    """How race tells that a plan is worse, paired by seed. t: Student's, with the spread pooled over all plans.
    sign_flip: exact, without assumptions, and of many seeds."""
    alpha: float = 0.05
    """Chance, at most, that race drops a plan that none of no more MACs beats, over all of its looks."""
    trials: int = 30
    """Plans that optuna trains."""
    batch: int = 4
    """Plans that optuna proposes at a time, to be trained side by side."""

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"search.seed={self.seed} must be from 0 to 2**63 - 1.")
        for name, value, most in (("keep", self.keep, 1), ("alpha", self.alpha, 0.5)):
            if not 0 < value < most:
                raise ValueError(f"search.{name}={value} must be above 0 and below {most}.")
        for name in ("trials", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"search.{name}={getattr(self, name)} must be at least 1.")
        if self.test not in ("t", "sign_flip"):
            raise ValueError(f"search.test={self.test!r} is not one of its choices; choose one of t, sign_flip.")
        if any(a >= b for a, b in zip([0, *self.rungs], self.rungs, strict=False)):
            raise ValueError(f"search.rungs={self.rungs} must be numbers of epochs that grow, such as [1,3,9].")


@dataclass(frozen=True)
class LauncherConfig:
    """Keys of an engine that another one does not read must be as they are here."""

    name: str = "local"
    """Where runs are executed. local: each in its own child process, sweep.jobs at a time. in_process: in this
    process, one after the other, for a debugger. ray: on a Ray cluster, or on one started here. slurm: as an array of
    Slurm's jobs."""
    address: str | None = None
    """ray: host:port of the cluster to join, whose results folder and stridelab must be the same as here; null: one is
    started on this machine for the sweep."""
    sbatch: str = ""
    """slurm: what the jobs ask for, as sbatch takes it: --partition=long --time=60 --gres=gpu:1."""
    on_exit: str = "cancel"
    """slurm: what becomes of the jobs when this process is ended. cancel: they are. leave: they go on, and the same
    command takes their results."""

    def __post_init__(self) -> None:
        if self.on_exit not in ("cancel", "leave"):
            raise ValueError(f"launcher.on_exit={self.on_exit!r} must be one of cancel, leave.")


@dataclass(frozen=True)
class Config:
    task_name: str = field(default="train", metadata=NO_EFFECT)
    """A word for what this is about; part of a sweep's name, and so of a folder's."""
    tags: list[str] = field(default_factory=list, metadata=NO_EFFECT)
    """Free words, searchable in the MLflow UI."""
    task: str = field(default="classify", metadata={"choices": TASKS})
    """What the network is asked for. classify: the class of the image. locate: whether there is an object, and where
    its centre is. segment: the class of every pixel. The last two need data that knows it: data=canvas."""
    seed: int = 0
    """All randomness is a pure function of it, a purpose and the epoch."""
    ckpt_path: str | None = None
    """Continue from this checkpoint of an earlier run."""
    force: bool = field(default=False, metadata=NO_EFFECT)
    """Train again what already finished; the earlier run is kept."""
    retry: str = field(default="failed", metadata=NO_EFFECT)
    """failed: try again what failed, timed out or ran out of memory in an earlier call. none: leave it."""
    reuse: str = field(default="same-code", metadata=NO_EFFECT)
    """Finished runs that count as done. same-code: of this code; with a warning if of another CPU or torch.
    any: of other code too, with a warning. none: of this code, CPU and torch only."""
    plan: str = field(default="on", metadata=NO_EFFECT)
    """on: print geometry and cost before a sweep. off: do not."""
    on_invalid: str = field(default="skip", metadata=NO_EFFECT)
    """skip: leave impossible variants out of a sweep, with their reason. stop: train nothing."""
    probes: list[str] = field(default_factory=list, metadata=NO_EFFECT)
    """What is measured of every trained network when a sweep ends, by name: stridelab probe --help lists them."""
    model: ModelConfig = field(default_factory=CnnConfig)
    data: DataConfig = field(default_factory=DataConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig, metadata=NO_EFFECT)
    launcher: LauncherConfig = field(default_factory=LauncherConfig, metadata=NO_EFFECT)
    sweep: SweepConfig = field(default_factory=SweepConfig, metadata=NO_EFFECT)
    search: SearchConfig = field(default_factory=SearchConfig, metadata=NO_EFFECT)
    paths: PathsConfig = field(default_factory=PathsConfig, metadata=NO_EFFECT)

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed={self.seed} must be from 0 to 2**63 - 1.")
        if not PLAIN_NAME.fullmatch(self.task_name):
            raise ValueError(f"task_name={self.task_name!r} {NAME_RULE}.")
        refuse_unknown(self.probes, key="probes")
        refuse_unfit_task(self)
        for key, choices in CHOICES.items():
            if getattr(self, key) not in choices:
                raise ValueError(f"{key}={getattr(self, key)!r} must be one of {', '.join(choices)}.")

    @property
    def results(self) -> Path:
        return Path(self.paths.results_dir)

    @property
    def store(self) -> Store:
        """Where its runs are tracked; touches nothing."""
        from stridelab.tracking.store import resolve_store

        return resolve_store(self.tracking, results_dir=self.results)


def refuse_unfit_task(config: Config) -> None:
    """ValueError when there is no such task, or the data set or the recipe is not for it."""
    if config.task not in TASKS:
        raise ValueError(f"task={config.task!r} is not a task; choose one of {', '.join(TASKS)}.")
    refuse_other_task(config.probes, key="probes", task=config.task)
    needs = TASKS[config.task].needs
    if needs and needs not in DATASETS[config.data.name].targets:
        fit = ", ".join(name for name, facts in DATASETS.items() if needs in facts.targets)
        raise ValueError(
            f"task={config.task} needs the {needs} of the object in each image, which data={config.data.name} does "
            f"not have; choose data={fit}."
        )
    if needs and (config.trainer.crop or config.trainer.flip):
        raise ValueError(
            f"task={config.task} takes no trainer.crop or trainer.flip: they would move the image, and not its {needs}."
        )


CHOICES = {
    "plan": ("on", "off"),
    "on_invalid": ("skip", "stop"),
    "retry": ("failed", "none"),
    "reuse": ("same-code", "any", "none"),
}


def schema_of(family: object) -> type[Any]:
    """`Config` with the settings of one family as its model; ValueError names the families that there are."""
    settings: type = settings_of(family)
    return with_model(settings)


def schema_of_all() -> type[Any]:
    """`Config` with every key that the model of some family has."""
    families: tuple[type, ...] = tuple(family.settings for family in FAMILIES.values())
    return with_model(merged(families))


@cache
def with_model(settings: type) -> type[Any]:
    model = ("model", settings, field(default_factory=settings))
    return make_dataclass("Config", [model], bases=(Config,), frozen=True)


@cache
def merged(families: tuple[type, ...]) -> type:
    keys = {key: hint for settings in families for key, hint in get_type_hints(settings).items()}
    return make_dataclass("ModelConfig", [(key, hint, field(default=None)) for key, hint in keys.items()], frozen=True)

"""What Hydra finds by name: our sweeper, which checks a whole grid, and our launcher, which isolates each run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class GridSweeper(Sweeper):
    """Every combination of the comma lists, in one batch; creates no files of its own."""

    def __init__(self, params: Any = None) -> None:
        self.params = params

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from hydra.core.plugins import Plugins

        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        from stridelab.config import expand

        assert self.launcher is not None
        batch = [job.overrides for job in expand(arguments)]
        returns = self.launcher.launch(batch, initial_job_idx=0)
        return [[returned.return_value for returned in returns]]


class IsolatedLauncher(Launcher):
    """Runs in child processes of one warm process, `sweep.jobs` at once."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        pass

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from stridelab.cli.refusal import refusing
        from stridelab.cli.train import start
        from stridelab.config import load

        with refusing():
            code = start([load(overrides) for overrides in job_overrides], multirun=True)
        if code:
            raise SystemExit(code)  # every reason has been said; Hydra's traceback would hide them
        return [
            JobReturn(overrides=overrides, status=JobStatus.COMPLETED, _return_value=None)
            for overrides in job_overrides
        ]

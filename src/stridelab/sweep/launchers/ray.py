"""Runs on a Ray cluster: the one that `launcher.address` names, or one started on this machine for the sweep.

On each node a worker of Ray's makes a child process of every task, as the launcher `local` does, which so keeps its
promises there. The nodes must have this stridelab, and the results folder must be the same on all of them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from importlib.util import find_spec
from pathlib import Path
from time import sleep
from typing import Any, cast

from stridelab.config import Config
from stridelab.system.gpus import VISIBLE
from stridelab.tracking.status import FAILED, KILLED, OUT_OF_MEMORY

from ..launcher import Launcher
from ..task import SILENT, Listener, Outcome, Task, carried, carried_back
from ..task_queue import TaskQueue
from .local import LocalLauncher
from .ray_cluster import Node, alive_nodes, connect, fit_nodes, on_node, one_line, room, this_machine

LISTEN_S, ANSWER_S, GONE_S = 0.2, 5.0, 10.0


def on_ray(config: Config, num_runs: int) -> RayLauncher:
    """ValueError when Ray is not installed, nobody answers at the address, or no node can carry such runs."""
    if find_spec("ray") is None:
        raise ValueError("launcher=ray: Ray is not installed; pip install 'stridelab[ray]'.")
    address, sweep = config.launcher.address, config.sweep
    if address is not None:
        connect(address)
    nodes = [this_machine()] if address is None else alive_nodes()
    cpus = float(config.trainer.threads) if sweep.cpus_per_run is None else sweep.cpus_per_run
    gpus = default_gpus(config, nodes) if sweep.gpus_per_run is None else sweep.gpus_per_run
    large = [node for node in nodes if room(node["Resources"], cpus=cpus, gpus=gpus)]
    if not large:
        most = {kind: max(node["Resources"].get(kind, 0.0) for node in nodes) for kind in ("CPU", "GPU")}
        raise ValueError(
            f"launcher=ray: no node can carry a run with sweep.cpus_per_run={cpus:g} and sweep.gpus_per_run={gpus:g}; "
            f"the largest has {most['CPU']:g} CPUs and {most['GPU']:g} GPUs."
        )
    if address is not None and not (large := fit_nodes(large, config.results)):
        raise ValueError(f"launcher.address={address}: none of its nodes that could carry a run is there any more.")
    there_is = sum(room(node["Resources"], cpus=cpus, gpus=gpus) for node in large)
    return RayLauncher(min(sweep.jobs or there_is, num_runs), cpus=cpus, gpus=gpus)


def default_gpus(config: Config, nodes: Sequence[Node]) -> float:
    there_are = any(node["Resources"].get("GPU") for node in nodes)
    return float(config.trainer.accelerator == "gpu" or (config.trainer.accelerator == "auto" and there_are))


class RayLauncher(Launcher):
    """At most `jobs` tasks are submitted at once, each with `cpus` and `gpus` of its node: sweep.gpus_per_run says how
    many share a GPU."""

    here = False

    def __init__(self, jobs: int, *, cpus: float, gpus: float) -> None:
        self.jobs, self.cpus, self.gpus = jobs, cpus, gpus

    def warm_up(self) -> None:
        """Start Ray on this machine, unless a cluster is joined. In this thread: Ray goes when that ends."""
        connect()

    def run(self, tasks: Sequence[Task], listener: Listener = SILENT) -> list[Outcome]:
        connect()
        return TaskQueue(RayTasks(self, listener), tasks, listener, at_once=self.jobs).run()


class RayTasks:
    """The engine of one call of `RayLauncher.run`."""

    def __init__(self, launcher: RayLauncher, listener: Listener) -> None:
        import ray

        self.listener = listener
        here = ray.get_runtime_context().get_node_id()
        self.post = ray.remote(Post).options(**on_node(here)).remote()
        self.carry = ray.remote(carry).options(num_cpus=launcher.cpus, num_gpus=launcher.gpus, max_retries=0)
        self.running: dict[Any, int] = {}

    def start(self, index: int, task: Task) -> None:
        self.running[self.carry.remote(self.post, index, task, str(Path.cwd()))] = index

    def ended(self) -> Iterator[tuple[int, Outcome]]:
        import ray

        if not self.running:
            sleep(LISTEN_S)
            return
        ready, _ = ray.wait(list(self.running), timeout=LISTEN_S, fetch_local=False)
        self.pass_on()
        for ref in ready:
            yield self.running.pop(ref), outcome_of(ref)

    def pass_on(self) -> None:
        import ray

        with suppress(ray.exceptions.RayError):  # what runs say on their way is lost with its holder, not what they do
            for index, event in ray.get(self.post.take.remote(), timeout=ANSWER_S):
                if index in self.running.values():
                    self.listener.start(index) if event is None else self.listener.event(index, event)

    def end(self, indices: Collection[int]) -> None:
        import ray

        refs = [ref for ref, index in self.running.items() if index in indices]
        for ref in refs:
            del self.running[ref]
            ray.cancel(ref, force=True)
        if refs:
            ray.wait(refs, num_returns=len(refs), timeout=GONE_S)


class Post:
    """An actor beside the sweep: what runs say, until the sweep takes it."""

    def __init__(self) -> None:
        self.events: list[tuple[int, Mapping[str, Any] | None]] = []

    def put(self, index: int, event: Mapping[str, Any] | None) -> None:
        self.events.append((index, event))

    def take(self) -> list[tuple[int, Mapping[str, Any] | None]]:
        events, self.events = self.events, []
        return events


def carry(post: Any, index: int, task: Task, folder: str) -> Outcome:
    """On a node: the task in a child process, its events posted before its outcome is returned; None is its start."""
    import ray

    os.chdir(folder)
    vars(sys.modules["__main__"]).pop("__file__", None)  # Ray's own program, which a child would run again
    posted: list[Any] = []

    def tell(event: Mapping[str, Any] | None) -> None:
        posted[:] = [post.put.remote(index, event)]

    listener = Listener(start=lambda _: tell(None), event=lambda _, event: tell(dict(event)))
    cards = [os.environ[VISIBLE]] if VISIBLE in os.environ else []  # of this task: the process's first may differ
    with closing(LocalLauncher(1, cards=cards)) as launcher:
        (outcome,) = launcher.run([carried(task)], listener)
    ray.wait(posted, timeout=ANSWER_S)
    return carried_back(outcome)


def outcome_of(ref: Any) -> Outcome:
    import ray
    from ray.exceptions import LocalRayletDiedError, NodeDiedError, OutOfMemoryError, RayError, WorkerCrashedError

    try:
        return cast(Outcome, ray.get(ref))
    except OutOfMemoryError:
        return Outcome(reason="killed by Ray, its node had no memory left", died=True, status=OUT_OF_MEMORY)
    except (NodeDiedError, LocalRayletDiedError):
        return Outcome(reason="killed with its node", died=True, status=KILLED)
    except WorkerCrashedError:
        return Outcome(reason="killed with the worker of Ray's that carried it", died=True, status=KILLED)
    except RayError as error:
        return Outcome(reason=f"Ray could not carry it: {one_line(error)}", died=True, status=FAILED)

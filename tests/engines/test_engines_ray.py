"""Promise: launcher=ray keeps what `local` promises, on a cluster of several nodes: the bits, one result a run."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from clusters import free_port, wait_until
from injection import TINY, Evidence, agenda_of, attempts, complete, evidence, sweep, task, work_of

from stridelab.config import load
from stridelab.run import RunSpec
from stridelab.sweep.launchers.local import LocalLauncher
from stridelab.sweep.launchers.ray import RayLauncher, on_ray
from stridelab.sweep.launchers.ray_cluster import complaint
from stridelab.sweep.task import Listener, Outcome
from stridelab.system.locks import Lock
from stridelab.tracking.signature import code_digest

ROOT = Path(__file__).parents[2]
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="stridelab[ray] is not installed (make ray)")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head and two nodes of one processor each, on 127.0.0.1."""
    pytest.importorskip("ray", reason="stridelab[ray] is not installed (make ray)")
    import ray
    from ray.cluster_utils import Cluster

    before = {key: os.environ.get(key) for key in ("PYTHONPATH", "RAY_USAGE_STATS_ENABLED")}
    handler = signal.getsignal(signal.SIGTERM)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT / "tests" / "faults"), str(ROOT / "tests")])
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray._private.ray_constants.ENABLE_RAY_CLUSTER = False  # the address 127.0.0.1 alone
    small = {"include_dashboard": False, "object_store_memory": 80 * 2**20}
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "num_gpus": 0, **small})
    try:
        for _ in range(2):
            made.add_node(num_cpus=1, num_gpus=0, object_store_memory=80 * 2**20)
        yield made
    finally:
        ray.shutdown()
        made.shutdown()
        signal.signal(signal.SIGTERM, handler)
        for key, value in before.items():
            os.environ.pop(key, None)
            if value is not None:
                os.environ[key] = value


@pytest.fixture(scope="module")
def reference(pool: LocalLauncher, tmp_path_factory: pytest.TempPathFactory) -> list[Evidence]:
    """Of undisturbed runs of seeds 0, 1 and 2, in child processes of this machine."""
    results = tmp_path_factory.mktemp("reference")
    return [complete(pool, work_of(results, f"seed={seed}")) for seed in (0, 1, 2)]


def joined(cluster: Any, results: Path) -> RayLauncher:
    """For three runs."""
    return on_ray(load(asked(cluster, results)), 3)


def asked(cluster: Any, results: Path) -> list[str]:
    return [f"paths.results_dir={results}", "launcher=ray", f"launcher.address={cluster.address}"]


def at_epoch_2(act: Any) -> Listener:
    """Acts once, when run 0 is in epoch 2."""
    left = [act]

    def event(index: int, event: Mapping[str, Any]) -> None:
        if index == 0 and event.get("epoch", 0) >= 2 and left:
            left.pop()()

    return Listener(event=event)


def hung_first(launcher: RayLauncher, works: list[RunSpec], listener: Listener) -> list[Outcome]:
    """The first waits in its second epoch for what the listener does to it."""
    return launcher.run([task(works[0], fault="epoch.recorded:2:hang"), *map(task, works[1:])], listener)


def worker_of(work: RunSpec) -> int:
    """The process of Ray's that carries it: grandparent of the one that trains."""
    import psutil

    from stridelab.system.locks import read_holder

    child = psutil.Process(read_holder(work.folder / ".journal.lock")["pid"])
    return next(one.pid for one in child.parents() if one.name().startswith("ray::"))


def test_a_sweep_on_two_nodes_has_the_bits_of_child_processes(
    cluster: Any, reference: list[Evidence], tmp_path: Path
) -> None:
    assert joined(cluster, tmp_path).jobs == 2, "one for each processor of the cluster"
    assert sweep(tmp_path, "seed=0,1,2", *asked(cluster, tmp_path)[1:]) == 0
    assert [evidence(work.folder) for work in agenda_of(tmp_path, "seed=0,1,2").specs] == reference


def test_a_worker_that_is_killed_is_one_runs_outcome(cluster: Any, reference: list[Evidence], tmp_path: Path) -> None:
    works = list(agenda_of(tmp_path, "seed=0,1,2").specs)
    kill = at_epoch_2(lambda: os.kill(worker_of(works[0]), signal.SIGKILL))
    killed, *others = hung_first(joined(cluster, tmp_path), works, kill)
    assert (killed.status, killed.died) == ("killed", True)
    assert killed.reason == "killed with the worker of Ray's that carried it"
    assert [other.status for other in others] == ["finished"] * 2
    assert sweep(tmp_path, "seed=0,1,2", *asked(cluster, tmp_path)[1:]) == 0
    assert [evidence(work.folder) for work in works] == reference
    assert [attempts(work.folder) for work in works] == [2, 1, 1]


def test_the_driver_is_killed_and_the_same_command_goes_on(
    cluster: Any, reference: list[Evidence], tmp_path: Path
) -> None:
    """Ray ends what a driver that is gone has left; a second sweep beside it trains nothing twice."""
    words = [*TINY, "sweep.name=test", "seed=0,1,2", *asked(cluster, tmp_path)]
    with subprocess.Popen([sys.executable, str(ROOT / "train.py"), "-m", *words], cwd=ROOT, stdout=-1) as process:
        wait_until(lambda: list(tmp_path.glob("runs/*/run.json")), 90)
        process.kill()
    assert sweep(tmp_path, "seed=0,1,2", *asked(cluster, tmp_path)[1:]) == 0
    assert [evidence(work.folder) for work in agenda_of(tmp_path, "seed=0,1,2").specs] == reference


def test_a_node_that_dies_takes_its_run_alone(cluster: Any, reference: list[Evidence], tmp_path: Path) -> None:
    """The last test of the cluster: it has one node less."""
    import psutil

    works = list(agenda_of(tmp_path, "seed=0,1,2").specs)

    def kill() -> None:
        raylets = {node.all_processes["raylet"][0].process.pid: node for node in cluster.worker_nodes}
        above = [one.pid for one in psutil.Process(worker_of(works[0])).parents()]
        cluster.remove_node(next(node for pid, node in raylets.items() if pid in above), allow_graceful=False)

    killed, *others = hung_first(joined(cluster, tmp_path), works, at_epoch_2(kill))
    assert killed.died
    assert killed.status == "killed", killed
    assert [other.status for other in others] == ["finished"] * 2
    assert sweep(tmp_path, "seed=0,1,2", *asked(cluster, tmp_path)[1:]) == 0
    assert [evidence(work.folder) for work in works] == reference


@needs_ray
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([f"launcher.address=127.0.0.1:{free_port()}"], r"launcher\.address=127\.0\.0\.1:\d+: nobody answers there"),
        (["launcher.address=head"], r"launcher\.address=head must be host:port of a Ray cluster"),
        (["sweep.cpus_per_run=999"], r"no node can carry a run with sweep\.cpus_per_run=999"),
        (["sweep.gpus_per_run=9"], r"no node can carry a run with .*sweep\.gpus_per_run=9; the largest has \d+ CPUs"),
    ],
)
def test_what_ray_cannot_do_is_said_before_anything_is_made(tmp_path: Path, words: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        sweep(tmp_path / "results", "launcher=ray", *words)
    assert not (tmp_path / "results").exists()


def test_without_the_extra_its_name_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stridelab.sweep.launchers.ray.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"launcher=ray: Ray is not installed; pip install 'stridelab\[ray\]'\."):
        sweep(tmp_path / "results", "launcher=ray")
    assert not (tmp_path / "results").exists()


def test_a_node_says_why_it_cannot_train(tmp_path: Path) -> None:
    """What each node of a cluster that is joined is asked, with answers of this machine."""
    lock = Lock(tmp_path / f"token.{socket.gethostname()}")
    assert "paths.results_dir is not shared" in complaint(str(lock.path), str(tmp_path), code_digest())
    assert lock.acquire()
    assert complaint(str(lock.path), str(tmp_path), code_digest()) == ""
    assert "is not there; start it in one that is shared" in complaint(str(lock.path), "/absent", code_digest())
    assert "its stridelab is another" in complaint(str(lock.path), str(tmp_path), "f" * 64)
    lock.release()
    assert "do not hold between machines" in complaint(str(lock.path), str(tmp_path), code_digest())

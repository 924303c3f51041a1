"""Promise: launcher=ray keeps what `local` promises, on a cluster of several nodes: the bits, one result a run."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest
from clusters import free_port, ray_cluster
from injection import Evidence, attempts, evidence, sweep, task
from scenarios import (
    SEEDS,
    a_search,
    expected,
    in_sqlite,
    specs,
    the_driver_is_killed,
    the_store_goes_away,
    two_drivers,
)

from stridelab.config import load
from stridelab.run import RunSpec
from stridelab.sweep.launchers.ray import RayLauncher, on_ray
from stridelab.sweep.launchers.ray_cluster import complaint
from stridelab.sweep.task import Listener, Outcome
from stridelab.system.locks import Lock, read_holder
from stridelab.tracking.signature import code_digest
from tracking_stores import Team

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="stridelab[ray] is not installed (make ray)")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    pytest.importorskip("ray", reason="stridelab[ray] is not installed (make ray)")
    with ray_cluster() as made:
        yield made


@pytest.fixture
def words(cluster: Any) -> list[str]:
    return ["launcher=ray", f"launcher.address={cluster.address}"]


def joined(words: list[str], results: Path) -> RayLauncher:
    """For three runs."""
    return on_ray(load([f"paths.results_dir={results}", *words]), 3)


def worker_of(spec: RunSpec) -> psutil.Process:
    """The process of Ray's that carries it: grandparent of the one that trains."""
    child = psutil.Process(read_holder(spec.folder / ".journal.lock")["pid"])
    return next(one for one in child.parents() if one.name().startswith("ray::"))


def test_a_sweep_on_two_nodes_has_the_bits_of_child_processes(
    words: list[str], reference: list[Evidence], tmp_path: Path
) -> None:
    assert joined(words, tmp_path).jobs == 2, "one for each processor of the cluster"
    assert sweep(tmp_path, SEEDS, *words) == 0
    assert [evidence(spec.folder) for spec in specs(tmp_path)] == reference
    assert in_sqlite(tmp_path) == expected(tmp_path, reference)


def test_the_store_goes_away_and_comes_back(
    words: list[str], team: Team, reference: list[Evidence], tmp_path: Path
) -> None:
    the_store_goes_away(tmp_path, words, team, reference)


@pytest.mark.faults
def test_a_search_ends_as_in_this_process(words: list[str], tmp_path: Path) -> None:
    a_search(tmp_path, words)


@pytest.mark.faults
def test_two_drivers_share_a_sweep(
    words: list[str], reference: list[Evidence], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two_drivers(tmp_path, words, reference, capsys)


@pytest.mark.faults
def test_the_driver_is_killed_and_the_same_command_goes_on(
    words: list[str], reference: list[Evidence], tmp_path: Path
) -> None:
    """Ray ends what a driver that is gone has left."""
    the_driver_is_killed(tmp_path, words, reference)


@pytest.mark.faults
def test_a_worker_or_a_node_that_dies_takes_its_run_alone(
    cluster: Any, words: list[str], reference: list[Evidence], tmp_path: Path
) -> None:
    """The last test of the cluster: it has one node less. The first run and the third hang until they are killed, one
    with its worker, one with its node."""
    runs = list(specs(tmp_path))

    def kill_worker() -> None:
        os.kill(worker_of(runs[0]).pid, signal.SIGKILL)

    def kill_node() -> None:
        raylets = {node.all_processes["raylet"][0].process.pid: node for node in cluster.worker_nodes}
        above = [one.pid for one in worker_of(runs[2]).parents()]
        cluster.remove_node(next(node for pid, node in raylets.items() if pid in above), allow_graceful=False)

    over, hangs = set[int](), set[int]()

    def event(index: int, event: Mapping[str, Any]) -> None:
        if event.get("epoch", 0) >= 2 and index != 1 and index not in hangs:
            hangs.add(index)
            kill_worker() if index == 0 else kill_its_node()

    def end(index: int, outcome: Outcome) -> None:
        over.add(index)
        kill_its_node()

    def kill_its_node() -> None:
        if 2 in hangs and over == {0, 1}:
            kill_node()

    hang = "epoch.recorded:2:hang"
    tasks = [task(runs[0], fault=hang), task(runs[1]), task(runs[2], fault=hang)]
    killed, other, with_node = joined(words, tmp_path).run(tasks, Listener(event=event, end=end))
    assert (killed.status, killed.died, other.status) == ("killed", True, "finished")
    assert killed.reason == "killed with the worker of Ray's that carried it"
    assert (with_node.status, with_node.died) == ("killed", True)
    assert sweep(tmp_path, SEEDS, *words) == 0
    assert [evidence(spec.folder) for spec in runs] == reference
    assert [attempts(spec.folder) for spec in runs] == [2, 1, 2]


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

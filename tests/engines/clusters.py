"""Real clusters on 127.0.0.1: a Ray of a head and two nodes; a Slurm of two nodes, from Debian's slurm-wlm and munge,
without systemd. Both are ended by the ids of their processes.

`python tests/engines/clusters.py COMMAND ...` starts that Slurm for a command.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

REPOSITORY = Path(__file__).parents[2]
TESTS = os.pathsep.join(str(REPOSITORY / name) for name in ("tests/faults", "tests"))
"""Where the processes of a cluster find what the tests give them to do."""
COMMANDS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "scancel", "squeue")
CONFIGURATION = """
ClusterName=stridelab
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={controller}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
ReturnToService=2
SlurmdTimeout=10
KillWait=2
JobRequeue=1
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
DefMemPerCPU=500
NodeName=DEFAULT CPUs=2 RealMemory=2000 State=UNKNOWN
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 Port={port1}
NodeName=node2 NodeHostname={host} NodeAddr=127.0.0.1 Port={port2}
NodeName=apart NodeHostname={host} NodeAddr=127.0.0.1 Port={port3}
PartitionName=debug Nodes=node1,node2 Default=YES MaxTime=INFINITE State=UP
PartitionName=apart Nodes=apart MaxTime=INFINITE State=UP
"""


def why_no_slurm() -> str:
    """Empty where one can be started."""
    missing = [name for name in COMMANDS if shutil.which(name) is None]
    if missing:
        return f"{missing[0]} is not installed (Debian: slurm-wlm and munge)"
    return "" if os.geteuid() == 0 else "munged and slurmd are started as root"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@dataclass
class Slurm:
    folder: Path

    def start_node(self, name: str, *before: str) -> None:
        """`before`: a command that carries out another."""
        subprocess.run([*before, "slurmd", "-N", name], check=True)
        ask = ["sinfo", "--noheader", "--format=%T", f"--nodes={name}"]
        wait_until(lambda: subprocess.run(ask, capture_output=True, text=True).stdout == "idle\n", 30)

    def start_node_apart(self, empty: Path) -> None:
        """A node of the partition `apart`, which sees an empty folder of its own there."""
        mount = f'mount -t tmpfs none {shlex.quote(str(empty))} && exec "$@"'
        self.start_node("apart", "unshare", "--mount", "--propagation", "private", "sh", "-c", mount, "sh")

    def kill_node(self, name: str) -> None:
        """Slurm's daemon on it; what jobs it carries goes on."""
        pid_file = self.folder / f"{name}.pid"
        psutil.Process(int(pid_file.read_text())).kill()
        pid_file.unlink()


@contextmanager
def slurm_cluster() -> Iterator[Slurm]:
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # a socket's path is short
    folder.chmod(0o755)
    for name in ("state", "spool.node1", "spool.node2", "spool.apart"):
        (folder / name).mkdir()
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o400)
    (folder / "cgroup.conf").write_text("CgroupAutomount=no\n")
    ports = {name: free_port() for name in ("controller", "port1", "port2", "port3")}
    (folder / "slurm.conf").write_text(CONFIGURATION.format(folder=folder, host=socket.gethostname(), **ports))
    names = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munged.pid", "log-file": "munged.log"}
    options = [f"--{key}={folder / name}" for key, name in (names | {"seed-file": "munge.seed"}).items()]
    with environment(SLURM_CONF=str(folder / "slurm.conf"), PYTHONPATH=TESTS):
        try:
            subprocess.run(["munged", "--force", *options], check=True)
            subprocess.run(["slurmctld", "-c"], check=True)
            slurm = Slurm(folder)
            slurm.start_node("node1")
            slurm.start_node("node2")
            yield slurm
        finally:
            subprocess.run(["scancel", "--partition=debug"], capture_output=True)
            left = ["squeue", "--noheader", "--states=running,completing"]
            wait_until(lambda: not subprocess.run(left, capture_output=True).stdout, 20, fail=False)
            for name in ("node1", "node2", "apart", "slurmctld", "munged"):
                end(folder / f"{name}.pid")
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def ray_cluster() -> Iterator[Any]:
    """A head and two nodes of one processor each."""
    import ray
    from ray.cluster_utils import Cluster

    handler = signal.getsignal(signal.SIGTERM)
    ray._private.ray_constants.ENABLE_RAY_CLUSTER = False  # the address 127.0.0.1 alone
    small = {"num_gpus": 0, "object_store_memory": 80 * 2**20}
    with environment(RAY_USAGE_STATS_ENABLED="0", PYTHONPATH=TESTS):
        head = {"num_cpus": 0, "include_dashboard": False, **small}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            for _ in range(2):
                cluster.add_node(num_cpus=1, **small)
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()
            signal.signal(signal.SIGTERM, handler)


@contextmanager
def environment(**changes: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for key, value in changes.items():
            patch.setenv(key, value)
        yield


def end(pid_file: Path) -> None:
    with suppress(OSError, ValueError, psutil.Error):
        process = psutil.Process(int(pid_file.read_text()))
        process.terminate()
        with suppress(psutil.TimeoutExpired):
            process.wait(10)
            return
        process.kill()


def wait_until(is_true: object, seconds: float, *, fail: bool = True) -> None:
    until = time.monotonic() + seconds
    assert callable(is_true)
    while not is_true():
        if time.monotonic() > until:
            assert not fail, f"not within {seconds} s"
            return
        time.sleep(0.1)


if __name__ == "__main__":
    with slurm_cluster():
        sys.exit(subprocess.run(sys.argv[1:]).returncode)

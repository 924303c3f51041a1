"""A Slurm of one machine, without systemd, from Debian's slurm-wlm and munge; ended by the ids of its processes."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

COMMANDS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "scancel", "squeue")
CONFIGURATION = """
ClusterName=stridelab
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
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
KillWait=2
JobRequeue=1
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
DefMemPerCPU=500
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=2000 State=UNKNOWN
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
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


@contextmanager
def slurm_cluster() -> Iterator[Path]:
    """Its folder; SLURM_CONF must name slurm.conf in it."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # a socket's path is short
    folder.chmod(0o755)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o400)
    (folder / "cgroup.conf").write_text("CgroupAutomount=no\n")
    fields = {"folder": folder, "host": socket.gethostname(), "controller": free_port(), "daemon": free_port()}
    (folder / "slurm.conf").write_text(CONFIGURATION.format(**fields))
    before, os.environ["SLURM_CONF"] = os.environ.get("SLURM_CONF"), str(folder / "slurm.conf")
    names = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munged.pid", "log-file": "munged.log"}
    options = [f"--{key}={folder / name}" for key, name in (names | {"seed-file": "munge.seed"}).items()]
    try:
        subprocess.run(["munged", "--force", *options], check=True)
        subprocess.run(["slurmctld", "-c"], check=True)
        start_node()
        yield folder
    finally:
        subprocess.run(["scancel", "--partition=debug"], capture_output=True)
        wait_until(lambda: not subprocess.run(["squeue", "-h"], capture_output=True, text=True).stdout, 20, fail=False)
        for name in ("slurmd", "slurmctld", "munged"):
            end(folder / f"{name}.pid")
        if before is None:
            del os.environ["SLURM_CONF"]
        else:
            os.environ["SLURM_CONF"] = before
        shutil.rmtree(folder, ignore_errors=True)


def start_node() -> None:
    subprocess.run(["slurmd", "-N", "node1"], check=True)
    ask = ["sinfo", "--noheader", "--format=%T"]
    wait_until(lambda: subprocess.run(ask, capture_output=True, text=True).stdout == "idle\n", 30)


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

"""The cluster of the launcher `ray`: joined, or started on this machine; and whether its nodes can train."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stridelab.system.locks import is_locked
from stridelab.system.processes import usable_cores
from stridelab.tracking.signature import code_digest

from .node import NO_FOLDER, NO_LOCKS, NOT_SHARED, OTHER_CODE, token

ANSWER_S, NODES_ANSWER_S = 5.0, 120.0
STORE_BYTES = 80 * 2**20
"""Of Ray's store of objects, the least that it takes: what runs return are numbers."""
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
LOOPBACK = "127.0.0.1"
Node = Mapping[str, Any]
"""As Ray lists it: NodeID, NodeManagerAddress, Alive, Resources."""


def connect(address: str | None = None) -> None:
    """Join the cluster, or start one that listens on 127.0.0.1 alone; nothing when this process is in one already.
    ValueError when nobody answers."""
    os.environ.update({key: value for key, value in QUIET.items() if key not in os.environ})
    import ray

    if address is not None:
        refuse_silent(address)
    if ray.is_initialized():
        refuse_another(address)
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    with own_signals():
        if address is not None:
            host, _, port = address.rpartition(":")
            if host == LOOPBACK and not answers(ray.util.get_node_ip_address(), int(port)):
                only_loopback()  # else Ray takes 127.0.0.1 for this machine's other address
            try:
                ray.init(address=address, **quiet)
            except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
                raise ValueError(f"launcher.address={address} cannot be joined here: {one_line(error)}") from None
            return
        only_loopback()
        ray.init(
            address="local",
            num_cpus=usable_cores(),
            include_dashboard=False,
            object_store_memory=STORE_BYTES,
            **quiet,
        )


def refuse_silent(address: str) -> None:
    """ValueError when nobody listens there: Ray itself would try for minutes."""
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isdigit()):
        raise ValueError(f"launcher.address={address} must be host:port of a Ray cluster, as `ray start` prints it.")
    if not answers(host, int(port)):
        raise ValueError(
            f"launcher.address={address}: nobody answers there. Start a cluster (ray start --head), or leave "
            "launcher.address=null, which starts one on this machine."
        )


def answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=ANSWER_S).close()
    except OSError:
        return False
    return True


def refuse_another(address: str | None) -> None:
    """ValueError when this process is in another cluster than the one asked for."""
    import ray

    there = ray.get_runtime_context().gcs_address
    if address is not None and there.rpartition(":")[2] != address.rpartition(":")[2]:
        raise ValueError(
            f"launcher.address={address}: this process is in the cluster {there} already (ray.shutdown())."
        )


def only_loopback() -> None:
    """Ray's switch for Macs and Windows: without it, its processes listen on all addresses of the machine."""
    import ray

    ray._private.ray_constants.ENABLE_RAY_CLUSTER = False


@contextmanager
def own_signals() -> Iterator[None]:
    """Ray puts its own handler of SIGTERM in the place of ours."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def alive_nodes() -> list[Node]:
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def fit_nodes(nodes: Sequence[Node], results: Path) -> list[Node]:
    """Those that are still there. ValueError unless each has this stridelab, the working folder, and the results
    folder with locks that hold between machines."""
    import ray

    with token("ray", results) as path:
        asked = (str(path), str(Path.cwd()), code_digest())
        refs = [ray.remote(complaint).options(**on_node(node["NodeID"])).remote(*asked) for node in nodes]
        ray.wait(refs, num_returns=len(refs), timeout=NODES_ANSWER_S)
        answers = [(node, answer(ref)) for node, ref in zip(nodes, refs, strict=True)]
    for node, said in answers:
        if said:
            raise ValueError(f"launcher=ray: node {node['NodeManagerAddress']} cannot train: {said}.")
    return [node for node, said in answers if said is not None]


def answer(ref: Any) -> str | None:
    """None of a node that died a moment ago, which Ray may not have noticed when it listed its nodes."""
    import ray

    try:
        return str(ray.get(ref, timeout=0))
    except ray.exceptions.GetTimeoutError:
        return "it does not answer"
    except (ray.exceptions.TaskUnschedulableError, ray.exceptions.NodeDiedError):
        return None
    except ray.exceptions.RayError as error:
        if "No module named 'stridelab'" in str(error):
            return "stridelab is not installed there; install the same version in the Python that runs Ray"
        return one_line(error)


def complaint(shared: str, folder: str, digest: str) -> str:
    """Why this node cannot train; empty when it can."""
    if not Path(shared).exists():
        return NOT_SHARED.format(Path(shared).parent)
    if not is_locked(Path(shared)):
        return NO_LOCKS.format(Path(shared).parent)
    if not Path(folder).is_dir():
        return NO_FOLDER.format(folder)
    if code_digest() != digest:
        return OTHER_CODE.format(code_digest()[:12], digest[:12])
    return ""


def on_node(node: str) -> dict[str, Any]:
    """Options of a task that this node carries, beside all others."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return {"num_cpus": 0, "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False)}


def this_machine() -> Node:
    """As the one node of the cluster that will be started on it."""
    gpus = len(list(Path("/proc/driver/nvidia/gpus").glob("*")))
    return {"NodeID": "", "Resources": {"CPU": float(usable_cores()), "GPU": float(gpus)}}


def room(resources: Mapping[str, float], *, cpus: float, gpus: float) -> int:
    """Runs that a node can carry at a time."""
    wanted = {kind: count for kind, count in (("CPU", cpus), ("GPU", gpus)) if count}
    return min((int(resources.get(kind, 0.0) / count) for kind, count in wanted.items()), default=usable_cores())


def one_line(error: BaseException) -> str:
    """The last line of a report that Ray makes of many."""
    return next((line for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__).strip()

"""Several devices for one run: a process each, on this machine. Rank 0 is the run's own process and keeps its records;
without a group of processes everything here is as for one."""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, nn

from stridelab.system.processes import die_with_parent

MEET_S, WORD_S = 120.0, 5.0
"""Waited for the others to meet, once all are ready; for the last word of one that has gone."""

T = TypeVar("T")


@dataclass(frozen=True)
class Rank:
    number: int = 0
    of: int = 1
    meeting: str = ""
    """The file by which the processes find each other."""


ALONE = Rank()

Work = Callable[[Any, Rank, Callable[[], None]], object]
"""What a rank other than 0 does: given the argument, itself, and what to call when it is ready to meet the others."""


def size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def number() -> int:
    return dist.get_rank() if size() > 1 else 0


def gather(value: T) -> list[T]:
    """Everybody's plain value, by rank, for everybody."""
    if size() == 1:
        return [value]
    found: list[Any] = [None] * size()
    dist.all_gather_object(found, value)
    return found


def share(count: int, *, grain: int) -> Tensor:
    """Positions, of `count` images of a step, that are this rank's: of each `grain` of them a part, in order."""
    starts = range(0, count, grain)
    ends = [(start, min(grain, count - start)) for start in starts]
    parts = [(start + many * number() // size(), start + many * (number() + 1) // size()) for start, many in ends]
    return torch.cat([torch.arange(*part) for part in parts])


def average_gradients(module: nn.Module, loss: Tensor, count: int) -> Tensor:
    """Gradients and `loss` are sums over the `count` images of each rank: make the former, in place, the means over
    all ranks' images, and return that of the loss."""
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    ends = torch.stack([loss, loss.new_tensor(float(count))]).to(gradients[0].dtype)
    flat = torch.cat([*(one.flatten() for one in gradients), ends])
    dist.all_reduce(flat)
    flat[:-1] /= flat[-1]
    for gradient, mean in zip(gradients, torch.split(flat[:-2], [one.numel() for one in gradients]), strict=True):
        gradient.copy_(mean.view(gradient.shape))
    return flat[-2]


def average_buffers(module: nn.Module) -> None:
    """Running statistics of batch norm, of which each rank has its own."""
    buffers = [buffer for buffer in module.buffers() if buffer.is_floating_point()]
    if size() == 1 or not buffers:
        return
    flat = torch.cat([buffer.flatten() for buffer in buffers])
    dist.all_reduce(flat)
    for buffer, mean in zip(buffers, torch.split(flat / size(), [one.numel() for one in buffers]), strict=True):
        buffer.copy_(mean.view(buffer.shape))


class Environment(LightningEnvironment):
    """The processes are ours, and there already."""

    def __init__(self, rank: Rank) -> None:
        super().__init__()
        self.rank = rank

    @property
    def creates_processes_externally(self) -> bool:
        return True

    def local_rank(self) -> int:
        return self.rank.number

    def node_rank(self) -> int:
        return 0


class DataParallel(DDPStrategy):
    """Lightning's DDP, but that gradients are averaged by our step: it takes several a batch of Lightning's, and a last
    batch may not be the same for all."""

    def configure_ddp(self) -> None:
        """No wrapper, which would do it once a batch."""


@contextmanager
def together(rank: Rank, device: torch.device) -> Iterator[None]:
    """All ranks are in this block at the same time; the group is gone after it."""
    if rank.of == 1:
        yield
        return
    store = dist.FileStore(rank.meeting, rank.of)  # type: ignore[attr-defined]
    store.set_timeout(timedelta(seconds=MEET_S))
    where: dict[str, Any] = {"backend": "nccl", "device_id": device} if device.type == "cuda" else loopback()
    dist.init_process_group(store=store, rank=rank.number, world_size=rank.of, **where)
    try:
        yield
    finally:
        dist.destroy_process_group()


def loopback() -> dict[str, Any]:
    """Gloo would listen on the address of the host's name."""
    gloo: Any = dist.ProcessGroupGloo
    options = gloo._Options()
    options._devices = [gloo.create_device(hostname="127.0.0.1", lazy_init=False)]
    options._threads = 2
    return {"backend": "gloo", "pg_options": options}


@contextmanager
def companions(count: int, work: Work, argument: object) -> Iterator[Rank]:
    """Rank 0 of `count`, while `work(argument, ...)` goes on in processes of the others, which are ready to meet. What
    goes wrong in one of them is raised here."""
    if count == 1:
        yield ALONE
        return
    multiprocessing.current_process().daemon = False  # a launcher's child may then have children, which die with it
    with TemporaryDirectory(prefix="stridelab-") as folder:
        meeting = str(Path(folder, "meeting"))
        others = [Companion(Rank(number, count, meeting), work, argument) for number in range(1, count)]
        try:
            for other in others:
                other.wait_until_ready()
            yield Rank(0, count, meeting)
            for other in others:
                other.process.join()
        except RuntimeError as error:  # perhaps only that somebody has gone
            for other in others:
                if said := other.last_word():
                    raise said from error
            raise
        finally:
            for other in others:
                other.process.kill()
                other.process.join()
                other.pipe.close()


class Companion:
    def __init__(self, rank: Rank, work: Work, argument: object) -> None:
        self.rank = rank
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe(duplex=False)
        self.process: BaseProcess = context.Process(target=accompany, args=(theirs, rank, work, argument))
        self.process.start()
        theirs.close()

    def wait_until_ready(self) -> None:
        wait([self.pipe, self.process.sentinel])
        with suppress(EOFError):
            if self.pipe.poll() and (said := self.pipe.recv()) is None:
                return
            raise said
        raise self.last_word() or RuntimeError(f"rank {self.rank.number} has ended too early")

    def last_word(self) -> BaseException | None:
        """Why it has gone; None when it has not, or did what it had to."""
        wait([self.process.sentinel], WORD_S)
        with suppress(EOFError, OSError):
            if self.pipe.poll():
                return self.pipe.recv()  # type: ignore[no-any-return]
        code = self.process.exitcode
        if not code:
            return None
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return RuntimeError(f"rank {self.rank.number} of {self.rank.of} {how}; the same command goes on")


def accompany(pipe: Connection, rank: Rank, work: Work, argument: object) -> None:
    """In the process of a rank other than 0."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        work(argument, rank, lambda: pipe.send(None))
    except BaseException as error:
        traceback.print_exc()
        with suppress(OSError):
            pipe.send(error if is_plain(error) else RuntimeError(f"rank {rank.number}: {error}"))
        sys.exit(1)


def is_plain(error: BaseException) -> bool:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return False
    return True

"""What an allocator has handed out, and the most that it ever had."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

START, FORWARD, BACKWARD, STEP = "start", "forward", "backward", "step"


@dataclass(frozen=True, slots=True)
class Moment:
    """`size` bytes are held in the `phase` of `layer`: start, forward, backward or step, the optimizer's; the first and
    the last are of no layer."""

    size: int
    layer: str
    phase: str


@dataclass(slots=True)
class Blocks:
    """What an allocator has handed out, and the most that it ever had."""

    counted: Callable[[int], int]
    held: dict[object, int] = field(default_factory=dict)
    size: int = 0
    peak: Moment = Moment(0, "", START)

    def take(self, key: object, size: int) -> None:
        assert key not in self.held, key
        self.held[key] = self.counted(size)
        self.size += self.held[key]

    def free(self, *keys: object) -> None:
        for key in keys:
            self.size -= self.held.pop(key, 0)

    def note(self, layer: str, phase: str) -> None:
        if self.size > self.peak.size:
            self.peak = Moment(self.size, layer, phase)


def cuda_block(size: int) -> int:
    """What PyTorch's caching allocator counts: multiples of 512 bytes; of 10 MiB and more, which get a segment of whole
    2 MiB of their own, a rest of at most 1 MiB is not split off (c10/cuda/CUDACachingAllocator)."""
    size, mib = -(-size // 512) * 512, 2**20
    segment = -(-size // (2 * mib)) * 2 * mib
    return segment if size >= 10 * mib and segment - size <= mib else size


BLOCKS: dict[str, Callable[[int], int]] = {"cpu": lambda size: size, "cuda": cuda_block}
"""Device -> bytes asked for -> bytes that its allocator counts."""

"""From the seconds of single passes to figures with their spread, and whether they are to be trusted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles

from .cpu_load import Load
from .workloads import WORKLOADS, Workload

PREFIX = "benchmark/"
LARGEST_SPREAD = 0.10
"""Of the median: a wider inter-quartile range is not trusted."""
FEWEST_ROUNDS = 5
MOST_BUSY_CORES = 0.25
"""What others may use of the processor, in cores."""
FEWEST_FOR_P99 = 100
"""Passes: of fewer, the 99th percentile is the slowest one."""


@dataclass
class Timing:
    """Seconds of single passes, by round."""

    batch: int
    rounds: list[list[float]] = field(default_factory=list)

    @property
    def seconds(self) -> list[float]:
        """Of a pass: each round's median."""
        return [median(passes) for passes in self.rounds]

    @property
    def p99_s(self) -> float:
        """Over all passes; NaN of too few."""
        passes = [second for some in self.rounds for second in some]
        return quantiles(passes, n=100, method="inclusive")[98] if len(passes) >= FEWEST_FOR_P99 else math.nan

    @property
    def spread(self) -> float:
        """Inter-quartile range of the rounds over their median; NaN of one round."""
        return iqr(self.seconds) / median(self.seconds)

    def metrics(self, key: str) -> dict[str, float]:
        seconds = self.seconds
        found = {"ms": 1000 * median(seconds), "iqr_ms": 1000 * iqr(seconds), "p99_ms": 1000 * self.p99_s}
        if self.batch > 1:
            speeds = self.images_per_s
            found |= {"images_per_s": median(speeds), "iqr_images_per_s": iqr(speeds)}
        return {f"{PREFIX}{key}_{name}": value for name, value in found.items()}

    @property
    def images_per_s(self) -> list[float]:
        """Of each round."""
        return [self.batch / second for second in self.seconds]


def iqr(values: Sequence[float]) -> float:
    """Inter-quartile range; NaN of one value."""
    if len(values) < 2:
        return math.nan
    lower, _, upper = quantiles(values, n=4, method="inclusive")
    return upper - lower


@dataclass
class VariantTimings:
    """One variant."""

    name: str
    threads: int
    device: str = ""
    timings: dict[Workload, Timing] = field(default_factory=dict)
    refused: dict[Workload, str] = field(default_factory=dict)
    """Workloads that the network cannot do, with the reason."""
    lost: str = ""
    """Why its process ended before its time."""

    def metrics(self) -> dict[str, float]:
        found = {"benchmark/num_rounds": float(min((len(one.rounds) for one in self.timings.values()), default=0))}
        for workload in WORKLOADS:
            if workload in self.timings and self.timings[workload].rounds:
                found |= self.timings[workload].metrics(workload.key)
        return {name: value for name, value in found.items() if not math.isnan(value)}

    def doubts(self) -> list[str]:
        """Why its own figures are not to be trusted."""
        if self.lost:
            return [self.lost]
        rounds = min((len(timing.rounds) for timing in self.timings.values()), default=0)
        found = [f"{rounds} rounds are too few"] if rounds < FEWEST_ROUNDS else []
        spreads = {
            workload: timing.spread for workload, timing in self.timings.items() if timing.spread > LARGEST_SPREAD
        }
        if spreads:
            worst = max(spreads, key=lambda workload: spreads[workload])
            more = f", and {len(spreads) - 1} more" if len(spreads) > 1 else ""
            said = f"{100 * spreads[worst]:.0f} % of the median in {worst.key}{more}"
            found.append(f"the rounds spread over {said} (more than {100 * LARGEST_SPREAD:.0f} %)")
        return found


@dataclass(frozen=True)
class Session:
    """Variants that took turns."""

    variants: Mapping[str, VariantTimings]
    before: Load
    during: Load

    def doubts(self, name: str) -> list[str]:
        """Empty: what was found of this variant is trusted."""
        return [*self.variants[name].doubts(), *self.machine_doubts()]

    def machine_doubts(self) -> list[str]:
        for when, load in (("just before", self.before), ("while it was measured", self.during)):
            if load.cores is None:
                return ["this system does not tell how busy it was"]
            if load.cores > MOST_BUSY_CORES:
                return [f"the machine was busy: others used {load.cores:.2g} of {load.of} cores {when}"]
        return []

    def mark(self, name: str) -> str:
        """`trusted`, or `untrusted: ` and why."""
        doubts = self.doubts(name)
        return f"untrusted: {'; '.join(doubts)}" if doubts else "trusted"

"""Measured, never asserted: each section gives rows of figures with their spread."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module

from .rows import Row

__all__ = ["SECTIONS", "Row", "Section"]


@dataclass(frozen=True)
class Section:
    """What it measures, and the function of this room that does, imported when it is called for: what it needs
    would count in the memory of the processes that other sections start."""

    module: str
    what: str
    """One line for --help."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """Keys of its own, with their defaults."""

    def rows(self, *, tiny: bool, **given: str) -> Iterator[Row]:
        """`tiny`: a size that only shows that it works, or the one that is reported."""
        return import_module(f".{self.module}", __name__).rows(tiny=tiny, **given)  # type: ignore[no-any-return]


DEVICE = {"device": "cpu"}

SECTIONS: Mapping[str, Section] = {
    "data": Section("data", "a folder of 50,000 JPEG files: decoding once, later epochs, memory"),
    "explorer": Section("explorer", "frames a second of the explorer's page, and time of a change, in Chromium"),
    "gpu": Section("gpu", "all that one GPU is to answer, in minutes: its tests, training and sweep", {"minutes": "9"}),
    "launchers": Section(
        "launchers",
        "what a launcher costs a run: local, Ray and Slurm, where they are installed",
        {"runs": "20", "turns": "3"},
    ),
    "memory": Section("activations", "predicted training memory against the measured one"),
    "plan": Section("plan", "wall time and memory of plan for 1,000 to 100,000 variants"),
    "simulate": Section(
        "simulate",
        "a sweep of a million runs on a thousand workers that fail, simulated: today's design, and one with shards",
        dict(runs="1e6", workers="1000", train_s="60", start_s="2", driver_ms="15", store_ms="52", report_ms="34")
        | dict(mtbf_h="24", seed="0"),
    ),
    "start": Section("start", "seconds until help, a refusal, the plan and the first optimizer step"),
    "store": Section(
        "store", "time to store, read and report 200 to 1,000 runs; runs=5000,10000: so many instead", {"runs": ""}
    ),
    "sweep": Section(
        "sweep", "whole sweeps through train.py -m against bare PyTorch loops; cuda: against one at a time", DEVICE
    ),
    "training": Section(
        "training",
        "images/s of the whole fit against bare PyTorch loops; part=default|fast|usual; device=cuda: CUDA graphs too",
        {"part": "all"} | DEVICE,
    ),
    "writers": Section("writers", "runs a second into one store from 1, 2 and 8 processes: SQLite, PostgreSQL"),
}

"""`python -m evidence.learned RESULTS [train]`: strides that DiffStride learns against searched ones of no more
multiplications. With `train`, the runs are trained first (the same command goes on); then results/reference/learned/
is written.

A learned network is worth what it costs at the strides that it ends with. The searched one is the finalist of
`search=halving`, whose seed is none of these, with the best validation accuracy of those that cost no more."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stridelab.geometry import totals
from stridelab.models.trace import geometry_of
from stridelab.probes.trained import final_weights
from stridelab.report.statistics import half_width, holm, sign_flip_p

from .diffstride import DiffStride, diffstride
from .search import write

COMMON = (
    "data=fashion_mnist", "data.train_size=3600", "data.val_size=1200", "trainer.max_epochs=8", "trainer.batch_size=32",
    "trainer.lr=0.2", "trainer.feature_map_images=0", "sweep.report=false", "plan=off", "seed=0,1,2,3,4,5,6",
)  # fmt: skip
COMMANDS = (
    ("evidence/diffstride.py", "model=diffstride", "model.smoothness=2.0,4.0", "model.learned=true,false"),
    ("train.py", "model.channels=8-16-32", "sweep.plans=strides in {1,2,3}", "search=halving", "search.rungs=[3,8]"),
)
SWEEPS = ("learned", "searched")
REFERENCE = Path("results/reference/learned")


def train(results: Path) -> None:
    for name, (program, *words) in zip(SWEEPS, COMMANDS, strict=True):
        own = [f"sweep.name={name}", f"paths.results_dir={results}"]
        subprocess.run([sys.executable, program, "-m", *words, *COMMON, *own], check=True)

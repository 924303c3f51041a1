"""`stridelab reproduce [run=latest|<id, signature or name>] [dry=true] [tolerance=0.001]`"""

from __future__ import annotations

import math
from collections.abc import Sequence

from .arguments import refuse_elsewhere, run_verb, split
from .program import command

USAGE = """\
Run a stored run again, exactly, and say whether the result is the same.

  stridelab reproduce                    the latest run
  stridelab reproduce run=<id, signature or name>
  stridelab reproduce dry=true           train nothing: compare data, code, packages and machine, and say what
                                                 is to be expected
  stridelab reproduce tolerance=0.01     largest relative difference that still counts as equal (0.001)

Everything that decides the result comes from the run's own config.json; paths.results_dir=, tracking.*=, data.root=,
data.cache_dir= and data.download= say where things are here. The new run is kept beside the old one, linked by the tag
stridelab.reproduces.

Exit codes: 0 identical (final weights, and every metric at every step, to the last bit); 3 equal within tolerance;
4 different, with the first metric and step; 1 could not be repeated, with the reason; 130 or 143 interrupted.
With dry=true: 0 bit-equality is to be expected; 3 it is not; 1 cannot be repeated.
Bit-equality is promised on the same kind of CPU, with the same packages and the same number of threads, and on one
NVIDIA GPU of the same model, with the same driver, packages and trainer.tf32; elsewhere not."""


def main(arguments: Sequence[str] | None = None) -> None:
    run_verb(USAGE, reproduce, arguments)


def reproduce(arguments: Sequence[str]) -> int:
    own, overrides = split(arguments, {"run": "latest", "dry": "false", "tolerance": "0.001"})
    dry, tolerance = truth("dry", own["dry"]), share("tolerance", own["tolerance"])
    why = "what decides the result comes from the run itself"
    refuse_elsewhere(overrides, why=why, own="run=, dry=, tolerance=")
    return carry_out(own["run"], overrides, dry=dry, tolerance=tolerance)


def carry_out(wanted: str, overrides: Sequence[str], *, dry: bool, tolerance: float) -> int:
    from stridelab.config import load
    from stridelab.reproduce import find
    from stridelab.reproduce import reproduce as repeat
    from stridelab.sweep.progress import screen

    here = load(overrides)
    given = any(override.startswith("data.root=") for override in overrides)
    return repeat(
        find(here.store, wanted, results=here.results),
        here.store,
        here,
        tolerance=tolerance,
        dry=dry,
        data_root=here.data.root if given else "",
        console=screen(),
        resend=f"{command('runs')} sync",
    )


def truth(key: str, value: str) -> bool:
    if value not in ("true", "false"):
        raise ValueError(f"{key}={value}: true or false is expected.")
    return value == "true"


def share(key: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 <= number < 1:
        raise ValueError(f"{key}={value}: a number from 0 to less than 1 is expected.")
    return number

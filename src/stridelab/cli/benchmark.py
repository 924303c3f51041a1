"""`stridelab benchmark [sweep=latest|<name or id>]`"""

from __future__ import annotations

from collections.abc import Sequence

from .arguments import run_verb, split

USAGE = """\
Measure the speed of a finished sweep's variants, in turns, and record it in their runs.

  stridelab benchmark                       the latest sweep
  stridelab benchmark sweep=<name or id>    another one

paths.results_dir= and tracking.*= as in train. Nothing else should be running on this machine: figures that were
disturbed are marked untrusted, with the reason. Each variant is measured once, for speed does not depend on the
seed: one image and 256, forward passes and training steps, as it was trained (threads, precision, layout). What the
figures mean: docs/measuring.md."""


def main(arguments: Sequence[str] | None = None) -> None:
    run_verb(USAGE, benchmark, arguments)


def benchmark(arguments: Sequence[str]) -> None:
    from stridelab.benchmark.session import Finished, measure_runs
    from stridelab.benchmark.table import print_session
    from stridelab.config import load
    from stridelab.sweep.progress import screen
    from stridelab.tracking.find import find_sweep

    from .stored_runs import finished, send

    own, overrides = split(arguments, {"sweep": "latest"})
    config = load(overrides)
    runs = finished(find_sweep(config.store, own["sweep"]).runs, config.results)
    console = screen()
    session = measure_runs([Finished(run.record.variant, run.config, run.folder) for run in runs], console)
    send(config.store, (run.folder for run in runs), console)
    print_session(session, console)

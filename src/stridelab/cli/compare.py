"""`stridelab compare sweep=latest|<name or id> [baseline=<variant>]`"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .arguments import run_verb, split

USAGE = """\
Write the comparison of a sweep again, from what the store holds.

  stridelab compare                       the latest sweep
  stridelab compare sweep=<name or id>    another one
  stridelab compare baseline='strides=1-2-2'
                                                  differences to this variant, not to the first
  python scripts/compare.py metric=latency/batch1_ms
                                                  by this metric, not by test accuracy

paths.results_dir= and tracking.*= as in stridelab train. Everything goes to results/reports/<sweep>/."""


def main(arguments: Sequence[str] | None = None) -> None:
    run_verb(USAGE, compare, arguments)


def compare(arguments: Sequence[str]) -> None:
    from stridelab.config import load
    from stridelab.report.notebook import seeds_seen, write_report
    from stridelab.report.terminal import print_variants
    from stridelab.sweep.progress import screen
    from stridelab.text import plural
    from stridelab.tracking.find import find_sweep
    from stridelab.tracking.store import resolve_store

    own, overrides = split(arguments, {"sweep": "latest", "baseline": "", "metric": ""})
    config = load(overrides)
    results = Path(config.paths.results_dir)
    store = resolve_store(config.tracking, results_dir=results)
    sweep = find_sweep(store, own["sweep"], results=results)
    folder = results / "reports" / sweep.folder_name
    console = screen()
    baseline, metric = own["baseline"] or None, own["metric"] or None
    comparison = print_variants(sweep, console, baseline=baseline, metric=metric, earlier=seeds_seen(folder))
    with console.status("writing the comparison ..."):
        paths = write_report(sweep, folder, store=store, baseline=baseline, metric=metric)
    console.print(f"\nNotebook  {paths.notebook}\nHTML      {paths.html}", highlight=False, soft_wrap=True)
    if paths.problems:
        raise ValueError("the notebook did not run through: " + "; ".join(paths.problems))
    if comparison.missing:
        raise ValueError(f"{plural(len(comparison.missing), 'run')} of the sweep could not be read: see above.")

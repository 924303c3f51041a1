"""`python scripts/compare.py sweep=latest|<name or id> [baseline=<variant>]`"""

from __future__ import annotations

import sys
from pathlib import Path

from .arguments import asks_for_help, split
from .refusal import refusing

USAGE = """\
Write the comparison of a sweep again, from what the store holds.

  python scripts/compare.py                       the latest sweep
  python scripts/compare.py sweep=<name or id>    another one
  python scripts/compare.py baseline='strides=1-2-2'
                                                  differences to this variant, not to the first

paths.results_dir= and tracking.*= as in train.py. Everything goes to results/reports/<sweep>/."""


def main() -> None:
    arguments = sys.argv[1:]
    if asks_for_help(arguments):
        print(USAGE)
        return
    with refusing():
        compare(arguments)


def compare(arguments: list[str]) -> None:
    from stridelab.config import load
    from stridelab.report import print_variants, write_report
    from stridelab.sweep.progress import screen
    from stridelab.tracking.find import find_sweep
    from stridelab.tracking.store import resolve_store

    own, overrides = split(arguments, {"sweep": "latest", "baseline": ""})
    config = load(overrides)
    results = Path(config.paths.results_dir)
    store = resolve_store(config.tracking, results_dir=results)
    sweep = find_sweep(store, own["sweep"], results=results)
    folder = results / "reports" / sweep.folder_name
    console = screen()
    print_variants(sweep, console, baseline=own["baseline"] or None)
    with console.status("writing the comparison ..."):
        paths = write_report(sweep, folder, store=store, baseline=own["baseline"] or None)
    console.print(f"\nNotebook  {paths.notebook}\nHTML      {paths.html}", highlight=False, soft_wrap=True)
    if sweep.missing:
        raise ValueError(
            f"{len(sweep.missing)} of the sweep's runs are neither in {results} nor in the store: "
            f"{', '.join(sweep.missing)}. The table lacks them; the sweep's own command trains them again."
        )
    if paths.problems:
        raise ValueError("the notebook did not run through: " + "; ".join(paths.problems))

"""`stridelab compare sweep=latest|<names or ids> [where=...] [baseline=...] [metric=...]`"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .arguments import run_verb, split

USAGE = """\
Write the comparison of a sweep again, from what the store holds.

  stridelab compare                       the latest sweep
  stridelab compare sweep=NAME            another one, by name or id
  stridelab compare sweep=NAME,NAME       several as one, by the names of their
                                          variants; a seed is paired over all
  stridelab compare where='padding=same, seed<5'
                                          some runs only, as in runs list
  stridelab compare baseline=1-2-2        differences to this variant, not to
                                          the first
  stridelab compare metric=latency/batch1_ms
                                          by this metric, not by test accuracy
  stridelab compare budget.macs=5M budget.ms=2 budget.mib=500
                                          mark what fits: MACs (multiplications
                                          a forward pass), latency, peak memory

paths.results_dir= and tracking.*= as in stridelab train. Everything goes to results/reports/<sweep>/."""


LIMITS = ("budget.macs", "budget.ms", "budget.mib")
UNITS = {"k": 1e3, "M": 1e6, "G": 1e9}


def main(arguments: Sequence[str] | None = None) -> None:
    run_verb(USAGE, compare, arguments)


def budget_of(values: Mapping[str, str]) -> dict[str, float]:
    """Of the keys in LIMITS that were given: 5000000, 5e6 or 5M."""
    found = {}
    for key in LIMITS:
        if text := values.get(key, ""):
            try:
                most = float(text.removesuffix(text[-1])) * UNITS[text[-1]] if text[-1] in UNITS else float(text)
            except ValueError:
                most = 0.0
            if not 0 < most < float("inf"):
                raise ValueError(f"{key}={text!r} must be a number above 0, such as 500, 5e6 or 5M.")
            found[key.removeprefix("budget.")] = most
    return found


def compare(arguments: Sequence[str]) -> None:
    from stridelab.config import load
    from stridelab.report.comparison import compare as compare_variants
    from stridelab.report.notebook import seeds_seen, write_report
    from stridelab.report.selection import find_selection
    from stridelab.report.terminal import print_variants
    from stridelab.sweep.progress import screen
    from stridelab.text import plural

    own, overrides = split(
        arguments, {"sweep": "latest", "baseline": "", "metric": "", "where": ""} | dict.fromkeys(LIMITS, "")
    )
    budget = budget_of(own)
    config = load(overrides)
    sweep = find_selection(config.store, own["sweep"], where=own["where"], results=config.results)
    folder = config.results / "reports" / sweep.folder_name
    asked = {key: own[key] or None for key in ("baseline", "metric")}
    comparison = compare_variants(sweep, **asked, earlier=seeds_seen(folder), budget=budget)
    console = screen()
    print_variants(comparison, console)
    with console.status("writing the comparison ..."):
        paths = write_report(comparison, folder, store=config.store, where=own["where"])
    console.print(f"\nNotebook  {paths.notebook}\nHTML      {paths.html}", soft_wrap=True)
    if paths.problems:
        raise ValueError("the notebook did not run through: " + "; ".join(paths.problems))
    if comparison.missing:
        raise ValueError(f"{plural(len(comparison.missing), 'run')} of the sweep could not be read: see above.")

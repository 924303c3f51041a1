"""`python -m evidence.search RESULTS [train]`: a space that is trained whole, against what searches of it find. With
`train`, its runs are trained first (the same command goes on); then results/reference/search/ is written.

Each of 5 searches of a kind has 3 of 15 seeds, in turn; the truth it is held against is of the 9 seeds that no search
of its number has seen."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stridelab.report.statistics import half_width

SPACE = "sweep.plans=strides in {1,2,3}, padding in {half,valid}"
COMMON = (
    "model.channels=4-8-16", "model.head=flatten", "data.train_size=500", "data.val_size=500", "trainer.max_epochs=9",
    "trainer.batch_size=32", "trainer.feature_map_images=0", "sweep.report=false", "plan=off",
)  # fmt: skip
SEARCHES, SEEDS, EPOCHS, TRIALS = 5, 3, 9, 30
NUM_SEEDS = SEARCHES * SEEDS
REFERENCE = Path("results/reference/search")

Means = Mapping[str, float]
"""Plan -> mean test accuracy in percent."""


@dataclass(frozen=True)
class Found:
    method: str
    number: int
    epochs: int
    means: Means
    """Of the plans that it trained with all of its seeds."""


def seeds_of(number: int, count: int) -> list[int]:
    return [(SEEDS * number + at) % NUM_SEEDS for at in range(count)]


def commands() -> Iterator[list[str]]:
    def spelled(seeds: Sequence[int]) -> str:
        return "seed=" + ",".join(map(str, seeds))

    yield ["-m", "sweep.name=exhaustive", spelled(range(NUM_SEEDS))]
    for number in range(SEARCHES):
        own = f"search.seed={1000 + number}"
        for name, count in (("halving", SEEDS), ("race", 2 * SEEDS), ("optuna", SEEDS)):
            more = [f"search.trials={TRIALS}"] if name == "optuna" else []
            yield [f"search={name}", own, *more, f"sweep.name={name}-{number}", spelled(seeds_of(number, count))]


def train(results: Path) -> None:
    for command in commands():
        subprocess.run(
            [sys.executable, "train.py", SPACE, *COMMON, f"paths.results_dir={results}", *command], check=True
        )


class Truth:
    """Test accuracy of every plan and seed, in percent, and MACs."""

    def __init__(self, results: Path) -> None:
        self.results = results
        self.scores: dict[str, dict[int, float]] = {}
        self.macs: dict[str, float] = {}
        for run in self.runs("exhaustive"):
            self.scores.setdefault(run["variant"], {})[run["seed"]] = 100 * run["metrics"]["test/acc"]
            self.macs[run["variant"]] = run["macs"]

    def runs(self, sweep: str) -> Iterator[dict[str, Any]]:
        planned = json.loads((self.results / "sweeps" / sweep / "variants.json").read_text())
        for signature, own in planned.items():
            folder = self.results / "runs" / signature
            macs = sum(layer["macs"] for layer in json.loads((folder / "geometry.json").read_text()))
            result = json.loads((folder / "result.json").read_text())
            yield {"variant": own["variant"], "seed": int(own["params"]["seed"]), "macs": macs} | result

    def means(self, seeds: Sequence[int], plans: Sequence[str] = ()) -> dict[str, float]:
        return {plan: float(np.mean([self.scores[plan][seed] for seed in seeds])) for plan in plans or self.scores}

    def front(self, means: Means) -> list[str]:
        """Cheapest first: none of no more MACs is as accurate."""
        order = sorted(means, key=lambda plan: (self.macs[plan], -means[plan]))
        found: list[str] = []
        for plan in order:
            if not found or means[plan] > means[found[-1]]:
                found.append(plan)
        return found

    def behind(self, found: Sequence[str], truth: Means) -> float:
        """Points lost, on average over the budgets of the true front, by who takes the best found plan within it; a
        budget that nothing found meets counts as its least accurate plan."""
        lost = []
        for plan in self.front(truth):
            affordable = [one for one in truth if self.macs[one] <= self.macs[plan]]
            chosen = [truth[one] for one in affordable if one in found] or [min(truth[one] for one in affordable)]
            lost.append(truth[plan] - max(chosen))
        return float(np.mean(lost))


def searched(truth: Truth) -> Iterator[Found]:
    whole = len(truth.scores) * EPOCHS
    for number in range(SEARCHES):
        for count in (1, 2, SEEDS, 2 * SEEDS):
            name = f"exhaustive, {count} seed{'s' * (count > 1)}"
            yield Found(name, number, count * whole, truth.means(seeds_of(number, count)))
        for name in ("halving", "race", "optuna"):
            record = json.loads((truth.results / "sweeps" / f"{name}-{number}" / "search.json").read_text())
            seeds, plans = seeds_of(number, len(record["seeds"])), record["finalists"]
            final = len(plans) * len(seeds) * EPOCHS if record["fresh"] else 0
            yield Found(name, number, record["epochs"] + final, truth.means(seeds, plans))


def judged(truth: Truth, found: Found) -> dict[str, Any]:
    unseen = [seed for seed in range(NUM_SEEDS) if seed not in seeds_of(found.number, 2 * SEEDS)]
    known = truth.means(unseen)
    true, front = truth.front(known), truth.front(found.means)
    return {
        "method": found.method,
        "search": found.number,
        "epochs": found.epochs,
        "true_front": len(true),
        "found_front": len(front),
        "share_of_true_front_pct": 100 * len(set(true) & set(front)) / len(true),
        "share_reached_pct": 100 * len(set(true) & set(found.means)) / len(true),
        "points_behind": truth.behind(front, known),
    }


MEASURES = ("epochs", "share_of_true_front_pct", "share_reached_pct", "points_behind")


def summary(rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Mean and half of Student's 95 % interval over the searches; and of the difference to the exhaustive one."""
    by = {(row["method"], row["search"]): row for row in rows}
    for method in dict.fromkeys(row["method"] for row in rows):
        line: dict[str, Any] = {"method": method}
        for measure in MEASURES:
            values = np.array([by[method, number][measure] for number in range(SEARCHES)], dtype=float)
            whole = [by[f"exhaustive, {SEEDS} seeds", number][measure] for number in range(SEARCHES)]
            for name, one in ((measure, values), (f"{measure}_minus_exhaustive", values - np.array(whole, float))):
                line[name] = round(float(one.mean()), 3)
                line[f"{name}_half_width"] = round(float(half_width(one.std(ddof=1), n=len(one))), 3)
        yield line


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main(results: Path) -> None:
    truth = Truth(results)
    rows = [judged(truth, found) for found in searched(truth)]
    write(REFERENCE / "searches.csv", rows)
    write(REFERENCE / "summary.csv", list(summary(rows)))
    means, front = truth.means(range(NUM_SEEDS)), truth.front(truth.means(range(NUM_SEEDS)))
    plans = [
        {"plan": plan, "macs": truth.macs[plan], "test_acc_pct": round(means[plan], 3), "on_front": plan in front}
        | {f"seed_{seed}": round(score, 2) for seed, score in sorted(truth.scores[plan].items())}
        for plan in sorted(means, key=lambda plan: truth.macs[plan])
    ]
    write(REFERENCE / "plans.csv", plans)


if __name__ == "__main__":
    place = Path(sys.argv[1])
    if "train" in sys.argv[2:]:
        train(place)
    main(place)

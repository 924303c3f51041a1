"""`python -m evidence.learned RESULTS [train]`: strides that DiffStride learns against searched ones of no more
multiplications. With `train`, the runs are trained first (the same command goes on); then results/reference/learned/
is written.

Equal cost: a learned network has the multiplications of the strides that it ends with, and an arm's budget is the least
of its seeds. The searched plan is one of the finalists of `search=halving` within the budget: the one that was best on
the validation images of the search, whose seed is none of these (*best*), or the one that comes nearest to the budget
(*nearest*). The budget of the convolutions alone takes DiffStride's transforms for free. What decides is the best one;
the other contrasts are shown beside it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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


def runs_of(results: Path, sweep: str) -> Iterator[dict[str, Any]]:
    """Of each run: folder, variant, seed, `model` (settings), accuracies in percent, epochs."""
    for signature, own in json.loads((results / "sweeps" / sweep / "variants.json").read_text()).items():
        folder = results / "runs" / signature
        config, result = (json.loads((folder / name).read_text()) for name in ("config.json", "result.json"))
        metrics = {name: 100 * result["metrics"][name] for name in ("test/acc", "final/val_acc")}
        known = {"folder": folder, "variant": own["variant"], "seed": config["seed"], "model": config["model"]}
        yield known | metrics | {"epochs": config["trainer"]["max_epochs"]}


def learned_run(run: Mapping[str, Any]) -> dict[str, Any]:
    """With its strides after training, and what the network then costs."""
    keys = ("channels", "strides", "smoothness", "learned")
    network = diffstride(in_channels=1, num_classes=10, **{key: run["model"][key] for key in keys})
    network.load_state_dict(final_weights(run["folder"]))
    strides: dict[str, float] = {}
    for name, layer in network.named_children():
        if isinstance(layer, DiffStride):
            layer.traced = tuple(layer.stride.clamp(min=1).tolist())
            strides |= {
                f"{name}_{axis}": round(one, 3) for axis, one in zip(("height", "width"), layer.traced, strict=True)
            }
    layers = geometry_of(network.eval(), 28)
    arm = f"R={run['model']['smoothness']:g} {'learned' if run['model']['learned'] else 'fixed'}"
    macs = {"macs": sum(layer.macs or 0 for layer in layers)}
    macs["macs_of_convolutions"] = sum(layer.macs or 0 for layer in layers if layer.name.startswith("conv"))
    return {"arm": arm, "seed": run["seed"], "test_acc_pct": round(run["test/acc"], 2)} | macs | strides


def searched_run(run: Mapping[str, Any]) -> dict[str, Any]:
    layers = json.loads((run["folder"] / "geometry.json").read_text())
    macs = {"macs": sum(layer["macs"] for layer in layers)}
    macs["macs_of_convolutions"] = sum(layer["macs"] for layer in layers if layer["name"].startswith("conv"))
    return {"arm": run["variant"], "seed": run["seed"], "test_acc_pct": round(run["test/acc"], 2)} | macs


class Arms:
    """Runs by arm, and what the search thought of its finalists."""

    def __init__(self, results: Path) -> None:
        self.runs = [learned_run(run) for run in runs_of(results, "learned")]
        self.learned = list(dict.fromkeys(run["arm"] for run in self.runs))
        found = [searched_run(run) for run in runs_of(results, "searched")]
        self.searched = list(dict.fromkeys(run["arm"] for run in found))
        self.runs += found
        seen = list(runs_of(results, "searched-screening"))
        last = [run for run in seen if run["epochs"] == max(one["epochs"] for one in seen)]
        self.choice = {run["variant"].partition(" ")[0]: run["final/val_acc"] for run in last}

    def of(self, arm: str, what: str) -> NDArray[np.float64]:
        """By seed."""
        return np.array([run[what] for run in sorted(self.runs, key=lambda run: run["seed"]) if run["arm"] == arm])

    def rivals(self, arm: str) -> dict[str, str]:
        """What an arm is held against, by how it was chosen."""
        found = {}
        for cost, words in (("macs", ""), ("macs_of_convolutions", ", by convolutions")):
            budget = self.of(arm, cost).min()
            within = [plan for plan in self.searched if self.of(plan, cost)[0] <= budget]
            found[f"best{words}"] = max(within, key=lambda plan: self.choice[plan])
            found[f"nearest{words}"] = max(within, key=lambda plan: self.of(plan, cost)[0])
        if arm.endswith("learned"):
            found["strides left as they were"] = arm.replace("learned", "fixed")
        return found


def contrasts(arms: Arms) -> list[dict[str, Any]]:
    """Paired by seed, in points; Holm over all of them."""
    rows = [
        contrast(arms, arm, rival, [how for how, one in rivals.items() if one == rival])
        for arm in arms.learned
        if arm.endswith("learned")
        for rivals in [arms.rivals(arm)]
        for rival in dict.fromkeys(rivals.values())
    ]
    for row, p in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row |= {"p": round(row["p"], 4), "p_holm": round(float(p), 4)}
    return rows


def contrast(arms: Arms, arm: str, rival: str, chosen: Sequence[str]) -> dict[str, Any]:
    d = arms.of(arm, "test_acc_pct") - arms.of(rival, "test_acc_pct")
    return {
        "arm": arm,
        "against": rival,
        "chosen_as": "; ".join(chosen),
        "decides": "best" in chosen,
        "macs_ratio": round(float(arms.of(arm, "macs").mean() / arms.of(rival, "macs").mean()), 2),
        "n": len(d),
        "seeds_above": int((d > 0).sum()),
        "mean_points": round(float(d.mean()), 2),
        "half_width_points": round(float(half_width(d.std(ddof=1), n=len(d))), 2),
        "p": sign_flip_p(d),
    }


def summary(arms: Arms) -> Iterator[dict[str, Any]]:
    """Means over the seeds, cheapest first."""
    for arm in sorted([*arms.learned, *arms.searched], key=lambda arm: arms.of(arm, "macs").mean()):
        accuracy = arms.of(arm, "test_acc_pct")
        yield {
            "arm": arm,
            "n": len(accuracy),
            "test_acc_pct": round(float(accuracy.mean()), 3),
            "sd": round(float(accuracy.std(ddof=1)), 3),
            "macs": round(float(arms.of(arm, "macs").mean())),
            "macs_of_convolutions": round(float(arms.of(arm, "macs_of_convolutions").mean())),
        }


def main(results: Path) -> None:
    arms = Arms(results)
    keys = dict.fromkeys(key for run in arms.runs for key in run)
    tables = {
        "arms": list(summary(arms)),
        "contrasts": contrasts(arms),
        "runs": [{key: run.get(key, "") for key in keys} for run in arms.runs],
    }
    for name, rows in tables.items():
        write(REFERENCE / f"{name}.csv", rows)
    (REFERENCE / "README.md").write_text(readme(results, tables), encoding="utf-8")


def readme(results: Path, tables: Mapping[str, list[dict[str, Any]]]) -> str:
    folder = next(runs_of(results, "learned"))["folder"]
    where = json.loads((folder / "provenance.json").read_text())
    search = json.loads((results / "sweeps" / "searched" / "search.json").read_text())
    commit, machine, runs = where["git"]["commit"][:12], where["machine"], tables["runs"]
    seeds = len({run["seed"] for run in runs})
    return f"""\
# Reference: learned strides

    python -m evidence.learned RESULTS train

Commit {commit}; {machine["cpu"]}, {machine["usable_cores"]} cores, shared with other work. {len(runs)} runs,
{seeds} seeds an arm, and the {search["trials"]} of the search ({search["epochs"]} epochs). `runs.csv`: all, with
the strides that they ended with. What was found: [docs/search.md](../../../docs/search.md).

{markdown(tables["arms"])}

{markdown(tables["contrasts"])}
"""


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    heads = [key.replace("_", " ").replace("pct", "%").replace("macs", "MACs") for key in rows[0]]
    lines = [heads, ["---"] * len(heads), *([cell(one) for one in row.values()] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    place = Path(sys.argv[1])
    if "train" in sys.argv[2:]:
        train(place)
    main(place)

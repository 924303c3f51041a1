"""What the variants get wrong: by class, which class for which, and on which test images they disagree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stridelab import names
from stridelab.report import statistics
from stridelab.report.artifacts import read_arrays, read_json

if TYPE_CHECKING:
    from stridelab.tracking.find import SweepRecord
    from stridelab.tracking.mlflow_reader import RunRecord


@dataclass(frozen=True)
class Mistakes:
    labels: NDArray[Any]
    """[test images]"""
    predicted: dict[str, dict[str, NDArray[Any]]]
    """Variant -> seed -> class of every test image."""
    class_names: tuple[str, ...]


def mistakes(sweep: SweepRecord) -> Mistakes | None:
    """From the finished runs that kept their predictions of the same test images; None where there are none."""
    found: dict[str, dict[str, NDArray[Any]]] = {}
    labels: NDArray[Any] | None = None
    done = [run for run in sweep.runs if run.is_finished]
    for run in done:
        arrays = _predictions(run)
        if arrays and (labels is None or np.array_equal(labels, arrays["labels"])):
            labels = arrays["labels"]
            found.setdefault(run.variant, {})[run.tags.get(names.SEED, run.run_id)] = arrays["predicted"]
    if labels is None:
        return None
    facts = next((read_json(run, names.DATA_FILE) for run in done), {})
    known = tuple(map(str, facts.get("class_names") or ()))
    count = int(max(labels.max(), *(one.max() for seeds in found.values() for one in seeds.values()))) + 1
    return Mistakes(labels, found, known if len(known) >= count else tuple(map(str, range(count))))


def _predictions(run: RunRecord) -> dict[str, NDArray[Any]]:
    arrays = read_arrays(run, names.PREDICTIONS_FILE)
    if {"labels", "predicted"} - arrays.keys():
        return {}
    return {name: arrays[name].astype(np.int64) for name in ("labels", "predicted")}


def by_class(found: Mistakes, baseline: str) -> pd.DataFrame:
    """Columns variant, class, accuracy (mean over seeds), and against the baseline, paired by seed: n, difference, low,
    high (Student's, 95 %)."""
    rows = []
    base = found.predicted.get(baseline, {})
    for variant, seeds in found.predicted.items():
        for number, name in enumerate(found.class_names):
            there = found.labels == number
            if not there.any():
                continue
            right = {seed: float((one[there] == number).mean()) for seed, one in seeds.items()}
            d = [right[seed] - float((base[seed][there] == number).mean()) for seed in right if seed in base]
            mean = float(np.mean(d)) if d else np.nan
            half = float(statistics.half_width(np.std(d, ddof=1) if len(d) > 1 else np.nan, n=len(d)))
            accuracy = float(np.mean(list(right.values())))
            rows.append((variant, name, accuracy, len(d), mean, mean - half, mean + half))
    return pd.DataFrame(rows, columns=["variant", "class", "accuracy", "n", "difference", "low", "high"])


def confusion(found: Mistakes, variant: str) -> NDArray[np.float64]:
    """[true class, predicted class]: shares of a true class's images, over all seeds."""
    count = len(found.class_names)
    pairs = sum(
        np.bincount(found.labels * count + one, minlength=count**2) for one in found.predicted[variant].values()
    )
    table = np.asarray(pairs, dtype=float).reshape(count, count)
    shares: NDArray[np.float64] = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    return shares


def right_share(found: Mistakes) -> pd.DataFrame:
    """Test images x variants: the share of seeds that are right."""
    return pd.DataFrame(
        {
            name: np.mean([one == found.labels for one in seeds.values()], axis=0)
            for name, seeds in found.predicted.items()
        }
    )


def disagreements(found: Mistakes, count: int) -> pd.DataFrame:
    """The test images on which variants differ most in their share of right seeds, of those on which they differ: image
    (its place in the test split), true class, and each variant's share."""
    share = right_share(found)
    apart = (share.max(axis=1) - share.min(axis=1)).to_numpy()
    order = np.argsort(-apart, kind="stable")[:count]
    shown = share.iloc[order[apart[order] > 0]]
    classes = [found.class_names[found.labels[image]] for image in shown.index]
    return pd.concat([pd.DataFrame({"image": shown.index, "class": classes}, index=shown.index), shown], axis=1)


def taken_for(found: Mistakes, variant: str, image: int) -> str:
    """What most seeds take a test image for: `right` or a class, and how many of them, where they do not agree."""
    said = [int(one[image]) for one in found.predicted[variant].values()]
    most = max(sorted(set(said)), key=said.count)
    word = "right" if most == found.labels[image] else found.class_names[most]
    return word if said.count(most) == len(said) else f"{word} {said.count(most)} of {len(said)}"


def image_error(found: Mistakes, *variants: str) -> float:
    """Standard error, from the choice of test images alone, of a variant's mean accuracy over its seeds, or of the
    difference of two over those that they share."""
    predicted = [found.predicted.get(name, {}) for name in variants]
    if not (seeds := set.intersection(*map(set, predicted))):
        return np.nan
    right = [np.mean([one[seed] == found.labels for seed in seeds], axis=0) for one in predicted]
    d = right[0] - sum(right[1:])
    return float(d.std(ddof=1) / np.sqrt(d.size))

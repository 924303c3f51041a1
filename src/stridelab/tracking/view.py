"""A prepared view of a sweep's runs in the MLflow UI: grouped by variant, accuracy against cost on top.

The experiment's tag `mlflow.sharedViewState.<key>` is how the UI itself keeps the views that people share. It is
documented nowhere; tests/browser/test_mlflow_pages.py holds it against the pinned version. A UI that does not know it
opens the experiment's runs without it.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stridelab import names

TAG = "mlflow.sharedViewState."
TOP, MAPS, ALL_RUNS = "stridelab-top", "stridelab-maps", 100
SECTIONS = ("train", "val", "final", "best", "test", "cost", "throughput", "latency", "memory", "time", "benchmark")
"""What the UI makes of the metrics' prefixes: below, and folded."""
NAME, CREATED = "attributes.`Run Name`", "attributes.`Created`"


def key_of(run_id: str) -> str:
    """Of the sweep's own run."""
    return f"stridelab-{run_id}"


def wish(metric: str, *, params: Sequence[str], epochs: str, smallest_first: bool = False) -> str:
    """What a sweep's tag `stridelab.view` says: the metric asked for, its history by epoch, the parameters that
    differ."""
    wished = {"metric": metric, "epochs": epochs, "params": list(params), "smallest_first": smallest_first}
    return json.dumps(wished)


def view_tag(run_id: str, wished: str, *, name: str, uid: str, now_ms: int) -> tuple[str, str]:
    """Key and value of the experiment's tag."""
    found = json.loads(wished)
    text = json.dumps(_state(names.in_sweep(name, uid), **found), separators=(",", ":"))
    packed = base64.b64encode(zlib.compress(text.encode(), 9)).decode()
    view = {"name": name, "createdAt": now_ms, "updatedAt": now_ms, "state": f"deflate;{packed}"}
    return TAG + key_of(run_id), json.dumps(view)


def _state(
    members: str, *, metric: str, epochs: str, params: Sequence[str], smallest_first: bool = False
) -> Mapping[str, Any]:
    columns = [f"params.`{name}`" for name in params]
    columns += [f"metrics.`{name}`" for name in (metric, "cost/macs", "throughput/train_images_per_s")]
    group = {"mode": "tag", "groupByData": members}
    return {
        "searchFilter": f"tags.`{members}` LIKE '%'",
        "orderByKey": f"metrics.`{metric}`",
        "orderByAsc": smallest_first,
        "selectedColumns": columns,
        "columnOrder": [NAME, *columns, CREATED],
        "columnWidths": {NAME: 260},
        "groupBy": {"aggregateFunction": "average", "groupByKeys": [group]},
        "useGroupedValuesInCharts": True,
        "runsHiddenMode": "SHOW_ALL",
        "hideEmptyCharts": True,
        "compareRunSections": list(_sections()),
        "compareRunCharts": list(_charts(metric, epochs)),
    }


def _sections() -> Iterator[Mapping[str, Any]]:
    common = {"isReordered": False, "deleted": False, "isGenerated": False}
    yield {"uuid": TOP, "name": "Accuracy and cost", "display": True, "columns": 2, "cardHeight": 340} | common
    yield {"uuid": MAPS, "name": "feature_maps", "display": True} | common
    for name in SECTIONS:
        yield {"uuid": f"stridelab-{name}", "name": name, "display": False} | common


def _charts(metric: str, epochs: str) -> Iterator[Mapping[str, Any]]:
    def chart(kind: str, number: int, **more: Any) -> Mapping[str, Any]:
        common = {"metricSectionId": TOP, "deleted": False, "isGenerated": False, "runsCountToCompare": ALL_RUNS}
        return {"type": kind, "uuid": f"stridelab-{number}"} | common | more

    def axis(name: str) -> Mapping[str, str]:
        return {"key": name, "type": "METRIC"}

    yield chart("SCATTER", 1, xaxis=axis("cost/macs"), yaxis=axis(metric))
    yield chart("BAR", 2, metricKey=metric)
    line = {"xAxisKey": "step", "scaleType": "linear", "xAxisScaleType": "linear", "range": {}, "yAxisKey": "metric"}
    yield chart("LINE", 3, metricKey=epochs, selectedMetricKeys=[epochs], lineSmoothness=0, yAxisExpressions=[], **line)
    yield chart("BAR", 4, metricKey="throughput/train_images_per_s")

"""What a network is asked for. A task is one entry of `TASKS`; no torch here: its functions import it when called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stridelab.geometry import LayerPlan
from stridelab.metrics import METRICS, Metric
from stridelab.models import heads

from . import classification, localisation, segmentation

if TYPE_CHECKING:
    from torch import Tensor

    from stridelab.data.splits import Split


@dataclass(frozen=True)
class LearningTask:
    meaning: str
    head: Callable[[LayerPlan, int], LayerPlan]
    """(a family's plan, number of classes) -> the plan with what this task reads from its last map."""
    needs: str
    """What a data set must know of each image besides its class: a key of `DatasetFacts.targets`; empty: nothing."""
    targets: Callable[[Split], Tensor]
    """What the outputs are held against, one entry an image."""
    example: Callable[[Tensor], Tensor]
    """Outputs -> targets that could be theirs, for measuring speed."""
    loss: Callable[..., Tensor]
    """(outputs, targets, label_smoothing=, reduction=) -> mean or sum over the images."""
    tally: Callable[[Tensor, Tensor], dict[str, Tensor]]
    """(outputs, targets) -> what is summed over the images of a pass."""
    metrics: Callable[[Mapping[str, Tensor], int], dict[str, float]]
    """(those sums, number of images) -> the metrics of a pass, such as `acc`: `test/acc` in metrics.METRICS."""
    decide: Callable[[Tensor], Tensor] | None
    """Outputs -> the class of each image, kept of the test images; None: not of this kind."""
    primary: str
    """The metric that variants are compared by, and whose best epoch is `best/val_...`."""

    @property
    def measure(self) -> Metric:
        """What the primary metric is, and whether more of it is better."""
        return METRICS[f"test/{self.primary}"]


TASKS: dict[str, LearningTask] = {
    "classify": LearningTask(
        meaning="the class of the image",
        head=heads.classifier,
        needs="",
        targets=classification.targets,
        example=classification.example,
        loss=classification.loss,
        tally=classification.tally,
        metrics=classification.metrics,
        decide=classification.decide,
        primary="acc",
    ),
    "locate": LearningTask(
        meaning="whether the image has an object, and where its centre is",
        head=heads.locator,
        needs="box",
        targets=localisation.targets,
        example=localisation.example,
        loss=localisation.loss,
        tally=localisation.tally,
        metrics=localisation.metrics,
        decide=None,
        primary="error_px",
    ),
    "segment": LearningTask(
        meaning="the class of every pixel",
        head=heads.segmenter,
        needs="mask",
        targets=segmentation.targets,
        example=segmentation.example,
        loss=segmentation.loss,
        tally=segmentation.tally,
        metrics=segmentation.metrics,
        decide=None,
        primary="miou",
    ),
}
"""`task=` -> what it is."""


def primary_metrics() -> tuple[str, ...]:
    """What variants are compared by unless asked for another: the first of these that a finished run has."""
    return tuple(f"{of}{task.primary}" for of in ("test/", "final/val_", "val/") for task in TASKS.values())

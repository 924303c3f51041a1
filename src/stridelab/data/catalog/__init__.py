"""Which data sets there are. No torch here."""

from __future__ import annotations

from .arrays import ARRAY_SETS
from .composed import COMPOSED_SETS
from .facts import DatasetFacts
from .images import IMAGE_SETS
from .user import USER_DATASETS, find_dataset

DATASETS: dict[str, DatasetFacts] = {**ARRAY_SETS, **COMPOSED_SETS, **IMAGE_SETS}
"""What `data.name` may be: a new data set is a row here, and conf/data/<name>.yaml.

Where its images come from is `DatasetFacts.files`: files of arrays, files of images, or a function that gives arrays.
"""


def facts_of(name: str) -> DatasetFacts:
    """Of a published set, or of the user's own. ValueError names the sets that there are."""
    if name not in DATASETS and find_dataset(name):
        from .user_arrays import facts_of_user  # with numpy

        DATASETS[name] = facts_of_user(name)
    if name not in DATASETS:
        choices = ", ".join([*DATASETS, *USER_DATASETS])
        raise ValueError(f"data.name={name!r} is not a data set; choose one of {choices}.")
    return DATASETS[name]

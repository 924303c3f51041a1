"""Which data sets there are. No torch here."""

from __future__ import annotations

from .arrays import ARRAY_SETS
from .composed import COMPOSED_SETS
from .facts import DatasetFacts
from .images import IMAGE_SETS

DATASETS: dict[str, DatasetFacts] = {**ARRAY_SETS, **COMPOSED_SETS, **IMAGE_SETS}
"""What `data.name` may be: a new data set is a row here, and conf/data/<name>.yaml.

Where its images come from is `DatasetFacts.files`: files of arrays, files of images, or a function that gives arrays.
"""

"""Which data sets there are. No torch here."""

from __future__ import annotations

from .arrays import ARRAY_SETS
from .canvas import CANVAS
from .facts import DatasetFacts
from .images import IMAGE_SETS
from .textures import TEXTURES

DATASETS: dict[str, DatasetFacts] = {**ARRAY_SETS, "textures": TEXTURES, "canvas": CANVAS, **IMAGE_SETS}
"""What `data.name` may be: a new data set is a row here, and conf/data/<name>.yaml.

Where its images come from is `DatasetFacts.files`: files of arrays, files of images, or a function that gives arrays.
"""

"""From choices to a layer plan here; `build` and `trace` (which need torch) go from plan to module and back."""

from .families import FAMILIES, CnnConfig, layer_plan
from .settings import ModelConfig

__all__ = ["FAMILIES", "CnnConfig", "ModelConfig", "layer_plan"]

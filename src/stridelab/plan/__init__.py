"""Know before you train: the exact geometry and cost of every variant, without torch."""

from .variant import Variant, examine, layer_plan_of

__all__ = ["Variant", "examine", "layer_plan_of"]

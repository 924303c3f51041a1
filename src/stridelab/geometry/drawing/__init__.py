"""A drawing of what layers do to an image: maps to scale, their padding, and what one unit sees of each."""

from stridelab.geometry.drawing.page import Panel, draw

__all__ = ["Panel", "draw"]

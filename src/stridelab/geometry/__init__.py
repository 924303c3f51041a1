"""Exact geometry and cost of convolutional networks: integers, one axis at a time, the standard library only."""

from stridelab.geometry.axis import AxisGeometry, conv_axis, pool_axis
from stridelab.geometry.compose import LayerGeometry, compose, measure
from stridelab.geometry.kinds import ACTIVATIONS, KINDS, NORMS
from stridelab.geometry.padding import PADDINGS, parse_padding
from stridelab.geometry.plan import IMAGE, AxisPadding, Layer, LayerPlan, Pair
from stridelab.geometry.saved import pads_explicitly

__all__ = [
    "ACTIVATIONS",
    "IMAGE",
    "KINDS",
    "NORMS",
    "PADDINGS",
    "AxisGeometry",
    "AxisPadding",
    "Layer",
    "LayerGeometry",
    "LayerPlan",
    "Pair",
    "compose",
    "conv_axis",
    "measure",
    "pads_explicitly",
    "parse_padding",
    "pool_axis",
]

"""Exact geometry and cost of convolutional networks: integers, one axis at a time, standard library only."""

from stridelab.geometry.axis import AxisGeometry, conv_axis, pool_axis
from stridelab.geometry.compose import compose, measure
from stridelab.geometry.kinds import KINDS
from stridelab.geometry.layer_geometry import LayerGeometry, parse_layers, spell_fraction
from stridelab.geometry.layer_plan import IMAGE, AxisPadding, Layer, LayerPlan, Pair, layer, parse_pair, parse_plan
from stridelab.geometry.memory import OPTIMIZERS, LayerMemory, TrainingMemory, training_memory
from stridelab.geometry.padding import PADDING_MODES, PADDINGS, parse_padding
from stridelab.geometry.saved_tensors import ACTIVATIONS, NORMS, pads_explicitly
from stridelab.geometry.totals import Totals, totals

__all__ = [
    "ACTIVATIONS",
    "IMAGE",
    "KINDS",
    "NORMS",
    "OPTIMIZERS",
    "PADDINGS",
    "PADDING_MODES",
    "AxisGeometry",
    "AxisPadding",
    "Layer",
    "LayerGeometry",
    "LayerMemory",
    "LayerPlan",
    "Pair",
    "Totals",
    "TrainingMemory",
    "compose",
    "conv_axis",
    "layer",
    "measure",
    "pads_explicitly",
    "parse_layers",
    "parse_padding",
    "parse_pair",
    "parse_plan",
    "pool_axis",
    "spell_fraction",
    "totals",
    "training_memory",
]

"""What PyTorch's own kernels hold beside a layer's tensors while they run.

Read off with torch.profiler (PyTorch 2.14, oneDNN 3, channels_last, one core with AVX-512).
"""

from __future__ import annotations

from math import prod

from stridelab.geometry.layer_geometry import LayerGeometry
from stridelab.geometry.step_tensors import HALF_BYTES, StepTensors

LANES = 16
"""Channels of a block in oneDNN's layout of filters, which each group is padded to."""
FEW_IMAGES = 16
"""Fewer are left to PyTorch's own kernel for 1x1 filters."""
SMALL_IMAGE = 20_480
"""Numbers of a single image's map up to which it is left to that kernel, too."""
CONVOLUTIONS = frozenset({"blur_pool", "conv", "conv_transpose", "readout"})


def forward_bytes(step: StepTensors, layer: LayerGeometry) -> int:
    """In the forward pass of `layer`."""
    if step.device != "cpu":
        return relaid_bytes(step, layer)
    if layer.kind == "global_avg_pool" and step.widths[layer.inputs[0]] == HALF_BYTES:
        return 2 * step.map_bytes(layer.inputs[0])  # summed up as float32
    blocked = step.parameter_bytes(layer) if layer.kind == "conv" and by_onednn(step, layer) else 0
    return blocked + relaid_bytes(step, layer) + windows_bytes(step, layer, made=step.map_bytes(layer.name))


def backward_bytes(step: StepTensors, layer: LayerGeometry) -> int:
    """In the backward pass of `layer`, beside the gradients that it reads and makes."""
    both = relaid_bytes(step, layer) + broadcast_bytes(step, layer)
    if step.device != "cpu":
        return both
    source = layer.inputs[0]
    made = (step.copied_bytes(layer) or step.map_bytes(source)) if step.trained[source] else 0
    return both + windows_bytes(step, layer, made=made) + cpu_copies(step, layer)


def relaid_bytes(step: StepTensors, layer: LayerGeometry) -> int:
    """A circular pad loses the layout channels_last, so that a convolution of that layout copies the map again."""
    if not step.channels_last or layer.padding_mode != "circular" or layer.kind not in ("blur_pool", "conv"):
        return 0
    by_own_kernel = step.device == "cpu" and layer.kind == "conv" and not by_onednn(step, layer)
    return 0 if by_own_kernel else step.copied_bytes(layer)


def is_planar(step: StepTensors, layer: LayerGeometry, *, above: bool) -> bool:
    """Whether a gradient that `layer` makes has its channels apart and not, as its map, last: that of a mean over the
    map, of a flattened, resampled or circularly padded one, and what functions of single values make of one (`above`).
    """
    if layer.kind in ("flatten", "global_avg_pool"):
        return step.channels_last and max(layer.input_size) > 1
    if layer.kind == "resample" or pad_backward_bytes(step, layer):
        return step.channels_last
    through = layer.kind == "activation" and layer.function not in ("leaky_relu", "relu")
    return above and (through or layer.kind in ("add", "concat", "dropout", "identity", "multiply", "space_to_depth"))


def planar_bytes(step: StepTensors, layer: LayerGeometry) -> int:
    """In the backward pass of `layer`, where the gradient of its map is planar, and so copied."""
    if layer.kind.endswith("_pool") and layer.kind not in ("blur_pool", "global_avg_pool") and step.device == "cpu":
        return step.map_bytes(layer.inputs[0]) + (step.other_bytes(layer) if layer.kind.endswith("max_pool") else 0)
    if layer.function == "batch" and step.device == "cpu":
        return -step.map_bytes(layer.name)  # which is then made once
    windows = layer.kind in CONVOLUTIONS or layer.kind.endswith("_pool")
    return step.map_bytes(layer.name) if windows or layer.kind == "norm" else 0


def pad_backward_bytes(step: StepTensors, layer: LayerGeometry) -> int:
    """A circular pad is written into its copy piece by piece, and each piece copies the gradient of the whole."""
    return step.copied_bytes(layer) if layer.padding_mode == "circular" else 0


def cpu_copies(step: StepTensors, layer: LayerGeometry) -> int:
    """Batch norm makes the gradient of its map twice; oneDNN that of filters in a layout of its own, then in
    PyTorch's."""
    if layer.function == "batch":
        return step.map_bytes(layer.inputs[0])
    if layer.kind not in ("conv", "readout") or layer.function == "linear" or not by_onednn(step, layer):
        return 0
    width = HALF_BYTES if step.mixed else step.number_bytes
    filters = layer.params or 0
    return width * (filters + (filters if layer.groups == 1 else blocked_filters(layer)))


def by_onednn(step: StepTensors, layer: LayerGeometry) -> bool:
    """Where PyTorch has another kernel: of float64, of 1x1 filters and few images in a single thread, and of one small
    image (aten/src/ATen/native/Convolution.cpp, use_mkldnn)."""
    if step.mixed or step.number_bytes == 8:
        return step.mixed
    few = layer.kernel_size == layer.stride == (1, 1) and step.batch_size < FEW_IMAGES
    read = step.copied_bytes(layer) or step.map_bytes(layer.inputs[0])
    alone = step.batch_size == 1 and groups_of(layer) == 1 and read <= step.number_bytes * SMALL_IMAGE
    return not few and not (alone and min(layer.kernel_size) <= 3)


def groups_of(layer: LayerGeometry) -> int:
    return layer.in_channels if layer.kind == "blur_pool" else layer.groups


def blocked_filters(layer: LayerGeometry) -> int:
    outs, ins = (LANES * -(-count // layer.groups // LANES) for count in (layer.out_channels, layer.in_channels))
    return layer.groups * outs * ins * prod(layer.kernel_size)


def workspace_bytes(step: StepTensors, layer: LayerGeometry) -> int:
    """That cuDNN takes for the backward pass of a convolution, at most: its map and the gradient of its output once
    more, in the layout of the kernel. A rule that was fitted to one of three peaks measured on an H100 (PyTorch 2.11,
    channels_last, TF32, deterministic) and holds for the other two; cuBLAS's, of once a process, are not in it."""
    if step.device != "cuda" or layer.kind not in CONVOLUTIONS:
        return 0
    return step.map_bytes(layer.inputs[0]) + step.map_bytes(layer.name)


def windows_bytes(step: StepTensors, layer: LayerGeometry, *, made: int) -> int:
    """PyTorch's own convolutions on a CPU are products with a matrix of all windows (im2col), group by group; the
    pieces that the groups make are joined to a tensor of `made` bytes when that matrix is gone."""
    if layer.kind not in ("conv", "blur_pool") or by_onednn(step, layer):
        return 0
    groups = groups_of(layer)
    images = step.batch_size if layer.dilation == (1, 1) else 1
    windows = images * (layer.in_channels // groups) * prod(layer.kernel_size) * prod(layer.output_size)
    columns = 0 if layer.kernel_size == (1, 1) else step.number_bytes * windows
    return columns if groups == 1 else max(columns, made)


def broadcast_bytes(step: StepTensors, layer: LayerGeometry) -> int:
    """Gradients of factors that are smaller than the product: as large as it is, until they are summed up."""
    if layer.kind != "multiply":
        return 0
    smaller = sum(step.elements[source] < layer.output_elements for source in layer.inputs)
    return (smaller + bool(layer.params)) * step.map_bytes(layer.name)


def update_bytes(step: StepTensors) -> int:
    """A CPU's fused optimizers copy the gradient of one convolution's filters at a time."""
    filters = (
        step.parameter_bytes(layer)
        for layer in step.layers
        if layer.kind in ("conv", "readout") and layer.function != "linear"
    )
    return max(filters, default=0) if step.device == "cpu" else 0

"""Multiply-accumulates of single PyTorch operations, from the shapes of their arguments.

Counted are products that are summed up: convolutions, matrix products, attention, recurrent layers; an element-wise
product is none. PyTorch's own table (torch.utils.flop_counter) lacks what its CPU kernels and torchvision add.
A causal or padded attention is counted in full, as its kernels' documentation does.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from math import prod
from typing import Any

from torch import Tensor
from torch.utils.flop_counter import flop_registry

UNCOUNTED = re.compile(
    r"_?fft_|_?linalg_(?!vector_norm)|_?cholesky|_?lu_|lu_|qr|svd|inverse|triangular_solve|ormqr|_?sparse_|_trilinear|_?cdist|_?pdist|_euclidean_dist|_?triton_|"
    r"_grouped_mm|_scaled_grouped_mm|_native_multi_head_attention|_transformer_encoder|_weight_int|_wrapped_quantized"
)
"""Operations of PyTorch's own that multiply and sum, but for which there is no formula here."""

OWN = {"aten", "prim", "prims", "torchvision"}
"""Where an operation that is not listed multiplies nothing; of any other library nothing is known."""


def macs_of(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> int | None:
    """Of one call, for the whole batch; None for what cannot be counted."""
    space, _, name = operation._schema.name.partition("::")
    if name in FORMULAS and space in OWN:
        return FORMULAS[name](args, output)
    if count := flop_registry.get(operation._overloadpacket):
        return int(count(*args, **kwargs, out_val=output)) // 2
    return None if space not in OWN or UNCOUNTED.match(name) else 0


def attention(args: tuple[Any, ...], output: Any) -> int:
    """query (..., H, S, E), key (..., H', T, E), value (..., H', T, V): S x T scores of E, S sums of T for V."""
    query, key, value = args[:3]
    return int(prod(query.shape[:-1]) * key.shape[-2] * (query.shape[-1] + value.shape[-1]))


def onednn_rnn_layer(args: tuple[Any, ...], output: Any) -> int:
    """One layer in one direction: input (T, N, I), weights (gates * H, I) and (gates * H, H)."""
    steps, input_weight, hidden_weight = args[:3]
    return int(prod(steps.shape[:-1]) * (input_weight.numel() + hidden_weight.numel()))


def cudnn_rnn(args: tuple[Any, ...], output: Any) -> int:
    """All layers and directions at once; the input of a packed sequence is (steps, I)."""
    steps, weights = args[:2]
    return int(prod(steps.shape[:-1]) * sum(weight.numel() for weight in weights if weight.ndim > 1))


def deform_conv2d(args: tuple[Any, ...], output: Tensor) -> int:
    """A convolution's, weight (C_out, C_in / groups, h, w); the interpolation of its taps is not counted."""
    return int(output.numel() * prod(args[1].shape[1:]))


def conv_tbc(args: tuple[Any, ...], output: Tensor) -> int:
    """weight (taps, C_in, C_out)."""
    return int(output.numel() * prod(args[1].shape[:2]))


def embedding_bag(args: tuple[Any, ...], output: Any) -> int:
    """Looks rows up and adds them; only `per_sample_weights` multiply."""
    weight, indices = args[:2]
    weighted = len(args) > 6 and args[6] is not None
    return int(indices.numel() * weight.shape[1]) if weighted else 0


FORMULAS: dict[str, Callable[[tuple[Any, ...], Any], int]] = {
    **dict.fromkeys(
        (
            "_scaled_dot_product_flash_attention",
            "_scaled_dot_product_flash_attention_for_cpu",
            "_scaled_dot_product_efficient_attention",
            "_scaled_dot_product_cudnn_attention",
            "_scaled_dot_product_fused_attention_overrideable",
            "_scaled_dot_product_attention_math_for_mps",
        ),
        attention,
    ),
    "mkldnn_rnn_layer": onednn_rnn_layer,
    "_cudnn_rnn": cudnn_rnn,
    "miopen_rnn": cudnn_rnn,
    "_lstm_mps": lambda args, output: cudnn_rnn((args[0], args[2]), output),
    "deform_conv2d": deform_conv2d,
    "conv_tbc": conv_tbc,
    "_embedding_bag": embedding_bag,
    "_embedding_bag_forward_only": embedding_bag,
    "linear": lambda args, output: prod(args[0].shape[:-1]) * args[1].numel(),
    "_addmm_activation": lambda args, output: args[1].numel() * args[2].shape[1],
    "_int_mm": lambda args, output: args[0].numel() * args[1].shape[1],
    "addbmm": lambda args, output: args[1].numel() * args[2].shape[2],
    "mv": lambda args, output: args[0].numel(),
    "addmv": lambda args, output: args[1].numel(),
    "dot": lambda args, output: args[0].numel(),
    "vdot": lambda args, output: args[0].numel(),
}
"""Name of an operation -> multiply-accumulates from its arguments and output."""

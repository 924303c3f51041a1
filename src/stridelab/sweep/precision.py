"""Whether half the bits pay on this processor, as far as it was measured (docs/speed.md)."""

from __future__ import annotations

from collections.abc import Sequence

from stridelab.geometry import totals
from stridelab.plan import Variant

FEWEST_MACS = 1_000_000
"""An image. Without matrix units for bf16 (AMX), networks of 1.9 million MACs and more gained from trainer=fast, and
one of 0.55 million trained at 0.6 times the speed of 32 bits."""


def slower_in_bf16(variants: Sequence[Variant], cpu_flags: Sequence[str]) -> str:
    """What a person is to know of those that train more slowly than they would at 32 bits; empty: none does."""
    if any(flag.startswith("amx") for flag in cpu_flags):
        return ""
    small = [variant for variant in variants if variant.layers is not None and is_small(variant)]
    if not small:
        return ""
    named = ", ".join(dict.fromkeys(variant.name for variant in small[:3])) + (" ..." if len(small) > 3 else "")
    return (
        f"trainer.precision=bf16-mixed, of networks of fewer than {FEWEST_MACS:,} MACs an image, on a processor "
        f"without AMX: 0.6 times the speed of trainer=cpu was measured (docs/speed.md). Here: {named}."
    )


def is_small(variant: Variant) -> bool:
    trainer = variant.config.trainer
    macs = totals(variant.layers or ()).macs
    on_cpu = trainer.accelerator == "cpu" and trainer.precision == "bf16-mixed"
    return on_cpu and macs is not None and macs < FEWEST_MACS

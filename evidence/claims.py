"""The twelve claims: their arms, contrasts, and what was found. Question and plan stand in conf/experiment/*.yaml."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pandas as pd

from stridelab.report.table import records

from . import EXPERIMENTS
from .contrasts import BELOW, EQUAL, NOT_WORSE, Contrast, Term, difference

Judge = Callable[[pd.DataFrame, pd.DataFrame], tuple[str, str]]
"""Runs and variants -> verdict and the sentence that gives its reason, of a claim that no test decides."""


@dataclass(frozen=True)
class Claim:
    experiment: str
    title: str
    arms: Mapping[str, str]
    """What an arm is called here -> its variant in the tables."""
    contrasts: tuple[Contrast, ...] = ()
    metrics: tuple[str, ...] = ("test/acc",)
    """Shown of each arm."""
    judge: Judge | None = None


def header(experiment: str) -> dict[str, str]:
    """`question`, `claim`, `command`, ... of an experiment, as its file opens."""
    found: dict[str, list[str]] = {}
    key = ""
    for line in (EXPERIMENTS / f"{experiment}.yaml").read_text(encoding="utf-8").splitlines():
        text = line.removeprefix("#").strip()
        if not line.startswith("# ") or line.startswith("# @"):
            continue
        word, colon, rest = text.partition(":")
        if line[2] != " " and colon and word.isalpha() and word.islower():
            key, text = word, rest.strip()
        found.setdefault(key, []).append(text)
    return {key: " ".join(lines) for key, lines in found.items()}


def strides(*plans: str) -> dict[str, str]:
    return {plan: f"strides={plan}" for plan in plans}


DETAIL = "strides={} downsample=stride padding=half channels={} kernel_sizes=3 dilations={}"
LATE = {
    **{plan: f"strides={plan} channels=8-16-32" for plan in ("2-1-1", "1-2-1", "1-1-2", "3-1-1", "1-1-3")},
    "narrow 1-1-2": "strides=1-1-2 channels=6-12-28",
}
TEXTURE = {
    f"{net} on {data}": f"strides={plan} dilations={dilations} data={data}"
    for data in ("textures", "animals")
    for net, plan, dilations in (("dilated", "1-1-1", "1-2-4"), ("2-2-1", "2-2-1", "1"), ("4-1-1", "4-1-1", "1"))
}
OVERFIT = {
    f"{net} {size}": f"strides={plan} dilations={dilations} train_size={size} max_epochs={epochs}"
    for size, epochs in ((450, 32), (1800, 8), (7200, 2))
    for net, plan, dilations in (("fine", "1-1-1", "1-2-4"), ("coarse", "2-2-1", "1"))
}
PADDING = {
    **{name: f"padding={name} padding_mode=zeros" for name in ("half", "valid", "same", "same_lower")},
    **{name: f"padding=half padding_mode={name}" for name in ("reflect", "replicate", "circular")},
}
HEADS = {
    f"{plan} {head}": f"strides={plan} head={head}"
    for plan in ("1-2-2", "2-2-1", "2-2-2")
    for head in ("gap", "flatten")
}
TIMES = {"training": "benchmark/training_batch256_ms", "forward": "benchmark/forward_batch256_ms"}
SPAN = math.log10(7200) - math.log10(450)
FIELD, ERROR, CONSISTENCY = "probe/effective_receptive_field", "probe/localisation_error", "probe/shift_consistency"


def between(first: tuple[Term, ...], second: tuple[Term, ...]) -> tuple[Term, ...]:
    """The first sum less the second."""
    return (*first, *((-weight, arm, metric) for weight, arm, metric in second))


def loss_of(fine: str, coarse: str, metric: str = "test/acc") -> tuple[Term, ...]:
    return ((1.0, fine, metric), (-1.0, coarse, metric))


def gap(arm: str, weight: float) -> tuple[Term, ...]:
    """Training less test accuracy."""
    return ((weight, arm, "final/train_acc"), (-weight, arm, "test/acc"))


def slope(net: str) -> tuple[Term, ...]:
    """Least squares over three sizes a factor of four apart: the middle one has no weight."""
    return (*gap(f"{net} 7200", 1 / SPAN), *gap(f"{net} 450", -1 / SPAN))


def judge_speed(runs: pd.DataFrame, variants: pd.DataFrame) -> tuple[str, str]:
    """Every pair whose MACs differ by more than 1.3, in both workloads."""
    if any(work not in variants for work in TIMES.values()):
        return "not run yet", "trained; its speed has not been measured."
    plans = records(variants)
    pairs = [(a, b) for a in plans for b in plans if a["cost/macs"] > 1.3 * b["cost/macs"]]
    faster = sum(a[work] > b[work] for work in TIMES.values() for a, b in pairs)
    most, least = max(plans, key=lambda row: row["cost/macs"]), min(plans, key=lambda row: row["cost/macs"])
    ratios = ", ".join(f"{what} {most[work] / least[work]:.1f}" for what, work in TIMES.items())
    said = (
        f"{faster} of {2 * len(pairs)} comparisons of two plans went with the MACs; from {most['variant']} to "
        f"{least['variant']} MACs fall by a factor of {most['cost/macs'] / least['cost/macs']:.1f}, times by {ratios}."
    )
    return ("supported" if faster == 2 * len(pairs) else "not supported"), said


def judge_parameters(runs: pd.DataFrame, variants: pd.DataFrame) -> tuple[str, str]:
    counts = {name: variants.loc[variants["variant"] == of, "cost/params"].item() for name, of in HEADS.items()}
    heads = {head: [int(n) for name, n in counts.items() if name.endswith(head)] for head in ("gap", "flatten")}
    told = "; ".join(f"{head}: {', '.join(f'{n:,}' for n in found)}" for head, found in heads.items())
    same, differs = len(set(heads["gap"])) == 1, len(set(heads["flatten"])) > 1
    verdict = "supported for gap, not for flatten" if same and differs else "supported" if same else "not supported"
    return verdict, f"parameters at 1-2-2, 2-2-1 and 2-2-2, {told}."


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "detail",
        "A small stride keeps detail",
        {
            "strided": DETAIL.format("2-2-1", "8-16-32", "1"),
            "plain": DETAIL.format("1-1-1", "8-16-32", "1"),
            "dilated": DETAIL.format("1-1-1", "8-16-32", "1-2-4"),
            "deep": DETAIL.format("1-1-1-1-1-1-1", "8-8-8-8-8-16-32", "1"),
        },
        (
            difference("dilated", "strided", margin=0.5),
            difference("deep", "strided", margin=0.5),
            difference("dilated", "plain", margin=0.5, decides=False),
        ),
    ),
    Claim(
        "speed",
        "A larger stride is faster",
        strides("1-1-1", "1-1-2", "1-2-1", "2-1-1", "1-2-2", "2-1-2", "2-2-1", "2-2-2"),
        metrics=tuple(name.replace("_ms", f"{part}_ms") for name in TIMES.values() for part in ("", "_iqr")),
        judge=judge_speed,
    ),
    Claim(
        "field",
        "Stride makes the receptive field grow",
        strides("1-1-1", "1-2-2", "2-1-1", "2-2-1"),
        tuple(
            difference(a, b, metric=FIELD, margin=1.0, every_seed=True)
            for a, b in (("1-2-2", "1-1-1"), ("2-1-1", "1-2-2"), ("2-2-1", "2-1-1"))
        ),
        metrics=(FIELD, "test/acc"),
    ),
    Claim(
        "early_late",
        "Stride 1 early, stride 2 late",
        LATE,
        (
            difference("1-1-2", "2-1-1", margin=0.5),
            difference("1-1-3", "3-1-1", margin=0.5),
            difference("narrow 1-1-2", "2-1-1", margin=0.5),
        ),
    ),
    Claim(
        "tiny_objects",
        "Tiny objects want a small early stride",
        strides("1-2-2", "2-2-1", "2-2-2"),
        (
            difference("2-2-2", "1-2-2", metric=ERROR, margin=0.5),
            difference("2-2-1", "1-2-2", metric=ERROR, margin=0.5, decides=False),
            Contrast(
                "(2-2-2 - 1-2-2) at 6 to 9 px less the same at 18 to 21 px",
                between(loss_of("2-2-2", "1-2-2", f"{ERROR}_6to9px"), loss_of("2-2-2", "1-2-2", f"{ERROR}_18to21px")),
                margin=0.5,
            ),
        ),
        metrics=(ERROR, f"{ERROR}_6to9px", f"{ERROR}_18to21px"),
    ),
    Claim(
        "texture_shape",
        "Textures suffer, shapes do not",
        TEXTURE,
        tuple(
            Contrast(
                f"(dilated - {plan}) on textures less the same on animals",
                between(
                    loss_of("dilated on textures", f"{plan} on textures"),
                    loss_of("dilated on animals", f"{plan} on animals"),
                ),
                margin=2.0,
            )
            for plan in ("2-2-1", "4-1-1")
        ),
    ),
    Claim(
        "padding_choice",
        "Pair stride with padding",
        PADDING,
        (
            difference("valid", "half", claimed=BELOW, margin=0.5),
            *(difference(a, "half", claimed=EQUAL, margin=0.5) for a in ("same", "reflect", "replicate", "circular")),
            difference("same_lower", "half", claimed=EQUAL, margin=0.5, decides=False, family="bits"),
            Contrast(
                "half, at 28 and 32 px less at 30 px",
                tuple(
                    (weight, "half", f"probe/input_size_robustness_{size}px")
                    for weight, size in ((0.5, 28), (0.5, 32), (-1.0, 30))
                ),
                decides=False,
                family="size",
            ),
        ),
    ),
    Claim(
        "parameter_count",
        "Stride does not change the number of parameters",
        HEADS,
        tuple(
            difference(f"{plan} flatten", f"{plan} gap", claimed="", margin=0.5, decides=False)
            for plan in ("1-2-2", "2-2-2")
        ),
        judge=judge_parameters,
    ),
    Claim(
        "pooling",
        "Striding is not pooling",
        {name: f"reduction={name}" for name in ("pool", "stride", "conv_pool", "conv")},
        (
            difference("stride", "pool", claimed=BELOW),
            difference("conv", "pool", decides=False),
            difference("conv", "conv_pool", claimed=EQUAL, margin=0.7),
        ),
    ),
    Claim(
        "overfit",
        "Fine maps overfit",
        OVERFIT,
        (
            Contrast(
                "slope of the gap, fine - coarse", between(slope("fine"), slope("coarse")), claimed=BELOW, margin=1.0
            ),
        ),
        metrics=("final/train_acc", "test/acc"),
    ),
    Claim(
        "shift",
        "A blur gives shift invariance back",
        {name: f"downsample={name}" for name in ("stride", "blur_pool", "max_pool")},
        (
            difference("blur_pool", "stride", metric=CONSISTENCY, every_seed=True),
            difference("max_pool", "stride", metric=CONSISTENCY, decides=False),
            difference("blur_pool", "stride", claimed=NOT_WORSE, margin=1.0, family="accuracy"),
        ),
        metrics=(CONSISTENCY, "test/acc", "probe/aliasing"),
    ),
    Claim(
        "equal_compute",
        "A later stride keeps the large picture",
        {
            f"{plan}, {epochs} epochs" if epochs > 1 else f"{plan}, 1 epoch": f"strides={plan} max_epochs={epochs}"
            for plan, epochs in (("1-1-1", 1), ("1-2-2", 9), ("2-2-1", 15))
        },
        (
            difference("1-2-2, 9 epochs", "1-1-1, 1 epoch", claimed=NOT_WORSE, margin=0.5),
            difference("2-2-1, 15 epochs", "1-1-1, 1 epoch", claimed=NOT_WORSE, margin=0.5),
        ),
    ),
)

BEFORE = Claim(
    "strides",
    "The sweep that began this",
    strides("1-1-1", "1-2-2", "2-2-1"),
    (
        difference("1-2-2", "1-1-1", claimed=BELOW),
        difference("2-2-1", "1-1-1", claimed=BELOW),
    ),
)

"""What is different around a run since it was recorded: code, packages, machine."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from stridelab import names
from stridelab.config import Config
from stridelab.text import few, plural, printable
from stridelab.tracking.provenance import DECIDING, DECIDING_ON_GPU, git, gpu_column
from stridelab.tracking.signature import PACKAGE, TRAINING_CODE

PACKAGES = ("torch", "numpy", "pytorch-lightning", "torchvision", "mkl", "intel-openmp", "triton")
"""Whose version can change bits; named before all others. Of a run on a GPU also all of NVIDIA's."""
NONE = "none"
"""The GPU of a run that was trained on none."""
COMMIT = re.compile(r"[0-9a-f]{7,64}", re.ASCII)
LISTED = 8
ON_OFF = {True: "on", False: "off"}


@dataclass(frozen=True)
class Finding:
    """One thing that was compared."""

    what: str
    """data | code | commit | changes | packages | machine | threads | ..."""
    same: bool | None
    """None: it was not recorded."""
    said: str
    decides: bool = True
    """Whether bits can differ when it does."""


@dataclass(frozen=True)
class ProvenanceFiles:
    """Where a run comes from, or would come from here: the texts of its provenance files."""

    files: Mapping[str, str]

    def part(self, name: str) -> Mapping[str, Any]:
        """Of the provenance; empty where it is missing or none."""
        part = self.facts(names.PROVENANCE_FILE).get(name)
        return part if isinstance(part, dict) else {}

    def facts(self, file: str) -> Mapping[str, Any]:
        """Of a file of JSON; empty where it is missing or none."""
        try:
            facts = json.loads(self.files.get(file, ""))
        except (ValueError, RecursionError):
            return {}
        return facts if isinstance(facts, dict) else {}

    @property
    def gpu(self) -> str:
        """Names of the GPUs of the machine, each once; empty where they were not recorded."""
        found = self.part("machine").get("gpus")
        return (gpu_column([*map(str, found)], 0) or NONE) if isinstance(found, list) else ""

    @property
    def driver(self) -> str:
        found = self.part("machine").get("gpus")
        return gpu_column([*map(str, found)], 1) if isinstance(found, list) else ""

    @property
    def trained_on(self) -> str:
        """The GPU that a run was trained on, by name, or NONE; empty where that was not recorded."""
        device = self.facts(names.TORCH_FILE).get("device", "")
        return NONE if device in ("cpu", "mps") else str(device)

    @property
    def packages(self) -> dict[str, str]:
        lines = (line.partition("==") for line in self.files.get(names.REQUIREMENTS_FILE, "").splitlines())
        return {re.sub(r"[-_.]+", "-", name).lower(): version for name, equals, version in lines if equals}


def compare_surroundings(
    was: ProvenanceFiles, now: ProvenanceFiles, config: Config, *, tags: Mapping[str, str], here: Mapping[str, str]
) -> list[Finding]:
    """`tags` are the run's, `here` those that it would get now."""
    on_gpu = is_on_gpu(was, config)
    threads = f"{config.trainer.threads}, set by the run's own trainer.threads"
    return [
        *code(was, now, tags=tags, here=here),
        *packages(was.packages, now.packages, on_gpu=on_gpu),
        *machine(was, now, on_gpu=on_gpu),
        *([] if config.trainer.accelerator == "cpu" else gpu(was, now, config, on_gpu=on_gpu)),
        Finding("threads", True, threads),
    ]


def is_on_gpu(was: ProvenanceFiles, config: Config) -> bool:
    """Whether the run was trained on an NVIDIA GPU."""
    return config.trainer.accelerator == "gpu" or (
        config.trainer.accelerator == "auto" and was.trained_on not in ("", NONE)
    )


def code(
    was: ProvenanceFiles, now: ProvenanceFiles, *, tags: Mapping[str, str], here: Mapping[str, str]
) -> Iterator[Finding]:
    then = tags.get(names.CODE)
    same = None if then is None else then == here.get(names.CODE)
    words = {True: "the code that trains is the same", False: "the code that trains is another", None: "not recorded"}
    yield Finding("code", same, words[same])
    user = [one.get(names.USER_CODE, "") for one in (tags, here)]
    if any(user):
        yield compared("user's code", *(printable(one, limit=100) for one in user))
    commits = [one.get(names.COMMIT, "") for one in (tags, here)]
    if commits[0] != commits[1]:
        then, now_at = (one[:12] if COMMIT.fullmatch(one) else "unknown" for one in commits)
        summary = changed_files(commits[0]) if not same else ""
        yield Finding("commit", False, f"{then}, here {now_at}{summary}", decides=False)
    diffs = [one.files.get(names.DIFF_FILE, "") for one in (was, now)]
    if diffs[0] or diffs[1]:
        yield Finding("changes", diffs[0] == diffs[1], uncommitted(*diffs), decides=False)


def changed_files(commit: str) -> str:
    """What git says has changed in the rooms that train since `commit`; empty when it does not know that commit."""
    if not COMMIT.fullmatch(commit):
        return ""
    lines = git(PACKAGE, "diff", "--stat=100", "--no-ext-diff", "--no-color", commit, "--", *TRAINING_CODE).splitlines()
    shown = lines if len(lines) <= LISTED else [*lines[: LISTED - 1], " ...", lines[-1]]
    return "".join(f"\n{line}" for line in shown)


def uncommitted(was: str, now: str) -> str:
    if was == now:
        return "the same uncommitted changes as then"
    then, here = (
        plural(len(re.findall(r"^diff --git ", diff, re.M)), "file") if diff else "none" for diff in (was, now)
    )
    there = f"{then} in its artifact uncommitted.diff" if was else "none then"
    return f"uncommitted changes differ: {there}, {here} here"


def packages(was: Mapping[str, str], now: Mapping[str, str], *, on_gpu: bool) -> Iterator[Finding]:
    if not was:
        yield Finding("packages", None, "not recorded")
        return
    differ = [name for name in sorted({*was, *now}) if was.get(name) != now.get(name)]
    deciding = [name for name in differ if name in PACKAGES or (on_gpu and name.startswith("nvidia-"))]
    listed = [name for name in PACKAGES if name in was and name not in deciding]
    for name in sorted(deciding, key=lambda name: (name not in PACKAGES, name)):
        yield Finding(name, False, f"{was.get(name, 'absent')}, here {now.get(name, 'absent')}")
    if listed:
        yield Finding("packages", True, ", ".join(f"{name} {was[name]}" for name in listed))
    if others := [name for name in differ if name not in deciding]:
        changes = [f"{name} {was.get(name, 'absent')} -> {now.get(name, 'absent')}" for name in others]
        yield Finding("others", False, few(changes, LISTED), decides=False)


def machine(was: ProvenanceFiles, now: ProvenanceFiles, *, on_gpu: bool) -> Iterator[Finding]:
    """Of a run on a GPU the processor draws the initial weights and the orders, whose digests are compared."""
    then, here = was.part("machine"), now.part("machine")
    yield compared("architecture", then.get("architecture"), here.get("architecture"))
    yield compared("CPU", then.get("cpu"), here.get("cpu"), decides=not on_gpu)
    yield replace(cpu_flags(then.get("cpu_flags"), here.get("cpu_flags")), decides=not on_gpu)
    yield compared("python", was.part("python").get("version"), now.part("python").get("version"), decides=False)
    then, here = was.part("environment"), now.part("environment")
    for name in sorted({*then, *here}):
        before, after = (one.get(name, DECIDING_ON_GPU.get(name, "not set")) for one in (then, here))
        if before != after:
            decides = name in DECIDING or (on_gpu and name in DECIDING_ON_GPU)
            yield Finding(printable(name, limit=200), False, printable(f"{before}, here {after}", limit=200), decides)


def gpu(was: ProvenanceFiles, now: ProvenanceFiles, config: Config, *, on_gpu: bool) -> Iterator[Finding]:
    """Where several kinds of GPU are, which one will train is not known before it does."""
    yield compared("GPU", was.trained_on or (was.gpu if on_gpu else ""), now.gpu or NONE)
    if on_gpu:
        yield compared("driver", was.driver, now.driver or NONE)
        allowed = was.facts(names.TORCH_FILE).get("tf32")
        yield compared(
            "TF32", ON_OFF.get(allowed, "") if isinstance(allowed, bool) else "", ON_OFF[config.trainer.tf32]
        )


def compared(what: str, was: Any, now: Any, *, decides: bool = True) -> Finding:
    if not isinstance(was, str) or not was:
        return Finding(what, None, "not recorded", decides)
    same = was == now
    return Finding(what, same, printable(was if same else f"{was}, here {now}", limit=200), decides)


def cpu_flags(was: Any, now: Any) -> Finding:
    """Instruction sets: they choose kernels, and kernels choose bits."""
    if not (isinstance(was, list) and was and isinstance(now, list)):
        return Finding("CPU flags", None, "not recorded")
    gone, new = ([str(flag) for flag in one if flag not in other] for one, other in ((was, now), (now, was)))
    if not gone and not new:
        return Finding("CPU flags", True, f"{len(was)} that choose kernels")
    parts = [f"{word} {' '.join(flags)}" for word, flags in (("not here:", gone), ("only here:", new)) if flags]
    return Finding("CPU flags", False, printable("; ".join(parts), limit=200))


def bits_expected(findings: Sequence[Finding], config: Config) -> bool:
    """Only on the same kind of CPU, or one GPU of the same kind, in the same environment, with deterministic algorithms
    on."""
    return not unpromised(config) and all(finding.same for finding in findings if finding.decides)


def unpromised(config: Config) -> str:
    """Why equal bits are not promised wherever a run is repeated; empty where they are."""
    trainer = config.trainer
    if not trainer.deterministic:
        return "trainer.deterministic=false"
    if trainer.accelerator == "mps":
        return "trainer.accelerator=mps was never tried"
    if trainer.accelerator != "cpu" and trainer.devices > 1:
        return "several GPUs were never tried"
    return ""

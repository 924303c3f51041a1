"""From variants to an agenda: signatures, folders, names; what is finished is not done again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stridelab import names
from stridelab.config import Config
from stridelab.config.variants import science, varying_params
from stridelab.data import DataConfig, DataSpec
from stridelab.models.user_family import user_code
from stridelab.models.weights import file_digest
from stridelab.plan import Variant
from stridelab.run import RunSpec
from stridelab.text import short_variant
from stridelab.tracking.provenance import git_state, platform_difference, platform_of, provenance, stored_platform
from stridelab.tracking.run import RunIdentity, read_identity
from stridelab.tracking.signature import code_digest, signature
from stridelab.tracking.status import DIVERGED, RESULT, read_result, read_status, read_tag


@dataclass(frozen=True)
class Skipped:
    """A run that an earlier call could not finish and that this one does not try again."""

    spec: RunSpec
    status: str
    reason: str


@dataclass(frozen=True)
class Agenda:
    """What a sweep (or one run: `identity` None) has to do, need not do, and cannot do."""

    folder: Path
    identity: RunIdentity | None
    to_do: tuple[RunSpec, ...]
    done: tuple[RunSpec, ...]
    skipped: tuple[Skipped, ...]
    refused: tuple[tuple[RunSpec, str], ...]
    """With the reason."""
    differences: Mapping[str, str]
    """Of those done, the signatures of runs of other code or of another platform, and what differs."""
    specs: tuple[RunSpec, ...]
    """All of them, in the order of the grid."""


def make_agenda(variants: Sequence[Variant], *, data_specs: Mapping[DataConfig, DataSpec], name: str) -> Agenda:
    """`name` is the sweep's; empty for a run that stands alone. Equal configurations are one run."""
    parent = hashlib.sha256(f"sweep {name}".encode()).hexdigest()[:16] if name else None
    pairs = unique(
        zip(make_run_specs(variants, data_specs=data_specs, name=name, parent=parent), variants, strict=True)
    )
    possible = [spec for spec, variant in pairs if variant.error is None]
    done = [spec for spec in possible if is_finished(spec.folder)]
    finished = {spec.identity.signature for spec in done}
    skipped = [found for spec in possible if spec.identity.signature not in finished and (found := skipped_run(spec))]
    not_to_do = finished | {one.spec.identity.signature for one in skipped}
    return Agenda(
        folder=variants[0].config.results / "sweeps" / name,
        identity=RunIdentity(parent, name, role="sweep", sweep=name) if parent else None,
        to_do=tuple(spec for spec in possible if spec.identity.signature not in not_to_do),
        done=tuple(done),
        skipped=tuple(skipped),
        refused=tuple((spec, variant.error) for spec, variant in pairs if variant.error is not None),
        differences={spec.identity.signature: other for spec in done if (other := provenance_difference(spec))},
        specs=tuple(spec for spec, _ in pairs),
    )


def shortened(agenda: Agenda) -> Agenda:
    """With, for each run to do, the longest finished one of the same sweep that is its beginning: equal in all but
    trainer.max_epochs, which its learning rates do not depend on."""
    ended: dict[str, list[RunSpec]] = {}
    for spec in sorted(agenda.done, key=lambda spec: spec.config.trainer.max_epochs):
        ended.setdefault(beginning(spec.config), []).append(spec)

    def begun(spec: RunSpec) -> RunSpec:
        most = spec.config.trainer.max_epochs
        found = [one for one in ended.get(beginning(spec.config), ()) if one.config.trainer.max_epochs < most]
        return replace(spec, begun=found[-1].folder) if found and is_a_beginning(found[-1].config) else spec

    return replace(agenda, to_do=tuple(map(begun, agenda.to_do)))


def beginning(config: Config) -> str:
    return repr(science(replace(config, trainer=replace(config.trainer, max_epochs=1)))) + f" {config.seed}"


def is_a_beginning(config: Config) -> bool:
    """Whether a longer training takes the same first steps: one_cycle, cosine and a share of warm-up are spread over
    max_epochs."""
    trainer = config.trainer
    same_warmup = isinstance(trainer.warmup, int) or not trainer.warmup
    return trainer.schedule == "constant" and same_warmup and trainer.early_stopping is None


def skipped_run(spec: RunSpec) -> Skipped | None:
    """Divergence comes again to the bit; anything else that failed may have been bad luck."""
    if spec.config.force or read_status(spec.folder)[0] != "FAILED":
        return None
    status = read_tag(spec.folder, names.STATUS) or "failed"
    if status != DIVERGED and spec.config.retry == "failed":
        return None
    return Skipped(spec, status, read_status(spec.folder)[1].removeprefix("FloatingPointError: "))


def provenance_difference(spec: RunSpec) -> str:
    """What was different where a finished run was trained; empty when nothing was."""
    code = read_tag(spec.folder, names.CODE)
    parts = ["other code"] if code and code != code_digest() else []
    user = read_tag(spec.folder, names.USER_CODE)
    if user and user != spec.identity.tags.get(names.USER_CODE):
        parts.append(f"other code of {user.partition(' ')[0]}")
    accelerator = spec.config.trainer.accelerator
    stored = stored_platform(spec.folder, accelerator=accelerator)
    if other := platform_difference(stored, platform_of(spec.provenance, accelerator=accelerator)):
        parts.append(other)
    return "; ".join(parts)


def unique(pairs: Iterator[tuple[RunSpec, Variant]]) -> list[tuple[RunSpec, Variant]]:
    return list({spec.identity.signature: (spec, variant) for spec, variant in pairs}.values())


def make_run_specs(
    variants: Sequence[Variant], *, data_specs: Mapping[DataConfig, DataSpec], name: str, parent: str | None
) -> list[RunSpec]:
    origin, commit = provenance(), commit_tags()
    configs = [variant.config for variant in variants]
    specs = []
    for variant, params in zip(variants, varying_params(configs), strict=True):
        config, digest = variant.config, data_specs[variant.config.data].digest
        identity = RunIdentity(
            signature=signature_of(config, data_digest=digest, code=code_of(config)),
            name=run_name(variant),
            sweep=name,
            variant=variant.name,
            parent=parent,
            params=params,
            tags=commit
            | {names.LABEL: short_variant(variant.name)}
            | {names.CODE: code_digest(), names.SCIENCE: signature_of(config, data_digest=digest, code="")}
            | ({names.USER_CODE: user} if (user := user_code(config.model)) else {})
            | ({names.WORDS: " ".join(config.tags)} if config.tags else {}),
        )
        specs.append(assign_folder(RunSpec(config, identity, Path(), origin, digest)))
    return specs


def run_name(variant: Variant) -> str:
    """`2-2-1 valid s0`: what differs comes first, for columns that are cut on the right."""
    return f"{short_variant(variant.name)} s{variant.config.seed}"


def code_of(config: Config) -> str:
    """Digest of our code, and of the user's where that makes the network."""
    user = user_code(config.model)
    return hashlib.sha256(f"{code_digest()} {user}".encode()).hexdigest() if user else code_digest()


def signature_of(config: Config, *, data_digest: str, code: str) -> str:
    """A starting checkpoint counts by its content, wherever it lies."""
    question = science(config) | {"seed": config.seed}
    if config.ckpt_path is not None:
        question["ckpt_path"] = hashlib.sha256(Path(config.ckpt_path).read_bytes()).hexdigest()
    if (weights := question.get("model.weights")) is not None:
        question["model.weights"] = file_digest(weights)
    return signature(question, data_digest=data_digest, code_digest=code)


def assign_folder(spec: RunSpec) -> RunSpec:
    """In the folder of its signature; of several there, the last. What may not be reused gets the next free one:
    nothing is lost. With reuse=any, in the folder of a finished run of other code, when there is one."""
    config, runs = spec.config, spec.config.results / "runs"
    found = replace(spec, folder=choose_folder(runs, spec.identity.signature, force=config.force))
    if config.reuse == "none" and is_finished(found.folder) and provenance_difference(found):
        return replace(spec, folder=choose_folder(runs, spec.identity.signature, force=True))
    if config.reuse == "any" and not config.force and not is_finished(found.folder):
        return same_run_of_other_code(spec, runs) or found
    return found


def same_run_of_other_code(spec: RunSpec, runs: Path) -> RunSpec | None:
    """The newest finished run with the same configuration, data and seed, of whatever code."""
    for path in sorted(runs.glob(f"*/{RESULT}"), key=lambda path: path.stat().st_mtime, reverse=True):
        known = read_identity(path.parent)
        if known.get("tags", {}).get(names.SCIENCE) == spec.identity.tags[names.SCIENCE]:
            identity = replace(spec.identity, signature=known["signature"])
            return replace(spec, identity=identity, folder=path.parent)
    return None


def commit_tags() -> dict[str, str]:
    state = git_state()
    if not state["commit"]:
        return {}
    return {
        names.COMMIT: state["commit"],
        names.DIRTY: str(state["dirty"]).lower(),
        names.SOURCE_COMMIT: state["commit"],
    }


def choose_folder(runs: Path, signature: str, *, force: bool) -> Path:
    """`<signature>`; when it is finished and must be done again, the next free `<signature>.N`: nothing is lost."""
    number = 1
    while (runs / named(signature, number + 1)).exists():
        number += 1
    if force and is_finished(runs / named(signature, number)):
        number += 1
    return runs / named(signature, number)


def named(signature: str, number: int) -> str:
    return signature if number == 1 else f"{signature}.{number}"


def is_finished(folder: Path) -> bool:
    return read_result(folder) is not None

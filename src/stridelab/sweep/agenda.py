"""From variants to an agenda: signatures, folders, names; what is finished is not done again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stridelab.config import Config
from stridelab.config.variants import science, varying_params
from stridelab.data import DataConfig, DataSpec
from stridelab.plan import Variant
from stridelab.run import Work
from stridelab.tracking import names
from stridelab.tracking.files import read_json
from stridelab.tracking.provenance import git_state, platform_difference, platform_of, provenance, stored_platform
from stridelab.tracking.run import IDENTITY, RunIdentity
from stridelab.tracking.signature import code_digest, signature
from stridelab.tracking.status import DIVERGED, RESULT, read_status, read_tag


@dataclass(frozen=True)
class Left:
    """A run that an earlier call could not finish and that this one does not try again."""

    work: Work
    status: str
    reason: str


@dataclass(frozen=True)
class Agenda:
    """What a sweep (or one run: `identity` None) has to do, need not do, and cannot do."""

    folder: Path
    identity: RunIdentity | None
    to_do: tuple[Work, ...]
    done: tuple[Work, ...]
    left: tuple[Left, ...]
    refused: tuple[tuple[Work, str], ...]
    """With the reason."""
    foreign: Mapping[str, str]
    """Of those done, the signatures of runs of other code or of another platform, and what differs."""
    works: tuple[Work, ...]
    """All of them, in the order of the grid."""


def make_agenda(variants: Sequence[Variant], *, specs: Mapping[DataConfig, DataSpec], name: str) -> Agenda:
    """`name` is the sweep's; empty for a run that stands alone. Equal configurations are one run."""
    parent = hashlib.sha256(f"sweep {name}".encode()).hexdigest()[:16] if name else None
    pairs = unique(zip(make_works(variants, specs=specs, name=name, parent=parent), variants, strict=True))
    possible = [work for work, variant in pairs if variant.error is None]
    results = Path(variants[0].config.paths.results_dir)
    done = [work for work in possible if is_finished(work.folder)]
    left = [found for work in possible if work not in done and (found := left_alone(work))]
    not_to_do = done + [one.work for one in left]
    return Agenda(
        folder=results / "sweeps" / name,
        identity=RunIdentity(parent, name, role="sweep", sweep=name) if parent else None,
        to_do=tuple(work for work in possible if work not in not_to_do),
        done=tuple(done),
        left=tuple(left),
        refused=tuple((work, variant.error) for work, variant in pairs if variant.error is not None),
        foreign={work.identity.signature: other for work in done if (other := foreign(work))},
        works=tuple(work for work, _ in pairs),
    )


def left_alone(work: Work) -> Left | None:
    """Divergence comes again to the bit; anything else that failed may have been bad luck."""
    if work.config.force or read_status(work.folder)[0] != "FAILED":
        return None
    status = read_tag(work.folder, names.STATUS) or "failed"
    if status != DIVERGED and work.config.retry == "failed":
        return None
    return Left(work, status, read_status(work.folder)[1].removeprefix("FloatingPointError: "))


def foreign(work: Work) -> str:
    """What was different where a finished run was trained; empty when nothing was."""
    code = read_tag(work.folder, names.CODE)
    parts = ["other code"] if code and code != code_digest() else []
    if other := platform_difference(stored_platform(work.folder), platform_of(work.provenance)):
        parts.append(other)
    return "; ".join(parts)


def unique(pairs: Iterator[tuple[Work, Variant]]) -> list[tuple[Work, Variant]]:
    return list({work.identity.signature: (work, variant) for work, variant in pairs}.values())


def make_works(
    variants: Sequence[Variant], *, specs: Mapping[DataConfig, DataSpec], name: str, parent: str | None
) -> list[Work]:
    origin, commit = provenance(), commit_tags()
    configs = [variant.config for variant in variants]
    works = []
    for variant in variants:
        config, digest = variant.config, specs[variant.config.data].digest
        identity = RunIdentity(
            signature=signature_of(config, data_digest=digest, code=code_digest()),
            name=f"{variant.name} seed={config.seed}",
            sweep=name,
            variant=variant.name,
            parent=parent,
            params=varying_params(config, configs),
            tags=commit
            | {names.CODE: code_digest(), names.SCIENCE: signature_of(config, data_digest=digest, code="")}
            | ({"stridelab.tags": " ".join(config.tags)} if config.tags else {}),
        )
        works.append(placed(Work(config, identity, Path(), origin, digest)))
    return works


def signature_of(config: Config, *, data_digest: str, code: str) -> str:
    """A starting checkpoint counts by its content, wherever it lies."""
    question = science(config) | {"seed": config.seed}
    if config.ckpt_path is not None:
        question["ckpt_path"] = hashlib.sha256(Path(config.ckpt_path).read_bytes()).hexdigest()
    return signature(question, data_digest=data_digest, code_digest=code)


def placed(work: Work) -> Work:
    """In the folder of its signature; of several there, the last. What may not be reused gets the next free one:
    nothing is lost. With reuse=any, in the folder of a finished run of other code, when there is one."""
    config, runs = work.config, Path(work.config.paths.results_dir) / "runs"
    found = replace(work, folder=choose_folder(runs, work.identity.signature, force=config.force))
    if config.reuse == "none" and is_finished(found.folder) and foreign(found):
        return replace(work, folder=choose_folder(runs, work.identity.signature, force=True))
    if config.reuse == "any" and not config.force and not is_finished(found.folder):
        return twin(work, runs) or found
    return found


def twin(work: Work, runs: Path) -> Work | None:
    """The newest finished run with the same configuration, data and seed, of whatever code."""
    for path in sorted(runs.glob(f"*/{RESULT}"), key=lambda path: path.stat().st_mtime, reverse=True):
        known = read_json(path.parent / IDENTITY) or {}
        if known.get("tags", {}).get(names.SCIENCE) == work.identity.tags[names.SCIENCE]:
            identity = replace(work.identity, signature=known["signature"])
            return replace(work, identity=identity, folder=path.parent)
    return None


def commit_tags() -> dict[str, str]:
    state = git_state()
    if not state["commit"]:
        return {}
    return {
        "stridelab.commit": state["commit"],
        "stridelab.dirty": str(state["dirty"]).lower(),
        "mlflow.source.git.commit": state["commit"],
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
    return (folder / RESULT).exists()


def jobs_at_once(config: Config, *, runs: int, cores: int) -> int:
    """`sweep.jobs`, or as many as the cores allow with `trainer.threads` each; one on a GPU."""
    wanted = config.sweep.jobs or (max(1, cores // config.trainer.threads) if on_cpu(config) else 1)
    return max(1, min(wanted, runs))


def on_cpu(config: Config) -> bool:
    return config.trainer.accelerator == "cpu"

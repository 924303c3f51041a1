"""From variants to an agenda: signatures, folders, names; what is finished is not done again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stridelab import tracking
from stridelab.config import Config
from stridelab.config.variants import science, varying_params
from stridelab.data import DataConfig, DataSpec
from stridelab.plan import Variant
from stridelab.run import Work
from stridelab.tracking.provenance import git_state, provenance
from stridelab.tracking.signature import code_digest, signature
from stridelab.tracking.status import RESULT


@dataclass(frozen=True)
class Agenda:
    """What a sweep (or one run: `identity` None) has to do, need not do, and cannot do."""

    folder: Path
    identity: tracking.RunIdentity | None
    to_do: tuple[Work, ...]
    done: tuple[Work, ...]
    refused: tuple[tuple[Work, str], ...]
    """With the reason."""
    works: tuple[Work, ...]
    """All of them, in the order of the grid."""


def make_agenda(variants: Sequence[Variant], *, specs: Mapping[DataConfig, DataSpec], name: str) -> Agenda:
    """`name` is the sweep's; empty for a run that stands alone. Equal configurations are one run."""
    parent = hashlib.sha256(f"sweep {name}".encode()).hexdigest()[:16] if name else None
    pairs = unique(zip(make_works(variants, specs=specs, name=name, parent=parent), variants, strict=True))
    possible = [work for work, variant in pairs if variant.error is None]
    results = Path(variants[0].config.paths.results_dir)
    return Agenda(
        folder=results / "sweeps" / name,
        identity=tracking.RunIdentity(parent, name, role="sweep", sweep=name) if parent else None,
        to_do=tuple(work for work in possible if not is_finished(work.folder)),
        done=tuple(work for work in possible if is_finished(work.folder)),
        refused=tuple((work, variant.error) for work, variant in pairs if variant.error is not None),
        works=tuple(work for work, _ in pairs),
    )


def unique(pairs: Iterator[tuple[Work, Variant]]) -> list[tuple[Work, Variant]]:
    return list({work.identity.signature: (work, variant) for work, variant in pairs}.values())


def make_works(
    variants: Sequence[Variant], *, specs: Mapping[DataConfig, DataSpec], name: str, parent: str | None
) -> list[Work]:
    origin, code, commit = provenance(), code_digest(), commit_tags()
    configs = [variant.config for variant in variants]
    works = []
    for variant in variants:
        config = variant.config
        key = signature(
            science(config) | {"seed": config.seed}, data_digest=specs[config.data].digest, code_digest=code
        )
        identity = tracking.RunIdentity(
            signature=key,
            name=f"{variant.name} seed={config.seed}",
            sweep=name,
            variant=variant.name,
            parent=parent,
            params=varying_params(config, configs),
            tags=commit | ({"stridelab.tags": " ".join(config.tags)} if config.tags else {}),
        )
        folder = choose_folder(Path(config.paths.results_dir) / "runs", key, force=config.force)
        works.append(Work(config, identity, folder, origin))
    return works


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

"""A sweep's own run, which the others hang under: claimed, described, told its members."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict

from stridelab import names
from stridelab.tracking.run import Run, open_run, read_identity
from stridelab.tracking.settings import redact_values

from .agenda import Agenda


class Incomplete(Exception):
    """Marks the sweep's own run as failed when one of its runs is."""


def describe(parent: Run, agenda: Agenda, more: Mapping[str, str]) -> None:
    """The command, and what this sweep calls its runs: one that another sweep trained has that one's names."""
    runs = {
        one.identity.signature: {
            "name": one.identity.name,
            "variant": one.identity.variant,
            "params": {key: str(value) for key, value in one.identity.params.items()},
        }
        for one in agenda.specs
    }
    files = {
        names.PROVENANCE_FILE: agenda.specs[0].provenance[names.PROVENANCE_FILE],
        names.CONFIG_FILE: json.dumps(redact_values(asdict(agenda.specs[0].config)), indent=1),
        names.VARIANTS_FILE: json.dumps(runs, indent=1),
        **more,
    }
    for name, content in files.items():
        path = agenda.folder / name
        path.write_text(content, encoding="utf-8")
        parent.artifact(path)


def list_members(parent: Run, agenda: Agenda) -> None:
    """By uid where they have begun: a run of the same signature that comes from elsewhere never stands for one."""
    known = {spec.identity.signature: read_identity(spec.folder) for spec in agenda.specs}
    uids = {signature: identity["uid"] for signature, identity in known.items() if identity}
    parent.members(list(known), uids=uids)


def claim(agenda: Agenda, stack: ExitStack) -> Run | None:
    """The sweep's own run, open until the stack ends; None while another process has it."""
    assert agenda.identity is not None
    try:
        return stack.enter_context(open_run(agenda.folder, agenda.identity))
    except BlockingIOError:
        return None

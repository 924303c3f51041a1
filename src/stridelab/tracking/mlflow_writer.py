"""The calls that carry a run into MLflow. All of them may be repeated: nothing is stored twice."""

from __future__ import annotations

import json
import logging
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import starmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stridelab import names

from .images import save_for_ui
from .journal import KINDS, Record, merged
from .parcel import pack_folder
from .relocate import follow_move
from .run import clean, read_identity
from .settings import redact
from .store import Store, connect, ensure_experiment, file_identity, local_folder
from .view import view_tag

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

METRICS_A_CALL, TEXTS_A_CALL = 900, 50
"""MLflow takes 1,000 metrics, parameters and tags together, and 100 of each of the latter."""
IDS_A_CALL = 100
MAX_DIGEST_LENGTH = 36

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Found:
    run_id: str
    experiment_id: str
    deleted: bool
    """In the UI, by somebody: it is left alone."""
    num_bytes: int = 0
    """Of the journal, that the store says it has."""
    parent: str | None = None
    membership: str = ""
    """Of a sweep: the tag of its runs."""
    artifact_uri: str = ""
    """Where the folder should be attached; empty when it is not."""


class Writer:
    """Writes into one store and experiment. Every method may raise anything when the store is away."""

    def __init__(self, store: Store) -> None:
        self.client: MlflowClient = connect(store)
        self._store, self._file = store, file_identity(store)
        follow_move(store)
        self.experiment_id = ensure_experiment(self.client, store)
        self._known: dict[str, Found] = {}

    @property
    def is_replaced(self) -> bool:
        """Whether another file, or none, now is where the SQLite store was."""
        return file_identity(self._store) != self._file

    def ping(self) -> None:
        self.client.get_experiment(self.experiment_id)

    def look(self, run_ids: Sequence[str]) -> None:
        """Ask for many runs at once, which `find` then knows."""
        for start in range(0, len(run_ids), IDS_A_CALL):
            listed = ",".join(f"'{one}'" for one in run_ids[start : start + IDS_A_CALL])
            self._known |= {one.run_id: one for one in self._search(f"attributes.run_id IN ({listed})", IDS_A_CALL)}

    def find(self, *, uid: str, run_id: str = "") -> Found | None:
        """The run that was created for this uid, be it by a process that died before it could note its id."""
        known = self._known.pop(run_id, None)
        return known or next(iter(self._search(f"tags.`{names.UID}` = '{uid}'", 1)), None)

    def find_sweep(self, *, signature: str) -> Found | None:
        wanted = f"tags.`{names.SIGNATURE}` = '{signature}' and tags.`{names.ROLE}` = 'sweep'"
        return next(iter(self._search(wanted, 1)), None)

    def _search(self, wanted: str, limit: int) -> list[Found]:
        from mlflow.entities import ViewType

        found = self.client.search_runs(
            [self.experiment_id], wanted, ViewType.ALL, max_results=limit, order_by=["attributes.start_time DESC"]
        )
        return [self._found(run) for run in found]

    def _found(self, run: Any) -> Found:
        info, tags = run.info, run.data.tags
        size, _, attached = tags.get(names.SENT, "").partition(" ")
        return Found(
            info.run_id,
            info.experiment_id,
            info.lifecycle_stage == "deleted",
            num_bytes=int(size) if size.isdecimal() else 0,
            parent=tags.get(names.PARENT_RUN),
            membership=names.in_sweep(tags.get(names.SWEEP) or info.run_name, tags.get(names.UID, "")),
            artifact_uri=info.artifact_uri if attached == names.FOLDER_ARCHIVE else "",
        )

    def has_folder(self, found: Found) -> bool:
        """Whether the folder's archive is still there, if it was attached."""
        if not found.artifact_uri or found.deleted:
            return True
        if (root := local_folder(found.artifact_uri)) is not None:
            return (root / names.FOLDER_ARCHIVE).exists()
        return any(str(one.path) == names.FOLDER_ARCHIVE for one in self.client.list_artifacts(found.run_id))

    def mark(self, run_id: str, num_bytes: int, *, folder: Path | None) -> None:
        """Say how much of the journal is there; of a run that has ended, attach its `folder`, from which it can be
        restored."""
        attached = False
        if folder is not None:
            with tempfile.TemporaryDirectory(prefix="stridelab-") as made:
                path = Path(made, names.FOLDER_ARCHIVE)
                try:
                    pack_folder(folder, path)
                except (OSError, ValueError) as error:
                    log.warning("%s cannot be restored from the store: %s", folder, redact(str(error)))
                else:
                    self.client.log_artifact(run_id, str(path))
                    attached = True
        self.set_tag(run_id, names.SENT, f"{num_bytes} {names.FOLDER_ARCHIVE}" if attached else str(num_bytes))

    def set_tag(self, run_id: str, key: str, value: str) -> None:
        self.client.set_tag(run_id, key, value, synchronous=True)

    def create(self, identity: Mapping[str, Any], *, start_ms: int) -> Found:
        tags = {
            names.UID: identity["uid"],
            names.SIGNATURE: identity["signature"],
            names.ROLE: identity["role"],
            "mlflow.source.type": "LOCAL",
            "mlflow.source.name": "stridelab",
        }
        name = clean(identity["name"])[:250]
        run = self.client.create_run(self.experiment_id, start_time=start_ms, tags=tags, run_name=name)
        membership = names.in_sweep(identity["name"], identity["uid"])
        return Found(run.info.run_id, self.experiment_id, deleted=False, membership=membership)

    def send(self, run_id: str, records: Sequence[Record], tags: Mapping[str, str], *, folder: Path, uid: str) -> None:
        """What a stretch of a journal adds to a run, and `tags`; its status comes last."""
        kinds: dict[str, list[Record]] = {kind: [] for kind in KINDS}
        for record in records:
            kinds[record.kind].append(record)
        told = merged(records, "tags") | dict(tags)
        self._log(run_id, kinds["metrics"], params=merged(records, "params"), tags=told)
        if names.VIEW in told:
            name = str(read_identity(folder).get("name", run_id))
            key, value = view_tag(run_id, told[names.VIEW], name=name, uid=uid, now_ms=records[-1].ms)
            self.client.set_experiment_tag(self.experiment_id, key, value)
        if kinds["image"]:
            self._images(run_id, kinds["image"], folder=folder, uid=uid)
        for record in kinds["artifact"]:
            self._artifact(run_id, folder / record.data["path"], to=record.data["to"])
        if kinds["dataset"]:
            self._datasets(run_id, kinds["dataset"])
        if kinds["status"]:
            # an earlier end's reason no longer holds
            resumed = any(one.data["status"] == "RUNNING" and one.seq > 1 for one in kinds["status"])
            self._status(run_id, kinds["status"][-1], resumed=resumed)

    def _log(
        self, run_id: str, records: Sequence[Record], *, params: Mapping[str, str], tags: Mapping[str, str]
    ) -> None:
        from mlflow.entities import Metric, Param, RunTag

        metrics = [
            Metric(key, float(value), one.ms, one.data["step"])
            for one in records
            for key, value in one.data["values"].items()
        ]
        texts = [*starmap(Param, params.items()), *starmap(RunTag, tags.items())]
        calls = max(math.ceil(len(texts) / TEXTS_A_CALL), math.ceil(len(metrics) / METRICS_A_CALL))
        for call in range(calls):  # together: a call takes four commits, whatever it carries
            some = texts[call * TEXTS_A_CALL : (call + 1) * TEXTS_A_CALL]
            self._log_batch(run_id, [*some, *metrics[call * METRICS_A_CALL : (call + 1) * METRICS_A_CALL]])

    def _log_batch(self, run_id: str, entries: Sequence[Any]) -> None:
        """What MLflow will never take is left out, so that it does not hold up the rest."""
        from mlflow.entities import Metric, Param, RunTag
        from mlflow.exceptions import MlflowException

        metrics = [entry for entry in entries if isinstance(entry, Metric)]
        params = [entry for entry in entries if isinstance(entry, Param)]
        tags = [entry for entry in entries if isinstance(entry, RunTag)]
        try:
            self.client.log_batch(run_id, metrics, params, tags, synchronous=True)
        except MlflowException as error:
            if not self._is_refusal(run_id, error):
                raise
            if len(entries) == 1:
                log.warning("MLflow refuses %s: %s", entries[0], redact(str(error)))
                return
            middle = len(entries) // 2
            self._log_batch(run_id, entries[:middle])
            self._log_batch(run_id, entries[middle:])

    def _is_refusal(self, run_id: str, error: MlflowException) -> bool:
        """Whether the content is at fault, not the store and not a run deleted meanwhile."""
        if error.error_code != "INVALID_PARAMETER_VALUE":
            return False
        return self.client.get_run(run_id).info.lifecycle_stage == "active"

    def _images(self, run_id: str, records: Sequence[Record], *, folder: Path, uid: str) -> None:
        with tempfile.TemporaryDirectory(prefix="stridelab-") as made:
            for record in records:
                key, step, source = record.data["key"], record.data["step"], folder / record.data["file"]
                try:
                    save_for_ui(source, Path(made), key=key, step=step, ms=record.ms, uid=uid)
                except Exception as error:
                    log.warning("image %s at step %d cannot be shown in MLflow: %s", key, step, error)
            self.client.log_artifacts(run_id, made, "images")
        self.client.set_tag(run_id, names.LOGGED_IMAGES, "True", synchronous=True)

    def _artifact(self, run_id: str, path: Path, *, to: str) -> None:
        from mlflow.exceptions import MlflowException

        if not path.exists():
            log.warning("%s is gone and cannot be attached to its run in MLflow.", path)
            return
        try:
            if path.is_dir():
                self.client.log_artifacts(run_id, str(path), f"{to}/{path.name}" if to else path.name)
            else:
                self.client.log_artifact(run_id, str(path), to or None)
        except MlflowException as error:
            if not self._is_refusal(run_id, error):
                raise
            log.warning("MLflow refuses the artifact %s: %s", path, redact(str(error)))

    def _datasets(self, run_id: str, records: Sequence[Record]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        inputs = []
        for data in (record.data for record in records):
            source = {"tags": {"source": data["source"], "licence": data["licence"], "sha256": data["digest"]}}
            digest = data["digest"][:MAX_DIGEST_LENGTH]
            dataset = Dataset(data["name"], digest, source_type="code", source=json.dumps(source))
            inputs.append(DatasetInput(dataset, [InputTag(names.DATASET_CONTEXT, data["context"])]))
        self.client.log_inputs(run_id, inputs)

    def _status(self, run_id: str, record: Record, *, resumed: bool) -> None:
        status, reason = record.data["status"], record.data["reason"]
        if reason or resumed:
            self.client.set_tag(run_id, names.REASON, reason, synchronous=True)
        if status == "RUNNING" and resumed:
            self.client.update_run(run_id, status=status)
        elif status != "RUNNING":
            self.client.set_terminated(run_id, status, end_time=record.ms)

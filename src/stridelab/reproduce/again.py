"""A stored run, run again as a linked run of its own, and compared."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path
from typing import Any

from rich.console import Console

from stridelab import names
from stridelab.config import Config
from stridelab.data import DataConfig, DataSpec
from stridelab.plan import examine
from stridelab.run import RunSpec
from stridelab.sweep.agenda import Agenda, make_run_specs
from stridelab.sweep.launchers.local import LocalLauncher
from stridelab.sweep.preflight import fetch_data, read_data_specs, writable
from stridelab.sweep.probes import probe_runs
from stridelab.sweep.runs import settle, train
from stridelab.sweep.signals import exit_code, signals_as_exceptions
from stridelab.sweep.task import Outcome
from stridelab.tracking.find import find_run
from stridelab.tracking.folder_reader import FolderReader
from stridelab.tracking.mlflow_reader import RunRecord
from stridelab.tracking.run import open_run
from stridelab.tracking.status import FINISHED, KILLED
from stridelab.tracking.store import Store
from stridelab.tracking.sync import Mirror

from .rebuild import Rebuilt, rebuild
from .show import show_comparison, show_findings, show_place
from .surroundings import Finding, ProvenanceFiles, bits_expected, compare_surroundings
from .verdict import CLOSE, EXIT_CODES, Reproduction, compare

FILES = (names.PROVENANCE_FILE, names.REQUIREMENTS_FILE, names.DIFF_FILE, names.TORCH_FILE)
MAX_BYTES = 32 << 20
FLUSH_S = 60.0


def reproduce(
    record: RunRecord, store: Store, here: Config, *, tolerance: float, dry: bool, data_root: str, console: Console,
    resend: str,
) -> int:  # fmt: skip
    """The exit code: see EXIT_CODES, or with `dry` what is to be expected. ValueError or FileNotFoundError when the
    run cannot be repeated. Of `here` come the places: results, store, and data when `data_root` is empty."""
    refuse_unfinished(record)
    rebuilt = rebuild_config(record)
    config = at_home(rebuilt.config, here, data_root=data_root)
    launcher = LocalLauncher(1)
    data_spec = sound_data(config, launcher, record, download=config.data.download and not dry)
    spec = run_spec_of(config, data_spec)
    findings = what_differs(record, spec, rebuilt, data_spec)
    expected = bits_expected(findings, config)
    show_findings(record, findings, console, config=config, tolerance=tolerance)
    if dry:
        return 0 if expected else EXIT_CODES[CLOSE]
    with signals_as_exceptions(), Mirror(store, resend=resend) as mirror:
        spec = linked(spec, record, writable(config.results) / "runs")
        mirror.watch(spec.folder)
        try:
            (outcome,) = train(lone(spec), launcher, mirror, console)
        except KeyboardInterrupt as interruption:
            settle(spec, Outcome(reason="interrupted", status=KILLED))
            console.print("Interrupted; nothing was compared.")
            return exit_code(interruption)
        if outcome.status != FINISHED:
            raise ValueError(f"run {record.name} could not be run again: {outcome.status}: {outcome.reason}.")
        probe_runs([spec], launcher, console)
        comparison = compare_runs(record, FolderReader(spec.folder, store), tolerance=tolerance)
        write_down(comparison, record, spec)
        complete = mirror.flush(FLUSH_S)
        show_comparison(comparison, console, expected=expected)
        show_place(spec.folder, mirror, console, complete=complete)
    return EXIT_CODES[comparison.verdict]


def find(store: Store, wanted: str, *, results: Path | None = None) -> RunRecord:
    """A run by id, signature or name; for `latest`, a reproduction stands for the run that it repeats."""
    record, seen = find_run(store, wanted, results=results), set[str]()
    while wanted == "latest" and names.REPRODUCES in record.tags and record.run_id not in seen:
        seen.add(record.run_id)  # tags that came with an archive may lead in a circle
        record = find_run(store, record.tags[names.REPRODUCES], results=results)
    return record


def refuse_unfinished(record: RunRecord) -> None:
    if not record.is_finished:
        said = f" ({record.reason})" if record.reason else ""
        raise ValueError(f"run {record.name} is {record.status}{said}: there is no result to compare with.")


def rebuild_config(record: RunRecord) -> Rebuilt:
    text = artifact_text(record, names.CONFIG_FILE)
    if text is None:
        raise ValueError(f"run {record.name} has no artifact config.json: its configuration is not known.")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"config.json of run {record.name} is not JSON: {str(error)[:100]}.") from None
    try:
        return rebuild(content)
    except ValueError as error:
        if "is not one of its choices" not in str(error) and "is not a data set" not in str(error):
            raise
        made = record.tags.get(names.USER_CODE, "")
        where = made.partition(" ")[0] if made.partition(" ")[0].endswith(".py") else "FILE.py"
        raise ValueError(
            f"run {record.name} is of code that is not here{f' ({made[:60]})' if made else ''}: {error} A network or "
            f"a data set that a file of yours registers is repeated with that file: python {where} reproduce run=..."
        ) from None


def artifact_text(record: RunRecord, name: str) -> str | None:
    try:
        path = record.artifact(name)
    except FileNotFoundError:
        return None
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{name} of run {record.name} is larger than {MAX_BYTES:,} bytes.")
    return path.read_text(encoding="utf-8", errors="replace")


def at_home(config: Config, here: Config, *, data_root: str) -> Config:
    """The run's own science, in this machine's places."""
    recorded = config.data.root if Path(config.data.root).expanduser().is_dir() else here.data.root
    places = replace(here.data, root=data_root or recorded)
    data = replace(config.data, root=places.root, download=places.download, cache_dir=places.cache_dir)
    if config.ckpt_path is not None and not Path(config.ckpt_path).exists():
        raise ValueError(f"the run went on from the checkpoint {config.ckpt_path!r}, which is not here.")
    sweep = replace(config.sweep, name=None, preview=False)
    config = replace(config, data=data, sweep=sweep, paths=here.paths, tracking=here.tracking)
    return replace(config, force=False, reuse="same-code")


def sound_data(config: Config, launcher: LocalLauncher, record: RunRecord, *, download: bool) -> DataSpec:
    """ValueError when the data are not those that the run was trained on."""
    fetch_data([config.data], download=download)
    launcher.warm_up()
    found: Mapping[DataConfig, DataSpec] = read_data_specs(launcher, [config])
    data_spec, recorded = found[config.data], record.tags.get(names.DATA_DIGEST)
    if recorded is not None and recorded != data_spec.digest:
        raise ValueError(
            f"the data are not those of run {record.name}: {data_spec.name} has the digest {data_spec.digest[:12]} "
            f"here, and had {recorded[:12]!r} then. What is trained on other data cannot be compared."
        )
    return data_spec


def run_spec_of(config: Config, data_spec: DataSpec) -> RunSpec:
    variant = examine(config, keys=())
    if variant.error is not None:
        raise ValueError(f"the network cannot be built: {variant.error}.")
    (spec,) = make_run_specs([variant], data_specs={config.data: data_spec}, name="", parent=None)
    return spec


def what_differs(record: RunRecord, spec: RunSpec, rebuilt: Rebuilt, data_spec: DataSpec) -> list[Finding]:
    texts = {name: artifact_text(record, name) or "" for name in FILES}
    data = Finding("data", names.DATA_DIGEST in record.tags, f"{data_spec.name}, digest {data_spec.digest[:12]}")
    return [
        data if data.same else replace(data, same=None, said="digest not recorded"),
        configuration(record, spec, rebuilt),
        *compare_surroundings(
            ProvenanceFiles(texts),
            ProvenanceFiles(spec.provenance),
            spec.config,
            tags=record.tags,
            here=spec.identity.tags,
        ),
    ]


def configuration(record: RunRecord, spec: RunSpec, rebuilt: Rebuilt) -> Finding:
    """The tag `stridelab.science` is a hash of configuration, data and seed as they were trained with."""
    missing = [key for key in rebuilt.missing if key.startswith(("model", "data", "trainer"))]
    said = f"; not in config.json, so at their defaults: {', '.join(missing)}" if missing else ""
    signed = record.tags.get(names.SCIENCE)
    if signed is None:
        return Finding("configuration", None, f"rebuilt from config.json, its hash was not recorded{said}")
    if signed == spec.identity.tags[names.SCIENCE]:
        return Finding("configuration", True, f"rebuilt from config.json, its hash is the recorded one{said}")
    return Finding("configuration", False, f"config.json is not what the run was trained with: other hash{said}")


def linked(spec: RunSpec, record: RunRecord, runs: Path) -> RunSpec:
    """A run of its own, in the first free folder `<signature>.repro-N`: it never stands for the one it repeats."""
    runs.mkdir(exist_ok=True)
    for number in count(1):
        signature = f"{spec.identity.signature}.repro-{number}"
        try:
            (runs / signature).mkdir()
            break
        except FileExistsError:
            continue
    tags = {key: value for key, value in spec.identity.tags.items() if key != names.SCIENCE}
    identity = replace(
        spec.identity,
        signature=signature,
        name=f"{record.name} again",
        variant=record.tags.get(names.VARIANT, spec.identity.variant),
        params=record.params,
        tags=tags | {names.REPRODUCES: record.run_id},
    )
    return replace(spec, identity=identity, folder=runs / signature)


def lone(spec: RunSpec) -> Agenda:
    """Nothing to do but this run."""
    return Agenda(spec.folder, None, (spec,), (), (), (), {}, (spec,))


def compare_runs(was: RunRecord, now: FolderReader, *, tolerance: float) -> Reproduction:
    then = {key: dict(was.history(key)) for key in was.metrics}
    here = {key: dict(points) for key, points in now.histories.items()}
    return compare(then, here, tags=was.tags, new_tags=now.record().tags, tolerance=tolerance)


def write_down(comparison: Reproduction, record: RunRecord, spec: RunSpec) -> None:
    """The verdict with the new run: as a tag, and in full as `reproduction.json`."""
    content: dict[str, Any] = asdict(comparison) | {"reproduces": record.run_id}
    path = spec.folder / "reproduction.json"
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
    with open_run(spec.folder, spec.identity) as run:
        run.tags({names.VERDICT: comparison.verdict})
        run.artifact(path)

"""One run, from top to bottom. Torch is imported when a run begins: the process that conducts a sweep needs none."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stridelab import names
from stridelab.config import Config
from stridelab.data import DataSpec
from stridelab.geometry import LayerGeometry, LayerPlan, measure, spell_fraction, totals
from stridelab.models.user_family import user_code
from stridelab.plan import layer_plan_of
from stridelab.system.files import write_json_atomic
from stridelab.system.points import point
from stridelab.tracking.journal import JOURNAL
from stridelab.tracking.provenance import platform_difference, platform_of, stored_platform, torch_facts
from stridelab.tracking.run import Run, RunIdentity, open_run
from stridelab.tracking.settings import redact_values
from stridelab.tracking.status import FINISHED, RESULT, read_result, set_aside_bad_result, status_of

if TYPE_CHECKING:
    from stridelab.data.splits import Data
    from stridelab.training import Result
    from stridelab.training.joint_steps import Seat
    from stridelab.training.ranks import Rank
    from stridelab.training.recorder import Progress


@dataclass(frozen=True)
class RunSpec:
    """All that one run needs to know; made by the sweep, used in the child process."""

    config: Config
    identity: RunIdentity
    folder: Path
    provenance: Mapping[str, str]
    """File name and content of what says where this run comes from."""
    data_digest: str = ""
    """Of the data that the sweep has checked; empty: whatever is found."""
    at_once: int = 1
    """Runs that train at the same time, at most, and share the machine's speed."""
    begun: Path | None = None
    """Folder of a finished run of fewer epochs, equal in all else, whose last checkpoint this one goes on from."""


def prepare(config: Config, *, progress: Progress) -> DataSpec:
    """Read and check the data, and the checkpoint that training starts from, so that every run after finds them
    sound."""
    from stridelab.data.load import load
    from stridelab.training.step_grouping import refuse_fewer_images

    data = load(config.data, progress=progress)
    refuse_fewer_images(config.trainer, count=len(data.train))
    if config.ckpt_path is not None:
        from stridelab.training.checkpoints import refuse_unfit_checkpoint

        refuse_unfit_checkpoint(Path(config.ckpt_path), config.trainer, count=len(data.train))
    return data.spec


def run(spec: RunSpec, *, progress: Progress, seat: Seat | None = None) -> Result:
    """Train as `spec.config` says, record in `spec.folder`, and leave `result.json` as the mark of completion. `seat`:
    among the runs of other threads that it trains together with. BlockingIOError while another process trains it; what
    that one leaves is taken as it is."""
    from stridelab.training import Result
    from stridelab.training.checkpoints import adopt
    from stridelab.training.fit import fit
    from stridelab.training.gpu_memory import shortage_told
    from stridelab.training.ranks import companions

    config = spec.config
    with open_run(spec.folder, spec.identity) as record, status_told(record):
        if aside := set_aside_bad_result(spec.folder):
            progress({"said": aside})
        if (finished := read_result(spec.folder)) is not None:
            record.artifact(spec.folder / RESULT)
            return Result(**finished)
        point("run.opened")
        data = data_of(spec, progress)
        tell_other_platform(record, spec, progress)
        plan = layer_plan_of(config)
        describe(record, spec, data, plan)
        if spec.begun is not None:
            folders = spec.begun / "checkpoints", spec.folder / "checkpoints"
            adopt(*folders, owner=spec.identity.signature, max_epochs=config.trainer.max_epochs)
        with shortage_told(), companions(config.trainer.devices, take_part, spec) as rank:
            result = fit(
                plan,
                data,
                config.trainer,
                seed=config.seed,
                recorder=record,
                progress=progress,
                ckpt_path=config.ckpt_path,
                owner=spec.identity.signature,
                task=config.task,
                rank=rank,
                seat=seat,
            )
        complete(record, result, spec.folder)
    point("run.closed")
    return result


def complete(record: Run, result: Result, folder: Path) -> None:
    """Leave the result, when all that it stands for is on disk."""
    record.tags(
        {
            names.INIT_DIGEST: result.init_digest,
            names.BATCH_ORDER_DIGEST: result.batch_order_digest,
            names.WEIGHTS_DIGEST: result.weights_digest,
        }
    )
    point("result.begun")
    if not (folder / JOURNAL).exists():
        raise FileNotFoundError(f"{folder} was removed while its run trained; its records are lost.")
    record.confirm()
    write_json_atomic(folder / RESULT, asdict(result))
    record.artifact(folder / RESULT)
    point("result.written")


def take_part(spec: RunSpec, rank: Rank, ready: Callable[[], None]) -> None:
    """In a process of another rank than 0, of a run on several devices."""
    from stridelab.training.fit import take_part

    config, data = spec.config, data_of(spec, lambda event: None)
    ready()
    take_part(
        layer_plan_of(config), data, config.trainer, seed=config.seed, folder=spec.folder,
        owner=spec.identity.signature, task=config.task, rank=rank,
    )  # fmt: skip


def data_of(spec: RunSpec, progress: Progress) -> Data:
    """ValueError when code or data are not those that the sweep began with."""
    from stridelab.data.load import load
    from stridelab.tracking.loaded_code import refuse_other_code

    refuse_other_code(spec.identity.tags.get(names.CODE, ""))
    refuse_other_user_code(spec)
    data = load(spec.config.data, checked=bool(spec.data_digest), progress=progress)
    refuse_other_data(spec, data.spec)
    return data


@contextmanager
def status_told(record: Run) -> Iterator[None]:
    """The tag `stridelab.status`, also on a run that ends badly (a full disk must not hide why)."""
    record.tags({names.STATUS: "running"})
    try:
        yield
    except BaseException as error:
        with suppress(OSError):
            record.tags({names.STATUS: status_of(error)})
        raise
    record.tags({names.STATUS: FINISHED})


def refuse_other_user_code(spec: RunSpec) -> None:
    signed, here = spec.identity.tags.get(names.USER_CODE, ""), user_code(spec.config.model)
    if signed != here:
        raise ValueError(
            f"{signed.partition(' ')[0]} has changed since the sweep began: it was {signed[:60]}, and is {here[:60]}. "
            "Results are not mixed; run the command again."
        )


def refuse_other_data(spec: RunSpec, data_spec: DataSpec) -> None:
    if spec.data_digest and data_spec.digest != spec.data_digest:
        raise ValueError(
            f"the files of data={data_spec.name} have changed since the sweep began: their digest was "
            f"{spec.data_digest[:12]} and is {data_spec.digest[:12]}. Results are not mixed; run the command again."
        )


def tell_other_platform(record: Run, spec: RunSpec, progress: Progress) -> None:
    """An attempt that goes on where another machine stopped gives sound results, but not the same bits."""
    accelerator = spec.config.trainer.accelerator
    stored = stored_platform(spec.folder, accelerator=accelerator)
    if other := platform_difference(stored, platform_of(spec.provenance, accelerator=accelerator)):
        progress({"said": f"begun on another platform ({other}); the result is not equal to the bit"})
        record.tags({names.MIXED_PLATFORMS: other})


def describe(record: Run, spec: RunSpec, data: Data, plan: LayerPlan) -> None:
    """Everything that is known before the first step."""
    from stridelab.training.runtime import device_of, prepare_process

    prepare_process(spec.config.trainer)  # what PyTorch is told is told of it
    layers = measure(plan)
    record.metrics(cost(layers), step=0)
    record.tags({names.DATA_DIGEST: data.spec.digest, names.SEED: str(spec.config.seed)})
    record.tags({names.RUNS_AT_ONCE: str(spec.at_once)})
    record.dataset(data.spec, context="train")
    files = dict(spec.provenance) | {
        names.GEOMETRY_FILE: json.dumps([asdict(layer) for layer in layers], indent=1, default=spell_fraction),
        names.CONFIG_FILE: json.dumps(redact_values(asdict(spec.config)), indent=1),
        names.TORCH_FILE: json.dumps(torch_facts(str(device_of(spec.config.trainer))), indent=1),
        names.DATA_FILE: json.dumps(asdict(data.spec), indent=1),
    }
    for name, content in files.items():
        path = spec.folder / name
        path.write_text(content)
        record.artifact(path)


def cost(layers: Sequence[LayerGeometry]) -> dict[str, float]:
    """Sums, and stride and field of the last map, the larger of height and width; what cannot be known is left out."""
    whole = totals(layers)
    stride, field = (getattr(whole.last_map, name, None) for name in ("effective_stride", "receptive_field"))
    figures = {
        "cost/macs": whole.macs,
        "cost/params": whole.params,
        "cost/effective_stride": stride and max(stride),
        "cost/receptive_field_px": field and max(field),
    }
    return {name: figure for name, figure in figures.items() if figure is not None}


def probe(spec: RunSpec, *, progress: Progress) -> Mapping[str, float]:
    """What `config.probes` names, of the network that the run left: recorded in the run, and returned."""
    from stridelab.data.load import load
    from stridelab.probes.record import probe

    config = spec.config
    data = load(config.data, checked=bool(spec.data_digest), progress=progress)
    return probe(
        config.probes,
        layer_plan_of(config),
        data,
        config.trainer,
        seed=config.seed,
        folder=spec.folder,
        task=config.task,
    )

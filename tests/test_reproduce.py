"""A stored run, run again: the same is said to be the same, and what is not is named."""

from __future__ import annotations

import json
import math
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from stridelab.cli.reproduce import main
from stridelab.cli.train import start
from stridelab.config import Config, load
from stridelab.reproduce import find
from stridelab.reproduce.rebuild import rebuild
from stridelab.reproduce.show import sentence, show_findings
from stridelab.reproduce.surroundings import (
    ProvenanceFiles,
    bits_expected,
    code,
    compare_surroundings,
    packages,
    unpromised,
)
from stridelab.reproduce.verdict import CLOSE, DIFFERENT, IDENTICAL, Reproduction, compare
from stridelab.tracking.find import find_run
from stridelab.tracking.mlflow_reader import RunRecord
from stridelab.tracking.settings import TrackingConfig
from stridelab.tracking.store import resolve_store

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

SMALL = ["trainer.max_epochs=1", "data.train_size=300", "data.val_size=100", "model.channels=[4,4,8]"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results folder of one run."""
    results = tmp_path_factory.mktemp("trained") / "results"
    words = [*SMALL, "seed=1", "probes=[shift_consistency]", f"paths.results_dir={results}"]
    assert start([load(words)], multirun=False) == 0
    return results


@pytest.fixture
def results(trained: Path, tmp_path: Path) -> Iterator[Path]:
    """The store of that run, to spoil; its artifacts stay where they are unless `own_artifacts` copies them."""
    folder = tmp_path / "results"
    folder.mkdir()
    with (
        closing(sqlite3.connect(trained / "mlflow.db")) as database,
        closing(sqlite3.connect(folder / "mlflow.db")) as copy,
    ):
        database.backup(copy)
    return folder


def record(results: Path, wanted: str = "latest") -> RunRecord:
    return find_run(resolve_store(TrackingConfig(), results_dir=results), wanted)


def execute(results: Path, query: str, *values: object) -> None:
    with closing(sqlite3.connect(results / "mlflow.db")) as database:
        assert database.execute(query, values).rowcount > 0
        database.commit()


def own_artifacts(trained: Path, results: Path) -> Path:
    """The run's artifacts, copied so that a test may change them."""
    run = record(trained)
    folder = results / "artifacts" / run.run_id / "artifacts"
    shutil.copytree(run.artifact("config.json").parent, folder)
    execute(results, "UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?", folder.as_uri(), run.run_id)
    return folder


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def reproduce(results: Path, *arguments: str) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["reproduce.py", f"paths.results_dir={results}", *arguments])
        try:
            main()
        except SystemExit as ended:
            return int(ended.code or 0)
    return 0


def said(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    return " ".join((captured.out + captured.err).split())


def test_an_untouched_run_is_identical_and_the_new_one_is_linked(
    trained: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    original = record(results)
    assert reproduce(results) == 0
    text = said(capsys)
    assert "Expected: bit-equal." in text
    assert "identical: the final weights and all" in text
    again = record(results)
    assert again.tags["stridelab.reproduces"] == original.run_id
    assert again.tags["stridelab.reproduce"] == "identical"
    assert again.tags["stridelab.role"] == "run"
    assert again.tags["stridelab.signature"] == original.tags["stridelab.signature"] + ".repro-1"
    assert again.tags["stridelab.weights_digest"] == original.tags["stridelab.weights_digest"]
    assert (results / "runs" / again.tags["stridelab.signature"] / "result.json").exists()
    verdict = json.loads(again.artifact("reproduction.json").read_text())
    assert verdict["verdict"] == "identical"
    compared = {row["metric"] for row in verdict["rows"]}
    assert compared >= {"train/loss", "val/acc", "test/acc", "cost/macs", "probe/shift_consistency"}
    assert not any(row["metric"].startswith(("time/", "throughput/")) for row in verdict["rows"])
    # The original keeps its signature, and `latest` means the run that was repeated.
    assert record(results, original.tags["stridelab.signature"]).run_id == original.run_id
    assert reproduce(results, "dry=true") == 0
    assert original.run_id in said(capsys)


def test_a_run_tells_what_pytorch_was_told(results: Path) -> None:
    facts = json.loads(record(results).artifact("torch.json").read_text())
    wanted = {"device": "cpu", "threads": 1, "deterministic": True, "tf32": True}
    assert {name: facts[name] for name in wanted} == wanted


def test_a_metric_that_was_changed_is_named_with_its_step(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    execute(results, "UPDATE metrics SET value = 0.987 WHERE key = 'val/loss' AND step = 1")
    assert reproduce(results) == 4
    text = said(capsys)
    assert "different: 1 of" in text
    assert "First difference: val/loss at step 1: 0.987, now" in text
    assert "Bit-equality was expected here" in text
    assert record(results).tags["stridelab.reproduce"] == "different"


def test_another_seed_in_its_configuration_is_another_experiment(
    trained: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(own_artifacts(trained, results) / "config.json", seed=2)
    assert reproduce(results, "run=1-2-2 s1") == 4
    text = said(capsys)
    assert "config.json is not what the run was trained with" in text
    assert "the initial weights and the batch order are others" in text
    assert "First difference: train/loss at step 1:" in text


def test_a_small_difference_is_within_tolerance(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    execute(results, "UPDATE metrics SET value = value * 1.0001 WHERE key = 'test/loss'")
    assert reproduce(results, "tolerance=0.001") == 3
    text = said(capsys)
    assert "equal within tolerance: all" in text
    assert "within a relative difference of 0.001" in text
    assert "First difference: test/loss at step 0" in text


def test_other_data_are_refused(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    execute(results, "UPDATE tags SET value = ? WHERE key = 'stridelab.data_digest'", "0" * 64)
    assert reproduce(results) == 1
    assert "the data are not those of run 1-2-2 s1" in said(capsys)
    assert not (results / "runs").exists()


def test_other_code_is_said_before_anything_is_trained(
    trained: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    execute(results, "UPDATE tags SET value = ? WHERE key = 'stridelab.code'", "0" * 64)
    execute(results, "UPDATE tags SET value = ? WHERE key = 'stridelab.dirty'", "true")
    (own_artifacts(trained, results) / "uncommitted.diff").write_text("diff --git a/x.py b/x.py\n+1\n")
    assert reproduce(results, "dry=true") == 3
    text = said(capsys)
    assert "code differs the code that trains is another" in text
    assert "1 file in its artifact uncommitted.diff" in text
    assert "Expected: not bit-equal: code." in text


def test_another_environment_is_said(trained: Path, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = own_artifacts(trained, results)
    lines = (folder / "requirements.txt").read_text().splitlines()
    lines = ["torch==2.0.0" if line.startswith("torch==") else line for line in lines]
    (folder / "requirements.txt").write_text("\n".join([*lines, "left-pad==1.0", ""]))
    facts = json.loads((folder / "provenance.json").read_text())
    facts["machine"] |= {"cpu": "Z80", "cpu_flags": [*facts["machine"]["cpu_flags"], "sve9"]}
    facts["environment"]["ONEDNN_MAX_CPU_ISA"] = "SSE41"
    (folder / "provenance.json").write_text(json.dumps(facts))
    assert reproduce(results, "dry=true") == 3
    text = said(capsys)
    assert "torch differs 2.0.0, here 2." in text
    assert "others differs left-pad 1.0 -> absent" in text
    assert "CPU differs Z80, here" in text
    assert "CPU flags differs not here: sve9" in text
    assert "ONEDNN_MAX_CPU_ISA differs SSE41, here not set" in text
    assert "Expected: not bit-equal: torch, CPU, CPU flags, ONEDNN_MAX_CPU_ISA." in text


def test_what_another_version_or_anybody_wrote_is_refused(
    trained: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = own_artifacts(trained, results) / "config.json"
    sound = json.loads(path.read_text())
    bad: dict[str, Any] = {
        "keys that this version of Stridelab does not know: trainer.warp, future.": sound
        | {"future": 1, "trainer": sound["trainer"] | {"warp": 9}},
        "that this version of Stridelab does not know: model._target_": sound
        | {"model": sound["model"] | {"_target_": "os.system"}},
        "config.json: seed='1' must be a whole number": sound | {"seed": "1"},
        "config.json: seed='True' must be a whole number": sound | {"seed": True},
        "config.json: model must be a mapping": sound | {"model": []},
        "trainer.lr=-1": sound | {"trainer": sound["trainer"] | {"lr": -1}},
    }
    for message, content in bad.items():
        path.write_text(json.dumps(content))
        assert reproduce(results) == 1
        assert message in said(capsys)
    path.write_text("[" * 100_000)
    assert reproduce(results) == 1
    assert "is not JSON" in said(capsys)
    path.unlink()
    assert reproduce(results) == 1
    assert "has no artifact config.json" in said(capsys)
    assert not (results / "runs").exists()


def test_runs_without_a_result_are_refused(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_id = record(results).run_id
    execute(results, "UPDATE runs SET status = 'FAILED'")
    assert reproduce(results) == 1
    assert "is FAILED: there is no result to compare with" in said(capsys)
    execute(results, "UPDATE tags SET value = 'sweep' WHERE key = 'stridelab.role'")
    assert reproduce(results, f"run={run_id}") == 1
    assert "is a sweep; give one of its runs" in said(capsys)


def test_a_run_that_says_it_repeats_itself_is_no_endless_search(results: Path) -> None:
    run = record(results)
    execute(results, "INSERT INTO tags VALUES ('stridelab.reproduces', ?, ?)", run.run_id, run.run_id)
    assert find(resolve_store(TrackingConfig(), results_dir=results), "latest").run_id == run.run_id


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("seed=3", "seed=3: what decides the result comes from the run itself"),
        ("trainer.threads=2", "trainer.threads=2: what decides the result comes from the run itself"),
        ("dry=maybe", "dry=maybe: true or false is expected"),
        ("tolerance=-1", "tolerance=-1: a number from 0 to less than 1 is expected"),
        ("tolerance=nan", "tolerance=nan: a number from 0 to less than 1 is expected"),
        ("run=nobody", "run=nobody is not in"),
        ("latest", "'latest' is not of the form key=value"),
    ],
)
def test_wrong_arguments_are_refused(
    results: Path, capsys: pytest.CaptureFixture[str], argument: str, message: str
) -> None:
    assert reproduce(results, argument) == 1
    assert message in said(capsys)


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["model.strides=[[1,2],2,1]", "model.padding=[0,[1,2],[1,0,2,1]]", "model.kernel_sizes=[3,[1,5],2]"],
        ["tags=[a,b]", "data.train_size=100", "trainer.limit_train_batches=3", "trainer.precision=64-true"],
        *([f"model={family}"] for family in ("resnet", "vgg", "allconv", "convnext", "torchvision")),
        ["model=resnet", "model.padding=[1,2]", "model.stem_stride=1x2"],
        ["model=torchvision", "model.set={maxpool: identity}", "model.set.conv1.stride=[1,2]"],
    ],
)
def test_a_configuration_comes_back_from_json_as_it_was(overrides: list[str]) -> None:
    config = load(overrides)
    rebuilt = rebuild(json.loads(json.dumps(asdict(config))))
    assert rebuilt.config == config
    assert rebuilt.missing == ()


def test_keys_that_a_run_did_not_have_yet_are_named() -> None:
    content = asdict(Config())
    del content["trainer"]["momentum"]
    del content["model"]
    assert set(rebuild(content).missing) == {"trainer.momentum", "model"}
    assert rebuild(content).config == Config()


# The verdict, by itself.

START = {"stridelab.init_digest": "a", "stridelab.batch_order_digest": "b", "stridelab.weights_digest": "c"}
CURVE = {"train/loss": {1: 2.0, 2: 1.0}, "test/acc": {2: 0.5}}


def judged(now: dict[str, dict[int, float]] | None = None, *, tolerance: float = 0.001, **tags: str) -> Reproduction:
    new_tags = START | {f"stridelab.{key}": value for key, value in tags.items()}
    return compare(CURVE, CURVE if now is None else now, tags=START, new_tags=new_tags, tolerance=tolerance)


def test_one_bit_is_not_identical() -> None:
    assert judged().verdict == IDENTICAL
    other = judged({"train/loss": {1: 2.0, 2: math.nextafter(1.0, 2)}, "test/acc": {2: 0.5}})
    assert other.verdict == CLOSE
    assert other.first == "train/loss at step 2: 1.0, now 1.0000000000000002"
    assert sentence(other).endswith(" 0.001; the final weights are equal to the bit.")


def test_only_the_final_weights_differ() -> None:
    assert judged(weights_digest="d").verdict == CLOSE
    assert sentence(judged(weights_digest="d")).endswith(" are equal; the final weights are not equal to the bit.")
    assert judged(weights_digest="").verdict == CLOSE


def test_the_earliest_step_counts_as_the_first_difference() -> None:
    now = {"test/acc": {2: 0.9}, "train/loss": {1: 2.5, 2: 1.0}}
    assert judged(now).first == "train/loss at step 1: 2.0, now 2.5"
    assert judged(now).verdict == DIFFERENT


def test_a_value_that_is_missing_or_new_is_a_difference() -> None:
    assert judged({"train/loss": {1: 2.0}, "test/acc": {2: 0.5}}).first == "train/loss at step 2: 1.0, now not recorded"
    more = judged(CURVE | {"val/acc": {0: 0.1}})
    assert (more.verdict, more.first) == (DIFFERENT, "val/acc at step 0: not recorded, now 0.1")
    assert compare({}, {}, tags=START, new_tags=START, tolerance=0.1).verdict == DIFFERENT


def test_what_measures_time_is_not_compared() -> None:
    timed = {"time/fit_s": {1: 9.0}, "throughput/train_images_per_s": {1: 1.0}, "memory/peak_rss_mib": {1: 1.0}}
    later = {"latency/batch1_ms": {1: 3.0}, "benchmark/training_batch1_ms": {1: 2.0}}
    assert judged(CURVE | timed | later).verdict == IDENTICAL


def test_a_probe_is_compared_where_both_runs_were_probed() -> None:
    was, now = CURVE | {"probe/a": {1: 0.5}, "probe/b": {1: 0.5}}, CURVE | {"probe/a": {1: 0.6}}
    alone = compare(was, CURVE, tags=START, new_tags=START, tolerance=0.001)
    both = compare(was, now, tags=START, new_tags=START, tolerance=0.001)
    assert (alone.verdict, both.verdict) == (IDENTICAL, DIFFERENT)
    assert both.first == "probe/a at step 1: 0.5, now 0.6"


def test_not_a_number_equals_itself_only() -> None:
    was = {"train/loss": {1: math.nan, 2: math.inf}}
    same = compare(was, was, tags=START, new_tags=START, tolerance=0.1)
    assert same.verdict == IDENTICAL
    other = compare(was, {"train/loss": {1: 1.0, 2: math.inf}}, tags=START, new_tags=START, tolerance=0.1)
    assert other.verdict == DIFFERENT


@pytest.mark.parametrize(("tolerance", "verdict"), [(0.0099, DIFFERENT), (0.0101, CLOSE)])
def test_tolerance_is_relative_to_the_larger_value(tolerance: float, verdict: str) -> None:
    assert judged({"train/loss": {1: 2.0, 2: 0.99}, "test/acc": {2: 0.5}}, tolerance=tolerance).verdict == verdict


def test_other_initial_weights_are_another_experiment_however_close() -> None:
    assert judged(init_digest="z").verdict == DIFFERENT
    assert judged(batch_order_digest="z").verdict == DIFFERENT


# What is around a run, by itself.


def test_packages_that_matter_come_first_and_names_are_one_however_spelled() -> None:
    was = {"torch": "2.14.1", "abc": "1", "nvidia-cudnn": "9", "numpy": "2.4"}
    found = list(packages(was, {"torch": "2.15.0", "abc": "2", "numpy": "2.4"}, on_gpu=True))
    assert [(one.what, one.same, one.decides) for one in found] == [
        ("torch", False, True),
        ("nvidia-cudnn", False, True),
        ("packages", True, True),
        ("others", False, False),
    ]
    on_cpu = packages(was, {"torch": "2.14.1", "abc": "1", "numpy": "2.4"}, on_gpu=False)
    assert [(one.what, one.same, one.decides) for one in on_cpu] == [
        ("packages", True, True),
        ("others", False, False),
    ], "a CPU computes nothing with cuDNN"
    assert ProvenanceFiles({"requirements.txt": "PyTorch_Lightning==2.6.6\n"}).packages == {
        "pytorch-lightning": "2.6.6"
    }


def test_a_commit_that_is_no_commit_never_reaches_git() -> None:
    tags = {"stridelab.commit": "--output=/tmp/evil", "stridelab.code": "x"}
    found = list(
        code(
            ProvenanceFiles({}),
            ProvenanceFiles({}),
            tags=tags,
            here={"stridelab.code": "y", "stridelab.commit": "0" * 40},
        )
    )
    assert found[1].said == "unknown, here 000000000000"


@pytest.mark.parametrize(
    "files", [{}, {"provenance.json": "[]"}, {"provenance.json": '{"machine": 3, "environment": [1]}'}]
)
def test_what_was_not_recorded_promises_nothing(files: dict[str, str]) -> None:
    config = load([])
    found = compare_surroundings(ProvenanceFiles(files), ProvenanceFiles(files), config, tags={}, here={})
    assert not bits_expected(found, config)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], ""),
        (["trainer=gpu"], ""),
        (["trainer.deterministic=false"], "trainer.deterministic=false"),
        (["trainer.accelerator=mps"], "trainer.accelerator=mps was never tried"),
        (["trainer=gpu", "trainer.devices=2"], "several GPUs were never tried"),
        (["trainer.devices=2"], ""),
    ],
)
def test_bits_are_promised_for_deterministic_training_on_a_cpu_or_one_gpu(words: list[str], why: str) -> None:
    assert unpromised(load(words)) == why
    assert bits_expected([], load(words)) == (not why)


H100, A100 = "NVIDIA H100 80GB HBM3, 580.159.04, 81559 MiB", "NVIDIA A100-SXM4-40GB, 580.159.04, 40960 MiB"
ON_H100 = ("trainer=gpu",)


def surroundings(*gpus: str, cpu: str = "EPYC", told: dict[str, Any] | None = None, **more: str) -> ProvenanceFiles:
    """As a run leaves them; `more`: packages, and in capitals environment variables."""
    variables = {name: value for name, value in more.items() if name.isupper()}
    machine = {"architecture": "x86_64", "cpu": cpu, "cpu_flags": ["avx2"], "gpus": list(gpus)}
    wheels = {"torch": "2.14.1", "nvidia-cudnn-cu13": "9.24.0.43"}
    wheels |= {name.replace("_", "-"): version for name, version in more.items() if name not in variables}
    facts = {"machine": machine, "environment": variables, "python": {"version": "3.12.3"}}
    return ProvenanceFiles(
        {
            "provenance.json": json.dumps(facts),
            "requirements.txt": "".join(f"{name}=={version}\n" for name, version in wheels.items()),
            "torch.json": json.dumps({"device": "cpu"} if told is None else told),
        }
    )


TRAINED_ON_H100 = {"device": "NVIDIA H100 80GB HBM3", "tf32": True}
MADE_ON_H100 = surroundings(H100, told=TRAINED_ON_H100)


@pytest.mark.parametrize(
    ("words", "was", "now", "doubts"),
    [
        (ON_H100, MADE_ON_H100, surroundings(H100), []),
        (ON_H100, MADE_ON_H100, surroundings(H100, H100, cpu="Xeon"), []),
        (("trainer.accelerator=auto",), MADE_ON_H100, surroundings(H100), []),
        (ON_H100, MADE_ON_H100, surroundings(H100, CUBLAS_WORKSPACE_CONFIG=":4096:8"), []),
        (ON_H100, MADE_ON_H100, surroundings(A100), ["GPU"]),
        (ON_H100, MADE_ON_H100, surroundings(H100, A100), ["GPU"]),
        (ON_H100, MADE_ON_H100, surroundings(), ["GPU", "driver"]),
        (ON_H100, MADE_ON_H100, surroundings(H100.replace("580", "590")), ["driver"]),
        (ON_H100, MADE_ON_H100, surroundings(H100, nvidia_cudnn_cu13="9.25.0.1"), ["nvidia-cudnn-cu13"]),
        (ON_H100, MADE_ON_H100, surroundings(H100, torch="2.15.0"), ["torch"]),
        (ON_H100, MADE_ON_H100, surroundings(H100, NVIDIA_TF32_OVERRIDE="0"), ["NVIDIA_TF32_OVERRIDE"]),
        ((*ON_H100, "trainer.tf32=false"), MADE_ON_H100, surroundings(H100), ["TF32"]),
        (ON_H100, surroundings(H100, told={}), surroundings(H100), ["TF32"]),
        ((), surroundings(), surroundings(A100, nvidia_cudnn_cu13="9.25.0.1"), []),
        ((), surroundings(H100, NVIDIA_TF32_OVERRIDE="0"), surroundings(), []),
        ((), surroundings(), surroundings(cpu="Xeon"), ["CPU"]),
        (("trainer.accelerator=auto",), surroundings(), surroundings(), []),
        (("trainer.accelerator=auto",), surroundings(), surroundings(H100), ["GPU"]),
        (("trainer.accelerator=auto",), MADE_ON_H100, surroundings(), ["GPU", "driver"]),
    ],
)
def test_only_what_decides_the_bits_of_a_run_raises_doubts(
    words: tuple[str, ...], was: ProvenanceFiles, now: ProvenanceFiles, doubts: list[str]
) -> None:
    config, tags = load(list(words)), {"stridelab.code": "c"}
    found = compare_surroundings(was, now, config, tags=tags, here=tags)
    assert sorted(one.what for one in found if one.decides and not one.same) == sorted(doubts)
    assert bits_expected(found, config) == (not doubts)


def test_what_is_expected_of_a_gpu_is_said(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, tags = load(list(ON_H100)), {"stridelab.code": "c"}
    run = record(results)

    def expected(now: ProvenanceFiles) -> str:
        findings = compare_surroundings(MADE_ON_H100, now, config, tags=tags, here=tags)
        show_findings(run, findings, Console(width=200), config=config, tolerance=0.001)
        return said(capsys)

    assert "Expected: bit-equal. Code, data, packages, GPU, driver, TF32 and threads are" in expected(
        surroundings(H100)
    )
    text = expected(surroundings(A100))
    assert "GPU differs NVIDIA H100 80GB HBM3, here NVIDIA A100-SXM4-40GB" in text
    assert "Expected: not bit-equal: GPU. Short runs may still agree within tolerance=0.001." in text

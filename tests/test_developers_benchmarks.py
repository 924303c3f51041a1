"""The developers' benchmarks run, and say what they measured in one form; what they find is never tested."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from benchmarks import SECTIONS, gpu
from benchmarks.__main__ import main
from benchmarks.plan import AXES
from benchmarks.rows import cell, middle_of
from benchmarks.simulate import Costs, Design, simulate
from stridelab.config import expand
from stridelab.plan import examine

FIELDS = ["section", "name", "strides", "batch", "value", "unit", "ratio", "n", "spread"]
CHEAP = "memory"
"""Runs in every test run; the others take minutes together: make faults."""


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize(
    "section", [CHEAP, *(pytest.param(name, marks=pytest.mark.faults) for name in SECTIONS if name != CHEAP)]
)
def test_a_section_prints_its_rows_and_writes_them_as_json(
    section: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    main([section, "size=tiny", "json=rows.json"])
    said, warned = capfd.readouterr()
    assert "Warning" not in warned
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert rows
    for row in rows:
        assert list(row) == FIELDS
        assert row["section"] == section
        assert row["value"] > 0
        assert row["n"] >= 1
        assert row["unit"]
        assert row["name"] in said
        assert (row["spread"] is None) == (row["n"] == 1)
    assert len(said.splitlines()) == len(rows) + 1
    assert [path.name for path in tmp_path.iterdir()] == ["rows.json"]


def test_the_largest_grid_of_plan_is_possible_throughout() -> None:
    """Every alternative in every pair of neighbouring axes; the whole grid would take a minute."""
    assert [len(values) for values in AXES.values()] == [10] * 5
    strides, kernels, padding, channels, batch = (f"{key}={','.join(values)}" for key, values in AXES.items())
    for arguments in ([strides, kernels, "model.padding=0,9"], [padding, channels], [batch, "model.padding=0"]):
        for job in expand(arguments):
            assert job.config, job.error
            assert examine(job.config, keys=()).error is None


def test_what_one_part_measured_of_a_gpu_survives_another(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """One fails, one measures and then fails, one measures and never ends, nor does what it has started."""
    rows = [{"section": "training", "name": name, "value": 1.0, "unit": "s", "n": 1} for name in ("one", "other")]
    write = f"import sys, pathlib; pathlib.Path(sys.argv[1][5:]).write_text({json.dumps(rows)!r})"
    began = f"import os; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))"
    child = f"{began}; import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)"
    stuck = f"{write}; import subprocess; subprocess.run([sys.executable, '-c', {child!r}])"
    python = (sys.executable, "-c")
    parts = {
        "tests": (*python, "print('said'); raise SystemExit(3)"),
        "training": (*python, f"{write}; sys.exit(4)", "json={}"),
        "sweep": (*python, stuck, "json={}"),
    }
    monkeypatch.setattr(gpu, "parts", lambda **given: parts)
    monkeypatch.setattr(gpu, "SHARES", {"tests": 0.6, "training": 0.3, "sweep": 0.1})
    found, why = [], ""
    try:
        for one in gpu.rows(tiny=True, minutes="0.05"):
            found.append(one)
    except ValueError as error:
        why = str(error)
    assert [one.name for one in found] == ["tests", "one", "other", "training", "one", "other", "sweep"]
    assert {one.section for one in found} == {"gpu"}
    assert re.fullmatch(r"tests: exit code 3; training: exit code 4; sweep: not done after [123] s", why)
    assert "said" in capfd.readouterr().err
    child_of_the_last = int((tmp_path / "pid").read_text())
    assert not psutil.pid_exists(child_of_the_last) or psutil.Process(child_of_the_last).status() == "zombie"


def test_the_middle_of_measurements() -> None:
    assert middle_of([1.0, 2.0, 3.0, 4.0, 100.0]) == (3.0, 5, 2.0)
    assert middle_of([7.0]) == (7.0, 1, None)
    shown = {None: "", 0.01234: "0.0123", 999.7: "1,000", 12345.6: "12,346", 3: "3", "s": "s"}
    assert {value: cell(value) for value in shown} == shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["plans"], "error: 'plans' is not a section; choose one of "),
        (["plan", "size=huge"], "error: size=huge is not one of its choices; choose one of full, tiny."),
        (["store", "runs=7"], "error: runs=7 must be a multiple of 50 (seeds a variant), 50,000 at most."),
        (["plan", "strides=1"], "error: strides=1 is not read here"),
        (["plan", "json=nowhere/rows.json"], "error: json=nowhere/rows.json cannot be written: its folder"),
        (["training", "device=tpu"], "error: device=tpu is not one of its choices; choose one of cpu, cuda."),
        (["training", "part=fast", "device=cuda"], "error: device=cuda: PyTorch finds no GPU on this machine; choose"),
        (["sweep", "device=cuda"], "error: device=cuda: PyTorch finds no GPU on this machine; choose device=cpu."),
        (["gpu", "minutes=9"], "error: device=cuda: PyTorch finds no GPU on this machine; choose device=cpu."),
        (["gpu", "minutes=soon"], "error: minutes=soon: a number is expected."),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_measured(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit, match="1"):
        main(arguments)
    out, refusal = capsys.readouterr()
    assert refusal.startswith(said)
    assert out == ""


def test_help_names_every_section(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    said = capsys.readouterr().out
    assert all(f"python -m benchmarks {section}" in said for section in SECTIONS)


def test_memory_is_predicted_within_five_percent_of_what_is_kept_and_handed_out():
    rows = list(SECTIONS["memory"].rows(tiny=True))
    assert len(rows) == 3
    assert all(0.95 <= row.ratio <= 1.05 for row in rows)


COSTS = Costs(train_s=10, start_s=2, driver_s=0.5, store_s=1, report_s=0, mtbf_s=1e12)


def test_a_simulated_sweep_takes_what_its_parts_add_up_to() -> None:
    one = simulate(20, 1, COSTS, Design(drivers=1, senders=1), seed=0)
    assert one.trained_s == pytest.approx(one.busy_s + 20 * (2 + 0.5)), "one worker, one after the other"
    assert one.stored_s == pytest.approx(one.trained_s + 1)
    assert (one.failures, one.lost_s, one.driver_s) == (0, 0, 10)
    many = simulate(1000, 1000, COSTS, Design(drivers=1, senders=1), seed=0)
    assert many.trained_s > 1000 * 0.5, "one driver hands them out one by one"
    slow = replace(COSTS, store_s=100.0)
    assert simulate(100, 100, slow, Design(1, 4), seed=0).stored_s == pytest.approx(100 / 4 * 100, rel=0.01)


def test_what_fails_in_a_simulated_sweep_is_trained_to_its_end() -> None:
    calm, stormy = (simulate(300, 10, replace(COSTS, mtbf_s=mtbf_s), Design(1, 1), seed=1) for mtbf_s in (1e12, 60.0))
    assert stormy.failures > 30
    assert stormy.lost_s > 0
    assert stormy.busy_s == pytest.approx(calm.busy_s, rel=0.15), "other runs, as long on average"
    assert stormy.trained_s > calm.trained_s

"""Many runs on one card, as far as it can be held without one: how many at once, and what a process may keep."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stridelab.cli.plan import write_plan
from stridelab.cli.train import start
from stridelab.config import expand, load
from stridelab.config.variants import varying_keys
from stridelab.plan import Variant, examine
from stridelab.run import RunSpec
from stridelab.sweep import devices, gpu_jobs, process_state
from stridelab.sweep.devices import Devices, found_devices
from stridelab.sweep.gpu_jobs import PROCESS_MIB, GpuJobs, choose, data_bytes, largest_mib, shared_process
from stridelab.sweep.launchers import slurm_job
from stridelab.sweep.launchers.child import Child
from stridelab.sweep.launchers.local import LocalLauncher
from stridelab.sweep.task import Listener, Outcome, Task
from stridelab.system import gpus as system_gpus
from stridelab.system.gpus import Gpu, chosen, read, visible_gpus
from stridelab.tracking.run import RunIdentity
from stridelab.training.gpu_memory import shortage_told
from stridelab.training.memory import PeakMemory

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

H100, OTHER, L4 = (
    Gpu("GPU-1a", "NVIDIA H100", 81_000),
    Gpu("GPU-2b", "NVIDIA H100", 60_000),
    Gpu("GPU-3c", "L4", 20_000),
)


def variants_of(*overrides: str) -> list[Variant]:
    jobs = list(expand(["trainer=gpu", *overrides]))
    configs = [job.config for job in jobs if job.config is not None]
    assert len(configs) == len(jobs), jobs[0].error
    return [examine(config, keys=varying_keys(configs)) for config in configs]


def chosen_jobs(
    *overrides: str,
    gpus: list[Gpu] | None,
    need: float | None = 1000.0,
    runs: int = 99,
    cores: int = 99,
    host: int = 10**6,
) -> GpuJobs:
    config = load(["trainer=gpu", *overrides])
    return choose(config, gpus, need_mib=need, runs=runs, cores=cores, host_mib=host)


@pytest.mark.parametrize(
    ("what", "jobs", "limit"),
    [
        ({"runs": 5}, 5, "limited by the number of runs"),
        ({"cores": 7}, 7, "limited by the 7 cores"),
        ({"need": 8000.0}, 8, "7.8 GiB each predicted, 80% of what is free planned with, limited by that memory"),
        ({"host": 8000}, 3, "limited by 8 GiB of the machine's own memory"),
        ({}, 12, "limited by what was tried, 12 on a card"),
    ],
)
def test_so_many_runs_share_a_card_as_memory_cores_runs_and_experience_allow(
    what: dict[str, Any], jobs: int, limit: str
) -> None:
    found = chosen_jobs(gpus=[H100], **what)
    assert (found.jobs, found.cards) == (jobs, ())
    assert found.said.startswith(f"{jobs} runs at once on NVIDIA H100 (79.1 GiB free): ")
    assert limit in found.said
    assert found.said.endswith("; sweep.jobs=N decides otherwise.")


def test_what_is_asked_for_is_taken_and_warned_of_where_it_does_not_fit() -> None:
    assert chosen_jobs("sweep.jobs=20", gpus=[H100]).said == (
        "20 runs at once (sweep.jobs) on NVIDIA H100 (79.1 GiB free): 1.0 GiB each predicted."
    )
    large = chosen_jobs("sweep.jobs=20", gpus=[H100], need=4000.0)
    assert large.jobs == 20
    assert "more than 80% of what is free: they may end out of memory; lower sweep.jobs or trainer" in large.said
    alone = chosen_jobs(gpus=[H100], need=70_000.0, runs=1)
    assert (alone.jobs, alone.said.partition("; ")[2]) == (1, "lower trainer.batch_size.")
    assert not chosen_jobs(gpus=[H100], runs=1).said


def test_seeds_that_train_together_are_one_process() -> None:
    found = chosen_jobs("sweep.seeds_together=4", gpus=[H100], need=3100.0, runs=21)
    assert (found.jobs, found.said.partition(" on ")[0]) == (6, "6 x 4 runs at once")
    assert "9.1 GiB each predicted" in found.said, "1,100 MiB, and four times 2,000 and a stream's workspaces, 64"


def test_where_nothing_is_known_one_runs_and_the_reason_is_said() -> None:
    for gpus, need, what in ((None, 1.0, "what is free on the GPU here"), ([H100], None, "the memory of a layer")):
        found = chosen_jobs(gpus=gpus, need=need)
        assert (found.jobs, found.said) == (1, f"1 run at once: {what} is not known; sweep.jobs=N decides otherwise.")
        assert (chosen_jobs("sweep.jobs=3", gpus=gpus, need=need).jobs) == 3


def test_runs_are_spread_over_equal_cards_and_not_over_unlike_ones() -> None:
    two = chosen_jobs(gpus=[H100, OTHER], need=8000.0)
    assert (two.jobs, two.cards) == (8 + 6, ("GPU-1a", "GPU-2b"))
    assert two.said.startswith("14 runs at once on 2 x NVIDIA H100 (58.6 GiB free, at least): ")
    pairs = chosen_jobs("trainer.devices=2", gpus=[H100, OTHER, H100], need=8000.0)
    assert (pairs.jobs, pairs.cards) == (6, ("GPU-1a,GPU-2b",))
    unlike = chosen_jobs(gpus=[H100, L4], need=8000.0)
    assert (unlike.jobs, unlike.cards) == (2, ())
    assert "unlike cards that runs are not spread over (19.5 GiB free, at least)" in unlike.said


def test_the_largest_variant_decides_and_its_data_and_evaluation_count() -> None:
    wide, narrow = ([f"model.strides={strides}"] for strides in ("1-1-1", "2-2-2"))
    needs = [largest_mib(variants_of(*words)) for words in (wide, narrow, ["model.strides=1-1-1,2-2-2"])]
    assert needs[2] == needs[0] > needs[1] > PROCESS_MIB  # type: ignore[operator]
    config = load(["data=cifar10"])
    assert data_bytes(config) == 60_000 * (3 * 32 * 32 + 8)
    assert largest_mib([Variant("a", config, None, error="impossible")]) is None


def test_the_launcher_chooses_for_gpus_and_again_only_when_a_larger_variant_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    launcher, module = LocalLauncher(1), sys.modules[LocalLauncher.__module__]
    found: list[list[Gpu] | None] = [[H100, OTHER]]
    monkeypatch.setattr(module, "visible_gpus", lambda: found[0])
    for one in (module, gpu_jobs):
        monkeypatch.setattr(one, "usable_cores", lambda: 6)
    monkeypatch.setattr(gpu_jobs, "available_mib", lambda: 10**6)
    seeds = "seed=0,1,2,3,4,5,6,7,8"
    small, large = (variants_of(f"model.strides={strides}", seeds) for strides in ("2-2-2", "1-1-1,2-2-2"))
    assert launcher.choose_jobs(small).startswith("6 runs at once on 2 x NVIDIA H100")
    assert (launcher.jobs, launcher.pool.cards) == (6, ("GPU-1a", "GPU-2b"))
    assert not launcher.choose_jobs(small)
    assert launcher.choose_jobs(large)
    assert not launcher.choose_jobs(small)
    (few := LocalLauncher(1)).choose_jobs(small[:2])
    few.choose_jobs(small)
    assert few.jobs == 6, "a search has more runs to do as it goes on"
    found[0] = []
    auto, cpu = ([examine(load([f"trainer.accelerator={name}"]), keys=())] * 9 for name in ("auto", "cpu"))
    assert [LocalLauncher(2).choose_jobs(variants) for variants in (auto, cpu)] == ["", ""]
    (left := LocalLauncher(1)).choose_jobs(auto)
    assert left.jobs == 6, "a core each, where there is no GPU"
    found[0] = None
    unknown = LocalLauncher(1).choose_jobs(variants_of("sweep.preview=true", "seed=0,1"))
    assert unknown.startswith("1 run at once: what is free on the GPU here is not known"), "a preview starts no process"


def test_a_preview_says_how_many_would_train_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("stridelab.sweep.preflight.found_devices", lambda: Devices("2.11", gpus=1, mps=False))
    monkeypatch.setattr(sys.modules[LocalLauncher.__module__], "visible_gpus", lambda: [H100])
    monkeypatch.setattr(gpu_jobs, "usable_cores", lambda: 3)
    monkeypatch.setattr(gpu_jobs, "available_mib", lambda: 10**6)
    words = ["sweep.preview=true", f"paths.results_dir={tmp_path / 'results'}", "seed=0,1,2,3,4", "data.train_size=100"]
    assert start([variant.config for variant in variants_of(*words)], multirun=True) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "3 runs at once on NVIDIA H100 (79.1 GiB free): 1.2 GiB each predicted, 80% of what is free planned" in said
    assert "limited by the 3 cores; sweep.jobs=N decides otherwise." in said
    assert "5 to train, about" in said
    assert "with 3 at a time" in said
    assert list(tmp_path.iterdir()) == []


def test_a_plan_says_it_where_there_is_a_gpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu_jobs, "usable_cores", lambda: 3)
    monkeypatch.setattr(gpu_jobs, "available_mib", lambda: 10**6)
    for found, where in (([H100], "trainer=gpu"), ([H100], "trainer=cpu"), (None, "trainer=gpu")):
        monkeypatch.setattr(system_gpus, "visible_gpus", lambda found=found: found)
        assert write_plan(["model.strides=1-2-2,2-2-2", "seed=0,1,2", where], None, form="", out="") == 0
        last = capsys.readouterr().out.splitlines()[-1]
        assert last.startswith("3 runs at once on NVIDIA H100 (79.1") is (found == [H100] and where == "trainer=gpu")


def test_a_process_from_which_others_are_forked_leaves_cuda_alone(pool: LocalLauncher) -> None:
    """Once it has asked the driver for anything, CUDA works in none of its children."""
    (outcome,) = pool.run([Task(bad_fork, ())])
    assert outcome.value is False


def bad_fork(*, progress: Any) -> bool:
    return bool(torch.cuda._is_in_bad_fork())  # type: ignore[attr-defined]


def test_a_job_of_slurms_chooses_on_its_node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(slurm_job, "visible_gpus", lambda: [H100])
    monkeypatch.setattr(slurm_job, "available_mib", lambda: 10**6)
    config = load(["trainer=gpu", "launcher=slurm", "sweep.jobs=2", "sweep.runs_per_job=9"])
    tasks = [Task(double, (RunSpec(config, RunIdentity("abc", "a"), tmp_path, {}),))] * 9
    for need_mib, jobs in ((20_000.0, 3), (1000.0, 4), (0.0, 1)):
        assert slurm_job.launcher_here(tasks, cores=4, threads=1, need_mib=need_mib).jobs == jobs
    assert slurm_job.launcher_here([Task(double, (1,))] * 9, cores=4, threads=1, need_mib=0.0).jobs == 4


def double(number: int, *, progress: Any) -> int:
    return 2 * number


def test_pytorch_is_asked_for_devices_in_another_process_for_so_long_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found_devices() == Devices(
        str(torch.__version__), gpus=torch.cuda.device_count(), mps=torch.backends.mps.is_available()
    )
    for program, said in (
        ("import time; time.sleep(60)", "no answer in 0 s"),
        ("import os; os.abort()", "exit code -6"),
        ("raise OSError('libcudart.so.13: cannot open shared object file')", "OSError: libcudart.so.13: cannot open"),
    ):
        monkeypatch.setattr(devices, "PROGRAM", program)
        monkeypatch.setattr(devices, "ANSWER_S", 0.2 if "sleep" in program else 60.0)
        with pytest.raises(ValueError, match=said):
            found_devices()


def test_nvidia_smi_is_read_and_what_it_cannot_say_of_cuda_is_not_guessed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\necho 'GPU-1a, 81000, Disabled, NVIDIA H100'\necho 'GPU-2b, 60000, [N/A], NVIDIA H100'\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus() == [H100, OTHER]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert visible_gpus() == [OTHER]
    program.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'\nexit 9\n")
    assert visible_gpus() is None
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(system_gpus, "ANSWER_S", 0.1)
    assert visible_gpus() is None
    assert read("GPU-1a, 81000, Enabled, NVIDIA H100\n") is None
    assert read("GPU-1a, [N/A], Disabled, NVIDIA Thor\n") is None


@pytest.mark.parametrize(
    ("visible", "meant"),
    [
        ("1,0", [OTHER, H100]),
        ("GPU-2,GPU-1a", [OTHER, H100]),
        ("0,7,1", [H100]),
        ("", []),
        ("-1", []),
        ("GPU-", []),
        ("MIG-1", None),
    ],
)
def test_the_visible_cards_are_those_that_cuda_sees(visible: str, meant: list[Gpu] | None) -> None:
    assert chosen([H100, OTHER], visible) == meant
    assert chosen([H100, L4], "1") is None


def spoil(*, progress: Any) -> int:
    """All that a run could leave behind, and no run of ours does."""
    os.chdir("/")
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    os.environ.pop("HOME", None)
    sys.path.insert(0, "/spoiled")
    warnings.simplefilter("error")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    torch.manual_seed(3), np.random.seed(3), random.seed(3)  # noqa: NPY002
    torch.set_num_threads(2)
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = True
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    print("spoiled")
    return os.getpid()


def state(*, progress: Any) -> tuple[int, Any]:
    environment = {name: text for name, text in os.environ.items() if name != "KMP_INIT_AT_FORK"}
    return os.getpid(), (
        Path.cwd(), environment, sys.path, [one[:4] for one in warnings.filters], signal.getsignal(signal.SIGTERM),
        torch.rand(3).tolist(), np.random.rand(3).tolist(),  # noqa: NPY002
        torch.get_num_threads(), str(torch.get_default_dtype()), torch.is_grad_enabled(),
        torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark,
        torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
    )  # fmt: skip


def leave(what: str, *, progress: Any) -> int:
    if what == "a thread":
        threading.Thread(target=time.sleep, args=(60,)).start()
    return os.getpid()


def fill(megabytes: int, *, progress: Any) -> tuple[int, float, bool]:
    peak = PeakMemory.start(torch.device("cpu"))
    torch.ones(megabytes * 2**18).sum()
    return os.getpid(), peak.metrics()["memory/peak_rss_mib"], peak.reset


def behave(how: str, *, progress: Any) -> int:
    progress({"pid": os.getpid()})
    print("said by", how)
    match how:
        case "raise":
            raise ZeroDivisionError("division by zero")
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit":
            os._exit(0)
        case "hang":
            time.sleep(3600)
        case "nap":
            time.sleep(0.2)
    return os.getpid()


def alike(function: Any, *arguments: Any, **how: Any) -> Task:
    return Task(function, arguments, shares="alike", **how)


@pytest.fixture
def one() -> Any:
    launcher = LocalLauncher(1)
    yield launcher
    launcher.close()


def test_tasks_that_share_have_one_process_and_each_its_own_output(one: LocalLauncher, tmp_path: Path) -> None:
    heard = list[tuple[int, Any]]()
    tasks = [alike(behave, how, log=tmp_path / f"{how}.txt") for how in ("a", "b", "c")]
    outcomes = one.run(tasks, Listener(event=lambda index, event: heard.append((index, event["pid"]))))
    (pid,) = {outcome.value for outcome in outcomes}
    assert heard == [(0, pid), (1, pid), (2, pid)]
    assert [(tmp_path / f"{how}.txt").read_text() for how in ("a", "b", "c")] == [f"said by {how}\n" for how in "abc"]
    assert one.run([alike(behave, "d")])[0].value == pid, "in another call, too"
    others = one.run([Task(behave, ("e",)), Task(behave, ("f",), shares="otherwise"), alike(behave, "g")])
    assert len({pid, *(outcome.value for outcome in others)}) == 4, "with others none is shared"


def test_what_a_run_changes_in_its_process_is_put_back_for_the_next(one: LocalLauncher, tmp_path: Path) -> None:
    fresh, spoilt, (pid, again) = (
        outcome.value for outcome in one.run([Task(state, ()), alike(spoil, log=tmp_path / "a.txt"), alike(state)])
    )
    assert pid == spoilt
    assert again == fresh[1]


def test_a_process_in_which_something_goes_on_takes_no_other_run(one: LocalLauncher) -> None:
    kept, left, other = (
        outcome.value for outcome in one.run([alike(leave, ""), alike(leave, "a thread"), alike(leave, "")])
    )
    assert kept == left != other


def test_the_peak_of_a_run_is_not_the_one_before_its(one: LocalLauncher) -> None:
    (pid, large, reset), (same, small, _) = (outcome.value for outcome in one.run([alike(fill, 300), alike(fill, 30)]))
    assert pid == same
    if not reset:
        pytest.skip("this system starts no peak afresh")
    assert large > 290
    assert 25 < small < 100


@pytest.mark.parametrize(
    ("how", "status", "reason"),
    [
        ("raise", "failed", "ZeroDivisionError: division by zero"),
        ("die", "killed", "killed by SIGKILL (perhaps by the system, out of memory)"),
        ("exit", "failed", "the process ended with exit code 0 before the run was complete"),
        ("hang", "timed out", "timed out after 0.00833 min"),
    ],
)
def test_a_run_that_ends_badly_ends_its_process_and_no_other_run(
    one: LocalLauncher, how: str, status: str, reason: str
) -> None:
    first, bad, third, fourth = one.run(
        [alike(behave, "a"), alike(behave, how, timeout_s=0.5 if how == "hang" else None), *[alike(behave, "c")] * 2]
    )
    assert (bad.status, bad.reason) == (status, reason)
    assert first.value != third.value == fourth.value


def test_the_first_failure_and_an_interruption_end_shared_processes_too() -> None:
    launcher, pids = LocalLauncher(2), set[int]()
    listener = Listener(
        event=lambda index, event: pids.add(event["pid"]), stop=lambda outcome: outcome.status != "finished"
    )
    bad, ended, never = launcher.run([alike(behave, how) for how in ("raise", "hang", "a")], listener)
    assert (bad.status, ended.status, never.status) == ("failed", "killed", "not started")

    def interrupt(index: int, event: Mapping[str, Any]) -> None:
        pids.add(event["pid"])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        launcher.run([alike(behave, "hang"), alike(behave, "hang")], Listener(event=interrupt))
    launcher.close()
    assert not [child for child in launcher.pool.children if child.process.is_alive()]


def test_children_that_will_be_needed_begin_while_the_first_task_runs() -> None:
    launcher, at_rest = LocalLauncher(3), list[int]()
    first = launcher.run(
        [alike(behave, "a")], Listener(event=lambda index, event: at_rest.append(len(launcher.pool.at_rest)))
    )
    assert at_rest == [2]
    ready = {child.process.pid for child in launcher.pool.at_rest}
    assert len(ready) == 3
    assert {outcome.value for outcome in launcher.run([alike(behave, "nap")] * 3)} == ready > {first[0].value}
    launcher.close()
    assert not [child for child in launcher.pool.children if child.process.is_alive()]


def test_a_task_whose_process_ends_before_it_is_taken_has_another(
    one: LocalLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at a child at rest and the task there is a moment."""
    (before,) = one.run([alike(behave, "a")])
    one.pool.at_rest[0].process.kill()
    one.pool.at_rest[0].process.join()
    monkeypatch.setattr(Child, "is_fit", lambda child, task: True)
    (after,) = one.run([alike(behave, "b", timeout_s=600)])
    assert (after.status, after.value != before.value) == ("finished", True)


def visible(*, progress: Any) -> str:
    time.sleep(0.1)
    return os.environ.get("CUDA_VISIBLE_DEVICES", "")


@pytest.mark.parametrize("shares", ["", "alike"])
def test_children_are_spread_over_the_cards(shares: str) -> None:
    launcher = LocalLauncher(4, cards=("GPU-1a", "GPU-2b"))
    outcomes = launcher.run([Task(visible, (), shares=shares) for _ in range(4)])
    assert sorted(outcome.value for outcome in outcomes) == ["GPU-1a", "GPU-1a", "GPU-2b", "GPU-2b"]
    launcher.close()


def scarce(tried: Path, *, progress: Any) -> int:
    if not tried.exists():
        tried.touch()
        time.sleep(0.1)
        raise MemoryError("out of memory on the GPU: 20.00 MiB were wanted")
    return os.getpid()


def test_a_run_without_memory_beside_others_is_tried_again_alone_in_the_end(
    one: LocalLauncher, pool: LocalLauncher, tmp_path: Path
) -> None:
    now, said, beside = set[int](), list[str](), list[tuple[int, set[int]]]()

    def start(index: int) -> None:
        beside.append((index, now - {index}))
        now.add(index)

    def end(index: int, outcome: Outcome) -> None:
        now.remove(index)

    listener = Listener(
        start=start, end=end, event=lambda index, event: said.extend(event[key] for key in event if key == "said")
    )
    outcomes = pool.run([alike(scarce, tmp_path / "a"), *[alike(behave, "nap")] * 3], listener)
    assert [outcome.status for outcome in outcomes] == ["finished"] * 4
    assert beside[-1] == (0, set())
    assert len({outcome.value for outcome in outcomes} - {outcomes[0].value}) < 4, "in a process of its own"
    assert said == [
        "out of memory on the GPU: 20.00 MiB were wanted; it is tried again, alone, when the others have ended"
    ]
    (outcome,) = one.run([alike(scarce, tmp_path / "b")])
    assert (outcome.status, outcome.told) == ("out of memory", "out of memory on the GPU: 20.00 MiB were wanted")


def test_a_card_without_memory_is_told_in_a_sentence() -> None:
    said = (
        "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79.11 GiB of which 12.31 MiB "
        "is free. Including non-PyTorch memory, this process has 1.20 GiB memory in use. Of the allocated memory ..."
    )
    for text, expected in (
        (said, "20.00 MiB were wanted, and of 79.11 GiB 12.31 MiB were free"),
        ("no more", "no more"),
    ):
        with (
            pytest.raises(
                MemoryError, match=f"out of memory on the GPU: {expected}; lower trainer.batch_size, or sweep.jobs"
            ),
            shortage_told(),
        ):
            raise torch.OutOfMemoryError(text)


def test_runs_that_make_their_process_alike_share_it_and_code_that_is_not_ours_has_its_own() -> None:
    def shares(*overrides: str) -> str:
        return shared_process(load(["trainer=gpu", *overrides]))

    assert shares() == shares("model.strides=1-1-1", "seed=3", "trainer.lr=0.1") != ""
    assert len({shares(*more) for more in ((), ("trainer.precision=bf16-mixed",), ("trainer.tf32=false",))}) == 3
    for words in ("accelerator=cpu", "devices=2", "compile=true", "profiler=simple"):
        assert not shares(f"trainer.{words}")
    assert not shares("sweep.seeds_together=2")


def test_a_process_begins_cuda_with_a_convolution_and_no_matrix_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """On tensors without content; the first product settles for the process whether cuBLAS is deterministic."""
    calls = list[str]()
    zeros, convolve = torch.zeros, torch.nn.functional.conv2d
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for name in ("synchronize", "empty_cache"):
        monkeypatch.setattr(torch.cuda, name, lambda name=name: calls.append(name))
    monkeypatch.setattr(torch, "zeros", lambda *shape, device: calls.append(device) or zeros(*shape, device="meta"))
    monkeypatch.setattr(torch.nn.functional, "conv2d", lambda *two: calls.append("conv2d") or convolve(*two))
    monkeypatch.setattr(torch, "matmul", None)
    process_state.begin_cuda()
    assert calls == ["cuda", "cuda", "conv2d", "synchronize", "empty_cache"]


@pytest.mark.parametrize(("left", "goes_on"), [(1024, True), (2**21, False)])
def test_a_run_that_leaves_memory_on_the_card_is_the_last_of_its_process(
    left: int, goes_on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = process_state.ProcessState()
    calls = list[str]()
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch._C, "_cuda_clearCublasWorkspaces", lambda: calls.append("workspaces"))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append("cache"))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: left)
    monkeypatch.setattr("multiprocessing.active_children", list)
    monkeypatch.setattr(threading, "enumerate", lambda: [threading.main_thread()])
    assert before.restore() is goes_on
    assert calls == ["workspaces", "cache"]

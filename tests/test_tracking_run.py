"""Recording a run: what it leaves in its folder, how it ends, how it goes on. No MLflow here."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stridelab.names import check_key
from stridelab.system.files import write_json_atomic
from stridelab.tracking.journal import JOURNAL, read
from stridelab.tracking.run import RunIdentity, open_run
from stridelab.tracking.status import RESULT, read_status, repair, settle
from tracking_stores import Spec, identity


def recorded(folder: Path, kind: str) -> list[dict[str, object]]:
    return [record.data for record in read(folder / JOURNAL) if record.kind == kind]


def points(folder: Path) -> list[tuple[str, int, float]]:
    found = []
    for record in read(folder / JOURNAL):
        if record.kind == "metrics":
            found += [(key, record.data["step"], float(value)) for key, value in record.data["values"].items()]
    return found


def test_a_run_that_ends_well(tmp_path: Path) -> None:
    with open_run(tmp_path / "a", identity(params={"stride_1": 2}, tags={"x": "y"})) as run:
        run.metrics({"val/acc": 0.5, "val/loss": float("nan")}, step=3)
        run.tags({"stridelab.init_digest": "d"})
        run.dataset(Spec(), "train")
        assert run.folder == (tmp_path / "a").resolve()
        assert read_status(run.folder) == ("RUNNING", "")
    assert read_status(tmp_path / "a") == ("FINISHED", "")
    assert recorded(tmp_path / "a", "params") == [{"stride_1": "2"}]
    assert {"stridelab.role": "run", "stridelab.signature": identity().signature, "x": "y"}.items() <= dict(
        recorded(tmp_path / "a", "tags")[0]
    ).items()
    assert recorded(tmp_path / "a", "dataset")[0]["digest"] == Spec().digest
    assert json.loads((tmp_path / "a" / "run.json").read_text())["name"] == identity().name


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (ValueError("loss is nan\nat step 7"), "FAILED", "ValueError: loss is nan at step 7"),
        (RuntimeError(), "FAILED", "RuntimeError"),
        (KeyboardInterrupt(), "KILLED", "KeyboardInterrupt"),
        (SystemExit(143), "KILLED", "SystemExit: 143"),
    ],
)
def test_how_a_run_ended_is_kept_and_the_error_goes_on(
    tmp_path: Path, error: BaseException, status: str, reason: str
) -> None:
    with pytest.raises(type(error)) as caught, open_run(tmp_path / "a", identity()):
        raise error
    assert caught.value is error
    assert read_status(tmp_path / "a") == (status, reason)
    assert type(error).__name__ in (tmp_path / "a" / "traceback.txt").read_text()
    assert recorded(tmp_path / "a", "artifact") == [{"path": "traceback.txt", "to": ""}]


def test_a_run_that_goes_on_keeps_its_first_values_and_its_id(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    image = np.zeros((4, 8), np.uint8)
    for attempt in range(3):
        with open_run(tmp_path / "a", identity(params={"seed": 0})) as run:
            for step in range(attempt + 2):
                run.metrics({"val/acc": 0.1 * step, "throughput/x": attempt * 1000.0 + step}, step=step)
                run.image("maps/01_conv", image + attempt, step=step)
            run.params({"seed": attempt})
            run.tags({"attempt": str(attempt)})
    kept = points(tmp_path / "a")
    assert sorted(kept) == sorted(
        [("val/acc", step, 0.1 * step) for step in range(4)]
        + [("throughput/x", step, max(0, step - 1) * 1000.0 + step) for step in range(4)]
    )
    assert recorded(tmp_path / "a", "params") == [{"seed": "0"}]
    assert "parameter seed stays '0'" in caplog.text
    assert [image["step"] for image in recorded(tmp_path / "a", "image")] == [0, 1, 2, 3]
    starts = [status for status in recorded(tmp_path / "a", "status") if status["status"] == "RUNNING"]
    assert len(starts) == 3
    assert len({start["uid"] for start in starts}) == 1


def test_a_lost_identity_file_does_not_change_the_run(tmp_path: Path) -> None:
    with open_run(tmp_path, identity()):
        pass
    uid = json.loads((tmp_path / "run.json").read_text())["uid"]
    (tmp_path / "run.json").write_bytes(b"")  # what a power cut may leave
    with open_run(tmp_path, identity()):
        pass
    assert json.loads((tmp_path / "run.json").read_text())["uid"] == uid


def test_a_folder_belongs_to_one_signature_and_one_writer(tmp_path: Path) -> None:
    with open_run(tmp_path, identity(1)):
        with pytest.raises(BlockingIOError, match="another process is writing"), open_run(tmp_path, identity(1)):
            pass
        assert not settle(tmp_path, status="KILLED", reason="alive all the same")
    with pytest.raises(ValueError, match=r"holds the run 0*1, not 0*2"), open_run(tmp_path, identity(2)):
        pass


@pytest.mark.parametrize("name", ["", "/a", "a/", "a//b", "../x", "a/../b", ".", "a\nb", "a:b", "a'b", "<b>", "\u00e9"])
def test_names_that_mlflow_or_a_file_system_would_refuse(tmp_path: Path, name: str) -> None:
    with open_run(tmp_path, identity()) as run:
        with pytest.raises(ValueError, match="metric name"):
            run.metrics({name: 1.0}, step=0)
        with pytest.raises(ValueError, match="image name"):
            run.image(name, np.zeros((2, 2), np.uint8), step=0)
        with pytest.raises(ValueError, match="tag name"):
            run.tags({name: "x"})
        with pytest.raises(ValueError, match="parameter name"):
            run.params({name: "x"})
    assert points(tmp_path) == []


def test_long_names() -> None:
    check_key("a" * 250, what="metric")
    for what, length in (("metric", 251), ("image", 121)):
        with pytest.raises(ValueError, match=f"{length - 1} characters at most"):
            check_key("a" * length, what=what)


def test_text_that_no_database_takes_is_cleaned(tmp_path: Path) -> None:
    with open_run(tmp_path, identity()) as run:
        run.tags({"a": "x\0y\udcff"})
    with pytest.raises(OSError, match="bad"), open_run(tmp_path, identity()):
        raise OSError("bad \udcff name at http://me:secret@h")
    assert recorded(tmp_path, "tags")[-1] == {"a": "xy?"}
    assert read_status(tmp_path) == ("FAILED", "OSError: bad ? name at http://me:***@h")
    assert "secret" not in (tmp_path / "traceback.txt").read_text()


def test_identities() -> None:
    with pytest.raises(ValueError, match=r"signature='\.\./x' must be"):
        identity(signature="../x")
    with pytest.raises(ValueError, match="signature='' must be"):
        identity(parent="")
    with pytest.raises(ValueError, match="role='child' must be one of run, sweep"):
        identity(role="child")


@pytest.mark.parametrize("shape", [(5, 9), (5, 9, 3)])
def test_images_are_kept_pixel_for_pixel(tmp_path: Path, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    with open_run(tmp_path, identity()) as run:
        run.image("feature_maps/01_conv", array.swapaxes(0, 1), step=np.int64(4))  # not contiguous
    (entry,) = recorded(tmp_path, "image")
    with Image.open(tmp_path / str(entry["file"])) as image:
        assert np.array_equal(np.asarray(image), array.swapaxes(0, 1))


@pytest.mark.parametrize("array", [np.zeros((2, 2)), np.zeros((2, 2, 2), np.uint8), np.zeros((0, 2), np.uint8)])
def test_what_is_no_image(tmp_path: Path, array: np.ndarray) -> None:
    with open_run(tmp_path, identity()) as run, pytest.raises(ValueError, match="an image must be uint8"):
        run.image("a", array, step=0)


def test_artifacts_stay_or_are_copied_in(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "inner").mkdir(parents=True)
    (outside / "inner" / "b.txt").write_text("b")
    with open_run(tmp_path / "run", identity()) as run:
        (run.folder / "config.json").write_text("{}")
        run.artifact(run.folder / "config.json")
        run.artifact(outside, to="report")
        (run.folder / "link").symlink_to(outside / "inner" / "b.txt")
        run.artifact(run.folder / "link")
        with pytest.raises(FileNotFoundError):
            run.artifact(outside / "nothing")
        for to in ("/etc", "../x", "a/../../b", "a\\b"):
            with pytest.raises(ValueError, match="must be a folder among the run's artifacts"):
                run.artifact(outside, to=to)
    outside.rename(tmp_path / "gone")
    paths = [str(entry["path"]) for entry in recorded(tmp_path / "run", "artifact")]
    assert paths == ["config.json", "artifacts/report/outside", "artifacts/link"]
    assert (tmp_path / "run" / "artifacts/report/outside/inner/b.txt").read_text() == "b"
    assert (tmp_path / "run" / "artifacts/link").read_text() == "b"


def test_members_of_a_long_sweep_and_of_one_that_shrank(tmp_path: Path) -> None:
    sweep = RunIdentity("s", "s", role="sweep", sweep="s")
    with open_run(tmp_path, sweep) as run:
        run.members([f"{number:016x}" for number in range(450)])
    with open_run(tmp_path, sweep) as run:
        run.members(["a", "b"])
    before, after = (tags for tags in recorded(tmp_path, "tags") if "stridelab.members" in tags)
    assert sorted(before) == ["stridelab.members", "stridelab.members.1", "stridelab.members.2"]
    assert max(len(str(text)) for text in before.values()) < 8000, "MLflow cuts longer tags"
    assert after == {"stridelab.members": "a,b", "stridelab.members.1": "", "stridelab.members.2": ""}


def test_runs_that_were_cut_off_are_settled(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    code = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from tracking_stores import identity, leave_result
from stridelab.system.files import write_json_atomic
from stridelab.tracking.run import open_run
opened = []
for number, leaves_result in ((1, False), (2, True)):
    opened.append(open_run(Path({str(runs)!r}) / str(number), identity(number)))
    run = opened[-1].__enter__()
    run.metrics({{"val/acc": 0.5}}, step=0)
    if leaves_result:
        leave_result(run.folder)
os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    with open_run(runs / "3", identity(3)):
        assert read_status(runs / "1") == ("RUNNING", "")
        assert repair(tmp_path) == [runs / "1", runs / "2"], "the third is alive"
    assert read_status(runs / "1") == ("KILLED", "its process ended without a word")
    assert read_status(runs / "2") == ("FINISHED", "")
    assert repair(tmp_path) == []
    assert not settle(tmp_path / "nowhere", status="KILLED", reason="")


def test_recording_is_cheap(tmp_path: Path) -> None:
    """Of this thread's own time, which other load does not lengthen: 13 to 40 us are usual."""
    values = {"train/loss": 0.1, "train/acc": 0.2, "val/loss": 0.3, "val/acc": 0.4}
    with open_run(tmp_path, identity()) as run:
        costs = []
        for step in range(1000):
            start = time.thread_time()
            run.metrics(values, step=step)
            costs.append(time.thread_time() - start)
    assert sorted(costs)[500] < 500e-6


def test_json_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / RESULT
    write_json_atomic(path, {"a": 1})
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_json_atomic(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert os.listdir(tmp_path) == [RESULT]  # noqa: PTH208


def test_recording_needs_nothing_heavy(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from stridelab.tracking.run import RunIdentity, open_run
with open_run(Path({str(tmp_path)!r}), RunIdentity("a", "b")) as run:
    run.metrics({{"a": 1.0}}, step=0)
print([name for name in ("torch", "mlflow", "numpy", "pandas", "PIL", "sqlalchemy") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_torn_end_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with open_run(tmp_path, identity()) as run:
        run.metrics({"a": 1.0}, step=0)
    with (tmp_path / JOURNAL).open("ab") as file:
        file.write(b'{"seq":99,')
    with caplog.at_level(logging.WARNING), open_run(tmp_path, identity()):
        pass
    assert "an interrupted write left 10 bytes" in caplog.text

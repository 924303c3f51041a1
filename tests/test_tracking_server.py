"""A real MLflow server: there, killed in the middle, hung, answering nonsense, and back again."""

from __future__ import annotations

import http.server
import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from stridelab.tracking.find import find_run, find_sweep
from stridelab.tracking.restore import restore
from stridelab.tracking.run import Run, RunIdentity, open_run
from stridelab.tracking.store import Store
from stridelab.tracking.sync import sync
from stridelab.training.result import Result
from tracking_stores import (
    FLUSH_S,
    Server,
    Spec,
    free_port,
    identity,
    images_of,
    mirror_of,
    running_server,
    send,
    stored_points,
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, template: Path) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("server"), template) as server:
        yield server


def train(run: Run, *, first: int = 0, last: int = 400) -> None:
    for step in range(first, last):
        run.metrics({"train/loss": 1 / (step + 1), "val/acc": step / 10}, step=step)


def expected(steps: int = 400) -> list[tuple[str, int, float]]:
    losses = [("train/loss", step, 1 / (step + 1)) for step in range(steps)]
    return losses + [("val/acc", step, step / 10) for step in range(steps)]


def test_a_sweep_goes_to_a_server_and_comes_back(server: Server, tmp_path: Path) -> None:
    store = server.store("roundtrip")
    sweep, folder = tmp_path / "sweeps" / "s1", tmp_path / "runs" / "a"
    with open_run(sweep, RunIdentity("5eed", "s1", role="sweep", sweep="s1")) as parent:
        parent.members([identity().signature])
        parent.tags({"mlflow.note.content": "**note**"})
        with open_run(folder, identity(parent="5eed", sweep="s1", params={"stride_1": 2})) as run:
            train(run, last=20)
            run.dataset(Spec(), "train")
            run.image("feature_maps/01_conv", np.zeros((4, 8), np.uint8), step=3)
            (run.folder / "geometry.json").write_text("[]")
            run.artifact(run.folder / "geometry.json")
    send(store, sweep, folder)
    record = find_sweep(store, "s1")
    assert record.note == "**note**"
    (child,) = record.runs
    assert child.history("val/acc") == [(step, step / 10) for step in range(20)]
    assert child.params == {"stride_1": "2"}
    assert child.artifact("geometry.json").read_text() == "[]", "fetched into a folder of its own"
    copy = child.artifact("geometry.json", into=tmp_path / "copy")
    assert copy == tmp_path / "copy" / "geometry.json"
    assert [name.partition("+timestamp")[0] for name in images_of(child)] == ["images/feature_maps~01_conv+step+3"] * 2
    with pytest.raises(FileNotFoundError, match=r"no artifact nothing\.json"):
        child.artifact("nothing.json")


def test_a_server_killed_in_the_middle_loses_and_doubles_nothing(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture, senders: set[str]
) -> None:
    folder = tmp_path / "runs" / "a"
    with mirror_of(server.store("killed")) as mirror, open_run(folder, identity(90)) as run:
        mirror.watch(folder)
        train(run, last=100)
        assert mirror.flush(FLUSH_S)
        train(run, first=100, last=200)
        server.kill()
        train(run, first=200)
        assert not mirror.flush(1.5)
        server.start()
        server.wait_until_up()
        assert mirror.flush(FLUSH_S)
    assert senders == {"mlflow-mirror"}, "training does not wait for a dead server"
    assert caplog.text.count("does not take runs") == 1
    record = find_run(server.store("killed"))
    assert record.status == "FINISHED"
    assert stored_points(server.database(), record.run_id) == expected()


def test_a_server_that_hangs_holds_nobody_up(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, senders: set[str]
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    folder = tmp_path / "runs" / "a"
    with mirror_of(server.store("hung")) as mirror, open_run(folder, identity(91)) as run:
        mirror.watch(folder)
        train(run, last=50)
        assert mirror.flush(FLUSH_S)
        server.signal(signal.SIGSTOP)
        try:
            train(run)
            assert not mirror.flush(1.5), "a flush ends, though the server does not answer"
        finally:
            server.signal(signal.SIGCONT)
        assert mirror.flush(FLUSH_S)
    assert senders == {"mlflow-mirror"}
    record = find_run(server.store("hung"))
    assert stored_points(server.database(), record.run_id) == expected()


def test_a_server_that_was_never_there_is_told_later(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "runs" / "a"
    away = Store(f"http://user:pa55word@127.0.0.1:{free_port()}", "", "late")
    mirror = mirror_of(away)
    with open_run(folder, identity(92)) as run:
        mirror.watch(folder)
        train(run)
    assert not mirror.close(2)
    assert "does not take runs" in caplog.text
    assert "pa55word" not in caplog.text
    assert sync(server.store("late"), tmp_path, timeout_s=FLUSH_S).complete
    assert stored_points(server.database(), find_run(server.store("late")).run_id) == expected()


ANSWERS = {
    "500": (500, b'{"error_code": "INTERNAL_ERROR", "message": "no"}'),
    "429": (429, b"slow down"),
    "garbage": (200, b"<html>login</html>"),
    "wrong json": (200, b"[1, 2]"),
    "reset": (0, b""),
}


@contextmanager
def stub(status: int, body: bytes) -> Iterator[str]:
    """Answers everything with the same; status 0: it closes the connection without a word."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            if status:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        do_GET = do_POST = answer

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}"
        finally:
            listening.shutdown()
            thread.join()


@pytest.mark.parametrize("answer", ANSWERS)
def test_nonsense_from_a_server_is_neither_believed_nor_fatal(
    tmp_path: Path, answer: str, caplog: pytest.LogCaptureFixture
) -> None:
    with stub(*ANSWERS[answer]) as uri:
        mirror = mirror_of(Store(uri, "", "x"))
        with open_run(tmp_path / "runs" / "a", identity()) as run:
            mirror.watch(tmp_path / "runs" / "a")
            train(run)
            while not mirror._pause.length_s:
                time.sleep(0.01)
            assert not mirror.flush(0.0)
        assert not mirror.close(0)
        assert caplog.text.count(f"{uri} does not take runs") == 1
        with pytest.raises(ValueError, match="cannot be read"):
            find_run(Store(uri, "", "x"))
    assert not (tmp_path / "runs" / "a" / "mirror.json").exists()


@contextmanager
def counting(status: int, *, drip: bool = False) -> Iterator[tuple[str, list[str]]]:
    """Answers everything with `status`; `drip`: a byte at a time, for ever. The paths that were asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.send_header("Content-Length", "100000" if drip else "0")
            self.end_headers()
            while drip and not over.is_set():
                self.wfile.write(b" ")
                over.wait(0.2)

        do_GET = do_POST = answer

        def log_message(self, format: str, *args: object) -> None:
            pass

    over = threading.Event()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        listening.daemon_threads = True
        listening.handle_error = lambda *_: None  # type: ignore[method-assign]
        thread = threading.Thread(target=listening.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}", asked
        finally:
            over.set()
            listening.shutdown()
            thread.join()


def test_a_server_that_answers_500_at_once_is_not_flooded(tmp_path: Path) -> None:
    with counting(500) as (uri, asked):
        mirror = mirror_of(Store(uri, "", "x"))
        with open_run(tmp_path / "runs" / "a", identity()) as run:
            mirror.watch(tmp_path / "runs" / "a")
            train(run)
        assert not mirror.flush(4)
        assert not mirror.close(4)
    assert len(asked) <= 16, "pauses of 0.5, 1, 2 s, in a flush too"


def test_a_server_that_drips_is_given_up_after_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stridelab.tracking.sync.STALLED_S", 1.0)
    with counting(200, drip=True) as (uri, asked):
        mirror = mirror_of(Store(uri, "", "x"))
        with open_run(tmp_path / "runs" / "a", identity()) as run:
            mirror.watch(tmp_path / "runs" / "a")
            train(run)
        while not asked:
            time.sleep(0.01)
        waits, wait = list[float](), mirror._changed.wait
        mirror._changed.wait = lambda timeout: (waits.append(timeout), wait(timeout))[1]  # type: ignore[method-assign]
        assert not mirror.flush(600, patient=False)
        assert not mirror.close(600)
        assert len(waits) < 120, "of half a second: neither waited for what it was given"
    assert len(asked) < 10


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_password_is_said_at_once(tmp_path: Path, status: int) -> None:
    with open_run(tmp_path / "runs" / "a", identity()):
        pass
    with counting(status) as (uri, asked):
        done = sync(Store(uri, "", "x"), tmp_path, timeout_s=600)
    assert not done.complete
    assert "refuses this name and password" in " ".join(done.said)
    assert len(asked) < 10


def test_finished_runs_are_fetched_in_a_few_requests(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.utils import rest_utils

    here, there, store = tmp_path / "here", tmp_path / "there", server.store("fetched")
    for number in (1, 2):
        folder = here / "runs" / identity(number).signature
        digests = {f"{word}_digest": "0" * 64 for word in ("init", "batch_order", "weights")}
        with open_run(folder, identity(number)) as run:
            train(run)
            for step in range(20):
                run.image("map", np.zeros((4, 4), np.uint8), step=step)
            run.tags({f"stridelab.{key}": value for key, value in digests.items()})
            result = {field.name: {} if field.name == "metrics" else None for field in fields(Result)} | digests
            (folder / "result.json").write_text(json.dumps(result))
            run.artifact(folder / "result.json")
            (folder / "maps").mkdir()
            (folder / "maps" / "large.npz").write_bytes(np.random.default_rng(number).bytes(200_000))
            run.artifact(folder / "maps", to="kept")
        send(store, folder)
    asked, real = list[str](), rest_utils.http_request
    monkeypatch.setattr(
        rest_utils, "http_request", lambda *args, **kwargs: (asked.append(str(args[1:2])), real(*args, **kwargs))[1]
    )
    for number in (1, 2):
        record = find_run(store, identity(number).signature)
        assert record.artifact("folder.zip").stat().st_size < 100_000, "large files are not stored twice"
        target = there / "runs" / identity(number).signature
        assert restore(record, target, store=store)
        large = Path("runs", target.name, "maps", "large.npz")
        assert (there / large).read_bytes() == (here / large).read_bytes()
        assert (
            target.joinpath("journal.jsonl").read_bytes()
            == (here / "runs" / target.name / "journal.jsonl").read_bytes()
        )
        assert len(list((target / "images").iterdir())) == 20
    assert len(asked) <= 30
    assert sync(store, there, timeout_s=FLUSH_S).complete
    assert len(find_run(store, identity(1).signature).history("val/acc")) == 400

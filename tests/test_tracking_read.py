"""Finding sweeps and runs, and the way to the MLflow UI."""

from __future__ import annotations

import base64
import json
import os
import shlex
import shutil
import sqlite3
import subprocess
import sys
import zlib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from stridelab.tracking.find import find_run, find_sweep, read_sweep
from stridelab.tracking.links import run_link, sweep_link, sweep_note, ui_base, ui_command
from stridelab.tracking.mlflow_reader import Reader
from stridelab.tracking.relocate import follow_move
from stridelab.tracking.run import RunIdentity, open_run
from stridelab.tracking.settings import TrackingConfig, redact, redact_values, redact_word
from stridelab.tracking.store import Store, connect, resolve_store
from stridelab.tracking.view import view_tag, wish
from tracking_stores import free_port, identity, local_store, rows, send


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, template: Path) -> Store:
    """Three sweeps of two runs each; the names of folders as awkward as SQLite and MLflow bear."""
    folder = tmp_path_factory.mktemp("odd #1 'caf\u00e9'")
    store = local_store(folder / "results", template)
    results = folder / "results"
    for number in range(3):
        sweep = results / "sweeps" / f"s{number}"
        with open_run(sweep, RunIdentity(f"sweep{number}", f"s{number}", role="sweep", sweep=f"s{number}")) as parent:
            parent.tags({"mlflow.note.content": f"question {number}"})
            folders = [results / "runs" / f"{number}{seed}" for seed in range(2)]
            for seed, folder in enumerate(folders):
                one = identity(10 * number + seed, parent=f"sweep{number}", sweep=f"s{number}")
                with open_run(folder, one) as run:
                    for step in range(5):
                        run.metrics({"val/acc": number + seed / 10 + step / 100}, step=4 - step)
                    (run.folder / "maps").mkdir()
                    (run.folder / "maps" / "x.npz").write_text(f"{number}{seed}")
                    run.artifact(run.folder / "maps")
            if number == 1:
                known = [json.loads((folder / "run.json").read_text()) for folder in folders]
                parent.members(
                    [one["signature"] for one in known], uids={one["signature"]: one["uid"] for one in known}
                )
        send(store, sweep, *folders)
    return store


def test_a_sweep_by_name_id_or_as_the_latest(store: Store) -> None:
    latest = find_sweep(store)
    assert (latest.name, latest.note) == ("s2", "question 2")
    assert [run.tags["stridelab.signature"] for run in latest.runs] == [identity(20).signature, identity(21).signature]
    assert find_sweep(store, "s0").name == "s0"
    assert find_sweep(store, find_sweep(store, "s1").run_id).name == "s1"


def test_a_run_by_id_signature_name_or_as_the_latest(store: Store) -> None:
    latest = find_run(store)
    assert latest.tags["stridelab.signature"] == identity(21).signature
    assert find_run(store, latest.run_id) == latest
    assert find_run(store, latest.run_id[:8]) == latest, "as `runs list` shows it"
    assert find_run(store, identity(21).signature) == latest
    assert find_run(store, "strides=1-0 seed=0").tags["stridelab.signature"] == identity(0).signature


def test_what_is_not_found_is_answered_with_what_there_is(store: Store) -> None:
    with pytest.raises(ValueError, match=r"(?s)sweep=s9 is not in .*most recent.*  s2\n.*  s1\n.*  s0$"):
        find_sweep(store, "s9")
    with pytest.raises(ValueError, match=r"(?s)run=it's is not in .*most recent"):
        find_run(store, "it's")
    empty = Store(store.uri, store.artifact_root, "another")
    with pytest.raises(ValueError, match=r"sweep=latest: there is no sweep yet in .*, experiment another\."):
        find_sweep(empty)


def test_no_store_yet_is_said_and_none_is_made(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no store at .*: nothing has been run"):
        find_sweep(resolve_store(TrackingConfig(), results_dir=tmp_path / "results"))
    assert not (tmp_path / "results").exists()
    (tmp_path / "mlflow.db").write_bytes(b"no database " * 100)
    with pytest.raises(ValueError, match="cannot be read: file is not a database"):
        find_sweep(resolve_store(TrackingConfig(), results_dir=tmp_path))


def test_histories_come_in_order_of_steps(store: Store) -> None:
    runs = find_sweep(store, "s1").runs
    assert runs[1].history("val/acc") == [(step, 1 + 1 / 10 + (4 - step) / 100) for step in range(5)]
    assert find_run(store).history("no such metric") == []


def test_odd_values_and_texts_come_back(store: Store, tmp_path: Path) -> None:
    apart = Store(store.uri, store.artifact_root, "apart")
    with suppress(RuntimeError), open_run(tmp_path / "odd", identity(99)) as run:
        run.metrics({"train/loss": float("nan"), "b": float("inf"), "a": float("-inf")}, step=2)
        run.metrics({"train/loss": 1.0, "val/acc": 0.25}, step=1)
        raise RuntimeError("no such luck")
    send(apart, tmp_path / "odd")
    (odd,) = Reader(apart).having({})
    assert {key: str(value) for key, value in odd.metrics.items()} == {
        "a": "-inf", "b": "inf", "train/loss": "nan", "val/acc": "0.25",
    }  # fmt: skip
    assert str(odd.history("train/loss")) == "[(1, 1.0), (2, nan)]"
    assert odd.reason == "RuntimeError: no such luck"
    assert [len(Reader(store).having(tags)) for tags in ({}, {"stridelab.sweep": "s1", "stridelab.role": "run"})] == [
        9,
        2,
    ]
    connect(store).delete_run(odd.run_id)
    assert Reader(apart).having({}) == []


def test_what_the_folders_have_is_read_without_mlflow(store: Store) -> None:
    assert store.database is not None
    code = (
        "import sys; from pathlib import Path; from stridelab.tracking.find import find_sweep; "
        "from stridelab.tracking.store import Store; "
        f"found = find_sweep({store!r}, 's1', results=Path({str(store.database.parent)!r})); "
        "print(len(found.runs[1].history('val/acc')), 'mlflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["5", "False"]


def test_artifacts_are_found_and_nothing_outside_them(store: Store, tmp_path: Path) -> None:
    run = find_run(store)
    assert run.artifacts() == ["maps/x.npz"]
    assert run.artifact("maps/x.npz").read_text() == "21"
    assert run.artifact("maps").is_dir()
    with pytest.raises(FileNotFoundError, match="has no artifact maps/y"):
        run.artifact("maps/y")
    for path in ("../x", "/etc/passwd", "maps/../../x", ""):
        with pytest.raises(ValueError, match="must be a path inside"):
            run.artifact(path)
    (tmp_path / "secret").write_text("secret")
    (run.artifact("maps") / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(FileNotFoundError, match="has no artifact maps/link"):
        run.artifact("maps/link")
    (run.artifact("maps") / "link").unlink()


def test_addresses_become_absolute_and_keep_beside_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    local = resolve_store(TrackingConfig(), results_dir=Path("results"))
    assert local.uri == f"sqlite:///{tmp_path}/results/mlflow.db"
    assert local.artifact_root == f"{tmp_path}/results/artifacts"
    named = resolve_store(TrackingConfig("sqlite:///x/../y/a.db"), results_dir=Path("results"))
    assert (named.uri, named.artifact_root) == (f"sqlite:///{tmp_path}/y/a.db", f"{tmp_path}/y/artifacts")
    served = resolve_store(TrackingConfig("http://127.0.0.1:5000/"), results_dir=Path("results"))
    assert (served.uri, served.artifact_root, served.database) == ("http://127.0.0.1:5000", "", None)
    server = resolve_store(TrackingConfig("postgresql+psycopg2://u:p@h/d"), results_dir=Path("results"))
    assert server.artifact_root == f"{tmp_path}/results/artifacts"
    for odd in ("100%", "what?"):
        with pytest.raises(ValueError, match="cannot hold '%' or '\\?'"):
            resolve_store(TrackingConfig(), results_dir=tmp_path / odd)
    assert os.listdir(tmp_path) == []  # noqa: PTH208


def test_the_experiment_keeps_its_artifacts_beside_the_store(store: Store) -> None:
    experiment = connect(store).get_experiment_by_name("stridelab")
    assert experiment is not None
    assert experiment.artifact_location == Path(store.artifact_root).as_uri()
    assert find_run(store).artifact("maps").is_relative_to(store.artifact_root)


def test_the_command_that_opens_the_store(store: Store) -> None:
    words = shlex.split(ui_command(store, port=5055))
    assert words[:2] == ["DO_NOT_TRACK=true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false"]
    assert words[2].endswith("mlflow")
    assert words[3:] == [
        "ui",
        "--backend-store-uri",
        store.uri,
        "--host",
        "127.0.0.1",
        "--port",
        "5055",
        "--workers",
        "1",
    ]
    assert ui_command(Store("http://u:secret@host:5000", "", "x")) == "http://u:***@host:5000"
    assert ui_base(store) == "http://127.0.0.1:5000"
    assert ui_base(Store("http://host:5000", "", "x")) == "http://host:5000"
    assert ui_base(Store("http://me:secret@host:5000", "", "x")) == "http://host:5000"


@pytest.mark.parametrize("rising", [False, True])
def test_a_prepared_view_has_the_better_runs_first(rising: bool) -> None:
    metric = "test/error_px"
    wished = wish(metric, params=["strides"], epochs="val/loss", smallest_first=rising)
    _, value = view_tag("r", wished, name="a sweep", uid="u", now_ms=0)
    state = json.loads(zlib.decompress(base64.b64decode(json.loads(value)["state"].removeprefix("deflate;"))))
    assert (state["orderByKey"], state["orderByAsc"]) == (f"metrics.`{metric}`", rising)


def test_links_select_the_runs_of_the_sweep_in_the_view_for_training(store: Store) -> None:
    sweep = find_sweep(store)
    link = sweep_link("http://127.0.0.1:5000", experiment_id=sweep.run.experiment_id, run_id=sweep.run_id)
    page, _, query = urlsplit(link).fragment.partition("?")
    assert page == f"/experiments/{sweep.run.experiment_id}/runs"
    asked = {key: value for key, (value,) in parse_qs(query).items()}
    assert asked.pop("workflowType") == "machine_learning"
    assert asked == {
        "searchFilter": f"tags.`mlflow.parentRunId` = '{sweep.run_id}'",
        "orderByKey": "metrics.`val/acc`",
        "orderByAsc": "false",
        "compareRunsMode": "CHART",
    }
    found = connect(store).search_runs([sweep.run.experiment_id], asked["searchFilter"])
    assert {run.info.run_id for run in found} == {run.run_id for run in sweep.runs}
    assert run_link("http://h", experiment_id="1", run_id="r") == (
        "http://h/#/experiments/1/runs/r?workflowType=machine_learning"
    )
    note = sweep_note("Why?", experiment_id="1", run_id=sweep.run_id, num_runs=6)
    charts = f"workflowType=machine_learning&viewStateShareKey=stridelab-{sweep.run_id}&compareRunsMode=CHART"
    assert note.startswith(f"Why?\n\n6 runs [as charts](/#/experiments/1/runs?{charts})")
    assert " " not in note[note.index("(") : note.index(")")], "a blank would end a Markdown link"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql+psycopg2://me:pa:ss@h:5432/db", "postgresql+psycopg2://me:***@h:5432/db"),
        ("tracking.uri=http://u:p@127.0.0.1:5000", "tracking.uri=http://u:***@127.0.0.1:5000"),
        ("https://me:a@b:c@h/x and y@z", "https://me:***@h/x and y@z"),
        ("https://a-token@h/x", "https://***@h/x"),
        ("http://h/x?token=abc&y=1", "http://h/x?token=***&y=1"),
        ("sqlite:////a/b@c:d/mlflow.db", "sqlite:////a/b@c:d/mlflow.db"),
        ("model.strides=[1,2]", "model.strides=[1,2]"),
        ("postgresql+psycopg2://me:pa/ss@h/db", "postgresql+psycopg2://me:***@h/db"),
        ("access_token=abc db-pwd=x1 my.secret=y z", "access_token=*** db-pwd=*** my.secret=*** z"),
        ('{"apiKey": "a b", "passwd":"x\\"y", "seed": 1}', '{"apiKey": "***", "passwd":"***", "seed": 1}'),
        ("  password: hunter2\n  lr: 0.1", "  password: ***\n  lr: 0.1"),
        ("password: |\n  hunter2\nlr: 0.1", "password: ***\nlr: 0.1"),
        ("+passphrase: >-\n+  hunter2\n+lr: 1", "+passphrase: ***\n+lr: 1"),
        (
            "x-api-key: 'hunter2' private_key=a access-key=b passcode=c",
            "x-api-key: '***' private_key=*** access-key=*** passcode=***",
        ),
        ("Authorization: Bearer hunter2", "Authorization: Bearer ***"),
        ("curl -H 'authorization: Basic aHVudGVyMg=='", "curl -H 'authorization: Basic ***'"),
        ("mysql --password hunter2 --host h", "mysql --password *** --host h"),
        ('{"tokens": ["a", "b"], "seed": 1}', '{"tokens": ***, "seed": 1}'),
        ("the bearer of it; monkey=1 keyboard: x", "the bearer of it; monkey=1 keyboard: x"),
    ],
)
def test_passwords_are_not_shown(text: str, shown: str) -> None:
    assert redact(text) == shown


@pytest.mark.parametrize("password", ["pa/ss", "pa ss", "pa'ss", 'pa"s\\s', "p@ss:w", "p%40ss", "caf\u00e9 /"])
def test_a_password_is_hidden_whatever_it_is_made_of(password: str) -> None:
    """In a word of a command, in a configuration, and in what others say about it."""
    uri = f"postgresql+psycopg2://me:{password}@h/db"
    TrackingConfig(uri=uri)
    hidden = "postgresql+psycopg2://me:***@h/db"
    assert redact_word(f"tracking.uri={uri}") == f"tracking.uri={hidden}"
    config = {"tracking": {"uri": uri, "pwd": "x", "lr": 0.1}, "list": [uri, 1]}
    assert redact_values(config) == {"tracking": {"uri": hidden, "pwd": "***", "lr": 0.1}, "list": [hidden, 1]}
    for said in (f"no login with {password!s}", json.dumps({"at": uri}), f"at {quote(password, safe='')}"):
        assert password not in redact(said)
        assert json.dumps(password)[1:-1] not in redact(said)


def test_all_texts_under_a_key_of_secrets_are_hidden_and_its_numbers_are_not() -> None:
    config = {"set": {"private_key": ["a", {"b": "c", "max_tokens": 5}], "width": "w"}, "num_tokens": 7}
    assert redact_values(config) == {
        "set": {"private_key": ["***", {"b": "***", "max_tokens": 5}], "width": "w"}, "num_tokens": 7,
    }  # fmt: skip


@pytest.mark.parametrize(
    "uri",
    ["results", "file:///tmp/x", "databricks://x", "sqlite://", "sqlite:///", "postgresql://u:secret@h/d", " http://h"],
)
def test_addresses_that_are_none(uri: str) -> None:
    with pytest.raises(
        ValueError, match=r"tracking\.uri is not the address of a store.*begin with one of sqlite://"
    ) as caught:
        TrackingConfig(uri=uri)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["", " ", " x", "x\n", "x" * 251])
def test_experiments_that_are_none(name: str) -> None:
    with pytest.raises(ValueError, match=r"tracking\.experiment=.* must be 1 to 250 printable characters"):
        TrackingConfig(experiment=name)


def test_a_database_in_use_can_be_read(store: Store) -> None:
    assert store.database is not None
    with sqlite3.connect(store.database, isolation_level=None) as database:
        database.execute("BEGIN IMMEDIATE")
        try:
            assert find_sweep(store, "s0").runs[0].history("val/acc")
        finally:
            database.execute("ROLLBACK")
    database.close()


def record(folder: Path, one: RunIdentity, accuracy: float) -> None:
    with open_run(folder, one) as run:
        run.metrics({"test/acc": accuracy}, step=1)


def test_runs_that_came_from_elsewhere_never_stand_for_a_sweeps_own(
    tmp_path: Path, template: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The same signature, imported, newer by years: with folders, without, and from a list without uids."""
    store = local_store(tmp_path, template)
    ours, own, sweep = tmp_path / "runs" / identity(1).signature, identity(1), tmp_path / "sweeps" / "s"
    theirs = tmp_path / "runs" / "imported-1"
    listing = RunIdentity("5", "s", role="sweep", sweep="s")
    record(ours, own, 0.586)
    with open_run(sweep, listing) as parent:
        parent.members([own.signature])
    record(theirs, identity(1, tags={"stridelab.imported": "0" * 64}), 0.012)
    imported = tmp_path / "sweeps" / "imported-2"
    record(imported, RunIdentity("6", "s", role="sweep", sweep="s", tags={"stridelab.imported": "0" * 64}), 0.0)
    send(store, sweep, ours, theirs, imported)
    for results in (tmp_path, None):
        for wanted in ("s", "latest"):
            found = find_sweep(store, wanted, results=results)
            assert (found.is_imported, found.folder_name) == (False, "s")
            assert [run.metrics["test/acc"] for run in found.runs] == [0.586]
        assert find_run(store, own.signature, results=results).metrics["test/acc"] == 0.586
        assert find_run(store, "latest", results=results).metrics["test/acc"] == 0.586
    assert "another of that name was imported: sweep=" in caplog.text
    uid = json.loads((ours / "run.json").read_text())["uid"]
    with open_run(sweep, listing) as parent:
        parent.members([own.signature], uids={own.signature: uid})
    send(store, sweep)
    for results in (tmp_path, None):
        assert [run.metrics["test/acc"] for run in find_sweep(store, "s", results=results).runs] == [0.586]
    (id_of_theirs,) = (
        run.run_id for run in Reader(store).having({"stridelab.imported": "0" * 64, "stridelab.role": "sweep"})
    )
    other = find_sweep(store, id_of_theirs, results=tmp_path)
    assert other.is_imported
    assert other.folder_name.startswith("s.imported-")


def test_a_member_that_is_nowhere_is_named_and_not_replaced(tmp_path: Path, template: Path) -> None:
    store = local_store(tmp_path, template)
    sweep = tmp_path / "sweeps" / "s"
    for number in (1, 2):
        record(tmp_path / "runs" / identity(number).signature, identity(number), 0.5)
    with open_run(sweep, RunIdentity("5", "s", role="sweep", sweep="s")) as parent:
        parent.members([identity(number).signature for number in (1, 2, 3)], uids={identity(3).signature: "f" * 32})
    send(store, sweep)
    found = find_sweep(store, "s", results=tmp_path)
    assert (len(found.runs), found.missing) == (2, (identity(3).signature,))


def test_a_store_that_is_away_or_another_does_not_hide_what_the_folders_have(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record(tmp_path / "runs" / identity(1).signature, identity(1), 0.5)
    with open_run(tmp_path / "sweeps" / "s", RunIdentity("5", "s", role="sweep", sweep="s")) as parent:
        parent.members([identity(1).signature])
    for uri in (f"sqlite:///{tmp_path}/none.db", f"http://127.0.0.1:{free_port()}"):
        store = Store(uri, "", "renamed")
        for wanted in ("s", "latest"):
            found = find_sweep(store, wanted, results=tmp_path)
            assert [run.history("test/acc") for run in found.runs] == [[(1, 0.5)]]
        assert read_sweep(tmp_path / "sweeps" / "s", store).name == "s"
        with pytest.raises(ValueError, match=r"sweep=other is not in .*\n .* s$"):
            find_sweep(store, "other", results=tmp_path)
    assert caplog.text.count("from the run folders") == 2


def test_only_our_own_runs_follow_a_results_folder_that_was_moved(tmp_path: Path, template: Path) -> None:
    """In one SQLite file: ours, moved; a colleague's, whose folder is gone too, is full, or was never ours."""
    old = tmp_path / "old"
    store = local_store(old, template)
    record(old / "runs" / "1", identity(1), 0.5)
    send(store, old / "runs" / "1")
    full = tmp_path / "full" / "artifacts"
    full.mkdir(parents=True)
    client = connect(store)
    for name, place in (("gone", tmp_path / "gone" / "artifacts"), ("full", full)):
        client.create_run(client.create_experiment(name, artifact_location=place.as_uri()))
    (old / "artifacts").mkdir(exist_ok=True)
    old.rename(tmp_path / "new")
    moved = resolve_store(TrackingConfig(), results_dir=tmp_path / "new")
    follow_move(moved)
    found = dict(rows(moved, "SELECT e.name, r.artifact_uri FROM runs r JOIN experiments e USING (experiment_id)"))
    assert found["stridelab"].startswith((tmp_path / "new" / "artifacts").as_uri())
    assert found["gone"].startswith((tmp_path / "gone" / "artifacts").as_uri())
    assert found["full"].startswith(full.as_uri())
    before = rows(moved, "SELECT name, artifact_location FROM experiments ORDER BY name")
    follow_move(moved)
    assert rows(moved, "SELECT name, artifact_location FROM experiments ORDER BY name") == before


def test_in_an_experiment_of_ours_and_others_only_our_runs_follow(tmp_path: Path, template: Path) -> None:
    """Also where somebody has chosen another place for the artifacts of ours, and it is there: they stay."""
    old, chosen = tmp_path / "old", tmp_path / "chosen" / "artifacts"
    store = local_store(old, template)
    chosen.mkdir(parents=True)
    client = connect(store)
    client.create_experiment("chosen", artifact_location=chosen.as_uri())
    for number, place in ((1, store), (2, replace(store, experiment="chosen"))):
        record(old / "runs" / str(number), identity(number), 0.5)
        send(place, old / "runs" / str(number))
    theirs = client.create_run(client.get_experiment_by_name("stridelab").experiment_id).info.artifact_uri
    (old / "artifacts").mkdir(exist_ok=True)
    shutil.copytree(old, tmp_path / "copy")
    copied = resolve_store(TrackingConfig(), results_dir=tmp_path / "copy")
    follow_move(copied)
    query = "SELECT t.value, r.artifact_uri FROM runs r LEFT JOIN tags t ON t.run_uuid = r.run_uuid AND t.key = ?"
    found = dict(rows(copied, query, "stridelab.signature"))
    assert found[identity(1).signature].startswith((tmp_path / "copy" / "artifacts").as_uri())
    assert found[identity(2).signature].startswith(chosen.as_uri())
    assert found[None] == theirs
    location = dict(rows(copied, "SELECT name, artifact_location FROM experiments"))
    assert location["stridelab"] == (old / "artifacts").as_uri(), "it is not ours alone"
    assert dict(rows(store, query, "stridelab.signature"))[identity(1).signature].startswith(old.as_uri())

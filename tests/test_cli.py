"""The commands, called in this process as a person calls them: what they answer, and what they refuse."""

from __future__ import annotations

import os
import re
import socket
from importlib import import_module
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest

from report_sweeps import Fake, record_sweep
from stridelab import __version__
from stridelab.cli import main as cli
from stridelab.cli import open_page
from stridelab.cli.program import command, for_reader
from stridelab.sweep.launchers import LAUNCHERS

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder, and the console command."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["/opt/bin/stridelab"])


def run(*arguments: str) -> int:
    try:
        cli.main(arguments)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


REFUSED = {
    "an unknown verb": (["trian"], "'trian' is not a command; choose one of train, plan"),
    "an unknown flag": (["train", "--foo"], "--foo is not a flag; flags: -m, --config-dir DIR"),
    "an abbreviated flag": (["train", "--experimental-r=x.pickle"], "--experimental-r=x.pickle is not a flag"),
    "a flag of plan's": (["plan", "--foo", "seed=0"], "--foo is not a flag"),
    "another program's flag": (["train", "--config-name", "mine"], "say --config-dir DIR experiment=NAME"),
    "completion": (["train", "--shell-completion", "install=bash"], "--help=all lists every key"),
    "Hydra's help": (["train", "--hydra-help"], "--help lists what there is"),
    "Hydra's own configuration": (["train", "--cfg", "all"], "invalid choice: 'all'"),
    "a flag without its folder": (["train", "--config-dir"], "expected one argument"),
    "a part that is none": (["train", "--cfg", "job", "-p", "trainr"], "--package trainr"),
    "-m after the first key": (["train", "model.strides=9", "-m", "model.padding=valid"], "model.strides=9-9-9"),
    "-m at the end": (["train", "model.strides=9,8", "model.padding=valid", "--multirun"], "model.strides=8-8-8"),
    "a sweep without -m": (["train", "model.strides=1,2", "data.root=~/a b"], "stridelab train -m model.strides=1,2"),
    "a launcher that is none": (["train", "launcher=dask"], "launcher=dask is not one of its choices; choose one of"),
    "Hydra's launcher": (["train", "-m", "seed=0,1", "hydra/launcher=basic"], "say launcher= instead"),
    "Hydra's folders": (["train", "hydra.sweep.dir=x"], "say paths.results_dir= instead"),
    "two experiments": (["train", "-m", "experiment=stride_ladder,stem"], "experiment cannot be swept"),
    "two folders of results": (["train", "-m", "paths.results_dir=A,B"], "paths.results_dir=A,B: one path is expected"),
    "two experiments of MLflow": (["train", "-m", "tracking.experiment=e1,e2"], "tracking.experiment cannot be swept"),
    "a long name": (["train", f"task_name={'x' * 300}"], "100 at most"),
    "an odd share of a batch": (["train", "trainer.devices=3"], "must be a multiple of trainer.devices=3"),
    "an absent checkpoint": (["train", "ckpt_path=a/epoch=1.ckpt"], "ckpt_path=a/epoch=1.ckpt cannot be read"),
    "a folder that is not there": (["data", "data=image_folder", "data.root=~/no such é"], "no such é"),
    "two data sets": (["data", "data=mnist,kmnist"], "one configuration is expected here, and these are 2"),
    "-m where it means nothing": (["compare", "-m"], "'-m' is not of the form key=value"),
    "a wrong key": (["train", "model.strid=1"], "model.strid is not a key. Did you mean model.strides?"),
    "a wrong type": (["train", "trainer.lr=fast"], "trainer.lr=fast: a number is expected, or null."),
    "stride 0": (["train", "model.strides=[1,0,2]"], "model.strides[1]=0 must be a whole number of at least 1."),
    "a negative stride": (["train", "model.strides=-1"], "model.strides=-1 must be a whole number of at least 1."),
    "too few strides": (["train", "model.strides=[1,2]"], "has 2 entries, but model.channels has 3 layers"),
    "unknown padding": (["train", "model.padding=smae"], "model.padding='smae' is not a padding policy; choose one of"),
    "a collapsing map": (["train", "model.strides=9", "model.padding=valid"], "model.strides=9-9-9 "),
    "reflection too wide": (["train", "model.padding=28", "model.padding_mode=reflect"], "layer 'conv1'"),
    "circular too wide": (["train", "model.padding=29", "model.padding_mode=circular"], "layer 'conv1'"),
    "a missing data set": (["train", "data=mnist", "data.download=false"], "the files of this data set were not found"),
    "a grid without -m": (["train", "model.strides=[1,1,1],[1,2,2]"], "name 2 runs; add -m"),
    "a bad point of a grid": (["train", "-m", "model.strides=2,0"], "model.strides=0 must be a whole number"),
    "only impossible points": (["train", "-m", "model.strides=9,8", "model.padding=valid"], "model.strides=8-8-8"),
    "stop on an impossible one":
        (["train", "-m", "model.strides=1,9", "model.padding=valid", "on_invalid=stop"], "map of 1x1"),
    "a lonely last image":
        (["train", "model.strides=4", "data.train_size=257", "trainer.batch_size=64"], "one of the 257"),
    "a folder that cannot be": (["train", "paths.results_dir=/dev/null/x"], "results_dir=/dev/null/x cannot be made"),
    "a store deeper than SQLite opens":
        (["train", f"paths.results_dir={'/'.join(['d' * 200] * 3)}"], "a SQLite store has 504 bytes at most"),
    "a folder that is no text":
        (["train", "paths.results_dir=a\udcff"], r"results_dir='a\udcff' must be text in UTF-8"),
    "an escape in a key": (["train", "model.\x1b[2Jx=1"], r"model.\x1b[2Jx=1"),
    "an escape in a value": (["plan", "seed=\x9b31m"], r"seed=\x9b31m"),
    "an escape in a flag": (["compare", "--\u202ex"], r"--\u202ex"),
    "an archive that is a folder": (["runs", "import", "from=/tmp"], "/tmp is not a file"),
    "an archive that is a device": (["runs", "import", "from=/dev/zero"], "/dev/zero is not a file"),
    "an archive at an address": (["runs", "import", "from=http://h/x.zip"], "http:/h/x.zip is not a file"),
    "a store that is a folder": (["runs", "list", "tracking.uri=sqlite:////tmp"], "store /tmp is not a file"),
    "an unknown action": (["runs", "lits"], "'lits' is not one of list, best, show, diff, delete, ui, sync, export"),
    "a key of reproduce's": (["reproduce", "seed=1"], "what decides the result comes from the run itself"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_mistake_gets_one_error_and_creates_nothing(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, said = REFUSED[case]
    assert run(*arguments) == 1
    out, err = capsys.readouterr()
    assert said in err
    assert err.startswith("error: ")
    assert "Traceback" not in out + err
    assert not [character for character in out + err if not (character.isprintable() or character == "\n")]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["runs", "import", "from={}"],
        ["train", "ckpt_path={}"],
        ["runs", "list", "tracking.uri=sqlite:///{}"],
    ],
)
def test_a_pipe_is_refused_and_not_waited_for(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert run(*(word.format(tmp_path / "pipe") for word in arguments)) == 1
    assert "pipe is not a file" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["pipe"]  # noqa: PTH208


def test_ctrl_c_while_a_command_loads_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("stridelab.config.axes.expand", interrupted)
    assert run("train", "seed=0") == 130
    assert capsys.readouterr().err == "Interrupted.\n"


PRINTS = {
    "usage": ["--help"],
    "version": ["--version"],
    "a verb's help": ["runs", "--help"],
    "a table": ["train", "--help"],
    "a configuration": ["train", "--cfg", "job"],
    "a plan": ["plan"],
}


@pytest.mark.parametrize("arguments", PRINTS.values(), ids=PRINTS)
def test_a_reader_that_leaves_ends_a_command_quietly_and_a_full_disk_is_said(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as pipe:
        monkeypatch.setattr("sys.stdout", pipe)
        assert run(*arguments) == 141
    assert capsys.readouterr().err == ""
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr("sys.stdout", full)
        assert run(*arguments) == 1
    assert capsys.readouterr().err == "error: No space left on device.\n"


def test_a_file_that_the_system_refuses_is_named_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "results").touch()
    monkeypatch.setattr("stridelab.cli.compare.compare", lambda _: (tmp_path / "results" / "reports").mkdir())
    assert run("compare") == 1
    assert capsys.readouterr().err == f"error: {tmp_path}/results/reports: Not a directory.\n"


def test_a_terminal_without_utf_8_costs_signs_not_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = BytesIO()
    monkeypatch.setattr("sys.stdout", TextIOWrapper(seen, encoding="ascii"))
    monkeypatch.setattr("stridelab.cli.compare.compare", lambda _: print("22.1 \u00b1 0.5"))
    assert run("compare") == 0
    assert seen.getvalue() == b"22.1 ? 0.5\n"


def test_questions_are_answered_and_create_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said in {
        (): "stridelab train ",
        ("--help",): "stridelab reproduce ",
        ("--version",): f"stridelab {__version__}\n",
        ("train", "--version"): f"stridelab {__version__}\n",
        ("train", "--info"): "configurations: ",
        ("train", "seed=0", "--help"): "trainer.max_epochs",
        ("train", "--help=all"): "trainer.momentum",
        ("train", "--cfg", "job"): "max_epochs: 5",
        ("train", "trainer.max_epochs=7", "--cfg=job"): "max_epochs: 7",
        ("train", "-c", "job", "experiment=stride_ladder"): "task_name: stride_ladder",
        ("train", "--cfg", "job", "--package", "trainer"): "# @package trainer\nmax_epochs: 5",
        ("train", "--cfg", "job", "-p", "trainer.momentum"): "0.9\n",
        ("plan", "model.strides=1,2", "-m", "format=csv"): "strides",
        ("compare", "--help"): "stridelab compare baseline=",
        ("runs",): "stridelab runs sync",
        ("data", "-h"): "stridelab data data=mnist data.root=~/datasets",
        ("reproduce", "-h"): "stridelab reproduce dry=true",
        ("ui", "--help"): "stridelab runs ui",
    }.items():
        assert run(*arguments) == 0, arguments
        answer = capsys.readouterr()
        assert said in answer.out, arguments
        assert answer.err == "", arguments
    assert list(tmp_path.iterdir()) == []


def test_every_verb_has_its_module_and_every_script_its_verb() -> None:
    for verb in cli.VERBS:
        assert callable(import_module(f"stridelab.cli.{verb}").main)
    for path in ROOT.glob("scripts/*.py"):
        if "stridelab.cli" in path.read_text():
            (verb,) = re.findall(r"from stridelab\.cli\.(\w+) import main", path.read_text())
            assert verb in cli.VERBS


@pytest.mark.parametrize(
    ("program", "train", "data"),
    [
        ("/opt/bin/stridelab", "stridelab train", "stridelab data"),
        ("train.py", "python train.py", "python scripts/get_data.py"),
        ("/home/a/scripts/runs.py", "python train.py", "python scripts/get_data.py"),
    ],
)
def test_messages_name_the_command_that_the_reader_has(
    program: str, train: str, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", [program])
    assert (command("train"), command("data")) == (train, data)
    said = for_reader("first stridelab data data=mnist, then `stridelab train -m`; stridelab.science stays")
    assert said == f"first {data} data=mnist, then `{train} -m`; stridelab.science stays"


def test_a_script_says_how_to_run_scripts(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["train.py"])
    assert run("train", "seed=0,1", "model.strides=[1,1,1]") == 1
    assert "python train.py -m seed=0,1 'model.strides=[1,1,1]'" in capsys.readouterr().err


def test_no_room_below_the_commands_knows_a_script() -> None:
    for path in (ROOT / "src/stridelab").rglob("*.py"):
        if "cli" not in path.parts:
            assert not re.search(r"python scripts/|scripts/(?!make_)\w+\.py", path.read_text()), path


def test_the_launchers_are_named_in_the_help() -> None:
    from stridelab.cli.help import described
    from stridelab.config import Config

    (meaning,) = (meaning for key, _, meaning in described(Config) if key == "launcher.name")
    assert all(name in meaning for name in LAUNCHERS)


def test_the_pages_want_a_free_port(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert run("ui", f"tracking.port={port}") == 1
    assert f"tracking.port={port} cannot be had (Address already in use); give another one." in capsys.readouterr().err


def test_the_pages_of_a_server_are_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("runs", "ui", "tracking.uri=http://me:secret@127.0.0.1:5001") == 0
    out = capsys.readouterr().out
    assert "http://127.0.0.1:5001" in out
    assert "secret" not in out


def test_the_pages_open_at_the_newest_sweep_once_the_server_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The server and the browser are programs of others: what they are called with is what is tested."""
    _, sweep = record_sweep(tmp_path / "results", [Fake("1-1-1", 0, acc=0.8)], name="newest")
    called: list[list[str]] = []
    monkeypatch.setattr("stridelab.cli.runs.os.execvpe", lambda program, words, settings: called.append(words))
    monkeypatch.setattr("stridelab.cli.runs.subprocess.Popen", called.append)
    monkeypatch.setenv("DISPLAY", ":0")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert run("ui", f"tracking.port={port}") == 0
    browser, server = called
    assert "ui" in server
    assert sweep.run_id in browser[-2]
    assert browser[-2] in capsys.readouterr().out
    opened: list[str] = []
    monkeypatch.setattr("stridelab.cli.open_page.webbrowser.open", opened.append)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        open_page.main("http://127.0.0.1/#/there", listening.getsockname()[1])
    assert opened == ["http://127.0.0.1/#/there"]

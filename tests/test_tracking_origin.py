"""Signatures and provenance: what makes runs the same, and what is kept of where they come from."""

from __future__ import annotations

import doctest
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stridelab.tracking.provenance import (
    cpu_facts,
    environment,
    git_diff,
    git_state,
    machine,
    platform_difference,
    platform_of,
    provenance,
    stored_platform,
    torch_facts,
)
from stridelab.tracking.signature import PACKAGE, TRAINING_CODE, code_digest, digest_files, signature
from stridelab.training.runtime import prepare_process
from stridelab.training.settings import TrainerConfig

leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
configs = st.dictionaries(
    st.text(max_size=8),
    st.recursive(leaves, lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=5), x, max_size=3)),
    max_size=5,
)


def sign(config: dict[str, Any], data: str = "d", code: str = "c") -> str:
    return signature(config, data_digest=data, code_digest=code)


def shuffled(value: Any) -> Any:
    """The same configuration, its keys the other way round and its lists as tuples."""
    if isinstance(value, dict):
        return {key: shuffled(value[key]) for key in reversed(value)}
    return tuple(map(shuffled, value)) if isinstance(value, list) else value


@given(configs)
def test_a_signature_is_of_the_content(config: dict[str, Any]) -> None:
    assert sign(config) == sign(shuffled(config))
    assert sign(config) == sign(json.loads(json.dumps(config)))


@given(configs, configs)
def test_other_content_has_another_signature(one: dict[str, Any], other: dict[str, Any]) -> None:
    canonical = [json.dumps(config, sort_keys=True) for config in (one, other)]
    assert (sign(one) == sign(other)) == (canonical[0] == canonical[1])


def test_the_documented_example() -> None:
    assert doctest.testmod(sys.modules["stridelab.tracking.signature"]).failed == 0


def test_what_a_signature_hangs_on() -> None:
    config = {"model": {"strides": [1, 2]}, "lr": 0.1, "seed": 0}
    variants = [
        sign(config),
        sign(config, data="e"),
        sign(config, code="e"),
        sign(config | {"seed": 1}),
        sign(config | {"seed": 0.0}),
        sign(config | {"seed": False}),
        sign(config | {"seed": "0"}),
        sign(config | {"model": {"strides": [2, 1]}}),
    ]
    assert len(set(variants)) == len(variants)
    assert all(len(one) == 16 and int(one, 16) >= 0 for one in variants)


def test_signatures_do_not_change_between_versions_by_accident() -> None:
    """A change here makes every stored run foreign to its own configuration."""
    assert sign({"seed": 0, "model": {"strides": [1, 2, 2], "padding": "half"}, "lr": 0.1}) == "5e911c5cb968751c"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"a": {"b": [1, Path("x")]}}, r"config\.a\.b\[1\]=PosixPath\('x'\) is a PosixPath"),
        ({"a": {1: 2}}, r"config\.a has the key 1"),
        ({"a": b"x"}, r"config\.a=b'x' is a bytes"),
    ],
)
def test_what_cannot_be_signed(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sign(config)


def test_code_digests_see_every_training_source_and_nothing_else(tmp_path: Path) -> None:
    for name in ("a/x.py", "a/b/y.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"one\ntwo\n")

    def digest() -> str:
        return digest_files(tmp_path, tmp_path.rglob("*.py"))

    before = digest()
    (tmp_path / "a/x.py").write_bytes(b"one\r\ntwo\r\n")
    assert digest() == before, "line ends do not train"
    (tmp_path / "a/x.py").write_bytes(b"one\nTwo\n")
    changed = digest()
    assert changed != before
    (tmp_path / "a/x.py").rename(tmp_path / "a/z.py")
    assert digest() not in (before, changed)
    assert digest_files(PACKAGE, (path for room in TRAINING_CODE for path in (PACKAGE / room).rglob("*.py"))) == (
        code_digest()
    )
    assert all((PACKAGE / room / "__init__.py").exists() for room in TRAINING_CODE)


def git(folder: Path, *words: str) -> None:
    who = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
    subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True, env=os.environ | who)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A git tree with a package in src/pack; returns the package."""
    package = tmp_path / "tree" / "src" / "pack"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("a = 1\n")
    (package.parents[1] / ".gitignore").write_text("ignored.py\n")
    git(package.parents[1], "init", "--initial-branch", "trunk")
    git(package.parents[1], "add", ".")
    git(package.parents[1], "commit", "-m", "x")
    return package


def test_a_clean_tree(tree: Path) -> None:
    state = git_state(tree)
    assert len(state["commit"]) == 40
    assert (state["branch"], state["dirty"]) == ("trunk", False)
    assert git_diff(tree) == ""


def test_the_diff_brings_a_clone_to_the_same_state(tree: Path, tmp_path: Path) -> None:
    top = tree.parents[1]
    for option in ("diff.noprefix", "diff.mnemonicPrefix", "color.ui"):
        git(top, "config", option, "always" if option == "color.ui" else "true")
    git(top, "clone", str(top), str(tmp_path / "clone"))
    (tree / "__init__.py").write_text("a = 2\n")
    (tree / "new caf\u00e9.py").write_text("b = 1\n")
    (tree / "ignored.py").write_text("no\n")
    (top / "data.bin").write_bytes(b"\0" * 1000)
    (top / ".env").write_text("TOKEN=secret\n")
    (tree / "huge.py").write_text("#" * 300_000)
    (tree / "link.py").symlink_to("/etc/passwd")
    assert git_state(tree)["dirty"]
    diff = git_diff(tree)
    assert "secret" not in diff
    (tmp_path / "x.diff").write_text(diff)
    git(tmp_path / "clone", "apply", str(tmp_path / "x.diff"))
    clone = tmp_path / "clone" / "src" / "pack"
    assert {path.name: path.read_text() for path in clone.iterdir()} == {
        "__init__.py": "a = 2\n",
        "new caf\u00e9.py": "b = 1\n",
    }


@pytest.mark.parametrize("password", ["plain-Words", "pa/ss", "pa ss", "p@ss:w", "it''s", "#x {y}"])
def test_passwords_are_in_no_diff(tree: Path, password: str) -> None:
    """Of addresses that this process was never given: in files that changed, in new ones of the package, in code; and
    new files elsewhere are not in it at all."""
    top, uri = tree.parents[1], f"postgresql+psycopg2://me:{password}@h/db"
    texts = {
        "plain.yaml": f"uri: {uri}",
        "nested.yaml": f"tracking:\n  - uri: '{uri}'  # ours\n  db_password: {password}",
        "data.json": f'{{"seed": 1, "uri": "{uri}", "apiToken": "{password}"}}',
        "some.toml": f'uri = "{uri}"',
        "code.py": f'URI, SEED = "{uri}", 1',
    }
    for name in texts:
        (top / name).write_text("seed: 0\n")
    git(top, "add", ".")
    git(top, "commit", "-m", "y")
    for name, text in texts.items():
        (top / name).write_text(f"{text}\n")
        (tree / f"new_{name}").write_text(f"{text}\n")
        (top / f"elsewhere_{name.removesuffix('.py')}").write_text(f"{text}\n")
    diff = git_diff(tree)
    assert password not in diff
    assert diff.count("postgresql+psycopg2://me:***@h/db") == 2 * len(texts) - 1, "JSON is of no suffix that is taken"
    assert "new_plain.yaml" in diff
    assert "elsewhere" not in diff


def test_a_long_diff_is_cut_and_says_so(tree: Path) -> None:
    for number in range(12):
        (tree / f"new{number}.py").write_text("x = 1\n" * 30_000)
    diff = git_diff(tree)
    assert len(diff) < 1_000_100
    assert diff.endswith("# cut here: the whole is longer than 1 MB\n")


def test_an_installed_package_has_no_commit_even_inside_a_tree(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = tree.parents[1] / "venv" / "pack"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("")
    nothing = {"commit": "", "branch": "", "dirty": False}
    assert git_state(installed) == nothing
    assert git_diff(installed) == ""
    monkeypatch.setenv("PATH", "")  # no git at all
    assert git_state(tree) == nothing


def test_a_tree_without_commits_or_with_a_detached_head(tree: Path, tmp_path: Path) -> None:
    git(tree, "checkout", "--detach")
    assert git_state(tree)["branch"] == ""
    assert len(git_state(tree)["commit"]) == 40
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    (fresh / "__init__.py").write_text("")
    git(fresh, "init")
    git(fresh, "add", ".")
    assert git_state(fresh)["commit"] == ""


def test_only_variables_on_the_list_are_kept() -> None:
    variables = {"OMP_NUM_THREADS": "2", "CUBLAS_WORKSPACE_CONFIG": ":4096:8", "PYTHONHASHSEED": "0"}
    secret = {"AWS_SECRET_ACCESS_KEY": "x", "MLFLOW_TRACKING_PASSWORD": "x", "HOME": "/x", "MY_OMP_TOKEN": "x"}
    assert environment(variables | secret) == dict(sorted(variables.items()))


def test_the_files_that_every_run_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "tracking.uri=postgresql+psycopg2://me:secret@h/d"])
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "secret")
    files = provenance()
    assert "secret" not in "".join(files[name] for name in files if name != "uncommitted.diff")
    facts = json.loads(files["provenance.json"])
    assert facts["argv"] == ["train.py", "tracking.uri=postgresql+psycopg2://me:***@h/d"]
    assert facts["python"]["version"] == ".".join(map(str, sys.version_info[:3]))
    assert facts["machine"]["cores"] == os.cpu_count()
    listed = dict(line.split("==") for line in files["requirements.txt"].splitlines())
    assert listed["mlflow"] == "3.17.2"
    assert listed["torch"].startswith("2.")


def test_the_machine() -> None:
    facts = machine()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["memory_mib"] > 100
    assert not {os.uname().nodename} & set(map(str, facts.values())), "no host name"


def test_a_cpu_of_each_kind(tmp_path: Path) -> None:
    flags = "flags\t\t: fpu vme avx avx2 avx512_bf16 fma sse4_2 xyz"
    (tmp_path / "x86").write_text(f"processor: 0\nmodel name\t: Fast CPU @ 3GHz\n{flags}\n\nprocessor: 1\n")
    assert cpu_facts(tmp_path / "x86") == {
        "model": "Fast CPU @ 3GHz",
        "flags": ["avx", "avx2", "avx512_bf16", "fma", "sse4_2"],
    }
    (tmp_path / "arm").write_text("processor\t: 0\nFeatures\t: fp asimd sve sve2 crc32\n")
    assert cpu_facts(tmp_path / "arm") == {"model": "", "flags": ["asimd", "sve", "sve2"]}
    assert cpu_facts(tmp_path / "none") == {"model": "", "flags": []}


def test_torch_is_asked_only_where_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.delitem(sys.modules, "torch", raising=False)
        assert torch_facts() == {}
    import torch

    facts = torch_facts()
    assert facts["threads"] == torch.get_num_threads()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["device"] == "cpu"
    assert facts["cudnn"] == torch.backends.cudnn.version()


@pytest.mark.parametrize("allowed", [True, False])
def test_tf32_is_what_the_trainer_was_told(allowed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"Card of {device}")
    prepare_process(TrainerConfig(tf32=allowed))
    assert torch_facts("cuda:0")["tf32"] == allowed
    assert torch_facts("cuda:0")["device"] == "Card of cuda:0"
    assert torch.backends.cudnn.allow_tf32 == torch.backends.cuda.matmul.allow_tf32 == allowed
    assert torch.get_float32_matmul_precision() == ("high" if allowed else "highest"), "which Lightning asks of a GPU"
    assert torch.backends.mkldnn.matmul.fp32_precision == "none", "the processor's own stays"
    prepare_process(TrainerConfig())


CARD = "NVIDIA H100 80GB HBM3, 580.159.04, 81559 MiB"


def origin_of(*gpus: str, cpu: str = "EPYC", wheels: str = "", **environment: str) -> dict[str, str]:
    machine = {"cpu": cpu, "cpu_flags": ["avx2"], "gpus": list(gpus)}
    facts = {"machine": machine, "environment": environment}
    return {"provenance.json": json.dumps(facts), "requirements.txt": f"torch==2.14.1\n{wheels}"}


@pytest.mark.parametrize(
    ("accelerator", "one", "other", "differs"),
    [
        ("cpu", origin_of(), origin_of(CARD, NVIDIA_TF32_OVERRIDE="0", wheels="nvidia-cublas==13.1\n"), ""),
        ("cpu", origin_of(), origin_of(cpu="Xeon"), "CPU EPYC, here Xeon"),
        ("cpu", origin_of(), origin_of(ATEN_CPU_CAPABILITY="avx2"), "ATEN_CPU_CAPABILITY not set, here avx2"),
        ("mps", origin_of(cpu="M3"), origin_of(cpu="M4"), "CPU M3, here M4"),
        ("gpu", origin_of(CARD), origin_of(CARD, CARD, cpu="Xeon", CUBLAS_WORKSPACE_CONFIG=":4096:8"), ""),
        (
            "gpu",
            origin_of(CARD),
            origin_of(CARD.replace("H100", "H200")),
            "GPU NVIDIA H100 80GB HBM3, here NVIDIA H200",
        ),
        ("gpu", origin_of(CARD), origin_of(CARD.replace("580", "590")), "driver 580.159.04, here 590.159.04"),
        (
            "gpu",
            origin_of(CARD, wheels="nvidia-cudnn-cu13==9.24\nnvidia-nccl-cu13==2.30\n"),
            origin_of(CARD, wheels="nvidia-cudnn-cu13==9.25\nnvidia-nccl-cu13==2.31\n"),
            "nvidia-cudnn-cu13 9.24, here 9.25",
        ),
        ("gpu", origin_of(CARD), origin_of(CARD, NVIDIA_TF32_OVERRIDE="0"), "NVIDIA_TF32_OVERRIDE not set, here 0"),
        ("auto", origin_of(), origin_of(CARD), "CPU EPYC, here not set"),
        ("gpu", {}, origin_of(CARD), ""),
    ],
)
def test_a_platform_is_what_decides_the_bits_of_the_run(
    accelerator: str, one: dict[str, str], other: dict[str, str], differs: str
) -> None:
    found = platform_difference(platform_of(one, accelerator=accelerator), platform_of(other, accelerator=accelerator))
    assert found.startswith(differs)
    assert bool(found) == bool(differs)


def test_the_platform_of_an_earlier_version_is_no_other_one(tmp_path: Path) -> None:
    """Its provenance had the same lines of nvidia-smi, and its torch.json neither a device nor TF32."""
    here = origin_of(CARD, wheels="nvidia-cudnn-cu13==9.24\n")
    for name, content in (here | {"torch.json": '{"version": "2.14.1", "cuda": "13.0"}'}).items():
        (tmp_path / name).write_text(content)
    for accelerator in ("cpu", "gpu", "auto"):
        stored = stored_platform(tmp_path, accelerator=accelerator)
        assert stored
        assert platform_difference(stored, platform_of(here, accelerator=accelerator)) == ""

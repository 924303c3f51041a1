"""No configuration can run code, read the environment or bring other configurations; what is installed is pinned."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from stridelab.cli.flags import parse
from stridelab.config import compose, expand, load

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("task_name=${oc.env:HOME}", "not replaced"),
        ("tags=[${oc.env:HOME}]", "not replaced"),
        ("seed=${now:%S}", "not replaced"),
        ("seed=0,${oc.decode:1}", "not replaced"),
        ("data.root=${hydra:runtime.cwd}", "not replaced"),
        ("model._target_=os.system", "_target_"),
        ("hydra.launcher._target_=os.system", "_target_"),
        ("hydra.sweeper={_target_: os.system}", "_target_"),
        ("+hydra.callbacks.x._target_=os.system", "_target_"),
        ("hydra.callbacks={x: 1}", "only composes"),
        ("hydra.job.env_set={LD_PRELOAD: x.so}", "only composes"),
        ("+hydra.job.env_set.LD_PRELOAD=x.so", "not added"),
        ("hydra.job_logging={version: 1}", "only composes"),
        ("hydra/job_logging=default", "only composes"),
        ("hydra.searchpath=[file:///tmp]", "say --config-dir DIR"),
        ("hydra.launcher={}", "say launcher="),
    ],
)
def test_an_argument_cannot_run_code_or_read_the_environment(argument: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        load([argument])


@pytest.mark.parametrize("flag", ["--config-path=x", "-cp", "--config-name=y", "-cn", "--experimental-rerun=x"])
def test_a_flag_that_would_bring_another_configuration_says_what_to_use(flag: str) -> None:
    with pytest.raises(ValueError, match=r"--config-dir DIR|stridelab reproduce"):
        parse([flag, "seed=0"])


@pytest.mark.parametrize("flag", ["--experimental-r=x", "--experimental=x", "--config-n=y", "--config-p", "--mult"])
def test_no_flag_can_be_abbreviated(flag: str) -> None:
    """argparse would take --experimental-r=FILE for Hydra's --experimental-rerun, which loads a pickle."""
    with pytest.raises(ValueError, match="is not a flag"):
        parse(["seed=0", flag])


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    shutil.copytree(compose.CONF, tmp_path / "conf")
    monkeypatch.setattr(compose, "CONF", tmp_path / "conf")
    for cached in (compose.composed, compose.base, compose.is_group):
        cached.cache_clear()
    yield tmp_path / "conf"
    for cached in (compose.composed, compose.base, compose.is_group):
        cached.cache_clear()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("hydra:\n  callbacks:\n    x:\n      _target_: os.system\n      command: id", "_target_"),
        ("hydra:\n  launcher:\n    _target_: os.system", "_target_"),
        ("hydra:\n  sweeper:\n    _target_: builtins.print", "_target_"),
        ("hydra:\n  job:\n    env_set:\n      LD_PRELOAD: x.so", "env_set"),
        ("hydra:\n  job:\n    env_copy: [HOME]", "env_"),
        ("hydra:\n  searchpath: ['file:///tmp']", "searchpath"),
        ("hydra:\n  job_logging:\n    handlers:\n      x:\n        (): os.system\n        command: id", "job_logging"),
        ("task_name: ${oc.env:HOME}", "resolvers are not called"),
        ("tags: ['${oc.env:HOME}']", "resolvers are not called"),
        ("hydra:\n  sweeper:\n    params:\n      task_name: ${oc.env:HOME}", "resolvers are not called"),
    ],
)
def test_an_experiment_that_somebody_sent_cannot_either(conf: Path, content: str, said: str) -> None:
    (conf / "experiment" / "sent.yaml").write_text(f"# @package _global_\n{content}\n")
    with pytest.raises(ValueError, match=said):
        list(expand(["experiment=sent"]))


def test_a_harmless_experiment_passes(conf: Path) -> None:
    (conf / "experiment" / "sent.yaml").write_text(
        "# @package _global_\ntask_name: theirs\nhydra:\n  sweeper:\n    params:\n      seed: 0,1\n"
    )
    assert [job.config.seed for job in expand(["experiment=sent"]) if job.config] == [0, 1]


def test_every_dependency_is_pinned_with_hashes() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    blocks = re.split(r"\n(?=[A-Za-z0-9])", re.sub(r"^#.*\n", "", lock, flags=re.M).strip())
    assert len(blocks) > 100
    for block in blocks:
        assert re.match(r"[\w.-]+==[\w.+!-]+", block), block.splitlines()[0]
        assert "--hash=sha256:" in block, block.splitlines()[0]


def test_no_range_admits_the_malicious_versions_of_lightning() -> None:
    """2.6.2 and 2.6.3 of the package `lightning` (not pytorch-lightning) were malware."""
    lock = (ROOT / "requirements.lock").read_text()
    assert not re.search(r"^lightning==", lock, re.M)
    wanted = [Requirement(text) for dist in metadata.distributions() for text in dist.requires or ()]
    assert len(wanted) > 200
    for requirement in wanted:
        if requirement.name.lower() == "lightning" and not requirement.marker:
            assert not any(requirement.specifier.contains(bad) for bad in ("2.6.2", "2.6.3")), requirement

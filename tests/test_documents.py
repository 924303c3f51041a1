"""What is written down is true: commands compose, targets exist, the wheel holds what it needs."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from stridelab.config import expand

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TRAIN = re.compile(r"python train\.py ((?:[^`#\n])+)")


def train_commands() -> list[str]:
    pages = [*PAGES, ROOT / "Makefile", *sorted((ROOT / "conf" / "experiment").glob("*.yaml"))]
    found = {match.strip() for page in pages for match in TRAIN.findall(page.read_text())}
    return sorted(command for command in found if "..." not in command and "key=value" not in command)


@pytest.mark.parametrize("command", train_commands())
def test_every_documented_training_command_composes(command: str) -> None:
    overrides = [word for word in shlex.split(command) if not word.startswith("-") and "=" in word]
    jobs = list(expand(overrides))
    assert jobs
    assert [job.error for job in jobs if job.error] == []


def test_there_are_documented_commands() -> None:
    assert len(train_commands()) >= 4


def overrides_in_readme() -> list[str]:
    cells = re.findall(
        r"`'?((?:model|data|trainer|seed|debug|experiment|tracking)[.\w]*=[^`']+?)'?`", PAGES[0].read_text()
    )
    return sorted(set(cells))


@pytest.mark.parametrize("text", overrides_in_readme())
def test_every_override_that_the_readme_shows_composes(text: str) -> None:
    jobs = list(expand(shlex.split(text) if " " in text else [text]))
    wrong_length = "give one entry a layer"  # `model.channels=` needs strides to match, as the README says
    assert [job.error for job in jobs if job.error and wrong_length not in job.error] == []


def test_every_make_target_that_is_mentioned_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.M))
    mentioned = {
        target for page in PAGES for target in re.findall(r"(?:`|^ {4})make ([a-z-]+)", page.read_text(), re.M)
    }
    assert {"setup", "sweep", "test", "check", "ui", "data", "notebook", "clean"} <= targets
    assert mentioned <= targets


def test_every_script_that_is_mentioned_exists() -> None:
    pages = [*PAGES, ROOT / "Makefile"]
    scripts = {name for page in pages for name in re.findall(r"scripts/(\w+\.py)", page.read_text())}
    assert scripts
    assert all((ROOT / "scripts" / name).exists() for name in scripts)


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_wheel_works_from_any_folder(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(wheel)], check=True, capture_output=True)
    code = (
        "import stridelab; from stridelab.cli.train import main;"
        f"assert stridelab.__file__.startswith({str(site)!r}); main()"
    )
    arguments = ["debug=fdr", "paths.results_dir=out"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=elsewhere,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "test accuracy" in done.stdout

"""What is written down is true: commands compose, targets exist, the wheel holds what it needs."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from stridelab.cli import plan
from stridelab.config import expand

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TRAIN = re.compile(r"python train\.py ((?:[^`#\n])+)")


def train_commands() -> list[str]:
    pages = [*PAGES, ROOT / "Makefile", *sorted((ROOT / "conf" / "experiment").glob("*.yaml"))]
    found = {match.strip() for page in pages for match in TRAIN.findall(page.read_text())}
    return sorted(command for command in found if not re.search(r"\.\.\.|key=value|\$\(", command))


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
    wrong_length = "give one entry for each"  # `model.channels=` needs strides to match, as the README says
    assert [job.error for job in jobs if job.error and wrong_length not in job.error] == []


def test_the_design_draws_the_layers_that_imports_keep_to() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = [sorted(layer.replace(":", " ").split()) for layer in contracts[0]["layers"]]
    picture = (ROOT / "docs" / "design.md").read_text().split("```")[1]
    assert [sorted(line[:24].split()) for line in picture.strip().splitlines()] == layers


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


def test_every_promise_names_tests_that_exist() -> None:
    text = (ROOT / "docs" / "reliability.md").read_text()
    rows = re.findall(r"^\| (?!promise).* \| (.*) \|$", text[text.index("## Promises") :], re.M)
    files = {path.stem.removeprefix("test_"): path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
    names = re.findall(r"def test_(\w+)", "\n".join(files.values()))
    assert len(rows) > 40
    for name in re.findall(r"`([a-z_.]+)`", "\n".join(rows)):
        known = name in files or any(one.startswith(name.removesuffix("...")) for one in names)
        assert known, f"docs/reliability.md names the test {name}, and there is none"


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target, _, part in re.findall(r"\]\((?!https?:)([^)#]*)(#([^)]+))?\)", page.read_text()):
            file = page.parent / target if target else page
            assert file.exists(), f"{page.name}: {target}"
            assert not part or part in anchors(file), f"{page.name}: {target}#{part}"


def anchors(page: Path) -> set[str]:
    """Of its headings, as hosting sites make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_first_page_of_the_documents_leads_to_all_of_them() -> None:
    listed = set(re.findall(r"\]\((\w[\w-]*\.md)\)", (ROOT / "docs" / "README.md").read_text()))
    assert listed | {"README.md"} == {page.name for page in (ROOT / "docs").glob("*.md")}


def test_the_notebook_runs_and_says_what_is_true(tmp_path: Path) -> None:
    """In a kernel of its own, in an empty folder."""
    notebook = nbformat.read(ROOT / "docs" / "python.ipynb", as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    said = [
        "".join(out.get("data", {}).get("text/plain", "") for out in cell.get("outputs", ())) for cell in notebook.cells
    ]
    assert [text for text in said if text][-2:] == ["['strides=1-2', 'strides=2-2']", "[(32, 32), (8, 8)]"]
    printed = "".join(out.get("text", "") for cell in notebook.cells for out in cell.get("outputs", ()))
    assert "run 4 of 4" in printed
    assert 'install "ipywidgets"' not in printed
    assert "loading libraries" not in printed, "no bar of a terminal's"
    assert len(list(tmp_path.glob("results/runs/*/result.json"))) == 4


def test_the_drawing_of_the_readme_is_what_its_command_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it differs: run the command that stands below it."""
    (command,) = re.findall(r"`python scripts/plan\.py (.*) out=docs/plan\.svg`", (ROOT / "README.md").read_text())
    monkeypatch.chdir(tmp_path)
    plan.main([*shlex.split(command), "out=plan.svg"])
    assert (tmp_path / "plan.svg").read_text() == (ROOT / "docs" / "plan.svg").read_text()


def test_the_wheel_plans_sweeps_and_compares_in_an_environment_of_its_own(tmp_path: Path) -> None:
    """Outside the checkout, with nothing of it on the path: the other packages are this environment's."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    source = tmp_path / "source"  # a build/ of an earlier state would end up in the wheel
    source.mkdir()
    for name in ("src", "conf"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    environment, elsewhere = tmp_path / "venv", tmp_path / "elsewhere"
    elsewhere.mkdir()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    python = environment / "bin" / "python"
    (site,) = environment.glob("lib/python*/site-packages")
    (site / "packages.pth").write_text(sysconfig.get_path("purelib"))  # its own .pth files are not read
    subprocess.run([*pip, "--python", str(python), "install", "--no-deps", str(wheel)], check=True, capture_output=True)

    templates = os.environ | {"JUPYTER_PATH": str(Path(sysconfig.get_path("data"), "share", "jupyter"))}

    def stridelab(*arguments: str) -> str:
        words = [str(environment / "bin" / "stridelab"), *arguments]
        done = subprocess.run(words, cwd=elsewhere, env=templates, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert str(site) in stridelab("train", "--info")
    grid = ["model.strides=1-2,2-2", "model.channels=[4,4]"]
    assert "receptive" in stridelab("plan", *grid)
    small = ["data.train_size=100", "data.val_size=50", "trainer.max_epochs=1", "sweep.report=false"]
    swept = stridelab("train", "-m", *grid, *small)
    assert swept.count("test acc ") == 2
    assert "comparison.html" in stridelab("compare")
    assert list(elsewhere.glob("results/reports/*/comparison.html"))
    assert [path.name for path in elsewhere.iterdir()] == ["results"]

"""What is written down about geometry is executed."""

import doctest
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import stridelab.geometry

MODULES = [module.name for module in pkgutil.iter_modules(stridelab.geometry.__path__, "stridelab.geometry.")]


def test_the_page():
    page = Path(__file__).parents[1] / "docs" / "geometry.md"
    failed, tried = doctest.testfile(str(page), module_relative=False, encoding="utf-8")
    assert tried > 20
    assert failed == 0


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_docstrings(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_geometry_is_made_of_the_standard_library_alone():
    code = "import sys; before = set(sys.modules); import stridelab.geometry; print(*set(sys.modules) - before)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    foreign = {name.partition(".")[0] for name in loaded} - set(sys.stdlib_module_names) - {"stridelab"}
    assert not foreign

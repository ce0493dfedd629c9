"""Pytest collects every test file of the repository.

Its default ``norecursedirs`` contains ``build``: the sixteen test files of a folder ``tests/build`` were never run, and
nothing reported it. The folder is named ``compose`` now, pyproject.toml sets ``norecursedirs``, and these tests compare
what pytest collects with the files that exist.
"""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

# Pytest decides by all of its own rules which files are test modules; none of them is imported.
LIST_MODULES = """
import json, pytest, sys

class EmptyModule(pytest.File):
    def collect(self):
        return []

class Recorder:
    paths = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_pycollect_makemodule(self, module_path, parent):
        self.paths.append(str(module_path.relative_to(parent.config.rootpath)))
        return EmptyModule.from_parent(parent, path=module_path)

code = pytest.main(["--collect-only", "-p", "no:cacheprovider"], plugins=[Recorder()])
if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
    sys.exit(code)
print(json.dumps(Recorder.paths))
"""
DEFAULT_SETTINGS = '[tool.pytest.ini_options]\ntestpaths = ["tests"]\n'


def existing(root: Path) -> set[str]:
    """The test files below ``root``, relative to it."""
    return {str(path.relative_to(root)) for path in (root / "tests").rglob("test_*.py")}


def collected(root: Path) -> set[str]:
    """The test files that pytest collects when it is started in ``root``, relative to it."""
    done = subprocess.run([sys.executable, "-c", LIST_MODULES], capture_output=True, text=True, cwd=root, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def find_tests_elsewhere(root: Path) -> list[str]:
    """Files below ``root`` with test functions, but with a name that pytest does not collect."""
    found = []
    for path in sorted((root / "tests").rglob("*.py")):
        functions = (
            node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)
        )
        if not path.name.startswith("test_") and any(function.name.startswith("test_") for function in functions):
            found.append(str(path.relative_to(root)))
    return found


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """A small repository with a folder ``build`` among its tests, and the settings of this one."""
    for name in ("tests/test_top.py", "tests/build/test_inside.py", "tests/apps/dist/test_deep.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("def test_nothing() -> None:\n    pass\n")
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    return tmp_path


def test_every_test_file_is_collected() -> None:
    assert len(existing(REPOSITORY)) > 100
    assert collected(REPOSITORY) == existing(REPOSITORY)


def test_a_folder_named_build_is_collected(planted: Path) -> None:
    assert collected(planted) == existing(planted)


def test_the_default_settings_would_exclude_it(planted: Path) -> None:
    (planted / "pyproject.toml").write_text(DEFAULT_SETTINGS)
    assert existing(planted) - collected(planted) == {"tests/build/test_inside.py", "tests/apps/dist/test_deep.py"}


def test_only_test_files_hold_tests() -> None:
    assert find_tests_elsewhere(REPOSITORY) == []


def test_a_test_in_another_file_is_found(planted: Path) -> None:
    (planted / "tests" / "helper.py").write_text("def test_forgotten() -> None:\n    pass\n")
    assert find_tests_elsewhere(planted) == ["tests/helper.py"]

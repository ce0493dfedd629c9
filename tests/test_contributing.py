"""CONTRIBUTING.md is true: every path and registry in it exists, and its limits are those that are tested."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from typing import get_args

import pytest

from tests.conftest import REPOSITORY
from tests.test_architecture import LONGEST_FILE, LONGEST_FUNCTION
from tests.test_language import LONGEST_LINE
from tunesmith.compose.methods.registry import METHODS
from tunesmith.recipe.objectives import DpoConfig, PpoConfig, RewardConfig, SftConfig

PAGE = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
LIMITS = (
    f"A file has at most {LONGEST_FILE} lines, a function at most {LONGEST_FUNCTION} lines, "
    f"a line at most {LONGEST_LINE} characters."
)
ROWS = ["a data set", "a row format", "a prompt format", "a recipe or layer", "a method", "a recipe key", "a command"]


def table_rows(page: str) -> dict[str, list[str]]:
    """The first cell of every row of the table -> its other cells."""
    lines = [line for line in page.splitlines() if line.startswith("| ")][1:]
    return {first: rest for first, *rest in ([cell.strip() for cell in line[1:-1].split("|")] for line in lines)}


def quoted(text: str) -> list[str]:
    """What is set as code."""
    return re.findall(r"`([^`\n]+)`", text)


def find_missing_paths(page: str) -> Iterator[str]:
    """Paths, in code or as the target of a link, that do not exist."""
    for path in (*quoted(page), *re.findall(r"\]\(([^)#]+)\)", page)):
        if "/" in path and not (REPOSITORY / path).exists():
            yield path


def find_missing_registries(page: str) -> Iterator[str]:
    """Names such as `READERS` of `path` that the file does not define at its top level."""
    for name, path in re.findall(r"`([A-Z]+)` of\s+`([^`]+)`", page):
        if not re.search(rf"^{name}\b.*=", (REPOSITORY / path).read_text(encoding="utf-8"), re.MULTILINE):
            yield f"{path}: {name}"


def find_missing_targets(page: str) -> Iterator[str]:
    """Targets of make that the Makefile does not have."""
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"\bmake ([a-z-]+)", page):
        if not re.search(rf"^{target}:", makefile, re.MULTILINE):
            yield target


def test_every_path_exists() -> None:
    assert len(set(quoted(PAGE))) > 30
    assert list(find_missing_paths(PAGE)) == []


def test_every_registry_exists() -> None:
    assert len(re.findall(r"`[A-Z]+` of\s+`", PAGE)) == 4
    assert list(find_missing_registries(PAGE)) == []


def test_every_make_target_exists() -> None:
    assert list(find_missing_targets(PAGE)) == []


@pytest.mark.parametrize("row", ROWS)
def test_every_row_names_what_to_write_and_which_tests_apply(row: str) -> None:
    write, tests = table_rows(PAGE)[row]
    if row != "a data set":
        assert any(path.startswith("tunesmith/") for path in quoted(write))
        assert any(path.startswith("tests/") for path in quoted(tests))


def test_the_table_has_no_other_rows() -> None:
    assert list(table_rows(PAGE)) == ROWS


def test_the_limits_are_those_that_are_tested() -> None:
    assert LIMITS in " ".join(PAGE.split())
    ruff = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]
    assert ruff["line-length"] == LONGEST_LINE
    assert "E501" not in ruff["lint"]["ignore"]


def test_every_objective_of_the_recipe_has_a_method() -> None:
    kinds = [get_args(section.model_fields["kind"].annotation)[0] for section in (SftConfig, DpoConfig, RewardConfig, PpoConfig)]
    assert kinds == list(METHODS)


def test_planted_mistakes_are_found() -> None:
    assert list(find_missing_paths("`tunesmith/data/readers.py` and [a page](docs/none.md)")) == [
        "tunesmith/data/readers.py",
        "docs/none.md",
    ]
    assert list(find_missing_registries("an entry in the `READER` of `tunesmith/data/readers/registry.py`")) != []
    assert list(find_missing_targets("run `make tests`")) == ["tests"]
    assert LIMITS not in " ".join(PAGE.replace("400", "320").split())

"""The key of the cache: it changes with everything that decides the tokens of the data, and with nothing else."""

from __future__ import annotations

import ast
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tunesmith
from tunesmith.data.dataset.cache_key import PACKAGE, ROOTS, cache_key, code_digest, imported_modules
from tunesmith.data.dataset.duplicates import KEEP_ALL, DuplicateSettings
from tunesmith.data.dataset.rendering import RenderSettings, Work
from tunesmith.data.readers.filters import MessageFilters
from tunesmith.data.readers.source_config import Holdout, SourceConfig

CONFIG = SourceConfig("data", "a.jsonl", "dolly", options={"empty": "drop"}, fields={"context": "passage"})
WORK = Work(RenderSettings("tokenizer", "dolly", 200), "fingerprint", (CONFIG,))
DATA = {"data": "digest"}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package that can be edited."""
    copy = tmp_path_factory.mktemp("copy") / "tunesmith"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "playground"))
    return copy


DECIDES = [
    "data/dataset/building.py",
    "data/dataset/rendering.py",
    "data/dataset/store.py",
    "data/readers/ranked.py",
    "data/sources/strict_json.py",  # reached through others only
    "text/formats/oasst.py",
    "text/tokenizer/codec.py",
    "text/tokens/segments.py",
    "draws.py",
]
DOES_NOT = [
    "apps/preferences.py",
    "data/dataset/evaluation_sets.py",
    "data/dataset/inspection.py",
    "data/dataset/plan.py",
    "data/dataset/prompt_list.py",
    "data/dataset/workers.py",
    "text/tokens/show.py",
]


@pytest.mark.parametrize("path", [*DECIDES, *DOES_NOT])
def test_an_edit_changes_the_key_exactly_where_the_module_decides_tokens(path: str, package: Path) -> None:
    before, file = code_digest(package), package / path
    content = file.read_text(encoding="utf-8")
    file.write_text(content + "\nPLANTED = 1\n", encoding="utf-8")
    assert (code_digest(package) != before) == (path in DECIDES)
    file.write_text(content, encoding="utf-8")
    assert code_digest(package) == before


def test_an_import_that_is_added_counts_from_then_on(package: Path) -> None:
    file, added = package / "text/tokens/segments.py", package / "text/tokens/show.py"
    content, shown = file.read_text(encoding="utf-8"), added.read_text(encoding="utf-8")
    file.write_text(content + "\nfrom tunesmith.text.tokens import (\n    show,  # (a comment)\n)\n", encoding="utf-8")
    before = code_digest(package)
    added.write_text(shown + "\nPLANTED = 1\n", encoding="utf-8")
    assert code_digest(package) != before
    file.write_text(content, encoding="utf-8")
    added.write_text(shown, encoding="utf-8")


def _imports_by_syntax(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_the_modules_are_those_that_the_syntax_tree_gives() -> None:
    found = imported_modules(PACKAGE, ROOTS)
    for file in found.values():
        for name in _imports_by_syntax(file):
            path = PACKAGE.joinpath(*name.split(".")[1:]).with_suffix(".py")
            if name.startswith("tunesmith.") and path.is_file():
                assert found[name] == path


def test_packages_have_nothing_that_could_decide_tokens() -> None:
    """Their files are not part of the digest."""
    for file in imported_modules(PACKAGE, ROOTS).values():
        for directory in file.relative_to(PACKAGE).parents:
            statements = ast.parse((PACKAGE / directory / "__init__.py").read_text(encoding="utf-8")).body
            for one in statements:
                is_import = isinstance(one, ast.Expr | ast.ImportFrom | ast.If)
                is_public = isinstance(one, ast.FunctionDef) and one.name in tunesmith.__all__
                assert is_import or is_public or ast.unparse(one).startswith(("__version__", "__all__"))


DIFFERENT: dict[str, dict[str, Any]] = {
    "name": {"name": "other"},
    "reader": {"reader": "alpaca"},
    "fields": {"fields": {}},
    "options": {"options": {}},
    "filters": {"filters": MessageFilters(max_turns=3)},
    "prompts": {"prompts": "last"},
}
SAME: dict[str, dict[str, Any]] = {
    "path": {"path": "elsewhere/b.jsonl"},
    "split": {"split": "train"},
    "holdout": {"holdout": Holdout(5, 3)},
}


@pytest.mark.parametrize("change", [*DIFFERENT, *SAME])
def test_of_a_source_only_what_decides_its_trees_counts(change: str) -> None:
    changed = replace(CONFIG, **(DIFFERENT | SAME)[change])
    own = cache_key(replace(WORK, sources=(changed,)), DATA, KEEP_ALL) != cache_key(WORK, DATA, KEEP_ALL)
    exact = DuplicateSettings("exact")
    known = cache_key(WORK, DATA, exact, [(changed, "d")]) != cache_key(WORK, DATA, exact, [(CONFIG, "d")])
    assert own == known == (change in DIFFERENT)


def test_lists_and_tuples_of_options_are_the_same() -> None:
    one, other = (replace(CONFIG, options={"lang": langs}) for langs in (["en", "de"], ("en", "de")))
    assert cache_key(replace(WORK, sources=(one,)), DATA, KEEP_ALL) == cache_key(
        replace(WORK, sources=(other,)), DATA, KEEP_ALL
    )

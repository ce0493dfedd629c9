"""docs/questions.md: the messages that it explains are those of the source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

PAGE = REPOSITORY / "docs" / "questions.md"


def entries() -> list[tuple[str, str]]:
    """(constant part of a message, message as printed) of every entry of the page."""
    return re.findall(r"^### (.*)\n\n```text\n(.*)\n```\n\n\S", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


def texts_of(path: Path) -> Iterator[str]:
    """Every string literal of a module; of an f-string what is between its values."""
    documented = set[ast.AST]()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Expr):  # a docstring
            documented.add(node.value)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in documented:
            yield node.value


@pytest.fixture(scope="module")
def messages() -> str:
    paths = sorted((REPOSITORY / "tunesmith").rglob("*.py"))
    return "\n".join(text for path in paths for text in texts_of(path))


def test_the_page_has_entries_of_every_kind() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert 15 <= len(entries()) == text.count("\n### ") <= 30
    assert text.count("\n## ") >= 4


@pytest.mark.parametrize(("constant", "printed"), entries(), ids=lambda text: text[:40])
def test_a_message_is_one_of_the_source(constant: str, printed: str, messages: str) -> None:
    assert constant in printed
    assert constant in messages


def test_a_message_that_nobody_writes_is_found(messages: str) -> None:
    assert "the code of Tunesmith has altered" not in messages
    assert "How records become tokens, and how" not in messages, "docstrings are no messages"

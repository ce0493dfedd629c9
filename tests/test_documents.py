"""Every command that a document shows is one that works: recipes resolve, targets exist, runs that are talked to are trained."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from tests.conftest import REPOSITORY
from tunesmith.cli.lazy import COMMANDS
from tunesmith.cli.preferences import preferences
from tunesmith.data.readers.registry import READERS, open_reader
from tunesmith.recipe.load import load, split_words

DOCUMENTS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md")), REPOSITORY / "CONTRIBUTING.md"]
RECIPES = sorted((REPOSITORY / "tunesmith" / "recipe" / "catalog").rglob("*.yaml"))


def commands(document: Path) -> Iterator[list[str]]:
    """The words of every command in shell blocks; of recipes, those in the comment at the top."""
    text = document.read_text(encoding="utf-8")
    if document.suffix == ".yaml":
        blocks = ["\n".join(re.findall(r"^#   (tunesmith .*?)(?:   +\(.*)?$", text, re.MULTILINE))]
    else:
        blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    for block in blocks:
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words:
                yield words


CASES = [pytest.param(words, id=" ".join(words)[:80]) for path in (*DOCUMENTS, *RECIPES) for words in commands(path)]


def split_word(word: str) -> tuple[str, str]:
    name, _, value = word.partition("=")
    return name, value


def test_there_are_commands_to_try() -> None:
    assert len(CASES) > 8


@pytest.mark.parametrize("words", CASES)
def test_a_command_in_a_document_can_be_given(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
        return
    if words[0] != "tunesmith":
        assert words[0] in ("hf", "python", "pip"), words
        return
    assert words[1] in COMMANDS
    if words[1] == "preferences":
        single = typer.Typer()
        single.command()(preferences)
        given = typer.main.get_command(single).make_context("preferences", words[2:]).params
        open_reader(given["reader"], dict(map(split_word, given["field"] or ())), {})
        assert {name for name, _ in map(split_word, given["option"] or ())} <= set(READERS[given["reader"]].options)
    if words[1] in ("train", "show", "check"):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "mine.yaml").write_text("layer: mine\n")
        load(*split_words(words[2:]))


def test_what_is_talked_to_is_what_a_command_above_trains() -> None:
    for document in DOCUMENTS:
        trained = {
            str(load(*split_words(words[2:])).recipe.directory)
            for words in commands(document)
            if words[1:2] == ["train"]
        }
        for words in commands(document):
            if words[:2] == ["tunesmith", "chat"]:
                assert words[2] in trained, (document, words)

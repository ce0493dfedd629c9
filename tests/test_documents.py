"""The documents are true: commands can be run, recipes load, paths, links, make targets and class names exist."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from tests.conftest import REPOSITORY
from tunesmith.cli.lazy import COMMANDS, load_part
from tunesmith.data.readers.registry import READERS, open_reader
from tunesmith.recipe.load import load, split_words

DOCUMENTS = [
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md")),
    *sorted((REPOSITORY / "docs").rglob("*.md")),
]
RECIPES = sorted((REPOSITORY / "tunesmith" / "recipe" / "catalog").rglob("*.yaml"))


def commands(document: Path) -> Iterator[list[str]]:
    """The words of every command in shell blocks; of a recipe, those in the comment at its top."""
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


def prose(document: Path) -> str:
    """A document without its code blocks."""
    return re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)


def inline_code(text: str) -> list[str]:
    """What is set as code inside of sentences and tables, on one line each."""
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", text)]


CASES = [pytest.param(words, id=" ".join(words)[:80]) for path in (*DOCUMENTS, *RECIPES) for words in commands(path)]


def split_word(word: str) -> tuple[str, str]:
    name, _, value = word.partition("=")
    return name, value


def parsed(command: str, words: list[str]) -> dict[str, Any]:
    """The arguments and options of a command line, as the command receives them; raises for an unknown option."""
    single = typer.Typer()
    single.command()(load_part(COMMANDS[command].part))
    return dict(typer.main.get_command(single).make_context(command, words).params)


def options_of(command: str) -> set[str]:
    """The options that a command has."""
    single = typer.Typer()
    single.command()(load_part(COMMANDS[command].part))
    return {option for parameter in typer.main.get_command(single).params for option in parameter.opts}


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def find_missing_links(document: Path, text: str) -> Iterator[str]:
    """Links to files that do not exist."""
    for target in re.findall(r"\]\(([^)#\s]+)\)", text):
        if "://" not in target and not (document.parent / target).exists():
            yield target


def find_missing_paths(text: str) -> Iterator[str]:
    """Paths of source files, in code, that exist neither below the root nor below the package."""
    for code in inline_code(text):
        is_path = re.fullmatch(r"[\w./-]+\.py|(tests|docs|benchmarks|tunesmith)/[\w./-]*", code)
        if is_path and not any((root / code).exists() for root in (REPOSITORY, REPOSITORY / "tunesmith")):
            yield code


def find_unknown_commands(text: str) -> Iterator[str]:
    """Commands inside of sentences that do not exist, or have no such option or make target."""
    for code in inline_code(text):
        words = code.split()
        if words[0] == "make" and len(words) > 1 and words[1] not in make_targets():
            yield code
        if words[0] == "tunesmith" and len(words) > 1:
            options = {word.partition("=")[0] for word in words[2:] if word.startswith("--")}
            if words[1] not in COMMANDS or options - options_of(words[1]):
                yield code


def find_missing_modules(text: str) -> Iterator[str]:
    """Modules after ``python -m`` that do not exist."""
    for module in re.findall(r"python -m ([a-z_0-9.]+)", text):
        path = REPOSITORY / module.rstrip(".").replace(".", "/")
        found = path.with_suffix(".py").exists() or (path / "__main__.py").exists()
        if module not in ("pip", "venv", "pytest", "pydoc") and not found:
            yield module


def defined_names() -> set[str]:
    """Classes and type aliases of the package, and what is assigned at the top of a module."""
    found: set[str] = set()
    for path in (REPOSITORY / "tunesmith").rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                found.add(node.name)
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            found.update(target.id for target in targets if isinstance(target, ast.Name))
    return found


def find_unknown_classes(text: str, names: set[str]) -> Iterator[str]:
    """Names in code that look like classes and are none of the package."""
    for code in inline_code(text):
        for name in re.findall(r"(?:^|(?<=[.\s]))[A-Z][a-z]+(?:[A-Z][a-z]+)+\b", code):
            if name not in names and name not in OTHER_CLASSES:
                yield name


OTHER_CLASSES = (
    "ForSequenceClassification",
    "SFTTrainer",
    "DPOTrainer",
    "Seq2SeqTrainer",
    "HuggingFaceH4",
    "OpenAssistant",
    "PeftModel",
    "HuggingFacePipeline",
)
"""Names of other libraries and hubs."""


def test_there_are_commands_to_try() -> None:
    assert len(CASES) > 8


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_help_lists_every_target() -> None:
    done = subprocess.run(
        ["make", "--no-print-directory", "help"], capture_output=True, text=True, cwd=REPOSITORY, check=True
    )
    phony = re.findall(r"^\.PHONY: (.*)$", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    names = " ".join(phony).split()
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [["make", name] for name in names]


WRITTEN_BY_INIT = "{extends: sft, name: faq, model: {path: m}, data: {sources: [{path: faq.csv, reader: auto}]}}"


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current directory has the files of a user that documents name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("layer: mine\n")
    (tmp_path / "faq.yaml").write_text(WRITTEN_BY_INIT)
    (tmp_path / "pairs.yaml").write_text(WRITTEN_BY_INIT.replace("sft", "dpo").replace("faq", "pairs"))


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize("words", CASES)
def test_a_command_in_a_document_can_be_given(words: list[str]) -> None:
    if words[0] == "make":
        assert words[1] in make_targets()
        return
    if words[0] != "tunesmith":
        assert words[0] in ("hf", "python", "pip"), words
        return
    assert words[1] in COMMANDS
    given = parsed(words[1], words[2:])
    if words[1] == "preferences" and not given["votes"]:
        open_reader(given["reader"], dict(map(split_word, given["field"] or ())), {})
        assert {name for name, _ in map(split_word, given["option"] or ())} <= set(READERS[given["reader"]].options)
    if words[1] in ("train", "show", "check"):
        load(*split_words(words[2:]))


@pytest.mark.usefixtures("mine")
def test_every_run_that_a_document_chats_with_is_trained_in_it() -> None:
    for document in DOCUMENTS:
        trained = {
            str(load(*split_words(words[2:])).recipe.directory)
            for words in commands(document)
            if words[1:2] == ["train"]
        }
        for words in commands(document):
            if words[:2] == ["tunesmith", "chat"] and words[2] != "--url":
                assert words[2] in trained, (document, words)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_links_paths_commands_and_modules_exist(document: Path) -> None:
    text = prose(document)
    assert list(find_missing_links(document, text)) == []
    assert list(find_missing_paths(text)) == []
    assert list(find_unknown_commands(text)) == []
    assert list(find_missing_modules(document.read_text(encoding="utf-8"))) == []


def test_an_installation_has_every_document_and_what_the_readme_links_to() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    installed = {
        str((Path(directory) / path.name).relative_to("share/doc/tunesmith"))
        for directory, patterns in project["tool"]["setuptools"]["data-files"].items()
        for pattern in patterns
        for path in REPOSITORY.glob(pattern)
    }
    linked = set(re.findall(r"\]\(([^)#\s:]+)\)", prose(REPOSITORY / "README.md")))
    documents = {str(path.relative_to(REPOSITORY)) for path in DOCUMENTS}
    assert len(documents) > 20
    assert (linked | documents) - installed == set()


def test_classes_in_documents_exist() -> None:
    names = defined_names()
    assert {"TokenTree", "MicroBatch", "READERS"} <= names
    for document in DOCUMENTS:
        assert (document, list(find_unknown_classes(prose(document), names))) == (document, [])


def test_planted_mistakes_are_found() -> None:
    page = REPOSITORY / "docs" / "design.md"
    assert list(find_missing_links(page, "[a](none.md) [b](data.md) [c](https://example.org)")) == ["none.md"]
    assert list(find_missing_paths("`tunesmith/data/readers.py`, `cli/lazy.py`, `docs/`")) == [
        "tunesmith/data/readers.py"
    ]
    planted = "`make tests`, `make test`, `tunesmith trian x`, `tunesmith demo --fast`, `tunesmith demo --full`"
    assert list(find_unknown_commands(planted)) == ["make tests", "tunesmith trian x", "tunesmith demo --fast"]
    assert list(find_missing_modules("python -m benchmarks.none, python -m benchmarks.sft")) == ["benchmarks.none"]
    assert list(find_unknown_classes("`TokenForest`, `text.tree.Tree`, `Batch`", {"Batch"})) == ["TokenForest"]
    with pytest.raises(Exception, match="No such option: --fast"):
        parsed("demo", ["--fast"])

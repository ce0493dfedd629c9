"""The tutorials in docs/systems: the prompts that they show are what the formats of the recipes write."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tunesmith.recipe.load import load
from tunesmith.text.formats.format import Control, Format, Piece
from tunesmith.text.formats.registry import build_format
from tunesmith.text.tree import Message

PAGES = sorted((REPOSITORY / "docs" / "systems").glob("*.md"))
CONVERSATIONS = {
    "context": [
        Message("user", "How long is it?", context="The Douro is 897 km long."),
        Message("assistant", "It is 897 km long."),
    ],
    "lines": [Message("user", "How long is it?"), Message("assistant", "It is long:\n897 km.")],
    "turns": [
        Message("user", "Name a river."),
        Message("assistant", "The Douro."),
        Message("user", "Another?"),
        Message("assistant", "The Tejo."),
    ],
}
"""What the marks of the pages name: ``<!-- prompt RECIPE CONVERSATION [given|produced] -->``."""

NAMES = {
    "dolly": ("", "<|endoftext|>"),
    "oasst": ("", "<|endoftext|>"),
    "tulu": ("<s>", "</s>"),
    "t5-dolly": ("", "</s>"),
}
"""Format -> how the tokenizers of its recipes call the begin and end of a text."""


def marked_prompts(page: Path) -> Iterator[tuple[list[str], str]]:
    """(words of the mark, text of the block after it) for every prompt of a page."""
    text = page.read_text(encoding="utf-8")
    for words, block in re.findall(r"<!-- prompt ([^>]+) -->\n```text\n(.*?)\n```\n", text, re.DOTALL):
        yield words.split(), block


def written(format: Format, pieces: Sequence[Piece]) -> str:
    """Pieces as text, control tokens by their names."""
    bos, eos = NAMES[format.name]
    names = {"bos": bos, "eos": eos}
    return "".join(names.get(each.name, each.name) if isinstance(each, Control) else each.text for each in pieces)


def rendered(recipe: str, conversation: str, part: str = "both") -> str:
    """A conversation as the recipe's format writes it; part: of a single reply, what is given or what is produced."""
    text = load([recipe]).recipe.text
    format = build_format(text.format, text.options)
    messages = CONVERSATIONS[conversation]
    splits = [format.split(message, messages[:index]) for index, message in enumerate(messages)]
    parts = {
        "both": [piece for split in splits for piece in (*split.given, *split.produced)],
        "given": [piece for split in splits for piece in split.given],
        "produced": [piece for split in splits for piece in split.produced],
    }
    return written(format, parts[part])


def test_there_is_a_page_with_a_prompt_for_every_system() -> None:
    shown = {words[0] for page in PAGES for words, _ in marked_prompts(page)}
    assert shown == {
        "dolly-v2-3b",
        "flan-t5-dolly-xxl",
        "oasst-sft-4-pythia-12b",
        "tulu-2.5-dpo-13b-uf-overall",
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_prompts_are_what_the_format_writes(page: Path) -> None:
    prompts = list(marked_prompts(page))
    assert len(prompts) == page.read_text(encoding="utf-8").count("<!-- prompt")
    for words, block in prompts:
        assert block == rendered(*words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_is_short(page: Path) -> None:
    assert page.read_text(encoding="utf-8").count("\n") <= 110


def test_another_format_writes_another_prompt() -> None:
    assert rendered("dolly-v2-3b", "context") != rendered("oasst-sft-4-pythia-12b", "context")
    assert rendered("oasst-sft-1-pythia-12b", "turns") == rendered("oasst-sft-4-pythia-12b", "turns")

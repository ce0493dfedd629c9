"""The built-in prompts: they are read like a user's, are all different, and have what their description says."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tunesmith.apps.prompt_sets import PROMPT_SETS, prompt_set_path
from tunesmith.data.readers.pipeline import read_source
from tunesmith.data.readers.prompts import prompt_key
from tunesmith.data.readers.reader import ReadTree
from tunesmith.data.readers.source_config import SourceConfig
from tunesmith.report.reply_faults import has_control_text
from tunesmith.text.tree import Tree


def path_of(name: str) -> Path:
    path = prompt_set_path(name)
    assert path is not None
    return path


def trees_of(name: str) -> list[Tree]:
    results = list(read_source(SourceConfig(name, str(path_of(name)), "prompts")))
    assert all(isinstance(result, ReadTree) for result in results), [r for r in results if not isinstance(r, ReadTree)]
    return [result.tree for result in results if isinstance(result, ReadTree)]


@pytest.mark.parametrize("name", PROMPT_SETS)
def test_every_prompt_is_read_and_asks_something_different(name: str) -> None:
    records = [json.loads(line) for line in path_of(name).read_text(encoding="utf-8").splitlines()]
    trees = trees_of(name)
    assert len(trees) == len(records)
    assert all(tree.messages[-1].role == "user" for tree in trees)
    assert max(Counter(prompt_key(tree.messages) for tree in trees).values()) == 1
    assert {frozenset(record) for record in records} == {frozenset({"messages", "category"})}


def test_the_general_prompts_are_what_their_description_says() -> None:
    records = [json.loads(line) for line in path_of("general").read_text(encoding="utf-8").splitlines()]
    kinds = Counter(record["category"] for record in records)
    count, categories = map(int, re.findall(r"\d+", PROMPT_SETS["general"]))
    assert (len(records), len(kinds)) == (count, categories)
    assert min(kinds.values()) >= 3
    turns = Counter(len(record["messages"]) for record in records)
    assert set(turns) == {1, 3, 5}
    english = [tree for tree in trees_of("general") if tree.messages[-1].text.isascii()]
    assert len(english) / len(records) > 0.85
    marked = [record for record in records if has_control_text(record["messages"][-1]["content"])]
    assert {record["category"] for record in marked} == {"markup"}


def test_another_name_is_no_set() -> None:
    assert prompt_set_path("../prompts/general") is None
    assert prompt_set_path("nowhere") is None


def test_the_prompts_are_part_of_an_installation() -> None:
    assert '"apps/prompts/*.jsonl"' in (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")

"""Data as prompts: any source, the store that exists, every prompt accounted for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.data.small_runs import RECORDS, run, write
from tunesmith.data.dataset.prompt_list import list_prompts
from tunesmith.data.dataset.rendering import RenderSettings, load_renderer
from tunesmith.errors import DataError, MissingInputError
from tunesmith.text.tree import Message

PROMPTS: dict[str, Any] = {"prompts": "last", "targets": "marked", "reserved": 30}


def test_the_prompts_of_a_store_are_what_chat_reads(tokenizer: str, tmp_path: Path) -> None:
    prepared = run(write(tmp_path / "a.jsonl", RECORDS), tokenizer, tmp_path / "cache", **PROMPTS)
    renderer = load_renderer(RenderSettings(tokenizer, "dolly", 200))
    prompts = list_prompts(prepared.train)
    expected = [
        tuple(renderer.prompt([Message("user", record["instruction"], context=record["context"])]))
        for record in RECORDS
    ]
    assert [prompts.ids(number) for number in range(len(prompts))] == expected
    assert prompts.source.tolist() == [0] * len(RECORDS)


def conversation(turns: int) -> dict[str, Any]:
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[turn % 2], "content": f"turn {turn}"} for turn in range(turns)]}


def test_every_question_of_a_conversation_can_be_a_prompt(tokenizer: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [conversation(6), conversation(2), conversation(3)])
    for which, counts in (("last", [1, 1, 1]), ("every", [3, 1, 2])):
        given = {**PROMPTS, "prompts": which, "format": "chatml", "reader": "messages"}
        prompts = list_prompts(run(path, tokenizer, tmp_path / which, **given).train)
        assert [prompts.example.tolist().count(number) for number in range(3)] == counts


def test_prompts_that_leave_too_few_tokens_are_counted_or_refused(tokenizer: str, tmp_path: Path) -> None:
    records = [{"instruction": "x" * size, "context": "", "response": "y"} for size in (2, 90, 3)]
    path = write(tmp_path / "a.jsonl", records)
    prepared = run(path, tokenizer, tmp_path / "cache", **{**PROMPTS, "max_length": 100})
    tally = prepared.report.sources["data"]
    assert (tally.records, tally.used, dict(tally.rejected)) == (3, 2, {"longer than the limit": 1})
    with pytest.raises(DataError, match=r"a.jsonl:2: a prompt of \d+ tokens and a reply of 30"):
        run(path, tokenizer, tmp_path / "cache", **{**PROMPTS, "max_length": 100, "truncation": "error"})


def test_a_document_is_no_prompt(tokenizer: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in [{"text": "A story."}] * 2))
    given = {**PROMPTS, "reader": "text", "format": "plain"}
    with pytest.raises(MissingInputError, match="no message of a user"):
        run(path, tokenizer, tmp_path / "cache", **given)


def test_reserved_tokens_and_choice_of_prompts_decide_the_store(
    tokenizer: str, tmp_path: Path, made: list[str]
) -> None:
    path = write(tmp_path / "a.jsonl", RECORDS)
    for given in (PROMPTS, {**PROMPTS, "reserved": 31}, {**PROMPTS, "prompts": "every"}, PROMPTS):
        run(path, tokenizer, tmp_path / "cache", **given)
    assert len(made) == 3

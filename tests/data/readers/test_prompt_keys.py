"""Lists of prompts: when two prompts are the same, and where a row holds its prompt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.data.outcomes import chat, read, tree_of, write_rows
from tunesmith.data.readers.prompts import prompt_key, prompt_keys
from tunesmith.errors import DataError
from tunesmith.text.tree import Message


def test_the_key_of_a_prompt_is_what_user_and_assistant_say() -> None:
    def key(*turns: tuple[str, str]) -> bytes:
        return prompt_key([Message(role, text) for role, text in turns])  # type: ignore[arg-type]

    plain = key(("user", "a"))
    assert key(("system", "s"), ("user", " a\n")) == plain
    others = [(("user", "A"),), (("assistant", "a"),), (("user", "a"), ("user", "b")), (("user", "ab"),), ()]
    assert len({plain, *(key(*turns) for turns in others)}) == 6  # type: ignore[arg-type]


def test_lists_of_prompts_may_be_text_or_data(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("One?\n\n Two? \n", encoding="utf-8")
    rows = [{"prompt": "One?"}, {"messages": chat("Two?", "x")}]
    write_rows(tmp_path / "list.jsonl", rows)
    assert prompt_keys([str(tmp_path / "list.txt")]) == prompt_keys([str(tmp_path / "list.jsonl")])
    assert len(prompt_keys([str(tmp_path / "list.txt")])) == 2
    write_rows(tmp_path / "bad.jsonl", [*rows, {"text": "x"}])
    with pytest.raises(
        DataError, match=r"bad\.jsonl:3: there is no prompt; the row has text; one of prompt, instruction"
    ):
        prompt_keys([str(tmp_path / "bad.jsonl")])
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(DataError, match="is not UTF-8"):
        prompt_keys([str(tmp_path / "latin.txt")])


def test_prompts_are_found_where_the_trainer_of_tulu_found_them(golden: Callable[[str], dict[str, Any]]) -> None:
    cases = [case for case in golden("tulu")["cases"] if case["kind"] == "easylm_ppo_prompt"]
    assert len(cases) > 8
    for case in cases:
        expected = case["expected"].get("prompt_text")
        if expected is None:
            continue  # what it filtered is refused here, or has a prompt all the same
        row = case["input"]
        if "instruction" in row and "messages" in row:  # two different prompts: the trainer takes the first in silence
            with pytest.raises(DataError, match="field 'messages' has messages that the prompt in 'instruction' does"):
                read("prompts", row)
            row = {"instruction": row["instruction"]}
        turns = tree_of(read("prompts", row)).messages
        end = {"user": "\n", "system": "\n", "assistant": "</s>\n"}
        text = "".join(f"<|{turn.role}|>\n{turn.text.strip()}{end[turn.role]}" for turn in turns) + "<|assistant|>\n"
        assert text.startswith(expected), case["id"]
        assert text == expected or "note" in case

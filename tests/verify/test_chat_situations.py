"""Records of the kinds that users of other tools lost: they are right, or refused with a way on, from row to tokens."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.text.brought_templates import MARKS, TURNS
from tunesmith.data.readers.reader import ReadTree
from tunesmith.data.readers.registry import open_reader
from tunesmith.errors import DataError
from tunesmith.text.formats.registry import build_format
from tunesmith.text.formats.template_options import template_options
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tokens.render import Renderer
from tunesmith.verify.masks import find_mask_faults

Written = Callable[..., str]
Q, A = {"role": "user", "content": "Is the shop open?"}, {"role": "assistant", "content": "Until six."}
CALL = {"id": "x1", "type": "function", "function": {"name": "hours", "arguments": {"shop": "baker"}}}
TOOL = {"type": "function", "function": {"name": "hours", "parameters": {"type": "object", "properties": {}}}}
CALLED = [Q, {"role": "assistant", "content": None, "tool_calls": [CALL]}, {"role": "tool", "content": "8-18"}, A]
WRITTEN_CALL = '<tool_call>\n{"name": "hours", "arguments": {"shop": "baker"}}\n</tool_call>'
THOUGHT = "<think>\nIt is Monday.\n</think>\n\nUntil six."


@pytest.fixture(scope="module")
def written(tokenizer_directories: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Written:
    """written(reader, row) -> the text of the tokens; the targets are in brackets, and the proof has passed."""
    directory = tmp_path_factory.mktemp("chat")
    marks = ("<|im_start|>", "<|im_end|>", "<turn>", "</turn>")
    Tokenizer.load(str(tokenizer_directories["byte_level"]), marks).save(directory, MARKS)

    def write(
        reader: str,
        row: Mapping[str, Any],
        *,
        format: str = "tokenizer",
        options: Mapping[str, Any] | None = None,
        reading: Mapping[str, Any] | None = None,
        columns: Mapping[str, str] | None = None,
    ) -> str:
        result = open_reader(reader, columns or {}, reading or {})(row)
        assert isinstance(result, ReadTree)
        given = options or {}
        if format == "tokenizer":
            given = template_options(str(directory), given={"template": "qwen3", **given})
        built = build_format(format, given)
        renderer = Renderer(built, Tokenizer.load(str(directory), built.controls))
        tokens = renderer.render(result.tree)
        assert find_mask_faults(renderer, result.tree, tokens) == []
        targets = set(tokens.targets().tolist())
        parts, inside = [], False
        for index, token in enumerate(tokens.ids.tolist()):
            if (index in targets) != inside:
                inside = not inside
                parts.append("[" if inside else "]")
            parts.append(renderer.tokenizer.decode([token], skip_controls=False, continuing=True))
        return "".join(parts) + ("]" if inside else "")

    return write


@pytest.mark.parametrize(
    ("reader", "row", "holds"),
    [
        ("messages", {"messages": [Q, {**A, "reasoning_content": "It is Monday."}]}, f"[{THOUGHT}<|im_end|>]"),
        ("messages", {"messages": [Q, {**A, "thinking": "It is Monday."}]}, f"[{THOUGHT}<|im_end|>]"),
        ("messages", {"messages": [Q, {**A, "content": THOUGHT}]}, f"[{THOUGHT}<|im_end|>]"),
        ("messages", {"messages": [Q, A, Q, A]}, "[<think>\n\n</think>\n\nUntil six.<|im_end|>]"),
        ("messages", {"messages": [{"role": "system", "content": "Brief."}, Q, A, Q, A]}, "system\nBrief.<|im_end|>"),
        ("messages", {"messages": CALLED, "tools": [TOOL]}, f"[<think>\n\n</think>\n\n{WRITTEN_CALL}<|im_end|>]"),
        (
            "messages",
            {"messages": CALLED, "tools": json.dumps([TOOL])},
            "user\n<tool_response>\n8-18\n</tool_response>",
        ),
        ("messages", {"messages": [{**Q, "content": [{"type": "text", "text": "Is it"}]}, A]}, "user\nIs it<|im_end|>"),
        (
            "prompt-completion",
            {"prompt": CALLED[:3], "completion": [A], "tools": [TOOL]},
            f"\n{WRITTEN_CALL}<|im_end|>",
        ),
        ("prompt-completion", {"prompt": [Q], "completion": [{**A, "reasoning": "Hm."}]}, "[<think>\nHm.\n</think>"),
        (
            "sharegpt",
            {
                "conversations": [
                    {"from": "human", "value": "Is the shop open?"},
                    {"from": "function_call", "value": json.dumps(CALL["function"])},
                    {"from": "observation", "value": "8-18"},
                    {"from": "gpt", "value": "Until six."},
                ],
                "tools": "[]",
            },
            f"[<think>\n\n</think>\n\n{WRITTEN_CALL}<|im_end|>]",
        ),
        (
            "sharegpt",
            {"conversations": [{"from": "user", "value": "?"}, {"from": "gpt", "value": "!", "thinking": "Hm."}]},
            "[<think>\nHm.\n</think>\n\n!<|im_end|>]",
        ),
    ],
)
def test_nothing_of_a_record_is_lost(reader: str, row: dict[str, Any], holds: str, written: Written) -> None:
    assert holds in written(reader, row).replace("[\n]", "\n")


def test_options_of_the_reader_and_of_the_format_are_ways_on(written: Written) -> None:
    twice = {"messages": [Q, {"role": "user", "content": "And now?"}, A]}
    with pytest.raises(DataError, match="same_role: merge of the readers messages and sharegpt"):
        written("messages", twice, format="chatml")
    merged = written("messages", twice, format="chatml", reading={"same_role": "merge"})
    assert "Is the shop open?\nAnd now?<|im_end|>" in merged
    system = {"messages": [{"role": "system", "content": "Brief."}, Q, A]}
    with pytest.raises(DataError, match=r"text\.options\.system: first_user"):
        written("messages", system, options={"template": TURNS})
    folded = written("messages", system, options={"template": TURNS, "system": "first_user"})
    assert "user\nBrief.\n\nIs the shop open?</turn>" in folded
    named = written("messages", {"chat": CALLED, "defs": [TOOL]}, columns={"messages": "chat", "tools": "defs"})
    assert '"name": "hours", "parameters"' in named


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"messages": CALLED, "tools": [TOOL]}, "definitions of tools, but format 'chatml' has no place for that"),
        ({"messages": CALLED}, "tool calls, but format 'chatml' has no place"),
        ({"messages": [Q, {**A, "reasoning_content": "Hm."}]}, "reasoning, but format 'chatml' has no place"),
        ({"messages": [Q, {**A, "function_call": {"name": "f"}}]}, "has 'function_call', which is not supported"),
        ({"messages": [Q, {**A, "refusal": "No."}]}, "has 'refusal', which is not supported"),
        ({"messages": [{**Q, "images": ["a.png"]}, A]}, "has 'images', which is not supported"),
    ],
)
def test_what_has_no_place_is_refused_and_never_to_be_removed(
    row: dict[str, Any], reason: str, written: Written
) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        written("messages", row, format="chatml")
    assert "remove" not in str(caught.value)
    assert "drop" not in str(caught.value)

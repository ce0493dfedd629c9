"""Tools, reasoning, variables and templates by name in the format ``tokenizer``."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from tests.campaigns.chat_templates import (
    ASKING,
    CALLING,
    FIRST,
    NO,
    RESULT,
    SECOND,
    SITUATIONS,
    SYSTEM,
    TOOL,
    WHY,
    YES,
    read_templates,
    template_directory,
)
from tests.text.brought_templates import MARKS, TURNS
from tests.text.conversations import NAMES
from tests.text.properties import contents
from tunesmith.errors import DataError, MissingInputError, RecipeError
from tunesmith.text.formats.registry import build_format
from tunesmith.text.formats.template_options import template_options
from tunesmith.text.formats.template_source import template_names
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tokens.show import show_threads
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.text.tree import Message, ToolCall, Tree
from tunesmith.verify.masks import find_mask_faults

SPECIAL = (
    "<|im_start|>",
    "<|im_end|>",
    "<|start|>",
    "<|message|>",
    "<|channel|>",
    "<|end|>",
    "<|return|>",
    "<turn>",
    "</turn>",
)
PLAIN = (
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    *(f"<\uff5c{name}\uff5c>" for name in ("User", "Assistant", "end\u2581of\u2581sentence", "tool\u2581sep")),
    *(
        f"<\uff5ctool\u2581{name}\uff5c>"
        for kind in ("calls", "call", "outputs", "output")
        for name in (f"{kind}\u2581begin", f"{kind}\u2581end")
    ),
)
ACCEPTED = {
    "qwen3": set(SITUATIONS),
    "deepseek-r1": {"one", "system", "several", "system, several", "reasoning", "reasoning, several", "think in text"},
    "deepseek-v3": {"one", "system", "several", "system, several", "think in text"},
    "gpt-oss": {"one", "system", "several", "system, several", "reasoning", "reasoning, several", "think in text"},
}
Open = Callable[..., Renderer]


@pytest.fixture(scope="module")
def directory(tokenizer_directories: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level tokenizer with the tokens of several families, some of which are not special."""
    found = tmp_path_factory.mktemp("families")
    Tokenizer.load(str(tokenizer_directories["byte_level"]), SPECIAL).save(found, "{{ nothing }}")
    content = json.loads((found / "tokenizer.json").read_text())
    number = max(token["id"] for token in content["added_tokens"])
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    content["added_tokens"] += [{"id": number + 1 + i, "content": name, **flags} for i, name in enumerate(PLAIN)]
    (found / "tokenizer.json").write_text(json.dumps(content))
    return found


@pytest.fixture(scope="module")
def opened(directory: Path) -> Open:
    def open_renderer(template: str, targets: Any = "assistant", **options: Any) -> Renderer:
        format = build_format("tokenizer", template_options(str(directory), given={"template": template, **options}))
        return Renderer(format, Tokenizer.load(str(directory), format.controls), targets)

    return open_renderer


def faults(renderer: Renderer, tree: Tree) -> list[Any]:
    return find_mask_faults(renderer, tree, renderer.render(tree))


def trained_text(renderer: Renderer, messages: Sequence[Message]) -> str:
    tokens = renderer.render(Tree.path(messages))
    return renderer.tokenizer.decode([int(tokens.ids[index]) for index in tokens.targets()], skip_controls=False)


def stock_messages(renderer: Renderer, messages: Sequence[Message]) -> list[dict[str, Any]]:
    entries = [message.as_dict(message.text) for message in messages]
    for entry in entries:
        if "thinking" in renderer.format.chat_template() and "reasoning_content" in entry:
            entry["thinking"] = entry.pop("reasoning_content")
        for call in entry.get("tool_calls", ()):
            call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    return entries


@pytest.mark.parametrize("name", template_names())
def test_a_template_by_name_is_exported_and_proven(name: str, opened: Open, tmp_path: Path) -> None:
    renderer = opened(name)
    renderer.tokenizer.save(tmp_path, renderer.format.chat_template())
    stock = AutoTokenizer.from_pretrained(tmp_path)
    accepted = set()
    for situation, messages in SITUATIONS.items():
        tree = Tree.path(messages)
        try:
            tokens = renderer.render(tree)
        except DataError:
            continue
        accepted.add(situation)
        assert find_mask_faults(renderer, tree, tokens) == []
        tools = json.loads(messages[0].tools) if messages[0].tools else None
        chat = stock_messages(renderer, messages[:-1])
        prompt = stock.apply_chat_template(chat, tools=tools, add_generation_prompt=True, return_dict=False)
        assert prompt == renderer.prompt(messages[:-1])
    assert accepted == ACCEPTED[name]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("messages", "what"),
    [
        ((ASKING, YES), "definitions of tools"),
        ((FIRST, CALLING), "tool calls"),
        ((FIRST, replace(YES, reasoning=WHY)), "reasoning"),
        ((FIRST, YES, RESULT), "a message of a tool"),
    ],
)
def test_other_formats_refuse_what_they_have_no_place_for(name: str, messages: Sequence[Message], what: str) -> None:
    format = build_format(name)
    found = [format.find_fault(message, messages[:number]) for number, message in enumerate(messages)]
    assert any(f"{what}, but format {name!r} has no place for that; text.format: tokenizer" in str(x) for x in found)


def test_tool_calls_and_reasoning_are_trained_unless_a_switch_says_otherwise(opened: Open) -> None:
    messages = (ASKING, replace(CALLING, reasoning=WHY), RESULT, replace(YES, reasoning="3 mm."))
    call = '<tool_call>\n{"name": "get_rain", "arguments": {"city": "Bergen", "unit": "mm"}}\n</tool_call><|im_end|>'
    first, last = f"<think>\n{WHY}\n</think>\n\n", "<think>\n3 mm.\n</think>\n\n"
    expected = {
        (True, True): f"{first}{call}{last}{YES.text}<|im_end|>",
        (False, True): f"{call}{YES.text}<|im_end|>",
        (True, False): f"{last}{YES.text}<|im_end|>",
        (False, False): f"{YES.text}<|im_end|>",
    }
    ids = set()
    for (reasoning, calls), text in expected.items():
        renderer = opened("qwen3", train_reasoning=reasoning, train_tool_calls=calls)
        assert trained_text(renderer, messages) == text
        assert faults(renderer, Tree.path(messages)) == []
        ids.add(renderer.tokenizer.decode(renderer.render(Tree.path(messages)).ids.tolist(), skip_controls=False))
    assert len(ids) == 1  # the text is the same


def test_the_proof_finds_what_a_switch_excludes_among_the_targets(opened: Open) -> None:
    tree = Tree.path((ASKING, replace(CALLING, reasoning=WHY), RESULT, replace(YES, reasoning="3 mm.")))
    everything = opened("qwen3").render(tree)
    for switch, fault in (("train_reasoning", "context"), ("train_tool_calls", "context")):
        found = find_mask_faults(opened("qwen3", **{switch: False}), tree, everything)
        assert fault in {each.property for each in found}
    nothing = opened("qwen3", train_reasoning=False, train_tool_calls=False).render(tree)
    assert {each.property for each in find_mask_faults(opened("qwen3"), tree, nothing)} >= {"reply"}


def test_the_proof_finds_tokens_that_lost_a_part(opened: Open) -> None:
    renderer = opened("qwen3")
    tree = Tree.path((FIRST, replace(YES, reasoning=WHY)))
    without = renderer.render(Tree.path((FIRST, YES)))
    assert [each.property for each in find_mask_faults(renderer, tree, without)] == ["reply"]


def test_siblings_share_a_prompt_with_tools(opened: Open) -> None:
    renderer = opened("qwen3", "ranked")
    replies = (replace(CALLING, rank=0), replace(YES, rank=1), replace(YES, reasoning=WHY, rank=2))
    tree = Tree((ASKING, *replies), (-1, 0, 0, 0))
    tokens = renderer.render(tree)
    assert find_mask_faults(renderer, tree, tokens) == []
    assert len(tokens.replies) == 3


def test_added_tokens_that_are_not_special_are_the_language_of_the_model(opened: Open) -> None:
    renderer = opened("qwen3")
    think = renderer.tokenizer.encode("<think>")
    assert len(think) == 1
    assert renderer.tokenizer.may_come_from_text(think[0])
    assert len(renderer.tokenizer.encode("<|im_end|>")) > 1
    tokens = renderer.render(Tree.path((Message("user", "What is <think>?"), YES)))
    assert tokens.ids.tolist().count(think[0]) == 2
    marks = opened("deepseek-v3").tokenizer
    assert len(marks.encode("<\uff5cUser\uff5c>")) > 1  # it is a mark of turns in this template
    assert len(marks.encode("<think>")) == 1


def test_reasoning_inside_of_a_text_is_reasoning_where_the_template_reads_it(opened: Open) -> None:
    inline = Message("assistant", f"<think>\n{WHY}\n</think>\n\n{YES.text}")
    apart = replace(YES, reasoning=WHY)
    renderer = opened("qwen3", train_reasoning=False)
    one, other = (renderer.render(Tree.path((FIRST, reply))) for reply in (inline, apart))
    assert one.ids.tolist() == other.ids.tolist()
    assert one.targets().tolist() == other.targets().tolist()
    assert trained_text(renderer, (FIRST, inline)) == f"{YES.text}<|im_end|>"
    assert faults(renderer, Tree.path((FIRST, inline))) == []


@pytest.mark.skipif(template_directory() is None, reason="trl is not installed")
def test_a_reply_with_empty_reasoning_is_read_as_the_template_writes_it(opened: Open) -> None:
    empty = Message("assistant", f"<think>\n\n</think>\n\n{YES.text}")
    renderer = opened(read_templates()["qwen3_training"])
    one, other = (renderer.render(Tree.path((FIRST, reply))) for reply in (empty, YES))
    assert one.ids.tolist() == other.ids.tolist()


def test_a_system_message_without_tokens_of_its_own_can_be_shown(opened: Open) -> None:
    renderer = opened(TURNS, system="first_user")
    tree = Tree.path((SYSTEM, FIRST, YES))
    (thread,) = show_threads(renderer, tree, renderer.render(tree))
    assert SYSTEM.text in "".join(token.text for token in thread)


def test_a_variable_is_part_of_the_template(opened: Open, tmp_path: Path) -> None:
    prompts = []
    for variables in ({}, {"enable_thinking": True}, {"enable_thinking": False}):
        renderer = opened("qwen3", variables=variables)
        renderer.tokenizer.save(tmp_path, renderer.format.chat_template())
        stock = AutoTokenizer.from_pretrained(tmp_path)
        chat = [{"role": "user", "content": FIRST.text}]
        asked = stock.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
        assert asked == renderer.prompt([FIRST])
        assert faults(renderer, Tree.path((FIRST, YES, SECOND, NO))) == []
        prompts.append(renderer.tokenizer.decode(asked, skip_controls=False))
    assert prompts[0] == prompts[1]
    assert prompts[2] == f"{prompts[0]}<think>\n\n</think>\n\n"


def test_a_system_message_is_written_before_the_question_where_an_option_says_so(opened: Open, tmp_path: Path) -> None:
    refused = opened(TURNS)
    fault = refused.format.find_fault(SYSTEM, ())
    assert fault is not None
    assert "text.options.system: first_user" in fault
    renderer = opened(TURNS, system="first_user")
    messages = (SYSTEM, FIRST, YES, SECOND, NO)
    assert faults(renderer, Tree.path(messages)) == []
    folded = (Message("user", f"{SYSTEM.text}\n\n{FIRST.text}"), *messages[2:])
    assert renderer.render(Tree.path(messages)).ids.tolist() == refused.render(Tree.path(folded)).ids.tolist()
    renderer.tokenizer.save(tmp_path, renderer.format.chat_template())
    stock = AutoTokenizer.from_pretrained(tmp_path)
    chat = [message.as_dict(message.text) for message in messages[:-1]]
    assert stock.apply_chat_template(chat, add_generation_prompt=True, return_dict=False) == renderer.prompt(
        messages[:-1]
    )


def test_a_template_is_read_from_a_file(opened: Open, directory: Path, tmp_path: Path) -> None:
    path = tmp_path / "own.jinja"
    path.write_text(MARKS, encoding="utf-8")
    found = template_options(str(directory), given={"template_file": str(path)})
    assert found["template"] == MARKS
    assert "template_file" not in found
    with pytest.raises(RecipeError, match="there are two chat templates"):
        template_options(str(directory), given={"template_file": str(path), "template": "qwen3"})
    with pytest.raises(MissingInputError, match="cannot be read as UTF-8"):
        template_options(str(directory), given={"template_file": str(tmp_path / "other.jinja")})


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"template": "qwen33"}, "there is no chat template 'qwen33'; did you mean 'qwen3'?"),
        ({"template": "own"}, "there is no chat template 'own'; known are deepseek-r1, deepseek-v3, gpt-oss, qwen3"),
        ({"template": "qwen3", "variables": {"thinking": True}}, "it reads enable_thinking"),
        ({"template": "qwen3", "variables": {"enable_thinking": [1]}}, "is not a text, a number, true, false or null"),
        ({"template": "qwen3", "variables": "enable_thinking"}, "not a mapping of names to values"),
        ({"template": "qwen3", "variables": {"messages": 1}}, "does not read a variable 'messages'"),
        ({"template": "qwen3", "system": "drop"}, "use own .* or first_user"),
        ({"template": "qwen3", "variable": {}}, "has no option 'variable'; did you mean 'variables'?"),
        ({"template_file": 3}, "template_file is not a path"),
    ],
)
def test_bad_options_of_a_template_are_refused(options: dict[str, Any], reason: str, directory: Path) -> None:
    with pytest.raises(RecipeError, match=reason):
        template_options(str(directory), given=options)


FIRST_ONLY = MARKS.replace("message['content'] +", "(message['content'] if loop.last else '-') +")
LAST_THINKS = """\
{%- for m in messages -%}<|im_start|>{{ m.role }}
{% if m.reasoning_content and (loop.last or keep) %}<think>{{ m.reasoning_content }}</think>{% endif %}
{{- m.content }}<|im_end|>{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"""
TEXT_OR_CALLS = """\
{%- for m in messages -%}<|im_start|>{{ m.role }}\n{{ m.tool_calls | tojson if m.tool_calls else m.content }}<|im_end|>
{%- endfor -%}{%- if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"""


@pytest.mark.parametrize(
    ("template", "messages", "reason"),
    [
        (LAST_THINKS, (FIRST, replace(YES, reasoning=WHY), SECOND, NO), r"earlier turns change .*\{keep: true\}"),
        (MARKS, (FIRST, replace(YES, reasoning=WHY)), "has no place for reasoning; "),
        (MARKS, (ASKING, YES), "has no place for definitions of tools"),
        (MARKS, (FIRST, CALLING), "leaves out the tool calls of turn 2 of 2 turns"),
        (TEXT_OR_CALLS, (FIRST, replace(CALLING, text="I look.")), r"exactly once \(turn 2 of 2 turns\)"),
        ("deepseek-r1", (ASKING, YES), "write them into a system message"),
    ],
)
def test_what_a_template_leaves_out_is_refused(
    template: str, messages: Sequence[Message], reason: str, opened: Open
) -> None:
    with pytest.raises(DataError, match=f"{reason}") as caught:
        opened(template).render(Tree.path(messages))
    assert "drop" not in str(caught.value)
    assert "remove" not in str(caught.value)


HOSTILE = st.lists(
    st.one_of(contents, st.sampled_from([*SPECIAL, *PLAIN, "<|im_", "end|>", "<", "\ue002", "\ue000"])), max_size=3
).map("".join)


@settings(max_examples=40, deadline=None)
@given(texts=st.lists(HOSTILE, min_size=8, max_size=8), name=st.sampled_from(["qwen3", "deepseek-v3"]))
def test_no_text_of_a_conversation_becomes_a_control_token(opened: Open, texts: list[str], name: str) -> None:
    renderer = opened(name)
    question, answer, reasoning, argument, key, result, description, city = texts
    tool = json.loads(json.dumps(TOOL))
    tool["function"]["description"] = description
    tool["function"]["parameters"]["properties"] = {key: {"type": "string", "enum": [city, "a"]}}
    thought = reasoning if name == "qwen3" else ""
    call = ToolCall("get_rain", json.dumps({key: argument, "unit": [city]}, ensure_ascii=False))
    messages = (
        Message("user", question, tools=json.dumps([tool]) if name == "qwen3" else ""),
        Message("assistant", "", tool_calls=(call,), reasoning=thought),
        Message("tool", result),
        Message("assistant", answer or "a", reasoning=thought),
    )
    plain = (
        replace(FIRST, tools=json.dumps([TOOL]) if name == "qwen3" else ""),
        replace(CALLING, reasoning="why" if thought else ""),
        RESULT,
        replace(YES, reasoning="why" if thought else ""),
    )
    try:
        tokens = renderer.render(Tree.path(messages))
    except DataError:
        return
    assert controls(renderer, tokens) == controls(renderer, renderer.render(Tree.path(plain)))


@pytest.mark.parametrize("text", ["</think>", "<think></think>", "<think>\n\n</think>\n\n"])
def test_a_reply_of_thinking_marks_alone_is_read_or_refused(opened: Open, text: str) -> None:
    renderer = opened("qwen3")
    tree = Tree.path((replace(FIRST, tools=json.dumps([TOOL])), CALLING, RESULT, Message("assistant", text)))
    try:
        tokens = renderer.render(tree)
    except DataError as error:
        refusal = str(error)
    else:
        assert not find_mask_faults(renderer, tree, tokens)
        refusal = ""
    assert not refusal or "the chat template" in refusal


def controls(renderer: Renderer, tokens: TokenTree) -> list[int]:
    return [token for token in tokens.ids.tolist() if renderer.tokenizer.is_control(token)]


def test_an_injected_control_token_would_be_found(opened: Open) -> None:
    renderer = opened("qwen3")
    tree = Tree.path((Message("user", "a"), YES))
    tokens = renderer.render(tree)
    end = renderer.tokenizer.control("<|im_end|>")
    ids = np.where(np.arange(len(tokens.ids)) == 2, end, tokens.ids)
    found = find_mask_faults(renderer, tree, replace(tokens, ids=ids))
    assert "control" in {each.property for each in found}

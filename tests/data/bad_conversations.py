"""What readers of single exchanges, conversations and message trees must refuse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.data.shapes import Shape


def chat(*turns: tuple[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def with_turn(**turn: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello.", **turn}]}


def message(number: int, said_by: Any, *replies: dict[str, Any], **more: Any) -> dict[str, Any]:
    given = {
        "message_id": f"m{number}",
        "text": f"Text {number}.",
        "role": said_by,
        "lang": "en",
        "review_result": True,
    }
    return {**given, "replies": list(replies), **more}


def exported(*replies: dict[str, Any], **root: Any) -> dict[str, Any]:
    """A tree of the export with these replies to its root."""
    return {"tree_state": "ready_for_export", "prompt": message(0, "prompter", *replies, **root)}


GOOD_CHAT = chat(
    ("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello."), ("user", "Bye"), ("assistant", "Bye.")
)
GOOD_TREE = exported(message(1, "assistant", message(3, "prompter", message(4, "assistant"))), message(2, "assistant"))

CHAT_FAULTS: dict[str, tuple[Mapping[str, Any], str]] = {
    "only a question": (chat(("user", "Hi")), "no assistant message"),
    "only a system message": (chat(("system", "Hi")), "no assistant message"),
    "the assistant first": (chat(("assistant", "Hi"), ("user", "Hello.")), "begins with a message of the assistant"),
    "two questions": (chat(("user", "a"), ("user", "b"), ("assistant", "c")), "the user after one of the user"),
    "two answers": (chat(("user", "a"), ("assistant", "b"), ("assistant", "c")), "after one of the assistant"),
    "a system message in the middle": (
        chat(("user", "a"), ("system", "b"), ("assistant", "c")),
        "a system message that is not the first",
    ),
    "a system message at the end": (
        chat(("user", "a"), ("assistant", "b"), ("system", "c")),
        "a system message that is not the first",
    ),
    **{
        f"the role {role!r}": (chat(("user", "a"), (role, "b")), "messages[1]: role ")
        for role in (
            "",
            "User",
            "ASSISTANT",
            " user",
            "human",
            "gpt",
            "function",
            "developer",
            "a" * 5000,
            "user\n",
        )
    },
    **{
        f"a message with {key}": (with_turn(**{key: value}), f"has {key!r}, which is not supported")
        for key, value in {
            "function_call": {"name": "f"},
            "tool_call_id": "1",
            "audio": {"id": "a"},
            "refusal": "No.",
            "name": "Bob",
        }.items()
    },
    **{f"the weight {weight}": (with_turn(weight=weight), "weight") for weight in (2, -1, 0.5, "1")},
    "a part that is no text": (
        with_turn(content=[{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "a"}}]),
        "messages[1].content[1] is a part of type 'image_url', which is not supported",
    ),
    "a part without text": (with_turn(content=[{"type": "text"}]), "messages[1].content[0] is a part of type 'text'"),
    "a call without a name": (with_turn(tool_calls=[{"id": "1"}]), "messages[1].tool_calls[0].name is null"),
    "a call of another type": (with_turn(tool_calls=[{"type": "web"}]), "tool_calls[0] is a call of type 'web'"),
    "a call with a result": (
        with_turn(tool_calls=[{"function": {"name": "f", "output": "x"}}]),
        "tool_calls[0] has 'output', which is not supported",
    ),
    "arguments in a list": (
        with_turn(tool_calls=[{"function": {"name": "f", "arguments": [1]}}]),
        "tool_calls[0].arguments is a list, not an object or a text",
    ),
    "tool calls that are no list": (with_turn(tool_calls={"name": "f"}), "messages[1].tool_calls is an object, not"),
    "two kinds of reasoning": (
        with_turn(reasoning_content="a", thinking="b"),
        "messages[1]: reasoning_content and thinking differ",
    ),
    "reasoning of a number": (with_turn(reasoning=3), "messages[1].reasoning is a number, not text"),
    "reasoning of the user": (
        {"messages": [{"role": "user", "content": "a", "thinking": "b"}, {"role": "assistant", "content": "c"}]},
        "a message of the user with 'thinking'",
    ),
    "calls of the user": (
        {
            "messages": [
                {"role": "user", "content": "a", "tool_calls": [{"function": {"name": "f"}}]},
                {"role": "assistant", "content": "c"},
            ]
        },
        "a message of the user with tool calls",
    ),
    "tools of a text": ({**chat(("user", "a"), ("assistant", "b")), "tools": "search"}, "field 'tools' is not JSON"),
    "tools of an object": (
        {**chat(("user", "a"), ("assistant", "b")), "tools": {"name": "f"}},
        "field 'tools' is an object, not a list",
    ),
    "tools of numbers": ({**chat(("user", "a"), ("assistant", "b")), "tools": [1]}, "tools[0] is a number, not the"),
    "2,001 messages": (chat(*([("user", "a"), ("assistant", "b")] * 1000), ("user", "c")), "has 2,001 messages"),
    "other names": ({"conversations": [{"from": "human", "value": "Hi"}]}, "field 'messages' is missing"),
    "an empty row": ({}, "field 'messages' is missing"),
}


def shared(*turns: tuple[str, Any]) -> dict[str, Any]:
    return {"conversations": [{"from": role, "value": value} for role, value in turns]}


SHARED_FAULTS: dict[str, tuple[Mapping[str, Any], str]] = {
    "the assistant first": (shared(("gpt", "a"), ("human", "b"), ("gpt", "c")), "the assistant speaks first"),
    "two questions": (shared(("human", "a"), ("human", "b"), ("gpt", "c")), "turns 0 and 1 are both of the user"),
    "two answers": (shared(("human", "a"), ("gpt", "b"), ("gpt", "c")), "turns 1 and 2 are both of the assistant"),
    "no answer": (shared(("human", "a")), "no assistant message"),
    "a system message in the middle": (
        shared(("human", "a"), ("system", "b"), ("gpt", "c")),
        "a system message that is not the first",
    ),
    **{f"the role {role!r}": (shared(("human", "a"), (role, "b")), "role ") for role in ("GPT", "function", "", "x")},
    "a call that is no JSON": (shared(("human", "a"), ("function_call", "f(x)")), "conversations[1].value is not JSON"),
    "a call that is a number": (shared(("human", "a"), ("function_call", "1")), "is a number, not a call of a tool"),
    "an empty list of calls": (shared(("human", "a"), ("function_call", "[]")), "is an empty list"),
    **{
        f"the role {role!r}": (shared(("human", "a"), (role, "b")), "is unknown")
        for role in (None, 1, ["gpt"], {"a": 1})
    },
    "the names of messages": ({"messages": []}, "field 'conversations' is missing"),
}
TREE_FAULTS: dict[str, tuple[Mapping[str, Any], str]] = {
    "a prompt of text": ({"tree_state": "ready_for_export", "prompt": "Hi"}, "field 'prompt' is text"),
    "no state": ({"prompt": message(0, "prompter", message(1, "assistant"))}, "field 'tree_state' is missing"),
    "a thread of texts": ({"tree_state": "ready_for_export", "thread": ["a"]}, "thread[0] is text"),
    "an empty thread": ({"tree_state": "ready_for_export", "thread": []}, "field 'thread' is empty"),
    "an unknown role in a reply that nobody answers": (
        exported(message(1, "assistant"), message(2, "assistant", message(3, "Prompter"))),
        "message 'm3' has the role 'Prompter'",
    ),
    "no prompt": ({"tree_state": "ready_for_export"}, "field 'prompt' is missing"),
    "a prompt that is null": ({"tree_state": "ready_for_export", "prompt": None}, "field 'prompt' is null"),
    "a list of prompts": ({"tree_state": "ready_for_export", "prompt": [message(0, "prompter")]}, "is a list"),
    "a message alone": (message(0, "prompter"), "field 'tree_state' is missing"),
    "an id twice": (exported(message(1, "assistant"), message(1, "assistant")), "'m1' occurs twice"),
    "the id of the root again": (exported(message(0, "assistant")), "'m0' occurs twice"),
    "an id twice, far apart": (
        exported(message(1, "assistant", message(2, "prompter", message(1, "assistant")))),
        "'m1' occurs twice",
    ),
    "its own parent": (exported(message(1, "assistant", parent_id="m1")), "names 'm1' as its parent"),
    "a parent that is not there": (exported(message(1, "assistant", parent_id="m7")), "names 'm7' as its parent"),
    "the grandparent as parent": (
        exported(message(1, "assistant", message(2, "prompter", message(3, "assistant"), parent_id="m0"))),
        "names 'm0' as its parent, but is below 'm1'",
    ),
    "a root with a parent": (exported(message(1, "assistant"), parent_id="m1"), "names 'm1' as its parent"),
    "a parent that is a number": (exported(message(1, "assistant", parent_id=5)), "names 5 as its parent"),
    "replies that are text": (exported(message(1, "assistant", replies="none")), "are not a list of messages"),
    "replies that are one message": (exported(message(1, "assistant", replies={"text": "a"})), "are not a list"),
    "replies of texts": (exported(message(1, "assistant", replies=["a"])), "are not a list of messages"),
    "a reply that is null": (exported(message(1, "assistant", replies=[None])), "are not a list of messages"),
    **{
        f"the rank {rank!r}": (exported(message(1, "assistant", rank=rank)), "the rank of message 'm1'")
        for rank in (-1, 0.5, "0", True, [0])
    },
    **{
        f"the role {role!r}": (exported(message(1, "assistant"), message(2, role)), "message 'm2' has the role")
        for role in ("user", "Assistant", "system", "", None, 3, ["assistant"], {"role": "assistant"})
    },
    "a language that is a number": (exported(message(1, "assistant", lang=5)), "the language of message 'm1'"),
    "labels that are a list": (exported(message(1, "assistant", labels=["a"])), "the labels of message 'm1'"),
    "a label without a value": (exported(message(1, "assistant", labels={"spam": {}})), "no number as its value"),
    "a label that is text": (exported(message(1, "assistant", labels={"spam": {"value": "0"}})), "no number"),
    "a label that is true": (exported(message(1, "assistant", labels={"spam": {"value": True}})), "no number"),
    "an assistant at the root": (exported(message(1, "assistant"), role="assistant"), "begins with a message of the"),
    "an answer to an answer": (
        exported(message(1, "assistant", message(2, "assistant"))),
        "after one of the assistant",
    ),
}

CONVERSATIONS: dict[str, Shape] = {
    "dolly": Shape(
        {"instruction": "Name a river.", "context": "Of Portugal.", "response": "The Douro.", "category": "open_qa"},
        (("instruction",), ("response",)),
        optional=(("context",),),
        special={
            "an empty row": ({}, "the fields 'instruction' and 'response' are missing"),
            "the fields of another form": ({"prompt": "a", "completion": "b"}, "'response' are missing"),
            "names in capitals": ({"Instruction": "a", "Response": "b"}, "'response' are missing"),
        },
        format="dolly",
    ),
    "alpaca": Shape(
        {"instruction": "Name a river.", "input": "Of Portugal.", "output": "The Douro."},
        (("instruction",), ("output",)),
        optional=(("input",),),
        special={"the fields of another form": ({"instruction": "a", "response": "b"}, "field 'output' is missing")},
        format="alpaca",
    ),
    "prompt-completion": Shape(
        {"prompt": "Name a river.", "completion": "The Douro."},
        (("prompt",), ("completion",)),
        also_lists=True,
        special={
            "a prompt of texts": ({"prompt": ["a"], "completion": "b"}, "prompt[0] is text"),
            "an empty prompt": ({"prompt": [], "completion": "b"}, "field 'prompt' is empty"),
            "a completion of the user": (
                {"prompt": "a", "completion": [{"role": "user", "content": "b"}]},
                "field 'completion' has no assistant message",
            ),
            "a completion that begins with the user": (
                {"prompt": "a", "completion": chat(("user", "b"), ("assistant", "c"))["messages"]},
                "field 'completion' does not begin with the assistant",
            ),
            "a prompt that ends with the assistant": (
                {"prompt": chat(("user", "b"), ("assistant", "c"))["messages"], "completion": "d"},
                "after one of the assistant",
            ),
        },
        good={"lists": {"prompt": chat(("user", "a"))["messages"], "completion": chat(("assistant", "b"))["messages"]}},
    ),
    "text": Shape({"text": "A document."}, (("text",),), format="plain"),
    "sharegpt": Shape(
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}]},
        (("conversations", 0, "value"), ("conversations", 1, "value")),
        lists=(("conversations",),),
        special=SHARED_FAULTS,
        good={
            "roles of the other form": {"conversations": GOOD_CHAT["messages"]},
            "items": {"items": [{"from": "user", "value": "Hi"}, {"from": "bard", "value": "Hello."}]},
        },
    ),
    "messages": Shape(
        GOOD_CHAT,
        tuple(("messages", index, "content") for index in range(5)),
        lists=(("messages",),),
        special=CHAT_FAULTS,
        good={
            "a weight of one": with_turn(weight=1),
            "marks without a value": with_turn(tool_calls=None, name=""),
        },
    ),
    "oasst": Shape(
        GOOD_TREE,
        (
            ("prompt", "text"),
            ("prompt", "replies", 0, "text"),
            ("prompt", "replies", 1, "text"),
            ("prompt", "replies", 0, "replies", 0, "text"),
            ("prompt", "replies", 0, "replies", 0, "replies", 0, "text"),
        ),
        special=TREE_FAULTS,
        good={
            "no replies": exported(message(1, "assistant", replies=None)),
            "ranks with gaps and ties": exported(
                *(message(n, "assistant", rank=r) for n, r in ((1, 7), (2, 7), (3, 0)))
            ),
            "no labels": exported(message(1, "assistant", labels=None)),
        },
    ),
}

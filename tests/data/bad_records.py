"""Records that a reader must refuse, made from one good row of each reader: every field missing, null, of another type, empty.

A reader that is new in the registry needs an entry here; see ``test_bad_records.py``.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunesmith.data.readers import READERS

Path = tuple[str | int, ...]  # ("messages", 1, "content")

MISSING = object()
NOT_TEXT: dict[str, tuple[Any, str]] = {  # name -> value, what the message says of it
    "missing": (MISSING, ""),
    "null": (None, "null"),
    "a number": (12, "a number"),
    "a fraction": (0.5, "a number"),
    "true": (True, "true or false"),
    "a list": (["a"], "a list"),
    "an object": ({"text": "a"}, "an object"),
}
BLANK: dict[str, tuple[Any, str]] = {
    "empty": ("", "empty"),
    "spaces": ("  ", "empty"),
    "white space": ("\n\t\u00a0\u2003\r\n", "empty"),
}
TEXT_LIKE = (
    "2023-01-01",
    "2023-01-01T00:00:00Z",
    "12",
    "true",
    "null",
    "NaN",
    "[]",
    "{}",
    "=1+1",
    "\ufeffx",
    "x\u2028y",
)


@dataclass(frozen=True)
class Shape:
    """A good row and what may be done to it.

    texts: fields that must hold text which is not blank. optional: fields that hold text, or null, or nothing.
    special: further bad rows, each with what is said. good: further rows that must be read.
    """

    row: Mapping[str, Any]
    texts: Sequence[Path]
    optional: Sequence[Path] = ()
    special: Mapping[str, tuple[Mapping[str, Any], str]] = field(default_factory=dict)
    good: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    fields: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    format: str = "chatml"


@dataclass(frozen=True)
class BadRecord:
    """A row for a reader, and words that the message must hold, all of them."""

    reader: str
    row: Mapping[str, Any]
    says: tuple[str, ...]


def changed(row: Mapping[str, Any], path: Path, value: Any) -> dict[str, Any]:
    """The row with another value, or without a value, at that path."""
    result = copy.deepcopy(dict(row))
    inside: Any = result
    for step in path[:-1]:
        inside = inside[step]
    if value is MISSING:
        del inside[path[-1]]
    else:
        inside[path[-1]] = value
    return result


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

NO_MESSAGES: dict[str, tuple[Mapping[str, Any], str]] = {
    f"messages {name}": (changed(GOOD_CHAT, ("messages",), value), f"field 'messages' is {says or name}")
    for name, (value, says) in NOT_TEXT.items()
    if name != "a list"
}
CHAT_FAULTS: dict[str, tuple[Mapping[str, Any], str]] = {
    **NO_MESSAGES,
    "messages as text": ({"messages": "Hi"}, "field 'messages' is text"),
    "no messages": ({"messages": []}, "field 'messages' is empty"),
    "messages of texts": ({"messages": ["Hi", "Hello."]}, "messages[0] is text"),
    "messages of lists": ({"messages": [["user", "Hi"]]}, "messages[0] is a list"),
    "a message that is null": ({"messages": [None]}, "messages[0] is null"),
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
            "tool",
            "function",
            "developer",
            "a" * 5000,
            "user\n",
        )
    },
    **{
        f"a message with {key}": (with_turn(**{key: value}), f"has {key!r}, which is not supported")
        for key, value in {
            "tool_calls": [{"id": "1"}],
            "function_call": {"name": "f"},
            "tool_call_id": "1",
            "audio": {"id": "a"},
            "refusal": "No.",
            "name": "Bob",
        }.items()
    },
    **{f"the weight {weight}": (with_turn(weight=weight), "weight") for weight in (2, -1, 0.5, "1", True)},
    "content in parts": (with_turn(content=[{"type": "text", "text": "a"}]), "messages[1].content is a list"),
    "2,001 messages": (chat(*([("user", "a"), ("assistant", "b")] * 1000), ("user", "c")), "has 2,001 messages"),
    "other names": ({"conversations": [{"from": "human", "value": "Hi"}]}, "field 'messages' is missing"),
    "an empty row": ({}, "field 'messages' is missing"),
}
TREE_FAULTS: dict[str, tuple[Mapping[str, Any], str]] = {
    "a prompt of text": ({"tree_state": "ready_for_export", "prompt": "Hi"}, "field 'prompt' is text"),
    "no prompt": ({"tree_state": "ready_for_export"}, "field 'prompt' is missing"),
    "a prompt that is null": ({"tree_state": "ready_for_export", "prompt": None}, "field 'prompt' is null"),
    "a list of prompts": ({"tree_state": "ready_for_export", "prompt": [message(0, "prompter")]}, "is a list"),
    "a message alone": (message(0, "prompter"), "field 'prompt' is missing"),
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
        "names 'm0' as its parent but stands below 'm1'",
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
        for role in ("user", "Assistant", "system", "", None, 3)
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

SHAPES: dict[str, Shape] = {
    "dolly": Shape(
        {"instruction": "Name a river.", "context": "Of Portugal.", "response": "The Douro.", "category": "open_qa"},
        (("instruction",), ("response",)),
        (("context",),),
        special={
            "an empty row": ({}, "field 'instruction' is missing"),
            "the fields of another form": ({"prompt": "a", "completion": "b"}, "field 'instruction' is missing"),
            "names in capitals": ({"Instruction": "a", "Response": "b"}, "field 'instruction' is missing"),
        },
        format="dolly",
    ),
    "alpaca": Shape(
        {"instruction": "Name a river.", "input": "Of Portugal.", "output": "The Douro."},
        (("instruction",), ("output",)),
        (("input",),),
        special={"the fields of another form": ({"instruction": "a", "response": "b"}, "field 'output' is missing")},
        format="alpaca",
    ),
    "messages": Shape(
        GOOD_CHAT,
        tuple(("messages", index, "content") for index in range(5)),
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
KNOWN = {name: shape for name, shape in SHAPES.items() if name in READERS}


def bad_rows(shape: Shape) -> Iterator[tuple[str, Mapping[str, Any], tuple[str, ...]]]:
    """Name, row and words for every way in which a row of this shape can be wrong."""
    for path in shape.texts:
        label = str(path[-1])
        for name, (value, says) in {**NOT_TEXT, **BLANK}.items():
            # A text inside a message is named by its message, and says the same whether it is missing or null.
            expected = says or ("missing" if len(path) == 1 else "null")
            words = (expected,) if expected == "empty" and len(path) > 1 else (label, expected)
            yield f"{'.'.join(map(str, path))} {name}", changed(shape.row, path, value), words
    for path in shape.optional:
        for name, (value, says) in NOT_TEXT.items():
            if value is not None and value is not MISSING:
                yield f"{'.'.join(map(str, path))} {name}", changed(shape.row, path, value), (str(path[-1]), says)
    for name, (row, says) in shape.special.items():
        yield name, row, (says,)


def good_rows(shape: Shape) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Name and row of everything that must be read."""
    yield "the row itself", shape.row
    yield from shape.good.items()
    for path in (*shape.texts, *shape.optional):
        for text in TEXT_LIKE:
            yield f"{'.'.join(map(str, path))} {text!r}", changed(shape.row, path, text)
    for path in shape.optional:
        for name, value in (("null", None), ("missing", MISSING), ("empty", ""), ("spaces", "  ")):
            yield f"{'.'.join(map(str, path))} {name}", changed(shape.row, path, value)


BAD_RECORDS: dict[str, BadRecord] = {
    f"{reader}: {name}": BadRecord(reader, row, says)
    for reader, shape in KNOWN.items()
    for name, row, says in bad_rows(shape)
}
GOOD_RECORDS: dict[str, tuple[str, Mapping[str, Any]]] = {
    f"{reader}: {name}": (reader, row) for reader, shape in KNOWN.items() for name, row in good_rows(shape)
}

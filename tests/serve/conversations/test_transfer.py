"""Export and import: what is written is read back, and any other file is refused with its line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.outcomes import read, tree_of
from tunesmith.errors import DataError
from tunesmith.serve.conversations.records import (
    DEEPEST,
    IDENTITY,
    ConversationTree,
    StoredConversation,
    StoredMessage,
    depth_first,
)
from tunesmith.serve.conversations.transfer import as_record, export_conversations, import_conversations, normalised

TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=30),
    st.sampled_from(
        (
            "",
            "a\n\nb\n",
            "<!-- tunesmith: {} -->",
            "\\<!-- tunesmith: {}",
            "\\\\<!-- tunesmith",
            "# x",
            "\r\n",
            "\u2028",
        )
    ),
)


@st.composite
def trees(draw: st.DrawFn) -> ConversationTree:
    """Conversations of any shape."""
    messages: list[StoredMessage] = []
    for number in range(draw(st.integers(1, 8))):
        parent = draw(st.none() | st.sampled_from(messages)) if messages else None
        is_reply = parent is not None and draw(st.booleans())
        made = StoredMessage(
            f"m{number}", parent.id if parent else None, "assistant" if is_reply else "user", draw(TEXTS),
            created=draw(st.integers(0, 10**12)), shown=draw(st.booleans()), context="" if is_reply else draw(TEXTS),
        )  # fmt: skip
        if is_reply:
            made = replace(
                made, model=draw(TEXTS), system="s", sampling={"top_k": 3}, seed=draw(st.integers(0, 2**63 - 1)),
                tokens=draw(st.integers(0, 9)), vote=draw(st.sampled_from((-1, 0, 1))), comment=draw(TEXTS),
                chosen=draw(st.sampled_from((None, True, False))), drafts=draw(st.sampled_from(("", "d"))),
                state=draw(st.sampled_from(("done", "stopped", "interrupted", "failed"))),
            )  # fmt: skip
        messages.append(made)
    conversation = StoredConversation("c", draw(TEXTS), draw(TEXTS), draw(st.booleans()), 5, 6)
    return ConversationTree(conversation, tuple(normalised(messages, "")))


@given(st.lists(trees(), min_size=1, max_size=3))
@settings(max_examples=40, deadline=None)
def test_our_lines_lose_nothing(found: list[ConversationTree]) -> None:
    text = "\n".join(export_conversations(iter(found), "jsonl"))
    assert import_conversations(text, "f") == found


def shown(tree: ConversationTree) -> tuple[Any, ...]:
    messages = [(m.role, m.text, m.context, m.model, m.state) for m in tree.shown_thread()]
    return (tree.conversation.title, tree.conversation.system, messages)


@given(st.lists(trees(), min_size=1, max_size=3))
@settings(max_examples=40, deadline=None)
def test_markdown_has_what_is_shown(found: list[ConversationTree]) -> None:
    text = "".join(f"{line}\n" for line in export_conversations(iter(found), "markdown"))
    assert [shown(tree) for tree in import_conversations(text, "f")] == [shown(tree) for tree in found]


@given(trees())
@settings(max_examples=40, deadline=None)
def test_oasst_trees_have_every_text_in_its_place(tree: ConversationTree) -> None:
    lines = list(export_conversations(iter([tree]), "oasst"))
    roots = [message for message in tree.messages if message.parent is None]
    assert len(lines) == len(roots)
    found = import_conversations("\n".join(lines), "f")
    for root, copy in zip(roots, found, strict=True):
        below = {root.id}
        for message in tree.messages:
            below |= {message.id} if message.parent in below else set()
        expected = [message for message in depth_first(tree.messages) if message.id in below]
        assert [(m.role, m.text, m.context, m.vote) for m in copy.messages] == [
            (m.role, m.text, m.context, m.vote) for m in expected
        ]


def test_exported_oasst_trees_are_read_by_train() -> None:
    system = "Be brief."
    messages = (
        StoredMessage("q", None, "user", "Why?", context="A passage."),
        StoredMessage("a", "q", "assistant", "Because.", system=system, drafts="d", chosen=True, vote=1, model="m"),
        StoredMessage("b", "q", "assistant", "No.", system=system, drafts="d", chosen=False, shown=False),
    )
    tree = ConversationTree(StoredConversation("c", "t", system), messages)
    (line,) = export_conversations(iter([tree]), "oasst")
    found = tree_of(read("oasst", json.loads(line), keep="rankings", synthetic=True))
    assert [(m.role, m.text, m.context, m.rank) for m in found.messages] == [
        ("system", "Be brief.", "", None),
        ("user", "Why?", "A passage.", None),
        ("assistant", "Because.", "", 0),
        ("assistant", "No.", "", 1),
    ]
    assert found.messages[2].labels == {"quality": 1.0}


def test_an_id_that_no_url_can_have_is_replaced() -> None:
    record = {"kind": "tunesmith conversation", "version": 1, "messages": []}
    for name in ("../other", "a/b", "x" * 65, "", "é", "a\n"):
        (tree,) = import_conversations(json.dumps({**record, "id": name}), "file")
        assert re.fullmatch(IDENTITY, tree.conversation.id)
    (tree,) = import_conversations(json.dumps({**record, "id": "kept-1"}), "file")
    assert tree.conversation.id == "kept-1"


def chain_of(count: int, name: str = "") -> ConversationTree:
    """A conversation of so many messages in a row."""
    chain = [
        StoredMessage(
            f"{name}{number}", f"{name}{number - 1}" if number else None, "assistant" if number % 2 else "user",
            f"{name} {number}",
        )
        for number in range(count)
    ]  # fmt: skip
    return ConversationTree(StoredConversation(f"c{name}", "long"), tuple(chain))


def test_a_conversation_that_is_too_long_for_a_nested_tree_is_exported_as_rows() -> None:
    lines = list(export_conversations(iter([chain_of(DEEPEST)]), "oasst"))
    assert len(import_conversations(lines[0], "file")[0].messages) == DEEPEST
    voted = ConversationTree(
        StoredConversation("v", "v"),
        (
            StoredMessage("q", None, "user", "Why?"),
            StoredMessage("a", "q", "assistant", "A", system="S", drafts="d", chosen=True, vote=1, model="m"),
            StoredMessage("b", "q", "assistant", "B", system="S", drafts="d", chosen=False, shown=False),
        ),
    )
    found = [chain_of(DEEPEST + 1, "x"), voted, chain_of(3000, "y")]
    lines = list(export_conversations(iter(found), "oasst"))
    assert len(lines) == DEEPEST + 1 + 4 + 3000, "one message a line, the system message too"
    copies = import_conversations("\n".join(lines), "file")
    for tree, copy in zip(found, copies, strict=True):
        assert [(m.role, m.text, m.vote, m.chosen, m.system) for m in copy.messages] == [
            (m.role, m.text, m.vote, m.chosen, m.system) for m in tree.messages
        ]


def test_wrong_rows_are_named_with_their_lines_and_any_order_is_read() -> None:
    lines = list(export_conversations(iter([chain_of(DEEPEST + 2)]), "oasst"))
    rows = [json.loads(line) for line in lines]
    assert {row["message_tree_id"] for row in rows} == {rows[0]["message_id"]}
    changes: list[tuple[int, dict[str, Any], str]] = [
        (3, {"parent_id": "none"}, "f:4: parent_id names no message"),
        (3, {"parent_id": None}, "2 messages of this tree answer none"),
        (3, {"message_id": rows[2]["message_id"]}, "f:4: message_id is missing, or occurs twice"),
        (3, {"role": "nobody"}, "f:4: the role of a message is 'nobody'"),
        (3, {"text": 5}, "f:4: the text of a message is"),
        (3, {"message_tree_id": 5}, "f:4: message_tree_id is 5"),
    ]
    for number, change, message in changes:
        wrong = [row | (change if index == number else {}) for index, row in enumerate(rows)]
        with pytest.raises(DataError, match=message):
            import_conversations("\n".join(map(json.dumps, wrong)), "f")
    shuffled = import_conversations("\n".join([lines[0], *lines[:0:-1]]), "f")
    assert [m.text for m in shuffled[0].messages] == [row["text"] for row in rows]


def test_published_trees_are_imported(real_data: Callable[[str], Path]) -> None:
    text = real_data("oasst/oasst1_en_validation-90.trees.jsonl").read_text(encoding="utf-8")
    found = import_conversations(text, "f")
    assert len(found) == len(text.strip().split("\n"))
    assert sum(len(tree.messages) for tree in found) > 500
    assert any(message.chosen for tree in found for message in tree.messages)


def test_lists_of_messages_are_imported() -> None:
    line = {"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "Q"},
                         {"role": "assistant", "content": "A"}]}  # fmt: skip
    (tree,) = import_conversations(json.dumps(line), "f")
    assert (tree.conversation.system, tree.conversation.title) == ("S", "Q")
    assert [message.text for message in tree.shown_thread()] == ["Q", "A"]


RECORD = as_record(ConversationTree(StoredConversation("c", "t"), (StoredMessage("q", None, "user", "Q"),)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "f:2: version 2"),
        ({"messages": {}}, "f:2: messages are an object"),
        ({"messages": [1]}, r"f:2 messages\[0\]: this is a"),
        ({"messages": [{"id": "a", "role": "system", "text": ""}]}, "role is 'system'"),
        ({"messages": [{"id": "a", "role": "user"}]}, "text is"),
        ({"messages": [{"id": "a", "role": "user", "text": "", "vote": 2}]}, "vote is 2"),
        ({"messages": [{"id": "a", "role": "user", "text": "", "tokens": -1}]}, "tokens is -1"),
        ({"messages": [{"id": "a", "role": "user", "text": "", "tokens": True}]}, "tokens is "),
        ({"messages": [{"id": "a", "role": "user", "text": "", "sampling": []}]}, "sampling is"),
        ({"messages": [{"id": "a", "role": "user", "text": "", "parent": "b"}]}, "does not exist"),
        ({"messages": [{"id": "a", "role": "user", "text": ""}] * 2}, "same id"),
        ({"messages": [{"id": "a", "role": "user", "text": "", "created": 2**62}]}, "created is"),
        ({"feedback": "yes"}, "feedback is"),
    ],
)
def test_a_wrong_record_is_refused_with_its_line(change: dict[str, Any], message: str) -> None:
    lines = [json.dumps(RECORD), json.dumps(RECORD | change)]
    with pytest.raises(DataError, match=message):
        import_conversations("\n".join(lines), "f")


@given(st.recursive(st.none() | st.booleans() | st.integers() | TEXTS, lambda x: st.lists(x, max_size=3)
       | st.dictionaries(st.sampled_from(("prompt", "replies", "role", "text", "messages", "message_id", "kind", "x")),
                         x, max_size=4)))  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_any_other_json_is_refused_or_read(value: Any) -> None:
    try:
        assert import_conversations(json.dumps(value), "f")
    except DataError as error:
        if not str(error).startswith("f"):
            raise


@pytest.mark.parametrize("text", ["", "\n", "not JSON", '<!-- tunesmith: {"role": "nobody"} -->', "[1]"])
def test_other_files_are_refused(text: str) -> None:
    with pytest.raises(DataError, match=r"^f"):
        import_conversations(text, "f")

"""Message trees of OpenAssistant: which messages are left, and what is refused."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.data.readers.reader import Filtered
from tunesmith.data.readers.registry import open_reader
from tunesmith.errors import DataError
from tunesmith.text.tree import Tree


def node(identity: str, role: str, *replies: dict[str, Any], **more: Any) -> dict[str, Any]:
    found = {"message_id": identity, "text": f"text {identity}", "role": role, "lang": "en", **more}
    found["replies"] = [{**reply, "parent_id": identity} for reply in replies]
    return found


def ask(identity: str, *replies: dict[str, Any], **more: Any) -> dict[str, Any]:
    return node(identity, "prompter", *replies, **more)


def answer(identity: str, *replies: dict[str, Any], **more: Any) -> dict[str, Any]:
    return node(identity, "assistant", *replies, **more)


def row(root: dict[str, Any], state: str | None = "ready_for_export", reviewed: bool | None = True) -> dict[str, Any]:
    return {
        "message_tree_id": root.get("message_id"),
        "tree_state": state,
        "prompt": {**root, "review_result": reviewed},
    }


def read(value: dict[str, Any], **options: Any) -> Any:
    return open_reader("oasst", {}, options)(value)


def threads(outcome: Any) -> list[str]:
    """Every thread of the tree that is left, as the ids of its messages."""
    if isinstance(outcome, Filtered):
        return []
    tree = outcome.tree
    return [" ".join(tree.messages[index].text.removeprefix("text ") for index in path) for path in tree.threads()]


SAMPLE = row(
    ask(
        "q",
        answer("a", ask("b", answer("c", rank=1), answer("d", rank=0)), ask("e"), rank=0),
        answer("f", ask("g", answer("h", deleted=True)), rank=1),
        answer("i", ask("j", answer("k")), synthetic=True),
    )
)


def test_shared_turns_are_there_once_and_unanswered_questions_go() -> None:
    outcome = read(SAMPLE)
    assert threads(outcome) == ["q a b c", "q a b d", "q f"]
    assert [message.text for message in outcome.tree.messages] == [f"text {name}" for name in "qabcdf"]
    assert outcome.dropped == {"deleted": 1, "synthetic": 3, "not answered": 2}


def test_synthetic_messages_can_stay() -> None:
    assert threads(read(SAMPLE, synthetic=True)) == ["q a b c", "q a b d", "q f", "q i j k"]


def test_top_k_keeps_the_best_and_replies_without_rivals() -> None:
    assert threads(read(SAMPLE, top_k=1)) == ["q a b d"]
    assert threads(read(SAMPLE, top_k=2)) == ["q a b c", "q a b d", "q f"]
    assert threads(read(SAMPLE, top_k=2, synthetic=True)) == ["q a b c", "q a b d", "q f"]  # i has no rank, but rivals
    assert threads(read(row(ask("q", answer("a"))), top_k=1)) == ["q a"]


def test_ranks_language_and_labels_travel_with_the_message() -> None:
    labels = {"quality": {"value": 0.75, "count": 3}, "humor": {"value": 0, "count": 3}, "spam": None}
    tree = read(row(ask("q", answer("a", rank=2, labels=labels, lang="de")))).tree
    assert tree.messages[1].rank == 2
    assert tree.messages[1].lang == "de"
    assert tree.messages[1].labels == {"quality": 0.75, "humor": 0.0}
    assert [message.role for message in tree.messages] == ["user", "assistant"]


@pytest.mark.parametrize(
    ("value", "options", "reason"),
    [
        (row(ask("q", answer("a")), state="growing"), {}, "tree_state growing"),
        (row(ask("q", answer("a")), state=None), {}, "no tree_state"),
        (row(ask("q", answer("a")), reviewed=False), {}, "root did not pass its review"),
        (row(ask("q", answer("a")), reviewed=None), {}, "root did not pass its review"),
        (row(ask("q", answer("a"), lang="de")), {"lang": ("en", "fr")}, "language de"),
        (row(ask("q", answer("a"), lang=None)), {"lang": ("en",)}, "no language"),
        (row(ask("q", answer("a"), deleted=True)), {}, "root deleted"),
        (row(ask("q", answer("a"), synthetic=True)), {}, "root synthetic"),
        (row(ask("q")), {}, "root not answered"),
        (row(ask("q", answer("a", deleted=True))), {}, "root not answered"),
    ],
)
def test_a_tree_is_filtered_with_its_reason(value: dict[str, Any], options: dict[str, Any], reason: str) -> None:
    assert read(value, **options) == Filtered(reason)


def test_the_filters_can_be_opened() -> None:
    value = row(ask("q", answer("a"), lang="de"), state=None, reviewed=None)
    assert threads(read(value, states=None, reviewed=False)) == ["q a"]


def damaged(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    value = copy.deepcopy(row(ask("q", answer("a", ask("b", answer("c"))))))
    change(value)
    return value


def first(value: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = value["prompt"]["replies"][0]
    return found


BAD_TREES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no prompt": (lambda value: value.pop("prompt"), "field 'prompt' is missing, not a message"),
    "a text as prompt": (lambda value: value.update(prompt="hi"), "field 'prompt' is text, not a message"),
    "an id twice": (lambda value: first(value).update(message_id="q"), "message 'q' occurs twice"),
    "another parent": (
        lambda value: first(value).update(parent_id="z"),
        "names 'z' as its parent, but is below 'q'",
    ),
    "its own parent": (lambda value: first(value).update(parent_id="a"), "names 'a' as its parent"),
    "a root with a parent": (lambda value: value["prompt"].update(parent_id="z"), "names 'z' as its parent"),
    "a text as replies": (lambda value: first(value).update(replies="no"), "replies of message 'a' are not a list"),
    "a text as reply": (lambda value: first(value).update(replies=["no"]), "replies of message 'a' are not a list"),
    "an unknown role": (
        lambda value: first(value)["replies"][0].update(role="user"),
        "message 'b' has the role 'user'",
    ),
    "no role": (lambda value: first(value)["replies"][0].pop("role"), "message 'b' has the role None"),
    "no text": (lambda value: first(value).pop("text"), "the text of message 'a' is null"),
    "a number as text": (lambda value: first(value).update(text=12), "the text of message 'a' is a number, not text"),
    "blank text": (lambda value: first(value).update(text=" "), "the text of message 'a' is empty"),
    "a rank in words": (lambda value: first(value).update(rank="0"), "the rank of message 'a' is '0'"),
    "a rank below 0": (lambda value: first(value).update(rank=-1), "the rank of message 'a' is -1"),
    "a rank that is true": (lambda value: first(value).update(rank=True), "the rank of message 'a' is True"),
    "a number as language": (lambda value: first(value).update(lang=1), "the language of message 'a' is a number"),
    "a list as labels": (lambda value: first(value).update(labels=[1]), "the labels of message 'a' are a list"),
    "a label without value": (
        lambda value: first(value).update(labels={"x": {}}),
        "label 'x' of message 'a' has no number",
    ),
    "a label beyond all numbers": (
        lambda value: first(value).update(labels={"x": {"value": 10**400}}),
        "label 'x' of message 'a' has no number",
    ),
    "a label in words": (lambda value: first(value).update(labels={"x": {"value": "1"}}), "label 'x' of message 'a'"),
}


@pytest.mark.parametrize(("change", "says"), BAD_TREES.values(), ids=BAD_TREES)
def test_a_malformed_tree_is_refused_with_the_id(change: Callable[[dict[str, Any]], Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        read(damaged(change))


def test_a_single_message_says_where_it_belongs() -> None:
    with pytest.raises(
        DataError, match="'prompt' is missing, not a message; single messages are read by oasst-messages"
    ):
        read({"message_id": "q", "text": "Hi", "role": "prompter"})


def test_a_very_deep_tree_is_walked_without_recursion() -> None:
    inner = answer("deep")
    for level in range(50_000):
        inner = {
            "message_id": str(level),
            "text": "x",
            "role": "prompter" if level % 2 == 0 else "assistant",
            "replies": [inner],
        }
    outcome = read({"tree_state": "ready_for_export", "prompt": {**inner, "role": "prompter", "review_result": True}})
    assert len(outcome.tree.messages) == 50_001


nodes = st.recursive(
    st.builds(
        lambda **more: {**more}, deleted=st.booleans(), synthetic=st.booleans(), rank=st.none() | st.integers(0, 3)
    ),
    lambda inner: st.builds(
        lambda replies, **more: {**more, "replies": replies},
        replies=st.lists(inner, max_size=3),
        deleted=st.sampled_from([False, False, True]),
        synthetic=st.sampled_from([False, False, True]),
        rank=st.none() | st.integers(0, 3),
    ),
    max_leaves=15,
)


def numbered(content: dict[str, Any], level: int, counter: list[int]) -> dict[str, Any]:
    counter[0] += 1
    replies = [numbered(reply, level + 1, counter) for reply in content.get("replies", [])]
    role = "assistant" if level % 2 else "prompter"
    return {
        **content,
        "text": str(counter[0]) + "." * len(replies),
        "message_id": str(id(content)),
        "role": role,
        "replies": replies,
    }


def expected_threads(content: dict[str, Any], above: list[str], rivals: int, top_k: int | None) -> list[list[str]]:
    """The same by recursion: threads that end in an answer, of messages that are not dropped."""
    rank = content.get("rank")
    late = top_k is not None and content["role"] == "assistant" and (rank >= top_k if rank is not None else rivals > 1)
    if content["deleted"] or content["synthetic"] or late:
        return []
    path = [*above, content["text"]]
    below = [
        thread
        for reply in content["replies"]
        for thread in expected_threads(reply, path, len(content["replies"]), top_k)
    ]
    return below or ([path] if content["role"] == "assistant" else [])


@settings(max_examples=200, deadline=None)
@given(nodes, st.none() | st.integers(1, 3))
def test_the_threads_are_those_of_a_recursive_walk(content: dict[str, Any], top_k: int | None) -> None:
    root = {**numbered(content, 0, [0]), "review_result": True}
    total = Counter(character for character in str(root))  # nothing is changed by reading
    outcome = read({"tree_state": "ready_for_export", "prompt": root}, top_k=top_k)
    expected = expected_threads(root, [], 1, top_k)
    assert Counter(character for character in str(root)) == total
    if isinstance(outcome, Filtered):
        assert expected == []
        return
    tree: Tree = outcome.tree
    assert [[tree.messages[index].text for index in path] for path in tree.threads()] == expected
    assert len(tree.messages) + sum(outcome.dropped.values()) == str(root).count("'message_id'")

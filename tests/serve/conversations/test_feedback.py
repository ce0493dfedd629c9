"""Feedback: exactly what people have stated becomes rankings, which `train` reads, and which training follows."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.outcomes import read, tree_of
from tunesmith.data.readers.reader import Filtered
from tunesmith.errors import MissingInputError
from tunesmith.serve.conversations.feedback import INCOMPLETE, FeedbackCounts, feedback_trees
from tunesmith.serve.conversations.feedback_file import run, write_feedback
from tunesmith.serve.conversations.records import ConversationTree, StoredConversation, StoredMessage
from tunesmith.serve.conversations.store import ConversationStore

QUESTION = StoredMessage("q", None, "user", "Why?")


def reply(name: str, **values: Any) -> StoredMessage:
    return StoredMessage(name, "q", "assistant", values.pop("text", f"reply {name}"), **values)


def marked(*messages: StoredMessage, feedback: bool = True) -> ConversationTree:
    return ConversationTree(StoredConversation("c", "t", "", feedback), messages)


def made(*messages: StoredMessage, **options: Any) -> tuple[list[dict[str, Any]], FeedbackCounts]:
    counts = FeedbackCounts()
    return list(feedback_trees(iter([marked(*messages, **options)]), counts)), counts


def pairs_of(trees: Sequence[dict[str, Any]]) -> set[tuple[str, str]]:
    """(better, worse) texts that training compares, as its reader gives them."""
    found = set()
    for tree in trees:
        result = read("oasst", tree, keep="rankings", synthetic=True)
        if isinstance(result, Filtered):
            continue
        replies = [message for message in tree_of(result).messages if message.rank is not None]
        found |= {(a.text, b.text) for a in replies for b in replies if (a.rank or 0) < (b.rank or 0)}
    return found


def test_a_chosen_draft_is_better_than_the_drafts_next_to_it() -> None:
    drafts = [reply(name, drafts="d", chosen=name == "b") for name in "abc"]
    other = reply("e", drafts="other", chosen=False)
    trees, counts = made(QUESTION, *drafts, other)
    assert pairs_of(trees) == {("reply b", "reply a"), ("reply b", "reply c")}
    assert (counts.trees, counts.comparisons, counts.good) == (1, 2, 0)
    assert counts.left_out == {"a bad reply without a better one": 1}


def test_an_edited_reply_is_better_than_the_original_and_not_synthetic() -> None:
    trees, counts = made(QUESTION, reply("a", model="m"), reply("b", edit_of="a", model="m"))
    assert pairs_of(trees) == {("reply b", "reply a")}
    replies = trees[0]["prompt"]["replies"]
    assert [(each["message_id"], each["rank"], each["synthetic"]) for each in replies] == [
        ("b", 0, False),
        ("a", 1, True),
    ]
    assert counts.comparisons == 1


def test_votes_are_labels_and_compare_only_up_with_down() -> None:
    trees, counts = made(QUESTION, reply("a", vote=1), reply("b", vote=-1), reply("c"))
    assert pairs_of(trees) == {("reply a", "reply b")}
    labels = {each["message_id"]: each["labels"] for each in trees[0]["prompt"]["replies"]}
    assert labels == {"a": {"quality": {"value": 1.0, "count": 1}}, "b": {"quality": {"value": 0.0, "count": 1}}}
    trees, counts = made(QUESTION, reply("a", vote=1))
    assert (len(trees), counts.good, pairs_of(trees)) == (1, 1, set())
    assert made(QUESTION, reply("a", vote=-1))[0] == []


def test_nothing_of_a_conversation_that_is_not_marked_is_read() -> None:
    trees, counts = made(QUESTION, reply("a", vote=1), reply("b", vote=-1), feedback=False)
    assert trees == []
    assert (counts.conversations, counts.marked) == (1, 0)


def test_contradictions_equal_texts_other_systems_and_incomplete_replies_are_not_compared() -> None:
    assert pairs_of(made(QUESTION, reply("a", vote=1), reply("b", vote=-1, edit_of="a"))[0]) == set()
    assert pairs_of(made(QUESTION, reply("a", vote=1, text="x "), reply("b", vote=-1, text="x"))[0]) == set()
    assert pairs_of(made(QUESTION, reply("a", vote=1, system="s"), reply("b", vote=-1))[0]) == set()
    for state in INCOMPLETE:
        assert pairs_of(made(QUESTION, reply("a", vote=1), reply("b", vote=-1, state=state))[0]) == set()


@pytest.mark.parametrize("asked", [[replace(QUESTION, text="")], [QUESTION, reply("x", text="")], [reply("x")]])
def test_replies_to_no_message_of_the_user_are_left_out(asked: list[StoredMessage]) -> None:
    path = [replace(message, parent=asked[number - 1].id if number else None) for number, message in enumerate(asked)]
    judged = [replace(reply(name, vote=vote), parent=path[-1].id) for name, vote in (("a", 1), ("b", -1), ("c", 0))]
    trees, counts = made(*path, *judged)
    if path[-1].role == "assistant" and not path[-1].text:  # the question is what the model read last
        assert pairs_of(trees) == {("reply a", "reply b")}
    else:
        assert (trees, counts.left_out) == ([], {"there is no message of the user before the reply": 2})


def test_hundreds_of_replies_are_compared_at_once() -> None:
    trees, counts = made(QUESTION, *(reply(f"{number:03}", vote=1 if number % 2 else -1) for number in range(300)))
    assert (len(trees), counts.comparisons) == (1, 150 * 150)


def test_only_what_the_model_read_is_the_prompt() -> None:
    path = [
        QUESTION,
        reply("x", vote=0),
        StoredMessage("q2", "x", "user", "And?"),
        StoredMessage("x2", "q2", "assistant", ""),
    ]
    last = StoredMessage("q3", "x2", "user", "Again?", context="A passage.")
    better = StoredMessage("g", "q3", "assistant", "good", vote=1, system="S", dropped=2)
    worse = StoredMessage("w", "q3", "assistant", "bad", vote=-1, system="S", dropped=2)
    trees, _ = made(*path, last, better, worse)
    messages = tree_of(read("oasst", trees[0], keep="rankings", synthetic=True)).messages
    assert [(message.role, message.text) for message in messages] == [
        ("system", "S"), ("user", "And?\n\nAgain?"), ("assistant", "good"), ("assistant", "bad"),
    ]  # fmt: skip
    assert messages[1].context == "A passage."


def test_an_edited_reply_has_the_prompt_that_its_original_had(tmp_path: Path) -> None:
    store = ConversationStore.open(tmp_path)
    home = store.create().id
    path = [QUESTION, reply("x"), StoredMessage("q2", "x", "user", "And?")]
    store.add(home, [*path, replace(reply("a", dropped=2), parent="q2")])
    store.edit_reply("a", "better", "b")
    store.update(home, feedback=True)
    (tree,) = feedback_trees(store.trees(), FeedbackCounts())
    messages = tree_of(read("oasst", tree, keep="rankings", synthetic=True)).messages
    assert [message.text for message in messages] == ["And?", "better", "reply a"]


@st.composite
def judged(draw: st.DrawFn) -> list[StoredMessage]:
    """Any judgements of up to six replies to one message."""
    found: list[StoredMessage] = []
    for number in range(draw(st.integers(1, 6))):
        drafts = draw(st.sampled_from(("", "d", "e")))
        found.append(
            reply(
                str(number), drafts=drafts, chosen=draw(st.sampled_from((None, True, False))) if drafts else None,
                vote=draw(st.sampled_from((-1, 0, 1))), text=draw(st.sampled_from(("one", "two", "three", "four"))),
                edit_of=draw(st.sampled_from([each.id for each in found])) if found and draw(st.booleans()) else None,
                state=draw(st.sampled_from(("done", "done", "stopped"))),
            )
        )  # fmt: skip
    return found


@given(judged())
@settings(max_examples=80, deadline=None)
def test_training_compares_what_was_stated_and_what_follows_from_it(replies: list[StoredMessage]) -> None:
    usable = [each for each in replies if each.state == "done"]
    stated = {
        (a.id, b.id)
        for a in usable
        for b in usable
        if a.text != b.text
        and (
            (a.drafts and a.drafts == b.drafts and a.chosen is True and b.chosen is False)
            or a.edit_of == b.id
            or (a.vote == 1 and b.vote == -1)
        )
    }
    follows = set(stated)
    while more := {(a, d) for a, b in follows for c, d in follows if b == c} - follows:
        follows |= more
    trees, _ = made(QUESTION, *replies)
    for tree in trees:
        ranked = [each for each in tree["prompt"]["replies"] if each["rank"] is not None]
        for better in ranked:
            for worse in ranked:
                if better["rank"] < worse["rank"]:
                    pair = (better["message_id"], worse["message_id"])
                    assert pair in follows
                    assert pair[::-1] not in follows
    compared = {(a["message_id"], b["message_id"]) for tree in trees for a in tree["prompt"]["replies"]
                for b in tree["prompt"]["replies"] if a["rank"] is not None and a["rank"] < b["rank"]}  # fmt: skip
    for a, b in stated:
        assert (a, b) in compared or (b, a) in follows


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """Two conversations with a chosen draft each, one of them marked."""
    store = ConversationStore.open(tmp_path / "chat")
    for name, feedback in (("yes", True), ("no", False)):
        home = store.create(identity=name).id
        drafts = [replace(reply(f"{name}-{letter}", drafts=name), parent=f"{name}-q") for letter in "ab"]
        store.add(home, [replace(QUESTION, id=f"{name}-q"), *drafts])
        store.choose(f"{name}-b")
        store.update(home, feedback=feedback)
    yield tmp_path / "chat"
    store.close()


def test_the_file_is_written_while_a_server_uses_the_directory(directory: Path, tmp_path: Path) -> None:
    output, screen = tmp_path / "feedback.jsonl", io.StringIO()
    run(directory, output, pairs=tmp_path / "pairs.jsonl", target=screen)
    (line,) = output.read_text().splitlines()
    assert pairs_of([json.loads(line)]) == {("reply yes-b", "reply yes-a")}
    (pair,) = (tmp_path / "pairs.jsonl").read_text().splitlines()
    assert json.loads(pair)["chosen"][-1]["content"] == "reply yes-b"
    assert "1 of 2 conversations are marked" in screen.getvalue()
    assert f"tunesmith init {output} --model RUN" in screen.getvalue()
    assert all(
        len(shown) <= 80 or "data.sources=" in shown or str(tmp_path) in shown
        for shown in screen.getvalue().splitlines()
    )


def test_without_feedback_nothing_is_written(tmp_path: Path) -> None:
    store = ConversationStore.open(tmp_path)
    with pytest.raises(MissingInputError, match="there are no conversations"):
        write_feedback(tmp_path, tmp_path / "f.jsonl")
    store.create()
    with pytest.raises(MissingInputError, match="none of 1 conversations is marked"):
        write_feedback(tmp_path, tmp_path / "f.jsonl")
    with pytest.raises(MissingInputError, match="no file"):
        write_feedback(tmp_path / "elsewhere", tmp_path / "f.jsonl")
    assert not (tmp_path / "f.jsonl").exists()


def test_a_long_conversation_is_written_as_rows(tmp_path: Path) -> None:
    store = ConversationStore.open(tmp_path)
    home, parent = store.create().id, None
    for number in range(40):
        turn = StoredMessage(f"q{number}", parent, "user", f"question {number}")
        store.add(home, [turn, replace(reply(f"r{number}", vote=1), parent=turn.id)])
        parent = f"r{number}"
    store.add(home, [replace(reply("worse", vote=-1), parent="q39")])
    store.update(home, feedback=True)
    report = write_feedback(tmp_path, tmp_path / "f.jsonl", tmp_path / "p.jsonl")
    assert (report.reader, report.pairs, report.counts.good) == ("oasst-messages", 1, 39)
    (pair,) = (tmp_path / "p.jsonl").read_text().splitlines()
    assert len(json.loads(pair)["chosen"]) == 80

"""Drafts, tokens and saved conversations of the chat, through pipes in this process."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.apps.test_chat import chat_with
from tests.data.outcomes import read, tree_of
from tunesmith.apps.chat_loop import ChatFiles
from tunesmith.apps.chat_model import ReplyPart
from tunesmith.apps.commands import run_command
from tunesmith.apps.conversation import Conversation
from tunesmith.apps.local_chat_model import LocalChatModel
from tunesmith.apps.terminal import Terminal
from tunesmith.errors import UsageError
from tunesmith.generate.export_directory import open_engine
from tunesmith.serve.conversations.feedback_file import write_feedback
from tunesmith.serve.conversations.records import StoredMessage
from tunesmith.serve.conversations.store import ConversationStore
from tunesmith.serve.conversations.transfer import import_conversations
from tunesmith.text.tree import Message


def test_drafts_are_the_replies_that_retries_would_give(model_directory: Path) -> None:
    for settings in ({}, {"num_beams": 2, "max_new_tokens": 3}):  # the second are searches
        retried, _ = chat_with(model_directory, "Hello", "/retry", "/retry", sampling=settings)
        drafted, errors = chat_with(model_directory, "Hello", "/drafts 2", "", sampling=settings)
        assert drafted == retried
        assert "draft 2 of 2" in errors
        assert "(the reply is as it was)" in errors


class NumberedReplies(LocalChatModel):
    """Every reply has the number of its sample; several are interrupted before the second if ``interrupted``."""

    interrupted = False

    def stream(self, messages: Sequence[Message], sample: int, drafts: int) -> Iterator[ReplyPart]:
        for draft in reversed(range(drafts)):
            yield ReplyPart(draft, f"reply {sample + draft}", 1, "stop")
            if self.interrupted and drafts > 1:
                raise KeyboardInterrupt


def test_the_chosen_draft_replaces_the_reply(model_directory: Path) -> None:
    engine, sampling = open_engine(model_directory)
    for answer, chosen in (("1", "reply 1"), ("2", "reply 2"), ("", "reply 0")):
        output = io.StringIO()
        terminal = Terminal(io.StringIO(f"{answer}\n"), output, io.StringIO())
        conversation = Conversation(NumberedReplies(engine, sampling, 3), terminal, None)
        conversation.send("Hello")
        conversation.write_drafts(2)
        assert output.getvalue() == "reply 0\nreply 1\nreply 2\n"
        assert conversation.messages == [Message("user", "Hello"), Message("assistant", chosen)]


def test_choices_are_the_preference_pairs_of_the_same_choices_on_the_page(
    model_directory: Path, tmp_path: Path
) -> None:
    written = tmp_path / "choices.jsonl"
    engine, sampling = open_engine(model_directory)
    terminal = Terminal(io.StringIO("2\n\n1\n"), io.StringIO(), io.StringIO())
    conversation = Conversation(NumberedReplies(engine, sampling, 3), terminal, "Be brief.")
    with pytest.raises(UsageError, match="no draft was preferred"):
        run_command(conversation, f"/choices {written}")
    conversation.send("Hello")
    conversation.write_drafts(3)
    conversation.write_drafts(2)  # none is chosen
    conversation.write_drafts(2)
    run_command(conversation, f"/choices {written}")
    run_command(conversation, f"/choices {written}")
    (tmp_path / "other").touch()
    with pytest.raises(UsageError, match="already exists"):
        run_command(conversation, f"/choices {tmp_path / 'other'}")

    store = ConversationStore.open(tmp_path)
    home = store.create(system="Be brief.").id
    store.update(home, feedback=True)
    store.add(home, [StoredMessage("q", None, "user", "Hello")])
    for drafts, chosen in (((1, 2, 3), 2), ((6, 7), 6)):
        replies = [
            StoredMessage(f"r{number}", "q", "assistant", f"reply {number}", system="Be brief.", drafts=f"d{chosen}")
            for number in drafts
        ]
        store.add(home, replies)
        store.choose(f"r{chosen}")
    write_feedback(tmp_path, tmp_path / "feedback.jsonl", tmp_path / "pairs.jsonl")
    of_page, of_terminal = (
        [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
        for name in ("pairs.jsonl", "choices.jsonl")
    )
    assert sorted((_texts(row["chosen"]), _texts(row["rejected"])) for row in of_terminal) == sorted(
        (_texts(row["chosen"]), _texts(row["rejected"])) for row in of_page
    )
    assert len(of_terminal) == 3


def _texts(messages: list[dict[str, str]]) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in messages]


def test_an_interrupt_of_drafts_leaves_the_reply_as_it_was(model_directory: Path) -> None:
    output, errors = io.StringIO(), io.StringIO()
    terminal = Terminal(io.StringIO(), output, errors)
    terminal.interactive = True
    model = NumberedReplies(*open_engine(model_directory), 3)
    model.interrupted = True
    conversation = Conversation(model, terminal, None)
    conversation.send("Hello")
    conversation.write_drafts(3)
    assert "(stopped; the reply is as it was)" in errors.getvalue()
    assert conversation.messages[-1] == Message("assistant", "reply 0")


def test_the_tokens_are_those_that_the_model_read(model_directory: Path) -> None:
    _, errors = chat_with(model_directory, "Hello", "/tokens", system="Be\tbrief.")
    engine, sampling = open_engine(model_directory)
    ids = engine.prompt([Message("system", "Be\tbrief."), Message("user", "Hello")], sampling).ids
    lines = [line for line in errors.splitlines() if re.match(r"(system|user|assistant) +\d", line)]
    assert [int(each) for line in lines for each in line.split()[1].split(",")] == list(ids)
    assert f"({len(ids)} tokens: what the model read before its last reply)" in errors
    text = "".join(json.loads(line.split(maxsplit=2)[2]) for line in lines if line.endswith('"'))
    assert "Be\tbrief." in text
    assert "Hello" in text


def test_all_conversations_of_a_chat_are_saved_and_both_train_and_serve_read_them(
    model_directory: Path, single_turn_directory: Path, tmp_path: Path
) -> None:
    saved = tmp_path / "chat.jsonl"
    _, errors = chat_with(
        model_directory, "One", "/reset", "Two", "/reset", "/reset", f"/save {saved}", system="Be brief."
    )
    assert f"(saved 2 conversations with 6 messages to {saved})" in errors
    single = tmp_path / "single.jsonl"
    chat_with(single_turn_directory, "One", "Two", files=ChatFiles(single))
    for path in (saved, single):
        text = path.read_text(encoding="utf-8")
        trained = [tree_of(read("messages", json.loads(line))).messages for line in text.splitlines()]
        served = [tree.messages for tree in import_conversations(text, path.name)]
        asked = [[message.text for message in each if message.role == "user"] for each in trained]
        assert asked == [["One"], ["Two"]]
        assert [[message.text for message in each if message.role == "user"] for each in served] == asked


def test_drafts_need_sampling_and_the_number_of_one(model_directory: Path) -> None:
    with pytest.raises(UsageError, match="do_sample is false, so all drafts would be the same"):
        chat_with(model_directory, "Hello", "/drafts 2", sampling={"do_sample": False})
    with pytest.raises(UsageError, match="'3' is not the number of a draft; write 1 to 2"):
        chat_with(model_directory, "Hello", "/drafts 2", "3")

"""The store against a model of it in plain Python, and what one transaction promises."""

from __future__ import annotations

import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from tests.conftest import REPOSITORY
from tunesmith.errors import DataError, LockedError, MissingInputError, StorageError, UsageError
from tunesmith.serve.conversations.database import FILE, MIGRATIONS, DamagedDatabaseError, exclusive
from tunesmith.serve.conversations.records import ConversationTree, StoredMessage, new_id, title_of
from tunesmith.serve.conversations.store import ConversationStore

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@pytest.fixture
def store(tmp_path: Path) -> ConversationStore:
    return ConversationStore.open(tmp_path)


def _user(text: str, parent: str | None = None, identity: str | None = None) -> StoredMessage:
    return StoredMessage(identity or new_id(), parent, "user", text)


def _reply(text: str, parent: str, drafts: str = "") -> StoredMessage:
    return StoredMessage(new_id(), parent, "assistant", text, model="m", drafts=drafts)


def _depth_first(messages: list[StoredMessage], parent: str | None) -> Iterator[StoredMessage]:
    for message in messages:
        if message.parent == parent:
            yield message
            yield from _depth_first(messages, message.id)


class StoreMachine(RuleBasedStateMachine):
    """Every operation on a store, each also done on dictionaries; both must have the same trees."""

    conversations = Bundle("conversations")
    messages = Bundle("messages")

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.store = self._open()
        self.expected: dict[str, dict[str, StoredMessage]] = {}

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.directory)

    @initialize(target=conversations)
    def begin(self) -> str:
        return str(self.create())

    @rule(target=conversations)
    def create(self) -> str:
        made = self.store.create()
        self.expected[made.id] = {}
        return made.id

    @rule(conversation=conversations, text=TEXTS, target=messages)
    def first(self, conversation: str, text: str) -> str:
        return self._added(conversation, [_user(text)])

    @rule(parent=messages, text=TEXTS, count=st.integers(1, 3), target=messages)
    def answer(self, parent: str, text: str, count: int):  # type: ignore[no-untyped-def]
        drafts = new_id() if count > 1 else ""
        replies = [_reply(f"{text}{number}", parent, drafts) for number in range(count)]
        self._added(self._home(parent), replies)
        return multiple(*(reply.id for reply in replies))

    @rule(parent=messages, text=TEXTS, target=messages)
    def ask(self, parent: str, text: str) -> str:
        return self._added(self._home(parent), [_user(text, parent)])

    @rule(message=messages)
    def send_again(self, message: str) -> None:
        known = self.expected[self._home(message)][message]
        assert self.store.add(self._home(message), [known]) == [known]

    @rule(message=messages, text=TEXTS, target=messages)
    def edit(self, message: str, text: str):  # type: ignore[no-untyped-def]
        home = self._home(message)
        original = self.expected[home][message]
        if original.role == "user":
            with pytest.raises(UsageError):
                self.store.edit_reply(message, text)
            return multiple()
        made = self.store.edit_reply(message, text)
        assert (made.text, made.edit_of, made.parent, made.model) == (text, message, original.parent, original.model)
        self._expect_shown(home, made)
        return made.id

    @rule(message=messages)
    def show(self, message: str) -> None:
        home = self._home(message)
        self.store.show(message)
        at: str | None = message
        while at is not None:
            self._expect_shown(home, self.expected[home][at])
            at = self.expected[home][at].parent

    @rule(message=messages)
    def choose(self, message: str) -> None:
        home = self._home(message)
        chosen = self.expected[home][message]
        if not chosen.drafts:
            with pytest.raises(UsageError):
                self.store.choose(message)
            return
        self.store.choose(message)
        for each in list(self.expected[home].values()):
            if each.drafts == chosen.drafts:
                self.expected[home][each.id] = replace(each, chosen=each.id == message)
        self.show(message)

    @rule(message=messages, vote=st.sampled_from((-1, 0, 1)), text=TEXTS)
    def judge(self, message: str, vote: int, text: str) -> None:
        home = self._home(message)
        if self.expected[home][message].role == "user":
            with pytest.raises(UsageError):
                self.store.vote(message, vote)
            return
        self.store.vote(message, vote)
        self.store.comment(message, text)
        self.expected[home][message] = replace(self.expected[home][message], vote=vote, comment=text)

    @rule(message=consumes(messages))
    def delete_message(self, message: str) -> None:
        home = next((home for home, found in self.expected.items() if message in found), None)
        if home is None:
            with pytest.raises(MissingInputError):
                self.store.delete_message(message)
            return
        found = self.expected[home]
        gone = {message}
        for each in found.values():
            if each.parent in gone:
                gone.add(each.id)
        assert set(self.store.delete_message(message)) == gone
        removed = found[message]
        self.expected[home] = found = {name: each for name, each in found.items() if name not in gone}
        siblings = [each for each in found.values() if each.parent == removed.parent]
        if removed.shown and siblings:
            found[siblings[-1].id] = replace(siblings[-1], shown=True)

    @rule(conversation=conversations, feedback=st.booleans(), title=TEXTS)
    def change(self, conversation: str, feedback: bool, title: str) -> None:
        made = self.store.update(conversation, feedback=feedback, title=title)
        assert (made.feedback, made.title) == (feedback, title)

    @rule()
    def open_again(self) -> None:
        self.store.close()
        self.store = self._open()

    @invariant()
    def both_have_the_same_trees(self) -> None:
        for conversation, messages in self.expected.items():
            tree = self.store.tree(conversation)
            assert tree.messages == tuple(_depth_first(list(messages.values()), None))
            for siblings in tree.children().values():
                assert [sibling.shown for sibling in siblings].count(True) == 1

    def _open(self) -> ConversationStore:
        """A store that does not wait for the disk, which is slow and tested elsewhere."""
        store = ConversationStore.open(self.directory)
        store._connection.execute("PRAGMA synchronous=OFF")
        return store

    def _home(self, message: str) -> str:
        for home, found in self.expected.items():
            if message in found:
                return home
        return self._restore(message)

    def _restore(self, message: str) -> str:
        """A message that was deleted with one above it is unknown; it becomes a new first message."""
        with pytest.raises(MissingInputError):
            self.store.message(message)
        home = next(iter(self.expected))
        self._added(home, [_user("again", None, message)])
        return home

    def _added(self, conversation: str, messages: list[StoredMessage]) -> str:
        self.store.add(conversation, messages)
        for message in messages:
            self.expected[conversation][message.id] = message
        self._expect_shown(conversation, messages[0])
        return messages[0].id

    def _expect_shown(self, conversation: str, message: StoredMessage) -> None:
        found = self.expected[conversation]
        for each in list(found.values()):
            if each.parent == message.parent:
                found[each.id] = replace(each, shown=each.id == message.id)
        found[message.id] = replace(message, shown=True)


StoreMachine.TestCase.settings = settings(
    max_examples=12, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
test_every_sequence_of_operations_gives_the_expected_trees = StoreMachine.TestCase


def test_the_file_belongs_to_its_owner_and_writes_are_flushed(tmp_path: Path) -> None:
    (tmp_path / FILE).touch(0o666)
    store = ConversationStore.open(tmp_path)
    store.add(store.create().id, [_user("secret")])
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert store._connection.execute("PRAGMA synchronous").fetchone()[0] == 2
    assert store._connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"


def test_a_message_that_is_sent_twice_is_stored_once(store: ConversationStore) -> None:
    home = store.create(identity="c").id
    assert store.create(identity="c").id == home
    first = _user("Hello")
    store.add(home, [first])
    other = _user("Other")
    store.add(home, [other])
    assert store.add(home, [first])[0].text == "Hello"
    assert [message.shown for message in store.tree(home).messages] == [False, True], "what is shown does not change"
    with pytest.raises(UsageError, match="another message has this id"):
        store.add(home, [replace(first, text="Changed")])
    with pytest.raises(UsageError, match="another message has this id"):
        store.add(store.create().id, [first])
    with pytest.raises(UsageError, match="another conversation"):
        store.add(store.create().id, [_reply("x", first.id)])


def test_a_failed_operation_changes_nothing(store: ConversationStore) -> None:
    home = store.create().id
    with pytest.raises(MissingInputError):
        store.add(home, [_user("kept?"), _reply("no", "nobody")])
    assert store.tree(home).messages == ()
    assert store.conversation(home).title == ""


def test_an_interrupted_reply_is_found_as_such(tmp_path: Path) -> None:
    store = ConversationStore.open(tmp_path)
    home = store.create().id
    question = _user("Why?")
    reply = replace(_reply("", question.id), state="writing")
    store.add(home, [question, reply])
    store.write_reply(replace(reply, text="Bec", tokens=3))
    store.close()
    found = ConversationStore.open(tmp_path).message(reply.id)
    assert (found.text, found.state, found.tokens) == ("Bec", "interrupted", 3)


def test_search_finds_titles_and_messages_in_any_case(store: ConversationStore) -> None:
    first, second = store.create().id, store.create().id
    store.add(first, [_user("Wie groß ist die STRASSE nach 100% Ägypten?")])
    store.add(second, [_user("What is a tree?")])
    store.update(second, title="Woods_of_Oz")
    assert [each.conversation.id for each in store.listed()] == [second, first]
    found = {"strasse": first, "ägypten": first, "100%": first, "woods_": second, " TREE ": second}
    for query, expected in found.items():
        assert [each.conversation.id for each in store.listed(query)] == [expected], query
    assert store.listed("woodsXof") == []
    assert "STRASSE" in store.listed("strasse")[0].snippet
    assert store.listed("' OR 1=1 --") == []


def test_a_title_is_the_beginning_of_the_first_message(store: ConversationStore) -> None:
    home = store.create().id
    store.add(home, [_user("  What\nis  this?  " + "word " * 50)])
    title = store.conversation(home).title
    assert title.startswith("What is this? word")
    assert len(title) <= 80
    assert title.endswith("…")
    store.update(home, title="Mine")
    store.add(home, [_user("Another")])
    assert store.conversation(home).title == "Mine"
    assert title_of("short") == "short"


def test_a_thread_is_what_is_shown_and_a_path_leads_to_any_message(store: ConversationStore) -> None:
    home = store.create().id
    question = _user("Q")
    store.add(home, [question, *(replies := [_reply(text, question.id, "d") for text in ("one", "two")])])
    follow = _user("F", replies[1].id)
    store.add(home, [follow])
    assert [message.text for message in store.tree(home).shown_thread()] == ["Q", "one"]
    store.show(follow.id)
    assert [message.text for message in store.tree(home).shown_thread()] == ["Q", "two", "F"]
    assert [message.text for message in store.tree(home).path_to(replies[0].id)] == ["Q", "one"]


def test_conversations_of_thousands_of_messages_are_deleted(store: ConversationStore) -> None:
    home, parent, messages = store.create().id, None, list[StoredMessage]()
    for number in range(1500):
        messages.append(_user(str(number), parent))
        parent = messages[-1].id
    store.add(home, messages)
    assert len(store.delete_message(messages[100].id)) == 1400
    store.delete(home)
    assert store.listed() == []


def test_an_imported_conversation_has_new_ids_and_is_imported_once(store: ConversationStore) -> None:
    home = store.create().id
    question = _user("Q")
    store.add(home, [question, _reply("A", question.id, "d"), _reply("B", question.id, "d")])
    tree = store.tree(home)
    assert not store.import_tree(tree)
    other = ConversationTree(replace(tree.conversation, id="elsewhere", feedback=True), tree.messages)
    assert store.import_tree(other)
    assert not store.conversation("elsewhere").feedback, "only a person marks a conversation, here"
    copy = store.tree("elsewhere")
    assert [message.text for message in copy.messages] == ["Q", "A", "B"]
    assert {message.id for message in copy.messages}.isdisjoint(message.id for message in tree.messages)
    assert copy.messages[1].drafts == copy.messages[2].drafts != "d"
    assert [each.parent for each in copy.messages] == [None, copy.messages[0].id, copy.messages[0].id]


def test_other_files_and_later_versions_are_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("this is a text " * 500)
    with pytest.raises(DamagedDatabaseError, match="is damaged, or another file: file is not a database"):
        ConversationStore.open(tmp_path)
    (tmp_path / FILE).unlink()
    ConversationStore.open(tmp_path).close()
    connection = sqlite3.connect(tmp_path / FILE)
    connection.execute(f"PRAGMA user_version={len(MIGRATIONS) + 1}")
    connection.close()
    with pytest.raises(DataError, match="later version"):
        ConversationStore.open(tmp_path)
    with pytest.raises(MissingInputError, match="there is no file"):
        ConversationStore.open_existing(tmp_path / "nowhere")


def test_only_one_server_uses_a_directory(tmp_path: Path) -> None:
    with exclusive(tmp_path), pytest.raises(LockedError, match="another server"), exclusive(tmp_path):
        pass
    with exclusive(tmp_path):
        pass


def test_a_store_that_is_only_read_cannot_be_changed_and_sees_new_writes(
    store: ConversationStore, tmp_path: Path
) -> None:
    reader = ConversationStore.open_existing(tmp_path)
    home = store.create().id
    assert [each.conversation.id for each in reader.listed()] == [home]
    with pytest.raises(StorageError):
        reader.delete(home)


WRITER = """
import sys
from pathlib import Path
from tunesmith.serve.conversations.records import StoredMessage
from tunesmith.serve.conversations.store import ConversationStore
store = ConversationStore.open(Path(sys.argv[1]))
home, parent = store.create(identity="c").id, None
number = 0
while True:
    store.add(home, [StoredMessage(f"m{number}", parent, "user", "text " * 50)])
    parent = f"m{number}"
    print(number, flush=True)
    number += 1
"""


def test_an_acknowledged_message_survives_a_kill(tmp_path: Path) -> None:
    for round_ in range(3):
        directory = tmp_path / str(round_)
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(directory)], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
        )
        assert process.stdout is not None
        last = -1
        while last < 20 * (round_ + 1):
            last = int(process.stdout.readline())
        process.kill()
        last = max([last, *(int(line) for line in process.stdout.read().split())])
        process.wait(60)
        store = ConversationStore.open(directory)
        found = [message.id for message in store.tree("c").messages]
        assert found[: last + 1] == [f"m{number}" for number in range(last + 1)]
        assert len(found) <= last + 2
        assert store._connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"

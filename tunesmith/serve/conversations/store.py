"""Conversations in a database: everything that a person does is one operation on a tree, and one transaction."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from tunesmith.errors import MissingInputError, UsageError
from tunesmith.serve.conversations.database import FILE, database_errors, open_database, open_existing
from tunesmith.serve.conversations.records import (
    ConversationTree,
    StoredConversation,
    StoredMessage,
    depth_first,
    new_id,
    now,
    title_of,
)

COLUMNS = tuple(field.name for field in fields(StoredMessage))
REPLY_COLUMNS = (
    *("text", "state", "prompt_tokens", "tokens", "milliseconds", "dropped", "finish", "error", "system"),
    *("sampling", "seed", "sample", "model"),
)
"""What changes while a reply is written."""

SNIPPET = 40
"""Characters before and after what was searched for."""

BELOW = (
    "WITH RECURSIVE below (id) AS (VALUES (:id) UNION ALL SELECT m.id FROM messages m JOIN below b ON m.parent = b.id)"
)
ABOVE = (
    "WITH RECURSIVE above (id, parent) AS (SELECT id, parent FROM messages WHERE id = :id "
    "UNION ALL SELECT m.id, m.parent FROM messages m JOIN above a ON m.id = a.parent)"
)


@dataclass(frozen=True, slots=True)
class ListedConversation:
    """A conversation in a list.

    conversation: without its messages.
    messages: how many it has.
    snippet: the text around what was searched for, if it is in a message.
    """

    conversation: StoredConversation
    messages: int
    snippet: str = ""


class ConversationStore:
    """The conversations in a directory. Its methods may be called from any thread.

    A method that returns has written its change to the disk. Methods raise MissingInputError for an id that does not
    exist, UsageError for an operation that a message does not have, and StorageError.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection, self._path = connection, path
        self._lock = threading.RLock()

    @classmethod
    def open(cls, directory: Path) -> ConversationStore:
        """The store in a directory, which is created. A reply that a killed server was writing is interrupted."""
        store = cls(open_database(directory), directory / FILE)
        with store._writing() as connection:
            connection.execute("UPDATE messages SET state = 'interrupted' WHERE state = 'writing'")
        return store

    @classmethod
    def open_existing(cls, directory: Path) -> ConversationStore:
        """The store in a directory, only to be read."""
        return cls(open_existing(directory), directory / FILE)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def listed(self, query: str = "", limit: int = -1) -> list[ListedConversation]:
        """The conversations whose title or messages have a text, the ones that changed last first.

        limit: how many at most; -1 for all.
        """
        folded = query.strip().casefold()
        found = self._rows(
            "SELECT c.*, (SELECT count(*) FROM messages m WHERE m.conversation = c.id) AS count, "
            "(SELECT m.text FROM messages m WHERE m.conversation = c.id AND :folded != '' "
            "AND contains(m.text, :folded) ORDER BY m.number LIMIT 1) AS hit "
            "FROM conversations c WHERE :folded = '' OR contains(c.title, :folded) OR hit IS NOT NULL "
            "ORDER BY c.changed DESC, c.rowid DESC LIMIT :limit",
            {"folded": folded, "limit": limit},
        )
        return [
            ListedConversation(_conversation(row), row["count"], _snippet(row["hit"], folded) if row["hit"] else "")
            for row in found
        ]

    def trees(self) -> Iterator[ConversationTree]:
        """All conversations, the oldest first."""
        for row in self._rows("SELECT id FROM conversations ORDER BY created, rowid", {}):
            yield self.tree(row["id"])

    def conversation(self, identity: str) -> StoredConversation:
        """A conversation without its messages."""
        for row in self._rows("SELECT * FROM conversations WHERE id = :id", {"id": identity}):
            return _conversation(row)
        raise MissingInputError(f"there is no conversation {identity[:60]!r}", advice="it may have been deleted")

    def tree(self, identity: str) -> ConversationTree:
        """A conversation with its messages."""
        with self._lock:
            conversation = self.conversation(identity)
            rows = self._rows("SELECT * FROM messages WHERE conversation = :id ORDER BY number", {"id": identity})
        return ConversationTree(conversation, tuple(depth_first(list(map(_message, rows)))))

    def message(self, identity: str) -> StoredMessage:
        """A message."""
        return _message(self._message_row(identity))

    def conversation_of(self, message: str) -> str:
        """The id of the conversation of a message."""
        return str(self._message_row(message)["conversation"])

    def create(self, *, identity: str | None = None, system: str = "") -> StoredConversation:
        """A new conversation without messages; the existing one, if the client asks for the same id again."""
        moment = now()
        made = StoredConversation(identity or new_id(), "", system, False, moment, moment)
        with self._writing() as connection:
            connection.execute(
                "INSERT INTO conversations (id, title, system, feedback, created, changed) "
                "VALUES (:id, '', :system, 0, :moment, :moment) ON CONFLICT DO NOTHING",
                {"id": made.id, "system": system, "moment": moment},
            )
        return self.conversation(made.id)

    def update(
        self, identity: str, *, title: str | None = None, system: str | None = None, feedback: bool | None = None
    ) -> StoredConversation:
        """Rename a conversation, change the system message of the next replies, or allow its use as feedback."""
        with self._writing() as connection:
            self.conversation(identity)
            connection.execute(
                "UPDATE conversations SET title = coalesce(:title, title), system = coalesce(:system, system), "
                "feedback = coalesce(:feedback, feedback) WHERE id = :id",
                {"id": identity, "title": title, "system": system, "feedback": feedback},
            )
        return self.conversation(identity)

    def delete(self, identity: str) -> None:
        """Delete a conversation with its messages."""
        with self._writing() as connection:
            self.conversation(identity)
            connection.execute("DELETE FROM messages WHERE conversation = :id", {"id": identity})
            connection.execute("DELETE FROM conversations WHERE id = :id", {"id": identity})

    def add(self, conversation: str, messages: Sequence[StoredMessage]) -> list[StoredMessage]:
        """Add messages, each after the one that it answers; the first of new siblings is shown.

        A message that the conversation has already, because a client did not see the answer to its first request and
        sends it again, stays as it is. Raises UsageError for an id of another conversation or another message.
        """
        with self._writing() as connection:
            title = self.conversation(conversation).title
            added = [message for message in messages if self._insert_new(connection, conversation, message)]
            self._show(connection, conversation, added[::-1])
            first = next((message.text for message in messages if message.role == "user"), "")
            connection.execute(
                "UPDATE conversations SET changed = :now, title = :title WHERE id = :id",
                {"id": conversation, "now": now(), "title": title or title_of(first)},
            )
            return [self.message(message.id) for message in messages]

    def write_reply(self, message: StoredMessage) -> None:
        """Write what has changed while a reply was written (``REPLY_COLUMNS``). A deleted message stays deleted."""
        values = {**_values(message), "id": message.id}
        with self._writing() as connection:
            settings = ", ".join(f"{name} = :{name}" for name in REPLY_COLUMNS)
            connection.execute(f"UPDATE messages SET {settings} WHERE id = :id", values)

    def edit_reply(self, identity: str, text: str, new: str | None = None) -> StoredMessage:
        """Add an edited copy of a reply next to it, and show it. new: its id.

        It corrects a reply to the prompt that was read, so it has the same messages that were left out.
        """
        with self._writing():
            original = self._reply(identity)
            if original.state == "writing":
                raise UsageError("this reply is still being written", advice="stop it first")
            edited = replace(
                original, id=new or new_id(), text=text, created=now(), state="done", seed=0, sample=0, tokens=0,
                prompt_tokens=0, milliseconds=0, finish="", error="", edit_of=identity, drafts="",
                chosen=None, vote=0, comment="",
            )  # fmt: skip
            return self.add(self.conversation_of(identity), [edited])[0]

    def show(self, identity: str) -> None:
        """Show a message, and those before it."""
        with self._writing() as connection:
            conversation = self.conversation_of(identity)
            rows = connection.execute(f"{ABOVE} SELECT id, parent FROM above", {"id": identity}).fetchall()
            self._show(connection, conversation, [self.message(row["id"]) for row in rows])

    def choose(self, identity: str) -> None:
        """Choose one of several drafts, and show it. Raises UsageError for a reply that is not one of several."""
        with self._writing() as connection:
            chosen = self._reply(identity)
            if not chosen.drafts:
                raise UsageError("this reply is not one of several drafts")
            connection.execute(
                "UPDATE messages SET chosen = (id = :id) WHERE drafts = :drafts AND conversation = :conversation",
                {"id": identity, "drafts": chosen.drafts, "conversation": self.conversation_of(identity)},
            )
            self.show(identity)

    def vote(self, identity: str, vote: int) -> None:
        """Vote a reply up (1) or down (-1), or take the vote back (0)."""
        if vote not in (-1, 0, 1):
            raise UsageError(f"a vote is 1, 0 or -1, not {vote}")
        with self._writing() as connection:
            self._reply(identity)
            connection.execute("UPDATE messages SET vote = :vote WHERE id = :id", {"id": identity, "vote": vote})

    def comment(self, identity: str, text: str) -> None:
        """Write a remark on a reply, or remove it (empty)."""
        with self._writing() as connection:
            self._reply(identity)
            connection.execute("UPDATE messages SET comment = :text WHERE id = :id", {"id": identity, "text": text})

    def delete_message(self, identity: str) -> list[str]:
        """Delete a message and all below it; the last of the siblings that are left is shown. Returns their ids."""
        with self._writing() as connection:
            message, conversation = self.message(identity), self.conversation_of(identity)
            rows = connection.execute(f"{BELOW} SELECT id FROM below", {"id": identity}).fetchall()
            connection.execute(f"{BELOW} DELETE FROM messages WHERE id IN (SELECT id FROM below)", {"id": identity})
            if message.shown:
                connection.execute(
                    "UPDATE messages SET shown = 1 WHERE number = (SELECT max(number) FROM messages "
                    "WHERE conversation = :conversation AND parent IS :parent)",
                    {"conversation": conversation, "parent": message.parent},
                )
            return [row["id"] for row in rows]

    def import_tree(self, tree: ConversationTree) -> bool:
        """Add a whole conversation; False if there is one with its id already.

        Ids of messages are new. It is not marked for training, whatever its file says: that is decided here, by hand.
        """
        ids: dict[str | None, str | None] = {None: None, **{message.id: new_id() for message in tree.messages}}
        sets = {message.drafts: new_id() for message in tree.messages if message.drafts}
        with self._writing() as connection:
            given = replace(tree.conversation, feedback=False)
            found = connection.execute(
                "INSERT INTO conversations (id, title, system, feedback, created, changed) "
                "VALUES (:id, :title, :system, :feedback, :created, :changed) ON CONFLICT DO NOTHING",
                {field.name: getattr(given, field.name) for field in fields(given)},
            )
            if found.rowcount == 0:
                return False
            for message in tree.messages:
                identity = ids[message.id]
                assert identity is not None, "every message has a new id"
                moved = replace(
                    message,
                    id=identity,
                    parent=ids[message.parent],
                    edit_of=ids.get(message.edit_of) if message.edit_of else None,
                    drafts=sets.get(message.drafts, ""),
                    state="interrupted" if message.state == "writing" else message.state,
                )
                self._insert(connection, given.id, moved)
        return True

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction; one inside of another is part of it."""
        with self._lock, database_errors(self._path):
            if self._connection.in_transaction:
                yield self._connection
                return
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.rollback()  # nothing, if the commit has ended the transaction
                raise

    def _rows(self, query: str, values: Mapping[str, Any]) -> list[sqlite3.Row]:
        with self._lock, database_errors(self._path):
            return self._connection.execute(query, values).fetchall()

    def _message_row(self, identity: str) -> sqlite3.Row:
        for row in self._rows("SELECT * FROM messages WHERE id = :id", {"id": identity}):
            return row
        raise MissingInputError(f"there is no message {identity[:60]!r}", advice="it may have been deleted")

    def _reply(self, identity: str) -> StoredMessage:
        """A message of the assistant. Raises UsageError for one of the user."""
        message = self.message(identity)
        if message.role != "assistant":
            raise UsageError("this is a message of the user, not a reply")
        return message

    def _insert_new(self, connection: sqlite3.Connection, conversation: str, message: StoredMessage) -> bool:
        """Insert a message; False if it is there already."""
        known = connection.execute("SELECT * FROM messages WHERE id = :id", {"id": message.id}).fetchone()
        if known is None:
            if message.parent is not None and self.conversation_of(message.parent) != conversation:
                raise UsageError("the message that this one answers is in another conversation")
            self._insert(connection, conversation, message)
            return True
        same = (known["conversation"], known["parent"], known["role"]) == (conversation, message.parent, message.role)
        if not same or (message.role == "user" and known["text"] != message.text):
            raise UsageError("another message has this id", advice="choose a new id")
        return False

    def _insert(self, connection: sqlite3.Connection, conversation: str, message: StoredMessage) -> None:
        names = ("conversation", *COLUMNS)
        places = ", ".join(f":{name}" for name in names)
        values = {**_values(message), "conversation": conversation}
        connection.execute(f"INSERT INTO messages ({', '.join(names)}) VALUES ({places})", values)

    def _show(self, connection: sqlite3.Connection, conversation: str, messages: Sequence[StoredMessage]) -> None:
        """Show each message instead of its siblings; of several siblings the last one is shown."""
        for message in messages:
            connection.execute(
                "UPDATE messages SET shown = (id = :id) WHERE conversation = :conversation AND parent IS :parent",
                {"id": message.id, "conversation": conversation, "parent": message.parent},
            )


def _conversation(row: sqlite3.Row) -> StoredConversation:
    values = {field.name: row[field.name] for field in fields(StoredConversation)}
    return StoredConversation(**values | {"feedback": bool(values["feedback"])})


def _message(row: sqlite3.Row) -> StoredMessage:
    values = {name: row[name] for name in COLUMNS}
    chosen = None if values["chosen"] is None else bool(values["chosen"])
    known = {"shown": bool(values["shown"]), "chosen": chosen, "sampling": json.loads(values["sampling"])}
    return StoredMessage(**values | known)


def _values(message: StoredMessage) -> dict[str, Any]:
    """The columns of a message."""
    values = {name: getattr(message, name) for name in COLUMNS}
    return values | {"sampling": json.dumps(dict(message.sampling), ensure_ascii=False, sort_keys=True)}


def _snippet(text: str, folded: str) -> str:
    """The text around the first place where it has what was searched for."""
    at = max(text.casefold().find(folded), 0)
    start, end = max(0, at - SNIPPET), at + len(folded) + SNIPPET
    cut = " ".join(text[start:end].split())
    return ("…" if start else "") + cut + ("…" if end < len(text) else "")

"""Prompts without replies: a reader for methods that write their own, and how two prompts are known to be the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tunesmith.data.readers.ranked import asked
from tunesmith.data.readers.reader import Outcome, Reader, Settings, look
from tunesmith.data.readers.turns import PLAIN_ROLES, Speech, turns_of
from tunesmith.data.sources.files import reading
from tunesmith.data.sources.source import rows
from tunesmith.draws import KEY_BYTES
from tunesmith.errors import DataError
from tunesmith.text.tree import Message, Tree

# Where a row may hold its prompt; the first that is there counts. All but `prompt` as the trainer of Tulu 2.5 looks for them.
PLACES = ("prompt", "instruction", "history_messages", "messages", "conversation", "chosen")


def prompts(settings: Settings, row: Mapping[str, Any]) -> Outcome:
    """The prompt of a row, as a text or as a list of messages with role and content, from whose end replies are taken off.

    Looked for in this order: prompt, instruction, history_messages, messages, conversation, chosen.
    """
    columns = settings.columns
    for name in PLACES:
        column = columns[name]
        _, value = look(row, column)
        if value is None:
            continue
        if isinstance(value, str) and name in ("prompt", "instruction"):
            turns = [Message("user", value)]
        else:
            turns = turns_of(value, column, Speech((columns["role"],), (columns["content"],), PLAIN_ROLES))
            while turns and turns[-1].role == "assistant":
                turns.pop()
        asked(turns, f"field {column!r}")
        return Tree.path(turns)
    present = ", ".join(sorted(map(str, row))[:12]) or "no fields"
    looked = ", ".join(columns[name] for name in PLACES)
    advice = f"the row has {present}; looked for are {looked}; name the right one under fields.prompt"
    raise DataError("there is no prompt", advice=advice)


def prompt_key(messages: Sequence[Message]) -> bytes:
    """Digest (16 bytes) of what user and assistant say up to a reply, whatever white space stands around it."""
    digest = hashlib.blake2b(digest_size=KEY_BYTES)
    for message in messages:
        if message.role != "system":
            data = message.text.strip().encode()
            digest.update(b"%s %d:" % (message.role.encode(), len(data)))
            digest.update(data)
    return digest.digest()


def prompt_keys(paths: Sequence[str]) -> frozenset[bytes]:
    """The keys of all prompts in some files or hub data sets; a file .txt has one prompt a line.

    Raises MissingInputError or DataError: a list that cannot be read whole keeps nothing out.
    """
    return frozenset(prompt_key(prompt) for path in paths for prompt in _listed(path))


def _listed(path: str) -> Iterator[Sequence[Message]]:
    if path.endswith(".txt"):
        yield from ([Message("user", line)] for line in _text_lines(Path(path).expanduser()) if line.strip())
        return
    settings = Settings({name: name for name in PROMPTS["prompts"].columns}, {})
    for row in rows(path):
        try:
            outcome = prompts(settings, row.value)
        except DataError as error:
            raise DataError(error.what, where=row.place, advice=error.advice) from None
        assert isinstance(outcome, Tree)
        yield outcome.messages


def _text_lines(path: Path) -> Sequence[str]:
    with reading(path):
        content = path.read_bytes()
    try:
        return content.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise DataError("is not UTF-8", where=path, advice="save it as UTF-8") from error


PROMPTS: dict[str, Reader] = {"prompts": Reader(prompts, (*PLACES, "role", "content"), {})}

"""The prompts of `tunesmith sample`: lines of text, texts in JSON, or records with a prompt or messages."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tunesmith.apps.prompt_sets import PROMPT_SETS, prompt_set_path
from tunesmith.data.readers.pipeline import read_source
from tunesmith.data.readers.reader import ReadTree
from tunesmith.data.readers.source_config import SourceConfig
from tunesmith.data.sources.files import InputFile, find_file
from tunesmith.data.sources.records import file_error
from tunesmith.data.sources.strict_json import RecordError, decode_at, syntax_error, type_name
from tunesmith.data.sources.text_files import text_lines
from tunesmith.errors import DataError, MissingInputError, UsageError
from tunesmith.text.formats.format import with_context
from tunesmith.text.tree import Message


@dataclass(frozen=True, slots=True)
class SamplePrompt:
    """A prompt that gets replies.

    messages: the conversation; the last message is the user's.
    place: where it was read, such as ``prompts.jsonl:4``.
    """

    messages: tuple[Message, ...]
    place: str

    @property
    def is_plain(self) -> bool:
        """Whether it is a text and nothing else, as in the published reports."""
        return self.messages == (Message("user", self.messages[-1].text),)

    @property
    def text(self) -> str:
        """The prompt in a report: the text of the user, or the conversation with the names of the speakers."""
        if len(self.messages) == 1:
            return with_context(self.messages[0], "keep")
        turns = ((message.role.capitalize(), with_context(message, "keep")) for message in self.messages)
        return "\n\n".join(f"{role}: {text}" for role, text in turns)

    def as_json(self) -> dict[str, Any]:
        """How a report holds it: as text, and as messages if it is more than a text."""
        if self.is_plain:
            return {"prompt": self.text}
        return {"prompt": self.text, **conversation_fields(self.messages)}


def conversation_fields(messages: Sequence[Message]) -> dict[str, Any]:
    """A conversation as the fields ``messages`` and ``tools`` of a report."""
    tools = {"tools": json.loads(messages[0].tools)} if messages[0].tools else {}
    return {"messages": [message.as_dict(with_context(message, "keep")) for message in messages], **tools}


def read_sample_prompts(name: str, limit: int | None = None) -> list[SamplePrompt]:
    """The prompts of a file, or of a built-in set.

    name: of a set (``PROMPT_SETS``), or a path. A line of a .txt file is a prompt. A line of a .jsonl file is a JSON
        string, or an object as the reader ``prompts`` reads it; so are the records of other files. Blank lines are
        ignored.
    limit: how many are read; None for all.

    Raises MissingInputError (no file, no prompts), and DataError for a line that cannot be used.
    """
    path = _find(name)
    file = find_file(path)
    found: Iterator[SamplePrompt]
    if file.kind == "txt":
        found = (SamplePrompt((Message("user", text),), place) for text, place in _lines(file))
    elif file.kind == "jsonl" and _begins_with_text(file):
        found = (_parse(text, file, place) for text, place in _lines(file))
    else:
        found = _records(path)
    prompts = list(islice(found, limit))
    if not prompts:
        raise MissingInputError("there are no prompts in this file", where=path, advice="write one a line")
    return prompts


def _find(name: str) -> Path:
    path = Path(name).expanduser()
    if (built_in := prompt_set_path(name)) is not None and not path.exists():
        return built_in
    if not path.exists() and not path.suffix:
        close = difflib.get_close_matches(name, PROMPT_SETS, n=1)
        advice = f"did you mean {close[0]}?" if close else f"sets: {', '.join(PROMPT_SETS)}"
        raise UsageError(f"there is no file and no set of prompts {name!r}", where="--prompts", advice=advice)
    return path


def _lines(file: InputFile) -> Iterator[tuple[str, str]]:
    """Every line that is not blank, without its line break, and its place."""
    for line in text_lines(file):
        if line.text.strip():
            yield line.text.rstrip("\r\n"), f"{file.path}:{line.number}"


def _begins_with_text(file: InputFile) -> bool:
    """Whether the first line of a file of JSON lines is a text."""
    return next(_lines(file), ("", ""))[0].lstrip().startswith('"')


def _parse(line: str, file: InputFile, place: str) -> SamplePrompt:
    """The prompt in a line that holds one JSON string. Raises DataError."""
    number, body = place.rpartition(":")[2], line.strip()
    advice = "every line is a JSON string, as in the first one"
    try:
        value, end = decode_at(body, 0)
    except json.JSONDecodeError as error:
        raise file_error(file, number, syntax_error(error, f"column {error.pos + 1}")) from None
    except RecordError as error:
        raise file_error(file, number, error) from None
    if not isinstance(value, str) or body[end:].strip():
        what = "there is text after the string" if isinstance(value, str) else f"the line is {type_name(value)}"
        raise file_error(file, number, RecordError(what, advice))
    if not value.strip():
        raise file_error(file, number, RecordError("the prompt is empty", "remove the line"))
    return SamplePrompt((Message("user", value),), place)


def _records(path: Path) -> Iterator[SamplePrompt]:
    for result in read_source(SourceConfig(str(path), str(path), "prompts")):
        if isinstance(result, DataError):
            raise result
        if isinstance(result, ReadTree):
            yield SamplePrompt(result.tree.messages, result.tree.place)

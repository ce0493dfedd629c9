"""The columns of some rows: what they hold, and which part of a conversation their names usually mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tunesmith.data.readers.meanings import WORD_BREAK
from tunesmith.data.sources.setting_words import escape_unprintable

Kind = Literal["text", "objects", "object", "other"]

QUESTION = (
    *("instruction", "prompt", "question", "query", "input", "request", "problem", "task", "user", "human"),
    *("instructions", "questions", "inputs", "input_text", "user_message", "user_input", "user_prompt"),
)
ANSWER = (
    *("output", "response", "completion", "answer", "reply", "target", "solution", "assistant"),
    *("outputs", "responses", "completions", "answers", "output_text", "assistant_message", "model_response"),
    *("label_text", "targets", "gpt", "bot"),
)
PASSAGE = ("context", "passage", "document", "background", "input")
CHOSEN = ("chosen", "preferred", "accepted", "chosen_response", "response_chosen", "better", "winner", "positive")
REJECTED = (
    *("rejected", "dispreferred", "rejected_response", "response_rejected", "worse", "loser", "negative"),
    "not_preferred",
)
CHOSEN_SCORE = ("score_chosen", "chosen_score", "chosen_rating", "rating_chosen")
REJECTED_SCORE = ("score_rejected", "rejected_score", "rejected_rating", "rating_rejected")
DOCUMENT = ("text", "content", "document", "body", "article", "story", "passage")
ABOUT_THE_ROW = (
    *("id", "index", "idx", "uuid", "category", "source", "dataset", "lang", "language", "topic", "type", "tag"),
    *("tags", "url", "title", "date", "created", "author", "license", "split", "name", "subject", "system"),
    *(
        "timestamp",
        "time",
        "hash",
        "version",
        "domain",
        "model",
        "file",
        "path",
        "filename",
        "dump",
        "meta",
        "metadata",
    ),
)
"""Names of columns that say something about a row and are no part of a conversation."""

ENDS_ABOUT_THE_ROW = ("id", "date", "time", "timestamp", "at", "url", "hash", "path", "source", "language", "model")
"""Last words of such names that have several: ``prompt_id``, ``file_path``."""
KNOWN = frozenset((*QUESTION, *ANSWER, *PASSAGE, *CHOSEN, *REJECTED, *DOCUMENT, *ABOUT_THE_ROW))
LONGEST_NAME = 40  # characters; a longer one is rather a sentence
NO_HEADER = "the first line looks like a record, not like names of columns"
HEADER_ADVICE = "put a line such as question,answer before it"


def is_named_like_a_turn(name: str) -> bool:
    """Whether the name of a column usually means a part of a conversation."""
    return column_word(name) in {*QUESTION, *ANSWER, *PASSAGE, *CHOSEN, *REJECTED}


def column_word(name: str) -> str:
    """The name in lower case, with ``_`` between words."""
    return WORD_BREAK.sub("_", name.strip()).lower()


@dataclass(frozen=True, slots=True)
class Column:
    """One column of some rows.

    name: of it.
    kind: what most of its values are; ``objects`` is a list of objects.
    keys: key of these objects -> the texts that it has in them.
    """

    name: str
    kind: Kind
    keys: Mapping[str, frozenset[str]]

    @property
    def word(self) -> str:
        """The name in lower case, with ``_`` between words."""
        return column_word(self.name)


def lack_header(names: Iterable[str]) -> bool:
    """Whether the names of the columns look like the first record of a table without a header.

    One of them is long, has a line break, or ends as a sentence does, and none is a usual name.
    """
    listed = list(names)
    if KNOWN & set(map(column_word, listed)):
        return False
    return any(
        len(name) > LONGEST_NAME or len(name.splitlines()) > 1 or name.rstrip().endswith((".", "?", "!"))
        for name in listed
    )


def shown_name(name: str) -> str:
    """The name of a column for messages: on one line, and with control characters visible."""
    return escape_unprintable(name)


def find_columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, Column]:
    """Every column that is not empty in one of the rows, in the order of its first appearance."""
    values: dict[str, list[Any]] = {}
    for row in rows:
        for name, value in row.items():
            if value not in (None, "", [], {}):
                values.setdefault(name, []).append(value)
    return {name: _column(name, held) for name, held in values.items()}


def _column(name: str, values: Sequence[Any]) -> Column:
    kind = Counter(map(_kind, values)).most_common(1)[0][0]
    objects = [item for value in values for item in (value if isinstance(value, list) else [value])]
    keys: dict[str, set[str]] = {}
    for item in objects:
        for key, value in item.items() if isinstance(item, dict) else ():
            keys.setdefault(key, set()).update([value] if isinstance(value, str) else [])
    return Column(name, kind, {key: frozenset(texts) for key, texts in keys.items()})


def _kind(value: Any) -> Kind:
    if isinstance(value, str):
        return "text"
    if isinstance(value, dict):
        return "object"
    return "objects" if isinstance(value, list) and value and isinstance(value[0], dict) else "other"


def is_about_the_row(column: Column) -> bool:
    """Whether a column says something about its row and is no part of a conversation."""
    before, _, last = column.word.rpartition("_")
    return column.word in ABOUT_THE_ROW or (bool(before) and last in ENDS_ABOUT_THE_ROW)


def named(columns: Mapping[str, Column], words: Iterable[str], kind: Kind | None = None) -> list[str]:
    """The names of the columns with one of these names, in the order of the words. kind: only of this kind."""
    return [
        column.name
        for word in words
        for column in columns.values()
        if column.word == word and kind in (None, column.kind)
    ]

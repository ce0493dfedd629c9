"""The readings that the columns of some rows suggest: a reader with its fields and options."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from tunesmith.data.readers.columns import (
    ANSWER,
    CHOSEN,
    CHOSEN_SCORE,
    DOCUMENT,
    PASSAGE,
    QUESTION,
    REJECTED,
    REJECTED_SCORE,
    Column,
    named,
)
from tunesmith.data.readers.conversations import SHAREGPT_ROLES
from tunesmith.data.readers.prompts import PROMPT_FIELDS
from tunesmith.data.readers.turns import PLAIN_ROLES
from tunesmith.data.sources.message_keys import SPEAKER_KEYS, TEXT_KEYS
from tunesmith.data.sources.setting_words import source_words

PROMPT_LISTS = ("messages", "conversation", "conversations", "history_messages")
OTHER_ROLES: Mapping[str, str] = {
    **SHAREGPT_ROLES,
    **{name: role for role in PLAIN_ROLES for name in (role, role.capitalize(), role.upper())},
    **{"Human": "user", "USER": "user", "customer": "user", "AI": "assistant", "ai": "assistant", "bot": "assistant"},
    **{"model": "assistant", "agent": "assistant"},
}
"""Name of a role in the data -> role, where it is neither of OpenAI's form nor of ShareGPT's."""

EARLY_EXPORT: Mapping[str, Any] = {"states": None, "reviewed": False}
"""The options for trees of OpenAssistant without a state and a review."""

OF_MODELS: tuple[Mapping[str, Any], ...] = (
    {"keep": "rankings", "synthetic": True},
    {"top_k": 1, "synthetic": True},
)
"""The options for trees of OpenAssistant with replies of models: to compare them, and to imitate the best."""

EXACT: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("oasst", ("prompt", "tree_state")),
    ("oasst", ("prompt.replies",)),
    ("oasst", ("replies", "message_id")),
    ("oasst", ("thread",)),
    ("oasst-messages", ("message_id", "text", "role")),
    ("ultrafeedback", ("instruction", "completions")),
    ("nectar", ("prompt", "answers")),
    ("stackexchange", ("question", "answers")),
    ("helpsteer", ("prompt", "response", "helpfulness")),
    ("arena", ("conversation_a", "conversation_b", "winner")),
    ("alpacafarm", ("instruction", "output_1", "output_2", "preference")),
    ("shp", ("history", "human_ref_A", "human_ref_B", "labels")),
    ("hh", ("chosen", "rejected")),
    ("preference-sharegpt", ("conversations", "chosen", "rejected")),
    ("preference", ("chosen", "rejected")),
    ("preference-text", ("prompt", "chosen", "rejected")),
    ("dolly", ("instruction", "response")),
    ("alpaca", ("instruction", "output")),
    ("prompt-completion", ("prompt", "completion")),
    ("messages", ("messages",)),
    ("sharegpt", ("conversations",)),
    ("sharegpt", ("items",)),
)
"""Reader -> the columns by which its format is known; ``a.b`` is a key of the object in column a."""


OF_TEXTS = ("hh", "preference-text")
"""Readers that are not the nearest ones where a column is a list of messages."""

ALSO_SHOWN: Mapping[str, tuple[str, ...]] = {
    "dolly": ("context",),
    "alpaca": ("input", "history"),
    "prompt-completion": ("history",),
    "preference-text": ("context", "history", "score_chosen", "score_rejected"),
    "preference": ("score_chosen", "score_rejected"),
}
"""Reader -> further columns that it reads and that are named as recognised."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to read some rows.

    reader: a key of ``registry.READERS``.
    columns: those by which it was recognised, for people; ``a[].role/content`` names keys of a list.
    fields: field name of the reader -> column of the data, where the two differ.
    options: of the reader.
    ignore: columns that are left out on purpose.
    """

    reader: str
    columns: tuple[str, ...]
    fields: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    ignore: tuple[str, ...] = ()

    def words(self, key: str) -> str:
        """The words of a command that name this reading. key: of the source in the recipe, see ``source_words``."""
        settings: dict[str, Any] = {"reader": self.reader, "fields": self.fields, "options": self.options}
        settings["ignore"] = list(self.ignore)
        return source_words(key, {name: value for name, value in settings.items() if value})


def exchange(question: str, answer: str, passage: str | None = None) -> Reading:
    """The reading of columns with an instruction, its response and perhaps a passage, whatever their names are."""
    named_fields = {"instruction": question, "input": passage, "output": answer}
    fields = {name: column for name, column in named_fields.items() if column is not None}
    return Reading("alpaca", tuple(fields.values()), _renamed(fields))


def suggest_readings(columns: Mapping[str, Column]) -> Iterator[Sequence[Reading]]:
    """Groups of readings, the most certain first; those of one group are equally certain.

    Names that a reader expects come first, then early exports of OpenAssistant, then columns whose values are lists of
    turns, then other names of the same things, and at last prompts without replies and plain texts.
    """
    exact = [*_exact(columns)]
    yield exact
    yield [replace(reading, options=EARLY_EXPORT) for reading in exact if reading.reader.startswith("oasst")]
    yield [*_turns(columns)]
    yield [*_preferences(columns)]
    yield [*_exchanges(columns)]
    yield [*_prompts(columns), *_documents(columns)]


def _exact(columns: Mapping[str, Column]) -> Iterator[Reading]:
    for reader, names in EXACT:
        if all(_has(columns, name) for name in names):
            if reader in OF_TEXTS and any(columns[name].kind == "objects" for name in names):
                continue
            also = [name for name in ALSO_SHOWN.get(reader, ()) if name in columns]
            yield Reading(reader, tuple(_shown(columns, name) for name in (*names, *also)))


def _has(columns: Mapping[str, Column], name: str) -> bool:
    column, _, key = name.partition(".")
    return column in columns and (not key or (columns[column].kind == "object" and key in columns[column].keys))


def _shown(columns: Mapping[str, Column], name: str) -> str:
    """A column with the keys of its turns, for people."""
    column = columns.get(name)
    if column is None or column.kind not in ("objects", "object"):
        return name
    keys = [next((key for key in keys if key in column.keys), None) for keys in (SPEAKER_KEYS, TEXT_KEYS)]
    mark = "[]" if column.kind == "objects" else ""
    return f"{name}{mark}.{'/'.join(key for key in keys if key)}" if all(keys) else f"{name}{mark}"


def _turns(columns: Mapping[str, Column]) -> Iterator[Reading]:
    """Lists of turns under any name and with other names of their keys and roles."""
    for column in columns.values():
        if column.kind != "objects":
            continue
        speakers, texts = ([key for key in keys if key in column.keys] for keys in (SPEAKER_KEYS, TEXT_KEYS))
        for speaker, text in product(speakers, texts):
            shown = (f"{column.name}[].{speaker}/{text}",)
            if {(speaker, text)} & {("from", "value"), ("role", "content")}:
                yield Reading("sharegpt", shown, _renamed({"conversations": column.name}))
            names = {"messages": column.name, "role": speaker, "content": text}
            roles = {OTHER_ROLES[name]: name for name in sorted(column.keys[speaker]) if name in OTHER_ROLES}
            yield Reading("messages", shown, _renamed(names), _renamed(roles))


def _preferences(columns: Mapping[str, Column]) -> Iterator[Reading]:
    """Two replies, of which one is the better one, under any of the usual names."""
    scores = [_first(columns, words) for words in (CHOSEN_SCORE, REJECTED_SCORE)]
    rated = dict(zip(("score_chosen", "score_rejected"), scores, strict=True)) if all(scores) else {}
    given = {key: name for key, name in rated.items() if name is not None}
    for chosen, rejected in product(named(columns, CHOSEN), named(columns, REJECTED)):
        pair = {"chosen": chosen, "rejected": rejected, **given}
        yield Reading("preference", tuple(_shown(columns, name) for name in pair.values()), _renamed(pair))
        if "objects" in (columns[chosen].kind, columns[rejected].kind):
            continue  # lists of messages are no texts
        for prompt in named(columns, QUESTION, "text"):
            fields = {"prompt": prompt, **pair}
            shown = tuple(fields.values())
            yield Reading("preference-text", shown, _renamed(fields))
            yield Reading("preference-text", shown, _renamed(fields), {"prompt_again": "cut"})


def _exchanges(columns: Mapping[str, Column]) -> Iterator[Reading]:
    """An instruction with its response, and the passage that it refers to, under any of the usual names."""
    questions = named(columns, QUESTION)
    if len(questions) > 1:  # an input next to an instruction is its passage
        questions = [name for name in questions if columns[name].word not in PASSAGE]
    for question, answer in product(questions, named(columns, ANSWER)):
        if question == answer:
            continue
        shown = (question, answer)
        texts = columns[question].kind == columns[answer].kind == "text"
        if not texts or question == "input":  # which the reader alpaca reads as a passage
            yield Reading("prompt-completion", shown, _renamed({"prompt": question, "completion": answer}))
            continue
        passages: Sequence[str | None] = [name for name in named(columns, PASSAGE, "text") if name not in shown]
        yield from (exchange(question, answer, passage) for passage in passages or [None])


def _prompts(columns: Mapping[str, Column]) -> Iterator[Reading]:
    """Prompts, where no column can be the reply."""
    if named(columns, ANSWER) or named(columns, REJECTED):
        return
    for question in named(columns, (*QUESTION, *PROMPT_LISTS)):
        fields = {} if question in PROMPT_FIELDS else {"prompt": question}
        yield Reading("prompts", (_shown(columns, question),), fields)


def _documents(columns: Mapping[str, Column]) -> Iterator[Reading]:
    """Plain texts, where no column can be a question or a reply."""
    if not named(columns, (*QUESTION, *ANSWER)):
        yield from (Reading("text", (name,), _renamed({"text": name})) for name in named(columns, DOCUMENT, "text"))


def _first(columns: Mapping[str, Column], words: Iterable[str]) -> str | None:
    return next(iter(named(columns, words)), None)


def _renamed(names: Mapping[str, str]) -> dict[str, str]:
    """Only the entries whose two names differ."""
    return {field: name for field, name in names.items() if field != name}

"""Texts of evaluation sets, and which training records overlap with them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tunesmith.data.dataset.similarity import NearDuplicates, Ngrams, signature, words
from tunesmith.data.sources.files import blocks, find_file
from tunesmith.data.sources.source import rows
from tunesmith.data.sources.strict_json import RecordError, decode_at
from tunesmith.errors import DataError
from tunesmith.text.tree import Tree

SHORTEST = 8  # words; shorter texts ("Which is it?") are shared by chance


def evaluation_texts(path: str) -> Iterator[tuple[str, str]]:
    """(place, text) of every text in a file, whatever its columns are called; a line of .jsonl may be a single text.

    Raises MissingInputError or DataError.
    """
    file = find_file(Path(path).expanduser())
    if file.kind != "jsonl":
        for row in rows(path):
            yield from ((row.place, text) for text in _texts(row.value))
        return
    rest, number = b"", 0
    for block in (*blocks(file), b"\n"):
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            number += 1
            if line.strip():
                place = f"{path}:{number}"
                yield from ((place, text) for text in _texts(_value(line, place)))


def _value(line: bytes, place: str) -> Any:
    """The JSON value of a line. Raises DataError."""
    try:
        return decode_at(line.decode("utf-8-sig").strip(), 0)[0]
    except (UnicodeDecodeError, RecordError, json.JSONDecodeError) as error:
        raise DataError("this is not a line of JSON in UTF-8", where=place, advice="fix the evaluation file") from error


def _texts(value: Any) -> Iterator[str]:
    """Every text inside a value."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict | list):
            stack.extend(item.values() if isinstance(item, dict) else item)


class EvaluationSets:
    """The texts of evaluation files, to be compared with training records.

    A training record overlaps if one of its messages shares a run of 13 words with an evaluation text (a shorter text,
    of 8 words at least, must occur whole), or is estimated to share ``threshold`` of its shingles.

    paths: of the files; more texts may be added one by one.
    """

    def __init__(self, paths: Sequence[str], threshold: float = 0.8) -> None:
        self._ngrams, self._near = Ngrams(), NearDuplicates(threshold)
        self.texts = 0
        for path in paths:
            for place, text in evaluation_texts(path):
                self.add(place, text)

    def add(self, place: str, text: str) -> None:
        """Add a text of an evaluation set; a text that is too short is left out."""
        if len(words(text)) >= SHORTEST:
            self.texts += 1
            self._ngrams.add(place, text)
            self._near.add(place, signature(text))

    def overlap(self, tree: Tree) -> str | None:
        """The kind and place of the first overlap of a record with an evaluation text, or None."""
        for message in tree.messages:
            for text in (message.text, message.context):
                if not text:
                    continue
                if shared := self._ngrams.matches(text):
                    return f"shares a run of words with {shared[0]}"
                if len(words(text)) >= SHORTEST and (similar := self._near.find(signature(text))):
                    return f"is nearly the same as {similar}"
        return None

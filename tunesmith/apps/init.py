"""`tunesmith init`, first part: which reader reads the data, for which objective, and what the first rows look like.

Nothing here needs a model, so a wrong path or form is reported at once.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from tunesmith.data.readers.forms import Reading
from tunesmith.data.readers.pipeline import Pipeline
from tunesmith.data.readers.reader import ReadTree
from tunesmith.data.readers.recognition import NotRecognised, first_rows, recognise
from tunesmith.data.readers.registry import READERS, Purpose, purpose
from tunesmith.data.readers.source_config import SourceConfig
from tunesmith.data.sources.setting_words import COMMAND_LINE
from tunesmith.data.sources.source import find_source, read_rows
from tunesmith.errors import DataError, UsageError
from tunesmith.recipe.data import DOCUMENTS, source_name
from tunesmith.text.tree import Message, Tree
from tunesmith.text.visible import visible

WIDTH = 80  # columns of the preview, where the terminal is not narrower
SHOWN = 3  # records
MODEL_FILES = ("config.json", "tokenizer.json")

OBJECTIVES: Mapping[Purpose, str] = {"demonstrations": "sft", "rankings": "dpo", "prompts": "ppo"}
"""What the data are good for -> the objective that uses it."""

NEEDED: Mapping[str, Purpose | None] = {"sft": "demonstrations", "dpo": "rankings", "reward": "rankings", "ppo": None}
"""Objective -> what it needs; None for any conversations."""

DOCUMENTS_TITLE = "supervised fine-tuning: the model learns to continue such texts"
TITLES: Mapping[str, str] = {
    "sft": "supervised fine-tuning: the model learns to reply like this",
    "dpo": "DPO: the model learns to prefer the chosen replies",
    "reward": "a reward model: it learns to score the chosen replies higher",
    "ppo": "PPO: the model replies to the prompts, and a reward model scores the replies",
}


@dataclass(frozen=True, slots=True)
class GivenSource:
    """The data as they are given on the command line.

    path: a file, a directory, or the name of a data set on the hub.
    split, config: see ``find_source``.
    name: of the reader; None if it is to be recognised.
    fields: field name of the reader -> column of the data.
    options: of the reader.
    ignore: columns and message keys that are left out on purpose.
    """

    path: str
    split: str | None = None
    config: str | None = None
    name: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    ignore: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at some data has found.

    config: how they are read.
    reason: how the reader was chosen.
    objective: sft, dpo, reward or ppo.
    """

    config: SourceConfig
    reason: str
    objective: str


def look(given: GivenSource, objective: str | None) -> Look:
    """Choose reader and objective from the first rows, and print three records as messages.

    objective: None to choose it from the data.
    Raises UsageError, MissingInputError, DataError or RecipeError, each with what to do.
    """
    if objective is not None and objective not in NEEDED:
        raise UsageError(f"there is no objective {objective!r}", advice=f"use one of {', '.join(NEEDED)}")
    path = given.path
    _check_data(path)
    reading, reason = _choose_reader(given, objective)
    found = purpose(reading.reader, reading.options)
    needed = None if objective is None else NEEDED[objective]
    if objective is not None and needed is not None and found != needed:
        raise _unfit(path, reading, objective)
    objective = objective or OBJECTIVES[found]
    config = SourceConfig(
        name=source_name(path),
        path=path,
        reader=reading.reader,
        split=given.split,
        config=given.config,
        fields=reading.fields,
        options=reading.options,
        ignore=given.ignore,
        key=COMMAND_LINE,
    )
    title = DOCUMENTS_TITLE if config.reader == DOCUMENTS and objective == "sft" else TITLES[objective]
    lines = [f"{path}: {reason}", f"objective: {objective} ({title})", ""]
    _print_lines([*lines, *_preview(config)])
    return Look(config, reason, objective)


def _check_data(path: str) -> None:
    """Raises UsageError for a model directory in place of data."""
    if all((Path(path).expanduser() / name).is_file() for name in MODEL_FILES):
        advice = f"give the data first and the model as an option: tunesmith init DATA --model {shlex.quote(path)}"
        raise UsageError("this is a model, not data", where=path, advice=advice)


def _choose_reader(given: GivenSource, objective: str | None) -> tuple[Reading, str]:
    """The reader, and how it was chosen."""
    if given.name is not None:
        if given.name not in READERS:
            raise UsageError(f"there is no reader {given.name!r}", advice=f"known are {', '.join(READERS)}")
        return Reading(given.name, (), given.fields, given.options), f"reader: {given.name}"
    if given.fields:
        raise UsageError("--field needs the reader whose field it is", advice="name it: --reader alpaca")
    rows = first_rows(given.path, given.split, given.config, COMMAND_LINE)
    found = recognise(rows, None if objective is None else NEEDED[objective], given.ignore, COMMAND_LINE)
    if isinstance(found, NotRecognised):
        raise DataError(found.what, where=given.path, advice=found.advice(COMMAND_LINE))
    options = {**found.reading.options, **given.options}
    return Reading(found.reading.reader, found.reading.columns, found.reading.fields, options), found.description()


def _unfit(path: str, reading: Reading, objective: str) -> UsageError:
    """The data do not have what the objective needs."""
    found = purpose(reading.reader, reading.options)
    if found == "rankings":
        what = "these are preferences, and sft would imitate the rejected replies too"
        words = replace(reading, options={**reading.options, "replies": "best"}).words(COMMAND_LINE)
        return UsageError(what, where=path, advice=f"leave out --objective sft, or imitate the best: {words}")
    what = f"objective {objective} compares replies to one prompt, and the reader {reading.reader} gives {found}"
    advice = "the data need two replies to every prompt, such as columns prompt, chosen and rejected"
    return UsageError(what, where=path, advice=advice)


def _preview(config: SourceConfig) -> Iterator[str]:
    """The first records as messages, a line each."""
    pipeline = Pipeline(config)
    rows = islice(read_rows(find_source(config.path, config.split, config.config, config.key)), 200)
    results = pipeline.read_all(rows)
    trees = (result.tree for result in results if isinstance(result, ReadTree))
    for tree in islice(trees, SHOWN):
        yield _cut(visible(tree.place))
        labels = ["document"] if config.reader == DOCUMENTS else _labels(tree)
        for message, label in zip(tree.messages, labels, strict=True):
            yield _cut(f"  {label:9}  {_one_line(message)}")
        yield ""


def _labels(tree: Tree) -> Sequence[str]:
    """What every message is called: its role, or its place among compared replies."""
    pair = sum(message.rank is not None for message in tree.messages) == 2
    words = ("chosen", "rejected") if pair else ()
    return [
        message.role
        if message.rank is None
        else words[message.rank]
        if message.rank < len(words)
        else f"rank {message.rank + 1}"
        for message in tree.messages
    ]


def _one_line(message: Message) -> str:
    """The text of a message with its context, and with line breaks and control characters visible."""
    context = f" | {message.context}" if message.context.strip() else ""
    calls = "".join(f" -> {call.name}({call.arguments})" for call in message.tool_calls)
    text = f"{message.text}{context}{calls}".strip()
    return visible(text[:1000]).replace("\n", "\\n").replace("\t", "\\t")


def _cut(line: str) -> str:
    """The line, shortened to the width of the screen."""
    width = min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)
    return line if len(line) <= width else f"{line[: width - 2]}.."


def _print_lines(lines: Sequence[str]) -> None:
    print("\n".join(lines), file=sys.stdout)

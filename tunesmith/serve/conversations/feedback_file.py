"""`tunesmith feedback`: a file for training from the conversations that people have marked for it."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TextIO

from tunesmith.apps.preferences import PairSelection, build_preferences
from tunesmith.data.readers.source_config import SourceConfig
from tunesmith.errors import MissingInputError
from tunesmith.files import write_file
from tunesmith.serve.conversations.feedback import FeedbackCounts, feedback_trees
from tunesmith.serve.conversations.oasst import as_lines
from tunesmith.serve.conversations.store import ConversationStore
from tunesmith.text.visible import visible

FeedbackReader = Literal["oasst", "oasst-messages"]


@dataclass(frozen=True, slots=True)
class FeedbackReport:
    """What was written.

    counts: of the conversations.
    reader: which reader of a recipe reads the file.
    pairs: pairs in the second file; None without one.
    """

    counts: FeedbackCounts
    reader: FeedbackReader
    pairs: int | None


def write_feedback(data: Path, output: Path, pairs: Path | None = None) -> FeedbackReport:
    """Write the feedback in a directory of conversations.

    data: the directory, or the database in it; a server may be using it.
    output: the file: one tree a line, or one message a line if a tree is too deep for that.
    pairs: a second file with the same comparisons as pairs, for the reader ``preference``.
    Raises MissingInputError if there is no feedback, DataError and StorageError.
    """
    counts, store = FeedbackCounts(), ConversationStore.open_existing(data)
    try:
        trees = list(feedback_trees(store.trees(), counts))
    finally:
        store.close()
    if not trees:
        raise _no_feedback(counts, data)
    rows, nested = as_lines(trees)
    write_file(output, "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))
    reader: FeedbackReader = "oasst" if nested else "oasst-messages"
    written = None
    if pairs is not None:
        source = SourceConfig("feedback", str(output), reader, options={"synthetic": True})
        written = build_preferences([source], pairs, PairSelection()).written
    return FeedbackReport(counts, reader, written)


def run(data: Path, output: Path, *, pairs: Path | None = None, target: TextIO | None = None) -> None:
    """Write the feedback and print what was written, and how to train on it. Raises as ``write_feedback``."""
    report, screen = write_feedback(data, output, pairs), target or sys.stdout
    counts = report.counts
    print(f"{counts.marked:,} of {counts.conversations:,} conversations are marked for training", file=screen)
    good = f", {counts.good:,} with one good reply" if counts.good else ""
    print(visible(f"wrote {output}: {counts.trees:,} trees, {counts.comparisons:,} comparisons{good}"), file=screen)
    for reason, count in counts.left_out.most_common():
        print(f"left out: {count:,} replies: {reason}", file=screen)
    if pairs is not None:
        print(visible(f"wrote {pairs}: {report.pairs:,} pairs"), file=screen)
    print(visible(f"to make a recipe: tunesmith init {shlex.quote(str(output))} --model RUN"), file=screen)
    source = {"path": str(output), "reader": report.reader, "options": {"keep": "rankings", "synthetic": True}}
    print(visible(f"or in a recipe for DPO: data.sources='[{json.dumps(source)}]'"), file=screen)


def _no_feedback(counts: FeedbackCounts, data: Path) -> MissingInputError:
    if not counts.conversations:
        advice = "chat on the page of `tunesmith serve`, or name the directory that was given to its --data"
        return MissingInputError("there are no conversations", where=data, advice=advice)
    if not counts.marked:
        advice = "switch on 'Use for training' in the conversations that may be used"
        return MissingInputError(f"none of {counts.conversations:,} conversations is marked", where=data, advice=advice)
    advice = "vote, choose among drafts, or edit a reply"
    return MissingInputError("there is no feedback in the marked conversations", where=data, advice=advice)

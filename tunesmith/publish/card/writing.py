"""`tunesmith card`: writes README.md of an export, and says which parts somebody has edited since."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from tunesmith.compose.progress import show_progress
from tunesmith.errors import StorageError, UsageError
from tunesmith.files import IN_THE_WAY, storage_errors, write_file
from tunesmith.model.names import EXPORT
from tunesmith.publish.card.document import CardSection, WrittenCard, card_text, read_card
from tunesmith.publish.card.evaluation_sections import evaluation, limitations
from tunesmith.publish.card.facts import CardFacts
from tunesmith.publish.card.metadata import RESULTS, header, result_files, unwritten
from tunesmith.publish.card.reading import find_run, read_facts
from tunesmith.publish.card.sections import (
    citation,
    intended_use,
    model_details,
    own_sections,
    prompting,
    summary,
    usage,
)
from tunesmith.publish.card.training_sections import how_to_repeat, training_data, training_procedure

README = "README.md"
LARGEST = 1 << 24  # bytes of a card
OWN_TEXT = "put text of your own into the section `card` of the recipe (it is kept), or add --force to replace it"


def write_card(path: Path, notice: Callable[[str], None], *, force: bool = False) -> Path:
    """Write the card of a finished run; returns its path. Nothing is written if it is there already.

    path: the directory of the run, or its export.
    notice: reports what the card leaves out.
    force: replace a card that was edited, or was not written by this function.
    Raises MissingInputError, DataError, RecipeError, UsageError (not finished, edited), StorageError.
    """
    run = find_run(path)
    with show_progress("reading the training data") as progress:
        facts = read_facts(run, progress)
    files = result_files(facts)
    text = card_text(header(facts), list(card_sections(facts)), files)
    export = run / EXPORT
    written = _read_written(export)
    if written is not None and not force:
        _check_unedited(written, export / README)
    for name in _result_names(export):
        if name not in files and (force or name in ((written and written.digests) or {})):
            with storage_errors(export / name):
                (export / name).unlink()
    for name, content in {**files, README: text}.items():
        if _read_text(export / name) != content:
            write_file(export / name, content)
    for sentence in unwritten(facts):
        notice(sentence)
    return export / README


def write_card_after_training(run: Path, notice: Callable[[str], None]) -> None:
    """Write the card of a run that has just ended. The run is complete without it, so that every fault is a notice."""
    try:
        notice(f"written to {write_card(run, notice)}")
    except Exception as error:
        notice(f"it cannot be written: {error}")


def card_sections(facts: CardFacts) -> Iterator[CardSection]:
    """The sections in their order; those about which nothing is known are left out."""
    every = (
        *(summary(facts), model_details(facts), prompting(facts), usage(facts), intended_use(facts)),
        *(training_data(facts), training_procedure(facts), evaluation(facts), limitations(facts)),
        *(*own_sections(facts), citation(facts), how_to_repeat(facts)),
    )
    yield from (section for section in every if section is not None)


def _read_written(export: Path) -> WrittenCard | None:
    """The card that is there; None without one. Raises StorageError."""
    text = _read_text(export / README)
    if text is None:
        return None
    return read_card(text, {name: _read_text(export / name) or "" for name in _result_names(export)})


def _read_text(path: Path) -> str | None:
    if not path.is_file():
        if os.path.lexists(path):
            raise StorageError("this is not a regular file, and it is not replaced", where=path, advice=IN_THE_WAY)
        return None
    with storage_errors(path, advice="it cannot be read"):
        if path.stat().st_size > LARGEST:
            raise StorageError("this is too large for a card", where=path, advice="move it away")
        return path.read_bytes().decode("utf-8", "replace")


def _result_names(export: Path) -> list[str]:
    return [f"{RESULTS}/{path.name}" for path in sorted((export / RESULTS).glob("*.yaml"))]


def _check_unedited(written: WrittenCard, where: Path) -> None:
    """Raises UsageError for a card with other text than was written."""
    if written.digests is None:
        raise UsageError("this card was not written by `tunesmith card`", where=where, advice=OWN_TEXT)
    if edited := written.edited():
        parts = ", ".join(map(repr, edited))
        raise UsageError(f"the card was edited by hand: {parts}", where=where, advice=OWN_TEXT)

"""`tunesmith card`: writes README.md of an export, and says which parts somebody has edited since."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from tunesmith.compose.progress import show_progress
from tunesmith.errors import UsageError
from tunesmith.files import storage_errors, write_file
from tunesmith.model.names import EXPORT
from tunesmith.publish.card.document import CardSection, WrittenCard, card_text
from tunesmith.publish.card.evaluation_sections import evaluation, limitations
from tunesmith.publish.card.export_of_run import check_export_of
from tunesmith.publish.card.facts import CardFacts
from tunesmith.publish.card.found import OWN_RESULTS, README, model_digest, read_text, read_written, result_names
from tunesmith.publish.card.metadata import header, result_files, unwritten
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

OWN_TEXT = "put text of your own into the section `card` of the recipe (it is kept), or add --force to replace it"


def write_card(path: Path, notice: Callable[[str], None], *, output: Path | None = None, force: bool = False) -> Path:
    """Write the card of a finished run; returns its path. Nothing is written if it is there already.

    path: the directory of the run, or its export.
    notice: reports what the card leaves out.
    output: another export of the run, which the card is about and where it is written; None for that in the run.
    force: replace a card that was edited, or was not written by this function.
    Raises MissingInputError, DataError, RecipeError, UsageError (not finished, not of this run, edited), StorageError.
    """
    run = find_run(path)
    export = run / EXPORT
    if output is not None and output.expanduser().resolve() != export.resolve():
        export = output.expanduser()
        check_export_of(run, export)
    with show_progress("reading the training data") as progress:
        facts = read_facts(run, progress, export)
    files = result_files(facts)
    text = card_text(header(facts), list(card_sections(facts)), files, model_digest(export))
    written = read_written(export)
    if written is not None and not force:
        _check_unedited(written, export / README)
    for name in result_names(export):
        if name not in files and ((force and name in OWN_RESULTS) or name in ((written and written.digests) or {})):
            with storage_errors(export / name):
                (export / name).unlink()
    for name, content in {**files, README: text}.items():
        if read_text(export / name) != content:
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


def _check_unedited(written: WrittenCard, where: Path) -> None:
    """Raises UsageError for a card with other text than was written."""
    if written.digests is None:
        raise UsageError("this card was not written by `tunesmith card`", where=where, advice=OWN_TEXT)
    if edited := written.edited():
        parts = ", ".join(map(repr, edited))
        raise UsageError(f"the card was edited by hand: {parts}", where=where, advice=OWN_TEXT)

"""What `tunesmith verify` finds in the card of an export and in the survey of the data, by the digests in them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from tunesmith.apps.provenance.inventory import Inventory, check_sealed
from tunesmith.errors import TunesmithError
from tunesmith.model.export_manifest import EXPORT_MANIFEST
from tunesmith.model.names import EXPORT
from tunesmith.publish.card.data_survey import SURVEY
from tunesmith.publish.card.found import README, card_directories, find_card_faults, read_written
from tunesmith.publish.card.metadata import RESULTS


def add_card_files(found: Inventory) -> None:
    """Add the card and its files of results, and the survey of the data, of a run or of an export.

    A card of another program has no digests. One of another model is as it was written, but nothing shows that the
    model next to it is the one that it describes.
    """
    survey = found.directory / SURVEY
    if survey.is_file():
        found.add_list(survey, partial(check_sealed, survey))
    is_export = (found.directory / EXPORT_MANIFEST).is_file()
    export = found.directory if is_export else found.directory / EXPORT
    if export.is_dir():
        for directory in card_directories(export):
            _add_card(found, directory)


def _add_card(found: Inventory, export: Path) -> None:
    path = export / README
    try:
        written = read_written(export)
    except TunesmithError as error:
        found.report("not covered", path, f"it cannot be read: {error.what}")
        return
    if written is None or not written.marked:
        return
    if written.digests is None:
        found.report("damaged", path, "its last line, which has the digests of its parts, is gone")
        return
    edited = written.edited()
    results = [name for name in written.digests if name.startswith(f"{RESULTS}/")]
    for name in results:
        if not (export / name).is_file():
            found.report("missing", export / name, "the card has a digest of it")
        elif name in edited:
            found.report("damaged", export / name, "its content has changed since the card was written")
        else:
            found.intact.append(export / name)
    if parts := [name for name in edited if name not in results]:
        names = ", ".join(repr(name) for name in parts)
        found.report("damaged", path, f"these parts have changed since the card was written: {names}")
    elif (doubt := _find_doubt(export)) is not None:
        found.report("not covered", path, doubt)
    else:
        found.intact.append(path)


def _find_doubt(export: Path) -> str | None:
    """Why it is not known that a card describes the model next to it; None if it does."""
    try:
        faults = [each for each in find_card_faults(export) if each.kind != "edited" and each.name == README]
    except TunesmithError as error:  # a list of files that was changed is reported with the files of the export
        return f"it cannot be compared with the model: {error.what}"
    return f"{faults[0].what}; {faults[0].advice}" if faults else None

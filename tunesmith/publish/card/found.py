"""The card that an export has: whether it is as it was written, and of the model that is next to it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tunesmith.errors import StorageError, TunesmithError
from tunesmith.files import IN_THE_WAY, find_inner_file, fingerprint, sha256, storage_errors
from tunesmith.model.export_manifest import read_export_manifest
from tunesmith.model.names import ADAPTER, ADAPTER_CONFIG, DESCRIPTION, EXPORT
from tunesmith.publish.card.document import WrittenCard, read_card
from tunesmith.publish.card.metadata import REGISTERED, RESULTS
from tunesmith.train.run.directory import RECIPE

README = "README.md"
LARGEST = 1 << 24  # bytes of a card
MODEL_FILES = ("config.json", ADAPTER_CONFIG, DESCRIPTION)
"""What a card is about in addition to the weights: sizes, code of a pipeline, prompt format, optimizer steps."""
OWN_RESULTS = frozenset(f"{RESULTS}/{task}.yaml" for task in REGISTERED)
"""The files of results that `tunesmith card` writes, relative to the export."""
UNKNOWN_RUN = "RUN"
"""In place of the run in a command, for an export that is not in its run."""
OWN_CARD = "to publish the text as your own card, delete its lines that begin with <!-- tunesmith:"


@dataclass(frozen=True, slots=True)
class CardFault:
    """What is wrong with a card of `tunesmith card`.

    kind: edited: it has other text than was written; stale: it was written for another model; unknown: it does not
        record its model, as cards of earlier versions.
    name: of the file, relative to the export.
    what: the fault. advice: what to do.
    """

    kind: Literal["edited", "stale", "unknown"]
    name: str
    what: str
    advice: str


def model_digest(directory: Path) -> str:
    """Digest of what a card is about: the weights and ``MODEL_FILES``.

    directory: of the model. The digests of weights are those of its list of files, if it has one, since nothing reads
        weights that differ from it.
    Raises DataError for a list that was changed, StorageError.
    """
    manifest = read_export_manifest(directory)
    listed = {} if manifest is None else manifest.files
    found = dict[str, str]()
    with storage_errors(directory, advice="check that its files can be read"):
        for path in sorted(directory.glob("*.safetensors")):
            size, digest = listed.get(path.name, (-1, ""))
            found[path.name] = digest if size == path.stat().st_size else sha256(path)
        for name in MODEL_FILES:
            if (file := find_inner_file(directory, name)) is not None:
                found[name] = sha256(file)
    return fingerprint(found)[:16]


def read_written(export: Path) -> WrittenCard | None:
    """The card in an export; None without one. Raises StorageError."""
    text = read_text(export / README)
    if text is None:
        return None
    return read_card(text, {name: read_text(export / name) or "" for name in result_names(export)})


def read_text(path: Path) -> str | None:
    """The text of a file of a card; None without the file. Raises StorageError for anything but a small file."""
    if not path.is_file():
        if os.path.lexists(path):
            raise StorageError("this is not a regular file, and it is not replaced", where=path, advice=IN_THE_WAY)
        return None
    with storage_errors(path, advice="it cannot be read"):
        if path.stat().st_size > LARGEST:
            raise StorageError("this is too large for a card", where=path, advice="move it away")
        return path.read_bytes().decode("utf-8", "replace")


def result_names(export: Path) -> list[str]:
    """The files of results that the hub shows as badges, relative to the export."""
    return [f"{RESULTS}/{path.name}" for path in sorted((export / RESULTS).glob("*.yaml"))]


def find_card_faults(export: Path) -> Iterator[CardFault]:
    """What is wrong with the card of an export; nothing without a card, and for one that another program wrote.

    An edit comes first, since it is found without the model.
    Raises DataError for a list of files that was changed, StorageError.
    """
    written = read_written(export)
    if written is None or not written.marked:
        return
    command = card_command(export)
    again = f"write it again: {command}"
    own = f"put text of your own into the section `card` of the recipe of the run and {again} --force; or, {OWN_CARD}"
    if written.digests is None:
        what = "the last line of the card, which has the digests of its parts, is gone or was changed"
        yield CardFault("edited", README, what, own)
    elif edited := written.edited():
        results = [name for name in edited if name.startswith(RESULTS)]
        what = f"the card was edited by hand: {', '.join(map(repr, edited))}"
        yield CardFault("edited", results[0] if results == edited else README, what, own)
    advice = again if UNKNOWN_RUN not in command else f"{again}; without the run, compare it with the model; {OWN_CARD}"
    if not written.model:
        what = "the card does not record its model, so it is not known whether it was written for the one next to it"
        yield CardFault("unknown", README, what, advice)
    elif written.model != model_digest(export):
        what = "the card was written for another model, not for the one next to it"
        yield CardFault("stale", README, what, advice)
    for name in result_names(export):
        if written.digests is not None and name in OWN_RESULTS and name not in written.digests:
            what = "these results are not those of the card"
            yield CardFault("stale", name, what, f"delete the file, or {again} --force")


def card_command(export: Path) -> str:
    """The command that writes the card of an export, or of the adapters in one."""
    outer = export.parent if export.name == ADAPTER else export
    if outer.name == EXPORT and (outer.parent / RECIPE).is_file():
        further = f" --output {shlex.quote(str(export))}" if export.name == ADAPTER else ""
        return f"tunesmith card {shlex.quote(str(outer.parent))}{further}"
    return f"tunesmith card {UNKNOWN_RUN} --output {shlex.quote(str(export))}"


def card_directories(export: Path) -> list[Path]:
    """The directories of an export that may have a card: itself, and the adapters alone."""
    return [export, *([export / ADAPTER] if (export / ADAPTER / README).is_file() else [])]


def describe_outdated_cards(run: Path, output: Path | None) -> list[str]:
    """A sentence for each card of an export that has to be written again, or that cannot be read.

    run: the directory of a run. output: of the export; None for that in the run.
    """
    export = run / EXPORT if output is None else output
    found: list[str] = []
    for directory in card_directories(export):
        further = "" if directory == run / EXPORT else f" --output {shlex.quote(str(directory))}"
        command = f"tunesmith card {shlex.quote(str(run))}{further}"
        try:
            faults = list(find_card_faults(directory))
        except TunesmithError as error:  # the export is complete
            found.append(f"warning: the card of the export cannot be checked: {error}")
            continue
        edits = [each for each in faults if each.kind == "edited"]
        outdated = next((each for each in faults if each.kind != "edited"), None)
        if outdated is not None:
            also = "".join(f", and {each.what} (--force replaces it)" for each in edits[:1])
            force = " --force" if edits or outdated.name != README else ""
            found.append(
                f"{directory / outdated.name}: {outdated.what}{also}; write it again before you publish it: "
                f"{command}{force}"
            )
    return found

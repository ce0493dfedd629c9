"""The card that an export has: whether it is as it was written, and of the model that is next to it."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tunesmith.errors import StorageError
from tunesmith.files import IN_THE_WAY, find_inner_file, fingerprint, sha256, storage_errors
from tunesmith.model.export_manifest import read_export_manifest
from tunesmith.model.names import ADAPTER_CONFIG, DESCRIPTION, EXPORT
from tunesmith.publish.card.document import WrittenCard, read_card
from tunesmith.publish.card.metadata import REGISTERED, RESULTS
from tunesmith.train.run.directory import RECIPE

README = "README.md"
LARGEST = 1 << 24  # bytes of a card
MODEL_FILES = ("config.json", ADAPTER_CONFIG, DESCRIPTION)
"""What a card is about in addition to the weights: sizes, code of a pipeline, prompt format, optimizer steps."""


@dataclass(frozen=True, slots=True)
class CardFault:
    """What is wrong with a card of `tunesmith card`.

    kind: edited: it has other text than was written; stale: it was written for another model.
    name: of the file, relative to the export.
    what: the fault. advice: what to do.
    """

    kind: Literal["edited", "stale"]
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


def find_card_fault(export: Path) -> CardFault | None:
    """What is wrong with the card of an export; None without a card, and for one that another program wrote.

    Raises DataError for a list of files that was changed, StorageError.
    """
    written = read_written(export)
    if written is None or not written.marked:
        return None
    again = f"write it again: {card_command(export)}"
    own = (
        f"put text of your own into the section `card` of the recipe of the run and {again} --force; or, to publish "
        "the text as your own card, delete its lines that begin with <!-- tunesmith:"
    )
    if written.digests is None:
        what = "the last line of the card, which has the digests of its parts, is gone or was changed"
        return CardFault("edited", README, what, own)
    if edited := written.edited():
        results = [name for name in edited if name.startswith(RESULTS)]
        what = f"the card was edited by hand: {', '.join(map(repr, edited))}"
        return CardFault("edited", results[0] if results == edited else README, what, own)
    if written.model != model_digest(export):
        return CardFault("stale", README, "the card was written for another model, not for the one next to it", again)
    ours = {f"{RESULTS}/{task}.yaml" for task in REGISTERED}
    for name in result_names(export):
        if name in ours and name not in written.digests:
            return CardFault("stale", name, "these results are not those of the card", f"delete the file, or {again}")
    return None


def card_command(export: Path) -> str:
    """The command that writes the card of an export."""
    if export.name == EXPORT and (export.parent / RECIPE).is_file():
        return f"tunesmith card {shlex.quote(str(export.parent))}"
    return f"tunesmith card RUN --output {shlex.quote(str(export))}"


def describe_outdated_card(run: Path, output: Path | None) -> str | None:
    """A sentence if an export has a card that has to be written again; None otherwise.

    run: the directory of a run. output: of the export; None for that in the run.
    Raises DataError, StorageError.
    """
    export = run / EXPORT if output is None else output
    fault = find_card_fault(export)
    if fault is None or fault.kind != "stale":
        return None
    further = "" if output is None else f" --output {shlex.quote(str(output))}"
    command = f"tunesmith card {shlex.quote(str(run))}{further}"
    return f"{export / fault.name}: {fault.what}; write it again before you publish it: {command}"

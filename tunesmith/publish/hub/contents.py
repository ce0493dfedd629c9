"""The files of a directory that is published, with the hashes by which the hub knows them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import ModelCard

from tunesmith.errors import DataError, MissingInputError
from tunesmith.files import UNFINISHED, storage_errors
from tunesmith.model.directory import PICKLED
from tunesmith.publish.card.found import README, card_command
from tunesmith.recipe.licenses import HUB_LICENSES
from tunesmith.text.visible import visible

HIDDEN = (".eval_results",)
"""Names of the hub that start with a dot; other such names are of programs on this machine."""
GATES = "extra_gated_"
UNFILLED = "More Information Needed"
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """One file.

    name: relative to the directory, with slashes.
    path: on this machine.
    size: bytes.
    sha256: of its content, by which large files are known to the hub.
    blob: SHA-1 of git, by which small files are known.
    """

    name: str
    path: Path
    size: int
    sha256: str
    blob: str


def find_files(directory: Path) -> dict[str, Path]:
    """Name -> path of everything in the directory, in the order of the names.

    Raises DataError for what must not be published: pickles, which run code when they are loaded; links that leave the
    directory; hidden and unfinished files, which are not part of a model; names that cannot be shown.
    """
    found: dict[str, Path] = {}
    root = directory.resolve()
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory)
        if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(root):  # resolve() fails for a loop
            raise DataError("this link leaves the directory", where=path, advice="put a copy in its place")
        if path.is_dir():
            continue
        if visible(str(name)) != str(name) or "\n" in str(name):
            what = "the name of this file has characters that cannot be shown"
            raise DataError(what, where=repr(str(path)), advice="rename it")
        if any(part.startswith(".") and part not in HIDDEN for part in name.parts):
            advice = "delete it" if UNFINISHED in name.name else "move it out of the directory"
            raise DataError("this file is hidden, and not part of a model", where=path, advice=advice)
        if any(Path(path.name.lower()).match(pattern) for pattern in PICKLED):
            advice = "publish safetensors: a pickle can run any code where it is loaded"
            raise DataError("this file is a pickle", where=path, advice=advice)
        if not path.is_file():
            raise DataError("this is not a regular file", where=path, advice="move it out of the directory")
        found[name.as_posix()] = path
    return found


def hash_file(name: str, path: Path) -> PublishedFile:
    """A file with its hashes. Raises StorageError if it cannot be read."""
    with storage_errors(path, "check that the file can be read"), path.open("rb") as file:
        size = path.stat().st_size
        sha256, blob = hashlib.sha256(), hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
        while chunk := file.read(CHUNK):
            sha256.update(chunk)
            blob.update(chunk)
    return PublishedFile(name, path, size, sha256.hexdigest(), blob.hexdigest())


def read_card(directory: Path) -> Mapping[str, object]:
    """The front matter of the model card.

    Raises MissingInputError without a card, DataError for one that is not valid or not finished.
    """
    path = directory / README
    if not path.is_file():
        advice = f"write one with: {card_command(directory)}"
        raise MissingInputError("there is no model card", where=path, advice=advice)
    try:
        card = ModelCard(path.read_text(encoding="utf-8"))
    except Exception as error:  # the library and its YAML parser fail in many ways
        reason = " ".join(str(error).split())
        raise DataError(f"the front matter is not valid: {reason}", where=path, advice="correct the YAML") from error
    entries: dict[str, object] = card.data.to_dict()  # type: ignore[no-untyped-call]
    license = entries.get("license")
    if not isinstance(license, str) or license not in HUB_LICENSES:
        what = "names no license" if license is None else f"has a license that the hub does not know: {license!r}"
        advice = (
            f"set card.license in recipe.yaml of the run and call `{card_command(directory)}`; in a card without a "
            "run, add a line like: license: apache-2.0 (other, with license_name, for one that has no name there)"
        )
        raise DataError(f"the front matter {what}", where=path, advice=advice)
    if UNFILLED in card.content:
        raise DataError(f"the card has a section with [{UNFILLED}]", where=path, advice="fill it in, or delete it")
    return entries


def is_gated(card: Mapping[str, object]) -> bool:
    """Whether a card asks for conditions that have to be accepted."""
    return any(key.startswith(GATES) for key in card)


def total_size(files: Sequence[PublishedFile]) -> int:
    """Bytes of all files."""
    return sum(each.size for each in files)

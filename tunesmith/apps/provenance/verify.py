"""`tunesmith verify`: compares the files of a run or an export with the digests that were recorded."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import TextIO

from tunesmith.apps.provenance.inventory import (
    AddFiles,
    ExpectedFile,
    FileFinding,
    Inventory,
    add_nothing,
    list_export,
    list_run,
)
from tunesmith.compose.progress import show_progress
from tunesmith.errors import LockedError, MissingInputError, StorageError
from tunesmith.model.export_manifest import EXPORT_MANIFEST
from tunesmith.text.visible import visible
from tunesmith.train.run.directory import RECIPE
from tunesmith.train.run.lock import is_in_use

LARGEST = 1 << 34  # bytes of a file whose size is not recorded, such as a recipe or predictions
BLOCK = 1 << 22  # bytes
WRONG = ("damaged", "missing")


def run(directory: Path, target: TextIO | None = None, add_further: AddFiles = add_nothing) -> None:
    """Verify a run or an export, and print what is wrong with its files.

    target: standard output by default.
    add_further: adds files that have digests which this package does not know.
    Raises MissingInputError (neither a run nor an export), DataError, LockedError, and StorageError if a file is
    damaged or missing.
    """
    screen = target or sys.stdout
    inventory = open_inventory(directory, add_further)
    findings = verify_files(inventory)
    for each in findings:
        print(visible(f"{each.state}: {each.path}: {each.reason}"), file=screen)
    wrong = [each for each in findings if each.state in WRONG]
    count = len(inventory.expected) + len(inventory.intact)
    if wrong:
        what = f"{len(wrong):,} of {count + _unlisted(wrong, inventory):,} files are damaged or missing"
        raise StorageError(what, where=directory, advice="restore them from a copy")
    print(visible(f"{directory}: all {count:,} files that have a digest are as they were written"), file=screen)


def open_inventory(directory: Path, add_further: AddFiles = add_nothing) -> Inventory:
    """What should be in a directory. Arguments and errors as of ``run``."""
    if (directory / EXPORT_MANIFEST).is_file():  # it may have the recipe of its run as well
        return list_export(directory, add_further)
    if (directory / RECIPE).is_file():
        if is_in_use(directory):
            raise LockedError("a process trains this run, and its files change", where=directory, advice="wait for it")
        return list_run(directory, add_further)
    what = "this is neither a run (with recipe.yaml) nor an export with a list of its files"
    raise MissingInputError(what, where=directory, advice="name the directory of a run or of an export")


def verify_files(inventory: Inventory) -> list[FileFinding]:
    """Read all files that have a digest; returns what is wrong, by path."""
    findings = list(inventory.findings)
    sizes = {name: _size(each) for name, each in inventory.expected.items()}
    total, done = sum(size or 0 for size in sizes.values()), 0
    with show_progress("verifying") as progress:
        for name, each in inventory.expected.items():
            if (reason := _find_fault(each, sizes[name])) is not None:
                findings.append(FileFinding("missing" if sizes[name] is None else "damaged", name, reason))
            done += sizes[name] or 0
            progress(done, total, name)
    return sorted(findings, key=lambda each: (each.path, each.state))


def _size(expected: ExpectedFile) -> int | None:
    """Bytes that are read; None if there is no such file."""
    if not expected.path.is_file():
        return None
    size = expected.path.stat().st_size
    return size if expected.size is None else min(size, expected.size)


def _find_fault(expected: ExpectedFile, size: int | None) -> str | None:
    """Why a file is not the expected one; None if it is. size: as ``_size`` returns it."""
    if size is None:
        return "there is no such file"
    if expected.size is None and size > LARGEST:
        return f"it has {size:,} bytes, and no file of its kind has so many"
    digest, left = hashlib.sha256(), size
    try:
        with expected.path.open("rb") as file:
            while block := file.read(min(BLOCK, left)):
                digest.update(block)
                left -= len(block)
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    part = "its content" if expected.size is None else f"the content of its first {expected.size:,} bytes"
    return None if digest.hexdigest() == expected.digest else f"{part} has changed (SHA-256 differs)"


def _unlisted(wrong: list[FileFinding], inventory: Inventory) -> int:
    """How many of the files that are wrong have no digest themselves, such as a damaged list of digests."""
    return sum(each.path not in inventory.expected for each in wrong)

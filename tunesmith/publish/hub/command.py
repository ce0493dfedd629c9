"""`tunesmith push`: checks a directory, says what would leave this machine, and publishes it."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]
from huggingface_hub.utils.tqdm import disable_progress_bars

from tunesmith import __version__
from tunesmith.compose.progress import show_progress
from tunesmith.errors import DataError, UsageError
from tunesmith.generate.export_directory import find_export
from tunesmith.model.export_manifest import find_changed_file, read_export_manifest
from tunesmith.publish.card.found import card_directories, find_card_faults
from tunesmith.publish.hub.connection import limit_waiting
from tunesmith.publish.hub.contents import (
    PublishedFile,
    find_files,
    hash_file,
    is_gated,
    read_card,
    total_size,
)
from tunesmith.publish.hub.findings import PrivateText, find_private, private_names
from tunesmith.publish.hub.push import Access, push
from tunesmith.publish.hub.repository import LOGIN, HubRepository
from tunesmith.text.visible import visible

SCHEME = "hub:"
NO_OWNERS = ("datasets", "spaces", "models", "buckets")
"""First parts of addresses of the hub that are kinds of repositories."""
SHOWN = 20
"""Findings that are listed."""


def run(
    path: Path, target: str, access: Access, *, allowed: Sequence[str], message: str, replace: bool, dry_run: bool
) -> None:
    """Publish the export that a path means.

    target: ``hub:OWNER/MODEL``.
    access: who may read it; a card with conditions sets the gate.
    allowed: texts that may be published although they look private.
    dry_run: do everything but publish; nothing is sent.
    Raises UsageError, MissingInputError, DataError, StorageError.
    """
    name = _repository_name(target)
    directory = find_export(path)
    card = read_card(directory)
    _check_unchanged(directory)
    found = find_files(directory)
    with show_progress("searching for secrets"):
        findings = find_private(found, private_names(socket.gethostname(), os.environ), allowed)
    if findings:
        raise _refuse(directory, findings)
    _check_cards(directory)
    if is_gated(card) and access.gate is None:
        access = Access(access.public, "auto")
        _print("the card has conditions for access, so the hub asks for them (as with --gated auto)")
    files: list[PublishedFile] = []
    with show_progress("computing hashes") as progress:
        for number, (each, where) in enumerate(found.items()):
            progress(number, len(found), each)
            files.append(hash_file(each, where))
    if dry_run:
        for file in files:
            _print(f"{file.size:>16,}  {file.name}")
        _print(f"{len(files)} files, {total_size(files):,} bytes, would go to {name}; nothing was sent (--dry-run)")
        return
    _check_token(get_token())
    if not sys.stderr.isatty():
        disable_progress_bars()
    limit_waiting()
    api = HfApi(library_name="tunesmith", library_version=__version__)
    push(HubRepository(name, api), files, access, message, _print, replace=replace)
    _print(f"{api.endpoint}/{name}")


def _repository_name(target: str) -> str:
    name = target.removeprefix(SCHEME)
    try:
        validate_repo_id(name if target.startswith(SCHEME) else "")
        if name.count("/") != 1 or name.partition("/")[0] in NO_OWNERS:
            raise HFValidationError("it has no owner")
    except HFValidationError as error:
        what = f"{target!r} is no name of the hub"
        raise UsageError(what, where="DESTINATION", advice="write hub:OWNER/MODEL") from error
    return name


def _check_token(token: str | None) -> None:
    """Raises UsageError for a token that no header of HTTP can have; the library would print it."""
    if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
        what = "the token of the hub has characters that no token has, such as a space or a control character"
        raise UsageError(what, where="HF_TOKEN", advice=LOGIN)


def _check_unchanged(directory: Path) -> None:
    manifest = read_export_manifest(directory)
    fault = None if manifest is None else find_changed_file(directory, manifest, suffix=".safetensors")
    if fault is not None:
        raise DataError(f"this export was damaged: {fault}", where=directory, advice="export it again")


def _check_cards(directory: Path) -> None:
    """Raises DataError for a card of `tunesmith card`, also of adapters, that is of another model or was edited."""
    for each in card_directories(directory):
        for fault in find_card_faults(each):
            if fault.kind != "unknown":
                raise DataError(fault.what, where=each / fault.name, advice=fault.advice)
            # Nothing shows that it is wrong, and without its run it cannot be written again.
            _print(f"{each / fault.name}: {fault.what}; {fault.advice}")


def _refuse(directory: Path, findings: Sequence[PrivateText]) -> DataError:
    for each in findings[:SHOWN]:
        _print(f"{directory / each.place}: {each.kind}: {each.shown}")
    if len(findings) > SHOWN:
        _print(f"and {len(findings) - SHOWN} more")
    return DataError(
        f"{len(findings)} texts look private, the first in {findings[0].place} ({findings[0].kind})",
        where=directory,
        advice="remove them, or add --allow TEXT for each that may be published; nothing was sent",
    )


def _print(text: str) -> None:
    print(visible(text), file=sys.stderr)

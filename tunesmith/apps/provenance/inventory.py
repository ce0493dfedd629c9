"""Which files of a run or an export have a digest, where it is recorded, and which files are not covered."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from tunesmith.apps.provenance.changed_records import find_store
from tunesmith.compose.components.data import cache_directory
from tunesmith.compose.methods.ppo import ROLLOUTS
from tunesmith.data.dataset.store import INDEX as STORE_INDEX
from tunesmith.errors import DataError, MissingInputError, TunesmithError
from tunesmith.files import fingerprint, json_text, read_object
from tunesmith.model.export_manifest import EXPORT_MANIFEST, read_export_manifest
from tunesmith.model.names import EXPORT
from tunesmith.recipe.load import load
from tunesmith.train.rollout.files import INDEX, PREFIX, TENSORS
from tunesmith.train.run import checkpoint
from tunesmith.train.run.callbacks import DIGESTS
from tunesmith.train.run.checkpoint_files import MANIFEST as CHECKPOINT_MANIFEST
from tunesmith.train.run.checkpoint_files import STATE, list_files
from tunesmith.train.run.directory import CHECKPOINTS, CONSUMED, MANIFEST, METRICS, PAGE, RECIPE
from tunesmith.train.run.directory import STATUS as STATUS_FILE
from tunesmith.train.run.journal import SEAL, RunJournal, parse_journal
from tunesmith.train.run.lock import LOCK

State: TypeAlias = Literal["damaged", "missing", "extra", "not covered"]

WRITTEN_WHILE_TRAINING: Mapping[str, str] = {
    STATUS_FILE: "it is written while the run trains, and decides nothing",
    PAGE: "it can be written again from the other files: tunesmith runs --page",
    LOCK: "it names the process that trains",
}
"""Files without a digest -> why they have none."""
NO_DIGESTS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class FileFinding:
    """What is wrong with a file, or why that is not known.

    path: relative to the directory that is verified, or absolute for a file of the cache.
    """

    state: State
    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class ExpectedFile:
    """What a file should be.

    path: of the file.
    digest: SHA-256 of its content.
    size: how many bytes at its beginning the digest is of; None for all.
    """

    path: Path
    digest: str
    size: int | None = None


@dataclass(slots=True)
class Inventory:
    """The files of a directory.

    directory: that is verified.
    expected: name -> what the file should be.
    intact: files that hold digests, and whose text is what was written.
    findings: what is known without reading the files.
    """

    directory: Path
    expected: dict[str, ExpectedFile] = field(default_factory=dict)
    intact: list[Path] = field(default_factory=list)
    findings: list[FileFinding] = field(default_factory=list)

    def expect(self, path: Path, digest: str, size: int | None = None) -> None:
        self.expected[self.name(path)] = ExpectedFile(path, digest, size)

    def report(self, state: State, path: Path, reason: str) -> None:
        self.findings.append(FileFinding(state, self.name(path), reason))

    def name(self, path: Path) -> str:
        """The path as it is printed."""
        return str(path.relative_to(self.directory)) if path.is_relative_to(self.directory) else str(path)

    def add_list(self, path: Path, add: Callable[[], None], otherwise: Mapping[str, str] = NO_DIGESTS) -> None:
        """Add the files that a list names, or the damage of the list.

        otherwise: file -> SHA-256, by the results of the run, which are used if the list is damaged.
        """
        try:
            add()
        except (TunesmithError, OSError) as error:
            what = error.what if isinstance(error, TunesmithError) else error.strerror or str(error)
            self.report("damaged" if path.exists() else "missing", path, what)
            for name, digest in otherwise.items():
                self.expect(path.parent / name, digest)
        except (KeyError, TypeError, AttributeError, ValueError):  # it holds other things than such a list
            self.report("damaged" if path.exists() else "missing", path, "it is another file")
        else:
            self.intact.append(path)

    def add_unlisted(self) -> None:
        """Report the files that no list names."""
        known = {*self.expected, *(self.name(path) for path in self.intact), *(each.path for each in self.findings)}
        for path in sorted(self.directory.rglob("*")):
            name = self.name(path)
            if path.is_dir() or name in known:
                continue
            if name in WRITTEN_WHILE_TRAINING:
                self.report("not covered", path, WRITTEN_WHILE_TRAINING[name])
            elif path.relative_to(self.directory).parts[:2][-1].startswith(checkpoint.DAMAGED):
                self.report("not covered", path, "the run has set this checkpoint aside as damaged")
            else:
                self.report("extra", path, "no list of digests names it, as with all that was added after training")


AddFiles: TypeAlias = Callable[[Inventory], None]
"""Adds files that a higher layer has written, with what is known about them."""


def add_nothing(found: Inventory) -> None:
    """Add no further files."""


def list_run(directory: Path, add_further: AddFiles = add_nothing) -> Inventory:
    """The files of a run. Raises MissingInputError if it has no manifest."""
    found = Inventory(directory)
    manifest, journal = _read_manifest(found, directory / MANIFEST)
    for name, digest in {**_start_files(journal), **(journal.results.files if journal.results else {})}.items():
        found.expect(directory / name, digest)
    if RECIPE not in found.expected:
        found.report("not covered", directory / RECIPE, "the manifest has no digest of it")
    _add_checkpoints(found, journal)
    for iteration in sorted((directory / ROLLOUTS).glob(f"{PREFIX}*")):
        found.add_list(iteration / INDEX, partial(_add_rollouts, found, iteration))
    export, exported = directory / EXPORT, journal.results.export if journal.results is not None else {}
    if export.is_dir():
        add_export(found, export, exported)
    elif exported:
        found.report("missing", export, "the run has exported a model")
    _add_stores(found, manifest)
    add_further(found)
    found.add_unlisted()
    return found


def _read_manifest(found: Inventory, path: Path) -> tuple[dict[str, Any], RunJournal]:
    """The manifest of a run and its journal, both empty if it was changed. Raises MissingInputError without one."""
    if not path.is_file():
        raise MissingInputError("the run has no manifest", where=path, advice="restore it")
    try:
        manifest = read_object(path)
        journal = parse_journal(manifest, path)
        _check_names(journal)
        if SEAL in manifest and not journal.starts:
            raise DataError("it is another file: there is no start of a run in it")
    except TunesmithError as error:
        found.report("damaged", path, error.what)
        return {}, RunJournal()
    if SEAL in manifest:
        found.add_list(path, partial(check_sealed, path))
        if path not in found.intact:  # its digests may be what has changed
            return {}, RunJournal()
    else:
        found.report("not covered", path, "an earlier version of Tunesmith has written it, without a digest")
    return manifest, journal


def _check_names(journal: RunJournal) -> None:
    """Raises DataError if the journal names a file that is not below the directory of the run."""
    names = [*_start_files(journal)]
    if journal.results is not None:
        names += [*journal.results.files, *journal.results.checkpoints, *journal.results.export]
        names += [name for files in journal.results.checkpoints.values() for name in files]
    for name in names:
        parts = PurePosixPath(name).parts
        if not parts or parts[0] == "/" or ".." in parts or "\0" in name:
            raise DataError(f"{name!r} is not the name of a file of the run")


def list_export(directory: Path, add_further: AddFiles = add_nothing) -> Inventory:
    """The files of an export. Raises DataError without a list of them."""
    found = Inventory(directory)
    add_export(found, directory)
    add_further(found)
    found.add_unlisted()
    return found


def add_export(found: Inventory, directory: Path, recorded: Mapping[str, str] = NO_DIGESTS) -> None:
    """Add the files of an export. recorded: file -> SHA-256, by the results of the run."""
    path = directory / EXPORT_MANIFEST
    found.add_list(path, partial(_add_exported, found, path), recorded)


def _add_exported(found: Inventory, path: Path) -> None:
    check_sealed(path)
    manifest = read_export_manifest(path.parent)
    assert manifest is not None, "it is sealed"
    for name, (_, digest) in manifest.files.items():
        found.expect(path.parent / name, digest)


def check_sealed(path: Path) -> None:
    """Raises TunesmithError if a file that Tunesmith has written with a digest of itself is not what was written."""
    content = read_object(path)
    seal = content.pop(SEAL, None)
    if seal != fingerprint(content) or path.read_bytes() != json_text({**content, SEAL: seal}).encode():
        raise TunesmithError("its content has changed")


def _start_files(journal: RunJournal) -> Mapping[str, str]:
    return journal.starts[-1].files if journal.starts else {}


def _add_checkpoints(found: Inventory, journal: RunJournal) -> None:
    """Add the checkpoints, and the beginnings of the records that the newest one was saved with."""
    directory = found.directory / CHECKPOINTS
    paths = checkpoint.checkpoint_paths(directory)
    recorded = journal.results.checkpoints if journal.results is not None else {}
    for path in paths:
        found.add_list(
            path / CHECKPOINT_MANIFEST, partial(_add_checkpoint, found, path), recorded.get(path.name, NO_DIGESTS)
        )
    for name in recorded:
        if directory / name not in paths:
            found.report("missing", directory / name, "the run has recorded this checkpoint")
    newest = checkpoint.latest_attempts(directory)
    if newest and journal.results is None:
        _add_records(found, newest[max(newest)] / STATE)


def _add_checkpoint(found: Inventory, path: Path) -> None:
    for name, (_, digest) in list_files(path).items():
        found.expect(path / name, digest)


def _add_records(found: Inventory, path: Path) -> None:
    """Add what a checkpoint says about the records. path: of its state."""
    try:
        state: dict[str, Any] = json.loads(path.read_bytes())
        for key, name in (("metrics", METRICS), ("consumed", CONSUMED)):
            found.expect(found.directory / name, str(state[DIGESTS][key]), int(state[key]))
    except (OSError, ValueError, KeyError, TypeError):  # a damaged state is found by its digest
        return


def _add_rollouts(found: Inventory, iteration: Path) -> None:
    check_sealed(iteration / INDEX)
    found.expect(iteration / TENSORS, str(read_object(iteration / INDEX)["sha256"]))


def _add_stores(found: Inventory, manifest: Mapping[str, Any]) -> None:
    """Add the token trees of the run, if the cache still has them."""
    try:
        cache = cache_directory(load([str(found.directory / RECIPE)]).recipe)
    except TunesmithError:
        return
    for part in ("data", "validation"):
        recorded = manifest.get(part)
        content = recorded.get("content") if isinstance(recorded, dict) else None
        if not isinstance(content, str):
            continue
        store = find_store(cache, content)
        if store is None:
            found.report("not covered", cache, f"it no longer has the token trees of the {part}; they are made again")
            continue
        found.add_list(store / STORE_INDEX, partial(_add_store, found, store))


def _add_store(found: Inventory, store: Path) -> None:
    check_sealed(store / STORE_INDEX)
    for name, entry in read_object(store / STORE_INDEX)["files"].items():
        found.expect(store / f"{name}.bin", entry["sha256"])

"""The journal of a run in its manifest: how it was configured, every start, and what came out.

Nothing in it decides the result of a run, so nothing is compared when a run resumes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from tunesmith.errors import DataError
from tunesmith.files import fingerprint, read_object, write_json

RESOLVED, STARTS, RESULTS = "resolved", "starts", "results"
SEAL = "seal"
"""Key of the digest of everything else in the manifest."""
JOURNAL = (RESOLVED, STARTS, RESULTS)
ADVICE = "restore the file"


@dataclass(frozen=True, slots=True)
class ResolvedRecipe:
    """The recipe of the last start.

    values: all of them, as in recipe.yaml.
    origins: dotted key -> where its value was given, of all values that are not defaults.
    """

    values: dict[str, Any]
    origins: dict[str, str]


@dataclass(frozen=True, slots=True)
class RunStart:
    """One start of a run.

    time: when it began, in ISO 8601.
    command: the words of the command line; empty for a run that a program started.
    step: optimizer steps that were done before.
    code: version and digest of Tunesmith's code; of a git checkout also its commit, and a digest of further changes.
    python, platform, cpu: version of Python, operating system, model of the processor.
    packages: name -> version of the packages that were loaded.
    hardware: as in the manifest, which has that of the last start.
    files: name -> SHA-256 of the files that were written when it began.
    ended: when it ended; None while it runs, and after the process was killed.
    state: training until it has ended; then finished, stopped or failed.
    """

    time: str
    command: tuple[str, ...]
    step: int
    code: dict[str, str | None]
    python: str
    platform: str
    cpu: str
    packages: dict[str, str]
    hardware: dict[str, Any]
    files: dict[str, str]
    ended: str | None = None
    state: str = "training"


@dataclass(frozen=True, slots=True)
class RunResults:
    """What a run has produced at the end of its last start.

    step: of the newest checkpoint; 0 if there is none.
    best: step of the best checkpoint; 0 if there is none.
    files: path relative to the run -> SHA-256 of the records.
    checkpoints: name of a directory -> file -> SHA-256.
    export: file -> SHA-256; empty without an export.
    """

    step: int
    best: int
    files: dict[str, str]
    checkpoints: dict[str, dict[str, str]]
    export: dict[str, str]


@dataclass(frozen=True, slots=True)
class RunJournal:
    """What a manifest says about a run; a run of an earlier version has none of it."""

    resolved: ResolvedRecipe | None = None
    starts: tuple[RunStart, ...] = ()
    results: RunResults | None = None


_READER = TypeAdapter(RunJournal)


def parse_journal(manifest: Mapping[str, Any], path: Path) -> RunJournal:
    """The journal in the content of a manifest. path: of the file. Raises DataError that names what is wrong."""
    try:
        return _READER.validate_python({key: manifest[key] for key in JOURNAL if key in manifest})
    except (ValidationError, RecursionError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": "too deeply nested"}
        key = ".".join(map(str, first["loc"])) or "journal"
        raise DataError(f"{key}: {first['msg']}", where=path, advice=ADVICE) from None


def begin_start(path: Path, start: RunStart, resolved: ResolvedRecipe) -> None:
    """Add a start to the manifest of a run. What an earlier one has produced may change, so it is removed.

    Raises DataError for a manifest that cannot be read, StorageError.
    """
    content = read_object(path, advice=ADVICE)
    journal = parse_journal(content, path)
    _write(path, content, RunJournal(resolved, (*journal.starts, start)))


def end_start(path: Path, ended: str, state: str, results: RunResults) -> None:
    """Record how the last start ended. Arguments as of the fields; errors as of ``begin_start``."""
    content = read_object(path, advice=ADVICE)
    journal = parse_journal(content, path)
    *earlier, last = journal.starts
    ended_start = replace(last, ended=ended, state=state)
    _write(path, content, RunJournal(journal.resolved, (*earlier, ended_start), results))


def _write(path: Path, content: Mapping[str, Any], journal: RunJournal) -> None:
    compared = {key: value for key, value in content.items() if key not in (*JOURNAL, SEAL)}
    complete = {**compared, **{key: value for key, value in asdict(journal).items() if value is not None}}
    write_json(path, {**complete, SEAL: fingerprint(complete)})

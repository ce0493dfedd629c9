"""Records every start of a run in its manifest: when, by which command, with which code, and what has come out."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tunesmith.compose.manifest import PACKAGE, code_digest, hardware
from tunesmith.compose.methods.method import RunContext
from tunesmith.compose.methods.ppo import ROLLOUTS
from tunesmith.compose.reply_evaluation import PREDICTIONS
from tunesmith.compose.software import describe_code, loaded_packages, processor_name, without_home
from tunesmith.data.dataset.faults import QUARANTINE
from tunesmith.errors import StoppedError, TunesmithError
from tunesmith.files import read_object, sha256
from tunesmith.model.export_manifest import read_export_manifest
from tunesmith.recipe.problems import DEFAULT, Origin
from tunesmith.recipe.schema import Recipe
from tunesmith.train.rollout.files import REPLIES
from tunesmith.train.run import checkpoint
from tunesmith.train.run.checkpoint_files import STATE, list_files
from tunesmith.train.run.directory import CONSUMED, MANIFEST, METRICS, RECIPE, SHOWN, TIMING, RunDirectory
from tunesmith.train.run.journal import (
    ADVICE,
    ResolvedRecipe,
    RunResults,
    RunStart,
    begin_start,
    end_start,
    parse_journal,
)
from tunesmith.train.run.status import present_time

RECORDS = (METRICS, CONSUMED, TIMING, SHOWN)
CHOSEN = "chosen for this data, model or machine"
"""Origin of a value that the recipe leaves open."""


@contextmanager
def recorded_start(
    context: RunContext[Any, Any],
    origins: Mapping[str, Origin],
    command: Sequence[str],
    began: str,
    step: int,
    warn: Callable[[str], None],
) -> Iterator[None]:
    """Record that a run begins or continues, and at the end of the block how it has ended; only its owner does.

    context: of the run, whose recipe and manifest are written.
    origins: of the values that were given.
    command: the words of the command line.
    began: when the process began.
    step: optimizer steps that are done.
    warn: displays which records are no longer what the last start has left; their digests are replaced.
    Raises StorageError, and DataError for a manifest that was changed.
    """
    run = context.run
    if not run.is_owner:
        yield
        return
    manifest = run.path / MANIFEST
    for name in find_changed_records(run):
        warn(f"{run.path / name} is missing or was changed since the run has ended; only a copy could restore it")
    begin_start(manifest, _start(context, command, began, step), _resolved(context.recipe, origins))
    try:
        yield
    except BaseException as error:
        stopped = isinstance(error, StoppedError | KeyboardInterrupt)
        with suppress(TunesmithError, OSError):  # the error that ended the run is the one that matters
            end_start(manifest, present_time(), "stopped" if stopped else "failed", find_results(run))
        raise
    end_start(manifest, present_time(), "finished", find_results(run))


def find_changed_records(run: RunDirectory) -> list[str]:
    """The records that are not what the last start of a run has left; none if it was killed, or is of an older version.

    Raises DataError for a manifest that cannot be read.
    """
    results = parse_journal(read_object(run.path / MANIFEST, advice=ADVICE), run.path / MANIFEST).results
    recorded = {} if results is None else results.files
    return [
        name for name, digest in recorded.items() if not (path := run.path / name).is_file() or sha256(path) != digest
    ]


def _start(context: RunContext[Any, Any], command: Sequence[str], began: str, step: int) -> RunStart:
    directory = context.run.path
    return RunStart(
        time=began,
        command=tuple(without_home(word) for word in command),
        step=step,
        code=describe_code(PACKAGE, code_digest()),
        python=platform.python_version(),
        platform=platform.platform(),
        cpu=processor_name(),
        packages=dict(loaded_packages()),
        hardware=hardware(context.recipe.train.deterministic, context.world.size),
        files={name: sha256(directory / name) for name in (RECIPE, QUARANTINE) if (directory / name).is_file()},
    )


def _resolved(recipe: Recipe, origins: Mapping[str, Origin]) -> ResolvedRecipe:
    given = {key: without_home(str(origin)) for key, origin in origins.items() if origin != DEFAULT}
    return ResolvedRecipe(recipe.model_dump(mode="json"), given)


def find_results(run: RunDirectory) -> RunResults:
    """What a run has produced. Raises TunesmithError for files that cannot be read."""
    steps = checkpoint.latest_attempts(run.checkpoints)
    replies = [*sorted(run.path.glob(f"{PREDICTIONS}/*.jsonl")), *sorted(run.path.glob(f"{ROLLOUTS}/*/{REPLIES}"))]
    files = [*(path for name in RECORDS if (path := run.path / name).is_file()), *replies]
    export = read_export_manifest(run.export) if run.export.is_dir() else None
    return RunResults(
        step=max(steps, default=0),
        best=int(read_object(steps[max(steps)] / STATE)["best"]) if steps else 0,
        files={path.relative_to(run.path).as_posix(): sha256(path) for path in files},
        checkpoints={path.name: _digests(path) for _, path in sorted(steps.items())},
        export={} if export is None else {name: digest for name, (_, digest) in export.files.items()},
    )


def _digests(path: Path) -> dict[str, str]:
    return {name: digest for name, (_, digest) in list_files(path).items()}

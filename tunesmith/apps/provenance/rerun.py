"""`tunesmith rerun`: trains a run again from what it has recorded, and says whether it gives the same bits."""

from __future__ import annotations

import json
import platform
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tunesmith.apps.provenance.changed_records import describe_changed_record
from tunesmith.apps.provenance.differences import Difference, input_differences, recipe_kind, value_text
from tunesmith.apps.provenance.record_comparison import RecordComparison
from tunesmith.apps.provenance.recorded_run import RecordedRun, leaves
from tunesmith.compose.components.data import prepare_data
from tunesmith.compose.components.tokenizer import build_renderer
from tunesmith.compose.manifest import PACKAGE, code_digest, manifest
from tunesmith.compose.process import configure_process
from tunesmith.compose.progress import show_progress
from tunesmith.compose.software import describe_code, installed_version, processor_name
from tunesmith.compose.train import train_recipe
from tunesmith.data.dataset.prepare import Prepared
from tunesmith.errors import (
    DataError,
    InternalError,
    LockedError,
    MissingInputError,
    RecipeError,
    StoppedError,
    UsageError,
)
from tunesmith.recipe.load import LoadedRecipe, load
from tunesmith.text.visible import visible
from tunesmith.train.run import checkpoint
from tunesmith.train.run.checkpoint_files import list_files
from tunesmith.train.run.directory import CHECKPOINTS, CONSUMED, METRICS, RECIPE, free_directory
from tunesmith.train.run.metrics import read_records
from tunesmith.train.run.status import find_status

WEIGHTS = ".safetensors"


@dataclass(frozen=True, slots=True)
class Repetition:
    """What is repeated.

    original: the run.
    loaded: its recipe, with the directory of the new run.
    step: the step after which the original ended.
    """

    original: RecordedRun
    loaded: LoadedRecipe
    step: int


def run(directory: Path, target: Path | None, *, trains: bool = True, command: Sequence[str] = ()) -> None:
    """Repeat a run.

    directory: of the run.
    target: of the new run; None: next to the first one, with ``-rerun`` after its name.
    trains: false: only what decides the result is compared.
    command: the words of the command line, which are recorded.
    Raises DataError if something that decides the result has changed and the bits are others, InternalError if they
    are others though nothing has, UsageError for a run of several processes, and all errors of training.
    """
    resolved = directory.resolve()
    new = target if target is not None else resolved.with_name(f"{resolved.name}-rerun")
    repetition = plan_repetition(directory, new)
    differences: list[Difference] = []
    with _words_about_relative_paths():
        for each in present_differences(repetition):
            _print(f"{'also' if differences else 'first difference'}: {each}")
            differences.append(each)
    if not differences:
        _print("nothing differs that decides the result: recipe, data, models, code, packages and machine are the same")
    if differences and not trains:
        what = f"{len(differences):,} facts that the run is made from have changed; the first is {differences[0]}"
        raise DataError(what, where=directory)
    if not trains:
        return
    found = train_again(repetition, new, command)
    if not found:
        names = f" (although there is a difference: {differences[0]})" if differences else ""
        _print(f"bit-identical: the metrics, the consumed examples and all weights of {repetition.step:,} steps{names}")
        return
    what = f"the repetition is not bit-identical: {found}"
    if differences:
        raise DataError(what, where=new, advice=f"the first difference before training was {differences[0]}")
    raise InternalError(what, where=new, advice="nothing that is recorded explains it; look at the machine and drivers")


def plan_repetition(directory: Path, new: Path) -> Repetition:
    """What a repetition of a run in another directory trains. Raises the errors of ``run``."""
    original = RecordedRun.read(directory)
    processes = original.inputs.get("hardware.processes", 1)
    if processes != 1:
        what = f"the run was trained by {processes} processes, whose sums have other last bits than those of one"
        advice = f"train its recipe with as many, then compare: tunesmith diff {directory} OTHER"
        raise UsageError(what, where=directory, advice=advice)
    steps = checkpoint.latest_attempts(directory / CHECKPOINTS)
    if not steps:
        raise MissingInputError("the run has no checkpoint, so there is nothing to compare with", where=directory)
    if new.resolve().is_relative_to(directory.resolve()):
        raise UsageError("a run is not repeated in its own directory", where=new, advice="name another --directory")
    for name in (METRICS, CONSUMED):
        if not (directory / name).is_file():
            what = "the run has no such record, so there is nothing to compare with"
            raise MissingInputError(what, where=directory / name, advice="restore it from a copy")
    for _ in read_records(directory / METRICS):  # a damaged line is found now, and not after hours of training
        pass
    step = max(steps)
    _weights(directory, step)
    stop = "null" if find_status(directory).state == "finished" else str(step)
    values = [f"run.directory={json.dumps(str(new))}", "run.trackers=[]", f"train.stop_after={stop}"]
    return Repetition(original, load([str(directory / RECIPE)], values), step)


def present_differences(repetition: Repetition) -> Iterator[Difference]:
    """What has changed since the run was made, as far as it can be known before training, causes first.

    Raises any TunesmithError, such as that of data that are no longer there.
    """
    original, recipe = repetition.original, repetition.loaded.recipe
    yield from edited_recipe(original)
    configure_process(recipe)
    with show_progress("preparing data") as progress:
        prepared, evaluated = prepare_data(recipe, progress)
    now = leaves(json.loads(json.dumps(manifest(recipe, prepared, evaluated, build_renderer(recipe).tokenizer, 1))))
    present = {**now, **_present_software(original.inputs)}
    for each in input_differences(original.inputs, present):
        yield _with_place(each, repetition, prepared, evaluated)


def edited_recipe(original: RecordedRun) -> Iterator[Difference]:
    """The keys in which recipe.yaml is not what the run has recorded."""
    if original.journal.resolved is None:
        recorded = {"seed": original.inputs.get("recipe.seed")}
        known: Mapping[str, Any] = {"seed": original.recipe.get("seed")}
    else:
        recorded, known = leaves(original.journal.resolved.values), original.recipe
    for key in dict.fromkeys((*recorded, *known)):
        if recorded.get(key) != known.get(key):
            yield Difference(recipe_kind(key), key, value_text(recorded.get(key)), value_text(known.get(key)))


def _present_software(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """The packages that a run has recorded as they are now, the code, and the machine."""
    names = [key.removeprefix("packages.") for key in recorded if key.startswith("packages.")]
    machine = {"platform": platform.platform(), "cpu": processor_name()}
    found = leaves({"source": describe_code(PACKAGE, code_digest()), "hardware": machine})
    return {**found, **{f"packages.{name}": installed_version(name) for name in names}}


def _with_place(
    difference: Difference, repetition: Repetition, prepared: Prepared, evaluated: Prepared | None
) -> Difference:
    """A difference of a data source, with the line of the first record that is another one, where that is known."""
    recorded = repetition.original.inputs
    data = {"data.sources.": prepared, "validation.sources.": evaluated}
    for start, now in data.items():
        if difference.key.startswith(start) and now is not None:
            content = str(recorded.get(f"{start.partition('.')[0]}.content"))
            place = describe_changed_record(
                repetition.loaded.recipe, content, now, validation=start.startswith("validation")
            )
            if place is not None:
                return replace(difference, key=f"{difference.key} ({place})")
    return difference


def train_again(repetition: Repetition, new: Path, command: Sequence[str]) -> str | None:
    """Train, and compare as it goes; returns the first difference from the original, None if there is none."""
    original = repetition.original.directory
    comparison = RecordComparison(original / METRICS, new / METRICS, lambda text: _print(f"not identical: {text}"))
    done = max(checkpoint.latest_attempts(new / CHECKPOINTS), default=0)
    if done:
        _print(f"{new} has {done:,} steps already, which are not trained again")
    try:
        with _words_of_rerun(new):
            train_recipe(repetition.loaded, command=command, callbacks=[comparison])
    except StoppedError:
        if max(checkpoint.latest_attempts(new / CHECKPOINTS), default=0) != repetition.step:
            raise
    comparison.finish()
    if comparison.difference is not None:
        return comparison.difference
    if (original / CONSUMED).read_bytes() != (new / CONSUMED).read_bytes():
        return f"{CONSUMED} differs"
    return _find_other_weights(original, new, repetition.step)


@contextmanager
def _words_about_relative_paths() -> Iterator[None]:
    """Let an error about a relative path say where the run may have found it."""
    try:
        yield
    except MissingInputError as error:
        if error.where is None or Path(error.where).is_absolute():
            raise
        advice = "start this command in the directory in which the run was started: its relative paths belong there"
        raise MissingInputError(error.what, where=error.where, advice=advice) from error


@contextmanager
def _words_of_rerun(new: Path) -> Iterator[None]:
    """Let errors about the directory of the new run name the option of this command, which takes no key of a recipe."""
    try:
        yield
    except (RecipeError, LockedError) as error:
        if error.where is None or not Path(error.where).is_relative_to(new.absolute()):
            raise
        (free,) = shlex.split(free_directory(new.absolute()))
        advice = f"append --directory {shlex.quote(free.partition('=')[2])}"
        details = (error.advice or "").partition("\n")[2]
        kind = LockedError if isinstance(error, LockedError) else RecipeError
        raise kind(
            error.what, where=error.where, advice=f"{advice}; what differs:\n{details}" if details else advice
        ) from error


def _find_other_weights(original: Path, new: Path, step: int) -> str | None:
    """The first file of weights or of the optimizer that differs; None if all are the same."""
    before, after = (_weights(directory, step) for directory in (original, new))
    different = (name for name in dict.fromkeys((*before, *after)) if before.get(name) != after.get(name))
    return next((f"{name} of the checkpoint of step {step:,} differs (SHA-256)" for name in different), None)


def _weights(directory: Path, step: int) -> dict[str, str]:
    """File -> SHA-256 of the tensors of a checkpoint. Raises StorageError, MissingInputError."""
    path = checkpoint.latest_attempts(directory / CHECKPOINTS).get(step)
    if path is None:
        raise MissingInputError(f"there is no checkpoint of step {step:,}", where=directory)
    return {name: digest for name, (_, digest) in list_files(path).items() if name.endswith(WEIGHTS)}


def _print(text: str) -> None:
    print(visible(text), file=sys.stdout, flush=True)

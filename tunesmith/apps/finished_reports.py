"""Sampling reports that are there already: one with the wanted replies is kept, another one is never replaced.

Importing this module loads neither torch nor transformers.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tunesmith.apps.report_writing import name_tail, report_name
from tunesmith.apps.sample_journal import SUFFIX, changed_inputs
from tunesmith.apps.sample_prompts import SamplePrompt
from tunesmith.errors import TunesmithError, UsageError
from tunesmith.files import fingerprint, read_object


def model_name(path: str) -> str:
    """The name of a model in its report: the path as it is given, but its last part if it leads elsewhere."""
    given = Path(path)
    if given.is_absolute() or ".." in given.parts or path.startswith("~") or str(given) == ".":
        resolved = given.expanduser().resolve()
        return resolved.parent.name if resolved.name == "export" else resolved.name
    return str(given)


def request_inputs(prompts: Sequence[SamplePrompt], samples: int, seed: int) -> dict[str, Any]:
    """What decides the replies and is known before a model is loaded, by the words of messages."""
    return {
        "prompts": fingerprint([[prompt.as_json(), prompt.place.rpartition(":")[2]] for prompt in prompts]),
        "samples": samples,
        "seed": seed,
    }


def check_reports(models: Sequence[str], stems: Sequence[str], directory: Path, inputs: Mapping[str, Any]) -> None:
    """Raises UsageError if a report of today would be replaced, as far as ``inputs`` decide that.

    models: their directories.
    stems: the names of the files of sampling configurations.
    directory: of the reports.
    inputs: as of ``request_inputs``.
    """
    today = datetime.now(UTC).replace(tzinfo=None).isoformat()
    for name in map(model_name, models):
        for stem in stems:
            if not journal_path(directory, name, stem).exists():
                find_finished(directory, name, stem, inputs, today, only_given=True)


def check_unique(
    names: Sequence[str], what: str, advice: str, file_name: Callable[[str], str] = lambda name: name
) -> None:
    """Raises UsageError if two reports would have one name. file_name: what a name is in the name of a report."""
    found = dict[str, str]()
    for name in names:
        first = found.setdefault(file_name(name), name)
        if first != name:
            raise UsageError(f"the reports of the {what} {first!r} and {name!r} would have one name", advice=advice)
        if names.count(name) > 1:
            raise UsageError(f"two {what} are called {name!r}, and so would be their reports", advice=advice)


def journal_path(directory: Path, model: str, stem: str) -> Path:
    """The file of the finished replies of an unfinished report."""
    return directory / (name_tail(model, stem) + SUFFIX)


def find_finished(
    directory: Path, model: str, stem: str, inputs: Mapping[str, Any], date: str, *, only_given: bool = False
) -> Path | None:
    """The report that has the wanted replies, of whatever date.

    model: its name.
    inputs: everything that decides the replies; with ``only_given`` a part of it, and the rest may differ.
    date: of a new report.
    Raises UsageError if another report would be replaced.
    """
    tail = name_tail(model, stem)
    for path in sorted(directory.glob("????-??-??_" + glob.escape(tail)), reverse=True):
        recorded = _recorded_inputs(path)
        if recorded is not None and not _changed(recorded, inputs, only_given):
            return path
    path = directory / report_name(model, date, stem)
    if path.exists():
        different = _changed(_recorded_inputs(path), inputs, only_given)
        what = f"this report exists, and these differ from it: {', '.join(different)}"
        raise UsageError(what, where=path, advice="move it away, or choose another -o")
    return None


def _changed(recorded: Any, inputs: Mapping[str, Any], only_given: bool) -> list[str]:
    if only_given and isinstance(recorded, dict):
        recorded = {name: value for name, value in recorded.items() if name in inputs}
    return changed_inputs(recorded, inputs)


def _recorded_inputs(path: Path) -> Any:
    """What decided the replies of a report; None where it does not say so."""
    try:
        args = read_object(path).get("args")
    except TunesmithError:
        return None
    return args.get("inputs") if isinstance(args, dict) else None

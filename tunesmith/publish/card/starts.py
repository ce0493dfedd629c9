"""The starts of a run that trained the exported weights, from the journal in its manifest, and what differs in them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tunesmith.compose.export_records import LocalPaths
from tunesmith.publish.card.facts import StartFacts
from tunesmith.recipe.schema import Recipe
from tunesmith.train.run.directory import RECIPE
from tunesmith.train.run.journal import RunStart


def read_starts(
    starts: Sequence[RunStart], recipe: Recipe, versions: Mapping[str, Any], steps: int
) -> tuple[StartFacts, ...]:
    """The starts that trained the weights after ``steps`` optimizer steps, in their order.

    starts: all of the run. recipe: of the run.
    versions: as in the manifest, whose names are those of the packages that are shown.
    """
    trained = [each for each in starts if each.step < steps] or [*starts[:1]]
    return tuple(_start(each, LocalPaths.of(recipe, each.command), versions) for each in trained)


def _start(start: RunStart, paths: LocalPaths, versions: Mapping[str, Any]) -> StartFacts:
    known = {"tunesmith": start.code.get("version"), "python": start.python, **start.packages}
    commit, changes = start.code.get("commit"), start.code.get("changes")
    return StartFacts(
        step=start.step,
        command=shlex.join(paths.command(start.command)),
        commit=f"{commit} with further changes" if commit and changes else commit or "",
        versions={name: str(known[name]) for name in versions if known.get(name) is not None},
        hardware=start.hardware,
    )


def find_end(starts: Sequence[RunStart], steps: int) -> str:
    """When the run ended that trained the weights after ``steps``, in ISO 8601; empty if that is not known.

    It is the end of the last start that trained them or, if that was killed or stopped, of the first after it that
    finished. A run may have ended before, with fewer steps, and may have been continued later.
    """
    last = max((number for number, each in enumerate(starts) if each.step < steps), default=0)
    return next((each.ended or "" for each in starts[last:] if each.state == "finished"), "")


def find_changes(starts: Sequence[RunStart], steps: int) -> tuple[str, ...]:
    """What was not the same in all starts that trained the weights after ``steps``, in words; empty if nothing was."""
    trained = [each for each in starts if each.step < steps]
    found = [name for name, values in _conditions(trained) if any(value != values[0] for value in values)]
    if _have_other_packages(trained):
        found.append("other packages")
    return tuple(found)


def _conditions(starts: Sequence[RunStart]) -> Iterator[tuple[str, list[Any]]]:
    if not starts:
        return
    yield "another recipe, such as another length", [each.files.get(RECIPE) for each in starts]
    yield "other code of Tunesmith", [each.code.get("sources") for each in starts]
    yield "another machine or other threads", [(each.platform, each.cpu, _machine(each)) for each in starts]
    yield "another number of processes", [each.hardware.get("processes", 1) for each in starts]


def _have_other_packages(starts: Sequence[RunStart]) -> bool:
    """Whether a package, or Python, had more than one version.

    A start records the packages that it had loaded. One that prepares data or writes an export loads more than others,
    so a package that a start lacks is no change.
    """
    versions: dict[str, set[str]] = {}
    for each in starts:
        for name, version in {**each.packages, "python": each.python}.items():
            versions.setdefault(name, set()).add(version)
    return any(len(each) > 1 for each in versions.values())


def _machine(start: RunStart) -> Mapping[str, Any]:
    return {key: value for key, value in start.hardware.items() if key not in ("processes", "cores")}

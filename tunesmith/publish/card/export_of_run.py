"""Whether an export in another place is one of a run, by the recipe and the manifest that both have."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from tunesmith.compose.export_records import EXPORTED_MANIFEST, LocalPaths
from tunesmith.compose.manifest import EXCHANGEABLE, MANIFEST_MAY_DIFFER, MAY_DIFFER
from tunesmith.errors import MissingInputError, UsageError
from tunesmith.files import read_object
from tunesmith.model.names import ADAPTER, DESCRIPTION
from tunesmith.recipe.load import load
from tunesmith.train.run.directory import MANIFEST, RECIPE
from tunesmith.train.run.journal import JOURNAL, SEAL
from tunesmith.train.run.value_changes import find_changes, find_leaves

CODE = "code"
"""Key of the manifest for the digest of the code, which may change where the recipe allows it."""


def check_export_of(run: Path, export: Path) -> None:
    """Raises MissingInputError if a directory is no export of a run, UsageError if it is one of another run.

    run: the directory of a run. export: a directory that `tunesmith export` has written, or the adapters in one.
    """
    advice = f"write it first: tunesmith export {shlex.quote(str(run))} --output DIR"
    records = export.parent if export.name == ADAPTER and (export.parent / DESCRIPTION).is_file() else export
    for path in (export / DESCRIPTION, records / RECIPE, records / EXPORTED_MANIFEST):
        if not path.is_file():
            raise MissingInputError(f"this is no export of a run: it has no {path.name}", where=export, advice=advice)
    if (key := _find_difference(run, records)) is not None:
        what = f"this is an export of another run: {key} is not the same"
        raise UsageError(what, where=export, advice="name the run that it was exported from")


def _find_difference(run: Path, records: Path) -> str | None:
    """The first key of recipe or manifest that decides the result and differs; None if there is none.

    Texts that name places of a machine are not compared, since an export has only their last parts.
    """
    recipe, exported = (load([str(directory / RECIPE)]).recipe for directory in (run, records))
    paths = LocalPaths.of(recipe)
    own, other = recipe.model_dump(mode="json"), exported.model_dump(mode="json")
    # As when a run is continued: the export may be of a start before a change that is allowed.
    if (key := _first_difference(_kept(own, paths), other, MAY_DIFFER, EXCHANGEABLE)) is not None:
        return key
    recorded = read_object(run / MANIFEST, advice="restore the file")
    found = read_object(records / EXPORTED_MANIFEST, advice="export the model again")
    return _first_difference(_kept(recorded, paths), found, (*JOURNAL, SEAL, CODE, *MANIFEST_MAY_DIFFER), {})


def _first_difference(
    own: Iterator[tuple[str, Any]],
    found: Mapping[str, Any],
    may_differ: Collection[str],
    exchangeable: Mapping[str, Collection[Any]],
) -> str | None:
    """The first key of ``own`` that differs in ``found`` and may not; None if there is none."""
    kept = dict(own)
    other = {key: value for key, value in find_leaves(dict(found)) if key in kept}
    return next(iter(find_changes(kept, other, may_differ, exchangeable=exchangeable)[0]), None)


def _kept(values: Mapping[str, Any], paths: LocalPaths) -> Iterator[tuple[str, Any]]:
    """The values by dotted key, without texts that an export has in another form."""
    for key, value in find_leaves(dict(values)):
        if paths.remove(value) == value and paths.name(key) == key:
            yield key, value

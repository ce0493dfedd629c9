"""How models are called, decided before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tunesmith.errors import UsageError
from tunesmith.model.names import ADAPTER, EXPORT

LONGEST_NAME = 128


def name_models(words: Sequence[str]) -> dict[str, str]:
    """name -> path of every model that the command line names, as PATH or NAME=PATH. Raises UsageError.

    Without a name it is as ``_name_directory`` says.
    """
    found: dict[str, str] = {}
    for word in words:
        given, equals, path = word.partition("=")
        if not equals or "/" in given:
            path, given = word, ""
        name = given or _name_directory(Path(path).expanduser().absolute())
        if not name or len(name) > LONGEST_NAME or not name.isprintable() or "/" in name:
            what = f"{name!r} cannot be the name of a model"
            raise UsageError(what, where=word, advice="write it as in assistant=runs/demo/dpo")
        if name in found:
            what = f"two models would be called {name!r}: {found[name]} and {path}"
            raise UsageError(what, advice=f"give one of them another name: {name}-2={path}")
        found[name] = path
    return found


def _name_directory(directory: Path) -> str:
    """The name of a run or model without one, which does not depend on what else is served.

    It is that of the directory. Every run calls its export and its adapters the same, so they have the name of the run;
    adapters have a suffix, because the whole export can be served next to them.
    """
    if directory.name == EXPORT:
        return directory.parent.name
    if directory.name == ADAPTER:
        return "-".join(filter(None, (_name_directory(directory.parent), ADAPTER)))
    return directory.name

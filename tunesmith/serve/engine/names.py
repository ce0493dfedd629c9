"""How models are called, decided before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tunesmith.errors import UsageError
from tunesmith.model.names import EXPORT

LONGEST_NAME = 128


def name_models(words: Sequence[str]) -> dict[str, str]:
    """name -> path of every model that the command line names, as PATH or NAME=PATH. Raises UsageError.

    Without a name it is the directory of the run, or of the model.
    """
    found: dict[str, str] = {}
    for word in words:
        given, equals, path = word.partition("=")
        if not equals or "/" in given:
            path, given = word, ""
        directory = Path(path).expanduser().absolute()
        own = directory.parent.name if directory.name == EXPORT else directory.name
        name = given or own
        if not name or len(name) > LONGEST_NAME or not name.isprintable() or "/" in name:
            what = f"{name!r} cannot be the name of a model"
            raise UsageError(what, where=word, advice="write it as in assistant=runs/demo/dpo")
        if name in found:
            what = f"two models would be called {name!r}: {found[name]} and {path}"
            raise UsageError(what, advice=f"give one of them another name: {name}-2={path}")
        found[name] = path
    return found

"""What an export says about its run: recipe and manifest, without the places of files on this machine."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.files import read_object
from tunesmith.model.names import EXPORT
from tunesmith.recipe.load import dump
from tunesmith.recipe.schema import Recipe
from tunesmith.train.run.directory import MANIFEST, RECIPE
from tunesmith.train.run.journal import JOURNAL, SEAL

EXPORTED_MANIFEST = "run-manifest.json"
"""The manifest of the run in its export; with its own name, the export would look like a run."""


@dataclass(frozen=True, slots=True)
class LocalPaths:
    """Reduces absolute paths to names.

    names: an absolute path, as the recipe has it -> its name.
    beginnings: finds the beginnings of other paths, which are left out.
    """

    names: Mapping[str, str]
    beginnings: re.Pattern[str]

    @classmethod
    def of(cls, recipe: Recipe) -> LocalPaths:
        """The absolute paths of a recipe, and their directories, the working directory and that of the user."""
        root = Path("/")
        texts = [Path(text) for text in _texts(recipe.model_dump(mode="json")) if text.startswith("/")]
        paths = [path for path in texts if path.parent != root or path.exists()]
        names = {str(path): path.parent.name if path.name == EXPORT else path.name for path in paths}
        user = Path(os.environ.get("HOME", root))
        directories = {*(path.parent for path in paths), Path.cwd(), user} - {root}
        longest_first = sorted(map(str, directories), key=len, reverse=True)
        either = "|".join(map(re.escape, longest_first)) or "(?!)"  # the last matches nothing
        return cls(names, re.compile(rf"(?<![\w./-])(?:{either})/"))

    def remove(self, value: Any) -> Any:
        """A JSON-like value in which every such path is only a name."""
        if isinstance(value, str):
            return self.name(value)
        if isinstance(value, Mapping):
            return {self.name(key): self.remove(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.remove(inner) for inner in value]
        return value

    def name(self, text: str) -> str:
        """A text in which every such path is only a name."""
        if text.startswith("/") and (name := self.names.get(str(Path(text)))) is not None:
            return name
        return self.beginnings.sub("", text)


def _texts(value: Any) -> Iterator[str]:
    """Every text in a JSON-like value, apart from keys."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(inner)


def export_records(recipe: Recipe, run: Path, paths: LocalPaths) -> Mapping[str, str]:
    """File name -> content of the recipe and the manifest of a run, as its export has them.

    run: its directory.
    Raises MissingInputError, DataError for a manifest that cannot be read.
    """
    published = Recipe.model_validate(paths.remove(recipe.model_dump(mode="json")))
    recorded = read_object(run / MANIFEST, advice="restore the file")
    # Not the journal: the same weights give the same files, whenever and on whichever machine they are exported.
    manifest = paths.remove({key: value for key, value in recorded.items() if key not in (*JOURNAL, SEAL)})
    return {
        RECIPE: dump(published),
        EXPORTED_MANIFEST: json.dumps(manifest, indent=2, ensure_ascii=False) + "\n",
    }

"""What an export says about its run: recipe and manifest, without the places of files on this machine."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.errors import TunesmithError
from tunesmith.files import read_object
from tunesmith.model.names import EXPORT
from tunesmith.recipe.load import dump
from tunesmith.recipe.overrides import is_override
from tunesmith.recipe.reading import read_text, to_plain
from tunesmith.recipe.schema import Recipe
from tunesmith.train.run.directory import MANIFEST, RECIPE
from tunesmith.train.run.journal import JOURNAL, SEAL

EXPORTED_MANIFEST = "run-manifest.json"
"""The manifest of the run in its export; with its own name, the export would look like a run."""


PATHS = ("path", "tokenizer", "cache", "directory", "reference", "value", "evaluation_sets")
"""Last parts of keys of a recipe whose texts are paths, if they begin like one."""
HOME = "~"
"""How a recorded command names the home directory."""
UP = ".."
"""The directory above."""


@dataclass(frozen=True, slots=True)
class LocalPaths:
    """Reduces paths to names: absolute ones, and relative ones that leave the current directory.

    names: such a path, as the recipe or the command has it -> its name.
    beginnings: finds the beginnings of other paths, which are left out.
    """

    names: Mapping[str, str]
    beginnings: re.Pattern[str]

    @classmethod
    def of(cls, recipe: Recipe, command: Sequence[str] = ()) -> LocalPaths:
        """The paths of a recipe to places elsewhere, and their directories, the working directory and that of the user.

        command: the words of a command line, whose paths are known as well.
        """
        root = Path("/")
        given = [*_texts(recipe.model_dump(mode="json")), *(each for word in command for each in _word_texts(word))]
        paths = [Path(text) for key, text in given if _is_path(key, text)]
        names = {str(path): name for path in paths if (name := _last_part(path))}
        user = Path(os.environ.get("HOME", root))
        parents = (path.parent for path in paths)
        directories = {*(each for each in parents if each.is_absolute() or each.name != UP), Path.cwd(), user} - {root}
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
        if (name := self.names.get(str(Path(text)))) is not None:
            return name
        return self.beginnings.sub("", text)

    def command(self, words: Sequence[str]) -> list[str]:
        """The words of a command line in which every such path is only a name, also inside of a list or mapping."""
        longest_first = sorted(self.names, key=len, reverse=True)
        either = "|".join(map(re.escape, longest_first)) or "(?!)"
        whole = re.compile(rf"(?<![^\s=\[{{,:'\"(])(?:\./)*({either})/*(?![\w./-])")
        home = re.compile(rf"(?<![\w./-]){HOME}/")
        return [home.sub("", self.name(whole.sub(lambda match: self.names[match[1]], word))) for word in words]


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """(key, text) of every text in a JSON-like value; the texts of a list have the key of the list."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _texts(inner, str(name))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner, key)


def _word_texts(word: str) -> Iterator[tuple[str, str]]:
    """(key, text) of every text in a word of a command line: a name, a file, or a single value of a recipe."""
    if not is_override(word):
        yield PATHS[0], word
        return
    key, _, text = word.partition("=")
    try:
        value = to_plain(read_text(text, key, lines=False))
    except TunesmithError:  # a word of another version
        value = text
    yield from _texts(value, key.rstrip("+").rpartition(".")[2])


def _is_path(key: str, text: str) -> bool:
    """Whether a text is a path of a machine: by its key, or because its first directory is there, unlike /think."""
    path = Path(text)
    if "\n" in text or len(path.parts) < 2 or not (text.startswith(("/", f"{HOME}/")) or _leaves(text)):
        return False
    is_in_root = len(path.parts) == 2 and text.startswith("/")
    return (key in PATHS and not is_in_root) or (text.startswith("/") and Path("/", path.parts[1]).exists())


def _leaves(text: str) -> bool:
    """Whether a relative path leads out of the current directory, so that it names directories of the machine."""
    return os.path.normpath(text).startswith(f"{UP}/")


def _last_part(path: Path) -> str:
    """The name of a file or directory; that of the run for its export. Empty for a path that has no name."""
    last = path.parent if path.name == EXPORT and path.parent.name not in ("", UP, HOME) else path
    return "" if last.name in ("", UP) else last.name


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

"""Laying recipes over each other: right wins, mappings merge, lists replace, ``key+`` appends, ``extends`` lies below."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tunesmith.errors import MissingInputError, RecipeError
from tunesmith.recipe.faults import COMMAND_LINE, Fault, Origin, RecipeFaults
from tunesmith.recipe.reading import Marked, plain, read_file

CATALOG = Path(__file__).parent / "catalog"

# Keys of a file that speak to the loader and are not part of the recipe.
EXTENDS = "extends"
LAYER = "layer"


def merge(lower: Marked | None, upper: Marked) -> Marked:
    """``upper`` laid over ``lower``. Raises RecipeFaults if something is appended that is no list, or to no list.

    A mapping that names another ``kind`` than the one below (another optimizer) is a new thing: nothing is inherited.
    """
    if not isinstance(upper.value, dict):
        return upper
    below = lower if lower is not None and isinstance(lower.value, dict) else Marked({}, upper.origin)
    assert isinstance(below.value, dict)
    merged = dict(below.value)
    if "kind" in merged and "kind" in upper.value and merged["kind"].value != upper.value["kind"].value:
        merged = {}
    for key, value in sorted(upper.value.items(), key=lambda item: item[0].endswith("+")):
        if key.endswith("+"):
            merged[key[:-1]] = _append(key, merged.get(key[:-1]), value)
        else:
            merged[key] = merge(merged.get(key), value)
    # What is missing in a mapping is missing in its file, not in the single value that the command line adds.
    return Marked(merged, below.origin if upper.origin is COMMAND_LINE else upper.origin)


def _append(key: str, lower: Marked | None, upper: Marked) -> Marked:
    if not isinstance(upper.value, list):
        raise RecipeFaults([Fault(upper.origin, key, "'+' appends a list, and this is none; write [...]")])
    if lower is None or lower.value is None:
        return upper
    if not isinstance(lower.value, list):
        raise RecipeFaults([Fault(upper.origin, key, f"nothing to append to: {key[:-1]} is no list ({lower.origin})")])
    return Marked([*lower.value, *upper.value], upper.origin)


@dataclass(frozen=True, slots=True)
class Layer:
    """A file with everything that it extends laid beneath it. about: what a layer says of itself, None for a recipe."""

    source: str
    content: Marked
    about: str | None


@dataclass(slots=True)
class Shelf:
    """Files read so far, so that each is read once however often it is extended."""

    read: dict[Path, Layer] = field(default_factory=dict)

    def get(
        self, word: str, *, beside: Path = Path(), named_in: str | None = None, open_: Sequence[Path] = ()
    ) -> Layer:
        """The layer or recipe called ``word``: a catalogue name, or a file relative to ``beside``.

        Raises MissingInputError (no such file), RecipeError (no such name, a cycle), RecipeFaults.
        """
        path, source = _find(word, beside, named_in)
        if path in open_:
            circle = " -> ".join(item.name for item in (*open_[open_.index(path) :], path))
            raise RecipeError(f"extends itself: {circle}", where=named_in, advice="take one of the extends out")
        if path not in self.read:
            self.read[path] = self._open(path, source, (*open_, path))
        return self.read[path]

    def _open(self, path: Path, source: str, open_: Sequence[Path]) -> Layer:
        content = read_file(path, source)
        assert isinstance(content.value, dict)
        own = dict(content.value)
        about, extends = own.pop(LAYER, None), own.pop(EXTENDS, None)
        below: Marked | None = None
        for name in _names(extends):
            assert extends is not None
            layer = self.get(name, beside=path.parent, named_in=str(extends.origin), open_=open_)
            below = merge(below, layer.content)
        return Layer(source, merge(below, Marked(own, Origin(source))), _about(about))


def _names(extends: Marked | None) -> list[str]:
    if extends is None or extends.value is None:
        return []
    given = plain(extends)
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise RecipeFaults([Fault(extends.origin, EXTENDS, "expected a name or a list of names")])
    return names


def _about(layer: Marked | None) -> str | None:
    if layer is None:
        return None
    if not isinstance(layer.value, str):
        raise RecipeFaults([Fault(layer.origin, LAYER, "expected one line that says what the layer is for")])
    return layer.value


def is_file(word: str) -> bool:
    """Whether a word on the command line or in ``extends`` means a file; otherwise it is a catalogue name."""
    return word.endswith((".yaml", ".yml")) or "/" in word or "\\" in word


def catalogue_files() -> dict[str, Path]:
    """Name -> file of every built-in recipe and layer."""
    return {path.stem: path for path in sorted(CATALOG.rglob("*.yaml"))}


def _find(word: str, beside: Path, named_in: str | None) -> tuple[Path, str]:
    """The file that a word means, and its name in messages."""
    if is_file(word):
        path = beside / word
        if not path.is_file():
            what = "is a directory, not a recipe" if path.is_dir() else "no such recipe file"
            raise MissingInputError(f"{what}: {path}", where=named_in)
        return path.resolve(), str(path)
    files = catalogue_files()
    if word in files:
        return files[word], word
    near = difflib.get_close_matches(word, files, n=1)
    if Path(f"{word}.yaml").is_file():
        near = [f"{word}.yaml"]
    advice = f"did you mean {near[0]!r}?" if near else "`tunesmith recipes` lists them; a file's name ends in .yaml"
    raise RecipeError(f"there is no recipe or layer {word!r}", where=named_in, advice=advice)

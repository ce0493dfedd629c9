"""Recipe files that extend each other and layers that are applied to them.

The later file wins: mappings are merged, lists are replaced, ``key+`` appends to a list, and what a file ``extends`` is
overridden by the file itself.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tunesmith.errors import MissingInputError, RecipeError
from tunesmith.recipe.data import DATA_SUFFIXES
from tunesmith.recipe.other_names import OTHER_NAMES
from tunesmith.recipe.problems import COMMAND_LINE, InvalidRecipeError, Origin, RecipeProblem
from tunesmith.recipe.reading import LocatedValue, read_file, to_plain

CATALOG = Path(__file__).parent / "catalog"

# Keys of a file for the loader, which are not part of the recipe.
EXTENDS = "extends"
LAYER = "layer"

MODEL_TEXTS = ("title", "summary", "intended_use", "limitations", "sections")
"""Keys of the card that say what a model does. Those of a model that writes replies are wrong for a reward model."""
REWARD = "reward"
SECTIONS = ("model", "data", "train")
"""Sections that every recipe has. With them and without an objective, it is one of supervised fine-tuning."""


def merge(lower: LocatedValue | None, upper: LocatedValue) -> LocatedValue:
    """The values of ``upper`` override those of ``lower``.

    A mapping with another ``kind`` (another optimizer, for example) replaces the lower mapping as a whole. Where an
    objective makes a reward model of one that writes replies, or the reverse, the texts of its card are left out. They
    stay where ``lower`` is no recipe yet, such as a file with the card that several recipes extend.
    Raises InvalidRecipeError if something is appended that is not a list, or to something that is not a list.
    """
    if not isinstance(upper.value, dict):
        return upper
    base = lower if lower is not None and isinstance(lower.value, dict) else LocatedValue({}, upper.origin)
    assert isinstance(base.value, dict)
    merged = dict(base.value)
    if "kind" in merged and "kind" in upper.value and merged["kind"].value != upper.value["kind"].value:
        merged = {}
    if "objective" in upper.value and "card" in merged:
        before = merged.get("objective")
        is_recipe = _kind(before) is not None or all(key in merged for key in SECTIONS)
        after = merge(before, upper.value["objective"])
        if is_recipe and (_kind(before) == REWARD) != (_kind(after) == REWARD):
            merged["card"] = _without_texts(merged["card"])
    for key, value in sorted(upper.value.items(), key=lambda item: item[0].endswith("+")):
        if key.endswith("+"):
            merged[key[:-1]] = _append(key, merged.get(key[:-1]), value)
        else:
            merged[key] = merge(merged.get(key), value)
    # A key that is missing in a mapping is missing in its file, not in the single value of the command line.
    return LocatedValue(merged, base.origin if upper.origin is COMMAND_LINE else upper.origin)


def _kind(objective: LocatedValue | None) -> object:
    """The kind that an objective names; None without one."""
    values = None if objective is None else objective.value
    kind = values.get("kind") if isinstance(values, dict) else None
    return None if kind is None else kind.value


def _without_texts(card: LocatedValue) -> LocatedValue:
    if not isinstance(card.value, dict):
        return card
    return LocatedValue({key: value for key, value in card.value.items() if key not in MODEL_TEXTS}, card.origin)


def _append(key: str, lower: LocatedValue | None, upper: LocatedValue) -> LocatedValue:
    if not isinstance(upper.value, list):
        message = "'+' appends the items of a list, and this value is not a list; write [...]"
        raise InvalidRecipeError([RecipeProblem(upper.origin, key, message)])
    if lower is None or lower.value is None:
        return upper
    if not isinstance(lower.value, list):
        message = f"'+' appends to a list, and {key[:-1]} is not a list ({lower.origin})"
        raise InvalidRecipeError([RecipeProblem(upper.origin, key, message)])
    return LocatedValue([*lower.value, *upper.value], upper.origin)


@dataclass(frozen=True, slots=True)
class RecipeFile:
    """A recipe or layer, merged with everything that it extends.

    source: its name in messages.
    content: the merged values.
    layer_purpose: what a layer is for; None for a recipe.
    extends: whether it extends another file.
    """

    source: str
    content: LocatedValue
    layer_purpose: str | None
    extends: bool


@dataclass(slots=True)
class RecipeFiles:
    """Reads recipe files, each of them once, however often it is extended.

    loaded: the files that were read so far, by their path.
    """

    loaded: dict[Path, RecipeFile] = field(default_factory=dict)

    def load(
        self, word: str, *, directory: Path = Path(), named_in: str | None = None, open_files: Sequence[Path] = ()
    ) -> RecipeFile:
        """The recipe or layer that ``word`` names.

        word: a name of the catalog, or a file relative to ``directory``.
        named_in: the place that names it, for messages.
        open_files: the files that are being loaded, each of which extends the next.
        Raises MissingInputError (no such file), RecipeError (no such name, or a cycle), InvalidRecipeError.
        """
        path, source = _find(word, directory, named_in)
        if path in open_files:
            cycle = " -> ".join(item.name for item in (*open_files[open_files.index(path) :], path))
            message = f"a recipe file extends itself: {cycle}"
            raise RecipeError(message, where=named_in, advice="remove one of these from `extends`")
        if path not in self.loaded:
            self.loaded[path] = self._read(path, source, (*open_files, path))
        return self.loaded[path]

    def _read(self, path: Path, source: str, open_files: Sequence[Path]) -> RecipeFile:
        return self.extend(read_file(path, source), source, path.parent, open_files)

    def extend(
        self, content: LocatedValue, source: str, directory: Path = Path(), open_files: Sequence[Path] = ()
    ) -> RecipeFile:
        """A recipe or layer with everything that it extends.

        content: its values, a mapping. source: its name in messages. directory: to which names of files are relative.
        Raises as ``load``.
        """
        assert isinstance(content.value, dict)
        own = dict(content.value)
        purpose, extends = own.pop(LAYER, None), own.pop(EXTENDS, None)
        base: LocatedValue | None = None
        for name in _extended_names(extends):
            assert extends is not None
            file = self.load(name, directory=directory, named_in=str(extends.origin), open_files=open_files)
            base = merge(base, file.content)
        content = merge(base, LocatedValue(own, Origin(source)))
        return RecipeFile(source, content, _layer_purpose(purpose), extends=base is not None)


def _extended_names(extends: LocatedValue | None) -> list[str]:
    if extends is None or extends.value is None:
        return []
    given = to_plain(extends)
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise InvalidRecipeError([RecipeProblem(extends.origin, EXTENDS, "expected a name or a list of names")])
    return names


def _layer_purpose(layer: LocatedValue | None) -> str | None:
    if layer is None:
        return None
    if not isinstance(layer.value, str):
        message = "expected one line of text that says what the layer is for"
        raise InvalidRecipeError([RecipeProblem(layer.origin, LAYER, message)])
    return layer.value


def is_file(word: str) -> bool:
    """Whether a word on the command line or in ``extends`` is a file; otherwise it is a name of the catalog."""
    return word.endswith((".yaml", ".yml")) or "/" in word or "\\" in word


def catalog_files() -> dict[str, Path]:
    """Name -> file of every built-in recipe and layer."""
    return {path.stem: path for path in sorted(CATALOG.rglob("*.yaml"))}


def _similar_file(path: Path) -> Path | None:
    """The recipe file next to a missing one whose name is similar, first of all with the other suffix."""
    found = [each.name for each in path.parent.iterdir() if is_file(each.name)] if path.parent.is_dir() else []
    same = [name for name in found if Path(name).stem == path.stem]
    near = same or difflib.get_close_matches(path.name, found, n=1)
    return path.with_name(near[0]) if near else None


def _find(word: str, directory: Path, named_in: str | None) -> tuple[Path, str]:
    """The path of the file that a word names, and its name in messages."""
    if word.endswith(DATA_SUFFIXES):
        message = f"{word!r} is a data file, not a recipe"
        advice = f"append data.sources.0.path={word} to a recipe, or let `tunesmith init {word}` write one"
        raise RecipeError(message, where=named_in, advice=advice)
    if is_file(word):
        path = directory / word
        if path.is_file():
            return path.resolve(), str(path)
        if path.is_dir():
            raise MissingInputError(f"{path} is a directory, not a recipe file", where=named_in)
        similar = _similar_file(path)
        meant = None if similar is None else f"did you mean {similar}?"
        raise MissingInputError(f"there is no recipe file {path}", where=named_in, advice=meant)
    files = catalog_files()
    if word in files:
        return files[word], word
    near = difflib.get_close_matches(word, files, n=1)
    if Path(f"{word}.yaml").is_file():
        near = [f"{word}.yaml"]
    if near:
        advice = f"did you mean {near[0]!r}?"
    elif re.fullmatch(r"[a-z]+(\.\w+)+", word):
        advice = f"a single value is written as {OTHER_NAMES.get(word.rpartition('.')[2], word)}=VALUE"
    else:
        advice = "`tunesmith recipes` lists all; the name of a file ends in .yaml"
    raise RecipeError(f"there is no recipe or layer {word!r}", where=named_in, advice=advice)

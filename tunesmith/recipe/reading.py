"""Reads YAML text into values that carry the line on which they were given.

Only what a recipe needs is supported: mappings, lists and scalars; no tags, no merge keys, no interpolation. Scalars
follow the core schema of YAML 1.2, so ``1e-5`` is a number and ``no`` (Norwegian) is text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tunesmith.errors import MissingInputError
from tunesmith.recipe.problems import InvalidRecipeError, Origin, RecipeProblem

Scalar = str | int | float | bool | None

LARGEST_FILE = 1 << 20  # bytes
MOST_VALUES = 20_000  # after aliases are expanded: a few lines of aliases can expand to billions of values
DEEPEST = 32
_VALUES, _LEVELS = f"{MOST_VALUES} values", f"{DEEPEST} nested levels"

_WORDS: dict[str, Scalar] = {"": None, "~": None, "null": None, "true": True, "false": False}
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]*(_[0-9]+)*)")
_PREFIXED = re.compile(r"0x[0-9a-fA-F]+|0o[0-7]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_LONGEST_NUMBER = 100  # characters
_TAGS = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("str", "map", "seq"))


@dataclass(frozen=True, slots=True)
class LocatedValue:
    """A value and where it was given.

    value: a scalar, or a list or mapping of located values.
    origin: where it was given.
    """

    value: Scalar | list[LocatedValue] | dict[str, LocatedValue]
    origin: Origin


def to_plain(located: LocatedValue) -> Any:
    """The value without origins, as Python's own dicts, lists and scalars."""
    if isinstance(located.value, dict):
        return {key: to_plain(child) for key, child in located.value.items()}
    if isinstance(located.value, list):
        return [to_plain(child) for child in located.value]
    return located.value


def to_located(value: Any, origin: Origin) -> LocatedValue:
    """The inverse: Python's own dicts, lists and scalars, all of them given at one place."""
    if isinstance(value, Mapping):
        return LocatedValue({str(key): to_located(child, origin) for key, child in value.items()}, origin)
    if isinstance(value, list | tuple):
        return LocatedValue([to_located(child, origin) for child in value], origin)
    return LocatedValue(str(value) if isinstance(value, Path) else value, origin)


def parse_scalar(text: str) -> Scalar:
    """The value of an unquoted word; a word that is not clearly a number, a boolean or null is text."""
    if text in _WORDS:
        return _WORDS[text]
    if len(text) > _LONGEST_NUMBER:
        return text
    if _DECIMAL.fullmatch(text):
        return int(text)
    if _PREFIXED.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text) and not text.lstrip("+-").isdigit() and math.isfinite(number := float(text)):
        return number
    return text


def read_text(text: str, source: str, *, lines: bool = True) -> LocatedValue:
    """The value of one YAML document.

    source: the name of the document in messages.
    lines: whether origins have line numbers; False for the command line.
    Raises InvalidRecipeError if the text is not YAML, or has more than a recipe needs.
    """
    try:
        node = yaml.compose(text, Loader=_LimitedLoader)
    except _TooLargeError as error:
        raise _too_large(Origin(source, error.line if lines else 0), str(error)) from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark and lines else 0
        reason = ", ".join(part for part in (error.context, error.problem) if part)
        message = f"the text is not valid YAML: {reason}"
        raise InvalidRecipeError([RecipeProblem(Origin(source, line), "", message)]) from error
    except (yaml.YAMLError, RecursionError) as error:
        too_deep = isinstance(error, RecursionError)
        reason = "it is nested too deeply" if too_deep else getattr(error, "reason", str(error))
        message = f"the text is not valid YAML: {reason}"
        raise InvalidRecipeError([RecipeProblem(Origin(source), "", message)]) from error
    builder = _Builder(source, lines)
    found = LocatedValue(None, Origin(source)) if node is None else builder.build(node, (), builder.origin(node))
    if builder.problems:
        raise InvalidRecipeError(builder.problems)
    return found


def read_file(path: Path, source: str) -> LocatedValue:
    """The mapping in a YAML file; ``source`` is its name in messages. Raises MissingInputError, InvalidRecipeError."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise MissingInputError(f"the file cannot be read: {error.strerror}", where=source) from error
    return read_mapping(content, source)


def read_mapping(content: bytes, source: str) -> LocatedValue:
    """The mapping in the content of a YAML file; ``source`` is its name in messages. Raises InvalidRecipeError."""
    if len(content) > LARGEST_FILE:
        message = f"a recipe file has at most {LARGEST_FILE} bytes, and this one has more"
        raise InvalidRecipeError([RecipeProblem(Origin(source), "", message)])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"the file is not UTF-8 text (byte {error.start}); save it as UTF-8"
        raise InvalidRecipeError([RecipeProblem(Origin(source), "", message)]) from error
    found = read_text(text, source)
    if not isinstance(found.value, dict):
        message = "a recipe is a mapping of key: value lines, and the content of this file is not"
        raise InvalidRecipeError([RecipeProblem(Origin(source), "", message)])
    return found


def _too_large(origin: Origin, limit: str) -> InvalidRecipeError:
    message = f"a recipe has at most {limit}, with aliases expanded, and this one has more"
    return InvalidRecipeError([RecipeProblem(origin, "", message)])


class _TooLargeError(Exception):
    """A limit that a text is over, in words. line: from 1."""

    def __init__(self, limit: str, line: int) -> None:
        self.line = line
        super().__init__(limit)


class _LimitedLoader(yaml.BaseLoader):
    """The parser, which ends where a text has more levels or values than a recipe, and not at the end of the text.

    The time of the scanner rises with the square of the brackets that are open: it looks 1,024 characters ahead, and at
    each of them at all levels. So levels are counted where it opens them.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._nodes = 0

    def fetch_more_tokens(self) -> None:
        super().fetch_more_tokens()
        if self.flow_level + len(self.indents) > DEEPEST + 1:  # the document itself is one
            raise _TooLargeError(_LEVELS, self.line + 1)

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._nodes += 1
        if self._nodes > 2 * MOST_VALUES:  # keys are nodes as well
            raise _TooLargeError(_VALUES, self.line + 1)
        return super().compose_node(parent, index)


@dataclass(slots=True)
class _Builder:
    """Converts the nodes of the YAML parser to located values and collects problems."""

    source: str
    lines: bool
    problems: list[RecipeProblem] = field(default_factory=list)
    values: int = 0

    def origin(self, node: yaml.Node) -> Origin:
        return Origin(self.source, node.start_mark.line + 1 if self.lines else 0)

    def report(self, node: yaml.Node, path: tuple[str, ...], message: str) -> None:
        self.problems.append(RecipeProblem(self.origin(node), ".".join(path), message))

    def build(self, node: yaml.Node, path: tuple[str, ...], origin: Origin) -> LocatedValue:
        self.values += 1
        if self.values > MOST_VALUES or len(path) > DEEPEST:
            raise _too_large(origin, _VALUES if self.values > MOST_VALUES else _LEVELS)
        if node.tag not in _TAGS:
            self.report(node, path, f"YAML tags are not supported, and this value has the tag {node.tag!r}; remove it")
        if isinstance(node, yaml.MappingNode):
            return LocatedValue(self.mapping(node, path), origin)
        if isinstance(node, yaml.SequenceNode):
            items = [self.build(item, (*path, str(i)), self.origin(item)) for i, item in enumerate(node.value)]
            return LocatedValue(items, origin)
        unquoted = isinstance(node, yaml.ScalarNode) and node.style is None
        return LocatedValue(parse_scalar(node.value) if unquoted else node.value, origin)

    def mapping(self, node: yaml.MappingNode, path: tuple[str, ...]) -> dict[str, LocatedValue]:
        built: dict[str, LocatedValue] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self.report(key_node, path, "a key must be a single word, not a list or mapping")
                continue
            key: str = key_node.value
            key_path = (*path, key)
            if key.endswith("++"):
                self.report(key_node, key_path, "a key that appends to a list ends in one '+', not in several")
            if key in built:
                first = f", first in line {built[key].origin.line}" if self.lines else ""
                self.report(key_node, key_path, f"the key appears twice{first}; remove one of the two")
            built[key] = self.build(value_node, key_path, self.origin(key_node))
        return built

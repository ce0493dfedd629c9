"""YAML text -> values that know their line.

Only what a recipe needs: mappings, lists and scalars; no tags, no merge keys, no interpolation. Scalars follow the core
schema of YAML 1.2, so ``1e-5`` is a number and ``no`` (Norwegian) is text.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tunesmith.errors import MissingInputError
from tunesmith.recipe.faults import Fault, Origin, RecipeFaults

Scalar = str | int | float | bool | None

LARGEST_FILE = 1 << 20  # bytes
MOST_VALUES = 20_000  # after aliases are expanded: a few lines of aliases can stand for billions of values
DEEPEST = 32

_WORDS: dict[str, Scalar] = {"": None, "~": None, "null": None, "true": True, "false": False}
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]*(_[0-9]+)*)")
_PREFIXED = re.compile(r"0x[0-9a-fA-F]+|0o[0-7]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_LONGEST_NUMBER = 100  # characters
_TAGS = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("str", "map", "seq"))


@dataclass(frozen=True, slots=True)
class Marked:
    """A value and the place it was read from; mappings and lists hold marked values."""

    value: Scalar | list[Marked] | dict[str, Marked]
    origin: Origin


def plain(marked: Marked) -> Any:
    """The value without its marks."""
    if isinstance(marked.value, dict):
        return {key: plain(child) for key, child in marked.value.items()}
    if isinstance(marked.value, list):
        return [plain(child) for child in marked.value]
    return marked.value


def scalar(text: str) -> Scalar:
    """Value of an unquoted word; what is not clearly a number, a truth value or null is text."""
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


def read_text(text: str, source: str, *, lines: bool = True) -> Marked:
    """One YAML document; without ``lines`` the origin is the source alone (the command line). Raises RecipeFaults."""
    try:
        node = yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark and lines else 0
        reason = ", ".join(part for part in (error.context, error.problem) if part)
        raise RecipeFaults([Fault(Origin(source, line), "", f"not valid YAML: {reason}")]) from error
    except (yaml.YAMLError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else getattr(error, "reason", str(error))
        raise RecipeFaults([Fault(Origin(source), "", f"not valid YAML: {reason}")]) from error
    builder = _Builder(source, lines)
    marked = Marked(None, Origin(source)) if node is None else builder.build(node, (), builder.origin(node))
    if builder.faults:
        raise RecipeFaults(builder.faults)
    return marked


def read_file(path: Path, source: str) -> Marked:
    """The mapping in a YAML file. Raises MissingInputError, RecipeFaults."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise MissingInputError(f"cannot be read: {error.strerror}", where=source) from error
    if len(content) > LARGEST_FILE:
        raise RecipeFaults([Fault(Origin(source), "", f"{len(content)} bytes are no recipe; at most {LARGEST_FILE}")])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecipeFaults([Fault(Origin(source), "", f"is not UTF-8 text (byte {error.start})")]) from error
    marked = read_text(text, source)
    if not isinstance(marked.value, dict):
        raise RecipeFaults([Fault(Origin(source), "", "a recipe is a mapping of key: value lines, and this is not")])
    return marked


@dataclass(slots=True)
class _Builder:
    """From the parser's nodes to marked values, collecting faults on the way."""

    source: str
    lines: bool
    faults: list[Fault] = field(default_factory=list)
    values: int = 0

    def origin(self, node: yaml.Node) -> Origin:
        return Origin(self.source, node.start_mark.line + 1 if self.lines else 0)

    def fault(self, node: yaml.Node, path: tuple[str, ...], what: str) -> None:
        self.faults.append(Fault(self.origin(node), ".".join(path), what))

    def build(self, node: yaml.Node, path: tuple[str, ...], origin: Origin) -> Marked:
        self.values += 1
        if self.values > MOST_VALUES or len(path) > DEEPEST:
            limit = f"more than {MOST_VALUES} values" if self.values > MOST_VALUES else f"deeper than {DEEPEST} levels"
            raise RecipeFaults([Fault(origin, "", f"{limit} (with aliases expanded) are no recipe")])
        if node.tag not in _TAGS:
            self.fault(node, path, f"tags such as {node.tag!r} mean nothing here")
        if isinstance(node, yaml.MappingNode):
            return Marked(self.mapping(node, path), origin)
        if isinstance(node, yaml.SequenceNode):
            items = [self.build(item, (*path, str(i)), self.origin(item)) for i, item in enumerate(node.value)]
            return Marked(items, origin)
        unquoted = isinstance(node, yaml.ScalarNode) and node.style is None
        return Marked(scalar(node.value) if unquoted else node.value, origin)

    def mapping(self, node: yaml.MappingNode, path: tuple[str, ...]) -> dict[str, Marked]:
        built: dict[str, Marked] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self.fault(key_node, path, "a key must be a word")
                continue
            key: str = key_node.value
            here = (*path, key)
            if key.endswith("++"):
                self.fault(key_node, here, "one '+' appends to a list; more mean nothing")
            if key in built:
                first = f", first in line {built[key].origin.line}" if self.lines else ""
                self.fault(key_node, here, f"appears twice{first}")
            built[key] = self.build(value_node, here, self.origin(key_node))
        return built

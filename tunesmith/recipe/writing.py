"""Writes a recipe as YAML that loads to an equal recipe."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tunesmith.recipe.reading import parse_scalar

# Text that needs no quotes in any version of YAML; all other text is quoted.
_PLAIN = re.compile(r"(\.{0,2}/|[A-Za-z_])[A-Za-z0-9_./-]*( [A-Za-z0-9_./-]+)*")
_TRUTH_IN_YAML_1 = frozenset({"yes", "no", "on", "off", "y", "n"})
_NOT_ASCII = re.compile(r"[^ -~]")


class YamlLine(NamedTuple):
    """One line of YAML.

    text: the line without its line break.
    path: the keys and indices that lead to its value; None if the line only opens a mapping or list.
    """

    text: str
    path: tuple[str, ...] | None


def yaml_lines(value: Mapping[str, Any], path: tuple[str, ...] = (), indent: int = 0) -> Iterator[YamlLine]:
    """A mapping in block style, with lists of mappings as blocks and every other list on one line."""
    pad = " " * indent
    for key, child in value.items():
        key_path, name = (*path, key), f"{pad}{_text(key)}:"
        if isinstance(child, Mapping) and child:
            yield YamlLine(name, None)
            yield from yaml_lines(child, key_path, indent + 2)
        elif _is_list(child) and child and all(isinstance(item, Mapping) and item for item in child):
            yield YamlLine(name, None)
            for index, item in enumerate(child):
                first, *others = yaml_lines(item, (*key_path, str(index)), indent + 4)
                yield YamlLine(f"{pad}  - {first.text.lstrip()}", first.path)
                yield from others
        else:
            yield YamlLine(f"{name} {flow(child)}", key_path)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def flow(value: Any) -> str:
    """A value on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_text(key)}: {flow(child)}" for key, child in value.items()) + "}"
    if _is_list(value):
        return "[" + ", ".join(flow(item) for item in value) + "]"
    return _text(value) if isinstance(value, str) else json.dumps(value)


def _text(text: str) -> str:
    """The text, without quotes if every YAML parser reads it as text."""
    if _PLAIN.fullmatch(text) and isinstance(parse_scalar(text.lower()), str) and text.lower() not in _TRUTH_IN_YAML_1:
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    return _NOT_ASCII.sub(lambda match: match[0] if match[0].isprintable() else f"\\U{ord(match[0]):08x}", quoted)

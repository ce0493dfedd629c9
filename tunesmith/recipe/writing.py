"""A recipe -> YAML that reads back as the same recipe."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tunesmith.recipe.reading import scalar

# Words that need no quotes, in any version of YAML; everything else is quoted.
_PLAIN = re.compile(r"(\.{0,2}/|[A-Za-z_])[A-Za-z0-9_./-]*( [A-Za-z0-9_./-]+)*")
_TRUTH_IN_YAML_1 = frozenset({"yes", "no", "on", "off", "y", "n"})
_NOT_ASCII = re.compile(r"[^ -~]")


class Line(NamedTuple):
    """One line of YAML; path is the place of the value in it, None if it only opens a mapping or list."""

    text: str
    path: tuple[str, ...] | None


def yaml_lines(value: Mapping[str, Any], path: tuple[str, ...] = (), indent: int = 0) -> Iterator[Line]:
    """A mapping as block YAML; lists of mappings are blocks too, all other lists stand on one line."""
    pad = " " * indent
    for key, child in value.items():
        here, name = (*path, key), f"{pad}{_text(key)}:"
        if isinstance(child, Mapping) and child:
            yield Line(name, None)
            yield from yaml_lines(child, here, indent + 2)
        elif _is_list(child) and child and all(isinstance(item, Mapping) and item for item in child):
            yield Line(name, None)
            for index, item in enumerate(child):
                first, *others = yaml_lines(item, (*here, str(index)), indent + 4)
                yield Line(f"{pad}  - {first.text.lstrip()}", first.path)
                yield from others
        else:
            yield Line(f"{name} {_flow(child)}", here)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _flow(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_text(key)}: {_flow(child)}" for key, child in value.items()) + "}"
    if _is_list(value):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    return _text(value) if isinstance(value, str) else json.dumps(value)


def _text(text: str) -> str:
    """Without quotes where no reader could take it for anything else."""
    if _PLAIN.fullmatch(text) and isinstance(scalar(text.lower()), str) and text.lower() not in _TRUTH_IN_YAML_1:
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    return _NOT_ASCII.sub(lambda match: match[0] if match[0].isprintable() else f"\\U{ord(match[0]):08x}", quoted)

"""The text of a recipe, with a comment at every value that says where it comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunesmith.recipe.writing import flow

WIDTH = 100  # of a line with its comment; a longer comment is on the line before


@dataclass(frozen=True, slots=True)
class Value:
    """One value of the recipe.

    value: of the key.
    comment: why it is this one; empty if that is clear.
    """

    value: Any
    comment: str = ""


@dataclass(frozen=True, slots=True)
class DraftRecipe:
    """A recipe before it is written.

    about: what it does, for the first line.
    commands: how it is used.
    extends: the recipe of the catalog whose values it overrides.
    values: nested keys; a list of mappings has one item.
    show: the command that prints all values.
    """

    about: str
    commands: Sequence[str]
    extends: str
    values: Mapping[str, Any] = field(default_factory=dict)
    show: str = "tunesmith show"

    def text(self) -> str:
        """The file."""
        head = [f"# {self.about}", "#", *(f"#   {command}" for command in self.commands), ""]
        note = f"  # `{self.show}` prints all values"
        return "\n".join([*head, f"extends: {self.extends}{note}", *_lines(self.values, ""), ""])


def _lines(values: Mapping[str, Any], pad: str) -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, Value):
            yield from _value_lines(f"{pad}{flow(key)}: {flow(value.value)}", value.comment, pad)
        elif isinstance(value, list):
            yield f"{pad}{flow(key)}:"
            for item in value:
                lines = list(_lines(item, pad + "    "))
                first = next(index for index, line in enumerate(lines) if not line.lstrip().startswith("#"))
                lines[first] = f"{pad}  - {lines[first].lstrip()}"
                yield from lines
        elif value:
            yield f"{pad}{flow(key)}:"
            yield from _lines(value, pad + "  ")


def _value_lines(line: str, comment: str, pad: str) -> Iterator[str]:
    if not comment:
        yield line
    elif len(line) + len(comment) + 4 <= WIDTH:
        yield f"{line}  # {comment}"
    else:
        yield from (f"{pad}# {comment}", line)

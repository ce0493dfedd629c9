"""The reference of all keys of a recipe, as Markdown, made from the schema: `python -m tunesmith.recipe.reference`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from tunesmith.files import write_file
from tunesmith.recipe.json_schema import LOADER_KEYS
from tunesmith.recipe.schema import Recipe

Schema: TypeAlias = Mapping[str, Any]
"""A part of a JSON schema."""

INTRODUCTION = """\
# All keys of a recipe

`make reference` writes this page from the schema that recipes are validated with, so it has every key. A key is written
with the section that it belongs to: `learning_rate` in the section `train` is `train.learning_rate`, in a file, on the
command line and in messages. `*` is the number of an item of a list, from 0: `data.sources.0.path`. `NAME` is a name
that the data have. [recipes.md](recipes.md) says how files and single values are combined. `tunesmith show RECIPE`
prints the values of one recipe, and where each comes from; `tunesmith schema` prints the same schema for editors.

A default that is empty is a section with its own defaults, or an empty mapping. `required` is what a run cannot do
without; a recipe may have it from a file that it extends. Numbers are inclusive unless a line says *above* or *below*.
"""

TYPES = {"string": "text", "integer": "whole number", "number": "number", "boolean": "`true` or `false`"}
"""JSON type -> how the page calls it."""

BOUNDS = {"minimum": "from {}", "exclusiveMinimum": "above {}", "maximum": "to {}", "exclusiveMaximum": "below {}"}
"""Key of a JSON schema -> how the page writes it."""


def reference_page() -> str:
    """The whole page."""
    schema = Recipe.model_json_schema()
    parts = [INTRODUCTION, _files_section(), *_sections(schema, schema["$defs"], ())]
    return "\n".join(parts)


def _files_section() -> str:
    """The keys that only a file has, which the loader reads."""
    lines = [f"| `{name}` | {_values(field, {})} | | {field['description']} |" for name, field in LOADER_KEYS.items()]
    return _table("## Keys of a file\n", lines)


def _sections(section: Schema, definitions: Schema, path: tuple[str, ...]) -> Iterator[str]:
    """The table of a section, then those of the sections in it."""
    required, inner = section.get("required", ()), list[str]()
    lines = list[str]()
    for name, field in section["properties"].items():
        default = _default(field, name in required)
        lines.append(f"| `{name}` | {_values(field, definitions)} | {default} | {_cell(field['description'])} |")
        for reference, inside in _references(field):
            inner += _sections(definitions[reference], definitions, (*path, name, *inside))
    yield _table(f"{_heading(section, path)}\n\n{_first_paragraph(section['description'])}\n", lines)
    yield from inner


def _heading(section: Schema, path: tuple[str, ...]) -> str:
    """The heading of a section: its key, and its kind where the key has several."""
    kind = section["properties"].get("kind", {}).get("const")
    if not path:
        return "## The recipe"
    return f"## `{'.'.join(path)}`" + (f", kind `{kind}`" if kind else "")


def _first_paragraph(text: str) -> str:
    return " ".join(text.split("\n\n")[0].split())


def _table(opening: str, lines: list[str]) -> str:
    head = ["| key | values | default | what it is |", "|---|---|---|---|"]
    return "\n".join([opening, *head, *lines, ""])


def _default(field: Schema, required: bool) -> str:
    """The default of a key as YAML writes it."""
    if required:
        return "required"
    if field.get("default", "") in ("", {}):
        return ""
    default = field["default"]
    return f"`{default if isinstance(default, str) else json.dumps(default)}`"


def _references(field: Schema) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(name of a section that a key may hold, where it is in the value of the key)."""
    for part in _parts(field):
        values = part.get("patternProperties", {}).values()
        places = [(part, ()), *((item, ("*",)) for item in _parts(part.get("items", {})))]
        for each, inside in [*places, *((value, ("NAME",)) for value in values)]:
            name = each.get("$ref", "").rpartition("/")[2]
            if name and name != "JsonValue":
                yield name, inside


def _parts(field: Schema) -> list[Schema]:
    """The alternatives of a type; the type itself if there is only one."""
    parts: list[Schema] = field.get("anyOf") or field.get("oneOf") or [field]
    return parts


def _values(field: Schema, definitions: Schema) -> str:
    """What a key may hold, in a few words."""
    return " or ".join(dict.fromkeys(_type(part, definitions) for part in _parts(field)))


def _type(part: Schema, definitions: Schema) -> str:
    """One alternative of a type."""
    if "$ref" in part:
        return _section_type(part["$ref"].rpartition("/")[2], definitions)
    if "const" in part:
        return f"`{part['const']}`"
    if "enum" in part:
        return ", ".join(f"`{value}`" for value in part["enum"])
    kind = part.get("type", "")
    if kind == "array":
        prefix = part.get("prefixItems")
        return f"{len(prefix)} numbers" if prefix else f"list of: {_values(part.get('items', {}), definitions)}"
    if kind == "object":
        return "mapping"
    if kind == "null":
        return "`null`"
    bounds = " ".join(words.format(f"{part[name]:g}") for name, words in BOUNDS.items() if _is_bound(part, name))
    return " ".join(filter(None, (TYPES.get(kind, kind), bounds)))


def _is_bound(part: Schema, name: str) -> bool:
    """Whether a bound is worth a word; that of 64 bits for seeds is none."""
    return name in part and part[name] < 2**63


def _section_type(name: str, definitions: Schema) -> str:
    """A section as a type: its kind if there are several, otherwise the word section."""
    if name == "JsonValue":
        return "any value"
    kind = definitions[name]["properties"].get("kind", {}).get("const")
    return f"section of kind `{kind}`" if kind else "section"


def _cell(text: str) -> str:
    """Text of one cell; a bar would end it, and angle brackets would be HTML."""
    return text.replace("|", "\\|").replace("<", "&lt;")


def main() -> None:
    """Write the page to the file that is given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path, help="the file to write, such as docs/reference.md")
    write_file(parser.parse_args().path, reference_page())


if __name__ == "__main__":
    main()

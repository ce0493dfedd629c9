"""Markdown in which text of data, models and authors stays text: no HTML, no link and no heading comes from it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from markdown_it import MarkdownIt
from markdown_it.token import Token

from tunesmith.text.visible import visible

_SPECIAL = re.compile(r"[\\`*_{}\[\]()<>#~!&$^=]")
_TAG = re.compile(r"<(?!https?://[^\s<>]*>)")
_CODE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")
_PARSER = MarkdownIt("commonmark").enable("table")
_END = "<!-- end -->"


def plain(text: str) -> str:
    """A text on one line that is shown as it is."""
    return _SPECIAL.sub(r"\\\g<0>", " ".join(visible(text).split()))


def code(text: str) -> str:
    """A text on one line as code."""
    shown = " ".join(visible(text).split())
    if not shown:
        return "(empty)"
    fence = "`" * (_longest_run(shown) + 1)
    space = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{space}{shown}{space}{fence}"


def code_block(text: str, language: str = "") -> str:
    """A text as a block of code, with its line breaks; control characters are escaped."""
    fence = "`" * max(3, _longest_run(text) + 1)
    return f"{fence}{language}\n{visible(text)}\n{fence}"


def _longest_run(text: str) -> int:
    """The largest number of backticks in a row."""
    return max(map(len, re.findall("`+", text)), default=0)


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int] = ()) -> str:
    """A table. headers, rows: Markdown without line breaks. right: columns that are aligned to the right."""
    ruler = ["---:" if column in right else "---" for column in range(len(headers))]
    return "\n".join(f"| {' | '.join(each)} |" for each in (_cells(headers), ruler, *map(_cells, rows)))


def _cells(values: Sequence[str]) -> list[str]:
    return [" ".join(value.split()).replace("|", "\\|") for value in values]


def bullets(items: Iterable[tuple[str, str]]) -> str:
    """A list of names with their values, both in Markdown; those without a value are left out."""
    return "\n".join(f"- **{name}:** {value}" for name, value in items if value)


def paragraphs(*parts: str) -> str:
    """The parts that are not empty, with blank lines between them."""
    return "\n\n".join(part for part in parts if part)


def author_text(text: str) -> str:
    """The Markdown of an author without HTML: tags are shown as text, and so is a text that would not end by itself."""
    shown = visible(text).strip()
    for escape in (_escape_tags, _escape_all):
        found = escape(shown)
        if _is_harmless(found):
            return found
    return code_block(shown)


def _escape_tags(text: str) -> str:
    """``<`` as text, except in code and in links such as <https://example.com>."""
    lines = text.split("\n")
    coded = {
        number
        for token in _PARSER.parse(text)
        if token.type in ("fence", "code_block") and token.map is not None
        for number in range(*token.map)
    }
    return "\n".join(
        line if number in coded else "".join(_escaped_outside_of_code(line)) for number, line in enumerate(lines)
    )


def _escaped_outside_of_code(line: str) -> Iterator[str]:
    position = 0
    for match in _CODE.finditer(line):
        yield _TAG.sub("&lt;", line[position : match.start()])
        yield match.group()
        position = match.end()
    yield _TAG.sub("&lt;", line[position:])


def _escape_all(text: str) -> str:
    return text.replace("<", "&lt;")


def _is_harmless(text: str) -> bool:
    """Whether a text has no HTML, and a comment that follows it is a comment."""
    *own, last = _PARSER.parse(f"{text}\n\n{_END}\n") or [Token("", "", 0)]
    return last.type == "html_block" and last.content.strip() == _END and last.level == 0 and not any(html_in(own))


def html_in(tokens: Iterable[Token]) -> Iterator[str]:
    """The HTML in parsed Markdown."""
    for token in tokens:
        if token.type in ("html_block", "html_inline"):
            yield token.content
        yield from html_in(token.children or ())


def parse_blocks(text: str) -> list[Token]:
    """The blocks of a Markdown text, as CommonMark with tables reads them."""
    return _PARSER.parse(text)

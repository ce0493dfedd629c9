"""The text of a card: sections between markers, and a digest of each, by which an edit by hand is found.

The markers are comments of HTML at the beginning of a line, outside of every block of code.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tunesmith.publish.card.markdown import parse_blocks

HEADER = "front matter"
"""The name of the metadata among the parts of a card."""
MODEL = "model"
"""The name of the digest of the model among those of the parts; no part is called so."""
_MARKER = re.compile(r"<!-- tunesmith:section ([a-z0-9-]+) -->")
_DIGESTS = re.compile(r"<!-- tunesmith:digests (\{.*\}) -->")
_HEADER = re.compile(r"---\n(.*?)\n---\n", re.DOTALL)


@dataclass(frozen=True, slots=True)
class CardSection:
    """A section of a card.

    key: its name in the marker, in small letters.
    heading: its heading; empty for the part below the title.
    text: Markdown, without the heading.
    """

    key: str
    heading: str
    text: str

    def markdown(self) -> str:
        """Marker, heading and text."""
        heading = f"## {self.heading}\n\n" if self.heading else ""
        return f"<!-- tunesmith:section {self.key} -->\n\n{heading}{self.text.strip()}\n"


@dataclass(frozen=True, slots=True)
class WrittenCard:
    """A card as it was found.

    parts: name of a part -> its text.
    digests: name of a part -> digest of what was written; None if the card was not written by this module, or if its
        last line, which has them, is gone.
    model: digest of the model that the card was written for; empty if the card does not have it.
    marked: whether it has a line that only this module writes.
    """

    parts: Mapping[str, str]
    digests: Mapping[str, str] | None
    model: str = ""
    marked: bool = False

    def edited(self) -> list[str]:
        """The parts that are not as they were written, or are missing, or were added."""
        known = self.digests or {}
        found = {name: digest(text) for name, text in self.parts.items()}
        return [name for name in {**known, **found} if known.get(name) != found.get(name)]


def card_text(header: str, sections: Sequence[CardSection], files: Mapping[str, str], model: str) -> str:
    """The text of README.md.

    header: the metadata as YAML.
    files: name -> content of the other files of the card, whose digests are recorded, too.
    model: digest of the model that the card is about.
    """
    body = {section.key: section.markdown().strip() for section in sections}
    digests = {name: digest(text) for name, text in {HEADER: header.strip(), **body, **files}.items()}
    digests[MODEL] = model
    closing = f"<!-- tunesmith:digests {json.dumps(digests)} -->"
    return "\n\n".join([f"---\n{header.strip()}\n---", *body.values(), closing]) + "\n"


def digest(text: str) -> str:
    """A short digest of a part."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_card(text: str, files: Mapping[str, str]) -> WrittenCard:
    """Divide a card into its parts. files: as of ``card_text``, as they are now; only recorded ones count."""
    text = text.replace("\r\n", "\n")
    match = _HEADER.match(text)
    parts = {HEADER: match[1].strip()} if match else {}
    body = text[match.end() :] if match else text
    lines = body.split("\n")
    places: list[tuple[str, int]] = []
    recorded: Mapping[str, str] | None = None
    is_closed, end = False, len(lines)
    for token in parse_blocks(body):
        if token.type != "html_block" or token.level or token.map is None:
            continue
        if marker := _MARKER.fullmatch(token.content.strip()):
            places.append((marker[1], token.map[0]))
        elif closing := _DIGESTS.fullmatch(token.content.strip()):
            recorded, is_closed, end = _read_digests(closing[1]), True, token.map[0]
    stops = [place for _, place in places[1:]] + [end]
    for (name, start), stop in zip(places, stops, strict=False):
        parts[f"{name}, a second time" if name in parts else name] = "\n".join(lines[start:stop]).strip()
    written = [name for name in recorded or {} if name in dict(places)]
    if written != list(dict(places)) and set(written) == set(dict(places)):
        parts["the order of the sections"] = "another one"
    first = places[0][1] if places else end
    for name, text_there in (("text before the first section", lines[:first]), ("text at the end", lines[end + 1 :])):
        if added := "\n".join(text_there).strip():
            parts[name] = added
    kept = {name: content for name, content in files.items() if name in (recorded or {})}
    known = None if recorded is None else {name: value for name, value in recorded.items() if name != MODEL}
    model = (recorded or {}).get(MODEL, "")
    return WrittenCard({**parts, **kept}, known, model, marked=is_closed or bool(places))


def _read_digests(text: str) -> dict[str, str] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return {str(name): str(value) for name, value in found.items()} if isinstance(found, dict) else None

"""How contents are rewritten as text that a tokenizer keeps, and decoded again. Most formats do not need it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, Protocol


class Codec(Protocol):
    """A function from contents to the tokenizer's text, and its inverse, which also works on a stream."""

    def encode(self, text: str) -> str:
        """Return the text that the tokenizer gets for a content."""
        ...

    def decode(self, text: str) -> str:
        """Return the content from the text that the tokenizer decoded."""
        ...

    def count_decodable(self, text: str) -> int:
        """Return how many characters at the beginning of ``text`` can be decoded before the rest of a stream is there.

        For the returned n and any further text, ``decode(text[:n]) + decode(text[n:] + more) == decode(text + more)``.
        """
        ...


@dataclass(frozen=True, slots=True)
class IdentityCodec:
    """Contents are written unchanged."""

    def encode(self, text: str) -> str:
        return text

    def decode(self, text: str) -> str:
        return text

    def count_decodable(self, text: str) -> int:
        return len(text)


IDENTITY: Codec = IdentityCodec()

_BREAK, _TAB = "_LB_>", "_T_>"
# In the original's order. The space between two marks belongs to the first of them, hence the stray spaces.
_REPLACEMENTS = ((f" {_BREAK} ", "\n"), (f" {_TAB} ", "\t"), (_BREAK, "\n"), (f"{_TAB} ", "\t"), (_TAB, "\t"))
_WHOLE_MARK = re.compile("<(_LB_>|_T_>)")
_STRAY = re.compile(" *([\n\t]) *")
# Marks and white space at the end; the last mark may be incomplete.
_OPEN_END = re.compile(r"(?:<?_LB_>|<?_T_>|[ \n\t])*(?:<?(?:_(?:L(?:B_?)?|T_?)?)?)$")


def undo_marks(text: str) -> str:
    """Replace the marks that T5 wrote by line breaks and tabs.

    These are exactly the replacements that the model card of flant5-dolly-xxl publishes (except for its second
    ``_LB_>``, which never finds anything). After an even number of line breaks a space remains before the word, and one
    before a line break that ends the text.
    """
    for mark, character in _REPLACEMENTS:
        text = text.replace(mark, character)
    return text


@dataclass(frozen=True, slots=True)
class WhiteSpaceMarks:
    """Line breaks and tabs as words, for a vocabulary that turns all white space into single spaces (flant5-dolly-xxl).

    ``encode``: a line break becomes the word ``<_LB_>``, a tab ``<_T_>``, and words are joined by single spaces. The
    vocabulary of T5 has no ``<``; it encodes the unknown token there, which is decoded to nothing, so the model writes
    ``_LB_>``. Where a vocabulary has ``<``, the whole mark is decoded as well.

    For every text without the marks, ``normalize_spaces(decode(encode(text))) == normalize_spaces(text)``: the same
    words, line breaks and tabs in the same order; only spaces differ. With ``stray`` "drop" it is exact:
    ``decode(encode(text)) == normalize_spaces(text)``. A mark that a content spells out is decoded as a line break or
    tab.

    stray: "keep" leaves the spaces that the original's replacements leave next to line breaks and tabs; "drop" removes
        them.
    """

    stray: Literal["keep", "drop"] = "keep"

    def encode(self, text: str) -> str:
        return " ".join(text.replace("\n", " <_LB_> ").replace("\t", " <_T_> ").split())

    def decode(self, text: str) -> str:
        found = undo_marks(_WHOLE_MARK.sub(r"\1", text))
        return found if self.stray == "keep" else _STRAY.sub(r"\1", found)

    def count_decodable(self, text: str) -> int:
        """Return the length without marks and spaces at the end, because their decoding depends on what follows."""
        found = _OPEN_END.search(text)
        assert found is not None, "the pattern matches the empty end"
        return found.start()


def normalize_spaces(text: str) -> str:
    """Return ``text`` with single spaces between words, and none next to line breaks and tabs or at the ends."""
    lines = [[" ".join(part.split()) for part in line.split("\t")] for line in text.split("\n")]
    return "\n".join("\t".join(parts) for parts in lines)

"""How contents are written as text that a tokenizer keeps, and read back: what most formats do not need."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, Protocol


class Codec(Protocol):
    """A pair of rewritings around the tokenizer, and how the second works while text still arrives."""

    def encode(self, text: str) -> str:
        """The text as the tokenizer gets it."""
        ...

    def decode(self, text: str) -> str:
        """The text that was meant, from what the tokenizer gave back."""
        ...

    def settled(self, text: str) -> int:
        """How many characters at the beginning of ``text`` (not yet decoded) can be decoded for themselves: whatever
        follows, ``decode(text[:n]) + decode(text[n:] + more) == decode(text + more)``."""
        ...


@dataclass(frozen=True, slots=True)
class AsItIs:
    """Contents are written as they are."""

    def encode(self, text: str) -> str:
        return text

    def decode(self, text: str) -> str:
        return text

    def settled(self, text: str) -> int:
        return len(text)


AS_IT_IS: Codec = AsItIs()

_BREAK, _TAB = "_LB_>", "_T_>"
# In the original's order. What stands between two marks belongs to the first of them, hence the stray spaces.
_REPLACEMENTS = ((f" {_BREAK} ", "\n"), (f" {_TAB} ", "\t"), (_BREAK, "\n"), (f"{_TAB} ", "\t"), (_TAB, "\t"))
_WHOLE_MARK = re.compile("<(_LB_>|_T_>)")
_STRAY = re.compile(" *([\n\t]) *")
# Marks and white space at the end, the last mark perhaps not yet whole.
_OPEN_END = re.compile(r"(?:<?_LB_>|<?_T_>|[ \n\t])*(?:<?(?:_(?:L(?:B_?)?|T_?)?)?)$")


def undo_marks(text: str) -> str:
    """The line breaks and tabs of a text in which T5 wrote marks: the chain of replacements that the model card of
    flant5-dolly-xxl publishes, to the letter (its second ``_LB_>`` finds nothing any more).

    After an even number of line breaks a space remains in front of the word, and one in front of a break that ends the text.
    """
    for mark, character in _REPLACEMENTS:
        text = text.replace(mark, character)
    return text


@dataclass(frozen=True, slots=True)
class WhiteSpaceMarks:
    """Line breaks and tabs as words, for a vocabulary that turns all white space into single spaces (flant5-dolly-xxl).

    ``encode``: a line break becomes the word ``<_LB_>``, a tab ``<_T_>``, and words are joined by single spaces. T5 has no
    ``<``; it reads and writes the unknown token there, which leaves no trace, so ``_LB_>`` comes back. Where a vocabulary
    has ``<``, the whole mark is read as well.

    For every text without the marks, ``spaced(decode(encode(text))) == spaced(text)``: the same words, line breaks and
    tabs in the same order; only spaces differ. With ``stray`` "drop" it is exact: ``decode(encode(text)) == spaced(text)``.
    A mark that a text spells out comes back as what it stands for.

    stray: "keep" leaves the spaces that the original's replacements leave beside line breaks and tabs; "drop" removes them.
    """

    stray: Literal["keep", "drop"] = "keep"

    def encode(self, text: str) -> str:
        return " ".join(text.replace("\n", " <_LB_> ").replace("\t", " <_T_> ").split())

    def decode(self, text: str) -> str:
        found = undo_marks(_WHOLE_MARK.sub(r"\1", text))
        return found if self.stray == "keep" else _STRAY.sub(r"\1", found)

    def settled(self, text: str) -> int:
        """Everything before the marks and spaces at the end: which of them a space belongs to shows in what follows."""
        found = _OPEN_END.search(text)
        assert found is not None, "the pattern matches the empty end"
        return found.start()


def spaced(text: str) -> str:
    """The text with all other white space as single spaces, and none beside line breaks, tabs and ends."""
    lines = [[" ".join(part.split()) for part in line.split("\t")] for line in text.split("\n")]
    return "\n".join("\t".join(parts) for parts in lines)

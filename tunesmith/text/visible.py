"""Escapes text from models and data for display, so that it cannot move a cursor, colour a line or be invisible.

Control characters (with them every terminal escape sequence, an operating-system command as well as a lone carriage
return), direction overrides, zero-width characters, variation selectors and tag characters are written as ``\\x1b``,
``\\u202e``, ``\\U000e0041``. Each character is escaped independently, so a stream can be escaped piece by
piece.
"""

from __future__ import annotations

import re

_RANGES = (
    (0x00, 0x08),  # C0 controls except tab and newline
    (0x0B, 0x1F),  # the other C0 controls, among them CR and ESC
    (0x7F, 0x9F),  # DEL and C1 controls: 0x9B and 0x9D begin sequences like ESC [ and ESC ]
    (0xAD, 0xAD),  # soft hyphen
    (0x034F, 0x034F),  # combining grapheme joiner
    (0x061C, 0x061C),  # Arabic letter mark
    (0x115F, 0x1160),  # Hangul fillers: letters without a glyph
    (0x17B4, 0x17B5),  # Khmer inherent vowels, without a glyph
    (0x180B, 0x180F),  # Mongolian variation selectors and vowel separator
    (0x200B, 0x200F),  # zero-width space, joiners, direction marks
    (0x2028, 0x202E),  # line and paragraph separators, direction embeddings and overrides
    (0x2060, 0x206F),  # word joiner, invisible operators, direction isolates
    (0x3164, 0x3164),  # Hangul filler
    (0xD800, 0xDFFF),  # lone surrogates: no stream can encode them
    (0xFE00, 0xFE0D),  # variation selectors except the two for text and emoji style
    (0xFEFF, 0xFEFF),  # byte order mark
    (0xFFA0, 0xFFA0),  # halfwidth Hangul filler
    (0xFFF0, 0xFFFB),  # interlinear annotation
    (0x13430, 0x13440),  # hieroglyph format controls
    (0x1BCA0, 0x1BCA3),  # shorthand format controls
    (0x1D173, 0x1D17A),  # musical format controls
    (0xE0000, 0xE0FFF),  # tag characters and variation selectors
)
_HIDDEN = re.compile("[" + "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in _RANGES) + "]")


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def visible(text: str) -> str:
    """Return ``text`` with every control character and invisible character escaped, except newline and tab."""
    return _HIDDEN.sub(_escape, text)

"""Where a prompt format writes the passage that a message refers to (``Message.context``)."""

from __future__ import annotations

from tunesmith.text.formats.format import Format, TextPiece
from tunesmith.text.tree import Message

_TEXT, _PASSAGE = "\u27e8text\u27e9", "\u27e8passage\u27e9"


def find_passage_label(format: Format) -> str | None:
    """What the format writes between the text of a message and its passage, such as ``Input:``.

    Empty if only white space separates them, as in most chat formats; None if prompts of the format have no passage.
    """
    pieces = format.split(Message("user", _TEXT, context=_PASSAGE), ()).given
    written = format.codec.decode("".join(piece.text for piece in pieces if isinstance(piece, TextPiece)))
    _, _, after = written.partition(_TEXT)
    label, passage, _ = after.partition(_PASSAGE)
    return " ".join(label.split()) if passage else None

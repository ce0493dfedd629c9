"""Every record that a reader of the registry must refuse, with the words of the message, and its good neighbours.

A reader that is new in the registry needs a good row in ``bad_conversations.py`` or ``bad_preferences.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.data.bad_conversations import CONVERSATIONS
from tests.data.bad_preferences import GROUPS, PREFERENCES
from tests.data.shapes import GroupShape, Row, Shape, bad_rows, good_rows

SHAPES: dict[str, Shape] = {**CONVERSATIONS, **PREFERENCES}
SETTINGS: dict[str, Shape | GroupShape] = {**SHAPES, **GROUPS}


@dataclass(frozen=True)
class BadRecord:
    """A row for a reader, and words that the message must hold, all of them."""

    reader: str
    row: Row
    says: tuple[str, ...]


BAD_RECORDS: dict[str, BadRecord] = {
    f"{reader}: {name}": BadRecord(reader, row, says)
    for reader, shape in SHAPES.items()
    for name, row, says in bad_rows(shape)
}
GOOD_RECORDS: dict[str, tuple[str, Row]] = {
    f"{reader}: {name}": (reader, row) for reader, shape in SHAPES.items() for name, row in good_rows(shape)
}

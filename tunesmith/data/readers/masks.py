"""Masks of messages: which turns the data themselves name as those to train on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunesmith.errors import DataError
from tunesmith.text.tree import Message, Role

MASK_KEYS = ("train", "trainable", "loss", "loss_mask", "weight")
"""Keys of a message that say whether it is trained on. ``mask`` is not one of them: it has both meanings in use."""


def check_compared(reply: Message, what: str) -> None:
    """Refuse a reply that is to be compared with another one, although its mask says that it is not trained on.

    what: its name in the message. Raises DataError.
    """
    if reply.trained is False:
        raise DataError(f"{what} is not to be trained on by its mask", advice="a reply is compared or left out; fix it")


def find_mask(turn: Mapping[str, Any], role: Role, place: str) -> bool | None:
    """Whether the data say that a turn is trained on, or None if they say nothing or if it is not a reply.

    turn: the object.
    role: of the turn.
    place: its name, such as ``messages[3]``.
    Raises DataError for a value that is neither of 0 and 1 (or false and true), for keys that contradict each other,
    and for a turn that is not a reply and shall be trained on.
    """
    found: dict[str, bool] = {}
    for key in MASK_KEYS:
        value = turn.get(key)
        if value is None:
            continue
        if type(value) not in (bool, int, float) or value not in (0, 1):
            advice = "a turn is trained on or not; there is nothing between"
            raise DataError(f"{place}: {key} {repr(value)[:40]} is neither 0 nor 1", advice=advice)
        found[key] = bool(value)
    if len(set(found.values())) > 1:
        said = " and ".join(f"{key} {str(value).lower()}" for key, value in found.items())
        raise DataError(f"{place} has {said}", advice="the two contradict each other; remove one")
    if role == "assistant":
        return next(iter(found.values()), None)
    if any(found.values()):
        advice = "only replies are trained on; set it to false, or text.targets to all and remove the masks"
        raise DataError(f"{place} ({role}) has {next(iter(found))} true", advice=advice)
    return None

"""JSON without its traps: what other parsers replace, merge or let through is a fault with a name here.

Refused: NaN, Infinity and numbers that overflow to it, keys that occur twice (also when they differ only in case or in
Unicode compatibility form), lone surrogates, U+0000, more than 64 levels, anything after the value.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from typing import Any

RECORD_LIMIT = 16 * 2**20  # bytes of one record
DEPTH_LIMIT = 64  # levels of lists and objects
SHOWN = 60  # characters of a foreign text in a message

SUSPECT = re.compile(r"\\u(?:[dD][89a-fA-F]|0000)")  # escapes that may be half a character or NUL
BEGINNINGS = ("true", "false", "null", "-", ".", "e+", "e-", "E+", "E-")  # of a value, or of how a number goes on
UNUSABLE = re.compile("[\0\ud800-\udfff]")


class RecordFault(ValueError):
    """What is wrong with one record, and what to do: fragments without the place, which the caller knows."""

    def __init__(self, what: str, advice: str | None = None) -> None:
        super().__init__(what)
        self.what, self.advice = what, advice


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len({unicodedata.normalize("NFKC", key).casefold() for key in result}) < len(pairs):
        seen: dict[str, str] = {}
        for key, _ in pairs:
            folded = unicodedata.normalize("NFKC", key).casefold()
            if folded in seen:
                also = "twice" if seen[folded] == key else f"also as {seen[folded][:SHOWN]!r}"
                raise RecordFault(f"key {key[:SHOWN]!r} occurs {also} in one object", "keep one of the two")
            seen[folded] = key
    return result


def _no_constant(name: str) -> Any:
    raise RecordFault(f"{name} is not a JSON number", "leave the field out, or write null")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise RecordFault(f"number {digits[:40]} is too large", "no number may exceed 1.8e308")
    return number


DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)


def decode_at(text: str, start: int) -> tuple[Any, int]:
    """The value that starts at ``text[start]`` and the index after it. Raises RecordFault or json.JSONDecodeError."""
    try:
        value, end = DECODER.raw_decode(text, start)
    except RecursionError:
        raise RecordFault(f"nested deeper than {DEPTH_LIMIT} levels", "flatten the record") from None
    except ValueError as error:
        if isinstance(error, json.JSONDecodeError | RecordFault):
            raise
        raise RecordFault(
            "a number has more than 4,300 digits", "write it as text"
        ) from None  # Python reads no longer one
    if text.count("[", start, end) + text.count("{", start, end) > DEPTH_LIMIT and depth(value) > DEPTH_LIMIT:
        raise RecordFault(f"nested deeper than {DEPTH_LIMIT} levels", "flatten the record")
    if SUSPECT.search(text, start, end):
        check_texts(value)
    return value, end


def parse_record(text: str) -> dict[str, Any]:
    """One object that fills the whole text. Raises RecordFault, with the column where the syntax breaks."""
    body = text.strip(" \t\r\n")
    shift = text.index(body)
    if body.startswith("["):
        raise RecordFault("the line holds a list, not an object", "if the whole file is one list, name it .json")
    try:
        value, end = decode_at(body, 0)
    except json.JSONDecodeError as error:
        raise syntax_fault(error, f"column {shift + error.pos + 1}") from None
    if not isinstance(value, dict):
        raise RecordFault(f"the line holds {kind(value)}, not an object", "every record is one JSON object")
    if end < len(body):
        if body[end:].lstrip(" \t\r")[0] == "{":
            raise RecordFault("two objects on one line", "put every record on a line of its own")
        raise RecordFault(f"something follows the object (column {shift + end + 1})", "one object a line, nothing else")
    return value


def syntax_fault(error: json.JSONDecodeError, spot: str) -> RecordFault:
    """A fault of syntax in words; what breaks off at the end of the text was cut short. spot: where, for the message."""
    if is_cut(error):
        advice = "a record may not span lines in .jsonl; at the end of a file, it was cut short: fetch it again"
        return RecordFault("the record breaks off in the middle", advice)
    if error.msg.startswith("Invalid control character"):
        code = ord(error.doc[error.pos])
        return RecordFault(f"raw control character U+{code:04X} in a text ({spot})", "escape it, as \\n or \\t")
    return RecordFault(f"not JSON: {error.msg[0].lower()}{error.msg[1:]} ({spot})", "every record is one JSON object")


def is_cut(error: json.JSONDecodeError) -> bool:
    """Whether more text could mend the fault: an open string, or a value or an escape that touches the end."""
    if error.msg.startswith("Unterminated string"):
        return True
    rest = error.doc[error.pos :]
    if error.msg.startswith("Invalid \\"):
        return len(rest) < 6
    return not rest.strip(" \t\r\n") or any(word.startswith(rest) for word in BEGINNINGS)


def kind(value: Any) -> str:
    """What a value is, for messages."""
    names = {type(None): "null", bool: "true or false", str: "text", list: "a list", dict: "an object"}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return "a number" if type(value) in (int, float) else names.get(type(value), type(value).__name__)


def depth(value: Any) -> int:
    """Levels of lists and objects, counted without recursion."""
    level, found = [value], 0
    while level := [item for item in level if isinstance(item, dict | list | tuple)]:
        found += 1
        level = [child for item in level for child in (item.values() if isinstance(item, dict) else item)]
    return found


def check_texts(value: Any) -> None:
    """Refuse half characters and U+0000 in any text or key of a value."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            waiting.extend(item.keys())
            waiting.extend(item.values())
        elif isinstance(item, list | tuple):
            waiting.extend(item)
        elif isinstance(item, str) and (found := UNUSABLE.search(item)):
            if found[0] == "\0":
                raise RecordFault("a text holds U+0000 (NUL)", "remove it; it is never part of text")
            raise RecordFault("a text holds half a character (a lone surrogate \\ud8..)", "write the whole character")


def check_record(value: dict[str, Any]) -> None:
    """The same demands on a record that came from elsewhere than JSON text (parquet, hub). Raises RecordFault."""
    if depth(value) > DEPTH_LIMIT:
        raise RecordFault(f"nested deeper than {DEPTH_LIMIT} levels", "flatten the record")
    waiting: list[Any] = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            _unique([(str(key), None) for key in item])
            waiting.extend(item.values())
        elif isinstance(item, list | tuple):
            waiting.extend(item)
        elif isinstance(item, float) and not math.isfinite(item):
            _no_constant("NaN" if math.isnan(item) else "Infinity" if item > 0 else "-Infinity")
    check_texts(value)

"""Strict JSON: what other parsers replace, merge or accept is an error here.

Refused are NaN, Infinity and numbers that overflow to it, keys that occur twice (also when they differ only in case or
in Unicode compatibility form), lone surrogates, U+0000, more than 64 levels, anything after the value.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Sequence
from datetime import date, time, timedelta
from typing import Any

RECORD_LIMIT = 16 * 2**20  # bytes of one record
DEPTH_LIMIT = 64  # levels of lists and objects
SHOWN_CHARACTERS = 60  # of a text from the data in a message

SUSPECT = re.compile(r"\\u(?:[dD][89a-fA-F]|0000)")  # escapes that may be half a character or NUL
BEGINNINGS = ("true", "false", "null", "-", ".", "e+", "e-", "E+", "E-")  # of a value, or of how a number goes on
INVISIBLE = ("Cf", "Zl", "Zp", "Zs")  # categories of characters that are not seen
UNUSABLE = re.compile("[\0\ud800-\udfff]")
HALF = re.compile("[\ud800-\udfff]")


class RecordError(ValueError):
    """One record cannot be used.

    what: the error, without its place, which the caller adds.
    advice: what to do, or None.
    """

    def __init__(self, what: str, advice: str | None = None) -> None:
        super().__init__(what)
        self.what, self.advice = what, advice


def find_repeated_key(keys: Sequence[str]) -> RecordError | None:
    """The error of a key that occurs twice, also in another case or Unicode form; None if all differ."""
    earlier: dict[str, str] = {}
    for key in keys:
        folded = unicodedata.normalize("NFKC", key).casefold()
        if folded in earlier:
            also = "twice" if earlier[folded] == key else f"also as {earlier[folded][:SHOWN_CHARACTERS]!r}"
            return RecordError(f"key {key[:SHOWN_CHARACTERS]!r} occurs {also} in one object", "keep one of the two")
        earlier[folded] = key
    return None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len({unicodedata.normalize("NFKC", key).casefold() for key in result}) < len(pairs):
        error = find_repeated_key([key for key, _ in pairs])
        assert error is not None, pairs
        raise error
    return result


def _no_constant(name: str) -> Any:
    raise RecordError(f"{name} is not a JSON number", "leave the field out, or write null")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise RecordError(f"number {digits[:40]} is too large", "no number may exceed 1.8e308")
    return number


DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)


def decode_at(text: str, start: int, *, with_nul: bool = False) -> tuple[Any, int]:
    """The value that starts at ``text[start]`` and the index after it.

    with_nul: texts may contain U+0000, which models with byte-level tokenizers can write.
    Raises RecordError or json.JSONDecodeError.
    """
    try:
        value, end = DECODER.raw_decode(text, start)
    except RecursionError:
        raise RecordError(f"nested deeper than {DEPTH_LIMIT} levels", "flatten the record") from None
    except ValueError as error:
        if isinstance(error, json.JSONDecodeError | RecordError):
            raise
        raise RecordError(
            "a number has more than 4,300 digits", "write it as text"
        ) from None  # Python reads no longer one
    if text.count("[", start, end) + text.count("{", start, end) > DEPTH_LIMIT and depth(value) > DEPTH_LIMIT:
        raise RecordError(f"nested deeper than {DEPTH_LIMIT} levels", "flatten the record")
    if SUSPECT.search(text, start, end):
        check_texts(value, with_nul=with_nul)
    return value, end


def parse_record(text: str) -> dict[str, Any]:
    """One object that fills the whole text.

    Raises RecordError, with the column where the syntax breaks.
    """
    body = text.strip(" \t\r\n")
    shift = text.index(body)
    if body.startswith("["):
        raise RecordError("the line is a list, not an object", "if the whole file is one list, name it .json")
    try:
        value, end = decode_at(body, 0)
    except json.JSONDecodeError as error:
        raise syntax_error(error, f"column {shift + error.pos + 1}") from None
    if end < len(body) and (invisible := find_invisible(body[end:].lstrip(" \t\r")[0], f"column {shift + end + 1}")):
        raise invisible
    if not isinstance(value, dict):
        raise RecordError(f"the line is {type_name(value)}, not an object", "every record is one JSON object")
    if end < len(body):
        if body[end:].lstrip(" \t\r")[0] == "{":
            raise RecordError("two objects on one line", "put every record on a separate line")
        what = f"there is text after the object (column {shift + end + 1})"
        raise RecordError(what, "write one object a line and nothing else")
    return value


def syntax_error(error: json.JSONDecodeError, spot: str) -> RecordError:
    """A syntax error in words; text that ends in the middle of a value was truncated.

    spot: where the error is, for the message.
    """
    if is_truncated(error):
        advice = "a record may not span lines in .jsonl; if this is the end of the file, download it again"
        return RecordError("the record breaks off in the middle", advice)
    if error.msg.startswith("Invalid control character"):
        code = ord(error.doc[error.pos])
        return RecordError(f"raw control character U+{code:04X} in a text ({spot})", "escape it, as \\n or \\t")
    if invisible := find_invisible(error.doc[error.pos], spot):
        return invisible
    return RecordError(f"not JSON: {error.msg[0].lower()}{error.msg[1:]} ({spot})", "every record is one JSON object")


def find_invisible(character: str, spot: str) -> RecordError | None:
    """The error of a character outside of texts that nobody sees in an editor, or None if it can be seen.

    spot: where it is, for the message.
    """
    if character in " \t\r\n" or unicodedata.category(character) not in INVISIBLE:
        return None
    name = unicodedata.name(character, "no name").lower()
    what = f"invisible character U+{ord(character):04X} ({name}) outside of texts ({spot})"
    if character == "\ufeff":
        what = f"the invisible mark U+FEFF ({spot}), which some programs write at the beginning of a file or line"
    return RecordError(what, "remove it; it may come from joining files or from copying out of a document")


def is_truncated(error: json.JSONDecodeError) -> bool:
    """Whether the error could be due to missing text: an open string, or a value or an escape that touches the end."""
    if error.msg.startswith("Unterminated string"):
        return True
    rest = error.doc[error.pos :]
    if error.msg.startswith("Invalid \\"):
        return len(rest) < 6
    return not rest.strip(" \t\r\n") or any(word.startswith(rest) for word in BEGINNINGS)


def type_name(value: Any) -> str:
    """The type of a value in words, for messages."""
    names = {type(None): "null", bool: "true or false", str: "text", list: "a list", dict: "an object"}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, date | time | timedelta):
        return "a date or time"
    return "a number" if type(value) in (int, float) else names.get(type(value), type(value).__name__)


def depth(value: Any) -> int:
    """Levels of lists and objects, counted without recursion."""
    level, found = [value], 0
    while level := [item for item in level if isinstance(item, dict | list | tuple)]:
        found += 1
        level = [child for item in level for child in (item.values() if isinstance(item, dict) else item)]
    return found


def check_texts(value: Any, *, with_nul: bool = False) -> None:
    """Refuse half characters and, but for ``with_nul``, U+0000 in any text or key of a value. Raises RecordError."""
    unusable = HALF if with_nul else UNUSABLE
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            waiting.extend(item.keys())
            waiting.extend(item.values())
        elif isinstance(item, list | tuple):
            waiting.extend(item)
        elif isinstance(item, str) and (found := unusable.search(item)):
            if found[0] == "\0":
                raise RecordError("a text has U+0000 (NUL) in it", "remove it; it is never part of text")
            raise RecordError(
                "a text has half a character in it (a lone surrogate \\ud8..)", "write the whole character"
            )


def check_record(value: dict[str, Any]) -> None:
    """Apply the same rules to a record that did not come from JSON text (parquet, hub). Raises RecordError."""
    if depth(value) > DEPTH_LIMIT:
        raise RecordError(f"nested deeper than {DEPTH_LIMIT} levels", "flatten the record")
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

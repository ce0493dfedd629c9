"""What a foreign tokenizer.json may hold: types, sizes, and parts whose work grows with the length of the text only.

The tokenizers library checks much of this itself, but some values end the process there, and others make it take memory
or time without end: normalizers that each make a text longer, and patterns that are searched in exponential time.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from tunesmith.errors import DataError
from tunesmith.files import DEEPEST, is_deep

ADVICE = "fetch the tokenizer again"
MOST_TOKENS = 1 << 22
MOST_ADDED = 1 << 17
LONGEST_TOKEN = 4_096  # characters
MOST_PARTS = 200  # normalizers, pre-tokenizers and decoders
MOST_GROWTH = 64  # times that all normalizers, or all decoders, may make a text longer
LONGEST_PATTERN = 20_000
PARTS = {"normalizer": "normalizers", "pre_tokenizer": "pretokenizers", "decoder": "decoders"}
FLAGS = ("special", "single_word", "lstrip", "rstrip", "normalized")
UNBOUNDED = re.compile(r"[*+]|\{\d*,\}")
COUNTED = re.compile(r"\{(\d*),?(\d*)\}")
MOST_REPEATED, FEW = 1_000, 10
MOST_ENDLESS = 3
PROBE = "a A1,  \n_b"
REFERENCE = re.compile(r"\\([1-9]|[gk]<)")


def check_tokenizer(content: Mapping[str, Any], where: Path) -> None:
    """Raises DataError, with the key, for a value that no tokenizer.json may have."""

    def refuse(what: str) -> DataError:
        return DataError(what, where=where, advice=ADVICE)

    if (fault := _find_vocabulary_fault(content.get("model"))) is not None:
        raise refuse(fault)
    if (fault := _find_added_fault(content.get("added_tokens"))) is not None:
        raise refuse(fault)
    for key in (*PARTS, "post_processor"):
        if is_deep(content.get(key)):
            raise refuse(f"{key!r} has parts more than {DEEPEST} deep in each other")
    for key, inner in PARTS.items():
        parts = [*_parts(content.get(key), inner)]
        if len(parts) > MOST_PARTS:
            raise refuse(f"{key!r} has more than {MOST_PARTS} parts")
        for part in parts:
            if (fault := _find_part_fault(part)) is not None:
                raise refuse(f"{key!r} {fault}")
        if key != "pre_tokenizer" and math.prod(map(_growth, parts)) > MOST_GROWTH:
            raise refuse(f"{key!r} makes a text more than {MOST_GROWTH} times as long")


def _find_vocabulary_fault(model: Any) -> str | None:
    """What is wrong with the vocabulary of a model, or None."""
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict | list) or not model["vocab"]:
        return "a tokenizer without a vocabulary"
    vocabulary = model["vocab"]
    if len(vocabulary) > MOST_TOKENS:
        return f"'model.vocab' has more than {MOST_TOKENS:,} tokens"
    if isinstance(vocabulary, dict):
        for token, number in vocabulary.items():
            if type(number) is not int or not 0 <= number < MOST_TOKENS:
                return f"'model.vocab' has the id {_shown(number)} for {_shown(token)}, which is no number of a token"
    else:
        for entry in vocabulary:
            if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[0], str):
                return f"'model.vocab' has the entry {_shown(entry)}, which is not a token with a number"
            if type(entry[1]) not in (int, float) or not math.isfinite(entry[1]) or abs(entry[1]) > 1e30:
                return f"'model.vocab' has the entry {_shown(entry)}, whose number is not finite"
    for key in ("unk_token", "continuing_subword_prefix", "end_of_word_suffix", "type"):
        if not isinstance(model.get(key), str | None):
            return f"'model.{key}' is {_shown(model[key])}, but must be text"
    unknown = model.get("unk_id")
    if unknown is not None and (type(unknown) is not int or not 0 <= unknown < len(vocabulary)):
        return f"'model.unk_id' is {_shown(unknown)}, but must be the number of a token"
    for key in ("continuing_subword_prefix", "end_of_word_suffix"):
        if len(model.get(key) or "") > LONGEST_TOKEN:
            return f"'model.{key}' has more than {LONGEST_TOKEN:,} characters"
    return None


def _find_added_fault(tokens: Any) -> str | None:
    """What is wrong with the added tokens, or None."""
    if tokens is None:
        return None
    if not isinstance(tokens, list) or len(tokens) > MOST_ADDED:
        return f"'added_tokens' is not a list of at most {MOST_ADDED:,} tokens"
    for token in tokens:
        text, number = (token.get(key) if isinstance(token, dict) else None for key in ("content", "id"))
        if not isinstance(text, str) or not 0 < len(text) <= LONGEST_TOKEN:
            return f"'added_tokens' has {_shown(token)}, whose 'content' is not the text of a token"
        if type(number) is not int or not 0 <= number < MOST_TOKENS:
            return f"'added_tokens' has {_shown(text)} with the 'id' {_shown(number)}, which is no number of a token"
        for key in FLAGS:
            if not isinstance(token.get(key, False), bool):
                return f"'added_tokens' has {_shown(text)}, whose {key!r} is not true or false"
    return None


def _parts(part: Any, inner: str) -> Iterator[Any]:
    """All parts of a normalizer, pre-tokenizer or decoder, in their order."""
    if part is None:
        return
    yield part
    if isinstance(part, dict) and isinstance(part.get(inner), list):
        for each in part[inner]:
            yield from _parts(each, inner)


def _find_part_fault(part: Any) -> str | None:
    """What is wrong with one part, as the end of a sentence, or None."""
    if not isinstance(part, dict) or not isinstance(part.get("type"), str):
        return f"has a part {_shown(part)} without a type"
    for key, value in part.items():
        if isinstance(value, str) and key not in ("precompiled_charsmap", "pattern") and len(value) > LONGEST_TOKEN:
            return f"has the text {key!r} with more than {LONGEST_TOKEN:,} characters"
    if "precompiled_charsmap" in part and not _is_charsmap(part["precompiled_charsmap"]):
        return "has a map of characters that is damaged"
    pattern = part.get("pattern")
    regex = pattern.get("Regex") if isinstance(pattern, dict) else None
    fault = find_pattern_fault(regex) if isinstance(regex, str) else None
    if fault is None and part["type"] == "Replace" and isinstance(regex, str) and _matches_nothing(regex):
        fault = "matches places without a character"
    return None if fault is None else f"has the pattern {_shown(regex)}, which {fault}"


def _matches_nothing(pattern: str) -> bool:
    """Whether a pattern matches between characters, after which the library loses count of them.

    Each match is replaced by one character, so only such matches make a text longer.
    """
    try:
        found = tokenizers.normalizers.Replace(tokenizers.Regex(pattern), "x").normalize_str(PROBE)
    except Exception:  # no pattern; the library says so when it reads the whole file
        return False
    return len(found) > len(PROBE)


def _growth(part: Mapping[str, Any]) -> float:
    """How many times as long a part may make a text; what it adds once is limited by ``LONGEST_TOKEN``."""
    if part.get("type") in ("Replace", "ByteLevel", "Precompiled"):
        pattern, content = part.get("pattern"), part.get("content", "")
        found = len(pattern["String"]) if isinstance(pattern, dict) and isinstance(pattern.get("String"), str) else 1
        return max(1.0, len(content) / max(found, 1)) if isinstance(content, str) else 1.0
    return 1.0


@dataclass(slots=True)
class PatternGroup:
    """An open group of a regular expression.

    endless: how many things repeat without end in the current alternative, and most: in any alternative before it.
    is_ambiguous: whether the group holds alternatives, or anything that repeats without end.
    """

    endless: int = 0
    most: int = 0
    is_ambiguous: bool = False

    def end_alternative(self) -> None:
        self.endless, self.most = 0, max(self.endless, self.most)


def find_pattern_fault(pattern: str) -> str | None:
    """What is wrong with a regular expression, as the end of a sentence; None for one that may be searched for.

    A group that repeats and holds alternatives or something that repeats without end can match in exponentially many
    ways, and several things in a row that repeat without end in a high power of the length. Tokenizers need neither.
    """
    if len(pattern) > LONGEST_PATTERN:
        return "is too long"
    groups, place = [PatternGroup()], 0
    while place < len(pattern):
        mark = pattern[place]
        if mark == "\\":
            if REFERENCE.match(pattern, place):
                return "refers to what another part has matched"
            place += 2
            continue
        if mark == "[":
            place = _end_of_class(pattern, place)
            continue
        if mark == "(":
            groups.append(PatternGroup())
        elif mark == "|":
            groups[-1].end_alternative()
            groups[-1].is_ambiguous = True
        elif mark == ")" and len(groups) > 1:
            inner = groups.pop()
            inner.end_alternative()
            if inner.is_ambiguous and _repeats(pattern, place + 1):
                return "repeats a group that matches in many ways"
            groups[-1].endless += inner.most
            groups[-1].is_ambiguous |= inner.is_ambiguous
        elif UNBOUNDED.match(pattern, place):
            groups[-1].endless += 1
            groups[-1].is_ambiguous = True
        if max(groups[-1].endless, groups[-1].most) > MOST_ENDLESS:
            return f"repeats more than {MOST_ENDLESS} things in a row without end"
        if mark == "{" and any(number > MOST_REPEATED for number in _counts(pattern, place)):
            return f"repeats something more than {MOST_REPEATED:,} times"
        if len(groups) > DEEPEST:
            return f"has groups more than {DEEPEST} deep in each other"
        place += 1
    return None


def _repeats(pattern: str, place: int) -> bool:
    """Whether the group that ends before a place repeats, without end or often."""
    return UNBOUNDED.match(pattern, place) is not None or any(number > FEW for number in _counts(pattern, place))


def _counts(pattern: str, place: int) -> list[int]:
    """The numbers of ``{2}`` or ``{2,5}`` at a place; none for anything else."""
    found = COUNTED.match(pattern, place)
    return [int(number[:9]) for number in found.groups() if number] if found is not None else []


def _end_of_class(pattern: str, start: int) -> int:
    """The place after a class of characters, which may hold other classes."""
    depth, place = 1, start + 1
    while place < len(pattern) and depth:
        mark = pattern[place]
        depth += {"[": 1, "]": -1}.get(mark, 0)
        place += 2 if mark == "\\" else 1
    return place


def _is_charsmap(text: Any) -> bool:
    """Whether a map of characters (a double array of sentencepiece, with the texts) only leads to places inside of it.

    A node at ``p`` with offset ``o`` leads to ``p ^ o ^ byte``; a leaf holds the place of a text that ends with a zero.
    """
    try:
        content = base64.b64decode(text, validate=True)
    except (TypeError, ValueError):
        return False
    size = int.from_bytes(content[:4], "little")
    if size % 4 or not 0 < size <= len(content) - 4:
        return False
    units = np.frombuffer(content[4 : 4 + size], "<u4").astype(np.int64)
    texts = content[4 + size :]
    try:
        texts.decode()
    except UnicodeDecodeError:
        return False
    is_leaf = (units >> 31).astype(bool)
    offsets = (units >> 10) << ((units & (1 << 9)) >> 6)
    reached = (np.arange(len(units)) ^ offsets) | 0xFF
    starts = units[is_leaf] & ((1 << 31) - 1)
    if (reached[~is_leaf] >= len(units)).any() or (starts >= max(len(texts), 1)).any():
        return False
    heads = np.frombuffer(texts, np.uint8)[starts] if len(starts) and texts else np.zeros(0, np.uint8)
    return not ((heads & 0xC0) == 0x80).any()


def _shown(value: Any) -> str:
    text = repr(value) if not isinstance(value, list | dict) else repr(value)[:80]
    return text if len(text) <= 60 else f"{text[:57]}..."

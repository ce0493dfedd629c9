"""A foreign tokenizer.json is refused with its key before the library sees what it cannot bear."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.campaigns.hostile_texts import CHANGES
from tests.text.small_tokenizers import byte_level, prefixed, t5_like, write_tokenizer
from tunesmith.errors import DataError, TunesmithError
from tunesmith.text.tokenizer.checks import check_tokenizer, find_pattern_fault
from tunesmith.text.tokenizer.definition import read_chat_template, read_definition
from tunesmith.text.tokenizer.tokenizer import Tokenizer

USUAL_PATTERNS = (
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{M}]*[\p{Ll}\p{M}]+(?i:'s|'t)?|\p{N}{1,3}| ?[^\s\p{L}]+[\r\n/]*|\s+",
    r"\d{1,3}(?=(?:\d{3})*\b)",
    r" ?[^(\s|[.,!?…])]+",
    r"[!-/:-~][A-Za-z]+|[^\r\n\p{L}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+",
)
"""Of GPT-2, Llama 3, GPT-4o, of digits, and in the style of BLOOM and DeepSeek."""


@pytest.mark.parametrize("pattern", USUAL_PATTERNS)
def test_patterns_of_known_tokenizers_are_accepted(pattern: str) -> None:
    assert find_pattern_fault(pattern) is None


@pytest.mark.parametrize(
    ("pattern", "fault"),
    [
        ("(a+)+$", "matches in many ways"),
        ("(a|a)*$", "matches in many ways"),
        ("((a*)*)*b", "matches in many ways"),
        ("(?=(a+){20})", "matches in many ways"),
        ("(.)\\1*", "refers to what another part has matched"),
        (".*.*.*.*x", "repeats more than 3 things in a row"),
        ("a{99999999}", "more than 1,000 times"),
        ("(" * 100 + ")" * 100, "deep in each other"),
        ("a" * 30_000, "too long"),
    ],
)
def test_patterns_that_may_take_for_ever_are_refused(pattern: str, fault: str) -> None:
    assert fault in (find_pattern_fault(pattern) or "")


def _double(count: int) -> dict[str, Any]:
    part = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
    return {"type": "Sequence", "normalizers": [part] * count}


def _charsmap(*units: int, texts: bytes = b"x\x00") -> dict[str, Any]:
    array = b"".join(unit.to_bytes(4, "little") for unit in units)
    content = len(array).to_bytes(4, "little") + array + texts
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(content).decode()}


REFUSED: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "growth": (lambda content: content.update(normalizer=_double(7)), "'normalizer' makes a text more than 64 times"),
    "many parts": (lambda content: content.update(normalizer=_double(201)), "more than 200 parts"),
    "a part that is text": (lambda content: content.update(decoder="x"), "'decoder' has a part 'x' without a type"),
    "pattern without a character": (
        lambda content: content.update(normalizer={"type": "Replace", "pattern": {"Regex": "\\b"}, "content": "x"}),
        "matches places without a character",
    ),
    "id as text": (lambda content: content.update(added_tokens=[{"id": "7", "content": "a"}]), "with the 'id' '7'"),
    "no id": (lambda content: content.update(added_tokens=[{"content": "a"}]), "with the 'id' None"),
    "huge id": (
        lambda content: content.update(added_tokens=[{"id": 2**32 - 1, "content": "a"}]),
        "no number of a token",
    ),
    "no text": (lambda content: content.update(added_tokens=[{"id": 7}]), "'content' is not the text of a token"),
    "id of the vocabulary": (lambda content: content["model"]["vocab"].update(a="7"), "has the id '7' for 'a'"),
    "unknown token": (lambda content: content["model"].update(unk_token={}), "'model.unk_token' is {}"),
    "number of the unknown token": (lambda content: content["model"].update(unk_id=2**63), "'model.unk_id'"),
    "empty map": (lambda content: content.update(normalizer=_charsmap()), "a map of characters that is damaged"),
    "map that leaves it": (lambda content: content.update(normalizer=_charsmap(1 << 30)), "that is damaged"),
    "text of the map": (lambda content: content.update(normalizer=_charsmap(*[1 << 31 | 9] * 256)), "that is damaged"),
    "no model": (lambda content: content.update(model=[]), "a tokenizer without a vocabulary"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_library_cannot_bear_is_refused_with_its_key(name: str) -> None:
    content = json.loads(json.dumps(byte_level()))
    change, what = REFUSED[name]
    change(content)
    with pytest.raises(DataError) as caught:
        check_tokenizer(content, Path("tokenizer.json"))
    assert what in str(caught.value)


def test_a_sound_map_of_characters_is_accepted() -> None:
    check_tokenizer({**byte_level(), "normalizer": _charsmap(*[0] * 256)}, Path("tokenizer.json"))


def test_any_change_loads_or_is_one_line(tmp_path: Path) -> None:
    refusals: list[str] = []
    for number in range(30):
        draw = random.Random(number)
        content = json.loads(json.dumps(draw.choice((byte_level, prefixed, t5_like))()))
        draw.choice(CHANGES)(draw, content)
        write_tokenizer(tmp_path, content, eos="</s>")
        try:
            tokenizer = Tokenizer.load(str(tmp_path))
            tokenizer.decode(tokenizer.encode("Say red, aaaaaaaaaaaaaaaaa! Äß ﬁ\n"))
        except TunesmithError as error:
            refusals.append(str(error))
    assert len(refusals) > 10
    assert not any("\n" in each for each in refusals)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"])
def test_a_link_out_of_the_directory_is_not_followed(name: str, tmp_path: Path) -> None:
    directory = write_tokenizer(tmp_path / "tokenizer", byte_level())
    (tmp_path / "outside").write_text("{}")
    (directory / name).unlink(missing_ok=True)
    (directory / name).symlink_to("../outside")
    with pytest.raises(DataError, match="a link to a file outside"):
        (read_chat_template if name.endswith("jinja") else read_definition)(directory)

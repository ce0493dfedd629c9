"""The vocabulary of a tokenizer.json in the terms of llama.cpp, for the two kinds that both split in the same way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Literal

from tunesmith.errors import DataError

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
PREFIXED = [
    {"type": "Prepend", "prepend": "▁"},
    {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
]
NO_MERGE = -1e6


class TokenKind(IntEnum):
    """``llama_token_type`` of llama.cpp."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class GgufVocabulary:
    """The tokens of a model, by id.

    model: ``tokenizer.ggml.model``: byte-level BPE (gpt2), or BPE of characters with bytes where they are missing
        (llama).
    tokens: their texts; rows of the embedding without a token have a name in brackets.
    kinds: what each is.
    scores: for llama, minus the number of the merge that makes a token.
    merges: for gpt2, pairs with a space between.
    """

    model: Literal["gpt2", "llama"]
    tokens: Sequence[str]
    kinds: Sequence[TokenKind]
    scores: Sequence[float]
    merges: Sequence[str]


def read_vocabulary(definition: Mapping[str, Any], rows: int, where: Path) -> GgufVocabulary:
    """The vocabulary of a tokenizer.

    definition: content of tokenizer.json.
    rows: of the embedding of the model.
    where: the file, for errors.
    Raises DataError for a tokenizer that llama.cpp would not split texts like.
    """
    model, added = definition["model"], {int(each["id"]): each for each in definition["added_tokens"]}
    name = _find_model(definition)
    if name is None:
        raise DataError(
            "llama.cpp does not split texts like this tokenizer",
            where=where,
            advice="GGUF files are written for the tokenizers of GPT-2, GPT-NeoX and Llama 2",
        )
    texts = {int(number): str(text) for text, number in model["vocab"].items()}
    texts |= {number: str(each["content"]) for number, each in added.items()}
    unknown = model["vocab"].get(model.get("unk_token"))
    kinds = []
    for number in range(rows):
        if number == unknown:
            kinds.append(TokenKind.UNKNOWN)
        elif number in added:
            kinds.append(TokenKind.CONTROL if added[number]["special"] else TokenKind.USER_DEFINED)
        elif name == "llama" and _is_byte(texts.get(number, "")):
            kinds.append(TokenKind.BYTE)
        else:
            kinds.append(TokenKind.NORMAL if number in texts else TokenKind.UNUSED)
    merges = [each if isinstance(each, str) else " ".join(each) for each in model["merges"]]
    first: dict[str, int] = {}
    for number, merge in enumerate(merges):
        first.setdefault(merge.replace(" ", ""), number)
    tokens = [texts.get(number, f"[unused {number}]") for number in range(rows)]
    scores = [float(-first[text]) if text in first else NO_MERGE for text in tokens]
    return GgufVocabulary(name, tokens, kinds, scores if name == "llama" else (), merges if name == "gpt2" else ())


def _find_model(definition: Mapping[str, Any]) -> Literal["gpt2", "llama"] | None:
    """Which of the kinds of llama.cpp a tokenizer is.

    llama.cpp has no Unicode normalization; a tokenizer with NFC gives the same ids for texts that are normalized.
    """
    model, normalizer, splitter = (definition.get(key) or {} for key in ("model", "normalizer", "pre_tokenizer"))
    if model.get("type") != "BPE" or model.get("ignore_merges"):
        return None
    if model.get("byte_fallback"):
        return "llama" if normalizer.get("normalizers") == PREFIXED and not splitter else None
    plain = normalizer.get("type") in (None, "NFC")
    return "gpt2" if plain and {key: splitter.get(key) for key in BYTE_LEVEL} == BYTE_LEVEL else None


def _is_byte(text: str) -> bool:
    """Whether a token is one byte: <0x0A>."""
    return len(text) == 6 and text.startswith("<0x") and text.endswith(">")

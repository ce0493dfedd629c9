"""Log-probabilities in the two shapes of OpenAI's API."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tunesmith.generate.row_sampler import TokenLogProbability
from tunesmith.serve.engine.jobs import ReplyToken
from tunesmith.serve.openai.token_texts import TokenTexts

LEAST = -9999.0
"""OpenAI's number for a token that is too unlikely for a log-probability; JSON has no infinity."""


def chat_log_probabilities(texts: TokenTexts, tokens: Sequence[ReplyToken]) -> dict[str, Any]:
    """``logprobs`` of a chat completion, or of a chunk of one."""
    content = []
    for token in tokens:
        found = token.log_probability
        assert found is not None, "the request asked for log-probabilities"
        top = [_entry(texts, *pair) for pair in found.alternatives]
        content.append({**_entry(texts, token.id, found.chosen), "top_logprobs": top})
    return {"content": content, "refusal": None}


def _entry(texts: TokenTexts, token: int, value: float) -> dict[str, Any]:
    return {"token": texts.text(token), "logprob": max(LEAST, value), "bytes": texts.bytes(token)}


@dataclass(slots=True)
class LegacyLogProbabilities:
    """``logprobs`` of a text completion, token by token.

    texts: the vocabulary.
    offset: the number of characters before the next token.
    """

    texts: TokenTexts
    offset: int = 0
    tokens: list[str] = field(default_factory=list)
    values: list[float | None] = field(default_factory=list)
    alternatives: list[dict[str, float] | None] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)

    def add(self, token: int, found: TokenLogProbability | None) -> None:
        """Append a token; the first one of a prompt has no log-probability."""
        text = self.texts.legacy(token)
        self.tokens.append(text)
        self.offsets.append(self.offset)
        self.offset += len(self.texts.text(token))
        self.values.append(None if found is None else max(LEAST, found.chosen))
        top: dict[str, float] = {}
        for other, value in () if found is None else found.alternatives:
            name = self.texts.legacy(other)
            top[name] = max(LEAST, value, top.get(name, LEAST))
        self.alternatives.append(None if found is None else top)

    def take(self) -> dict[str, Any]:
        """What was appended since the last call."""
        found = {
            "tokens": self.tokens,
            "token_logprobs": self.values,
            "top_logprobs": self.alternatives,
            "text_offset": self.offsets,
        }
        self.tokens, self.values, self.alternatives, self.offsets = [], [], [], []
        return found

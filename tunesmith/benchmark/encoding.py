"""From the texts of a task to token ids: as they are, like lm-evaluation-harness does, or as messages of a chat."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from transformers import PreTrainedTokenizerBase

from tunesmith.errors import DataError
from tunesmith.text.formats.format import Control, Format
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tree import Message

Ids: TypeAlias = tuple[int, ...]


class Encoder(Protocol):
    """How the texts of a task become token ids."""

    def pairs(self, texts: Sequence[tuple[str, str]]) -> list[tuple[Ids, Ids]]:
        """(ids of the context, ids of the continuation) of every pair of texts, both not empty. Raises DataError."""
        ...

    def prompts(self, contexts: Sequence[str]) -> list[Ids]:
        """The ids after which a reply is generated, of every context. Raises DataError."""
        ...

    def text(self, ids: Sequence[int]) -> str:
        """The text of a generated reply, without special tokens."""
        ...


@dataclass(frozen=True, slots=True)
class PlainEncoder:
    """Texts as they are, in the way of lm-evaluation-harness (``TemplateLM`` and ``HFLM``), many at a time.

    A causal model gets context and continuation encoded as one text, which is divided where the context alone ends.
    Spaces at the end of a context belong to the continuation. The tokenizer adds the tokens that it adds by itself.

    tokenizer: of transformers.
    prefix: the token id in place of an empty context: bos, or else eos.
    is_encoder_decoder: context and continuation are encoded separately.
    """

    tokenizer: PreTrainedTokenizerBase
    prefix: int
    is_encoder_decoder: bool = False

    def pairs(self, texts: Sequence[tuple[str, str]]) -> list[tuple[Ids, Ids]]:
        """See ``Encoder``."""
        moved = [_move_spaces(context, continuation) for context, continuation in texts]
        begun = [(context, continuation) for context, continuation in moved if context]
        contexts = self._encode_distinct([context for context, _ in begun])
        if self.is_encoder_decoder:
            parts = self._encode_distinct([continuation for _, continuation in begun], special=False)
        else:
            parts = self._encode_distinct([context + continuation for context, continuation in begun])
        alone = self._encode_distinct([continuation for context, continuation in moved if not context], special=False)
        found = []
        for context, continuation in moved:
            if not context:
                before, after = self._after_nothing(alone[continuation])
            elif self.is_encoder_decoder:
                before, after = contexts[context] or (self.prefix,), parts[continuation]
            else:
                # The harness takes the context alone, also where its last token is another one in the whole text.
                before = contexts[context]
                after = parts[context + continuation][len(before) :]
                before = before or (self.prefix,)
            _check_not_empty(after, continuation)
            found.append((before, after))
        return found

    def prompts(self, contexts: Sequence[str]) -> list[Ids]:
        """See ``Encoder``."""
        found = self._encode_distinct(contexts)
        return [found[context] or (self.prefix,) for context in contexts]

    def text(self, ids: Sequence[int]) -> str:
        """See ``Encoder``."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def _after_nothing(self, continuation: Ids) -> tuple[Ids, Ids]:
        if continuation[:1] == (self.prefix,):
            return continuation[:1], continuation[1:]
        return (self.prefix,), continuation

    def _encode_distinct(self, texts: Sequence[str], *, special: bool = True) -> dict[str, Ids]:
        """The ids of every text. A text that begins with the prefix token written out does not get it twice."""
        begin = str(self.tokenizer.decode([self.prefix]))
        found: dict[str, Ids] = {}
        for adds in (False, True):
            chosen = [text for text in dict.fromkeys(texts) if (special and not text.startswith(begin)) is adds]
            if chosen:
                encoded = self.tokenizer(
                    chosen, add_special_tokens=adds, return_attention_mask=False, return_token_type_ids=False
                )["input_ids"]
                found.update(zip(chosen, map(tuple, encoded), strict=True))
        return found


class ChatEncoder:
    """Contexts are lists of messages in JSON, which the renderer of the model writes; answers are text of a reply.

    Control tokens enter by id, and an answer is encoded as the text that the model produces, without its end token.
    A system message is joined to the first message where the format has no place for it.

    renderer: prompt format and tokenizer.
    """

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer
        self._prompts: dict[str, tuple[Ids, tuple[Message, ...], str]] = {}

    def pairs(self, texts: Sequence[tuple[str, str]]) -> list[tuple[Ids, Ids]]:
        """See ``Encoder``."""
        format, written = self._renderer.format, list[str]()
        opened = [self._open(context) for context, _ in texts]
        for (_, messages, begun), (_, answer) in zip(opened, texts, strict=True):
            written += [produced_text(format, messages, begun + answer), produced_text(format, messages, begun)]
        encoded = self._renderer.tokenizer.encode_many(written, continuing=format.reply_continues_text)
        found = []
        for index, ((prompt, _, begun), (_, answer)) in enumerate(zip(opened, texts, strict=True)):
            whole = tuple(encoded[2 * index])
            size = len(encoded[2 * index + 1]) if begun else 0
            _check_not_empty(whole[size:], answer)
            found.append((prompt + whole[:size], whole[size:]))
        return found

    def prompts(self, contexts: Sequence[str]) -> list[Ids]:
        """See ``Encoder``."""
        format, tokenizer = self._renderer.format, self._renderer.tokenizer
        found = []
        for prompt, messages, begun in map(self._open, contexts):
            text = produced_text(format, messages, begun) if begun else ""
            found.append(prompt + tuple(tokenizer.encode(text, continuing=format.reply_continues_text)))
        return found

    def text(self, ids: Sequence[int]) -> str:
        """See ``Encoder``."""
        return self._renderer.parse(ids).text

    def _open(self, context: str) -> tuple[Ids, tuple[Message, ...], str]:
        """(ids of the prompt, its messages, the text that the reply begins with) of a context."""
        if context not in self._prompts:
            messages = read_messages(context)
            begun = ""
            if messages and messages[-1].role == "assistant":
                *messages, last = messages
                begun = last.text
            shown = tuple(_without_system(messages, self._renderer.format))
            self._prompts[context] = (tuple(self._renderer.prompt(shown)), shown, begun)
        return self._prompts[context]


def write_messages(messages: Sequence[dict[str, Any]]) -> str:
    """The context of a chat: the messages in JSON."""
    return json.dumps([{"role": each["role"], "content": each["content"]} for each in messages], ensure_ascii=False)


def read_messages(context: str) -> list[Message]:
    """The messages of ``write_messages``."""
    return [Message(each["role"], each["content"]) for each in json.loads(context)]


def produced_text(format: Format, messages: Sequence[Message], answer: str) -> str:
    """The text that a model produces for an answer, up to its last character: without what the format adds after it."""
    if not answer:
        return ""
    produced = ""
    for piece in format.split(Message("assistant", answer), tuple(messages)).produced:
        if isinstance(piece, Control):
            break
        produced += piece.text
    for written in (format.codec.encode(answer), format.codec.encode(answer).strip()):
        if written and written in produced:
            return produced[: produced.index(written) + len(written)]
    return produced


def _without_system(messages: Sequence[Message], format: Format) -> list[Message]:
    """The messages, with a leading system message joined to the next one where the format has no place for it."""
    if len(messages) < 2 or messages[0].role != "system" or "system" in format.next_roles.get(None, ()):
        return list(messages)
    system, first, *others = messages
    return [Message(first.role, f"{system.text.rstrip()}\n\n{first.text}"), *others]


def _move_spaces(context: str, continuation: str) -> tuple[str, str]:
    """White space at the end of a context becomes the beginning of the continuation."""
    kept = context.rstrip()
    return kept, context[len(kept) :] + continuation


def _check_not_empty(ids: Ids, continuation: str) -> None:
    if not ids:
        what = f"the answer {continuation[:40]!r} has no tokens after those of its question"
        raise DataError(what, advice="use another tokenizer, or leave the task out")

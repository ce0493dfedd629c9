"""Replies to conversations: one at a time as a stream, or many at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from transformers import PreTrainedModel

from tunesmith.errors import DataError
from tunesmith.generate.decoding import CausalRows, Rows, StoppingCriteria, decode
from tunesmith.generate.encoder_decoder import EncoderDecoderRows
from tunesmith.generate.sampling import Sampling
from tunesmith.model.context import NO_LIMIT, context_length
from tunesmith.text.formats.registry import ENCODER_DECODER
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tree import Message

End = Literal["stop", "length", "context"]

ROOM_FOR_REPLY = 4  # old turns are dropped until the reply has this fraction of the context, if it may be that long
TRAINED_WITH = "use the prompt format that the model was trained with"


@dataclass(frozen=True, slots=True)
class Delta:
    """A further piece of a reply. ids: the tokens that were generated since the last piece. end: set on the last piece:
    the model ended its turn (stop), the reply was cut at ``max_new_tokens`` (length) or at the end of the context."""

    text: str
    ids: tuple[int, ...]
    end: End | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """text: without stop tokens. ids: all that was generated, the stop token included. stopped: whether the model ended
    its turn itself. dropped: the number of old messages that the prompt had no room for."""

    text: str
    ids: tuple[int, ...]
    stopped: bool
    dropped: int = 0

    @property
    def tokens(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model gets to read. messages: those that remain. dropped: how many old ones do not."""

    ids: tuple[int, ...]
    messages: tuple[Message, ...]
    dropped: int


class Engine:
    """A model in evaluation mode with the renderer of its prompt format: a causal one, or an encoder-decoder.

    context: how many tokens prompt and reply may have together; by default what the model's configuration says. Of an
    encoder-decoder it is the longest input, which is cut on the right as in training; replies end at ``max_new_tokens``.
    Raises DataError if the model has fewer embedding rows than the tokenizer has ids, or the format is for the other kind.
    """

    def __init__(self, model: PreTrainedModel, renderer: Renderer, context: int | None = None) -> None:
        self.model, self.renderer = model, renderer
        self.context: int = context or context_length(model.config) or NO_LIMIT
        self._encodes = bool(model.config.is_encoder_decoder)
        rows, needed = int(model.config.vocab_size), renderer.tokenizer.size
        if needed > rows:
            raise DataError(
                f"prompt format and tokenizer need {needed} token ids, the model has {rows}", advice=TRAINED_WITH
            )
        if self._encodes != (renderer.format.name in ENCODER_DECODER):
            kinds = ("an encoder-decoder", "a causal model")
            mine, other = kinds if self._encodes else kinds[::-1]
            what = f"the model is {mine}, but prompt format {renderer.format.name!r} is for {other}"
            raise DataError(what, advice=TRAINED_WITH)

    def rows(self) -> Rows:
        """An empty cache. Given to every ``stream`` of a conversation, it saves reading the shared beginning again."""
        return EncoderDecoderRows(self.model) if self._encodes else CausalRows(self.model)

    def prompt(self, messages: Sequence[Message], sampling: Sampling) -> Prompt:
        """Render a conversation that awaits a reply; where it is too long, drop its oldest turns but not a leading system message.

        Turns go until a reply of ``max_new_tokens``, or of a quarter of the context if that is less, has room.
        Raises DataError if the last turn alone fills the context. What an encoder reads loses its end instead, but for the
        end token, and there is always room for a reply.
        """
        if self._encodes:
            ids = tuple(self.renderer.prompt(messages))
            shorter = ids if len(ids) <= self.context else (*ids[: self.context - 1], ids[-1])
            return Prompt(shorter, tuple(messages), 0)
        head = tuple(messages[: 1 if messages and messages[0].role == "system" else 0])
        turns = tuple(messages[len(head) :])
        room = min(sampling.max_new_tokens, self.context // ROOM_FOR_REPLY)
        starts = [index for index, message in enumerate(turns) if message.role == "user"] or [0]
        for start in dict.fromkeys((0, *starts)):
            kept = (*head, *turns[start:])
            ids = tuple(self.renderer.prompt(kept))
            if len(ids) + room <= self.context:
                break
        if len(ids) >= self.context:
            raise DataError(
                f"the message makes a prompt of {len(ids)} tokens, which leaves no room for a reply: "
                f"the model reads {self.context} in all",
                advice="shorten it",
            )
        return Prompt(ids, kept, start)

    def stream(
        self, messages: Sequence[Message], sampling: Sampling, seed: int, *, sample: int = 0, rows: Rows | None = None
    ) -> Iterator[Delta]:
        """Generate one reply, piece by piece. The pieces joined are ``Reply.text``; the last one has ``end`` set.

        (A format that names control tokens inside a reply, as dolly does, names them in ``Reply.text`` only.)
        sample: index of the random numbers (``complete`` counts its prompts). rows: see ``rows``. Raises DataError.
        """
        prompt = self.prompt(messages, sampling)
        rows, ends = rows or self.rows(), self._ends()
        history = rows.history(prompt.ids)
        shown = _Shown(self.renderer)
        for ((_, token),) in decode(rows, rows.resume(prompt.ids), [history], sampling, ends, seed, [sample]):
            if token in self.renderer.stop_ids:
                yield Delta(shown.rest(token), (token,), "stop")
                return
            yield Delta(shown.add(token), (token,))
        full = len(history) + len(shown.ids) >= ends.context
        yield Delta(shown.rest(), (), "context" if full else "length")

    def complete(
        self, prompts: Sequence[Sequence[Message]], sampling: Sampling, seed: int, batch_size: int = 8
    ) -> list[Reply]:
        """One reply for each conversation, in their order. Prompt i draws with the random numbers (seed, i, ...).

        Conversations of similar length share a batch. Raises DataError before anything is generated.
        """
        replies: dict[int, Reply] = dict(self.completions(prompts, sampling, seed, batch_size))
        return [replies[index] for index in range(len(prompts))]

    def completions(
        self, prompts: Sequence[Sequence[Message]], sampling: Sampling, seed: int, batch_size: int = 8
    ) -> Iterator[tuple[int, Reply]]:
        """As ``complete``, but each reply comes with its index as soon as its batch is done, longest prompts first."""
        rendered = [self.prompt(messages, sampling) for messages in prompts]
        order = sorted(range(len(rendered)), key=lambda index: -len(rendered[index].ids))
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            found = self._batch([rendered[index] for index in batch], sampling, seed, batch)
            yield from zip(batch, found, strict=True)

    def continuations(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, seed: int, batch_size: int = 8
    ) -> list[Reply]:
        """As ``complete``, for prompts that are token ids already and leave room for a reply."""
        order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
        replies: dict[int, Reply] = {}
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            rendered = [Prompt(tuple(prompts[index]), (), 0) for index in batch]
            replies.update(zip(batch, self._batch(rendered, sampling, seed, batch), strict=True))
        return [replies[index] for index in range(len(prompts))]

    def _batch(self, prompts: Sequence[Prompt], sampling: Sampling, seed: int, samples: Sequence[int]) -> list[Reply]:
        ids = [prompt.ids for prompt in prompts]
        generated: list[list[int]] = [[] for _ in prompts]
        rows = self.rows()
        histories = [rows.history(prompt) for prompt in ids]
        for step in decode(rows, rows.start(ids), histories, sampling, self._ends(), seed, samples):
            for row, token in step:
                generated[row].append(token)
        parsed = [self.renderer.parse(reply) for reply in generated]
        return [
            Reply(text.text, tuple(reply), text.stopped, prompt.dropped)
            for text, reply, prompt in zip(parsed, generated, prompts, strict=True)
        ]

    def _ends(self) -> StoppingCriteria:
        context = NO_LIMIT if self._encodes else self.context
        return StoppingCriteria(tuple(sorted(self.renderer.stop_ids)), self.renderer.tokenizer.size, context)


class _Shown:
    """A reply as far as it can be shown: whole characters, and white space only once something follows it, since a format
    may take it off the ends (which it does at the front shows when the first word has come)."""

    def __init__(self, renderer: Renderer) -> None:
        self._renderer, self._decoder = renderer, renderer.stream()
        self.ids: list[int] = []
        self._text, self._held = "", ""

    def add(self, token: int) -> str:
        self.ids.append(token)
        self._held += self._decoder.push(token)
        ready = self._held.rstrip()
        if not ready:
            return ""
        self._held = self._held[len(ready) :]
        if not self._text and not self._renderer.parse(self.ids).text[:1].isspace():
            ready = ready.lstrip()
        self._text += ready
        return ready

    def rest(self, *stop: int) -> str:
        """What the whole reply has beyond what was shown."""
        whole = self._renderer.parse([*self.ids, *stop]).text
        return whole[len(self._text) :] if whole.startswith(self._text) else ""

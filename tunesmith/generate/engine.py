"""Generating replies to conversations: one at a time as a stream, or many in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from transformers import PreTrainedModel

from tunesmith.errors import DataError
from tunesmith.generate.cache_check import choose_decoding, choose_encoder_decoding
from tunesmith.generate.reply_text import ReplyText
from tunesmith.generate.requests import FinishReason, ReplyRequest, StoppingCriteria
from tunesmith.generate.row_sampler import TokenLogProbability
from tunesmith.generate.running_rows import RunningRows
from tunesmith.generate.sampling import SamplingParameters
from tunesmith.generate.scheduler import FinishedReply, Scheduler
from tunesmith.generate.searches import search
from tunesmith.generate.stop_texts import cut_at_stop
from tunesmith.model.context import NO_LIMIT, context_length
from tunesmith.model.vocabulary import rows_of
from tunesmith.text.formats.registry import ENCODER_DECODER
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tree import Message

RESERVED_PART = 4
"""One part in so many of the context is reserved for the reply, or ``max_new_tokens`` where that is less."""
FORMAT_ADVICE = "use the prompt format that the model was trained with"


@dataclass(frozen=True, slots=True)
class ReplyChunk:
    """A piece of a reply that is streamed.

    text: the text that the stream adds with this chunk; may be empty.
    ids: the ids that were generated since the last chunk.
    finish_reason: set on the last chunk of a reply only.
    """

    text: str
    ids: tuple[int, ...]
    finish_reason: FinishReason | None = None


@dataclass(frozen=True, slots=True)
class GeneratedReply:
    """A complete reply.

    text: the reply without its stop token, as the prompt format parses it, cut before the first stop text.
    ids: all ids that were generated, including the stop token or those of a stop text.
    stopped: whether the reply ends with a stop token.
    dropped: the number of old messages that did not fit into the prompt.
    finish_reason: why the reply ended.
    log_probabilities: one for each id, where the request asked for them.
    """

    text: str
    ids: tuple[int, ...]
    stopped: bool
    dropped: int = 0
    finish_reason: FinishReason | None = None
    log_probabilities: tuple[TokenLogProbability, ...] | None = None

    @property
    def tokens(self) -> int:
        """The number of ids."""
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class RenderedPrompt:
    """The input of the model for one reply.

    ids: the token ids.
    messages: the messages of the conversation that they contain.
    dropped: the number of old messages that were dropped to make the prompt short enough.
    """

    ids: tuple[int, ...]
    messages: tuple[Message, ...]
    dropped: int


class Engine:
    """A causal model or an encoder-decoder in eval mode, with the renderer of its prompt format.

    context: the largest number of tokens of prompt and reply together, by default the maximum in the model's
        configuration. For an encoder-decoder it is the largest number of tokens of the input, which is truncated on
        the right as in training; replies end at ``max_new_tokens``. Raises DataError if the model has fewer
        embeddings than the tokenizer has ids, the format is for the other kind of model, or its replies cannot be
        generated (``generate.cache_check``).
    """

    def __init__(self, model: PreTrainedModel, renderer: Renderer, context: int | None = None) -> None:
        self.model, self.renderer = model, renderer
        self.context: int = context or context_length(model.config) or NO_LIMIT
        self._is_encoder_decoder = bool(model.config.is_encoder_decoder)
        rows, needed = rows_of(model), renderer.tokenizer.size
        if needed > rows:
            raise DataError(
                f"prompt format and tokenizer need {needed} token ids, but the model has {rows}", advice=FORMAT_ADVICE
            )
        if self._is_encoder_decoder != (renderer.format.name in ENCODER_DECODER):
            kinds = ("an encoder-decoder", "a causal model")
            own, other = kinds if self._is_encoder_decoder else kinds[::-1]
            what = f"the model is {own}, but prompt format {renderer.format.name!r} is for {other}"
            raise DataError(what, advice=FORMAT_ADVICE)
        self._decoding = choose_encoder_decoding(model) if self._is_encoder_decoder else choose_decoding(model)

    @property
    def notice(self) -> str | None:
        """What the user should know about the generation of replies; None for nothing."""
        return self._decoding.notice

    def new_state(self) -> RunningRows:
        """Rows for one reply at a time. If every ``stream`` of a conversation gets it, the cache is reused."""
        return self._decoding.new_rows(1, reuse=True)

    def scheduler(self, batch_size: int) -> Scheduler:
        """A scheduler with the model's present weights. batch_size: replies that are generated together."""
        rows = self._decoding.new_rows(batch_size)
        return Scheduler(rows, self._stopping_criteria(), batch_size, reader=self.renderer)

    def prompt(self, messages: Sequence[Message], sampling: SamplingParameters) -> RenderedPrompt:
        """Render a conversation whose last message needs a reply.

        If the prompt is too long for a causal model, the oldest turns are dropped, but never a leading system
        message, until a reply of ``max_new_tokens``, or of a quarter of the context if that is less, fits behind it.
        The input of an encoder is truncated on the right instead and keeps its end token. Raises DataError if the
        last turn alone fills the context.
        """
        if self._is_encoder_decoder:
            ids = tuple(self.renderer.prompt(messages))
            truncated = ids if len(ids) <= self.context else (*ids[: self.context - 1], ids[-1])
            return RenderedPrompt(truncated, tuple(messages), 0)
        head = tuple(messages[: 1 if messages and messages[0].role == "system" else 0])
        turns = tuple(messages[len(head) :])
        reserved = min(sampling.max_new_tokens, self.context // RESERVED_PART)
        starts = [index for index, message in enumerate(turns) if message.role == "user"] or [0]
        for start in dict.fromkeys((0, *starts)):
            kept = (*head, *turns[start:])
            ids = tuple(self.renderer.prompt(kept))
            if len(ids) + reserved <= self.context:
                break
        if len(ids) >= self.context:
            raise DataError(
                f"the message makes a prompt of {len(ids)} tokens, which leaves no tokens for a reply: "
                f"the model reads {self.context} in all",
                advice="shorten it",
            )
        return RenderedPrompt(ids, kept, start)

    def stream(
        self,
        messages: Sequence[Message],
        sampling: SamplingParameters,
        seed: int,
        *,
        sample: int = 0,
        state: RunningRows | None = None,
    ) -> Iterator[ReplyChunk]:
        """Generate one reply chunk by chunk; the last chunk has a finish reason.

        The joined texts are ``GeneratedReply.text`` of the same reply. (A format that writes out control tokens
        inside a reply, as dolly does, does so in ``GeneratedReply.text`` only.)

        sample: index of the random numbers; ``complete`` numbers its prompts from 0.
        state: the state of the previous call (``new_state``), whose cache is reused.
        Raises DataError as ``prompt``.
        """
        prompt = self.prompt(messages, sampling)
        request = ReplyRequest(prompt.ids, sampling, seed, sample)
        if sampling.is_search:  # its tokens are known at the end only
            reply = self._search(request)
            yield ReplyChunk(reply.text, reply.ids, reply.finish_reason)
            return
        scheduler = Scheduler(state or self._decoding.new_rows(1), self._stopping_criteria(), batch_size=1)
        for _, chunk in self._chunks(scheduler, [request]):
            yield chunk

    def stream_drafts(
        self, messages: Sequence[Message], sampling: SamplingParameters, seed: int, samples: Sequence[int]
    ) -> Iterator[tuple[int, ReplyChunk]]:
        """Generate several replies to one conversation together: (index, chunk), each as ``stream`` would have it.

        samples: the index of the random numbers of each reply.
        Raises DataError as ``prompt``.
        """
        if sampling.is_search:
            for index, sample in enumerate(samples):
                for chunk in self.stream(messages, sampling, seed, sample=sample):
                    yield index, chunk
            return
        ids = self.prompt(messages, sampling).ids
        requests = [ReplyRequest(ids, sampling, seed, sample) for sample in samples]
        yield from self._chunks(self.scheduler(len(requests)), requests)

    def _chunks(self, scheduler: Scheduler, requests: Sequence[ReplyRequest]) -> Iterator[tuple[int, ReplyChunk]]:
        """(index of the request, chunk) as the tokens come."""
        indexes = {scheduler.add(request): index for index, request in enumerate(requests)}
        streamers = [ReplyText(self.renderer) for _ in requests]
        while not scheduler.is_idle:
            for token in scheduler.step():
                index = indexes[token.ticket]
                streamer = streamers[index]
                if token.finish == "stop":
                    yield index, ReplyChunk(streamer.finish(token.id), (token.id,), "stop")
                    continue
                yield index, ReplyChunk(streamer.add(token.id), (token.id,))
                if token.finish is not None:
                    yield index, ReplyChunk(streamer.finish(), (), token.finish)

    def complete(
        self, prompts: Sequence[Sequence[Message]], sampling: SamplingParameters, seed: int, batch_size: int = 8
    ) -> list[GeneratedReply]:
        """One reply to each conversation, in their order. Prompt i draws with the random numbers (seed, i, ...).

        Raises DataError as ``prompt``, before anything is generated.
        """
        replies: dict[int, GeneratedReply] = dict(self.completions(prompts, sampling, seed, batch_size))
        return [replies[index] for index in range(len(prompts))]

    def completions(
        self, prompts: Sequence[Sequence[Message]], sampling: SamplingParameters, seed: int, batch_size: int = 8
    ) -> Iterator[tuple[int, GeneratedReply]]:
        """As ``complete``, but yields (index, reply) as soon as a reply is done."""
        rendered = [self.prompt(messages, sampling) for messages in prompts]
        requests = [ReplyRequest(each.ids, sampling, seed, index) for index, each in enumerate(rendered)]
        for index, reply in self.replies(requests, batch_size):
            yield index, replace(reply, dropped=rendered[index].dropped)

    def continuations(
        self, prompts: Sequence[Sequence[int]], sampling: SamplingParameters, seed: int, batch_size: int = 8
    ) -> list[GeneratedReply]:
        """As ``complete``, for prompts that are token ids already and are shorter than the context."""
        requests = [ReplyRequest(tuple(prompt), sampling, seed, index) for index, prompt in enumerate(prompts)]
        replies: dict[int, GeneratedReply] = dict(self.replies(requests, batch_size))
        return [replies[index] for index in range(len(prompts))]

    def replies(self, requests: Sequence[ReplyRequest], batch_size: int = 8) -> Iterator[tuple[int, GeneratedReply]]:
        """(index, reply) of every request, as soon as it is done, beginning with the longest prompts.

        A prompt is read once for all its requests. A reply depends on its request alone. Searches are generated one by
        one, before the others.

        batch_size: the largest number of replies that are generated together.
        """
        firsts: dict[tuple[int, ...], int] = {}
        for index, request in enumerate(requests):
            firsts.setdefault(request.prompt, index)
            if request.sampling.is_search:
                yield index, self._search(request)
        order = sorted(
            (index for index, request in enumerate(requests) if not request.sampling.is_search),
            key=lambda index: (-len(requests[index].prompt), firsts[requests[index].prompt]),
        )
        scheduler = self.scheduler(batch_size)
        indexes = {scheduler.add(requests[index]): index for index in order}
        for ticket, reply in scheduler.run():
            yield indexes[ticket], self.parse(reply, requests[indexes[ticket]].stop)

    def _search(self, request: ReplyRequest) -> GeneratedReply:
        stopping = self._stopping_criteria()
        state = self._decoding.new_state()
        ids = search(state, self.model, request.prompt, request.sampling, stopping, request.seed, request.sample)
        full = len(state.history(request.prompt)) + len(ids) >= stopping.context
        finish: FinishReason = "stop" if ids[-1] in stopping.stop_ids else "context" if full else "length"
        return self.parse(FinishedReply(ids, finish, None), request.stop)

    def parse(self, reply: FinishedReply, stop: Sequence[str] = ()) -> GeneratedReply:
        """A reply of the scheduler with its text. stop: the stop texts of its request."""
        parsed = self.renderer.parse(list(reply.ids))
        text, cut = cut_at_stop(parsed.text, stop)
        finish = "stop" if cut else reply.finish
        return GeneratedReply(text, reply.ids, parsed.stopped, 0, finish, reply.log_probabilities)

    def _stopping_criteria(self) -> StoppingCriteria:
        context = NO_LIMIT if self._is_encoder_decoder else self.context
        return StoppingCriteria(tuple(sorted(self.renderer.stop_ids)), self.renderer.tokenizer.size, context)

"""``POST /v1/completions``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from tunesmith.generate.reply_text import PlainReader
from tunesmith.generate.requests import ReplyRequest
from tunesmith.generate.row_sampler import TokenLogProbability
from tunesmith.serve.engine.clients import JobClient
from tunesmith.serve.engine.jobs import ReplyEvent, ReplyJob, ScoreJob
from tunesmith.serve.engine.models import ServedModel, ServedModels
from tunesmith.serve.openai.chat import check_stream_options, choose_seed, make_jobs
from tunesmith.serve.openai.log_probabilities import LegacyLogProbabilities
from tunesmith.serve.openai.prompts import encode_prompt, read_adjustments, read_limit, read_sampling
from tunesmith.serve.openai.replies import FINISH, close_all, collect, merge, new_head, usage
from tunesmith.serve.openai.request_schemas import CompletionRequestSchema
from tunesmith.serve.openai.token_texts import TokenTexts
from tunesmith.serve.refusals import invalid

COMPLETION = "text_completion"
DEFAULT_TOKENS = 16
LARGEST_LOGPROBS = 20


class CompletionAnswer:
    """A text completion that is being generated.

    ``logprobs`` has every token that was generated, a stop token included, because lm-evaluation-harness relies on one
    token behind the prompt.
    """

    def __init__(
        self,
        model: ServedModel,
        texts: TokenTexts,
        request: CompletionRequestSchema,
        prompts: list[tuple[int, ...]],
        jobs: list[ReplyJob],
        client: JobClient,
    ) -> None:
        self.streamed = bool(request.stream)
        self._usage_wanted = check_stream_options(request)
        self._request, self._texts, self._prompts, self._model = request, texts, prompts, model
        self._choices = request.n or 1
        self._client = client
        self._head = new_head("cmpl", model.name)
        self._streams = model.thread.submit_all(jobs)

    async def whole(self) -> dict[str, Any]:
        """See ``Answering``."""
        scores = [await self._score(prompt) for prompt in self._prompts]
        choices, count = [], 0
        for index in range(len(self._prompts) * self._choices):
            reply = await collect(self._streams[index]) if self._streams else ReplyEvent("", (), "length")
            found, begun = self._begin(index, scores[index // self._choices])
            logprobs = self._logprobs(found, reply)
            choices.append(_choice(index, begun + reply.text, logprobs, FINISH[reply.finish or "stop"]))
            count += len(reply.tokens)
        return {**self._head.as_dict(COMPLETION), "choices": choices, "usage": self._usage(count)}

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """See ``Answering``."""
        scores = [await self._score(prompt) for prompt in self._prompts]
        begun = [
            self._begin(index, scores[index // self._choices]) for index in range(len(self._prompts) * self._choices)
        ]
        count = 0
        for index, (logprobs, text) in enumerate(begun):
            if text or not self._streams:
                finish = None if self._streams else "length"
                yield self._chunk(index, text, None if logprobs is None else logprobs.take(), finish)
        if self._streams:
            async for index, event in merge(self._streams):
                count += len(event.tokens)
                found = self._logprobs(begun[index][0], event)
                finish = None if event.finish is None else FINISH[event.finish]
                yield self._chunk(index, event.text, found, finish)
        if self._usage_wanted:
            yield {**self._head.as_dict(COMPLETION), "choices": [], "usage": self._usage(count)}

    def close(self) -> None:
        """See ``Answering``."""
        close_all(self._streams)

    async def _score(self, prompt: tuple[int, ...]) -> Sequence[TokenLogProbability]:
        """What the model gives the tokens of a prompt that is repeated with log-probabilities."""
        wanted = self._request.logprobs
        if not self._request.echo or wanted is None:
            return ()
        return await self._model.thread.score(ScoreJob(prompt, wanted, self._client))

    def _begin(self, index: int, scores: Sequence[TokenLogProbability]) -> tuple[LegacyLogProbabilities | None, str]:
        """(log-probabilities up to the reply, text up to the reply) of a choice."""
        wanted, prompt = self._request.logprobs, index // self._choices
        found = None if wanted is None else LegacyLogProbabilities(self._texts)
        if not self._request.echo:
            return found, ""
        for token, score in zip(self._prompts[prompt], (None, *scores), strict=False) if found else ():
            found.add(token, score)  # type: ignore[union-attr]
        given = self._request.prompt[prompt]
        if isinstance(given, str):
            return found, given
        tokenizer = self._model.engine.renderer.tokenizer
        return found, tokenizer.decode(self._prompts[prompt], skip_controls=False)

    def _logprobs(self, found: LegacyLogProbabilities | None, event: ReplyEvent) -> dict[str, Any] | None:
        if found is None:
            return None
        for number, token in enumerate(event.tokens):
            is_last = number == len(event.tokens) - 1 and event.finish is not None
            if token.in_text or (is_last and token.id in self._model.engine.renderer.stop_ids):
                found.add(token.id, token.log_probability)
        return found.take()

    def _usage(self, count: int) -> dict[str, int]:
        return usage(sum(map(len, self._prompts)), count)

    def _chunk(self, index: int, text: str, logprobs: dict[str, Any] | None, finish: str | None) -> dict[str, Any]:
        found = {**self._head.as_dict(COMPLETION), "choices": [_choice(index, text, logprobs, finish)]}
        return {**found, "usage": None} if self._usage_wanted else found


def _choice(index: int, text: str, logprobs: dict[str, Any] | None, finish: str | None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish}


async def open_completion(
    models: ServedModels, texts: dict[str, TokenTexts], request: CompletionRequestSchema, client: JobClient
) -> CompletionAnswer:
    """Begin to answer a request. Raises RefusedRequest."""
    model = models.find(request.model)
    vocabulary = texts[model.name]  # now, since a model may be closed while the prompt is encoded
    check_stream_options(request)
    if request.echo and model.is_encoder_decoder:
        raise invalid("echo", "An encoder-decoder does not predict its prompt.", "unsupported_parameter")
    if request.max_tokens == 0 and not request.echo:
        raise invalid("max_tokens", "max_tokens is 0, so nothing is asked for; it may be 0 only with echo.")
    limit = read_limit(model, "max_tokens", request.max_tokens, DEFAULT_TOKENS)
    sampling, adjustments = read_sampling(model, request, max(1, limit)), read_adjustments(model, request)
    prompts = await asyncio.to_thread(lambda: [encode_prompt(model, prompt) for prompt in request.prompt])
    renderer = model.engine.renderer
    reader = PlainReader(renderer.tokenizer, renderer.format.codec)
    reply = ReplyRequest(prompts[0], sampling, choose_seed(request.seed), 0, request.logprobs, adjustments=adjustments)
    jobs = make_jobs(prompts, reply, request.n or 1, reader, request.stop, client)
    return CompletionAnswer(model, vocabulary, request, prompts, jobs if limit else [], client)

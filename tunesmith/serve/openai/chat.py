"""``POST /v1/chat/completions``."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

from tunesmith.generate.reply_text import PlainReader
from tunesmith.generate.requests import ReplyRequest
from tunesmith.generate.stop_texts import ReplyReader
from tunesmith.serve.engine.clients import JobClient
from tunesmith.serve.engine.jobs import ReplyEvent, ReplyJob
from tunesmith.serve.engine.models import ServedModel, ServedModels
from tunesmith.serve.openai.log_probabilities import chat_log_probabilities
from tunesmith.serve.openai.prompts import encode_messages, read_adjustments, read_limit, read_sampling
from tunesmith.serve.openai.replies import FINISH, close_all, collect_all, merge, new_head, shown_tokens, usage
from tunesmith.serve.openai.request_schemas import ChatRequestSchema, SamplingSchema
from tunesmith.serve.openai.token_texts import TokenTexts
from tunesmith.serve.refusals import invalid

CHAT, CHUNK = "chat.completion", "chat.completion.chunk"


def check_stream_options(request: SamplingSchema) -> bool:
    """Whether the client wants the usage at the end of a stream. Raises RefusedRequest."""
    if request.stream_options is None:
        return False
    if not request.stream:
        raise invalid("stream_options", "stream_options is only allowed when stream is true.")
    return bool(request.stream_options.include_usage)


def choose_seed(seed: int | None) -> int:
    """The seed of a request, or a new one."""
    return secrets.randbelow(2**31) if seed is None else seed


def make_jobs(
    prompts: Sequence[tuple[int, ...]],
    request: ReplyRequest,
    choices: int,
    reader: ReplyReader,
    stop: Sequence[str] | None,
    client: JobClient,
) -> list[ReplyJob]:
    """The jobs of a request, prompt by prompt. Choice i of a prompt draws with (seed, i), whatever else is asked."""
    return [
        ReplyJob(replace(request, prompt=prompt, sample=number), reader, tuple(stop or ()), client)
        for prompt in prompts
        for number in range(choices)
    ]


class ChatAnswer:
    """A chat completion that is being generated.

    Its ``logprobs`` and its ``usage``: log-probabilities are those of the tokens of the text; usage also counts the
    stop token.
    """

    def __init__(self, model: ServedModel, texts: TokenTexts, request: ChatRequestSchema, jobs: list[ReplyJob]) -> None:
        self.streamed = bool(request.stream)
        self._usage_wanted = check_stream_options(request)
        self._texts, self._with_logprobs = texts, bool(request.logprobs)
        self._prompt = len(jobs[0].request.prompt)
        self._head = new_head("chatcmpl", model.name)
        self._streams = model.thread.submit_all(jobs)

    async def whole(self) -> dict[str, Any]:
        """See ``Answering``."""
        replies = await collect_all(self._streams)
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": reply.text, "refusal": None},
                "logprobs": self._logprobs(reply),
                "finish_reason": FINISH[reply.finish or "stop"],
            }
            for index, reply in enumerate(replies)
        ]
        tokens = sum(len(reply.tokens) for reply in replies)
        return {**self._head.as_dict(CHAT), "choices": choices, "usage": usage(self._prompt, tokens)}

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """See ``Answering``."""
        count = 0
        for index in range(len(self._streams)):
            yield self._chunk(index, {"role": "assistant", "content": ""})
        async for index, event in merge(self._streams):
            count += len(event.tokens)
            logprobs = self._logprobs(event)
            if event.text or (logprobs and logprobs["content"]):
                yield self._chunk(index, {"content": event.text}, logprobs)
            if event.finish is not None:
                yield self._chunk(index, {}, None, FINISH[event.finish])
        if self._usage_wanted:
            yield {**self._head.as_dict(CHUNK), "choices": [], "usage": usage(self._prompt, count)}

    def close(self) -> None:
        """See ``Answering``."""
        close_all(self._streams)

    def _logprobs(self, event: ReplyEvent) -> dict[str, Any] | None:
        return chat_log_probabilities(self._texts, shown_tokens(event)) if self._with_logprobs else None

    def _chunk(
        self, index: int, delta: dict[str, Any], logprobs: dict[str, Any] | None = None, finish: str | None = None
    ) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        found = {**self._head.as_dict(CHUNK), "choices": [choice]}
        return {**found, "usage": None} if self._usage_wanted else found


async def open_chat(
    models: ServedModels, texts: dict[str, TokenTexts], request: ChatRequestSchema, client: JobClient
) -> ChatAnswer:
    """Begin to answer a request. Raises RefusedRequest."""
    model = models.find(request.model)
    vocabulary = texts[model.name]  # now, since a model may be closed while the prompt is encoded
    check_stream_options(request)
    if request.top_logprobs is not None and not request.logprobs:
        raise invalid("top_logprobs", "top_logprobs is only allowed when logprobs is true.")
    continued = request.messages[-1].role == "assistant"
    if request.continue_final_message is not None:
        if request.continue_final_message and not continued:
            raise invalid("continue_final_message", "The last message is not the assistant's, so nothing is continued.")
        continued = request.continue_final_message
    both = (request.max_tokens, request.max_completion_tokens)
    if None not in both and both[0] != both[1]:
        raise invalid("max_tokens", "max_tokens and max_completion_tokens have different values.")
    name = "max_tokens" if both[1] is None else "max_completion_tokens"
    limit = read_limit(model, name, both[0] if both[1] is None else both[1], model.sampling.max_new_tokens)
    sampling, adjustments = read_sampling(model, request, limit), read_adjustments(model, request)
    ids = await asyncio.to_thread(encode_messages, model, request.messages, continued=continued)
    renderer = model.engine.renderer
    reader = PlainReader(renderer.tokenizer, renderer.format.codec) if continued else renderer
    alternatives = (request.top_logprobs or 0) if request.logprobs else None
    reply = ReplyRequest(ids, sampling, choose_seed(request.seed), 0, alternatives, adjustments=adjustments)
    jobs = make_jobs([ids], reply, request.n or 1, reader, request.stop, client)
    return ChatAnswer(model, vocabulary, request, jobs)

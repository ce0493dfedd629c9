"""``POST /v1/responses`` in its plain text form."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from typing import Any

from tunesmith.generate.penalties import NO_ADJUSTMENTS
from tunesmith.generate.requests import ReplyRequest
from tunesmith.serve.engine.clients import JobClient
from tunesmith.serve.engine.jobs import ReplyEvent, ReplyJob
from tunesmith.serve.engine.models import ServedModel, ServedModels
from tunesmith.serve.openai.chat import choose_seed
from tunesmith.serve.openai.prompts import encode_messages, read_limit, read_sampling
from tunesmith.serve.openai.replies import collect, new_head
from tunesmith.serve.openai.request_schemas import InputMessageSchema, ResponseRequestSchema, SamplingSchema
from tunesmith.serve.refusals import invalid


class ResponseAnswer:
    """A response that is being generated."""

    def __init__(self, model: ServedModel, request: ResponseRequestSchema, job: ReplyJob) -> None:
        self.streamed = bool(request.stream)
        self._request, self._prompt = request, len(job.request.prompt)
        self._sampling = job.request.sampling
        self._head = new_head("resp", model.name)
        self._message = f"msg-{secrets.token_hex(12)}"
        self._stream = model.thread.submit(job)

    async def whole(self) -> dict[str, Any]:
        """See ``Answering``."""
        reply = await collect(self._stream)
        return self._response(reply.text, len(reply.tokens), reply)

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """See ``Answering``; every event has a ``type`` and a number."""
        number = 0
        async for event in self._events():
            yield {**event, "sequence_number": number}
            number += 1

    def close(self) -> None:
        """See ``Answering``."""
        self._stream.cancel()

    async def _events(self) -> AsyncIterator[dict[str, Any]]:
        place = {"item_id": self._message, "output_index": 0, "content_index": 0}
        begun = self._response("", 0, None)
        yield {"type": "response.created", "response": begun}
        yield {"type": "response.in_progress", "response": begun}
        item = {**self._item("", "in_progress"), "content": []}
        yield {"type": "response.output_item.added", "output_index": 0, "item": item}
        yield {"type": "response.content_part.added", **place, "part": _part("")}
        text, count, last = "", 0, None
        async for last in self._stream:
            text, count = text + last.text, count + len(last.tokens)
            if last.text:
                yield {"type": "response.output_text.delta", **place, "delta": last.text, "logprobs": []}
        done = self._response(text, count, last)
        yield {"type": "response.output_text.done", **place, "text": text, "logprobs": []}
        yield {"type": "response.content_part.done", **place, "part": _part(text)}
        yield {"type": "response.output_item.done", "output_index": 0, "item": done["output"][0]}
        yield {"type": f"response.{done['status']}", "response": done}

    def _item(self, text: str, status: str) -> dict[str, Any]:
        content = [_part(text)]
        return {"id": self._message, "type": "message", "role": "assistant", "status": status, "content": content}

    def _response(self, text: str, tokens: int, reply: ReplyEvent | None) -> dict[str, Any]:
        """The response object; before its end without a reply."""
        status = "in_progress" if reply is None else "completed" if reply.finish == "stop" else "incomplete"
        request = self._request
        return {
            "id": self._head.id,
            "object": "response",
            "created_at": self._head.created,
            "model": self._head.model,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": request.instructions,
            "max_output_tokens": request.max_output_tokens,
            "output": [] if reply is None else [self._item(text, status)],
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "reasoning": {"effort": None, "summary": None},
            "temperature": self._sampling.temperature if self._sampling.do_sample else 0.0,
            "text": {"format": {"type": "text"}},
            "tool_choice": "auto",
            "tools": [],
            "top_p": self._sampling.top_p,
            "truncation": "disabled",
            "metadata": request.metadata or {},
            # OpenAI's schema has no null for these two.
            **({} if reply is None else {"usage": self._usage(tokens)}),
            **({} if request.user is None else {"user": request.user}),
        }

    def _usage(self, tokens: int) -> dict[str, Any]:
        return {
            "input_tokens": self._prompt,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": self._prompt + tokens,
        }


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


async def open_response(models: ServedModels, request: ResponseRequestSchema, client: JobClient) -> ResponseAnswer:
    """Begin to answer a request. Raises RefusedRequest."""
    model = models.find(request.model)
    messages = list(request.input)
    if request.instructions is not None:
        messages.insert(0, InputMessageSchema(role="system", content=request.instructions))
    if messages[-1].role == "assistant":
        raise invalid("input", "The last message is the assistant's; there is nothing to answer.")
    limit = read_limit(model, "max_output_tokens", request.max_output_tokens, model.sampling.max_new_tokens)
    wanted = SamplingSchema(model=request.model, temperature=request.temperature, top_p=request.top_p)
    sampling = read_sampling(model, wanted, limit)
    ids = await asyncio.to_thread(encode_messages, model, messages, param="input")
    job = ReplyJob(
        ReplyRequest(ids, sampling, choose_seed(None), 0, adjustments=NO_ADJUSTMENTS),
        model.engine.renderer,
        (),
        client,
    )
    return ResponseAnswer(model, request, job)

"""The requests of the API, as pydantic models. Names and meaning are OpenAI's; extensions are marked."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from tunesmith.serve.openai.fields import (
    INTEGER,
    LOG_PROBABILITIES,
    MESSAGES,
    Biases,
    Choices,
    Dropped,
    Metadata,
    ModelName,
    Penalty,
    Prompts,
    RequestSchema,
    ResponseFormatSchema,
    Seed,
    StopTexts,
    StreamOptionsSchema,
    Temperature,
    Tokens,
    TopP,
)
from tunesmith.serve.openai.json_body import Unsupported

Role = Literal["system", "developer", "user", "assistant"]


def _check_role(value: Any) -> Any:
    """Raises Unsupported for the roles of tools."""
    if value in ("tool", "function"):
        raise Unsupported(f"Messages of the role {value!r} are not supported by this server.")
    return value


def _join_parts(value: Any) -> Any:
    """The text of a message that is given as parts. Raises ValueError."""
    if not isinstance(value, list):
        return value
    texts = []
    for part in value:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in ("image_url", "input_image", "input_audio", "file", "input_file", "refusal"):
            raise Unsupported(f"Parts of the type {kind!r} are not supported by this server; only text is.")
        if kind not in ("text", "input_text", "output_text") or not isinstance(part.get("text"), str):
            raise ValueError("a part must be an object with the type 'text' and a text")
        if unknown := part.keys() - {"type", "text", "annotations", "logprobs"}:
            raise ValueError(f"a part has an unknown field {sorted(unknown)[0][:40]!r}")
        texts.append(part["text"])
    return "".join(texts)


_PART = {
    "type": "object",
    "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
    "required": ["type", "text"],
    "additionalProperties": False,
}
_CONTENT = {"anyOf": [{"type": "string"}, {"type": "array", "items": _PART}]}


def _allow_parts(schema: dict[str, Any]) -> None:
    """The schema of a content: a text or a list of parts."""
    schema.pop("type", None)
    schema.update(_CONTENT)


Content = Annotated[str, BeforeValidator(_join_parts), Field(json_schema_extra=_allow_parts)]


class MessageSchema(RequestSchema):
    """One message."""

    role: Annotated[Role, BeforeValidator(_check_role)]
    content: Content

    NEUTRAL: ClassVar = {
        **dict.fromkeys(("name", "refusal", "audio", "function_call", "tool_call_id", "reasoning_content"), ()),
        **{"tool_calls": ([],), "annotations": ([],)},
    }


class SamplingSchema(RequestSchema):
    """What all requests for replies have."""

    model: ModelName
    temperature: Annotated[Temperature, Field(description="0 takes the most likely token each time.")] = None
    top_p: TopP = None
    top_k: Annotated[int, Field(ge=-1, le=INTEGER, description="An extension; 0 or -1 keeps all.")] | None = None
    typical_p: Annotated[float, Field(gt=0, le=1, description="An extension.")] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100, description="An extension.")] | None = None
    min_tokens: Annotated[int, Field(ge=0, le=INTEGER, description="An extension.")] | None = None
    presence_penalty: Penalty = None
    frequency_penalty: Penalty = None
    logit_bias: Biases = None
    seed: Seed = None
    stop: StopTexts = None
    n: Choices = None
    stream: bool | None = None
    stream_options: StreamOptionsSchema | None = None
    user: Dropped = None


class ChatRequestSchema(SamplingSchema):
    """``POST /v1/chat/completions``."""

    messages: Annotated[list[MessageSchema], Field(min_length=1, max_length=MESSAGES, fail_fast=True)]
    max_tokens: Tokens = None
    max_completion_tokens: Tokens = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=LOG_PROBABILITIES)] | None = None
    response_format: ResponseFormatSchema | None = None
    continue_final_message: Annotated[
        bool | None,
        Field(
            description="An extension: the reply continues the last message, which the assistant began. By default it "
            "does if the last message is the assistant's."
        ),
    ] = None
    metadata: Metadata = None
    safety_identifier: Dropped = None
    prompt_cache_key: Dropped = None

    NEUTRAL: ClassVar = {
        **dict.fromkeys(("audio", "prediction", "web_search_options", "moderation", "prompt_cache_options"), ()),
        **{"tools": ([],), "functions": ([],), "tool_choice": ("none", "auto"), "function_call": ("none", "auto")},
        **{"parallel_tool_calls": (True, False), "modalities": (["text"],), "store": (False,), "min_p": (0,)},
        **{"service_tier": ("auto", "default"), "reasoning_effort": ("none",), "verbosity": ("medium",)},
        **{"prompt_cache_retention": ("in_memory",)},
    }


class CompletionRequestSchema(SamplingSchema):
    """``POST /v1/completions``."""

    prompt: Prompts
    max_tokens: Annotated[int, Field(ge=0, le=INTEGER, description="16 by default.")] | None = None
    logprobs: Annotated[int, Field(ge=0, le=LOG_PROBABILITIES)] | None = None
    echo: bool | None = None

    NEUTRAL: ClassVar = {"suffix": ("",), "best_of": (1,), "min_p": (0,)}


class InputMessageSchema(RequestSchema):
    """One message of ``POST /v1/responses``."""

    role: Annotated[Role, BeforeValidator(_check_role)]
    content: Content
    type: Literal["message"] | None = None

    NEUTRAL: ClassVar = {"id": (), "status": ("completed",), "phase": ()}


class FormatSchema(RequestSchema):
    """``text`` of ``POST /v1/responses``."""

    format: ResponseFormatSchema | None = None

    NEUTRAL: ClassVar = {"verbosity": ("medium",)}


def _allow_text(schema: dict[str, Any]) -> None:
    """The schema of an input: a text, or what it was before."""
    messages = {key: schema.pop(key) for key in ("type", "items", "minItems", "maxItems") if key in schema}
    schema["anyOf"] = [{"type": "string"}, messages]


class ResponseRequestSchema(RequestSchema):
    """``POST /v1/responses``: text in, text out."""

    model: ModelName
    input: Annotated[
        list[InputMessageSchema],
        Field(min_length=1, max_length=MESSAGES, fail_fast=True),
        BeforeValidator(lambda value: [{"role": "user", "content": value}] if isinstance(value, str) else value),
        Field(json_schema_extra=_allow_text),
    ]
    instructions: str | None = None
    max_output_tokens: Tokens = None
    temperature: Temperature = None
    top_p: TopP = None
    stream: bool | None = None
    text: FormatSchema | None = None
    user: Dropped = None
    metadata: Metadata = None
    safety_identifier: Dropped = None
    prompt_cache_key: Dropped = None

    NEUTRAL: ClassVar = {
        **dict.fromkeys(("previous_response_id", "conversation", "prompt", "reasoning", "context_management"), ()),
        **dict.fromkeys(("max_tool_calls", "moderation", "prompt_cache_options"), ()),
        **{"tools": ([],), "tool_choice": ("none", "auto"), "parallel_tool_calls": (True, False)},
        **{"include": ([],), "background": (False,), "store": (False,), "truncation": ("disabled",)},
        **{"service_tier": ("auto", "default"), "top_logprobs": (0,), "stream_options": ()},
        **{"prompt_cache_retention": ("in_memory",)},
    }

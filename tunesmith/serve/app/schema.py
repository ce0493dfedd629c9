"""The OpenAPI schema of the server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from tunesmith.serve.openai.request_schemas import ChatRequestSchema, CompletionRequestSchema, ResponseRequestSchema

BODIES: tuple[type[BaseModel], ...] = (ChatRequestSchema, CompletionRequestSchema, ResponseRequestSchema)
PLACE = "#/components/schemas/{model}"
_ERROR = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                "code": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            },
            "required": ["message", "type", "param", "code"],
            "additionalProperties": False,
        }
    },
    "required": ["error"],
    "additionalProperties": False,
}


Part: TypeAlias = dict[str, Any]
"""A part of a JSON schema."""


def _object(*required: str, **properties: Part) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*properties, *required]}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


_TEXT: Part = {"type": "string"}
_COUNT: Part = {"type": "integer", "minimum": 0}
_FINISH: Part = {"enum": ["stop", "length"]}
_USAGE = _object(prompt_tokens=_COUNT, completion_tokens=_COUNT, total_tokens=_COUNT)
_MODEL = _object(id=_TEXT, object={"const": "model"}, created=_COUNT, owned_by=_TEXT)
_MESSAGE = _object("refusal", role={"const": "assistant"}, content=_TEXT)
_HEAD: dict[str, Part] = {"id": _TEXT, "created": _COUNT, "model": _TEXT}
ANSWERS = {
    "/healthz": _object(status={"enum": ["ok", "unavailable"]}),
    "/v1/models": _object(object={"const": "list"}, data=_list(_MODEL)),
    "/v1/models/{model}": _MODEL,
    "/v1/chat/completions": _object(
        object={"const": "chat.completion"},
        choices=_list(_object("logprobs", index=_COUNT, message=_MESSAGE, finish_reason=_FINISH)),
        usage=_USAGE,
        **_HEAD,
    ),
    "/v1/completions": _object(
        object={"const": "text_completion"},
        choices=_list(_object("logprobs", index=_COUNT, text=_TEXT, finish_reason=_FINISH)),
        usage=_USAGE,
        **_HEAD,
    ),
    "/v1/responses": _object(
        *("error", "incomplete_details", "usage", "temperature"),
        id=_TEXT,
        object={"const": "response"},
        created_at=_COUNT,
        status={"enum": ["completed", "incomplete"]},
        output=_list(_object(type={"const": "message"}, content=_list(_object(text=_TEXT)))),
    ),
}
"""The bodies of answers, by path."""
_CHUNK = _object("logprobs", "finish_reason", index=_COUNT)
STREAMS = {
    "/v1/chat/completions": _object(
        object={"const": "chat.completion.chunk"},
        choices=_list({"allOf": [_CHUNK, _object(delta={"type": "object"})]}),
        **_HEAD,
    ),
    "/v1/completions": _object(
        object={"const": "text_completion"}, choices=_list({"allOf": [_CHUNK, _object(text=_TEXT)]}), **_HEAD
    ),
    "/v1/responses": _object(type=_TEXT),
}
"""What the data of one event of a stream are, by path; an error may be its last event."""
REFUSALS = {
    "400": "A field cannot be used; `param` names it.",
    "401": "The API key is missing or wrong.",
    "403": "Another web page sent the request.",
    "404": "There is no such model.",
    "408": "The body did not arrive in time.",
    "413": "The body is too large.",
    "415": "The content type is not application/json.",
    "421": "The Host header has another name.",
    "429": "The queue is full.",
    "431": "The headers are too large.",
    "503": "The server is shutting down, or busy.",
    "504": "The answer took too long.",
}


def describe_operation(body: type[BaseModel]) -> dict[str, Any]:
    """What the schema of an operation has in addition: its body."""
    place = {"$ref": PLACE.format(model=body.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": place}}}}


def describe_event(content: Part) -> Part:
    """The schema of one server-sent event, which is what OpenAPI describes of a stream. content: of its data."""
    data = {"type": "string", "contentMediaType": "application/json", "contentSchema": content}
    properties = {"event": _TEXT, "data": {"anyOf": [{"const": "[DONE]"}, data]}}
    return {"type": "object", "properties": properties, "required": ["data"]}


def write_schema(app: FastAPI, models: Sequence[str]) -> dict[str, Any]:
    """The OpenAPI schema of all routes, with the errors that every one of them may answer.

    models: the names of the served models.
    """
    found = get_openapi(title=app.title, version="1", openapi_version="3.1.0", routes=app.routes)
    _, definitions = models_json_schema([(body, "validation") for body in BODIES], ref_template=PLACE)
    schemas = {**definitions.get("$defs", {}), "Error": _ERROR}
    for body in BODIES:
        schemas[body.__name__]["properties"]["model"]["enum"] = list(models)
    for path, methods in found["paths"].items():
        for operation in methods.values():
            _describe_answers(path, operation)
    found["components"] = {"schemas": schemas}
    return found


def _describe_answers(path: str, operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    responses.pop("422", None)
    if path in ANSWERS:
        responses["200"]["content"] = {"application/json": {"schema": ANSWERS[path]}}
        if path in STREAMS:
            error = {"$ref": PLACE.format(model="Error")}
            content = {"schema": describe_event({"anyOf": [STREAMS[path], error]})}
            responses["200"]["content"]["text/event-stream"] = content
    for status, about in REFUSALS.items():
        content = {"application/json": {"schema": {"$ref": PLACE.format(model="Error")}}}
        responses.setdefault(status, {"description": about, "content": content})

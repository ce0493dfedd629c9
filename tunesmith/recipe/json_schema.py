"""The JSON schema of recipe files, with which editors complete keys, show descriptions and underline mistakes."""

from __future__ import annotations

from typing import Any

from tunesmith.recipe.layers import EXTENDS, LAYER
from tunesmith.recipe.schema import Recipe

LOADER_KEYS: dict[str, dict[str, Any]] = {
    EXTENDS: {
        "description": "The recipes and layers that this file extends: names of the catalog, or files relative to "
        "this one.",
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
    },
    LAYER: {
        "description": "Marks the file as a layer, which is applied to recipes and is not a run by itself; the value "
        "says what the layer is for.",
        "type": "string",
    },
}


def json_schema() -> dict[str, Any]:
    """The schema of one file. Any key may come from a file that is extended, so no key is required."""
    schema = _without_required(Recipe.model_json_schema())
    schema["properties"] = {**LOADER_KEYS, **schema["properties"]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _without_required(schema: Any) -> Any:
    """The same schema without required keys, and with ``key+`` (append to the list) next to every list."""
    if isinstance(schema, list):
        return [_without_required(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    # If `kind` is not required, a mapping may match several members of a union.
    renamed = {"anyOf" if key == "oneOf" else key: value for key, value in schema.items() if key != "required"}
    kept = {key: _without_required(value) for key, value in renamed.items() if key != "discriminator"}
    properties = kept.get("properties")
    if isinstance(properties, dict):
        lists = {f"{name}+": value for name, value in properties.items() if value.get("type") == "array"}
        appended = {
            name: {**value, "minItems": 0, "default": []} for name, value in lists.items() if "prefixItems" not in value
        }
        kept["properties"] = {**properties, **appended}
    return kept

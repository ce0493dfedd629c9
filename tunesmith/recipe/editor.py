"""The JSON schema of recipe files, for editors: completion, descriptions on hover, red underlines."""

from __future__ import annotations

from typing import Any

from tunesmith.recipe.layers import EXTENDS, LAYER
from tunesmith.recipe.schema import Recipe

LOADER_KEYS: dict[str, dict[str, Any]] = {
    EXTENDS: {
        "description": "recipes and layers beneath this file: catalogue names, or files relative to this one",
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
    },
    LAYER: {"description": "in a layer (laid over recipes, no run by itself): what it is for", "type": "string"},
}


def json_schema() -> dict[str, Any]:
    """Schema of one file. A file may leave to others whatever it extends, so nothing in it is required."""
    schema = _partial(Recipe.model_json_schema())
    schema["properties"] = {**LOADER_KEYS, **schema["properties"]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _partial(schema: Any) -> Any:
    """The same schema without required keys, and with ``key+`` (append) beside every list."""
    if isinstance(schema, list):
        return [_partial(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    # Without required kinds a mapping may fit several members of a union.
    renamed = {"anyOf" if key == "oneOf" else key: value for key, value in schema.items() if key != "required"}
    kept = {key: _partial(value) for key, value in renamed.items() if key != "discriminator"}
    properties = kept.get("properties")
    if isinstance(properties, dict):
        lists = {f"{name}+": value for name, value in properties.items() if value.get("type") == "array"}
        appended = {
            name: {**value, "minItems": 0, "default": []} for name, value in lists.items() if "prefixItems" not in value
        }
        kept["properties"] = {**properties, **appended}
    return kept

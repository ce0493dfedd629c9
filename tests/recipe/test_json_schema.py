"""The JSON schema for editors accepts partial files and has every key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tunesmith.recipe.json_schema import json_schema
from tunesmith.recipe.keys import all_keys


def parts(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from parts(child)


def test_it_is_plain_json_with_every_key_described() -> None:
    schema = json.loads(json.dumps(json_schema()))
    objects = [part for part in parts(schema) if part.get("type") == "object" and "properties" in part]
    named = {name for part in objects for name in part["properties"]}
    assert named >= {key.path[-1] for key in all_keys()}
    assert {"extends", "layer", "sources+", "trackers+", "validation_sources+"} <= named
    assert "betas+" not in named
    for part in objects:
        assert all("description" in field for field in part["properties"].values())
        assert part["additionalProperties"] is False


def test_no_key_is_required_because_it_may_come_from_a_file_that_is_extended() -> None:
    assert not any("required" in part or "oneOf" in part for part in parts(json_schema()))

"""Answers parsed strictly with the types of OpenAI's client, which itself accepts everything."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel

Answer = TypeVar("Answer", bound=BaseModel)


def parse(kind: type[Answer], value: Any) -> Answer:
    """The object of a type of OpenAI's client. Raises ValidationError, and AssertionError for a field that it lacks."""
    found = kind.model_validate(value)
    _check_no_extra(found)
    return found


def _check_no_extra(value: Any) -> None:
    if isinstance(value, BaseModel):
        assert not value.model_extra, f"{type(value).__name__} has {value.model_extra}"
        for name in type(value).model_fields:
            _check_no_extra(getattr(value, name))
    elif isinstance(value, list):
        for each in value:
            _check_no_extra(each)

"""Plain values -> Recipe, or every fault at once in plain English, each with its place."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from tunesmith.recipe.faults import Fault, Origin, RecipeFaults
from tunesmith.recipe.keys import describe, hint
from tunesmith.recipe.objectives import OBJECTIVE
from tunesmith.recipe.reading import Marked, plain
from tunesmith.recipe.schema import Data, Evaluate, Model, Recipe, Run, Text, Train, across_sections
from tunesmith.recipe.section import Problem

Place = tuple[str, ...]

# What pydantic's kinds of error say was expected; {…} are filled from the error's context.
EXPECTED: Mapping[str, str] = {
    "literal_error": "{expected}",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping of key: value lines",
    "mapping_type": "a mapping of key: value lines",
    "model_type": "a mapping of key: value lines",
    "model_attributes_type": "a mapping of key: value lines",
    "invalid_json_value": "text, a number, true, false, null, a list or a mapping",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "string_too_short": "text that is not empty",
    "string_too_long": "at most {max_length} characters",
    "string_pattern_mismatch": "letters, digits, '.', '_' and '-', beginning with a letter or digit",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
    "union_tag_invalid": "one of {expected_tags}",
}


def validate(marked: Marked) -> Recipe:
    """The recipe. Raises RecipeFaults with all unknown keys, wrong types and impossible combinations."""
    given = plain(marked)
    try:
        return Recipe.model_validate(given)
    except ValidationError as error:
        details = error.errors(include_url=False)
    faults = [Fault(_origin(marked, path), ".".join(path), what) for path, what in _messages(details, given)]
    raise RecipeFaults(faults)


def _messages(details: list[ErrorDetails], given: Any) -> Iterator[tuple[Place, str]]:
    """(path, message); errors of one value that could have several types become one message."""
    expected: dict[Place, list[str]] = {}
    for detail in details:
        path = _path(detail, given)
        if detail["type"] == "combination":
            yield from _problems(path, detail["ctx"]["problems"])
        elif own := _about_keys(detail, path):
            yield own
        elif detail["type"] == "missing":  # one of a list of fixed length
            expected.setdefault(path[:-1], []).append(f"at least {int(path[-1]) + 1} values")
        elif detail["type"] == "too_short" and _at(given, path):
            continue  # its items are faulty, each has its own message
        else:
            place = (*path, "kind") if detail["type"] == "union_tag_invalid" else path
            expected.setdefault(place, []).append(_phrase(detail))
    for path, phrases in expected.items():
        yield path, _expectation(phrases, _at(given, path))
    yield from _problems((), _across(details, given))


def _about_keys(detail: ErrorDetails, path: Place) -> tuple[Place, str] | None:
    """Faults of a key rather than of its value."""
    kind, last = detail["type"], detail["loc"][-1] if detail["loc"] else ""
    if kind == "extra_forbidden":
        return path, "; ".join(part for part in ("unknown key", hint(path)) if part)
    if kind == "missing" and isinstance(last, str):
        return path, "; ".join(part for part in ("missing", describe(path)) if part)
    if kind == "union_tag_not_found":
        return (*path, "kind"), "missing; it says which other keys there are"
    if last == "[key]":
        return path, f"a key is {_phrase(detail)}"
    return None


def _phrase(detail: ErrorDetails) -> str:
    context = {key: f"{value:g}" if isinstance(value, float) else value for key, value in detail.get("ctx", {}).items()}
    return EXPECTED[detail["type"]].format(**context) if detail["type"] in EXPECTED else detail["msg"]


def _across(details: list[ErrorDetails], given: Any) -> Iterable[Problem]:
    """Combinations across sections that have no fault of their own (pydantic itself looks only if no section has any)."""
    faulty = {detail["loc"][0] for detail in details if detail["loc"]}
    if not faulty:
        return ()
    return across_sections(
        data=None if "data" in faulty else Data.model_validate(given["data"]),
        train=None if "train" in faulty else Train.model_validate(given["train"]),
        evaluate=None if "evaluate" in faulty else Evaluate.model_validate(given.get("evaluate", {})),
        run=None if "run" in faulty else Run.model_validate(given.get("run", {})),
        model=None if "model" in faulty else Model.model_validate(given["model"]),
        text=None if "text" in faulty else Text.model_validate(given["text"]),
        objective=None if "objective" in faulty else OBJECTIVE.validate_python(given.get("objective", {})),
    )


def _problems(path: Place, problems: Iterable[Problem]) -> Iterator[tuple[Place, str]]:
    for problem in problems:
        yield (*path, *problem.key.split(".")), problem.what


def _expectation(phrases: list[str], value: Any) -> str:
    """``expected 'none' or 'exact' or a whole number, got 'most'``."""
    different = list(dict.fromkeys(phrases))
    quotes = "; put it in quotes" if different == ["text"] and isinstance(value, int | float) else ""
    any_of = " or ".join(part for part in (", ".join(different[:-1]), different[-1]) if part)
    return f"expected {any_of}, got {_shown(value)}{quotes}"


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else f"a list of {len(value)}"
    text = repr(value) if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _path(detail: ErrorDetails, given: Any) -> Place:
    """The error's place as keys and indices; pydantic's location also names members of unions, which are no keys."""
    path: list[str] = []
    last = len(detail["loc"]) - 1
    for index, part in enumerate(detail["loc"]):
        inside = (isinstance(given, dict) and part in given) or (
            isinstance(given, list) and isinstance(part, int) and part < len(given)
        )
        if inside:
            given = given[part]
        if inside or (index == last and detail["type"] == "missing"):
            path.append(str(part))
    return tuple(path)


def _at(given: Any, path: Place) -> Any:
    for part in path:
        if isinstance(given, list):
            given = given[int(part)]
        elif isinstance(given, dict):
            given = given.get(part)
    return given


def _origin(marked: Marked, path: Place) -> Origin:
    """Origin of the value at a path, or of the innermost mapping around it that was given."""
    for part in path:
        if isinstance(marked.value, dict) and part in marked.value:
            marked = marked.value[part]
        elif isinstance(marked.value, list) and part.isdecimal() and int(part) < len(marked.value):
            marked = marked.value[int(part)]
        else:
            break
    return marked.origin

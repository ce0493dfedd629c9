"""Validates the values of a recipe and reports all problems at once, each with where the value was given."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from tunesmith.recipe.keys import advise, describe, find_value_key
from tunesmith.recipe.layers import is_file
from tunesmith.recipe.missing import find_extended, find_missing, missing_message
from tunesmith.recipe.objectives import OBJECTIVE_ADAPTER
from tunesmith.recipe.problems import COMMAND_LINE, InvalidRecipeError, Origin, RecipeProblem
from tunesmith.recipe.reading import LocatedValue, to_plain
from tunesmith.recipe.schema import (
    DataConfig,
    EvaluateConfig,
    ModelConfig,
    Recipe,
    RunConfig,
    TextConfig,
    TrainConfig,
    find_section_conflicts,
)
from tunesmith.recipe.section import Conflict

Path = tuple[str, ...]

LONGEST_ADVICE = 200
"""Characters of a value that is repeated in an advice."""

# The type of a pydantic error -> what was expected; {...} is filled from the context of the error.
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
    "greater_than": "a number greater than {gt}",
    "greater_than_equal": "a number of at least {ge}",
    "less_than": "a number less than {lt}",
    "less_than_equal": "a number of at most {le}",
    "string_too_short": "text that is not empty",
    "string_too_long": "text of at most {max_length} characters",
    "string_pattern_mismatch": "text of letters, digits, '.', '_' and '-' that begins with a letter or digit",
    "too_short": "a list with {min_length} or more items",
    "too_long": "a list with at most {max_length} items",
    "union_tag_invalid": "one of {expected_tags}",
}


def validate(located: LocatedValue, name: str | None = None, *, extends: bool = False) -> Recipe:
    """The recipe with these values.

    name: of the recipe in messages: a name of the catalog or a file; None: where the last values come from.
    extends: whether its file extends another one.
    Raises InvalidRecipeError with all missing values, unknown keys, wrong types and conflicts.
    """
    given = to_plain(located)
    try:
        return Recipe.model_validate(given)
    except ValidationError as error:
        details = error.errors(include_url=False)
    missing = find_missing(given)
    problems = [
        RecipeProblem(_origin(located, path), ".".join(path), message)
        for path, message in _messages(details, given, located)
        if path not in missing
    ]
    if missing:
        origin = Origin(name or located.origin.source)
        extended = None if extends else find_extended(given)
        message = missing_message(missing, in_file=is_file(origin.source), extended=extended)
        problems.append(RecipeProblem(origin, "", message))
    raise InvalidRecipeError(problems)


def _messages(details: list[ErrorDetails], given: Any, located: LocatedValue) -> Iterator[tuple[Path, str]]:
    """(path, message) of every problem; the errors of a value that may have several types become one message."""
    expected: dict[Path, list[str]] = {}
    for detail in details:
        path = _path(detail, given)
        if detail["type"] == "missing" and isinstance(detail["loc"][-1], str):
            continue  # reported with all other missing keys
        if detail["type"] == "conflict":
            yield from _conflict_messages(path, detail["ctx"]["conflicts"], located)
        elif key_message := _key_message(detail, path):
            yield key_message
        elif detail["type"] == "missing":  # an item of a list of fixed length
            expected.setdefault(path[:-1], []).append(f"a list with {int(path[-1]) + 1} items")
        elif detail["type"] == "too_short" and _at(given, path):
            continue  # its items are invalid, and each of them has its own message
        else:
            key_path = (*path, "kind") if detail["type"] == "union_tag_invalid" else path
            expected.setdefault(key_path, []).append(_expected(detail))
    for path, phrases in expected.items():
        if any(len(other) > len(path) and other[: len(path)] == path for other in expected):
            continue  # of several types that the value may have, one fits except for what is inside
        yield path, _value_message(phrases, _at(given, path)) + _section_advice(path, _at(given, path))
    yield from _conflict_messages((), _find_conflicts(details, given), located)


def _key_message(detail: ErrorDetails, path: Path) -> tuple[Path, str] | None:
    """(path, message) of an error that concerns a key and not its value."""
    kind, last = detail["type"], detail["loc"][-1] if detail["loc"] else ""
    if kind == "extra_forbidden":
        return path, f"unknown key; {advise(path)}"
    if kind == "union_tag_not_found":
        return (*path, "kind"), f"the required key is missing: {describe((*path, 'kind'))}"
    if last == "[key]":
        return path, f"a key must be {_expected(detail)}"
    return None


def _expected(detail: ErrorDetails) -> str:
    """What was expected instead of the value, as a noun phrase."""
    context = {key: f"{value:g}" if isinstance(value, float) else value for key, value in detail.get("ctx", {}).items()}
    return EXPECTED[detail["type"]].format(**context) if detail["type"] in EXPECTED else detail["msg"]


def _find_conflicts(details: list[ErrorDetails], given: Any) -> Iterable[Conflict]:
    """Conflicts between the valid sections; pydantic looks for them only if all sections are valid."""
    invalid = {detail["loc"][0] for detail in details if detail["loc"]}
    if not invalid:
        return ()
    return find_section_conflicts(
        data=None if "data" in invalid else DataConfig.model_validate(given["data"]),
        train=None if "train" in invalid else TrainConfig.model_validate(given["train"]),
        evaluate=None if "evaluate" in invalid else EvaluateConfig.model_validate(given.get("evaluate", {})),
        run=None if "run" in invalid else RunConfig.model_validate(given.get("run", {})),
        model=None if "model" in invalid else ModelConfig.model_validate(given["model"]),
        text=None if "text" in invalid else TextConfig.model_validate(given["text"]),
        objective=None if "objective" in invalid else OBJECTIVE_ADAPTER.validate_python(given.get("objective", {})),
    )


def _conflict_messages(path: Path, conflicts: Iterable[Conflict], located: LocatedValue) -> Iterator[tuple[Path, str]]:
    for conflict in conflicts:
        words = [".".join((*path, word)) for word in conflict.remedies]
        yield (*path, *conflict.key.split(".")), conflict.describe(_not_given(words, located))


def _not_given(words: Sequence[str], located: LocatedValue) -> list[str]:
    """Of single values those whose key is the least likely to be what the user wants.

    What the user gave on the command line wins over a file, and a file over the catalog and defaults.
    """
    ranks = [_rank(_origin(located, tuple(word.partition("=")[0].split(".")))) for word in words]
    return [word for word, rank in zip(words, ranks, strict=True) if rank == min(ranks)]


def _rank(origin: Origin) -> int:
    return 2 if origin == COMMAND_LINE else 1 if is_file(origin.source) else 0


def _value_message(phrases: list[str], value: Any) -> str:
    """``expected 'none' or 'exact' or a whole number, got 'most'``."""
    different = list(dict.fromkeys(phrases))
    quotes = "; put it in quotes" if different == ["text"] and isinstance(value, int | float) else ""
    any_of = " or ".join(part for part in (", ".join(different[:-1]), different[-1]) if part)
    return f"expected {any_of}, got {_shown(value)}{quotes}"


def _section_advice(path: Path, value: Any) -> str:
    """For one text in the place of a section the key that was probably meant: ``model=gpt2`` -> ``model.path=gpt2``."""
    if not isinstance(value, str) or not value or (key := find_value_key(path)) is None or len(value) > LONGEST_ADVICE:
        return ""
    return f"; did you mean {key}={value}?"


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return (
            "a mapping" if isinstance(value, dict) else f"a list with {len(value)} item{'' if len(value) == 1 else 's'}"
        )
    text = repr(value) if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _path(detail: ErrorDetails, given: Any) -> Path:
    """The keys and indices of the value.

    Pydantic's location also has members of unions, which may have the name of a key. Of all ways to read it, the right
    one leads to the value that pydantic says it was given.
    """
    missing = detail["type"] == "missing"
    location = detail["loc"][:-1] if missing else detail["loc"]
    ways = [*_ways(location, given)]
    right = [path for path, value in ways if _is_same(value, detail["input"])]
    found = max(right, key=len) if right else ways[0][0]
    return (*found, str(detail["loc"][-1])) if missing else found


def _ways(location: Sequence[int | str], given: Any) -> Iterator[tuple[Path, Any]]:
    """Every way to read a location, with the value that it leads to; first the one with the first key that fits."""
    if not location:
        yield (), given
        return
    part, rest = location[0], location[1:]
    if isinstance(given, dict):
        inside = [given[part]] if part in given else []
    else:
        inside = given[part : part + 1] if isinstance(given, list) and isinstance(part, int) else []
    for child in inside:
        yield from (((str(part), *path), value) for path, value in _ways(rest, child))
    yield from _ways(rest, given)


def _is_same(value: Any, given: Any) -> bool:
    """Whether a value is the one that pydantic was given; scalars need only be equal."""
    return value is given or (not isinstance(value, dict | list) and value == given)


def _at(given: Any, path: Path) -> Any:
    for part in path:
        if isinstance(given, list):
            given = given[int(part)]
        elif isinstance(given, dict):
            given = given.get(part)
    return given


def _origin(located: LocatedValue, path: Path) -> Origin:
    """The origin of the value at a path, or of the innermost mapping around it that was given."""
    for part in path:
        if isinstance(located.value, dict) and part in located.value:
            located = located.value[part]
        elif isinstance(located.value, list) and part.isdecimal() and int(part) < len(located.value):
            located = located.value[int(part)]
        else:
            break
    return located.origin

"""The JSON of a request, read strictly and with limits, before anything is done with it."""

from __future__ import annotations

import json
import math
import re
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from tunesmith.serve.refusals import RefusedRequest, invalid

DEPTH_LIMIT = 32
SHOWN = 60  # characters of a field's name in a message
TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"?|[\[{]|[\]}]', re.DOTALL)  # linear: an open string reaches to the end

Schema = TypeVar("Schema", bound=BaseModel)


def read_body(body: bytes, schema: type[Schema]) -> Schema:
    """The request that a body holds. Raises RefusedRequest, which names the field."""
    value = parse_json(body)
    if not isinstance(value, dict):
        raise invalid(None, "The body of the request must be a JSON object.", "invalid_json")
    known = {*schema.model_fields, *getattr(schema, "NEUTRAL", ())}
    for key in value:
        if key not in known:
            what = f"Unrecognized request argument supplied: {_shown(key)}"
            raise invalid(_shown(key), what, "unknown_parameter")
    try:
        return schema.model_validate(value)
    except ValidationError as error:
        raise _describe(error) from None


def parse_json(body: bytes) -> Any:
    """The value of a JSON text. Raises RefusedRequest.

    Refused are also NaN, Infinity and numbers beyond 1.8e308, a key twice in one object, and half a character.
    """
    depth = 0
    for match in TOKEN.finditer(body):
        first = match.group()[:1]
        depth += (first in b"[{") - (first in b"]}") if first != b'"' else 0
        if depth > DEPTH_LIMIT:
            raise _not_json(f"it is nested deeper than {DEPTH_LIMIT} levels")
    try:
        value = DECODER.decode(body.decode("utf-8"))
        if b"\\u" in body:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except json.JSONDecodeError as error:
        raise _not_json(f"{error.msg} at line {error.lineno}, column {error.colno}") from None
    except UnicodeDecodeError:
        raise _not_json("it is not UTF-8") from None
    except UnicodeEncodeError:
        raise _not_json("a text has half a character (a lone surrogate)") from None
    except ValueError:  # Python reads no longer one
        raise _not_json("a number has more than 4,300 digits") from None
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _not_json("a key occurs twice in one object")
    return found


def _no_constant(name: str) -> Any:
    raise _not_json(f"{name} is not a number of JSON")


def _number(digits: str) -> float | int:
    """A number with a point or an exponent. In JSON 2.0 is a whole number like 2."""
    number = float(digits)
    if not math.isfinite(number):
        raise _not_json("a number is larger than 1.8e308")
    return int(number) if number.is_integer() else number


DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_number)


def _not_json(what: str) -> RefusedRequest:
    return invalid(None, f"The body cannot be read as JSON: {what}.", "invalid_json")


def _describe(error: ValidationError) -> RefusedRequest:
    """The first error of a schema as a sentence."""
    first = error.errors(include_url=False, include_context=True, include_input=False)[0]
    refused = first.get("ctx", {}).get("error")
    place = _place(first["loc"])
    if isinstance(refused, Unsupported):
        return invalid(_place((*first["loc"], *refused.fields)), str(refused), "unsupported_parameter")
    what = first["msg"].removeprefix("Value error, ")
    return invalid(place, f"Invalid value for {place!r}: {what[:1].lower()}{what[1:]}.")


def _place(steps: tuple[int | str, ...]) -> str:
    """``messages[0].role`` of the steps to a value."""
    found = ""
    for step in steps:
        if isinstance(step, int):
            found += f"[{step}]"
        elif re.fullmatch(r"[a-z_0-9]{1,40}", step):
            found += f".{step}" if found else step
    return found


def _shown(key: str) -> str:
    return key if len(key) <= SHOWN else key[:SHOWN] + "..."


class Unsupported(ValueError):
    """A value that OpenAI's API knows and this server does not support.

    fields: the field that has it, within the object that was checked.
    """

    def __init__(self, what: str, *fields: str) -> None:
        super().__init__(what)
        self.fields = fields

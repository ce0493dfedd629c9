"""Types of the fields of requests: what clients send, with limits, and what is accepted only if it changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from tunesmith.serve.openai.json_body import Unsupported

STOPS = 4
STOP_CHARACTERS = 64
BIASES = 300
LOG_PROBABILITIES = 20
CHOICES = 8
MESSAGES = 256
PROMPTS = 256
INTEGER = 2**63 - 1
LARGEST_PROMPT = 2**20  # characters, or ids; a body is not longer


class RequestSchema(BaseModel):
    """A JSON object of a request: exact types, no other keys, null only where a field says so.

    NEUTRAL: fields that are not supported, with the values that have no effect. These and null are accepted, because
        clients send them; any other value is refused by name.
    """

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    NEUTRAL: ClassVar[Mapping[str, tuple[Any, ...]]] = {}

    @model_validator(mode="before")
    @classmethod
    def _remove_neutral(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        for name, accepted in cls.NEUTRAL.items():
            if not _is_one_of(value.get(name), (None, *accepted)):
                raise Unsupported(f"{name!r} is not supported by this server.", name)
        return {key: each for key, each in value.items() if key not in cls.NEUTRAL}

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The schema, with the neutral fields and their values."""
        found = handler.resolve_ref_schema(handler(schema))
        for name, accepted in cls.NEUTRAL.items():
            found.setdefault("properties", {})[name] = {"enum": [None, *accepted], "description": "Not supported."}
        return found


def _is_one_of(value: Any, accepted: tuple[Any, ...]) -> bool:
    """Whether a value of JSON is one of these; numbers are equal whatever their type, and booleans are no numbers."""
    return any(isinstance(value, bool) == isinstance(each, bool) and value == each for each in accepted)


def _stop_texts(value: Any) -> Any:
    """A stop text or a list of them -> a list. Raises ValueError."""
    texts = [value] if isinstance(value, str) else value
    if texts is None:
        return None
    if not isinstance(texts, list) or not all(isinstance(each, str) for each in texts[: STOPS + 1]):
        raise ValueError("must be a text or a list of texts")
    if len(texts) > STOPS:
        raise ValueError(f"at most {STOPS} stop texts are allowed")
    for each in texts:
        if not 1 <= len(each) <= STOP_CHARACTERS:
            raise ValueError(f"a stop text has 1 to {STOP_CHARACTERS} characters")
    return texts


def _biases(value: Any) -> Any:
    """An object of token ids and numbers. Raises ValueError."""
    if value is None:
        return None
    if not isinstance(value, dict) or len(value) > BIASES:
        raise ValueError(f"must be an object with at most {BIASES} token ids")
    for key, number in value.items():
        if not key.isdecimal() or not key.isascii() or len(key) > 10 or key != str(int(key)):
            raise ValueError("the keys must be token ids in decimal digits")
        if isinstance(number, bool) or not isinstance(number, int | float) or not -100 <= number <= 100:
            raise ValueError("the values must be numbers from -100 to 100")
    return value


def _prompts(value: Any) -> Any:
    """A text, a list of texts, token ids, or a list of lists of token ids -> a list of texts or lists. ValueError."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not value:
        raise ValueError("must be a text, a list of texts, a list of token ids, or a list of such lists")
    if all(type(each) is int for each in value):
        return [value]
    if len(value) > PROMPTS:
        raise ValueError(f"at most {PROMPTS} prompts are allowed")
    if all(isinstance(each, str) for each in value):
        return value
    if all(isinstance(each, list) and each and all(type(token) is int for token in each) for each in value):
        return value
    raise ValueError("must be a text, a list of texts, a list of token ids, or a list of such lists")


_TEXT = {"type": "string"}
_IDS = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}
_STOP = {"type": "string", "minLength": 1, "maxLength": STOP_CHARACTERS}
STOP_SCHEMA = {"anyOf": [_STOP, {"type": "array", "items": _STOP, "maxItems": STOPS}, {"type": "null"}]}
PROMPT_SCHEMA = {
    "anyOf": [
        _TEXT,
        {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": PROMPTS},
        _IDS,
        {"type": "array", "items": _IDS, "minItems": 1, "maxItems": PROMPTS},
    ]
}
BIAS_SCHEMA = {
    "anyOf": [
        {
            "type": "object",
            "maxProperties": BIASES,
            "propertyNames": {"pattern": "^(0|[1-9][0-9]{0,8})$"},
            "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100},
        },
        {"type": "null"},
    ]
}

ModelName = Annotated[str, Field(description="The name of a served model, as GET /v1/models lists it.")]
Temperature = Annotated[float, Field(ge=0, le=2)] | None
TopP = Annotated[float, Field(ge=0, le=1)] | None
Penalty = Annotated[float, Field(ge=-2, le=2)] | None
Choices = Annotated[int, Field(ge=1, le=CHOICES)] | None
Seed = Annotated[int, Field(ge=-INTEGER - 1, le=INTEGER)] | None
Tokens = Annotated[int, Field(ge=1, le=INTEGER)] | None
StopTexts = Annotated[Any, BeforeValidator(_stop_texts), Field(json_schema_extra=STOP_SCHEMA)]
Biases = Annotated[Any, BeforeValidator(_biases), Field(json_schema_extra=BIAS_SCHEMA)]
Prompts = Annotated[Any, BeforeValidator(_prompts), Field(json_schema_extra=PROMPT_SCHEMA)]
Dropped = Annotated[str | None, Field(description="Accepted without effect.", max_length=512)]
Metadata = Annotated[
    dict[str, Annotated[str, Field(max_length=512)]] | None,
    Field(description="Accepted without effect.", max_length=16),
]


def _only_text(value: Any) -> Any:
    """Raises Unsupported for the other formats of OpenAI's API."""
    if value in ("json_object", "json_schema"):
        raise Unsupported(f"response_format {value!r} is not supported by this server; only 'text' is.")
    return value


class ResponseFormatSchema(RequestSchema):
    """``response_format``."""

    type: Annotated[Literal["text"], BeforeValidator(_only_text)]


class StreamOptionsSchema(RequestSchema):
    """``stream_options``."""

    include_usage: bool | None = None

    NEUTRAL = {"include_obfuscation": (False,)}

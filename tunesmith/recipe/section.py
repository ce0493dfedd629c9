"""The base class of all sections of a recipe, their number types, and how conflicting values are reported."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

FractionBelowOne = Annotated[float, Field(ge=0, lt=1)]
PositiveFraction = Annotated[float, Field(gt=0, le=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Betas = Annotated[tuple[FractionBelowOne, FractionBelowOne], Field(strict=False)]  # not strict: YAML has lists only
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=120)]


class Section(BaseModel):
    """A part of a recipe: unknown keys are errors, no value is converted to another type, and none can be changed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Conflict(NamedTuple):
    """A combination of values that are valid one by one but cannot be used together.

    key: dotted key of the value to change, relative to the section that found the conflict.
    message: what is wrong and, if there are no remedies, what to do, in one sentence.
    remedies: single values (``steps=null``), each of which ends the conflict, relative to the same section; the user
        reads that of the key that somebody else gave.
    """

    key: str
    message: str
    remedies: tuple[str, ...] = ()

    def describe(self, words: Sequence[str]) -> str:
        """The message, which ends in the words to append. words: remedies as single values of the whole recipe."""
        return f"{self.message}; append {' or '.join(words)}" if words else self.message


def check_conflicts(conflicts: Iterable[Conflict]) -> None:
    """Raises one pydantic error that carries every conflict in its context, if there is any."""
    found = tuple(conflicts)
    if found:
        text = "; ".join(f"{conflict.key}: {conflict.message}" for conflict in found)
        raise PydanticCustomError("conflict", "{text}", {"text": text, "conflicts": found})

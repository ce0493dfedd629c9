"""What all parts of a recipe share: strictness, and how a part refuses combinations of values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

Count = Annotated[int, Field(gt=0)]
Number = Annotated[int, Field(ge=0)]
Amount = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Mass = Annotated[float, Field(gt=0, le=1)]
Betas = Annotated[tuple[Share, Share], Field(strict=False)]  # not strict: YAML knows lists only
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=120)]

T = TypeVar("T")


class Section(BaseModel):
    """Unknown keys are errors, nothing is converted, nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Problem(NamedTuple):
    """A combination of valid values that makes no sense.

    key: where it is, relative to the section that found it. what: the fault and what to do.
    """

    key: str
    what: str


def refuse(section: T, problems: Iterable[Problem]) -> T:
    """The section itself, or one pydantic error that carries every problem in its context."""
    found = tuple(problems)
    if found:
        text = "; ".join(f"{problem.key}: {problem.what}" for problem in found)
        raise PydanticCustomError("combination", "{text}", {"text": text, "problems": found})
    return section

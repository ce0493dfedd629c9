"""The keys of a recipe that say which messages of a source stay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Self

from pydantic import Field, model_validator

from tunesmith.recipe.section import Count, Name, Number, Problem, Section, refuse


class LabelRange(Section):
    """The values of one label that stay; both ends belong to the range."""

    min: float | None = Field(default=None, description="least value that stays")
    max: float | None = Field(default=None, description="greatest value that stays")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        return refuse(self, _some_range(self))


class Filters(Section):
    """What a message must be like to stay. One that fails goes with everything below it."""

    min_characters: Number = Field(default=0, description="fewest characters of a reply")
    max_characters: Count | None = Field(
        default=None, description="most characters of any message, its context included"
    )
    max_turns: Count | None = Field(
        default=None, description="most turns of user and assistant in a thread; what follows is dropped"
    )
    languages: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] | None = Field(
        default=None, description="languages that stay, as the data declare them ([en, de]); null: all"
    )
    labels: Mapping[Name, LabelRange] = Field(
        default_factory=dict, description="labels with the values that stay, such as {quality: {min: 0.5}}"
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        return refuse(self, _some_length(self))


def _some_range(label: LabelRange) -> Iterator[Problem]:
    if label.min is None and label.max is None:
        yield Problem("min", "a range without an end; give min or max, or remove the label")
    if label.min is not None and label.max is not None and label.min > label.max:
        yield Problem("min", f"{label.min:g} is above max ({label.max:g})")


def _some_length(filters: Filters) -> Iterator[Problem]:
    if filters.max_characters is not None and filters.min_characters > filters.max_characters:
        yield Problem("min_characters", f"{filters.min_characters} is above max_characters ({filters.max_characters})")

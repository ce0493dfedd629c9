"""The keys of a recipe that decide which messages of a data source are kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from tunesmith.recipe.section import Conflict, Name, Section, check_conflicts


class LabelRangeConfig(Section):
    """The values of one label that are kept; both ends belong to the range."""

    min: float | None = Field(default=None, description="The smallest value that is kept; null sets no lower limit.")
    max: float | None = Field(default=None, description="The largest value that is kept; null sets no upper limit.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_conflicts(_find_range_conflicts(self))
        return self


class FiltersConfig(Section):
    """Conditions that a message must fulfil to be kept. A message that fails is removed with all replies below it."""

    min_characters: NonNegativeInt = Field(
        default=0, description="A reply needs at least this many characters; 0 keeps replies of any length."
    )
    max_characters: PositiveInt | None = Field(
        default=None,
        description="A message, including its context, may have at most this many characters; null sets no limit.",
    )
    max_turns: PositiveInt | None = Field(
        default=None,
        description="A thread is truncated after this many turns of user and assistant; null sets no limit.",
    )
    languages: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] | None = Field(
        default=None,
        description="The languages that are kept, as the data declare them, such as [en, de]; null keeps all.",
    )
    labels: Mapping[Name, LabelRangeConfig] = Field(
        default_factory=dict,
        description="Labels of the data with the range of values that is kept, such as {quality: {min: 0.5}}.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_conflicts(_find_length_conflicts(self))
        return self


def _find_range_conflicts(label: LabelRangeConfig) -> Iterator[Conflict]:
    if label.min is None and label.max is None:
        yield Conflict("min", "the range has no limit; give min or max, or remove the label")
    if label.min is not None and label.max is not None and label.min > label.max:
        yield Conflict("min", f"{label.min:g} is greater than max ({label.max:g}); lower min or raise max")


def _find_length_conflicts(filters: FiltersConfig) -> Iterator[Conflict]:
    least, most = filters.min_characters, filters.max_characters
    if most is not None and least > most:
        yield Conflict(
            "min_characters", f"{least} is greater than max_characters ({most}); lower it or raise the other"
        )

"""The keys of a recipe that say what is trained on and what is held back."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from tunesmith.recipe.filters import Filters
from tunesmith.recipe.section import Count, Mass, Name, Number, Positive, Problem, Section, Share, refuse

Switch = bool | int | float | str
ReaderOption = Switch | None | Annotated[tuple[str, ...], Field(strict=False)]

AMOUNTS = ("fraction", "size", "weight")  # of a source in an epoch; one of them at most
DATA_SUFFIXES = (".gz", ".zst", ".jsonl", ".json", ".parquet", ".csv", ".txt", ".trees")


class Source(Section):
    """One source of rows."""

    name: Name = Field(description="name in counts and reports; default: taken from path")
    path: Annotated[str, Field(min_length=1)] = Field(description="a file, a directory or a hub name")
    split: str | None = Field(default=None, description="split of a hub data set, such as train")
    reader: Literal[
        "dolly",
        "alpaca",
        "prompt-completion",
        "text",
        "messages",
        "sharegpt",
        "oasst",
        "oasst-messages",
        "preference",
        "preference-text",
        "preference-sharegpt",
        "hh",
        "shp",
        "ultrafeedback",
        "nectar",
        "stackexchange",
        "helpsteer",
        "arena",
        "alpacafarm",
        "prompts",
    ] = Field(description="what a row looks like")
    fields: Mapping[Name, str] = Field(
        default_factory=dict, description="name that the reader expects: name of that column in the data"
    )
    options: Mapping[Name, ReaderOption] = Field(default_factory=dict, description="switches of that reader")
    filters: Filters = Field(default_factory=Filters, description="which of its messages stay")
    fraction: Mass | None = Field(default=None, description="share of its trees that is drawn anew for every epoch")
    size: Count | None = Field(
        default=None, description="trees that it gives to every epoch; more than it has: all, as often as it goes"
    )
    weight: Positive | None = Field(
        default=None,
        description="how often each of its trees comes in an epoch; 2.3: twice, and a drawn 30 % once more",
    )
    validation: Number | Share | None = Field(
        default=None, description="held back of this source alone; null: its part of data.validation"
    )
    validation_limit: Count | None = Field(
        default=None, description="most of its trees that are evaluated; null: data.validation_limit"
    )

    @model_validator(mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        """A source without a name gets that of its file or hub repository."""
        if not isinstance(given, dict) or given.get("name") is not None:
            return given
        return {**given, "name": name_of(str(given.get("path")))}

    @model_validator(mode="after")
    def _possible(self) -> Self:
        return refuse(self, _one_amount(self))


class Data(Section):
    """What is trained on and what is held back."""

    sources: Annotated[tuple[Source, ...], Field(strict=False)] = Field(min_length=1, description="sources of rows")
    validation: Number | Share = Field(
        default=0, description="held back for evaluation: a number of trees (200) or a share (0.05)"
    )
    validation_sources: Annotated[tuple[Source, ...], Field(strict=False)] = Field(
        default=(), description="sources used for evaluation only, instead of holding some back"
    )
    evaluation_sets: Annotated[tuple[str, ...], Field(strict=False)] = Field(
        default=(),
        description="files that the model will be evaluated on; `tunesmith check` looks for overlap with them",
    )
    validation_limit: Count | None = Field(
        default=None, description="most trees of one source that are evaluated; null: all that are held back"
    )
    duplicates: Literal["keep", "exact", "near"] = Field(
        default="keep",
        description="what repeats an earlier record, in any source, is kept, or dropped if it says exactly or nearly the same",
    )
    near_threshold: Mass = Field(
        default=0.8, description="for duplicates: near, how much of their runs of five words two records share at least"
    )
    on_bad: Literal["stop", "skip"] = Field(
        default="stop", description="a bad row stops everything, or is left out and written to quarantine.jsonl"
    )
    max_bad: Number | Share = Field(
        default=0.001, description="for on_bad: skip, bad rows that are allowed: a number or a share of all rows"
    )
    cache: str | None = Field(default=None, description="directory of tokenised data; null: the user's cache directory")
    workers: Number | None = Field(default=None, description="processes that tokenise; null: by cores")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        return refuse(self, chain(_distinct_sources(self), _validation_from_one_place(self)))

    @property
    def evaluates(self) -> bool:
        """Whether there is anything to evaluate on."""
        own = any(source.validation for source in self.sources)
        shared = bool(self.validation) and any(source.validation is None for source in self.sources)
        return own or shared or bool(self.validation_sources)


def _one_amount(source: Source) -> Iterator[Problem]:
    """How much of a source an epoch holds is said in one way."""
    given = [key for key in AMOUNTS if getattr(source, key) is not None]
    for key in given[1:]:
        yield Problem(key, f"excludes {given[0]} ({getattr(source, given[0]):g}); set one of the two to null")


def _distinct_sources(data: Data) -> Iterator[Problem]:
    """Names are unique."""
    for key, sources in (("sources", data.sources), ("validation_sources", data.validation_sources)):
        names = [source.name for source in sources]
        for index, name in enumerate(names):
            if (first := names.index(name)) != index:
                yield Problem(f"{key}.{index}.name", f"{name!r} is the name of data.{key}.{first} too; give it another")


def _validation_from_one_place(data: Data) -> Iterator[Problem]:
    """Validation data are held back or have sources of their own, and those are not mixed."""
    if data.validation_sources:
        if data.validation:
            yield Problem("validation", "excludes validation_sources; set it to 0")
        for index, source in enumerate(data.sources):
            if source.validation:
                yield Problem(f"sources.{index}.validation", "excludes data.validation_sources; set it to null")
    for index, source in enumerate(data.validation_sources):
        for key in (*AMOUNTS, "validation"):
            if getattr(source, key) is not None:
                yield Problem(f"validation_sources.{index}.{key}", "belongs to data.sources only; remove it")


def name_of(path: str) -> str:
    """``data/dolly.jsonl.gz`` -> ``dolly``, ``OpenAssistant/oasst1`` -> ``oasst1``."""
    name = Path(path).name
    while name.endswith(DATA_SUFFIXES):
        name = name[: name.rindex(".")]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:120] or "data"

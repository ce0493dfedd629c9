"""The keys of a recipe for its data: the sources to train on, and what is held out for validation."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from tunesmith.recipe.filters import FiltersConfig
from tunesmith.recipe.section import Conflict, FractionBelowOne, Name, PositiveFraction, Section, check_conflicts

OptionValue = bool | int | float | str
ReaderOption = OptionValue | None | Annotated[tuple[str, ...], Field(strict=False)]

DOCUMENTS = "text"
"""The reader whose records are documents, without turns."""

AUTO = "auto"
"""In place of a reader: it is recognised from the rows, with its fields."""

AMOUNTS = ("fraction", "size", "weight")
"""Keys that set how much of a source an epoch contains; a source may have at most one of them."""

DATA_SUFFIXES = (
    *(".gz", ".zst", ".jsonl", ".ndjson", ".json", ".parquet", ".arrow"),
    *(".csv", ".tsv", ".txt", ".xlsx", ".xlsm", ".xls", ".trees"),
)
"""Endings of data files, which are not part of a source's default name."""


def _nothing_for_null(given: Any) -> Any:
    """Null in place of a mapping removes what a file that is extended has there."""
    return {} if given is None else given


_Fields: TypeAlias = Annotated[
    Mapping[Name, str], BeforeValidator(_nothing_for_null, json_schema_input_type=Mapping[Name, str] | None)
]


class DataSourceConfig(Section):
    """One source of rows."""

    name: Name = Field(description="The name of the source in counts and reports; by default derived from path.")
    path: Annotated[str, Field(min_length=1)] = Field(
        description="A file, a directory, or the name of a data set on the Hugging Face hub."
    )
    split: str | None = Field(
        default=None,
        description="What is read of a source with several parts: the split of a data set on the hub or in a saved "
        "directory, such as train; the sheet of an Excel file; the key of a list in a JSON file. Null where there is "
        "only one.",
    )
    config: str | None = Field(
        default=None, description="The configuration of a data set on the hub; null where it has only one."
    )
    reader: Literal[
        "auto",
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
    ] = Field(
        description="The reader that turns a row of this format into a tree of messages; auto recognises it and its "
        "fields from the first rows and says what it took."
    )
    fields: _Fields = Field(
        default_factory=dict,
        description="Renamed columns: the name that the reader expects, with the name of that column in the data; null "
        "where none is renamed.",
    )
    options: Mapping[Name, ReaderOption] = Field(default_factory=dict, description="Options of the reader.")
    ignore: Annotated[tuple[str, ...], Field(strict=False)] = Field(
        default=(),
        description="Columns and message keys (such as messages[].id) that are left out on purpose. A reader refuses a "
        "row in which a column that it does not read holds a part of the conversation.",
    )
    group: str | None = Field(
        default=None,
        description="The column whose value groups records, such as the number of a conversation; records of one group "
        "are on the same side of the validation split.",
    )
    filters: FiltersConfig = Field(
        default_factory=FiltersConfig, description="Conditions that messages must fulfil; by default all are kept."
    )
    fraction: PositiveFraction | None = Field(
        default=None,
        description="The share of the source's trees in an epoch, drawn again for every epoch; null uses all trees.",
    )
    size: PositiveInt | None = Field(
        default=None,
        description="The number of the source's trees in an epoch; if it has fewer, trees are repeated; null uses "
        "each tree once.",
    )
    weight: PositiveFloat | None = Field(
        default=None,
        description="How often each of the source's trees occurs in an epoch; 2.3 means twice, and once more for a "
        "random 30 %; null means once.",
    )
    validation: NonNegativeInt | FractionBelowOne | None = Field(
        default=None,
        description="What is held out of this source: a number of trees or a share; null applies data.validation.",
    )
    validation_limit: PositiveInt | None = Field(
        default=None,
        description="The largest number of this source's trees that an evaluation uses; null applies "
        "data.validation_limit.",
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_in_name(cls, given: Any) -> Any:
        """A source without a name is named after its file or hub repository."""
        if not isinstance(given, dict) or given.get("name") is not None:
            return given
        return {**given, "name": source_name(str(given.get("path")))}

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_conflicts(_find_two_amounts(self))
        return self


class DataConfig(Section):
    """The data to train on, and what is held out for validation."""

    sources: Annotated[tuple[DataSourceConfig, ...], Field(strict=False)] = Field(
        min_length=1, description="The sources of training data."
    )
    validation: NonNegativeInt | FractionBelowOne = Field(
        default=0,
        description="What is held out of the sources for validation: a number of trees (200) or a share (0.05).",
    )
    validation_sources: Annotated[tuple[DataSourceConfig, ...], Field(strict=False)] = Field(
        default=(), description="Sources that are used for validation only, instead of a holdout from data.sources."
    )
    evaluation_sets: Annotated[tuple[str, ...], Field(strict=False)] = Field(
        default=(),
        description="Files of benchmarks on which the model will be evaluated; `tunesmith check` reports overlap with "
        "them.",
    )
    validation_limit: PositiveInt | None = Field(
        default=None,
        description="The largest number of trees of one source that an evaluation uses; null uses all that are held "
        "out.",
    )
    duplicates: Literal["keep", "exact", "near"] = Field(
        default="keep",
        description="Whether records that repeat an earlier record of any source are kept (keep), or dropped if they "
        "are equal (exact) or nearly equal (near).",
    )
    near_threshold: PositiveFraction = Field(
        default=0.8,
        description="For duplicates near: records are nearly equal if they share at least this part of their runs of "
        "five words (Jaccard similarity).",
    )
    on_bad: Literal["stop", "skip"] = Field(
        default="stop",
        description="What happens at an unusable row: stop ends preparation with an error, skip writes the row to "
        "quarantine.jsonl and goes on.",
    )
    max_bad: NonNegativeInt | FractionBelowOne = Field(
        default=0.001,
        description="For on_bad skip: the largest number of unusable rows, or their largest share of all rows.",
    )
    cache: str | None = Field(
        default=None,
        description="The directory of tokenized data; null uses tunesmith in the user's cache directory.",
    )
    workers: NonNegativeInt | None = Field(
        default=None,
        description="The number of processes that tokenize; 0 uses the main process; null depends on the CPU cores.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        found = (_find_fields_of_auto(self), _find_repeated_names(self), _find_validation_conflicts(self))
        check_conflicts(chain.from_iterable(found))
        return self

    @property
    def evaluates(self) -> bool:
        """Whether there are any validation data."""
        own = any(source.validation for source in self.sources)
        shared = bool(self.validation) and any(source.validation is None for source in self.sources)
        return own or shared or bool(self.validation_sources)


def _find_two_amounts(source: DataSourceConfig) -> Iterator[Conflict]:
    """How much of a source an epoch contains is set by one key."""
    given = [key for key in AMOUNTS if getattr(source, key) is not None]
    for key in given[1:]:
        message = f"{key} cannot be combined with {given[0]} ({getattr(source, given[0]):g})"
        yield Conflict(key, message, (f"{key}=null", f"{given[0]}=null"))


def _find_fields_of_auto(data: DataConfig) -> Iterator[Conflict]:
    """Fields belong to a reader that is named."""
    for key, sources in (("sources", data.sources), ("validation_sources", data.validation_sources)):
        for index, source in enumerate(sources):
            if source.reader == AUTO and source.fields:
                place = f"{key}.{index}.fields"
                message = "reader auto finds the fields itself; name the reader that has these fields, or append"
                yield Conflict(place, f"{message} data.{place}=null")


def _find_repeated_names(data: DataConfig) -> Iterator[Conflict]:
    """The names of sources are unique."""
    for key, sources in (("sources", data.sources), ("validation_sources", data.validation_sources)):
        names = [source.name for source in sources]
        for index, name in enumerate(names):
            if (first := names.index(name)) != index:
                message = f"{name!r} is already the name of data.{key}.{first}; choose another name"
                yield Conflict(f"{key}.{index}.name", message)


def _find_validation_conflicts(data: DataConfig) -> Iterator[Conflict]:
    """Validation data are either held out or come from validation_sources, which are neither mixed nor split."""
    if data.validation_sources:
        message = "cannot be combined with data.validation_sources"
        if data.validation:
            yield Conflict("validation", f"data.validation {message}", ("validation=0",))
        for index, source in enumerate(data.sources):
            if source.validation:
                own = f"sources.{index}.validation"
                yield Conflict(own, f"a holdout {message}", (f"{own}=null",))
    for index, source in enumerate(data.validation_sources):
        for key in (*AMOUNTS, "validation"):
            if getattr(source, key) is not None:
                own = f"validation_sources.{index}.{key}"
                yield Conflict(own, f"{key} applies to data.sources only", (f"{own}=null",))


def source_name(path: str) -> str:
    """The default name of a source: ``data/dolly.jsonl.gz`` -> ``dolly``, ``OpenAssistant/oasst1`` -> ``oasst1``."""
    name = Path(path).name
    while name.endswith(DATA_SUFFIXES):
        name = name[: name.rindex(".")]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:120] or "data"

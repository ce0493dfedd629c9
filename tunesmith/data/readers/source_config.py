"""The configuration of one data source: where its rows are, and how they become trees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tunesmith.data.readers.filters import NO_FILTERS, Filters
from tunesmith.text.tokens.prompts import Prompts


@dataclass(frozen=True, slots=True)
class Holdout:
    """Which records of one source are held out for evaluation.

    amount: a number of records or a share of this source alone; None: see ``split.divide``.
    most: at most so many of them are evaluated; None: all.
    """

    amount: int | float | None = None
    most: int | None = None


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """One entry of the recipe's list of sources.

    name: the key of counts and reports.
    path: a file, a directory (its data files in the order of their names) or a hub name.
    reader: a key of ``registry.READERS``.
    split: of a hub data set.
    fields: name that the reader expects -> name in the data.
    options: options of the reader.
    filters: conditions on its messages.
    holdout: which records are held out.
    prompts: how its trees become prompts (``text.tokens.prompts``); None: they stay conversations.
    """

    name: str
    path: str
    reader: str
    split: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    filters: Filters = NO_FILTERS
    holdout: Holdout = field(default_factory=Holdout)
    prompts: Prompts | None = None

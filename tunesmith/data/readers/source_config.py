"""The configuration of one data source: where its rows are, and how they become trees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tunesmith.data.readers.filters import NO_FILTERS, MessageFilters
from tunesmith.text.tokens.prompts import Prompts


@dataclass(frozen=True, slots=True)
class Holdout:
    """Which records of one source are held out for evaluation.

    amount: a number of records or a fraction of this source alone; None: see ``split.split_records``.
    limit: the most of them that are evaluated; None for all.
    """

    amount: int | float | None = None
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """One entry of the recipe's list of sources. It can be pickled, for worker processes.

    name: the key of counts and reports.
    path: a file, a directory (its data files in the order of their names) or a hub name.
    reader: a key of ``registry.READERS``.
    split: of a dataset, the sheet of a workbook, or the list of an object of JSON; None where there is only one.
    fields: field name of the reader -> column of the data.
    options: options of the reader.
    ignore: columns and message keys (``messages[].id``) that are left out on purpose, whatever they hold.
    group: the column of the data whose value groups records; those of one group are on one side of the split.
    filters: which messages are kept.
    holdout: which records are held out.
    prompts: how its trees become prompts (``text.tokens.prompts``); None: they stay conversations.
    config: the configuration of a hub dataset.
    key: of the source in the recipe (``data.sources.0``), for messages; see ``sources.setting_words``.
    """

    name: str
    path: str
    reader: str
    split: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    ignore: tuple[str, ...] = ()
    group: str | None = None
    filters: MessageFilters = NO_FILTERS
    holdout: Holdout = field(default_factory=Holdout)
    prompts: Prompts | None = None
    config: str | None = None
    key: str = ""

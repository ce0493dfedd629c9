"""The readers by name. A reader is a small function: a row becomes a tree of messages, or is turned away with a reason.

Texts are taken as they are: nothing is stripped, mended or converted unless an option says so. What a reader cannot use is
a DataError that names the field; the caller adds the place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

from tunesmith.data.readers.comparisons import COMPARISONS
from tunesmith.data.readers.conversations import CONVERSATIONS
from tunesmith.data.readers.instructions import INSTRUCTIONS
from tunesmith.data.readers.oasst_forms import OASST
from tunesmith.data.readers.pairs import PAIRS
from tunesmith.data.readers.prompts import PROMPTS
from tunesmith.data.readers.rankings import RANKINGS
from tunesmith.data.readers.reader import Outcome, Reader, Settings
from tunesmith.errors import RecipeError

READERS: dict[str, Reader] = {**INSTRUCTIONS, **CONVERSATIONS, **OASST, **PAIRS, **RANKINGS, **COMPARISONS, **PROMPTS}

Purpose = Literal["demonstrations", "rankings", "prompts"]
KEPT: Mapping[str, Purpose] = {"threads": "demonstrations", "rankings": "rankings", "prompts": "prompts"}


def open_reader(
    name: str, fields: Mapping[str, str], options: Mapping[str, Any], *, where: str | None = None
) -> Callable[[Any], Outcome]:
    """The function of one source, its settings checked: a row becomes a tree, or a Group of rows if ``group_column`` says
    so. where: the source, for messages.

    Raises RecipeError for an unknown reader, field or option, or a value that the option does not allow.
    """
    if name not in READERS:
        raise RecipeError(f"there is no reader {name!r}", where=where, advice=f"known are {', '.join(READERS)}")
    reader = READERS[name]
    for given, known, what in ((fields, reader.columns, "fields"), (options, reader.options, "options")):
        for key in given:
            if key not in known:
                advice = f"it has {', '.join(known)}"
                raise RecipeError(f"reader {name} has no {what}.{key}", where=where, advice=advice)
    for key, value in options.items():
        if not reader.options[key].allows(value):
            expected = reader.options[key].expected
            raise RecipeError(
                f"options.{key} of reader {name} is {value!r}", where=where, advice=f"it must be {expected}"
            )
    columns = {column: fields.get(column, column) for column in reader.columns}
    values = {key: options.get(key, option.default) for key, option in reader.options.items()}
    return partial(reader.read, Settings(columns, values))


def group_column(name: str, fields: Mapping[str, str]) -> str | None:
    """The column in the data by which a reader wants rows put together, or None if it takes them one by one."""
    group = READERS[name].group
    return None if group is None else fields.get(group, group)


def purpose(name: str, options: Mapping[str, Any]) -> Purpose:
    """What the trees of a reader are good for: replies to be imitated, replies to be compared, or prompts alone.

    Said by the reader's options ``replies`` (all, pair, best) and ``keep`` (threads, rankings, prompts), where it has one.
    """
    if name in PROMPTS:
        return "prompts"
    values = {key: options.get(key, option.default) for key, option in READERS[name].options.items()}
    if "keep" in values:
        return KEPT.get(values["keep"], "demonstrations")
    return "rankings" if values.get("replies", "best") != "best" else "demonstrations"

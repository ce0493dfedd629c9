"""What a reader did not read: columns of a row and keys of its messages that hold something."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, TypeAlias

from tunesmith.data.readers.meanings import holds_something
from tunesmith.data.readers.reader import Contents, Reader

Unread: TypeAlias = tuple[str, str, Any]
"""Full name (``messages[].id``), last name (``id``) and value of something that was not read."""


def read_contents(reader: Reader, columns: Mapping[str, str]) -> Contents:
    """What a reader reads of a row, under the names that the data have.

    columns: field name of the reader -> column of the data; a column ``a.b`` is the key b of the object a.
    """
    found: dict[str, Contents | None] = {name: reader.inner.get(name) for name in reader.also}
    for field, column in columns.items():
        if field in reader.keys:
            continue
        inner = reader.inner.get(field)
        if inner is not None and reader.keys:
            inner = {columns.get(key, key) if key in reader.keys else key: value for key, value in inner.items()}
        add_column(found, column, inner)
    return found


def add_column(contents: dict[str, Contents | None], column: str, inner: Contents | None = None) -> None:
    """Add a column to what is read. ``a.b`` is a column of that name, or the key b of the object a.

    inner: what is read of the objects in it; None for everything.
    """
    contents[column] = inner
    first, *others = column.split(".")
    here: dict[str, Contents | None] = contents
    for part in others:
        below = here.setdefault(first, {})
        if not isinstance(below, dict):
            return  # the whole object is read anyway
        here, first = below, part
    here[first] = inner


def find_unread(row: Mapping[str, Any], contents: Contents) -> Iterator[Unread]:
    """Everything in a row that holds something and was not read, in the order of the row.

    Objects inside of objects of the same kind (replies to a message) have the name of the outermost one.

    row: the object.
    contents: what is read of it.
    """
    waiting: list[tuple[str, Any, Contents]] = [("", row, contents)]
    while waiting:
        name, value, read = waiting.pop()
        if isinstance(value, list | tuple):
            waiting.extend((name, item, read) for item in reversed(value))
            continue
        if not isinstance(value, Mapping):
            continue  # the reader says what is wrong with it
        for key, item in value.items():
            within = read.get(key, UNKNOWN)
            if within is None:
                continue
            full = f"{name}.{key}" if name else str(key)
            if within is UNKNOWN:
                if holds_something(item):
                    yield full, str(key), item
            elif within is read:
                waiting.append((name, item, within))
            elif isinstance(item, list | tuple):
                waiting.append((f"{full}[]", item, within))
            else:
                waiting.append((full, item, within))


def without(row: Mapping[str, Any], contents: Contents, ignored: Collection[str]) -> Mapping[str, Any]:
    """The row without what is ignored, whether it would be read or not.

    row: the object.
    contents: what is read of it.
    ignored: full names, as ``find_unread`` gives them.
    """
    found: Mapping[str, Any] = _kept(row, contents, ignored, "") if ignored else row
    return found


def _kept(value: Any, contents: Contents, ignored: Collection[str], name: str) -> Any:
    """A value without what is ignored in it. name: of the object that it is, or of those in the list that it is."""
    if isinstance(value, list | tuple):
        return [_kept(item, contents, ignored, name) for item in value]
    if not isinstance(value, Mapping):
        return value
    kept: dict[str, Any] = {}
    for key, item in value.items():
        full, within = f"{name}.{key}" if name else str(key), contents.get(key)
        if full in ignored:
            continue
        below = name if within is contents else f"{full}[]" if isinstance(item, list | tuple) else full
        kept[key] = item if within is None else _kept(item, within, ignored, below)
    return kept


def ignoring(contents: Contents, ignored: Collection[str], name: str = "") -> dict[str, Contents | None]:
    """What is still read where some of it is ignored.

    contents: what a reader reads.
    ignored: full names, without ``[]``.
    name: of the object, without ``[]``.
    """
    found: dict[str, Contents | None] = {}
    for key, within in contents.items():
        full = f"{name}.{key}" if name else key
        if full in ignored:
            continue
        inner = within is not None and within is not contents
        found[key] = found if within is contents else ignoring(within, ignored, full) if inner and within else within
    return found


UNKNOWN: Contents = {}
"""In place of what is read: the key is not among those that are."""

"""What differs between two nested values: the keys, and what each was and is."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Any

ABSENT = "(absent)"
LARGEST_EXACT = 2**53
MOST_LEVELS = 200


def find_changes(
    old: Any,
    new: Any,
    may_differ: Collection[str],
    earlier: Mapping[str, Any] = MappingProxyType({}),
    exchangeable: Mapping[str, Collection[Any]] = MappingProxyType({}),
) -> tuple[dict[str, str], dict[str, str]]:
    """(differences that are not allowed, differences that are), both as key -> "old -> new".

    may_differ: keys that may change, and all below them.
    earlier: key that ``old`` may lack -> its value then.
    exchangeable: key -> values that may replace each other.
    """
    before, after = {**earlier, **dict(find_leaves(old))}, dict(find_leaves(new))
    different = [key for key in {**before, **after} if before.get(key, ABSENT) != after.get(key, ABSENT)]
    shown = {key: f"{_short(before.get(key, ABSENT))} -> {_short(after.get(key, ABSENT))}" for key in different}
    free = {key for key in different if any(key == each or key.startswith(f"{each}.") for each in may_differ)}
    free |= {
        key
        for key, values in exchangeable.items()
        if key in shown and before.get(key) in values and after.get(key) in values
    }
    return (
        {key: change for key, change in shown.items() if key not in free},
        {key: change for key, change in shown.items() if key in free},
    )


def concerns(key: str, keys: Collection[str]) -> bool:
    """Whether one of ``keys`` is ``key`` or below it."""
    return any(each == key or each.startswith(f"{key}.") for each in keys)


def find_leaves(value: Any, path: str = "", deepest: int = MOST_LEVELS) -> Iterator[tuple[str, Any]]:
    """Every value of nested mappings and lists with its dotted key. An empty mapping or list is a value.

    path: of the value itself.
    deepest: levels that are opened; what is below them is one value.
    """
    if isinstance(value, dict | list) and value and deepest:
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from find_leaves(child, f"{path}.{key}" if path else str(key), deepest - 1)
    else:
        yield path, value


def _short(value: Any) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < LARGEST_EXACT:
        value = int(value)  # 5.0 is 5 in most recipes
    text = value if value is ABSENT else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def list_changes(changes: Mapping[str, str], most: int = 10) -> str:
    """One line for each change, of the first ``most``."""
    lines = [f"\n  {key}: {change}" for key, change in changes.items()]
    return "".join(lines[:most]) + (f"\n  and {len(lines) - most} more" if len(lines) > most else "")

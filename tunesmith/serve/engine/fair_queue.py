"""A bounded queue in which clients take turns."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """Waiting items, in the order of arrival for each client; clients take turns.

    A client with many items therefore does not delay one with few by more than one item in each turn.
    """

    def __init__(self) -> None:
        self._lines: OrderedDict[str, deque[Item]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        """The number of items."""
        return self._size

    def __iter__(self) -> Iterator[Item]:
        """All items, client by client."""
        return (item for line in self._lines.values() for item in line)

    def put(self, client: str, item: Item) -> None:
        """Add an item behind those of the same client."""
        self._lines.setdefault(client, deque()).append(item)
        self._size += 1

    def take(self) -> Item:
        """Remove and return the first item of the client whose turn it is. There must be one."""
        client, line = next(iter(self._lines.items()))
        item = line.popleft()
        self._size -= 1
        if line:
            self._lines.move_to_end(client)
        else:
            del self._lines[client]
        return item

    def remove(self, client: str, item: Item) -> bool:
        """Remove an item; False if it is not there."""
        line = self._lines.get(client)
        if line is None or item not in line:
            return False
        line.remove(item)
        self._size -= 1
        if not line:
            del self._lines[client]
        return True

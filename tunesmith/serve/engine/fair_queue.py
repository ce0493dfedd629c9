"""A queue in which clients take turns."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Iterator, Sized
from typing import Generic, TypeVar

from tunesmith.serve.engine.clients import JobClient

Item = TypeVar("Item")
Line = TypeVar("Line", bound=Sized)


class FairQueue(Generic[Item]):
    """Waiting items. Addresses take turns; at each turn of an address it is the turn of its next user.

    The items of one user of one address are in the order of their arrival. A client with many items therefore does not
    delay one with few by more than one item in each turn, and gets no further turn by naming other users.
    """

    def __init__(self) -> None:
        self._lines: OrderedDict[str, OrderedDict[str, deque[Item]]] = OrderedDict()
        self._counts: Counter[str] = Counter()

    def __len__(self) -> int:
        """The number of items."""
        return self._counts.total()

    def __iter__(self) -> Iterator[Item]:
        """All items, client by client."""
        return (item for users in self._lines.values() for line in users.values() for item in line)

    def count(self, address: str) -> int:
        """The number of items of an address."""
        return self._counts[address]

    def put(self, client: JobClient, item: Item) -> None:
        """Add an item behind those of the same client."""
        self._lines.setdefault(client.address, OrderedDict()).setdefault(client.user, deque()).append(item)
        self._counts[client.address] += 1

    def take(self) -> Item:
        """Remove and return the first item of the client whose turn it is. There must be one."""
        address, users = next(iter(self._lines.items()))
        user, line = next(iter(users.items()))
        item = line.popleft()
        self._uncount(address)
        _end_turn(users, user)
        _end_turn(self._lines, address)
        return item

    def remove(self, client: JobClient, item: Item) -> bool:
        """Remove an item; False if it is not there."""
        users = self._lines.get(client.address, OrderedDict())
        line = users.get(client.user)
        if line is None or item not in line:
            return False
        line.remove(item)
        self._uncount(client.address)
        if not line:
            del users[client.user]
        if not users:
            del self._lines[client.address]
        return True

    def _uncount(self, address: str) -> None:
        self._counts[address] -= 1
        if not self._counts[address]:
            del self._counts[address]


def _end_turn(lines: OrderedDict[str, Line], name: str) -> None:
    """Move a line behind the others, or remove it if it is empty."""
    if lines[name]:
        lines.move_to_end(name)
    else:
        del lines[name]

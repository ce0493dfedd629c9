"""The processes of a run, as training and evaluation use them: sums, agreements, and values of all of them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from heapq import heappop, heappush
from typing import Any, Protocol, TypeVar

import torch
import torch.distributed as distributed
from safetensors import torch as safetensors
from torch import Tensor

from tunesmith.model.local_rows import is_sharded

ResultT = TypeVar("ResultT")
ItemT = TypeVar("ItemT")

FIRST_PAUSE, LONGEST_PAUSE = 0.01, 1.0
"""Seconds between two looks at what other processes have left."""


class Communicator(Protocol):
    """The processes of a run, one or many. All of them call every method at the same place of the program.

    rank: number of this process, from 0.
    size: number of all processes.
    """

    rank: int
    size: int

    @property
    def is_first(self) -> bool:
        """Whether this process prepares data, prints, and writes the files of the run."""
        ...

    def sum_values(self, values: Tensor) -> Tensor:
        """Element-wise sum over all processes, in the shape and type of ``values``."""
        ...

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace every gradient by its sum over all processes; those of sharded parameters are sums already."""
        ...

    def passes(self, count: int) -> int:
        """How many forward and backward passes this process runs if it has ``count`` batches.

        Processes that share a sharded model run equally many.
        """
        ...

    def agree(self, reason: str | None) -> str | None:
        """The reason of the first process that has one, the same in all processes; None if none has one."""
        ...

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, in their order. value: JSON; numbers keep their bits, tuples become lists."""
        ...

    def gather_bytes(self, content: bytes) -> list[bytes]:
        """As ``gather``, for bytes."""
        ...

    def gather_tensors(self, tensors: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """As ``gather``, for tensors on the CPU."""
        ...

    def collect(self, items: Iterable[ItemT], stopped: Callable[[], bool] = lambda: False) -> Iterator[ItemT]:
        """The items of all processes in the first one, each as soon as it is made; nothing in the others.

        All of them exhaust the iterator, which takes as long as the slowest.

        items: those of this process, JSON. Tuples of other processes become lists.
        stopped: looked at after every item; if it is true in one process, no process makes further items.
        """
        ...

    def barrier(self) -> None:
        """Wait until all processes are here, however long that takes."""
        ...

    def in_turn(self, call: Callable[[], ResultT]) -> ResultT:
        """The result of a call that the first process makes before the others, which find what it left in caches."""
        ...


class SingleProcess:
    """One process: every sum is the value itself."""

    rank = 0
    size = 1
    is_first = True

    def sum_values(self, values: Tensor) -> Tensor:
        return values

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        return None

    def passes(self, count: int) -> int:
        return count

    def agree(self, reason: str | None) -> str | None:
        return reason

    def gather(self, value: Any) -> list[Any]:
        return [json.loads(json.dumps(value))]

    def gather_bytes(self, content: bytes) -> list[bytes]:
        return [content]

    def gather_tensors(self, tensors: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        return [dict(tensors)]

    def collect(self, items: Iterable[ItemT], stopped: Callable[[], bool] = lambda: False) -> Iterator[ItemT]:
        for item in items:
            yield item
            if stopped():
                return

    def barrier(self) -> None:
        return None

    def in_turn(self, call: Callable[[], ResultT]) -> ResultT:
        return call()


ALONE = SingleProcess()


class ProcessGroup:
    """All processes of the initialised default group of ``torch.distributed``.

    Each has a whole copy of the model, or with ``sharded`` a part of it.

    sharded: whether the weights are divided among the processes.
    store: where processes leave notes for each other; None: that of the default group.
    check: called while this process waits; raises if another process has failed.
    """

    def __init__(
        self,
        *,
        sharded: bool = False,
        store: distributed.Store | None = None,  # type: ignore[name-defined]
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.rank, self.size = distributed.get_rank(), distributed.get_world_size()
        self.sharded, self._check = sharded, check
        shared = distributed.distributed_c10d._get_default_store() if store is None else store
        self._store = distributed.PrefixStore("tunesmith", shared)  # type: ignore[attr-defined]
        self._barriers = self._collections = 0

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def sum_values(self, values: Tensor) -> Tensor:
        summed = values.clone()
        distributed.all_reduce(summed)
        return summed

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        for parameter in parameters:
            if is_sharded(parameter):
                continue
            if parameter.grad is None:
                # A process without batches in this step still takes part in every sum.
                parameter.grad = torch.zeros_like(parameter, dtype=parameter.grad_dtype)
            distributed.all_reduce(parameter.grad)

    def passes(self, count: int) -> int:
        if not self.sharded:
            return count
        most = torch.tensor(count)
        distributed.all_reduce(most, op=distributed.ReduceOp.MAX)
        return int(most)

    def agree(self, reason: str | None) -> str | None:
        has_reason = torch.tensor(int(reason is not None))
        distributed.all_reduce(has_reason, op=distributed.ReduceOp.MAX)
        return next(each for each in self.gather(reason) if each is not None) if int(has_reason) else None

    def gather(self, value: Any) -> list[Any]:
        return [json.loads(content) for content in self.gather_bytes(json.dumps(value).encode())]

    def gather_bytes(self, content: bytes) -> list[bytes]:
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        distributed.all_gather(sizes, torch.tensor([len(content)]))
        # All gathered tensors have one size, which is not 0.
        longest = max(1, *(int(size) for size in sizes))
        padded = torch.zeros(longest, dtype=torch.uint8)
        padded[: len(content)] = torch.frombuffer(bytearray(content or b"\0"), dtype=torch.uint8)[: len(content)]
        parts = [torch.zeros_like(padded) for _ in range(self.size)]
        distributed.all_gather(parts, padded)
        return [part[: int(size)].numpy().tobytes() for part, size in zip(parts, sizes, strict=True)]

    def gather_tensors(self, tensors: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        return [safetensors.load(content) for content in self.gather_bytes(safetensors.save(dict(tensors)))]

    def collect(self, items: Iterable[ItemT], stopped: Callable[[], bool] = lambda: False) -> Iterator[ItemT]:
        self._collections += 1
        name = f"collection {self._collections}"
        own = self._until_stopped(items, name, stopped)
        if not self.is_first:
            number = -1
            for number, item in enumerate(own):
                self._store.set(f"{name} {self.rank} {number}", json.dumps([item]))
            self._store.set(f"{name} {self.rank} {number + 1}", json.dumps([]))
            return
        following = dict.fromkeys(range(1, self.size), 0)
        for item in own:
            yield item
            yield from self._arrived(name, following)
        while following:
            self._check()
            arrived = list[ItemT](self._arrived(name, following))
            yield from arrived
            if not arrived:
                self._is_stopped(name, stopped)
                time.sleep(FIRST_PAUSE)

    def _until_stopped(self, items: Iterable[ItemT], name: str, stopped: Callable[[], bool]) -> Iterator[ItemT]:
        for item in items:
            yield item
            if self._is_stopped(name, stopped):
                return

    def _is_stopped(self, name: str, stopped: Callable[[], bool]) -> bool:
        """Whether a process stops a collection; if it is this one, the others learn it."""
        key = f"{name} stopped"
        if stopped():
            self._store.set(key, "1")
        return bool(self._store.check([key]))

    def _arrived(self, name: str, following: dict[int, int]) -> Iterator[Any]:
        """The items that others have left. following: rank -> number of its next item; without those that are done."""
        for rank in list(following):
            while rank in following and self._store.check([key := f"{name} {rank} {following[rank]}"]):
                content = json.loads(self._store.get(key))
                self._store.delete_key(key)
                if content:
                    following[rank] += 1
                    yield content[0]
                else:
                    del following[rank]

    def barrier(self) -> None:
        self._barriers += 1
        key, pause = f"barrier {self._barriers}", FIRST_PAUSE
        arrived = self._store.add(key, 1)
        while arrived < self.size:
            self._check()
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            arrived = self._store.add(key, 0)

    def in_turn(self, call: Callable[[], ResultT]) -> ResultT:
        if self.is_first:
            result = call()
            self.barrier()
            return result
        self.barrier()
        return call()


def deal(costs: Sequence[int], processes: int) -> list[list[int]]:
    """For every process the places of its examples, in order, so that all processes have about equal costs.

    The longest example first, each goes to the process that has least so far, of equal ones to the lowest number: the
    result depends on the arguments alone.

    costs: of every example, such as its tokens.
    """
    shares: list[list[int]] = [[] for _ in range(processes)]
    loads = [(0, process) for process in range(processes)]
    for place in sorted(range(len(costs)), key=lambda place: (-costs[place], place)):
        load, process = heappop(loads)
        shares[process].append(place)
        heappush(loads, (load + costs[place], process))
    return [sorted(share) for share in shares]

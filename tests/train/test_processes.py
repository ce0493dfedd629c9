"""Processes that train together end together, with the first cause and its exit code, and print it once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
import torch

from tests.train.launched import Ended, run_launched
from tunesmith.errors import DataError, StoppedError
from tunesmith.launch import launched_process
from tunesmith.train.processes import joined_processes
from tunesmith.world import Communicator

SECONDS = 30.0
"""Longest time until all processes have ended."""

Action = Callable[[Communicator], None]


def add_up(world: Communicator) -> None:
    """Operations of all processes, until something happens."""
    for _ in range(10_000):
        world.sum_values(torch.ones(1))


def wait(world: Communicator) -> None:
    world.in_turn(lambda: time.sleep(0.0 if world.rank else 1000.0))


def calculate(world: Communicator) -> None:
    time.sleep(1000.0)


def die_in_operation(world: Communicator) -> None:
    world.sum_values(torch.ones(1))
    die(world)


def die(world: Communicator) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def find_bad_data(world: Communicator) -> None:
    raise DataError("a bad row", where="rows.jsonl:3", advice="repair it")


def break_down(world: Communicator) -> None:
    raise ValueError("a defect")


def stop(world: Communicator) -> None:
    reason = world.agree("SIGUSR1" if world.rank == 1 else None)
    raise StoppedError(f"stopped after step 3 of 9 ({reason})")


def fail_late(world: Communicator) -> None:
    """The failure of a process whose threads still run, while others wait in an operation."""
    world.sum_values(torch.ones(1))
    raise DataError("a bad row", where="rows.jsonl:3", advice="repair it")


KILLED = "tunesmith: error: rank {rank} of 2: it has ended without a message"
BAD = "tunesmith: error: rows.jsonl:3: a bad row (rank 1 of 2); repair it\n"
CASES: dict[str, tuple[Action, Action, tuple[int, int], tuple[str, str]]] = {
    # what the first process does, and the second; their exit codes; what they print at the end
    "the second is killed in an operation": (add_up, die_in_operation, (70, -9), (KILLED.format(rank=1), "")),
    "the first is killed in an operation": (die_in_operation, add_up, (-9, 70), ("", KILLED.format(rank=0))),
    "the second is killed while the first calculates": (calculate, die, (70, -9), (KILLED.format(rank=1), "")),
    "the first is killed while the second waits": (die, wait, (-9, 70), ("", KILLED.format(rank=0))),
    "the second finds bad data": (add_up, fail_late, (65, 65), ("", BAD)),
    "the first finds bad data": (find_bad_data, wait, (65, 65), (BAD.replace(" (rank 1 of 2)", ""), "")),
    "the second has a defect": (add_up, break_down, (1, 1), ("", "ValueError: a defect\n")),
    "both find bad data": (
        find_bad_data,
        find_bad_data,
        (65, 65),
        ("", ""),  # whoever is first prints it
    ),
    "one is asked to stop": (stop, stop, (75, 75), ("tunesmith: error: stopped after step 3 of 9 (SIGUSR1)\n", "")),
}


def act(rank: int, directory: Path) -> None:
    launched = launched_process(os.environ)
    with joined_processes(launched, lambda: torch.device("cpu"), sharded=False) as world:
        CASES[directory.name][rank](world)  # type: ignore[operator]


def agree(rank: int, directory: Path) -> None:
    """What a communicator does, in processes that end well."""
    with joined_processes(launched_process(os.environ), lambda: torch.device("cpu"), sharded=True) as world:
        order = directory / "order"
        assert world.is_first == (rank == 0)
        world.in_turn(lambda: order.open("a").write(str(int(world.is_first))))
        world.barrier()
        assert order.read_text()[0] == "1"
        assert len(order.read_text()) == world.size
        assert world.agree(None) is None
        assert world.agree("SIGTERM" if rank == world.size - 1 else None) == "SIGTERM"
        value = {"rank": rank, "text": "é" * rank, "number": 0.1 + rank}
        assert world.gather(value) == [
            {"rank": each, "text": "é" * each, "number": 0.1 + each} for each in range(world.size)
        ]
        assert world.gather_bytes(b"x" * rank) == [b"x" * each for each in range(world.size)]
        tensors = world.gather_tensors({"a": torch.arange(rank)})
        assert [each["a"].tolist() for each in tensors] == [list(range(each)) for each in range(world.size)]
        assert world.gather_tensors({}) == [{}] * world.size
        assert world.passes(rank) == world.size - 1
        check_collections(world)


def check_collections(world: Communicator) -> None:
    """The first process gets all items, also if processes have none; one that stops stops all."""
    for fewest in (0, 2):
        found = list(world.collect([[world.rank, number] for number in range(fewest + world.rank)]))
        every = [[rank, number] for rank in range(world.size) for number in range(fewest + rank)]
        assert sorted(found) == (every if world.is_first else [])
    made, last = list[int](), world.rank == world.size - 1

    def endless() -> Iterator[int]:
        for number in count():
            made.append(number)
            yield number

    found_numbers = list(world.collect(endless(), lambda: last and len(made) == 2))
    assert len(made) == 2 or not last
    assert found_numbers.count(1) >= 1 or not world.is_first
    assert list(world.collect([])) == []


@pytest.mark.parametrize("case", CASES)
def test_a_failure_ends_all_processes_with_its_cause(case: str, tmp_path: Path) -> None:
    found: list[Ended] = run_launched(act, 2, tmp_path / case)
    *_, codes, texts = CASES[case]
    assert tuple(each.code for each in found) == codes, found
    assert max(each.seconds for each in found) < SECONDS
    for each, text in zip(found, texts, strict=True):
        assert text in each.text
    printed = [each for each in found if "error: " in each.text or "Error: " in each.text]
    assert len(printed) == 1, found


@pytest.mark.parametrize("size", [1, 2, 3])
def test_processes_agree_and_gather(size: int, tmp_path: Path) -> None:
    found = run_launched(agree, size, tmp_path)
    assert [(each.code, each.text) for each in found] == [(0, "")] * size

"""Every planted fault still fits the source code, and names tests that exist; the campaign itself is not run here."""

from __future__ import annotations

import ast
from collections import Counter

import pytest

from tests.campaigns.planted.fault import REPOSITORY, PlantedFault
from tests.campaigns.planted.lists import GUARDS

FAULTS = [fault for faults in GUARDS.values() for fault in faults]


def find_misfit(fault: PlantedFault) -> str | None:
    """Why a fault cannot be planted, or None."""
    text = (REPOSITORY / fault.path).read_text(encoding="utf-8")
    if text.count(fault.old) != 1:
        return f"its old text is {text.count(fault.old)} times in the file"
    try:
        ast.parse(text.replace(fault.old, fault.new))
    except SyntaxError as error:
        return f"the file is no Python any more: {error}"
    for test in fault.node_ids:
        file, _, name = test.partition("::")
        path = REPOSITORY / file
        if not path.is_file() or (name and f"def {name.partition('[')[0]}(" not in path.read_text(encoding="utf-8")):
            return f"there is no test {test}"
    return None


def test_every_fault_fits_its_file_once_and_has_its_tests() -> None:
    assert [f"{fault.path}: {fault.old!r}: {found}" for fault in FAULTS if (found := find_misfit(fault))] == []


def test_there_are_more_than_sixty_different_faults_of_every_guard() -> None:
    assert len(FAULTS) >= 60
    assert max(Counter((fault.path, fault.old, fault.new) for fault in FAULTS).values()) == 1
    assert all(len(faults) >= 3 for faults in GUARDS.values())
    assert all(fault.tests and fault.harm.endswith(".") for fault in FAULTS)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"old": "no such text"}, "0 times"),
        ({"old": "\n"}, "times in the file"),
        ({"new": "("}, "no Python any more"),
        ({"tests": ("test_files.py::test_nothing",)}, "there is no test tests/test_files.py::test_nothing"),
    ],
)
def test_a_fault_that_does_not_fit_is_found(change: dict[str, object], says: str) -> None:
    whole = {name: getattr(FAULTS[0], name) for name in ("file", "old", "new", "tests", "harm")}
    assert says in str(find_misfit(PlantedFault(**{**whole, **change})))  # type: ignore[arg-type]

"""What the proof says of stored examples and of the rows of an embedding, and which checks end a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tunesmith.compose.proof import check_no_failures, stored_checks
from tunesmith.data.dataset.store import Store, open_store, open_writer, pack, read_index
from tunesmith.errors import InternalError
from tunesmith.report.check import Check
from tunesmith.text.tokens.token_tree import TokenTree


def stored(directory: Path, ids: list[int], spans: list[list[int]]) -> Store:
    """A store with one tree of one segment."""
    segments = np.array([[0, len(ids), -1]], np.int32)
    tree = TokenTree(np.array(ids, np.int32), segments, np.array(spans, np.int32).reshape(-1, 5), 1)
    directory.mkdir()
    with open_writer(directory) as writer:
        writer.append(pack([tree], [0], [bytes(16)]))
        writer.finish("key", ["one"], {})
    index = read_index(directory, "key")
    assert index is not None
    return open_store(directory, index)


@pytest.mark.parametrize(("rows", "status"), [(9, "fail"), (10, "pass"), (11, "pass")])
def test_an_embedding_has_a_row_for_the_highest_id(rows: int, status: str, tmp_path: Path) -> None:
    checks = stored_checks(stored(tmp_path / "s", [3, 9, 1], [[1, 3, 0, 0, 1]]), rows)
    assert [(check.name, check.status) for check in checks] == [("stored examples", "pass"), ("embedding rows", status)]


def test_an_example_without_a_target_fails(tmp_path: Path) -> None:
    (check,) = stored_checks(stored(tmp_path / "s", [3, 9, 1], []), None)
    assert (check.status, check.summary) == ("fail", "1 of 1 stored examples have nothing to train on")


def test_a_failed_check_ends_the_run_and_a_warning_does_not() -> None:
    passed, warned, failed = Check("a", "pass", "fine"), Check("b", "warn", "odd"), Check("c", "fail", "wrong")
    check_no_failures([passed, warned])
    with pytest.raises(InternalError, match=r"proof failed: c: wrong \(and 1 more"):
        check_no_failures([passed, failed, warned, failed])

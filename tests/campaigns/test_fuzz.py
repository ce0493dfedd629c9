"""The fuzzing campaign in short, and that it would see what it is there to see."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.campaigns import fuzz
from tests.campaigns.fuzz import Violation, campaign, check_error, run_batch, try_input
from tests.campaigns.mutations import FORMS, make_input
from tests.text.small_tokenizers import byte_level, write_tokenizer
from tunesmith.errors import DataError, InternalError, MissingInputError, TunesmithError

INPUTS = 500


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    end = "<|endoftext|>"
    return str(write_tokenizer(tmp_path_factory.mktemp("tokenizer"), byte_level(), bos=end, eos=end, unk=end))


def test_some_hundred_damaged_files_do_no_harm(tmp_path: Path) -> None:
    found = campaign(INPUTS, 7, tmp_path)
    assert found["violations"] == {}
    assert sum(found["outcome"][f"form {name}"] for name in FORMS) == INPUTS
    for outcome in (
        "record used",
        "record refused",
        "not a record",
        "file refused",
        "prepared",
        "prepare refused",
    ):
        assert found["outcome"][outcome] > 5, outcome
    assert found["outcome"]["prepared ranked"] > 2


def test_an_input_follows_from_seed_and_number() -> None:
    assert make_input(random.Random("7 3")) == make_input(random.Random("7 3")) != make_input(random.Random("8 3"))


@pytest.mark.parametrize("error", [KeyError("role"), UnicodeDecodeError("utf-8", b"", 0, 1, "bad"), RecursionError()])
def test_a_traceback_would_be_seen(
    error: Exception, tokenizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: str, split: str | None) -> Any:
        raise error

    monkeypatch.setattr(fuzz, "open_source", fail)
    found = [try_input(0, number, tmp_path, tokenizer)[1] for number in range(1, 20) if number % fuzz.PREPARED]
    assert all(what is not None and type(error).__name__ in what for what in found)


def test_a_dead_process_would_be_seen(tokenizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die_on_three(seed: int, number: int, directory: Path, tokenizer: str) -> Any:
        if number == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return try_input(seed, number, directory, tokenizer)

    monkeypatch.setattr(fuzz, "try_input", die_on_three)
    outcome, violations, _ = run_batch(0, range(6), tmp_path, tokenizer)
    assert list(violations) == [3]
    assert "died" in violations[3]
    assert outcome["dead process"] == 1


PLACE = Path("a.jsonl")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (DataError("wrong", advice="fix it"), "no place"),
        (DataError("wrong", where="b.jsonl:3", advice="fix it"), "no place"),
        (DataError("wrong", where="a.jsonl:3"), "no advice"),
        (DataError("wrong\nand more", where="a.jsonl:3", advice="fix it"), "not a short line"),
        (DataError("wrong" * 999, where="a.jsonl:3", advice="fix it"), "not a short line"),
        (InternalError("wrong", where="a.jsonl:3", advice="fix it"), "exit code 70"),
    ],
)
def test_an_unclear_error_would_be_seen(error: TunesmithError, words: str) -> None:
    with pytest.raises(Violation, match=words):
        check_error(error, PLACE)
    check_error(MissingInputError("has no records", where=PLACE, advice="check what was exported"), PLACE)

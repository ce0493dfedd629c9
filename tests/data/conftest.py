"""A small tokenizer, and what the tests of preparing data share."""

from __future__ import annotations

from typing import Any

import pytest

from tests.text.small_tokenizers import byte_level, write_tokenizer
from tunesmith.data.dataset import building, workers
from tunesmith.data.dataset import prepare as prepare_module


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The directory of a small byte-level tokenizer."""
    end = "<|endoftext|>"
    return str(write_tokenizer(tmp_path_factory.mktemp("tokenizer"), byte_level(), bos=end, eos=end, unk=end))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by one whenever a store is made, and not when it is found."""
    made: list[str] = []
    original = prepare_module.build_store

    def count(*given: Any) -> None:
        made.append("store")
        original(*given)

    monkeypatch.setattr(prepare_module, "build_store", count)
    return made


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several chunks of the few records, and processes for them."""
    monkeypatch.setattr(building, "ROWS_IN_CHUNK", 7)
    monkeypatch.setattr(workers, "CHUNKS_IN_THREADS", 2)

"""A small tokenizer and a few records to prepare."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.text.small_tokenizers import byte_level, write_tokenizer


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The directory of a small byte-level tokenizer."""
    end = "<|endoftext|>"
    return str(write_tokenizer(tmp_path_factory.mktemp("tokenizer"), byte_level(), bos=end, eos=end, unk=end))

"""Small tokenizers and the formats to try them with."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.text.small_tokenizers import byte_level, prefixed, t5_like, unigram, words, write_tokenizer
from tunesmith.text.formats.registry import build_format
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tokens.render import Renderer


@pytest.fixture(scope="session")
def tokenizer_directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("tokenizers")
    end = "<|endoftext|>"
    return {
        "byte_level": write_tokenizer(root / "byte_level", byte_level(), bos=end, eos=end, unk=end),
        "nameless": write_tokenizer(root / "nameless", byte_level()),
        "prefixed": write_tokenizer(root / "prefixed", prefixed(), bos="<s>", eos="</s>", unk="<unk>"),
        "unigram": write_tokenizer(root / "unigram", unigram(), eos="</s>", unk="<unk>", pad="<pad>"),
        "t5_like": write_tokenizer(root / "t5_like", t5_like(), eos="</s>", unk="<unk>", pad="<pad>"),
        "words": write_tokenizer(root / "words", words(), eos="<eos>", unk="[UNK]"),
    }


@pytest.fixture(scope="session")
def load(tokenizer_directories: dict[str, Path]) -> Callable[..., Tokenizer]:
    """load("byte_level", ("### End",)) -> one of the small tokenizers."""

    @cache
    def find(kind: str, controls: tuple[str, ...] = ()) -> Tokenizer:
        return Tokenizer.load(str(tokenizer_directories[kind]), controls)

    return find


@pytest.fixture(scope="session")
def renderer(load: Callable[..., Tokenizer]) -> Callable[..., Renderer]:
    """renderer("oasst", "byte_level", predict_next_role=False) -> a renderer with one of the small tokenizers."""

    def build(format_name: str, tokenizer: str = "byte_level", **options: Any) -> Renderer:
        chosen = build_format(format_name, options)
        return Renderer(chosen, load(tokenizer, chosen.controls))

    return build

"""The renderers and tokenizers of the tests of ``text``, for the proofs of what they render."""

from __future__ import annotations

from tests.text.conftest import load, renderer, tokenizer_directories

__all__ = ["load", "renderer", "tokenizer_directories"]

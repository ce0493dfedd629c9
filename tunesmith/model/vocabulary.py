"""The rows of embedding and head: as many as the tokens need."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from tunesmith.errors import RecipeError

Resize = Literal["none", "grow", "exact"] | int

GROWTH = 16
"""Added rows end at a multiple of this, with which products are fast."""


def rows_needed(tokens: int, present: int, resize: Resize) -> int:
    """How many rows the embedding gets.

    tokens: number of token ids.
    present: number of rows that there are.
    resize: "none" keeps the rows; "grow" adds some if tokens need them, up to a multiple of 16; "exact" gives one row
        per token, also fewer than before (dolly); a number n rounds the tokens up to a multiple of n, also fewer than
        before (Open-Assistant: 16).
    Raises RecipeError if rows are kept and tokens need more.
    """
    if resize == "none":
        if tokens > present:
            raise RecipeError(
                f"the tokenizer needs {tokens} embedding rows, the model has {present}",
                where="model.resize",
                advice="set model.resize=grow to add rows",
            )
        return present
    if resize == "grow":
        return present if tokens <= present else rows_needed(tokens, present, GROWTH)
    if resize == "exact":
        return tokens
    return -(-tokens // resize) * resize


def rows_of(model: nn.Module) -> int:
    """The number of rows of the embedding."""
    return int(model.get_input_embeddings().weight.shape[0])  # type: ignore[operator]


def resize_vocabulary(model: nn.Module, tokens: int, resize: Resize, seed: int) -> tuple[int, int]:
    """Resize embedding and head in place; returns the number of rows (before, after).

    New rows are initialised as transformers initialises those of a new model, from ``seed`` only. tokens, resize: as in
    ``rows_needed``. Raises RecipeError as it does.
    """
    present = rows_of(model)
    wanted = rows_needed(tokens, present, resize)
    if wanted != present:
        with torch.random.fork_rng(devices=[]):  # of the host only: no GPU is opened
            torch.manual_seed(seed)
            model.resize_token_embeddings(wanted, mean_resizing=False)  # type: ignore[operator]
    return present, wanted

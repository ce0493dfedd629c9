"""The body of a stock model: all of it but its head."""

from __future__ import annotations

from typing import cast

import torch
from transformers import PreTrainedModel

from tunesmith.errors import RecipeError
from tunesmith.model.attention_choice import stock_attention
from tunesmith.model.failures import FAMILY_ERRORS, describe_failure
from tunesmith.model.modes import evaluation_mode

PREFIX = 8  # tokens whose hidden states must not depend on the ``PREFIX`` tokens after them
REPEATED = 12  # token ids of that test are below it
# Of the largest hidden state; rounding differs where experts get other tokens.
PREFIX_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.05, torch.float16: 0.01}
LISTED = "use a family that docs/families.md lists as trained"


def body_of(model: PreTrainedModel) -> PreTrainedModel:
    """The module that computes the last hidden states; the model itself if it has no head."""
    body = model.base_model
    if body is model and model.get_output_embeddings() is not None:  # type: ignore[no-untyped-call]
        body = getattr(model, "model", model)  # families whose prefix names no module, such as llama4
    return cast(PreTrainedModel, body)


@torch.no_grad()
def check_causal(model: PreTrainedModel) -> None:
    """Raises RecipeError for a model whose hidden states depend on later tokens: it would read what it must predict."""
    first, second = torch.arange(2 * PREFIX, device=model.device).remainder(REPEATED).repeat(2, 1)
    second[PREFIX:] = second[PREFIX:].flip(0) + 1
    body = body_of(model)
    try:
        with stock_attention(model), evaluation_mode(model):
            states = [body(input_ids=ids[None], use_cache=False).last_hidden_state[0] for ids in (first, second)]
        one, other = (each[:PREFIX].float() for each in states)
    except FAMILY_ERRORS as error:
        raise RecipeError(
            f"{type(model).__name__} cannot read token ids alone: {describe_failure(error)}",
            where="model",
            advice=LISTED,
        ) from error
    if float((one - other).abs().max()) > PREFIX_TOLERANCE[model.dtype] * float(one.abs().max()):
        raise RecipeError(
            f"{type(model).__name__} reads in both directions, so it would see the tokens that it learns to predict",
            where="model",
            advice="use a causal model",
        )

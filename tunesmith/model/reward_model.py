"""Reward models: a causal trunk that ends in one number instead of a vocabulary, as transformers' own classification models.

So an export is an ordinary directory: stock transformers loads it and scores with it. It takes the score at the rightmost
token that is not ``pad_token_id``, which therefore must be a token that no reply can end with (``padding_id``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, AutoModelForSequenceClassification, PreTrainedModel
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
)

from tunesmith.errors import DataError, RecipeError
from tunesmith.model.load import (
    Kind,
    architecture_of,
    attention_of,
    check_no_missing_weights,
    classifies,
    new_model,
    read_model,
)
from tunesmith.text.formats.format import Control
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tree import Message

HEAD = "score"
# What the files of a causal model hold and a reward model has no place for: its head, under the names that families give it.
VOCABULARY_HEADS = ("lm_head.", "embed_out.", "output.")
# Tables that older versions of transformers wrote into the files of causal models, and that are computed today.
TABLES = ("attn.bias", "attention.bias", ".masked_bias", "rotary_emb.inv_freq")
ONE = {"num_labels": 1}


def load_reward_model(path: str, revision: str | None = None) -> PreTrainedModel:
    """A reward model with its head, in float32, from a directory or the hub.

    Raises MissingInputError or DataError: no such directory, weights that are missing or have no place, a model that is no
    reward model or gives more than one number.
    """
    architecture = _scoring_architecture(path, revision)
    if not classifies(path, revision):
        raise DataError(
            f"is a {architecture} model without a head that scores",
            where=path,
            advice="name a reward model, as training with objective.kind: reward exports one",
        )
    found = read_model(path, revision, _kind(architecture, {}))
    outputs = found.model.config.num_labels
    if outputs != 1:
        raise DataError(f"gives {outputs} numbers for a text", where=path, advice="a reward model gives one")
    check_no_missing_weights(found.missing, path)
    if found.unexpected:
        raise DataError(
            f"holds weights that the model has no place for ({', '.join(sorted(found.unexpected)[:3])})",
            where=path,
            advice="it was written by other code; export it in transformers' own form",
        )
    return _ready(found.model, path)


def start_reward_model(
    path: str, revision: str | None = None, *, head_std: float | None = None, seed: int = 0
) -> tuple[PreTrainedModel, bool]:
    """What training begins with, and whether its head is new: a reward model as it is, or the trunk of a causal model with a
    head drawn from ``seed`` (``draw_head``).

    Raises what ``load_reward_model`` raises; DataError too if a weight of the trunk is not in the files.
    """
    if classifies(path, revision):
        return load_reward_model(path, revision), False
    architecture = _scoring_architecture(path, revision)
    found = read_model(path, revision, _kind(architecture, ONE))
    check_no_missing_weights({name for name in found.missing if not name.startswith(f"{HEAD}.")}, path)
    lost = sorted(
        name for name in found.unexpected if not name.startswith(VOCABULARY_HEADS) and not name.endswith(TABLES)
    )
    if lost:
        raise DataError(
            f"holds weights that a reward model has no place for ({', '.join(lost[:3])})",
            where=path,
            advice="begin with a plain causal model",
        )
    draw_head(found.model, head_std, seed)
    return _ready(found.model, path), True


def new_reward_model(
    init: Mapping[str, Any], tokens: int, seed: int, *, head_std: float | None = None, head_seed: int = 0
) -> PreTrainedModel:
    """A reward model with random weights; arguments as of ``load.new_model``. Raises RecipeError."""
    architecture = str(init["architecture"])
    if architecture in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not _can_score(architecture):
        raise RecipeError(f"transformers has no reward model of {architecture!r}", where="model.init.architecture")
    model = new_model(init, tokens, seed, _kind(architecture, ONE))
    draw_head(model, head_std, head_seed)
    return _ready(model, "model.init")


@torch.no_grad()
def draw_head(model: PreTrainedModel, std: float | None, seed: int) -> None:
    """New weights of the head from a normal distribution of mean 0; ``std`` None: 1 / sqrt(D + 1) for D hidden units, as in
    open-instruct and Stiennon et al. (2020); 0: zeros. A bias becomes 0."""
    head = head_of(model)
    width = head.weight.shape[1]
    draw = torch.randn(head.weight.shape, generator=torch.Generator().manual_seed(seed))
    head.weight.copy_(draw * ((width + 1) ** -0.5 if std is None else std))
    if head.bias is not None:
        head.bias.zero_()


def head_of(model: PreTrainedModel) -> nn.Linear:
    """The last layer [1, D]. Raises RecipeError for a family that transformers built otherwise."""
    head = getattr(model, HEAD, None)
    if not isinstance(head, nn.Linear) or head.weight.shape[0] != 1:
        raise RecipeError(
            f"{type(model).__name__} has no head of one number at each token",
            where="model",
            advice="use another family, such as gpt_neox, llama, mistral or qwen2",
        )
    return head


def padding_id(renderer: Renderer) -> int | None:
    """The token to pad batches with: the tokenizer's own, its begin token, or another control token, provided that no reply
    can end with it; None if there is none, and then stock transformers scores texts one at a time only."""
    tokenizer, format = renderer.tokenizer, renderer.format
    reply = format.split(Message("assistant", "!"), [Message("user", "?")])
    names = [piece.name for piece in reply.produced if isinstance(piece, Control)]
    written = {tokenizer.eos_id, *renderer.stop_ids, *tokenizer.find_ids(names)}
    wanted = (tokenizer.pad_id, tokenizer.bos_id, *tokenizer.find_ids(format.controls), *sorted(tokenizer.control_ids))
    for token in wanted:
        if token is not None and token not in written and not tokenizer.may_come_from_text(token):
            return token
    return None


def set_padding(model: PreTrainedModel, token: int | None) -> None:
    """Tell the configuration which token stock transformers has to look past."""
    model.config.pad_token_id = token
    model.config.get_text_config().pad_token_id = token


def _kind(architecture: str, settings: Mapping[str, Any]) -> Kind:
    attention = attention_of(architecture, MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING)
    return Kind(AutoModelForSequenceClassification, attention, settings)


def _scoring_architecture(path: str, revision: str | None) -> str:
    architecture = architecture_of(path, revision)
    if not _can_score(architecture):
        raise DataError(
            f"transformers has no reward model of {architecture!r} that reads from left to right",
            where=path,
            advice="use another family, such as gpt_neox, llama, mistral or qwen2",
        )
    return architecture


def _can_score(architecture: str) -> bool:
    return (
        architecture in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        and architecture in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
    )


def _ready(model: PreTrainedModel, where: str) -> PreTrainedModel:
    """Checked, and with an embedding that trains every row: transformers gives the row of the padding token no gradient,
    which would freeze a token that has a meaning elsewhere."""
    try:
        head_of(model)
    except RecipeError as error:
        raise RecipeError(error.what, where=where, advice=error.advice) from error
    embedding: nn.Module = model.get_input_embeddings()
    if isinstance(embedding, nn.Embedding):
        embedding.padding_idx = None
    return model

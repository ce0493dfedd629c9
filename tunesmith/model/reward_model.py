"""Reward models: a causal backbone with a head of one number, as transformers' own classification models with one
label.

So an export is an ordinary directory, which stock transformers loads and scores with. It takes the score at the
rightmost token that is not ``pad_token_id``; so that must be a token that no reply can end with (``padding_id``).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import nn
from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, AutoModelForSequenceClassification, PreTrainedModel
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
)

from tunesmith.errors import DataError, RecipeError
from tunesmith.model.directory import find_model
from tunesmith.model.load import (
    COMPUTED_BUFFERS,
    LoadedModel,
    ModelKind,
    check_no_missing_weights,
    check_no_unexpected_weights,
    choose_attention,
    is_classifier,
    new_model,
    read_architecture,
)
from tunesmith.model.opening import Fit, OpenedModel, open_model, unchanged
from tunesmith.model.shard import Division
from tunesmith.text.formats.format import Control
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tree import Message

HEAD = "score"
SINGLE_LABEL = {"num_labels": 1}
# Weights of causal models that a reward model does not have: the vocabulary head, under the names that families give
# it.
VOCABULARY_HEADS = ("lm_head.", "embed_out.", "output.")
SUPPORTED_FAMILIES = "use another family, such as gpt_neox, llama, mistral or qwen2"


def load_reward_model(path: str, revision: str | None = None) -> PreTrainedModel:
    """A whole reward model, as ``open_reward_model`` gives it."""
    return open_reward_model(path, revision).model


def open_reward_model(
    path: str, revision: str | None = None, division: Division | None = None, fit: Fit = unchanged
) -> OpenedModel:
    """A reward model with its head, in float32, from a directory or the hub.

    division, fit: as of ``open_language_model``.
    Raises MissingInputError (no such directory or name) or DataError (missing or unexpected weights, no reward model,
    more than one number per text), and what ``fit`` raises.
    """
    architecture = _read_scoring_architecture(path, revision)
    if not is_classifier(path, revision):
        raise DataError(
            f"this is a {architecture} model without a head that scores",
            where=path,
            advice="name a reward model, as training with objective.kind: reward exports one",
        )
    adapted = find_model(path, revision).adapter is not None

    def prepare(loaded: LoadedModel) -> Collection[nn.Parameter]:
        outputs = loaded.model.config.num_labels
        if outputs != 1:
            what = f"the model gives {outputs} numbers per text"
            raise DataError(what, where=path, advice="a reward model gives one")
        check_no_missing_weights(loaded.missing, path)
        # The base of adapters is a causal model, whose head over the vocabulary is not used.
        check_no_unexpected_weights(_lost_weights(loaded.unexpected) if adapted else loaded.unexpected, path)
        fit(_prepare(loaded.model, path))
        return list(head_of(loaded.model).parameters())

    kind = classification_kind(architecture, SINGLE_LABEL if adapted else {})
    return open_model(path, revision, kind, prepare, division)


def _lost_weights(unexpected: Collection[str]) -> list[str]:
    """Weights in the files of a causal model that a reward model has no place for, and that are not its head."""
    return sorted(
        name for name in unexpected if not name.startswith(VOCABULARY_HEADS) and not name.endswith(COMPUTED_BUFFERS)
    )


def start_reward_model(
    path: str,
    revision: str | None = None,
    *,
    head_std: float | None = None,
    seed: int = 0,
    division: Division | None = None,
    fit: Fit = unchanged,
) -> tuple[OpenedModel, bool]:
    """The model that training starts from, and whether its head is new.

    It is a reward model unchanged, or the backbone of a causal model with a head drawn from ``seed`` (``draw_head``).
    head_std: as ``std`` of ``draw_head``.
    division, fit: as of ``open_reward_model``.
    Raises as ``open_reward_model``, and DataError if a weight of the backbone is not in the files.
    """
    if is_classifier(path, revision):
        return open_reward_model(path, revision, division, fit), False
    architecture = _read_scoring_architecture(path, revision)

    def prepare(loaded: LoadedModel) -> Collection[nn.Parameter]:
        check_no_missing_weights({name for name in loaded.missing if not name.startswith(f"{HEAD}.")}, path)
        if lost := _lost_weights(loaded.unexpected):
            raise DataError(
                f"the files hold weights that a reward model does not have ({', '.join(lost[:3])})",
                where=path,
                advice="start from a plain causal model",
            )
        draw_head(loaded.model, head_std, seed)
        fit(_prepare(loaded.model, path))
        return list(head_of(loaded.model).parameters())

    return open_model(path, revision, classification_kind(architecture, SINGLE_LABEL), prepare, division), True


def new_reward_model(
    init: Mapping[str, Any], tokens: int, seed: int, *, head_std: float | None = None, head_seed: int = 0
) -> PreTrainedModel:
    """A reward model with random weights.

    init, tokens, seed: as of ``load.new_model``.
    head_std, head_seed: as ``std`` and ``seed`` of ``draw_head``.
    Raises RecipeError.
    """
    architecture = str(init["architecture"])
    if architecture in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not _can_score(architecture):
        raise RecipeError(f"transformers has no reward model of {architecture!r}", where="model.init.architecture")
    model = new_model(init, tokens, seed, classification_kind(architecture, SINGLE_LABEL))
    draw_head(model, head_std, head_seed)
    return _prepare(model, "model.init")


@torch.no_grad()
def draw_head(model: PreTrainedModel, std: float | None, seed: int) -> None:
    """Set the head to new weights from a normal distribution with mean 0, and its bias to 0.

    std: standard deviation; 0 gives zeros; None gives 1 / sqrt(D + 1) for D hidden units, as in open-instruct and
        Stiennon et al. (2020).
    """
    head = head_of(model)
    width = head.weight.shape[1]
    draw = torch.randn(head.weight.shape, generator=torch.Generator().manual_seed(seed))
    head.weight.copy_(draw * ((width + 1) ** -0.5 if std is None else std))
    if head.bias is not None:
        head.bias.zero_()


def head_of(model: PreTrainedModel) -> nn.Linear:
    """The head of a reward model, with a weight of [1, D]. Raises RecipeError for a family without such a head."""
    head = getattr(model, HEAD, None)
    if not isinstance(head, nn.Linear) or head.weight.shape[0] != 1:
        raise RecipeError(
            f"{type(model).__name__} has no head that gives one number per token",
            where="model",
            advice=SUPPORTED_FAMILIES,
        )
    return head


def padding_id(renderer: Renderer) -> int | None:
    """The token id to pad batches with: a token that no reply can end with.

    It is the padding token of the tokenizer, its begin token, or another control token. None if there is no such token;
    stock transformers can then score texts only one at a time.
    """
    tokenizer, format = renderer.tokenizer, renderer.format
    reply = format.split(Message("assistant", "!"), [Message("user", "?")])
    names = [piece.name for piece in reply.produced if isinstance(piece, Control)]
    in_replies = {tokenizer.eos_id, *renderer.stop_ids, *tokenizer.find_ids(names)}
    candidates = (
        tokenizer.pad_id,
        tokenizer.bos_id,
        *tokenizer.find_ids(format.controls),
        *sorted(tokenizer.control_ids),
    )
    for token in candidates:
        if token is not None and token not in in_replies and not tokenizer.may_come_from_text(token):
            return token
    return None


def set_padding(model: PreTrainedModel, token: int | None) -> None:
    """Set the padding token in the configuration, which stock transformers skips to find the end of a text."""
    model.config.pad_token_id = token
    model.config.get_text_config().pad_token_id = token


def classification_kind(architecture: str, config: Mapping[str, Any]) -> ModelKind:
    attention = choose_attention(architecture, MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING)
    return ModelKind(AutoModelForSequenceClassification, attention, config)


def _read_scoring_architecture(path: str, revision: str | None) -> str:
    """The architecture of a pretrained model. Raises DataError if transformers has no causal reward model of it."""
    architecture = read_architecture(path, revision)
    if not _can_score(architecture):
        raise DataError(
            f"transformers has no reward model of {architecture!r} that reads from left to right",
            where=path,
            advice=SUPPORTED_FAMILIES,
        )
    return architecture


def _can_score(architecture: str) -> bool:
    return (
        architecture in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        and architecture in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
    )


def _prepare(model: PreTrainedModel, where: str) -> PreTrainedModel:
    """The model after a check of its head, with an embedding of which every row is trained.

    transformers gives the row of the padding token no gradient, which would freeze a token with a meaning elsewhere.
    """
    try:
        head_of(model)
    except RecipeError as error:
        raise RecipeError(error.what, where=where, advice=error.advice) from error
    embedding: nn.Module = model.get_input_embeddings()
    if isinstance(embedding, nn.Embedding):
        embedding.padding_idx = None
    return model

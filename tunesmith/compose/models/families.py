"""What differs between families of models, in one place: causal models read threads in a row, encoder-decoders read pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from tunesmith.batch.example import Example, Weighting
from tunesmith.batch.packed import collate_packed
from tunesmith.batch.padded import collate_padded
from tunesmith.batch.protocols import Collator
from tunesmith.compose.parts import DTYPES, target_limit
from tunesmith.draws import stream_seed
from tunesmith.errors import MissingInputError, RecipeError
from tunesmith.model.context import context_length
from tunesmith.model.dropout import ResidualDropout, Seq2SeqDropout
from tunesmith.model.load import load_model, new_model, read_local_architecture
from tunesmith.model.policy import Policy
from tunesmith.model.seq2seq import Seq2SeqPolicy
from tunesmith.model.vocabulary import resize_vocabulary
from tunesmith.recipe import schema
from tunesmith.recipe.families import ENCODER_DECODER_FORMATS, ENCODER_DECODERS
from tunesmith.recipe.faults import Fault, Origin, RecipeFaults
from tunesmith.recipe.schema import Recipe
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.verify.packed_batches import find_packed_fault
from tunesmith.verify.padded_batches import find_padded_fault
from tunesmith.verify.self_test import self_test
from tunesmith.verify.self_test_padded import self_test_padded

Sizes = dict[str, Any]
BatchProof = Callable[[Sequence[Example], Any, Weighting], str | None]
"""find_fault(examples, batch, weighting): what is wrong with a batch of these examples, or None."""


@dataclass(frozen=True, slots=True)
class BatchKind:
    """How batches of one kind are made, and how they are verified."""

    collate: Collator
    find_fault: BatchProof


PACKED = BatchKind(collate_packed, find_packed_fault)


def padded(start: int, padding: int) -> BatchKind:
    """start: the id that a decoder begins after. padding: the id of empty places."""
    return BatchKind(
        partial(collate_padded, start=start, padding=padding),
        partial(find_padded_fault, start=start),
    )


@dataclass(frozen=True, slots=True)
class PreparedPolicy:
    """A model made ready for training. policy: of the kind that its method trains. batches: the kind that it reads.
    layout: what they are called. difference: the largest difference from the stock model, of a log-probability or a state."""

    policy: Any
    batches: BatchKind
    layout: str
    difference: float


@dataclass(frozen=True, slots=True)
class Family:
    """batches: the kind of batch, where no model was made that knows more. sizes: what the tokenizer adds to the
    configuration of a new model. learner: the policy on its device, tested against the stock model (RecipeError)."""

    batches: BatchKind
    sizes: Callable[[Tokenizer], Sizes]
    learner: Callable[[Recipe, PreTrainedModel, Tokenizer], PreparedPolicy]


def residual_dropout(recipe: Recipe, model: PreTrainedModel) -> ResidualDropout | None:
    """The dropout of a causal model. Raises RecipeError."""
    keys = recipe.model
    return ResidualDropout(model, keys.residual_dropout, keys.residual_dropout_shape) if keys.residual_dropout else None


def to_device(model: PreTrainedModel) -> None:
    """To the best device there is."""
    model.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))  # type: ignore[arg-type]


def _causal_learner(recipe: Recipe, model: PreTrainedModel, tokenizer: Tokenizer) -> PreparedPolicy:
    keys = recipe.model
    policy = Policy(model, compute=DTYPES[keys.dtype], dropout=residual_dropout(recipe, model))
    verdict = self_test(policy, tokenizer.size, recipe.text.max_length, None if keys.layout == "auto" else keys.layout)
    return PreparedPolicy(policy.with_layout(verdict.layout), PACKED, verdict.layout, verdict.difference)


def _pair_learner(recipe: Recipe, model: PreTrainedModel, tokenizer: Tokenizer) -> PreparedPolicy:
    keys = recipe.model
    dropout = None
    if keys.residual_dropout:
        stacks = (model.get_encoder(), model.get_decoder())  # type: ignore[no-untyped-call]
        dropout = Seq2SeqDropout(stacks, keys.residual_dropout, keys.residual_dropout_shape)
    policy = Seq2SeqPolicy(model, compute=DTYPES[keys.dtype], dropout=dropout)
    start = int(model.config.decoder_start_token_id)
    padding = start if model.config.pad_token_id is None else int(model.config.pad_token_id)
    longest = recipe.text.max_length
    difference = self_test_padded(policy, tokenizer.size, longest, target_limit(recipe) or longest, start)
    return PreparedPolicy(policy, padded(start, padding), "pairs", difference)


def _pair_sizes(tokenizer: Tokenizer) -> Sizes:
    """The token that pads is also the one that a reply begins after, as in T5."""
    padding = tokenizer.pad_id if tokenizer.pad_id is not None else tokenizer.eos_id
    return {"pad_token_id": padding, "eos_token_id": tokenizer.eos_id}


CAUSAL = Family(PACKED, lambda tokenizer: {}, _causal_learner)
ENCODER_DECODER = Family(padded(0, 0), _pair_sizes, _pair_learner)


def family_of(architecture: str) -> Family:
    """By transformers' ``model_type``."""
    return ENCODER_DECODER if architecture in ENCODER_DECODERS else CAUSAL


def check_model(recipe: Recipe) -> Family:
    """The family of the recipe's model, and what can be said against the model before any work is done.

    A model of the hub is not fetched for this: until it is loaded, its family is the one that the prompt format is for.
    Raises MissingInputError, DataError, RecipeFaults.
    """
    keys = recipe.model
    if keys.init is not None:
        return family_of(str(keys.init["architecture"]))
    assert keys.path is not None
    if Path(keys.path).is_dir():
        architecture = read_local_architecture(Path(keys.path))
        check_family(recipe, architecture)
        return family_of(architecture)
    if keys.path.startswith((".", "/", "~")):
        raise MissingInputError(
            "there is no such directory", where=f"model.path {keys.path}", advice="check the path, or give a hub name"
        )
    return ENCODER_DECODER if recipe.text.format in ENCODER_DECODER_FORMATS else CAUSAL


def check_family(recipe: Recipe, architecture: str) -> None:
    """Raises RecipeFaults for values that belong to the other family of models."""
    problems = list(
        schema.of_family(
            architecture, model=recipe.model, text=recipe.text, train=recipe.train, objective=recipe.objective
        )
    )
    if problems:
        origin = Origin(f"model.path {recipe.model.path}")
        raise RecipeFaults([Fault(origin, problem.key, problem.what) for problem in problems])


def build_model(recipe: Recipe, tokenizer: Tokenizer) -> tuple[PreTrainedModel, tuple[int, int]]:
    """The model with rows for every token, and (rows before, rows after). Raises RecipeError, MissingInputError, DataError."""
    keys = recipe.model
    if keys.path is not None:
        model = load_model(keys.path, keys.revision)
        check_family(recipe, str(model.config.model_type))
    else:
        assert keys.init is not None
        sizes = family_of(str(keys.init["architecture"])).sizes(tokenizer)
        model = new_model({**sizes, **keys.init}, tokenizer.size, stream_seed(recipe.seed, "init"))
    return model, fit_model(recipe, model, tokenizer)


def fit_model(recipe: Recipe, model: PreTrainedModel, tokenizer: Tokenizer) -> tuple[int, int]:
    """Resize the embedding and set what the recipe says about memory; (rows before, rows after). Raises RecipeError."""
    keys = recipe.model
    rows = resize_vocabulary(model, tokenizer.size, keys.resize, stream_seed(recipe.seed, "resize"))
    if keys.gradient_checkpointing:
        # transformers renamed the switch during version 5; both names do the same.
        name = "activation_checkpointing_enable"
        switch = getattr(model, name) if hasattr(model, name) else model.gradient_checkpointing_enable
        switch({"use_reentrant": False})
    return rows


def build_learner(recipe: Recipe, model: PreTrainedModel, tokenizer: Tokenizer) -> PreparedPolicy:
    """The policy on the best device, in the layout that the self-test allows. Raises RecipeError."""
    to_device(model)
    return family_of(str(model.config.model_type)).learner(recipe, model, tokenizer)


def check_positions(recipe: Recipe, model: PreTrainedModel) -> None:
    """No thread may be longer than the model has positions. Raises RecipeError."""
    positions = context_length(model.config)
    if positions is not None and recipe.text.max_length > positions:
        raise RecipeError(
            f"{recipe.text.max_length:,} tokens are more than the {positions:,} positions of the model",
            where="text.max_length",
            advice=f"set it to {positions} or less",
        )

"""The two families of models, causal and encoder-decoder: how they differ in loading, batches and policies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, Protocol, TypeAlias, cast

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from transformers import PreTrainedModel

from tunesmith.batch.example import Example, Weighting
from tunesmith.batch.packed import PackedBatch, collate_packed
from tunesmith.batch.padded import PaddedBatch, collate_padded
from tunesmith.batch.protocols import BatchT, BatchT_contra, Collator, LogProbabilityModel, MicroBatch
from tunesmith.compose.components.data import target_limit
from tunesmith.compose.models.adapted import name_base_format, place_model
from tunesmith.errors import MissingInputError, RecipeError
from tunesmith.files import looks_like_path
from tunesmith.model.context import context_length
from tunesmith.model.devices import best_device
from tunesmith.model.directory import read_directory
from tunesmith.model.dropout import ResidualDropout, Seq2SeqDropout
from tunesmith.model.load import read_architecture, read_dtype
from tunesmith.model.logits import measure_logit_rule
from tunesmith.model.opening import OpenedModel
from tunesmith.model.policy import Policy
from tunesmith.model.seq2seq import Seq2SeqPolicy
from tunesmith.model.shard import ShardedModel
from tunesmith.model.split import WeightFormat, WeightStorage
from tunesmith.recipe import schema
from tunesmith.recipe.families import ENCODER_DECODER_FORMATS, ENCODER_DECODERS
from tunesmith.recipe.model import ModelConfig
from tunesmith.recipe.problems import InvalidRecipeError, Origin, RecipeProblem
from tunesmith.recipe.schema import Recipe
from tunesmith.recipe.training import ShardedKind, ShardKind
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.train.loop import PolicyT
from tunesmith.verify.packed_batches import find_packed_fault
from tunesmith.verify.padded_batches import find_padded_fault
from tunesmith.verify.readings import BackboneT
from tunesmith.verify.self_test import SelfTestResult, self_test
from tunesmith.verify.self_test_padded import self_test_padded

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

FindBatchFault: TypeAlias = Callable[[Sequence[Example], BatchT, Weighting], str | None]
"""find_fault(examples, batch, weighting): what is wrong with a batch of these examples, or None."""


@dataclass(frozen=True, slots=True)
class BatchKind(Generic[BatchT]):
    """A kind of batch.

    collate: makes micro-batches of examples.
    find_fault: compares a batch with the examples that it was made of.
    """

    collate: Collator[BatchT]
    find_fault: FindBatchFault[BatchT]


PACKED: BatchKind[PackedBatch] = BatchKind(collate_packed, find_packed_fault)
"""The batches of causal models."""


def padded(start: int, padding: int) -> BatchKind[PaddedBatch]:
    """The batches of an encoder-decoder.

    start: the token id that the decoder reads first.
    padding: the token id that fills rows.
    """
    collate: Collator[PaddedBatch] = partial(collate_padded, start=start, padding=padding)
    return BatchKind(collate, partial(find_padded_fault, start=start))


class LanguagePolicy(LogProbabilityModel[BatchT_contra], Protocol[BatchT_contra]):
    """What methods that train a language model use of its policy, by the kind of batch that it reads."""

    @property
    def device(self) -> torch.device: ...

    @property
    def compute(self) -> torch.dtype: ...

    @property
    def model(self) -> PreTrainedModel: ...

    def parameters(self) -> dict[str, nn.Parameter]: ...

    def train(self) -> None: ...

    def eval(self) -> None: ...

    def shard(self, mesh: DeviceMesh, kind: ShardedKind) -> None: ...

    def gathered(self) -> AbstractContextManager[object]: ...

    def autocast(self) -> AbstractContextManager[None]: ...


@dataclass(frozen=True, slots=True)
class PreparedPolicy(Generic[PolicyT, BatchT]):
    """A policy on its device that passed the self-test.

    policy: of the kind that the method trains.
    batches: the kind of batch that the policy reads.
    layout: name of the layout of the batches: tree, threads or padded.
    difference: largest difference from the stock model in the self-test, of a log-probability (nats) or of a state.
    kernels: the attention kernels that the self-test has tested, in words.
    rejected: why faster layouts cannot be used; empty where the first one can.
    """

    policy: PolicyT
    batches: BatchKind[BatchT]
    layout: str
    difference: float
    kernels: str = ""
    rejected: str = ""


@dataclass(frozen=True, slots=True)
class Family(Generic[PolicyT, BatchT]):
    """What differs between the families of models.

    batches: the kind of batch, for checks that load no model.
    new_model_settings: entries that the tokenizer adds to the configuration of a new model.
    prepare_policy: moves a model to its device, unless it is divided and there already, and tests its policy against
        the stock model; raises RecipeError.
    """

    batches: BatchKind[BatchT]
    new_model_settings: Callable[[Tokenizer], dict[str, Any]]
    prepare_policy: Callable[[Recipe, OpenedModel, Tokenizer], PreparedPolicy[PolicyT, BatchT]]


def residual_dropout(recipe: Recipe, model: PreTrainedModel) -> ResidualDropout | None:
    """The dropout of a causal model; None if the recipe has none. Raises RecipeError for an unknown architecture."""
    keys = recipe.model
    return ResidualDropout(model, keys.residual_dropout, keys.residual_dropout_shape) if keys.residual_dropout else None


def shard_kind(recipe: Recipe, processes: int) -> ShardKind:
    """What the processes of a run divide among themselves."""
    if processes == 1:
        return "none"
    return "zero3" if recipe.train.shard == "auto" else recipe.train.shard


def weight_format(recipe: Recipe) -> WeightFormat:
    """How the weights of a recipe are stored on this machine. Sharded weights are float32, and gathered in bfloat16."""
    keys = recipe.train
    if keys.weights != "auto":
        return keys.weights
    if recipe.model.adapter is not None:
        return "float32"  # of the adapters; the base has its own key
    if keys.shard in ("zero2", "zero3"):
        return "float32"
    splits = best_device().type == "cuda" or keys.gradients == "bfloat16"
    return "split" if splits and recipe.model.dtype == "bfloat16" else "float32"


def name_storage(recipe: Recipe, processes: int) -> Recipe:
    """The recipe with the values that ``auto`` has on this machine for weights and sharding, which a run records.

    The gradients of adapters are float32, which is recorded as well.

    processes: of the run. Raises RecipeError for weights that cannot be divided among them.
    """
    kind = shard_kind(recipe, processes)
    check_replicas(recipe, kind, processes)
    named = recipe.model_copy(update={"train": recipe.train.model_copy(update={"shard": kind})})
    weights = weight_format(named)
    check_divided(recipe, kind, weights)
    of_adapters = {} if recipe.model.adapter is None else {"gradients": "float32"}
    train = named.train.model_copy(update={"weights": weights, **of_adapters})
    return named.model_copy(update={"train": train, "model": name_base_format(recipe.model)})


def check_replicas(recipe: Recipe, kind: ShardKind, processes: int) -> None:
    """Raises RecipeError if the processes cannot have so many copies of divided weights."""
    replicas = recipe.train.replicas
    if kind != "none" and processes % replicas:
        raise RecipeError(
            f"{processes} processes cannot share {replicas} copies of the weights equally",
            where="train.replicas",
            advice="append train.replicas=1, or the number of machines",
        )


def check_divided(recipe: Recipe, kind: ShardKind, weights: str) -> None:
    """Raises RecipeError for weights or gradients that cannot be divided. weights: their format, or ``auto``."""
    halves = recipe.train.gradients != "float32" and recipe.model.adapter is None
    if kind != "none" and (weights not in ("auto", "float32") or halves):
        raise RecipeError(
            "weights that are divided among processes are float32, and so are their gradients",
            where="train.weights, train.gradients",
            advice="append train.weights=float32 train.gradients=float32, or train.shard=none",
        )


def frozen_format(recipe: Recipe) -> WeightFormat:
    """How models next to the trained one are stored that are not trained: in the format in which that one computes.

    recipe: of a run, without values ``auto`` for sharding and for the base of adapters.
    """
    adapter = recipe.model.adapter
    halves = recipe.train.shard in ("zero2", "zero3") or (adapter is not None and adapter.base == "bfloat16")
    return "split" if halves and recipe.model.dtype == "bfloat16" else weight_format(recipe)


def freeze(recipe: Recipe, model: nn.Module, stored: nn.Module, root: ShardedModel | None) -> None:
    """Put a model next to the trained one into evaluation mode, without gradients.

    stored: the part of it whose weights are stored in the format ``frozen_format``, unless they are divided.
    root: of a divided model.
    """
    model.requires_grad_(False).eval()
    if root is None:
        WeightStorage(frozen_format(recipe)).store_frozen(stored)


def prepare_causal_policy(
    recipe: Recipe, opened: OpenedModel, tokenizer: Tokenizer
) -> PreparedPolicy[Policy, PackedBatch]:
    """The policy of a causal model, in the layout that the self-test allows. Raises RecipeError."""
    keys, model = recipe.model, opened.model
    rule = measure_logit_rule(model) if keys.adapter is not None else None  # while its weights are float32
    place_model(keys, opened)
    dropout = residual_dropout(recipe, model)
    policy = Policy(model, compute=DTYPES[keys.dtype], dropout=dropout, rule=rule, sharded=opened.root)
    verdict = self_test(policy, tokenizer.size, recipe.text.max_length, None if keys.layout == "auto" else keys.layout)
    return packed_policy(policy, verdict)


def packed_policy(policy: BackboneT, verdict: SelfTestResult) -> PreparedPolicy[BackboneT, PackedBatch]:
    """The policy in the layout that the self-test has found."""
    return PreparedPolicy(
        policy.with_layout(verdict.layout),
        PACKED,
        verdict.description,
        verdict.difference,
        verdict.kernels,
        verdict.rejected,
    )


def prepare_encoder_decoder_policy(
    recipe: Recipe, opened: OpenedModel, tokenizer: Tokenizer
) -> PreparedPolicy[Seq2SeqPolicy, PaddedBatch]:
    """The policy of an encoder-decoder, after the self-test. Raises RecipeError."""
    keys, model = recipe.model, opened.model
    place_model(keys, opened)
    dropout = None
    if keys.residual_dropout:
        stacks = (model.get_encoder(), model.get_decoder())  # type: ignore[no-untyped-call]
        dropout = Seq2SeqDropout(stacks, keys.residual_dropout, keys.residual_dropout_shape)
    policy = Seq2SeqPolicy(model, compute=DTYPES[keys.dtype], dropout=dropout, sharded=opened.root)
    start = int(model.config.decoder_start_token_id)
    padding = start if model.config.pad_token_id is None else int(model.config.pad_token_id)
    longest = recipe.text.max_length
    difference = self_test_padded(policy, tokenizer.size, longest, target_limit(recipe) or longest, start)
    return PreparedPolicy(policy, padded(start, padding), "padded", difference, "scaled-dot-product attention")


def _encoder_decoder_settings(tokenizer: Tokenizer) -> dict[str, Any]:
    """As in T5 the padding token is also the one that the decoder reads first."""
    padding = tokenizer.pad_id if tokenizer.pad_id is not None else tokenizer.eos_id
    return {"pad_token_id": padding, "eos_token_id": tokenizer.eos_id}


CAUSAL = Family(PACKED, lambda tokenizer: {}, prepare_causal_policy)
ENCODER_DECODER = Family(padded(0, 0), _encoder_decoder_settings, prepare_encoder_decoder_policy)


AnyFamily: TypeAlias = Family[LanguagePolicy[MicroBatch], MicroBatch]
"""A family whose kinds of policy and batch are not known to the type checker; they come from it together."""


def family_of(architecture: str) -> AnyFamily:
    """The family of an architecture (transformers' ``model_type``)."""
    return cast(AnyFamily, ENCODER_DECODER if architecture in ENCODER_DECODERS else CAUSAL)


def find_family(recipe: Recipe) -> AnyFamily:
    """The family of the recipe's model, which is checked as far as that is possible without loading it.

    A model of the hub is not downloaded for this: until it is loaded, its family is that of the prompt format.
    Raises MissingInputError, DataError (no readable weights), InvalidRecipeError (keys for the other family).
    """
    keys = recipe.model
    if keys.init is not None:
        return family_of(str(keys.init["architecture"]))
    assert keys.path is not None
    if Path(keys.path).is_dir():
        found = read_directory(Path(keys.path))
        check_family(recipe, found.architecture)
        check_length(recipe, found.config.entries.get("max_position_embeddings"))
        return family_of(found.architecture)
    if looks_like_path(keys.path):
        raise MissingInputError(
            "there is no such directory", where=f"model.path {keys.path}", advice="check the path, or give a hub name"
        )
    return family_of(ENCODER_DECODERS[0] if recipe.text.format in ENCODER_DECODER_FORMATS else "")


def check_family(recipe: Recipe, architecture: str) -> None:
    """Raises InvalidRecipeError for values that belong to the other family of models."""
    problems = list(
        schema.find_architecture_conflicts(
            architecture, model=recipe.model, text=recipe.text, train=recipe.train, objective=recipe.objective
        )
    )
    if problems:
        origin = Origin(f"model.path {recipe.model.path}")
        raise InvalidRecipeError(
            RecipeProblem(origin, problem.key, problem.describe(problem.remedies)) for problem in problems
        )


def prepare_language_policy(
    recipe: Recipe, opened: OpenedModel, tokenizer: Tokenizer
) -> PreparedPolicy[LanguagePolicy[MicroBatch], MicroBatch]:
    """The policy of a language model on the best device, after the self-test of its layout. Raises RecipeError."""
    return family_of(str(opened.model.config.model_type)).prepare_policy(recipe, opened, tokenizer)


def check_positions(recipe: Recipe, model: PreTrainedModel) -> None:
    """Raises RecipeError if threads may be longer than the model has positions."""
    check_length(recipe, context_length(model.config))


def check_length(recipe: Recipe, positions: int | None) -> None:
    """Raises RecipeError for a limit above the positions of the model. positions: None if they are not limited."""
    if positions is not None and recipe.text.max_length > positions:
        raise RecipeError(
            f"{recipe.text.max_length:,} tokens are more than the {positions:,} positions of the model",
            where="text.max_length",
            advice=f"append text.max_length={positions}",
        )


def base_dtype(keys: ModelConfig) -> str:
    """The data type that the base model declares for its weights; float32 where it declares another or none."""
    declared = read_dtype(keys.path, keys.revision) if keys.path is not None else None
    return declared if declared in DTYPES else "float32"


def describe_left_out(keys: ModelConfig, model: PreTrainedModel) -> str | None:
    """What the export of a text model lacks of its base model; None where it lacks nothing."""
    if keys.path is None:
        return None
    base, text = read_architecture(keys.path, keys.revision), str(model.config.model_type)
    if base == text:
        return None
    return (
        f"only the text model of {base} was trained and exported, as {text}; its parts for images or sound are left out"
    )

"""Reward models: trained on ranked replies, evaluated by how they order held-out ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tunesmith.batch.packed import PackedBatch
from tunesmith.compose.components.steps import build_steps
from tunesmith.compose.components.tokenizer import check_same_format, check_same_tokenizer, prompt_format
from tunesmith.compose.methods.method import Method, RunContext, TrainingSetup
from tunesmith.compose.methods.reward_gates import reward_gates
from tunesmith.compose.methods.reward_texts import ScoredTexts
from tunesmith.compose.models import families
from tunesmith.compose.models.adapted import place_model
from tunesmith.compose.models.building import BuiltModel, Fitting, divided
from tunesmith.compose.models.families import PreparedPolicy
from tunesmith.compose.proof import proof_of_run
from tunesmith.draws import stream_seed
from tunesmith.evaluate.reward import validation_ranking
from tunesmith.model.opening import OpenedModel
from tunesmith.model.reward_model import new_reward_model, padding_id, set_padding, start_reward_model
from tunesmith.model.scalar_policy import ScalarPolicy
from tunesmith.model.shard import Division
from tunesmith.objectives.ranking import RewardRanking
from tunesmith.recipe.schema import Recipe, RewardConfig
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tokens.render import Renderer
from tunesmith.train.run.shown import LOSS, SHARE, SIGNED, ShownMetric, ShownText
from tunesmith.train.run.validation import ValidationMetrics
from tunesmith.verify.self_test import self_test_scalars

Context = RunContext[ScalarPolicy, PackedBatch]


def build_model(
    recipe: Recipe, keys: RewardConfig, tokenizer: Tokenizer, division: Division | None = None
) -> BuiltModel:
    """The reward model with an embedding row for every token. division: as of ``build_language_model``.

    Raises RecipeError, MissingInputError, DataError.
    """
    origin, seed, fit = recipe.model, stream_seed(recipe.seed, "head"), Fitting(recipe, tokenizer)
    if origin.path is not None:
        opened, new_head = start_reward_model(
            *(origin.path, origin.revision),
            head_std=keys.head_std,
            seed=seed,
            division=divided(recipe, division),
            fit=fit,
        )
        if not new_head:  # it was trained to read the end of replies in one format
            check_same_format(Path(origin.path), recipe, "text.format")
            check_same_tokenizer(origin.path, tokenizer, recipe, "model.tokenizer")
    else:
        assert origin.init is not None
        init = stream_seed(recipe.seed, "init")
        model = new_reward_model(origin.init, tokenizer.size, init, head_std=keys.head_std, head_seed=seed)
        fit(model)
        opened = OpenedModel(model)
    set_padding(opened.model, padding_id(Renderer(prompt_format(recipe), tokenizer)))
    return fit.built(opened)


def prepare_policy(
    recipe: Recipe, opened: OpenedModel, tokenizer: Tokenizer
) -> PreparedPolicy[ScalarPolicy, PackedBatch]:
    """The policy on the best device, in the layout that the self-test allows. Raises RecipeError."""
    keys = recipe.model
    place_model(keys, opened)
    dropout = families.residual_dropout(recipe, opened.model)
    compute = families.DTYPES[keys.dtype]
    policy = ScalarPolicy(opened.model, compute=compute, dropout=dropout, sharded=opened.root)
    wanted = None if keys.layout == "auto" else keys.layout
    verdict = self_test_scalars(policy, tokenizer.size, recipe.text.max_length, wanted)
    return families.packed_policy(policy, verdict)


def setup(context: Context, keys: RewardConfig) -> TrainingSetup[ScalarPolicy, PackedBatch]:
    """The ranking loss on scores of a reward model. Raises DataError."""
    recipe, prepared = context.recipe, context.prepared
    steps = build_steps(recipe, context.data.train, context.renderer, prepared.batches.collate, world=context.world)
    objective = RewardRanking(margin_scale=keys.margin_scale, l2=keys.l2)
    return TrainingSetup(
        policy=prepared.policy,
        objective=objective,
        steps=steps,
        modules={"model": context.model},
        proof=proof_of_run(recipe, context.renderer, steps, context.rows, prepared.batches.find_fault),
        gates=lambda: reward_gates(prepared.policy, objective, steps, recipe.model, context.world),
        evaluate=_evaluation(context, objective),
        texts=_texts(context),
    )


def _evaluation(context: Context, objective: RewardRanking) -> Callable[[], ValidationMetrics] | None:
    """Loss and ranking metrics over the validation data."""
    if context.validation is None:
        return None
    store, sources = context.validation
    policy, tokens = context.prepared.policy, context.recipe.train.micro_batch_tokens
    return lambda: validation_ranking(policy, objective, store, sources, tokens, context.world)


def _texts(context: Context) -> Callable[[], Sequence[ShownText]]:
    """Scores of some replies of the validation data."""
    if context.validation is None:
        return tuple
    policy, recipe = context.prepared.policy, context.recipe
    seed = stream_seed(recipe.seed, "replies")
    return ScoredTexts.of(policy, context.validation[0], recipe.evaluate.show, seed, context.renderer)


REWARD = Method(
    build_model,
    prepare_policy,
    setup,
    kind="reward",
    use="score replies with it: tunesmith score {run} FILE",
    shown=(
        LOSS,
        ShownMetric("accuracy", "pairs in order", SHARE),
        ShownMetric("margin", "margin", SIGNED),
        ShownMetric("kendall_tau", "rank correlation", SIGNED),
    ),
)

"""PPO: replies that the policy writes itself, with rewards of models and checks."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import torch

from tunesmith.batch.packed import PackedBatch
from tunesmith.compose.components.steps import build_draws, build_steps
from tunesmith.compose.methods.method import Method, RunContext, TrainingSetup
from tunesmith.compose.methods.ppo_evaluation import RewardEvaluation
from tunesmith.compose.methods.ppo_gates import gates_of
from tunesmith.compose.models.adapted import adapt_value_model
from tunesmith.compose.models.building import build_language_model
from tunesmith.compose.models.families import prepare_causal_policy
from tunesmith.compose.models.reference import reference_policy
from tunesmith.compose.models.reward_models import prepare_reward_model
from tunesmith.compose.models.reward_sources import reward_sources
from tunesmith.compose.proof import proof_of_run
from tunesmith.data.dataset.plan import Plan
from tunesmith.data.dataset.prompt_list import PromptList, list_prompts
from tunesmith.draws import stream_seed
from tunesmith.generate.cache_check import choose_decoding
from tunesmith.generate.requests import StoppingCriteria
from tunesmith.generate.sampling import SamplingParameters
from tunesmith.model.actor_critic import ActorCritic, ValueFunction, backbone_like, value_head
from tunesmith.model.body import body_of
from tunesmith.model.policy import Policy
from tunesmith.model.reward_model import head_of
from tunesmith.objectives.advantages import whiten
from tunesmith.objectives.proximal import ProximalPolicy
from tunesmith.recipe.objectives import PpoConfig
from tunesmith.recipe.schema import Recipe
from tunesmith.train.rollout.generator import AdvantageSettings, RolloutGenerator, RolloutSampling
from tunesmith.train.rollout.plan import RolloutPlan
from tunesmith.train.rollout.rollouts import Floats
from tunesmith.train.rollout.steps import RolloutSteps
from tunesmith.train.run.checkpoint import latest_attempts
from tunesmith.train.run.metrics import read_records
from tunesmith.train.run.shown import SHARE, SIGNED, ShownMetric

ROLLOUTS = "rollouts"

Context = RunContext[Policy, PackedBatch]


def setup(context: Context, keys: PpoConfig) -> TrainingSetup[ActorCritic, PackedBatch]:
    """Policy and value function together, trained on rollouts. Raises RecipeError, MissingInputError, DataError."""
    recipe, prepared = context.recipe, context.prepared
    found = prepared.policy
    policy = found.on_model(found.model, found.sharded, keys.temperature)
    actor = ActorCritic(policy, value_function(context, keys, policy))
    prompts = list_prompts(context.data.train)
    generator = rollout_generator(context, keys, actor, prompts)
    steps = rollout_steps(context, keys, generator, prompts)
    stored = build_steps(recipe, context.data.train, context.renderer, prepared.batches.collate)
    evaluate = None
    if context.validation is not None:
        greedy = replace(generator, sampling=greedy_sampling(generator.sampling))
        evaluate = RewardEvaluation.on(*context.validation, greedy)
    return TrainingSetup(
        policy=actor,
        objective=ProximalPolicy(clip=keys.clip, value_clip=keys.value_clip, value_weight=keys.value_weight),
        steps=steps,
        modules={"model": context.model, "value": actor.value.module},
        proof=proof_of_run(recipe, context.renderer, stored, context.rows, prepared.batches.find_fault),
        gates=gates_of(actor, steps, keys),
        evaluate=evaluate,
        texts=tuple if evaluate is None else partial(evaluate.texts, recipe.evaluate.show, context.renderer),
        callbacks=(steps.record_kl,),
        resumed=lambda done: steps.restore_kl(read_records(context.run.metrics)),
        ahead=False,
    )


def value_function(context: Context, keys: PpoConfig, policy: Policy) -> ValueFunction:
    """A new head of zeros, on the policy (shared) or on a copy of its network (separate), or the recipe's reward model.

    Raises RecipeError (a reward model with another tokenizer or prompt format), MissingInputError, DataError.
    """
    if keys.value_model is not None:
        path, recipe = keys.value_model, context.recipe
        found = prepare_reward_model("objective.value", path, recipe, policy, context.renderer)
        adapt_value_model(recipe.model.adapter, found.model, stream_seed(recipe.seed, "value adapter"))
        context.weights.store(body_of(found.model))  # the head is float32, as all computations with it
        return ValueFunction(head_of(found.model), found)
    backbone = backbone_like(policy) if keys.value == "separate" else None
    return ValueFunction(value_head(policy.model), backbone)


def rollout_generator(context: Context, keys: PpoConfig, actor: ActorCritic, prompts: PromptList) -> RolloutGenerator:
    """Writes and scores replies. Raises as ``setup``."""
    recipe, policy = context.recipe, actor.policy
    answered = [prompts] if context.validation is None else [prompts, list_prompts(context.validation[0])]
    return RolloutGenerator(
        policy=actor,
        reference=reference_policy(recipe, policy, context.renderer),
        rewards=reward_sources(recipe, keys, context.renderer, policy, answered),
        prompts=prompts.ids,
        sampling=rollout_sampling(context, keys, policy),
        advantages=AdvantageSettings(
            unfinished=keys.unfinished_reward,
            discount=keys.discount,
            gae_lambda=keys.gae_lambda,
            whiten_rewards=keys.whiten_rewards,
            kl_target=keys.kl_target,
            kl_horizon=keys.kl_horizon,
        ),
        tokens=recipe.train.micro_batch_tokens,
        collate=context.prepared.batches.collate,
        world=context.world,
    )


def rollout_steps(context: Context, keys: PpoConfig, generator: RolloutGenerator, prompts: PromptList) -> RolloutSteps:
    """The steps of the whole run."""
    return RolloutSteps(
        plan=rollout_plan(context.recipe, keys, prompts),
        generate=generator,
        directory=context.run.path / ROLLOUTS,
        coefficient=keys.kl_coefficient,
        tokens=context.recipe.train.micro_batch_tokens,
        saved_steps=partial(latest_attempts, context.run.checkpoints),
        decode=partial(context.tokenizer.decode, skip_controls=False),
        adaptive=keys.kl_target is not None,
        kl_stop=keys.kl_stop,
        value_warmup=keys.value_warmup_steps,
        whiten=whitened if keys.whiten_advantages else None,
        collate=context.prepared.batches.collate,
        world=context.world,
    )


def rollout_plan(recipe: Recipe, keys: PpoConfig, prompts: PromptList) -> RolloutPlan:
    """Which prompts are answered in which iteration, and which a step trains on."""
    plan = Plan(
        np.ones(len(prompts), np.int64),
        keys.prompts_per_iteration,
        epochs=recipe.train.epochs,
        steps=recipe.train.steps,  # an iteration has at least one step, so there are never too few
        seed=stream_seed(recipe.seed, "order"),
        draws=build_draws(recipe, prompts),
    )
    return RolloutPlan(plan, recipe.train.batch_size, keys.epochs_per_iteration, recipe.train.steps)


def rollout_sampling(context: Context, keys: PpoConfig, policy: Policy) -> RolloutSampling:
    """How replies are sampled."""
    recipe, renderer = context.recipe, context.renderer
    with policy.gathered():
        decoding = choose_decoding(policy.model)
    return RolloutSampling(
        rows=decoding.new_rows,
        decoding=SamplingParameters(
            temperature=keys.temperature, top_k=keys.top_k, top_p=keys.top_p, max_new_tokens=keys.max_new_tokens
        ),
        stopping=StoppingCriteria(tuple(sorted(renderer.stop_ids)), renderer.tokenizer.size, recipe.text.max_length),
        samples=keys.samples,
        seed=stream_seed(recipe.seed, "rollouts"),
        batch_size=recipe.evaluate.batch_size,
    )


def greedy_sampling(sampling: RolloutSampling) -> RolloutSampling:
    """The most probable reply, one to each prompt."""
    return replace(sampling, decoding=replace(sampling.decoding, do_sample=False), samples=1)


def whitened(advantages: Floats) -> Floats:
    """The advantages of one step, float32 [N], with mean 0 and variance 1."""
    values = whiten(torch.from_numpy(advantages).double())
    return np.asarray(values.numpy(), np.float32)


PPO = Method(
    build_language_model,
    prepare_causal_policy,
    setup,
    shown=(
        ShownMetric("rewards/mean", "mean reward", SIGNED),
        ShownMetric("rewards/finished", "finished replies", SHARE),
        ShownMetric("reference_kl", "KL to reference"),
    ),
)

"""PPO: replies that the policy writes itself, rewarded by models and checks."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from tunesmith.compose import parts
from tunesmith.compose.methods.method import Method, RunContext, TrainingSetup
from tunesmith.compose.methods.ppo_evaluation import scores_of
from tunesmith.compose.methods.ppo_gates import gates_of
from tunesmith.compose.models import families
from tunesmith.compose.models.auxiliary import reference_policy, reward_model
from tunesmith.compose.models.rewards import reward_sources
from tunesmith.compose.proof import proof_of_run
from tunesmith.data.dataset.plan import Plan
from tunesmith.data.dataset.prompt_list import PromptList, list_prompts
from tunesmith.draws import stream_seed
from tunesmith.errors import RecipeError
from tunesmith.generate.decoding import CausalRows, StoppingCriteria
from tunesmith.generate.sampling import Sampling
from tunesmith.model.actor_critic import ActorCritic, ValueFunction, backbone_like, value_head
from tunesmith.model.policy import Policy
from tunesmith.model.reward_model import head_of
from tunesmith.objectives.advantages import whiten
from tunesmith.objectives.proximal import ProximalPolicy
from tunesmith.recipe.objectives import Ppo
from tunesmith.recipe.schema import Recipe
from tunesmith.train.rollout.generator import AdvantageSettings, RolloutGenerator, RolloutSampling
from tunesmith.train.rollout.plan import RolloutPlan
from tunesmith.train.rollout.rollouts import Floats
from tunesmith.train.rollout.steps import RolloutSteps
from tunesmith.train.run.metrics import read_records

ROLLOUTS = "rollouts"
CHECKPOINT = re.compile(r"step-(\d+)(-\d+)?")


def course(setting: RunContext) -> TrainingSetup:
    """Raises RecipeError, MissingInputError, DataError."""
    recipe, learner, keys = setting.recipe, setting.learner, setting.recipe.objective
    assert isinstance(keys, Ppo)
    if not isinstance(learner.policy, Policy):
        what = "objective ppo trains causal models, not encoder-decoders"
        raise RecipeError(what, where="objective.kind", advice="use a causal model")
    policy = Policy(
        learner.policy.model,
        compute=learner.policy.compute,
        layout=learner.policy.layout,
        temperature=keys.temperature,
    )
    actor = ActorCritic(policy, value_function(setting, policy, keys.value))
    prompts = list_prompts(setting.prepared.train)
    maker = maker_of(setting, actor, prompts)
    steps = steps_of(setting, maker, prompts)
    stored = parts.build_steps(recipe, setting.prepared.train, setting.renderer, learner.batches.collate)
    return TrainingSetup(
        policy=actor,
        objective=ProximalPolicy(clip=keys.clip, value_clip=keys.value_clip, value_weight=keys.value_weight),
        steps=steps,
        modules={"model": setting.model, "value": actor.value.module},
        proof=proof_of_run(recipe, setting.renderer, stored, setting.rows, learner.batches.find_fault),
        gates=gates_of(actor, steps, keys),
        scores=scores_of(setting, replace(maker, drawing=greedy(maker.drawing))),
        actions=(steps.observe,),
        resumed=lambda done: steps.recall(read_records(setting.run.metrics)),
    )


def maker_of(setting: RunContext, actor: ActorCritic, prompts: PromptList) -> RolloutGenerator:
    """What writes and scores replies. Raises as ``course``."""
    recipe, keys, policy = setting.recipe, setting.recipe.objective, actor.policy
    assert isinstance(keys, Ppo)
    asked = [prompts] if setting.validation is None else [prompts, list_prompts(setting.validation[0])]
    return RolloutGenerator(
        policy=actor,
        reference=reference_policy(recipe, policy, setting.renderer),
        rewards=reward_sources(recipe, setting.renderer, policy, asked),
        prompts=prompts.ids,
        drawing=drawing_of(setting, policy),
        worth=AdvantageSettings(
            unfinished=keys.unfinished_reward,
            discount=keys.discount,
            gae_lambda=keys.gae_lambda,
            whiten_rewards=keys.whiten_rewards,
            kl_target=keys.kl_target,
            kl_horizon=keys.kl_horizon,
        ),
        tokens=recipe.train.micro_batch_tokens,
        collate=setting.learner.batches.collate,
    )


def steps_of(setting: RunContext, maker: RolloutGenerator, prompts: PromptList) -> RolloutSteps:
    """The steps of the whole run."""
    recipe, keys = setting.recipe, setting.recipe.objective
    assert isinstance(keys, Ppo)
    return RolloutSteps(
        plan=rollout_plan(recipe, prompts),
        make=maker,
        directory=setting.run.path / ROLLOUTS,
        coefficient=keys.kl_coefficient,
        tokens=recipe.train.micro_batch_tokens,
        kept=partial(saved_steps, setting.run.checkpoints),
        words=partial(setting.tokenizer.decode, skip_controls=False),
        adaptive=keys.kl_target is not None,
        stop=keys.kl_stop,
        warmup=keys.value_warmup_steps,
        whitened=whitened if keys.whiten_advantages else None,
        collate=setting.learner.batches.collate,
    )


def rollout_plan(recipe: Recipe, prompts: PromptList) -> RolloutPlan:
    """Which prompts are answered in which iteration, and which a step trains on."""
    keys, objective = recipe.train, recipe.objective
    assert isinstance(objective, Ppo)
    plan = Plan(
        np.ones(len(prompts), np.int64),
        objective.prompts_per_iteration,
        epochs=keys.epochs,
        steps=keys.steps,  # an iteration has a step at least, so there are never too few
        seed=stream_seed(recipe.seed, "order"),
        draws=parts.draws(recipe, prompts),
    )
    return RolloutPlan(plan, keys.batch_size, objective.epochs_per_iteration, keys.steps)


def drawing_of(setting: RunContext, policy: Policy) -> RolloutSampling:
    """How the recipe wants replies to be drawn."""
    recipe, keys, renderer = setting.recipe, setting.recipe.objective, setting.renderer
    assert isinstance(keys, Ppo)
    return RolloutSampling(
        rows=lambda: CausalRows(policy.model),
        sampling=Sampling(
            temperature=keys.temperature, top_k=keys.top_k, top_p=keys.top_p, max_new_tokens=keys.max_new_tokens
        ),
        ends=StoppingCriteria(tuple(sorted(renderer.stop_ids)), renderer.tokenizer.size, recipe.text.max_length),
        samples=keys.samples,
        seed=stream_seed(recipe.seed, "rollouts"),
        at_once=recipe.evaluate.batch_size,
    )


def greedy(drawing: RolloutSampling) -> RolloutSampling:
    """The most probable reply, one to each prompt."""
    return replace(drawing, sampling=replace(drawing.sampling, do_sample=False), samples=1)


def value_function(setting: RunContext, policy: Policy, named: str) -> ValueFunction:
    """shared, separate (both with a new head of zeros), or the reward model of a directory.

    Raises RecipeError (another tokenizer or prompt format), MissingInputError, DataError.
    """
    if named == "shared":
        return ValueFunction(value_head(policy.model))
    if named == "separate":
        return ValueFunction(value_head(policy.model), backbone_like(policy))
    found = reward_model("objective.value", named, setting.recipe, policy, setting.renderer)
    return ValueFunction(head_of(found.model), found)


def whitened(advantages: Floats) -> Floats:
    """Of one step, with mean 0 and variance 1."""
    values = whiten(torch.from_numpy(advantages).double())
    return np.asarray(values.numpy(), np.float32)


def saved_steps(checkpoints: Path) -> list[int]:
    """The steps of all checkpoints that there are, sound or not."""
    found = [CHECKPOINT.fullmatch(path.name) for path in checkpoints.iterdir()] if checkpoints.is_dir() else []
    return [int(match.group(1)) for match in found if match is not None]


PPO = Method(families.build_model, families.build_learner, course)

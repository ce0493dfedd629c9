"""Evaluation by generation, as a recipe asks for it: replies at every evaluation, measured and kept with the run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tunesmith.compose import parts
from tunesmith.data.dataset.store import Store
from tunesmith.draws import stream_seed
from tunesmith.evaluate.generation import (
    EvaluationPrompt,
    choose_prompts,
    generate_replies,
    prediction_records,
    reply_metrics,
)
from tunesmith.files import write_file
from tunesmith.generate.engine import Engine
from tunesmith.model.policy import Policy
from tunesmith.model.seq2seq import Seq2SeqPolicy
from tunesmith.recipe.schema import EvaluateConfig, Recipe
from tunesmith.text.tokens.render import Renderer

PREDICTIONS = "predictions"


def reply_evaluation(
    recipe: Recipe,
    policy: Policy | Seq2SeqPolicy,
    renderer: Renderer,
    validation: tuple[Store, Sequence[str]],
    directory: Path,
) -> Callable[[int], Mapping[str, float]] | None:
    """The argument ``replies`` of ``EvaluationCallback``; None if the recipe asks for no replies or the data have no prompts.

    directory: of the run. The replies of step 100 are written to ``predictions/step-000100.jsonl`` in it.
    """
    keys = recipe.evaluate
    if not keys.replies:
        return None
    seed = stream_seed(recipe.seed, "replies")
    crop = parts.crop(recipe, renderer)
    prompts = choose_prompts(*validation, renderer, keys.replies, seed, crop)
    engine = Engine(policy.model, renderer)

    def evaluate(step: int) -> Mapping[str, float]:
        return _evaluate(policy, engine, prompts, keys, directory / PREDICTIONS / f"step-{step:06d}.jsonl")

    return evaluate if prompts else None


def _evaluate(
    policy: Policy | Seq2SeqPolicy,
    engine: Engine,
    prompts: Sequence[EvaluationPrompt],
    keys: EvaluateConfig,
    path: Path,
) -> Mapping[str, float]:
    policy.eval()
    with policy.autocast():
        replies = generate_replies(engine, prompts, keys.max_new_tokens, keys.batch_size)
    lines = [json.dumps(each, ensure_ascii=False) for each in prediction_records(prompts, replies, engine.renderer)]
    write_file(path, "\n".join(lines) + "\n")
    return reply_metrics(prompts, replies)

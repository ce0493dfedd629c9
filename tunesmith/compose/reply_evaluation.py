"""Evaluation by generation: greedy replies to validation prompts, compared with the replies of the data."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tunesmith.batch.protocols import BatchT
from tunesmith.compose.components.steps import crop_settings
from tunesmith.compose.models.families import LanguagePolicy
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
from tunesmith.recipe.schema import EvaluateConfig, Recipe
from tunesmith.text.tokens.render import Renderer

PREDICTIONS = "predictions"


def reply_evaluation(
    recipe: Recipe,
    policy: LanguagePolicy[BatchT],
    renderer: Renderer,
    validation: tuple[Store, Sequence[str]],
    directory: Path,
    notice: Callable[[str], None],
) -> Callable[[int], Mapping[str, float]] | None:
    """A function that evaluates the present weights after a step; None if no replies are asked for or no prompt exists.

    validation: the data, and the names of their sources.
    notice: shows the user how replies are generated, if that is out of the ordinary.
    directory: of the run. The replies after step 100 are written to predictions/step-000100.jsonl in it.
    """
    keys = recipe.evaluate
    if not keys.replies:
        return None
    seed = stream_seed(recipe.seed, "replies")
    prompts = choose_prompts(*validation, renderer, keys.replies, seed, crop_settings(recipe, renderer))
    if not prompts:
        return None
    engine = Engine(policy.model, renderer)
    if engine.notice is not None:
        notice(engine.notice)

    def evaluate(step: int) -> Mapping[str, float]:
        return _evaluate(policy, engine, prompts, keys, directory / PREDICTIONS / f"step-{step:06d}.jsonl")

    return evaluate


def _evaluate(
    policy: LanguagePolicy[BatchT],
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

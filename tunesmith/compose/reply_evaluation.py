"""Evaluation by generation, as a recipe asks for it: replies at every evaluation, measured and kept with the run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tunesmith.compose import parts
from tunesmith.data.dataset.store import Store
from tunesmith.draws import stream_seed
from tunesmith.evaluate.generation import Question, answer, choose_questions, metrics, predictions
from tunesmith.files import write_file
from tunesmith.generate.engine import Engine
from tunesmith.model.policy import Policy
from tunesmith.model.seq2seq import Seq2SeqPolicy
from tunesmith.recipe.schema import EvaluateConfig, Recipe
from tunesmith.text.tokens.render import Renderer

PREDICTIONS = "predictions"

Told = Callable[[int, Mapping[str, float]], None]


def reply_evaluation(
    recipe: Recipe,
    policy: Policy | Seq2SeqPolicy,
    renderer: Renderer,
    validation: tuple[Store, Sequence[str]],
    directory: Path,
    told: Told,
) -> Callable[[int], Mapping[str, float]] | None:
    """What ``Evaluation.replies`` wants, or None if the recipe asks for no replies or the data have no prompts.

    told: hears of the measures of every step. The replies of step 100 are in ``directory``/predictions/step-000100.jsonl.
    """
    keys = recipe.evaluate
    if not keys.replies:
        return None
    seed = stream_seed(recipe.seed, "replies")
    crop = parts.crop(recipe, renderer)
    questions = choose_questions(*validation, renderer, keys.replies, seed, crop)
    engine = Engine(policy.model, renderer)

    def evaluate(step: int) -> Mapping[str, float]:
        found = _evaluate(policy, engine, questions, keys, directory / PREDICTIONS / f"step-{step:06d}.jsonl")
        told(step, found)
        return found

    return evaluate if questions else None


def _evaluate(
    policy: Policy | Seq2SeqPolicy, engine: Engine, questions: Sequence[Question], keys: EvaluateConfig, path: Path
) -> Mapping[str, float]:
    policy.eval()
    with policy.autocast():
        replies = answer(engine, questions, keys.max_new_tokens, keys.batch_size)
    lines = [json.dumps(each, ensure_ascii=False) for each in predictions(questions, replies, engine.renderer)]
    write_file(path, "\n".join(lines) + "\n")
    return metrics(questions, replies)

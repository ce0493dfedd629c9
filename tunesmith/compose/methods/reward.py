"""Reward models: replies that the data rank, and how well those held back are put in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel

from tunesmith.batch.packed import PackedBatch
from tunesmith.compose import parts
from tunesmith.compose.methods.method import Method, RunContext, TrainingSetup
from tunesmith.compose.models import families
from tunesmith.compose.models.families import PACKED, PreparedPolicy
from tunesmith.compose.proof import proof_of_run
from tunesmith.draws import stream_seed
from tunesmith.errors import RecipeError
from tunesmith.evaluate.reward import validation_ranking
from tunesmith.generate.exported import read_export
from tunesmith.model.load import is_classifier
from tunesmith.model.reward_model import new_reward_model, padding_id, set_padding, start_reward_model
from tunesmith.model.scalar_policy import ScalarPolicy
from tunesmith.objectives.ranking import RewardRanking
from tunesmith.recipe.schema import Recipe, Reward
from tunesmith.report.check import Check
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tokens.render import Renderer
from tunesmith.train.loop import accumulate_metrics
from tunesmith.train.run.callbacks import Scores
from tunesmith.train.steps import DatasetSteps
from tunesmith.verify.differences import max_or_nan
from tunesmith.verify.self_test import TOLERANCE, self_test_scalars

GATE = "a reply scores what it scores alone, through the stock model"
COMPARED = 8  # replies that the gate compares
NOTHING_KNOWN = "a new head knows nothing yet"
DEVIATIONS = 3.0  # standard deviations from one half that are still near it


def build_model(recipe: Recipe, tokenizer: Tokenizer) -> tuple[PreTrainedModel, tuple[int, int]]:
    """The reward model with rows for every token, and (rows before, rows after).

    Raises RecipeError, MissingInputError, DataError.
    """
    keys, objective = recipe.model, recipe.objective
    assert isinstance(objective, Reward)
    seed = stream_seed(recipe.seed, "head")
    if keys.path is not None:
        model, new = start_reward_model(keys.path, keys.revision, head_std=objective.head_std, seed=seed)
        if not new:
            check_same_reading(recipe, tokenizer)
    else:
        assert keys.init is not None
        init = stream_seed(recipe.seed, "init")
        model = new_reward_model(keys.init, tokenizer.size, init, head_std=objective.head_std, head_seed=seed)
    rows = families.fit_model(recipe, model, tokenizer)
    set_padding(model, padding_id(Renderer(parts.prompt_format(recipe), tokenizer)))
    return model, rows


def check_same_reading(recipe: Recipe, tokenizer: Tokenizer) -> None:
    """A head that is kept has learned what stands at the end of a reply. Raises RecipeError if the recipe reads otherwise than
    the reward model that it goes on with; a directory that says nothing of itself is taken as it is."""
    directory = Path(recipe.model.path or "")
    info = read_export(directory)
    if info is None:
        return
    format, options = recipe.text.format, parts.format_options(recipe)
    if (info.format, dict(info.options)) != (format, options):
        raise RecipeError(
            f"the reward model was trained with prompt format {info.format!r} {dict(info.options)}, not {format!r} {options}",
            where="text.format",
            advice="use the same format and options, or begin with the model that it was made from",
        )
    parts.check_same_tokenizer(str(directory), tokenizer, recipe, "model.tokenizer")


def build_learner(recipe: Recipe, model: PreTrainedModel, tokenizer: Tokenizer) -> PreparedPolicy:
    """The policy on the best device, in the layout that the self-test allows. Raises RecipeError."""
    keys = recipe.model
    families.to_device(model)
    policy = ScalarPolicy(model, compute=parts.DTYPES[keys.dtype], dropout=families.residual_dropout(recipe, model))
    wanted = None if keys.layout == "auto" else keys.layout
    verdict = self_test_scalars(policy, tokenizer.size, recipe.text.max_length, wanted)
    return PreparedPolicy(policy.with_layout(verdict.layout), PACKED, verdict.layout, verdict.difference)


def course(setting: RunContext) -> TrainingSetup:
    """Raises DataError."""
    recipe, learner, keys = setting.recipe, setting.learner, setting.recipe.objective
    assert isinstance(keys, Reward)
    steps = parts.build_steps(recipe, setting.prepared.train, setting.renderer, learner.batches.collate)
    objective = RewardRanking(margin_scale=keys.margin_scale, l2=keys.l2)
    return TrainingSetup(
        policy=learner.policy,
        objective=objective,
        steps=steps,
        modules={"model": setting.model},
        proof=proof_of_run(recipe, setting.renderer, steps, setting.rows, learner.batches.find_fault),
        gates=lambda: [scored_alone(learner.policy, steps), *_knows_nothing(setting, objective, steps)],
        scores=_scores(setting, objective),
    )


def _scores(setting: RunContext, objective: RewardRanking) -> Callable[[], Scores] | None:
    if setting.validation is None:
        return None
    store, sources = setting.validation
    policy, tokens = setting.learner.policy, setting.recipe.train.micro_batch_tokens
    return lambda: validation_ranking(policy, objective, store, sources, tokens)


@torch.no_grad()
def scored_alone(policy: ScalarPolicy, steps: DatasetSteps) -> Check:
    """Replies of the first step: as they stand in their batch, and each by itself as stock transformers reads an export.

    A layout that is not followed, a reply that ends elsewhere, a padding token that stock transformers would look past.
    """
    policy.eval()
    batches = [batch for batch in steps[0].batches if isinstance(batch, PackedBatch)]
    pairs = [pair for batch in batches for pair in _pairs(policy, batch)][:COMPARED]
    worst = max_or_nan(abs(ours - stock) / max(1.0, abs(stock)) for ours, stock in pairs)
    summary = f"{len(pairs)} replies, largest difference {worst:.1e}"
    if worst <= TOLERANCE[policy.compute]:
        return Check(GATE, "pass", summary)
    advice = "this is a defect of Tunesmith; please report it with the recipe"
    return Check(GATE, "fail", summary, "model", advice)


def _knows_nothing(setting: RunContext, objective: RewardRanking, steps: DatasetSteps) -> Sequence[Check]:
    """With a new head the accuracy before the first step is near one half, or something plain tells the sides apart."""
    keys = setting.recipe.model
    if keys.path is not None and is_classifier(keys.path, keys.revision):
        return ()
    accuracy = accumulate_metrics(setting.learner.policy, objective, steps[0])["accuracy"]
    groups = sum(objective.units(batch) for batch in steps[0].batches)
    return [near_one_half(accuracy, groups)]


def near_one_half(accuracy: float, groups: float) -> Check:
    """No failure: a random head may well follow the length of a reply, or a closing line that only one side has. A head of zeros
    ties everything, which counts as wrong."""
    summary = f"{accuracy:.0%} of {groups:.0f} rankings are in order before the first step"
    odd = accuracy > 0 and abs(accuracy - 0.5) > DEVIATIONS * 0.5 / groups**0.5
    advice = "something besides quality tells the sides apart, such as length or a closing line; look at some pairs"
    return Check(NOTHING_KNOWN, "warn" if odd else "pass", summary, "data.sources", advice)


def _pairs(policy: ScalarPolicy, batch: PackedBatch) -> Iterator[tuple[float, float]]:
    """(our score, that of the stock model) of the first replies of a batch."""
    ends = batch.replies.end[:COMPARED]
    ours = policy.scalars(batch.to(policy.device), ends.to(policy.device)).tolist()
    for score, ids in zip(ours, alone(batch, ends.tolist()), strict=True):
        with policy.autocast():
            stock = policy.model(input_ids=ids[None].to(policy.device)).logits
        yield score, float(stock[0, 0])


def alone(batch: PackedBatch, ends: Sequence[int]) -> Iterator[torch.Tensor]:
    """For every token at ``ends`` the ids of what it sees, itself included: int64."""
    for end in ends:
        yield batch.ids[: end + 1][batch.layout.until[: end + 1] > end]


REWARD = Method(
    build_model,
    build_learner,
    course,
    kind="reward",
    use="score replies with it: tunesmith score {run} FILE",
)

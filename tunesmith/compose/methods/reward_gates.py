"""The gates of reward models: checks of the scores with the weights before the first step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch

from tunesmith.batch.packed import PackedBatch
from tunesmith.compose.proof import DEFECT
from tunesmith.model.load import is_classifier
from tunesmith.model.scalar_policy import ScalarPolicy
from tunesmith.objectives.ranking import RewardRanking
from tunesmith.recipe.schema import ModelConfig
from tunesmith.report.check import Check
from tunesmith.train.loop import accumulate_metrics
from tunesmith.train.steps import DatasetSteps
from tunesmith.verify.differences import max_or_nan
from tunesmith.verify.self_test import TOLERANCE
from tunesmith.world import ALONE, Communicator

SINGLE_REPLIES = "scores of single replies"
NEW_HEAD = "accuracy of the new head"
COMPARED = 8  # replies that are scored a second time
DEVIATIONS = 3.0  # standard deviations from one half that chance explains


def reward_gates(
    policy: ScalarPolicy,
    objective: RewardRanking,
    steps: DatasetSteps[PackedBatch],
    keys: ModelConfig,
    world: Communicator,
) -> Sequence[Check]:
    """The checks before the first step. keys: of the model, which decide whether its head is new."""
    gates = [single_reply_gate(policy, steps, world)]
    if keys.path is None or not is_classifier(keys.path, keys.revision):
        accuracy = accumulate_metrics(policy, objective, steps[0], world)["accuracy"]
        groups = sum(world.gather(float(sum(objective.units(batch) for batch in steps[0].batches))))
        gates.append(new_head_gate(accuracy, groups))
    return gates


@torch.no_grad()
def single_reply_gate(policy: ScalarPolicy, steps: DatasetSteps[PackedBatch], world: Communicator = ALONE) -> Check:
    """Compare the scores of replies in their batch with those of stock transformers, which reads every reply alone.

    They differ if the attention does not follow the layout, if a score is not read at the end of its reply, or if stock
    transformers takes that end for padding.
    """
    policy.eval()
    batches = steps[0].batches_or_idle()
    passes = world.passes(len(batches))
    scores = [pair for batch in batches for pair in _both_scores(policy, batch, world)][:COMPARED]
    for _ in range(len(batches), passes):
        _both_scores(policy, batches[-1], world)
    difference = max_or_nan(abs(ours - stock) / max(1.0, abs(stock)) for ours, stock in scores)
    if difference <= TOLERANCE[policy.compute]:  # false for NaN
        summary = f"stock transformers gives the same scores of {len(scores)} replies (difference {difference:.1g})"
        return Check(SINGLE_REPLIES, "pass", summary, "model")
    summary = f"stock transformers gives other scores of {len(scores)} replies (largest difference {difference:.1e})"
    return Check(SINGLE_REPLIES, "fail", summary, "model", DEFECT)


def new_head_gate(accuracy: float, groups: float) -> Check:
    """Warns if the accuracy of a new head is far from one half: something simple distinguishes the sides.

    It does not fail, since a random head may follow the length of replies, or a closing line that only one side has.
    A head of zeros ties all replies, which counts as wrong.

    accuracy: share of the first step's rankings that are in order.
    groups: how many rankings there are.
    """
    summary = f"the new model has {accuracy:.0%} of {groups:.0f} comparisons in order before it is trained"
    odd = accuracy > 0 and abs(accuracy - 0.5) > DEVIATIONS * 0.5 / groups**0.5
    advice = (
        "something other than quality distinguishes the sides, such as length or a closing line; look at some pairs"
    )
    return Check(NEW_HEAD, "warn" if odd else "pass", summary, "data.sources", advice)


def _both_scores(policy: ScalarPolicy, batch: PackedBatch, world: Communicator) -> list[tuple[float, float]]:
    """(our score, score of the stock model) of the first replies of a batch, in as many passes as other processes."""
    ends = batch.replies.end[:COMPARED]
    ours = policy.scalars(batch.to(policy.device), ends.to(policy.device)).tolist()
    rows = [ids[None].to(policy.device) for ids in visible_ids(batch, ends.tolist())]
    again = rows[-1:] * (world.passes(len(rows)) - len(rows))
    stock = [policy.run(partial(_stock_score, policy, ids)) for ids in (*rows, *again)]
    return list(zip(ours, stock[: len(rows)], strict=True))


def _stock_score(policy: ScalarPolicy, ids: torch.Tensor) -> float:
    """The score that the stock model gives. ids: int64 [1, T]."""
    with policy.autocast():
        return float(policy.model(input_ids=ids).logits[0, 0])


def visible_ids(batch: PackedBatch, ends: Sequence[int]) -> Iterator[torch.Tensor]:
    """For every token at ``ends`` the ids of the tokens that it sees, itself included: int64."""
    for end in ends:
        yield batch.ids[: end + 1][batch.layout.until[: end + 1] > end]

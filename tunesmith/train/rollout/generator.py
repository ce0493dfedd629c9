"""Replies and what they are worth: sampling, then one pass of policy, value function, reference and rewards over the trees."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from tunesmith.batch.columns import ADVANTAGE, OLD_LOG_PROBABILITY, OLD_VALUE, REFERENCE, RETURN
from tunesmith.batch.example import Example
from tunesmith.batch.packed import collate_packed
from tunesmith.batch.protocols import Collator, LogProbabilities, MicroBatch
from tunesmith.data.dataset.plan import PlannedStep
from tunesmith.draws import sample_number
from tunesmith.errors import InternalError
from tunesmith.generate.decoding import Rows, StoppingCriteria
from tunesmith.generate.samples import sample_replies
from tunesmith.generate.sampling import Sampling
from tunesmith.objectives.advantages import adaptive_kl, reply_advantages, token_rewards, whiten
from tunesmith.train.rollout.rollouts import PromptReplies, Reply, Rollouts


class Actor(Protocol):
    """A policy with a value function, as rollouts see it."""

    @property
    def device(self) -> torch.device: ...

    def eval(self) -> None: ...

    def autocast(self) -> AbstractContextManager[None]: ...

    def actor_critic(self, batch: Any) -> tuple[LogProbabilities, Tensor]: ...


class Reference(Protocol):
    """What the KL is measured against; its log-probabilities are those at the temperature of the rollouts, too."""

    def log_probabilities(self, batch: Any) -> LogProbabilities: ...


@dataclass(frozen=True, slots=True)
class RewardSource:
    """name: for the record. score: float32 [R], what the replies of a batch are worth; the batch holds the trees of
    ``answered``, and its replies are theirs in order. scale, offset: applied to the score."""

    name: str
    score: Callable[[Any, Sequence[PromptReplies]], Tensor]
    scale: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True, slots=True)
class AdvantageSettings:
    """How rewards become advantages.

    unfinished: the reward of a reply that did not end by itself, whatever the sources say; None: theirs. kl_target: mean KL
    of a reply that the coefficient is adapted towards, over ``kl_horizon`` replies; None: it stays. whiten_rewards: the
    rewards of all tokens of an iteration to variance 1, with their mean.
    """

    unfinished: float | None = None
    discount: float = 1.0
    gae_lambda: float = 0.95
    whiten_rewards: bool = False
    kl_target: float | None = None
    kl_horizon: float = 10_000


@dataclass(frozen=True, slots=True)
class RolloutSampling:
    """How replies are drawn. rows: makes empty rows of the policy's model. samples: replies to every prompt. seed: with
    iteration, prompt, copy and sample it decides the random numbers of a reply. at_once: replies that grow together."""

    rows: Callable[[], Rows]
    sampling: Sampling
    ends: StoppingCriteria
    samples: int
    seed: int
    at_once: int


@dataclass(frozen=True, slots=True)
class RolloutGenerator:
    """Makes the rollouts of an iteration with the present weights of ``policy``.

    prompts: the token ids of a prompt, by its number. tokens: largest micro-batch.
    """

    policy: Actor
    reference: Reference
    rewards: Sequence[RewardSource]
    prompts: Callable[[int], tuple[int, ...]]
    drawing: RolloutSampling
    worth: AdvantageSettings
    tokens: int
    collate: Collator = collate_packed

    def __call__(self, iteration: int, planned: PlannedStep, coefficient: float) -> Rollouts:
        """Raises InternalError for logits or rewards that are not finite."""
        self.policy.eval()
        answered = self.write(iteration, planned)
        return self.judge(iteration, answered, coefficient)

    @torch.no_grad()
    def write(self, iteration: int, planned: PlannedStep) -> list[PromptReplies]:
        """Replies to the prompts of an iteration."""
        copies = planned.copies or (0,) * len(planned.examples)
        asked = list(zip(planned.examples, copies, strict=True))
        prompts = [self.prompts(number) for number in planned.examples]
        drawing = self.drawing
        draws = [[sample_number(iteration, *each, sample) for sample in range(drawing.samples)] for each in asked]
        with self.policy.autocast():
            found = sample_replies(
                drawing.rows, prompts, draws, drawing.sampling, drawing.ends, drawing.seed, drawing.at_once
            )
        return [
            PromptReplies(number, copy, prompt, tuple(Reply(reply.ids, reply.stopped) for reply in replies))
            for (number, copy), prompt, replies in zip(asked, prompts, found, strict=True)
        ]

    @torch.no_grad()
    def judge(self, iteration: int, answered: Sequence[PromptReplies], coefficient: float) -> Rollouts:
        """Log-probabilities, values, rewards and advantages of replies, by the present weights."""
        old, values, reference, owner = list[Tensor](), list[Tensor](), list[Tensor](), list[Tensor]()
        scores: dict[str, list[Tensor]] = {source.name: [] for source in self.rewards}
        replies = 0
        for batch, mine in self._batches(answered):
            found, value = self.policy.actor_critic(batch)
            old.append(found.log_probability.float().cpu())
            values.append(value.float().cpu())
            reference.append(self.reference.log_probabilities(batch).log_probability.float().cpu())
            owner.append(batch.owner.cpu() + replies)
            replies += sum(len(each.replies) for each in mine)
            for source in self.rewards:
                scores[source.name].append(source.score(batch, mine).float().cpu())
        columns = {OLD_LOG_PROBABILITY: torch.cat(old), OLD_VALUE: torch.cat(values), REFERENCE: torch.cat(reference)}
        each = {name: torch.cat(parts) for name, parts in scores.items()}
        return self._valued(iteration, answered, columns, torch.cat(owner), each, coefficient)

    def _batches(self, answered: Sequence[PromptReplies]) -> Iterator[tuple[MicroBatch, list[PromptReplies]]]:
        """Trees in order, with what each batch holds."""
        pieces = [piece for each in answered for piece in each.split(self.tokens)]
        examples = [Example(index, piece.tree()) for index, piece in enumerate(pieces)]
        for batch in self.collate(examples, "messages", self.tokens):
            yield batch.to(self.policy.device), [pieces[index] for index in batch.examples]

    def _valued(
        self,
        iteration: int,
        answered: Sequence[PromptReplies],
        columns: dict[str, Tensor],
        owner: Tensor,
        scores: dict[str, Tensor],
        coefficient: float,
    ) -> Rollouts:
        worth, replies = self.worth, [reply for each in answered for reply in each.replies]
        total = sum(
            (scores[source.name] * source.scale + source.offset for source in self.rewards), torch.zeros(len(replies))
        )
        self._refuse_not_finite(total, answered)
        stopped = torch.tensor([reply.stopped for reply in replies])
        if worth.unfinished is not None:
            total = torch.where(stopped, total, torch.tensor(worth.unfinished))
        rewards = token_rewards(columns[OLD_LOG_PROBABILITY], columns[REFERENCE], owner, total, coefficient)
        if worth.whiten_rewards:
            rewards = whiten(rewards, shift_mean=False)
        advantages, returns = reply_advantages(
            rewards, columns[OLD_VALUE], owner, discount=worth.discount, gae_lambda=worth.gae_lambda
        )
        log_ratio = (columns[OLD_LOG_PROBABILITY] - columns[REFERENCE]).double()
        kl, following = float(log_ratio.sum()) / len(replies), coefficient
        if worth.kl_target is not None:
            following = adaptive_kl(
                coefficient, kl, target=worth.kl_target, steps=len(replies), horizon=worth.kl_horizon
            )
        metrics = {
            "rewards/mean": float(total.double().mean()),
            "rewards/std": float(total.double().std(unbiased=False)),
            **{f"rewards/{name}": float(values.double().mean()) for name, values in scores.items()},
            "rewards/finished": float(stopped.double().mean()),
            "replies/length": len(owner) / len(replies),
            "reference_kl/token": float(log_ratio.mean()),
            "reference_kl/reply": kl,
            "kl_coefficient": coefficient,
        }
        kept = {name: values.numpy() for name, values in {**columns, ADVANTAGE: advantages, RETURN: returns}.items()}
        return Rollouts(iteration, tuple(answered), kept, total.numpy(), coefficient, following, metrics)

    def _refuse_not_finite(self, rewards: Tensor, answered: Sequence[PromptReplies]) -> None:
        if bool(torch.isfinite(rewards).all()):
            return
        owners = np.repeat([each.number for each in answered], [len(each.replies) for each in answered])
        first = int(torch.nonzero(~torch.isfinite(rewards))[0])
        raise InternalError(
            f"the reward of a reply to prompt {owners[first]} is {float(rewards[first])}",
            advice="look at the reward model and at the scale of the rewards; the last checkpoint is good",
        )

"""Makes rollouts: samples replies, then computes log-probabilities, values, rewards and advantages of them.

Each prompt with its replies is one token tree, and one pass over the trees gives all values. Shapes: R replies with N
tokens together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tunesmith.batch.columns import ADVANTAGE, OLD_LOG_PROBABILITY, OLD_VALUE, REFERENCE, RETURN
from tunesmith.batch.example import Example
from tunesmith.batch.packed import PackedBatch, collate_packed
from tunesmith.batch.protocols import Collator, LogProbabilities
from tunesmith.data.dataset.plan import PlannedStep
from tunesmith.draws import sample_number
from tunesmith.errors import InternalError
from tunesmith.generate.requests import StoppingCriteria
from tunesmith.generate.running_rows import RunningRows
from tunesmith.generate.samples import sample_replies
from tunesmith.generate.sampling import SamplingParameters
from tunesmith.objectives.advantages import adaptive_kl, reply_advantages, token_rewards, whiten
from tunesmith.train.rollout.rollouts import PromptReplies, Rollouts, SampledReply, reply_lengths
from tunesmith.world import ALONE, Communicator, deal

MEASURED = (OLD_LOG_PROBABILITY, OLD_VALUE, REFERENCE)
WORDS = {
    OLD_LOG_PROBABILITY: "log-probability",
    OLD_VALUE: "value",
    REFERENCE: "reference log-probability",
    ADVANTAGE: "advantage",
    RETURN: "return",
}
"""Names of columns in messages."""
REWARD = "reward "
"""Before the name of a term, among the names of what is measured."""


class Actor(Protocol):
    """What rollouts need of a policy with a value function."""

    @property
    def device(self) -> torch.device: ...

    def eval(self) -> None: ...

    def autocast(self) -> AbstractContextManager[None]: ...

    def generating(self) -> AbstractContextManager[object]: ...

    def actor_critic(self, batch: PackedBatch) -> tuple[LogProbabilities, Tensor]: ...


class Reference(Protocol):
    """The reference of the KL penalty; its log-probabilities are computed at the temperature of the rollouts too."""

    def log_probabilities(self, batch: PackedBatch) -> LogProbabilities: ...


@dataclass(frozen=True, slots=True)
class RewardSource:
    """One term of the reward.

    name: of the metric that reports its mean.
    score: (batch, answered) -> float32 [R], the scores of the replies of a batch. The batch holds the trees of
        ``answered``, and its replies are in their order.
    scale, offset: the term is ``score * scale + offset``.
    """

    name: str
    score: Callable[[PackedBatch, Sequence[PromptReplies]], Tensor]
    scale: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True, slots=True)
class AdvantageSettings:
    """How rewards become advantages.

    unfinished: reward of a reply that reached the limit of tokens, in place of the scores; None: the scores count.
    discount, gae_lambda: of generalised advantage estimation (Schulman et al. 2016).
    whiten_rewards: whether the token rewards of an iteration are scaled to variance 1; their mean stays.
    kl_target: KL of a reply (nats) towards which the coefficient is adapted; None: it is constant.
    kl_horizon: replies over which it is adapted (Ziegler et al. 2019).
    """

    unfinished: float | None = None
    discount: float = 1.0
    gae_lambda: float = 0.95
    whiten_rewards: bool = False
    kl_target: float | None = None
    kl_horizon: float = 10_000


@dataclass(frozen=True, slots=True)
class RolloutSampling:
    """How replies are sampled.

    rows: makes empty rows of the policy's model; its argument is the largest number of rows.
    decoding: temperature, top-k, top-p and the limit of new tokens.
    stopping: when a reply ends.
    samples: replies to every prompt.
    seed: decides the random numbers of a reply, together with iteration, prompt, copy and sample.
    batch_size: replies that are generated together.
    """

    rows: Callable[[int], RunningRows]
    decoding: SamplingParameters
    stopping: StoppingCriteria
    samples: int
    seed: int
    batch_size: int


@dataclass(frozen=True, slots=True)
class RolloutGenerator:
    """Makes the rollouts of an iteration with the present weights of ``policy``.

    policy: samples the replies.
    reference: of the KL penalty.
    rewards: the terms of the reward, which are added.
    prompts: number of a prompt -> its token ids.
    sampling: how replies are sampled.
    advantages: how rewards become advantages.
    tokens: largest micro-batch.
    collate: makes micro-batches of the kind that policy and reference read.
    world: the processes that share the work; each of them gets all rollouts.
    """

    policy: Actor
    reference: Reference
    rewards: Sequence[RewardSource]
    prompts: Callable[[int], tuple[int, ...]]
    sampling: RolloutSampling
    advantages: AdvantageSettings
    tokens: int
    collate: Collator[PackedBatch] = collate_packed
    world: Communicator = ALONE

    def __call__(self, iteration: int, planned: PlannedStep, coefficient: float) -> Rollouts:
        """Sample replies and score them. Raises InternalError for logits or rewards that are not finite.

        iteration: from 0.
        planned: its prompts.
        coefficient: of the KL penalty.
        """
        self.policy.eval()
        with self.policy.generating():
            answered = self.sample(iteration, planned)
        return self.score(iteration, answered, coefficient)

    def sample(self, iteration: int, planned: PlannedStep) -> list[PromptReplies]:
        """Sample replies to the prompts of an iteration."""
        copies = planned.copies or (0,) * len(planned.examples)
        shares = deal([len(self.prompts(number)) for number in planned.examples], self.world.size)
        own = shares[self.world.rank]
        examples, own_copies = tuple(planned.examples[place] for place in own), tuple(copies[place] for place in own)
        sampled = self._sample(iteration, replace(planned, examples=examples, copies=own_copies))
        found = dict[int, PromptReplies]()
        parts = self.world.gather([[[reply.ids, reply.stopped] for reply in each.replies] for each in sampled])
        for share, part in zip(shares, parts, strict=True):
            for place, replies in zip(share, part, strict=True):
                number = planned.examples[place]
                rebuilt = tuple(SampledReply(tuple(ids), stopped) for ids, stopped in replies)
                found[place] = PromptReplies(number, copies[place], self.prompts(number), rebuilt)
        return [found[place] for place in range(len(planned.examples))]

    @torch.no_grad()
    def _sample(self, iteration: int, planned: PlannedStep) -> list[PromptReplies]:
        """Sample replies to the prompts of this process."""
        if not planned.examples:
            return []
        copies = planned.copies or (0,) * len(planned.examples)
        numbered = list(zip(planned.examples, copies, strict=True))
        prompts = [self.prompts(number) for number in planned.examples]
        how = self.sampling
        draws = [
            [sample_number(iteration, number, copy, sample) for sample in range(how.samples)]
            for number, copy in numbered
        ]
        try:
            with self.policy.autocast():
                rows = how.rows(how.batch_size)
                sampled = sample_replies(rows, prompts, draws, how.decoding, how.stopping, how.seed, how.batch_size)
        except InternalError as error:
            what = f"{error.what} when the replies of iteration {iteration} are sampled"
            raise InternalError(what, advice=f"{error.advice}; the last checkpoint is valid") from error
        return [
            PromptReplies(number, copy, prompt, tuple(SampledReply(reply.ids, reply.stopped) for reply in replies))
            for (number, copy), prompt, replies in zip(numbered, prompts, sampled, strict=True)
        ]

    def score(self, iteration: int, answered: Sequence[PromptReplies], coefficient: float) -> Rollouts:
        """Compute log-probabilities, values, rewards and advantages of replies with the present weights."""
        shares = deal([len(each.prompt) + each.targets for each in answered], self.world.size)
        own = [answered[place] for place in shares[self.world.rank]]
        parts = self.world.gather_tensors(self._measure(own, answered[:1]))
        tokens, replies = [each.targets for each in answered], [len(each.replies) for each in answered]
        columns = {name: _in_order([part[name] for part in parts], shares, tokens) for name in MEASURED}
        terms = {
            source.name: _in_order([part[REWARD + source.name] for part in parts], shares, replies)
            for source in self.rewards
        }
        owner = torch.repeat_interleave(torch.from_numpy(reply_lengths(answered)))
        return self._add_advantages(iteration, answered, columns, owner, terms, coefficient)

    @torch.no_grad()
    def _measure(self, answered: Sequence[PromptReplies], idle: Sequence[PromptReplies]) -> dict[str, Tensor]:
        """The columns ``MEASURED``, float32 [N], and every term of the reward, float32 [R], of some replies.

        What a GPU computes is fetched at the end, so that no batch waits for the one before it.
        idle: replies that a process reads in passes for which it has no batch.
        """
        found: dict[str, list[Tensor]] = {name: [] for name in MEASURED + tuple(self._terms())}
        batches = list(self._batches(answered))
        passes = self.world.passes(len(batches))
        for batch, pieces in batches:
            for name, column in self._measure_batch(batch, pieces).items():
                found[name].append(column)
        for _ in range(len(batches), passes):
            self._measure_batch(*next(self._batches(idle)))
        # A process without prompts has no parts.
        return {name: torch.cat(parts).cpu() if parts else torch.zeros(0) for name, parts in found.items()}

    def _terms(self) -> list[str]:
        """The terms of the reward, by their names among the names of what is measured."""
        return [REWARD + source.name for source in self.rewards]

    def _measure_batch(self, laid_out: PackedBatch, pieces: Sequence[PromptReplies]) -> dict[str, Tensor]:
        """What ``_measure`` gives of one batch on the host, which holds the trees of ``pieces``."""
        batch = laid_out.to(self.policy.device)
        policy, value = self.policy.actor_critic(batch)
        reference = self.reference.log_probabilities(batch)
        columns = (policy.log_probability, value, reference.log_probability)
        scores = [source.score(batch, pieces) for source in self.rewards]
        return {name: each.float() for name, each in zip((*MEASURED, *self._terms()), (*columns, *scores), strict=True)}

    def _batches(self, answered: Sequence[PromptReplies]) -> Iterator[tuple[PackedBatch, list[PromptReplies]]]:
        """The trees in order as micro-batches on the host, each with the prompts and replies that it holds."""
        pieces = [piece for each in answered for piece in each.split(self.tokens)]
        examples = [Example(index, piece.tree()) for index, piece in enumerate(pieces)]
        for batch in self.collate(examples, "messages", self.tokens):
            yield batch, [pieces[index] for index in batch.examples]

    def _add_advantages(
        self,
        iteration: int,
        answered: Sequence[PromptReplies],
        columns: dict[str, Tensor],
        owner: Tensor,
        scores: dict[str, Tensor],
        coefficient: float,
    ) -> Rollouts:
        """columns: name -> float32 [N]. owner: int64 [N], the reply of each token. scores: term -> float32 [R]."""
        how, replies = self.advantages, [reply for each in answered for reply in each.replies]
        total = sum(
            (scores[source.name] * source.scale + source.offset for source in self.rewards), torch.zeros(len(replies))
        )
        prompts = np.repeat([each.number for each in answered], [len(each.replies) for each in answered])
        _check_finite("reward", total, prompts, iteration)
        for name in MEASURED:
            _check_finite(WORDS[name], columns[name], prompts[owner.numpy()], iteration)
        stopped = torch.tensor([reply.stopped for reply in replies])
        if how.unfinished is not None:
            total = torch.where(stopped, total, torch.tensor(how.unfinished))
        rewards = token_rewards(columns[OLD_LOG_PROBABILITY], columns[REFERENCE], owner, total, coefficient)
        if how.whiten_rewards:
            rewards = whiten(rewards, shift_mean=False)
        advantages, returns = reply_advantages(
            rewards, columns[OLD_VALUE], owner, discount=how.discount, gae_lambda=how.gae_lambda
        )
        for name, values in ((ADVANTAGE, advantages), (RETURN, returns)):
            _check_finite(WORDS[name], values, prompts[owner.numpy()], iteration)
        log_ratio = (columns[OLD_LOG_PROBABILITY] - columns[REFERENCE]).double()
        kl, next_coefficient = float(log_ratio.sum()) / len(replies), coefficient
        if how.kl_target is not None:
            next_coefficient = adaptive_kl(
                coefficient, kl, target=how.kl_target, steps=len(replies), horizon=how.kl_horizon
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
        arrays = {name: values.numpy() for name, values in {**columns, ADVANTAGE: advantages, RETURN: returns}.items()}
        return Rollouts(iteration, tuple(answered), arrays, total.numpy(), coefficient, next_coefficient, metrics)


def _check_finite(what: str, values: Tensor, prompts: npt.NDArray[np.int64], iteration: int) -> None:
    """Raises InternalError with the number of the prompt if a value is not finite; rollouts are not written then.

    values: float32 [n].
    prompts: the number of the prompt of each value.
    """
    if bool(torch.isfinite(values).all()):
        return
    first = int(torch.nonzero(~torch.isfinite(values))[0])
    where = "the reward model and the scale of the rewards" if what == "reward" else "the learning rate"
    raise InternalError(
        f"the {what} of a reply to prompt {prompts[first]} is {float(values[first])} in iteration {iteration}",
        advice=f"look at {where}; the last checkpoint is valid",
    )


def _in_order(parts: Sequence[Tensor], shares: Sequence[Sequence[int]], sizes: Sequence[int]) -> Tensor:
    """The values of all prompts in their order, float32.

    parts: the values that each process has measured.
    shares: the prompts of each process.
    sizes: how many values each prompt has.
    """
    found = dict[int, Tensor]()
    for part, share in zip(parts, shares, strict=True):
        found.update(zip(share, torch.split(part, [sizes[place] for place in share]), strict=True))
    return torch.cat([found[place] for place in range(len(sizes))])

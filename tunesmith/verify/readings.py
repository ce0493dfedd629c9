"""The numbers of which the self-test compares two computations: log-probabilities of targets, or hidden states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from tunesmith.batch.example import Example
from tunesmith.batch.packed import assemble_packed
from tunesmith.model.attention_choice import stock_attention
from tunesmith.model.body import body_of
from tunesmith.model.policy import Policy
from tunesmith.model.scalar_policy import ScalarPolicy
from tunesmith.text.tokens.token_tree import TokenTree
from tunesmith.verify.differences import largest_difference, max_or_nan
from tunesmith.verify.probes import Probe

USUAL_LOGIT = 10.0
"""Logits up to this size get the tolerance of their number format, smaller ones a smaller one in proportion."""

BackboneT = TypeVar("BackboneT", Policy, ScalarPolicy)
BackboneT_contra = TypeVar("BackboneT_contra", Policy, ScalarPolicy, contravariant=True)


@dataclass(frozen=True, slots=True)
class StockResult:
    """The numbers of the stock model.

    values: of every thread.
    largest: the largest absolute value of the logits that they come from.
    """

    values: list[Tensor]
    largest: float


class StockComparison(Protocol[BackboneT_contra]):
    """Numbers of every thread, computed in two ways."""

    @property
    def what(self) -> str:
        """What they are called in messages."""
        ...

    def stock(self, policy: BackboneT_contra, threads: Sequence[TokenTree]) -> StockResult:
        """Those of the stock model, each thread alone, without our attention and our head."""
        ...

    def packed(self, policy: BackboneT_contra, probe: Probe) -> list[Tensor]:
        """Those of a batch, thread by thread."""
        ...

    def difference(self, found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
        """How far they are apart; NaN if any number is."""
        ...

    def total(self, values: Sequence[Tensor]) -> Tensor:
        """A scalar whose gradient is compared; the sum over threads of what each of them gives."""
        ...


class ThreadLogProbabilities:
    """The numbers that are compared of a language model: the log-probabilities of the targets of every thread."""

    @property
    def what(self) -> str:
        """See ``StockComparison``."""
        return "log-probabilities"

    def stock(self, policy: Policy, threads: Sequence[TokenTree]) -> StockResult:
        """See ``StockComparison``."""
        found, largest = [], 0.0
        for thread in threads:
            batch = assemble_packed([Example(0, thread)], "threads").to(policy.device)
            with policy.autocast(), stock_attention(policy.model):
                logits = policy.model(input_ids=batch.ids[None], use_cache=False).logits[0]
            read = logits[batch.source].float()
            largest = max(largest, float(read.detach().abs().max()))
            found.append(torch.log_softmax(read, dim=-1).gather(1, batch.target[:, None])[:, 0])
        return StockResult(found, largest)

    def packed(self, policy: Policy, probe: Probe) -> list[Tensor]:
        """See ``StockComparison``."""
        found = policy.log_probabilities(probe.batch.to(policy.device)).log_probability
        return [found[place.to(found.device)] for place in probe.targets]

    def difference(self, found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
        """The largest difference, in nats."""
        return max_or_nan(largest_difference(one, other) for one, other in zip(found, expected, strict=True))

    def total(self, values: Sequence[Tensor]) -> Tensor:
        """See ``StockComparison``."""
        return torch.stack([each.sum() for each in values]).sum()


class ThreadStates:
    """The numbers that are compared of a reward model: the last hidden state of every thread.

    They are read before the head, since a new head may be all zeros.
    """

    @property
    def what(self) -> str:
        """See ``StockComparison``."""
        return "states"

    def stock(self, policy: ScalarPolicy, threads: Sequence[TokenTree]) -> StockResult:
        """See ``StockComparison``."""
        body = body_of(policy.model)
        rows = [torch.from_numpy(thread.ids).long().to(policy.device)[None] for thread in threads]
        with policy.autocast(), stock_attention(policy.model):
            states = [body(input_ids=ids, use_cache=False).last_hidden_state[0, -1] for ids in rows]
        return StockResult(states, USUAL_LOGIT)  # the difference of states is relative already

    def packed(self, policy: ScalarPolicy, probe: Probe) -> list[Tensor]:
        """See ``StockComparison``."""
        hidden = policy.hidden(probe.batch.to(policy.device))
        return [hidden[int(place[-1])] for place in probe.tokens]

    def difference(self, found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
        """The largest difference, relative to the largest number."""
        all_expected = torch.stack(list(expected)).float()
        return float((torch.stack(list(found)).float() - all_expected).abs().max() / all_expected.abs().max())

    def total(self, values: Sequence[Tensor]) -> Tensor:
        """A scalar whose gradient is compared: a weighted sum, because a norm before the head fixes plain sums."""
        together = torch.stack(list(values)).float()
        weights = torch.arange(1, together.shape[-1] + 1, device=together.device) * 0.7
        return (together * weights.sin()).sum()

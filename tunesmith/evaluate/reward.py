"""How well a reward model orders the replies of validation data, for each source and for all together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from tunesmith.batch.packed import collate_packed
from tunesmith.batch.protocols import Objective
from tunesmith.data.dataset.store import Store
from tunesmith.evaluate.objective import source_examples
from tunesmith.evaluate.ranking import ranking_metrics


class Evaluated(Protocol):
    """A reward model as evaluation sees it."""

    @property
    def device(self) -> torch.device: ...

    def eval(self) -> None: ...

    def scalars(self, batch: Any, where: Tensor) -> Tensor: ...


class _Given:
    """Scores that are known already, for the objective to read."""

    def __init__(self, scores: Tensor) -> None:
        self.scores = scores

    def scalars(self, batch: Any, where: Tensor) -> Tensor:
        return self.scores


@torch.no_grad()
def validation_ranking(
    policy: Evaluated, objective: Objective, store: Store, sources: Sequence[str], tokens: int
) -> dict[str, dict[str, float]]:
    """The measures of every source by name, and of all under "all": ``loss`` as the objective has it in training, and
    those of ``ranking_metrics``.

    tokens: largest micro-batch. A source without anything to compare is left out.
    """
    policy.eval()
    collected = {name: _source(policy, objective, store, index, tokens) for index, name in enumerate(sources)}
    found = {name: own.metrics() for name, own in collected.items() if own.units}
    everything = _Collected.joined(list(collected.values()))
    return {**found, "all": everything.metrics()}


class _Collected:
    """What was scored so far. groups are numbered through."""

    def __init__(self) -> None:
        self.loss, self.units, self.groups = 0.0, 0.0, 0
        self.scores: list[Tensor] = []
        self.group: list[Tensor] = []
        self.rank: list[Tensor] = []

    @classmethod
    def joined(cls, parts: Sequence[_Collected]) -> _Collected:
        whole = cls()
        for part in parts:
            whole.loss, whole.units = whole.loss + part.loss, whole.units + part.units
            whole.scores += part.scores
            whole.group += [group + whole.groups for group in part.group]
            whole.rank += part.rank
            whole.groups += part.groups
        return whole

    def metrics(self) -> dict[str, float]:
        scores, group, rank = (torch.cat(parts).numpy() for parts in (self.scores, self.group, self.rank))
        return {"loss": self.loss / self.units, **ranking_metrics(scores.astype(np.float64), group, rank)}


def _source(policy: Evaluated, objective: Objective, store: Store, index: int, tokens: int) -> _Collected:
    found = _Collected()
    for batch in collate_packed(source_examples(store, index), "messages", tokens):
        batch = batch.to(policy.device)
        replies = batch.replies
        scores = policy.scalars(batch, replies.end)
        found.loss += float(objective(_Given(scores), batch, 1.0).sums["loss"])
        found.units += objective.units(batch)
        found.scores.append(scores.float().cpu())
        found.group.append(replies.group.cpu() + found.groups)
        found.rank.append(replies.rank.cpu())
        found.groups += int(replies.group.max()) + 1
    return found

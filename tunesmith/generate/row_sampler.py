"""The next token of every row of a batch whose rows differ in their sampling parameters and in their progress."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tunesmith.draws import token_uniform
from tunesmith.errors import InternalError
from tunesmith.generate.filters import FILTER_VALUE, draw, filter_tokens, find_maximum, sample_tokens
from tunesmith.generate.penalties import NO_ADJUSTMENTS, AdjustedRows, LogitAdjustments, SeenTokens
from tunesmith.generate.sampling import SamplingParameters
from tunesmith.generate.sampling_groups import SamplingGroup, group_rows

UNRESOLVED, NOT_FINITE = -1, -2
"""In the place of an id: the filters have to look at more tokens; the sum of the logits is not finite."""


@dataclass(frozen=True, slots=True)
class TokenLogProbability:
    """What the model itself, before every logits processor, gave a token that was chosen.

    chosen: the log-probability of the token.
    alternatives: (id, log-probability) of the most likely tokens, in descending order.
    """

    chosen: float
    alternatives: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """The tokens of one step.

    ids: the id of every row.
    tensor: the same ids as int64 [rows], on the device of the logits.
    log_probabilities: for every row that asked for them, what the model gave its token; None for other rows.
    failed: the rows whose logits are not finite; their ids have no meaning.
    """

    ids: list[int]
    tensor: Tensor
    log_probabilities: list[TokenLogProbability | None]
    failed: tuple[int, ...] = ()


class RowSampler:
    """Chooses the next token of every row. A row depends on nothing but its own arguments and logits.

    Rows that need the same processors are computed together. The ids of all rows are copied from the device at once;
    rows whose filters keep many tokens, and log-probabilities, need further copies.

    vocabulary: the number of ids that may be chosen; logits of higher ids are ignored.
    stop_ids: the ids that end a reply and are excluded before ``min_new_tokens``.
    device: the device of the logits.
    """

    def __init__(self, vocabulary: int, stop_ids: Sequence[int], device: torch.device | str = "cpu") -> None:
        self._vocabulary, self._device = vocabulary, torch.device(device)
        self._stop_ids = torch.tensor(list(stop_ids), dtype=torch.long, device=device)
        self._rows: list[_Row] = []
        self._groups: list[SamplingGroup] | None = None  # of the present rows; made when they choose
        self._seen, self._adjusted = SeenTokens(self._device), AdjustedRows()

    def __len__(self) -> int:
        """The number of rows."""
        return len(self._rows)

    def add(
        self,
        histories: Sequence[Sequence[int]],
        samplings: Sequence[SamplingParameters],
        seeds: Sequence[int],
        samples: Sequence[int],
        alternatives: Sequence[int | None] | None = None,
        adjustments: Sequence[LogitAdjustments] | None = None,
    ) -> None:
        """Append rows that have not generated anything.

        histories: the ids that count for the repetition penalty (``DecodingState.history``).
        seeds, samples: token t of a row is drawn with ``token_uniform(seed, sample, t)``.
        alternatives: for every row the number of most likely tokens whose log-probabilities are wanted along with
            that of the chosen token; None for a row without log-probabilities.
        adjustments: what is added to the logits of every row before its processors.
        """
        wanted = [None] * len(samplings) if alternatives is None else alternatives
        self._rows += [_Row(*row) for row in zip(samplings, seeds, samples, wanted, strict=True)]
        penalised = [sampling.repetition_penalty != 1 for sampling in samplings]
        self._seen.add([ids if needed else () for ids, needed in zip(histories, penalised, strict=True)])
        self._adjusted.add([NO_ADJUSTMENTS] * len(samplings) if adjustments is None else adjustments)
        self._groups = None

    def select(self, rows: Sequence[int]) -> None:
        """Keep only these rows, in this order; a row that is named several times is repeated."""
        self._rows = [replace(self._rows[row]) for row in rows]
        self._seen.select(torch.tensor(rows, dtype=torch.long, device=self._device))
        self._adjusted.select(rows)
        self._groups = None

    @torch.no_grad()
    def choose(self, logits: Tensor) -> Choice:
        """The next token of every row, which is recorded as generated.

        logits: float32 [rows, vocabulary or more].
        """
        assert len(logits) == len(self._rows), f"{len(logits)} rows of logits for {len(self._rows)} rows"
        logits = logits[:, : self._vocabulary]
        uniforms = torch.tensor([row.uniform() for row in self._rows], dtype=torch.float64, device=self._device)
        chosen, adjusted = self._choose_once(logits, uniforms)
        ids: list[int] = chosen.where(logits.sum(dim=-1).isfinite(), NOT_FINITE).tolist()
        finite = torch.isfinite(logits).all(dim=-1) if NOT_FINITE in ids else None  # a sum may overflow
        failed = () if finite is None else tuple(row for row, good in enumerate(finite.tolist()) if not good)
        if finite is not None and failed:  # the other rows are chosen as without them
            logits = logits.where(finite[:, None], 0.0)
            chosen, adjusted = self._choose_once(logits, uniforms)
        if min(ids, default=0) < 0:
            self._resolve(chosen, adjusted, uniforms)
            ids = chosen.tolist()
        log_probabilities = _log_probabilities(logits, chosen, [row.alternatives for row in self._rows])
        for row in self._rows:
            row.generated += 1
        if any(group.penalty is not None for group in self._group()):
            self._seen.append(chosen)
        self._adjusted.append(ids)
        return Choice(ids, chosen, log_probabilities, failed)

    def _choose_once(self, logits: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
        """(ids of all rows, int64 [rows], UNRESOLVED as in ``_choose_in_group``; the adjusted logits)."""
        chosen = torch.empty(len(self._rows), dtype=torch.long, device=self._device)
        adjusted = self._adjusted.adjust(logits)
        for group in self._group():
            chosen[group.rows] = self._choose_in_group(adjusted, group, uniforms)
        return chosen, adjusted

    def _group(self) -> list[SamplingGroup]:
        if self._groups is None:
            self._groups = group_rows([row.sampling for row in self._rows], self._device)
        return self._groups

    def _choose_in_group(self, logits: Tensor, group: SamplingGroup, uniforms: Tensor) -> Tensor:
        """The ids of the rows of a group, int64 [n]; UNRESOLVED where the filters have to look at more tokens."""
        scores = self._process(logits, group)
        if not group.do_sample:
            return find_maximum(scores)
        if group.draws_unfiltered:
            return sample_tokens(scores.softmax(dim=-1), uniforms[group.rows])
        candidates = filter_tokens(scores, group.filters, group.width)
        return draw(candidates, uniforms[group.rows]).where(candidates.resolved, UNRESOLVED)

    def _resolve(self, chosen: Tensor, logits: Tensor, uniforms: Tensor) -> None:
        """Replace UNRESOLVED in ``chosen`` by ids, looking at more and more tokens."""
        groups = self._group()
        while groups:
            unresolved = (chosen == UNRESOLVED).tolist()
            members = [[place for place, row in enumerate(group.places) if unresolved[row]] for group in groups]
            groups = [part for group, rows in zip(groups, members, strict=True) for part in group.widen(rows)]
            for group in groups:
                chosen[group.rows] = self._choose_in_group(logits, group, uniforms)

    def _process(self, logits: Tensor, group: SamplingGroup) -> Tensor:
        """The logits of a group after penalty, minimal length and temperature, float32 [n, vocabulary]."""
        progress = [self._rows[row].generated for row in group.places]
        below = [generated < minimum for generated, minimum in zip(progress, group.minimum, strict=True)]
        if group.penalty is None and not any(below):
            own = logits if len(group.places) == len(logits) else logits[group.rows]
            return own if group.temperature is None else own / group.temperature
        scores = logits[group.rows]
        if group.penalty is not None:
            self._seen.penalise(scores, group.rows, group.penalty)
        if any(below):
            excluded = torch.tensor(below, device=self._device).unsqueeze(1)
            scores[:, self._stop_ids] = scores[:, self._stop_ids].masked_fill(excluded, FILTER_VALUE)
        return scores if group.temperature is None else scores.div_(group.temperature)


@dataclass(slots=True)
class _Row:
    """generated: the number of tokens that were generated; other fields as of ``RowSampler.add``."""

    sampling: SamplingParameters
    seed: int
    sample: int
    alternatives: int | None
    generated: int = 0

    def uniform(self) -> float:
        """The number that draws the next token; 0 for greedy decoding."""
        return token_uniform(self.seed, self.sample, self.generated) if self.sampling.do_sample else 0.0


def check_finite(logits: Tensor) -> None:
    """Raises InternalError if a logit is NaN or infinite."""
    if not torch.isfinite(logits).all():
        raise not_finite()


def not_finite() -> InternalError:
    """The error of a model whose logits are NaN or infinite."""
    what = "the logits of the model are not finite"
    return InternalError(what, advice="its weights are damaged or training diverged")


def _log_probabilities(
    logits: Tensor, chosen: Tensor, alternatives: Sequence[int | None]
) -> list[TokenLogProbability | None]:
    """For every row that has a number of alternatives, the log-probabilities of its token and of so many others."""
    found: list[TokenLogProbability | None] = [None] * len(alternatives)
    rows = [row for row, count in enumerate(alternatives) if count is not None]
    if not rows:
        return found
    counts = [min(alternatives[row] or 0, logits.shape[1]) for row in rows]
    index = torch.tensor(rows, device=logits.device)
    values = logits[index].float().log_softmax(dim=-1)
    own = values.gather(1, chosen[index].unsqueeze(1)).squeeze(1).tolist()
    top = torch.topk(values, max(counts))
    ids, likely = top.indices.tolist(), top.values.tolist()
    for place, (row, count) in enumerate(zip(rows, counts, strict=True)):
        pairs = zip(ids[place][:count], likely[place][:count], strict=True)
        found[row] = TokenLogProbability(own[place], tuple(pairs))
    return found

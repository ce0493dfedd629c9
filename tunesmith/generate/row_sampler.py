"""The next token of every row of a batch whose rows differ in their sampling parameters and in their progress."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tunesmith.draws import token_uniform
from tunesmith.errors import InternalError
from tunesmith.generate.sampling import SamplingParameters, next_tokens, seen_tokens


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
    """

    ids: list[int]
    tensor: Tensor
    log_probabilities: list[TokenLogProbability | None]


class RowSampler:
    """Chooses the next token of every row. A row depends on nothing but its own arguments and logits.

    vocabulary: the number of ids that may be chosen; logits of higher ids are ignored.
    stop_ids: the ids that end a reply and are excluded before ``min_new_tokens``.
    device: the device of the logits.
    """

    def __init__(self, vocabulary: int, stop_ids: Sequence[int], device: torch.device | str = "cpu") -> None:
        self._vocabulary, self._stop_ids, self._device = vocabulary, tuple(stop_ids), device
        self._rows: list[_Row] = []

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
    ) -> None:
        """Append rows that have not generated anything.

        histories: the ids that count for the repetition penalty (``DecodingState.history``).
        seeds, samples: token t of a row is drawn with ``token_uniform(seed, sample, t)``.
        alternatives: for every row the number of most likely tokens whose log-probabilities are wanted along with
            that of the chosen token; None for a row without log-probabilities.
        """
        wanted = [None] * len(histories) if alternatives is None else alternatives
        for row in zip(histories, samplings, seeds, samples, wanted, strict=True):
            self._rows.append(_Row(list(row[0]), *row[1:], generated=0))

    def select(self, rows: Sequence[int]) -> None:
        """Keep only these rows, in this order; a row that is named several times is repeated."""
        self._rows = [self._rows[row].copy() for row in rows]

    @torch.no_grad()
    def choose(self, logits: Tensor) -> Choice:
        """The next token of every row, which is recorded as generated.

        logits: float32 [rows, vocabulary or more].
        Raises InternalError if the logits are not finite.
        """
        logits = logits[:, : self._vocabulary]
        if not torch.isfinite(logits).all():
            raise InternalError(
                "the logits of the model are not finite", advice="its weights are damaged or training diverged"
            )
        chosen = torch.cat([self._next(logits[i : i + 1], row) for i, row in enumerate(self._rows)])
        ids: list[int] = chosen.tolist()
        found = [_log_probability(logits[i], ids[i], row.alternatives) for i, row in enumerate(self._rows)]
        for row, token in zip(self._rows, ids, strict=True):
            row.seen.append(token)
            row.generated += 1
        return Choice(ids, chosen, found)

    def _next(self, logits: Tensor, row: _Row) -> Tensor:
        seen = seen_tokens([row.seen], self._vocabulary).to(logits.device)
        number = token_uniform(row.seed, row.sample, row.generated)
        return next_tokens(logits, seen, row.generated, row.sampling, self._stop_ids, [number])


@dataclass(slots=True)
class _Row:
    """seen: the ids that were read or generated. generated: the number of tokens that were generated."""

    seen: list[int]
    sampling: SamplingParameters
    seed: int
    sample: int
    alternatives: int | None
    generated: int

    def copy(self) -> _Row:
        """The same row with a separate list of ids."""
        return _Row(list(self.seen), self.sampling, self.seed, self.sample, self.alternatives, self.generated)


def _log_probability(logits: Tensor, token: int, alternatives: int | None) -> TokenLogProbability | None:
    if alternatives is None:
        return None
    values = logits.float().log_softmax(dim=-1)
    top = values.topk(min(alternatives, len(values)))
    pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
    return TokenLogProbability(float(values[token]), tuple(pairs))

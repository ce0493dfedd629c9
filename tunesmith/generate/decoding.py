"""From prompt ids to reply ids: rows of one batch that grow together, a key-value cache, finished rows leave."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from tunesmith.draws import token_uniform
from tunesmith.errors import InternalError
from tunesmith.generate.sampling import Sampling, choose, seen_tokens


class Rows(Protocol):
    """What a model has read and written so far, row by row. A row is a prompt with the reply that grows after it."""

    def history(self, prompt: Sequence[int]) -> Sequence[int]:
        """The ids that stand before the first one of the reply: what a repetition is counted against, and the context."""
        ...

    def start(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Read one prompt per row, from nothing; returns the logits of the next token [rows, vocabulary]."""
        ...

    def resume(self, prompt: Sequence[int]) -> Tensor:
        """Read one prompt, computing only what differs from what the single row holds; returns logits [1, vocabulary]."""
        ...

    def append(self, ids: Tensor) -> Tensor:
        """Read further ids int64 [rows, columns]; returns the logits after the last column [rows, vocabulary]."""
        ...

    def keep(self, rows: Sequence[int]) -> None:
        """Forget all other rows; one that is named several times becomes several, each with the past of the one."""
        ...


class CausalRows:
    """What a causal model has read so far, row by row, with the keys and values it computed.

    Rows are padded on the left, so that all of them end in the same column. The model must be in evaluation mode.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        assert not model.training, "dropout would change the replies; call model.eval() first"
        self._model = model
        self._cache = DynamicCache(config=model.config)
        self._ids = torch.empty(0, 0, dtype=torch.long, device=model.device)  # [rows, columns]
        self._real = torch.empty(0, 0, dtype=torch.bool, device=model.device)  # False on padding

    def history(self, prompt: Sequence[int]) -> Sequence[int]:
        """The prompt: the reply goes on where it ends."""
        return prompt

    def start(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Read one prompt per row, from an empty cache; returns the logits of the next token [rows, vocabulary]."""
        width = max(map(len, prompts))
        ids = [[0] * (width - len(prompt)) + list(prompt) for prompt in prompts]
        real = [[False] * (width - len(prompt)) + [True] * len(prompt) for prompt in prompts]
        device = self._model.device
        return self._read(torch.tensor(ids, device=device), torch.tensor(real, device=device))

    def resume(self, prompt: Sequence[int]) -> Tensor:
        """Read one prompt, computing only what differs from what the single row holds; returns logits [1, vocabulary]."""
        kept = self._rewind(prompt)
        if kept == 0:
            return self.start([prompt])
        return self.append(torch.tensor([prompt[kept:]], device=self._model.device))

    def append(self, ids: Tensor) -> Tensor:
        """Read further ids int64 [rows, columns]; returns the logits after the last column [rows, vocabulary]."""
        return self._read(ids, torch.ones_like(ids, dtype=torch.bool))

    def keep(self, rows: Sequence[int]) -> None:
        """See ``Rows.keep``."""
        index = torch.tensor(rows, device=self._model.device)
        self._cache.batch_select_indices(index)
        self._ids, self._real = self._ids[index], self._real[index]

    @torch.no_grad()
    def _read(self, ids: Tensor, real: Tensor) -> Tensor:
        if self._ids.numel() > 0:
            ids_so_far, real_so_far = torch.cat([self._ids, ids], 1), torch.cat([self._real, real], 1)
        else:
            ids_so_far, real_so_far = ids, real
        positions = (real_so_far.long().cumsum(dim=1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        output = self._model(
            input_ids=ids,
            attention_mask=real_so_far.long(),
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self._ids, self._real = ids_so_far, real_so_far  # only now: an interrupted forward pass has not been read
        logits: Tensor = output.logits[:, -1].float()
        return logits

    def _rewind(self, prompt: Sequence[int]) -> int:
        """Cut the single row back to the ids that it shares with ``prompt``; how many those are.

        At least one id of the prompt is left to be read, since its logits are wanted. Layers with a sliding window
        have forgotten their past and cannot be cut; then everything is read again.
        """
        held = self._ids[0].tolist() if self._ids.shape[0] == 1 else []
        most = min(len(held), len(prompt) - 1)
        shared = next((i for i in range(most) if held[i] != prompt[i]), most)
        layers = [layer for layer in self._cache.layers if type(layer) is DynamicLayer]
        if shared == 0 or len(layers) < len(self._cache.layers):
            self._cache = DynamicCache(config=self._model.config)
            self._ids, self._real = self._ids[:0, :0], self._real[:0, :0]
            return 0
        self._ids, self._real = self._ids[:, :shared], self._real[:, :shared]
        for layer in layers:  # an interrupted forward pass leaves layers of different lengths
            layer.crop(shared - layer.get_seq_length())
        return shared


@dataclass(frozen=True, slots=True)
class StoppingCriteria:
    """When a reply ends. stops: ids that end it. vocabulary: ids from here on are padding rows of the model's matrix and
    are never chosen. context: the number of tokens that history and reply may have together."""

    stops: tuple[int, ...]
    vocabulary: int
    context: int


def decode(
    rows: Rows,
    logits: Tensor,
    histories: Sequence[Sequence[int]],
    sampling: Sampling,
    ends: StoppingCriteria,
    seed: int,
    samples: Sequence[int],
) -> Iterator[list[tuple[int, int]]]:
    """Generate for all prompts at once; each step yields (prompt, id) for every reply that is still open.

    rows, logits: the state after reading the prompts (``Rows.start``). histories: ``Rows.history`` of each. samples: the index of each reply's random numbers.
    Replies end with a stop id (which is yielded), at ``max_new_tokens`` or at the end of the context; their rows leave
    the batch. Raises InternalError if the model's logits are not finite.
    """
    room = [min(sampling.max_new_tokens, ends.context - len(history)) for history in histories]
    unfinished = list(range(len(histories)))
    seen = seen_tokens(histories, ends.vocabulary).to(logits.device)
    for token in range(max(room)):
        logits = logits[:, : ends.vocabulary]
        if not torch.isfinite(logits).all():
            raise InternalError(
                "the model's logits are not finite", advice="its weights are damaged or training diverged"
            )
        uniforms = [token_uniform(seed, samples[prompt], token) for prompt in unfinished]
        chosen = choose(logits, seen, token, sampling, ends.stops, uniforms)
        ids = chosen.tolist()
        yield list(zip(unfinished, ids, strict=True))
        going = [
            row for row, prompt in enumerate(unfinished) if ids[row] not in ends.stops and token + 1 < room[prompt]
        ]
        if not going:
            return
        if len(going) < len(unfinished):
            rows.keep(going)
            unfinished, seen, chosen = [unfinished[row] for row in going], seen[going], chosen[going]
        seen.scatter_(1, chosen.unsqueeze(1), True)
        logits = rows.append(chosen.unsqueeze(1))

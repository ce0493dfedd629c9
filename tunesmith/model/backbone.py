"""The trunk: a stock causal model without its head, and how it reads a batch."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tunesmith.batch.packed import Batch, Layout
from tunesmith.model.attention import prepare
from tunesmith.model.dropout import ResidualDropout

LayoutKind = Literal["tree", "threads"]


class Backbone:
    """The body of a model with any head, and its optional residual dropout.

    model: loaded with the attention of ``model.attention``. compute: number format of the forward pass; the parameters keep
    theirs. layout: "tree" reads a batch as one row; "threads" reads every root-to-leaf thread by itself, for models whose
    attention cannot follow the layout, so that what threads share is computed for each of them.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        compute: torch.dtype = torch.float32,
        layout: LayoutKind = "tree",
        dropout: ResidualDropout | None = None,
    ) -> None:
        self.model, self.layout, self.compute, self.dropout = model, layout, compute, dropout
        self._body: nn.Module = model.base_model

    def with_layout(self, layout: LayoutKind) -> Backbone:
        """The same model read in another way."""
        return Backbone(self.model, compute=self.compute, layout=layout, dropout=self.dropout)

    @property
    def device(self) -> torch.device:
        return self.model.device

    def parameters(self) -> dict[str, nn.Parameter]:
        """Trainable parameters of the whole model by name; tied ones once."""
        return {name: value for name, value in self.model.named_parameters() if value.requires_grad}

    def train(self) -> None:
        self.model.train()

    def eval(self) -> None:
        """Evaluation mode: no noise of any kind."""
        self.model.eval()  # type: ignore[no-untyped-call]
        if self.dropout is not None:
            self.dropout.end()

    def autocast(self) -> AbstractContextManager[None]:
        """The number format of the forward pass."""
        if self.compute == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.compute)

    def hidden(self, batch: Batch) -> Tensor:
        """Last hidden states [T, D]."""
        with self.autocast():
            if self.layout == "tree":
                return self._row(batch.ids, batch.positions, batch.layout, batch.layout.trees, batch.seeds)
            threads, seeds, places = _threads(batch)
            rows = [
                self._row(batch.ids[thread], batch.positions[thread], None, (len(thread),), (seed,))
                for thread, seed in zip(threads, seeds, strict=True)
            ]
            return torch.cat(rows).index_select(0, places)

    def _row(
        self, ids: Tensor, positions: Tensor, layout: Layout | None, sizes: tuple[int, ...], seeds: tuple[int, ...]
    ) -> Tensor:
        if self.dropout is not None:
            self.dropout.begin(sizes, seeds) if self.model.training else self.dropout.end()
        extra: dict[str, Any] = {}
        if layout is not None:
            # A mask of four dimensions is taken as prepared: transformers then builds none of its own.
            extra["layout"] = prepare(layout, ids.device, self.compute)
            extra["attention_mask"] = ids.new_empty((1, 1, 1, 0), dtype=torch.bool)
        output = self._body(input_ids=ids[None], position_ids=positions[None], use_cache=False, **extra)
        states: Tensor = output.last_hidden_state[0]
        return states


def _threads(batch: Batch) -> tuple[list[Tensor], list[int], Tensor]:
    """The token indices of every root-to-leaf thread, the seed of its example, and for every token of the batch (int64 [T])
    its place in the threads joined: in the first one that runs through it."""
    layout, device = batch.layout, batch.ids.device
    starts = [0, *torch.tensor(layout.sizes).cumsum(0).tolist()]
    ends_of_trees = torch.tensor(layout.trees).cumsum(0)
    inner = {segment for path in layout.ancestors for segment in path}
    places = torch.full((layout.tokens,), -1, device=device)
    threads: list[Tensor] = []
    seeds: list[int] = []
    total = 0
    for leaf, path in enumerate(layout.ancestors):
        if leaf in inner:
            continue
        thread = torch.cat([torch.arange(starts[s], starts[s + 1], device=device) for s in (*path, leaf)])
        first = places[thread] < 0
        places[thread[first]] = torch.arange(total, total + len(thread), device=device)[first]
        total += len(thread)
        threads.append(thread)
        seeds.append(batch.seeds[int(torch.searchsorted(ends_of_trees, starts[leaf], right=True))])
    return threads, seeds, places

"""The backbone: a stock causal model without its head, and how it reads a packed batch."""

from __future__ import annotations

import copy
import inspect
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tunesmith.batch.packed import Layout, PackedBatch
from tunesmith.model.attention import AttentionLayout, Prepare, prepare
from tunesmith.model.body import body_of
from tunesmith.model.dropout import ResidualDropout
from tunesmith.model.shard import ShardedModel
from tunesmith.model.wrapper import ModelWrapper, forward_pass

LayoutKind = Literal["tree", "threads"]


class Backbone(ModelWrapper):
    """The body of a causal model with any head.

    model: a model that was loaded with the attention of ``model.attention``.
    compute: number format of the forward pass.
    layout: "tree" reads a batch as one packed row. "threads" reads every root-to-leaf thread separately, for models
        whose attention cannot follow the layout of the row; tokens that threads share are then computed once for each
        thread.
    dropout: residual dropout, which is active in training mode only.
    sharded: the root of a model that is sharded already.
    """

    dropout: ResidualDropout | None

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        compute: torch.dtype = torch.float32,
        layout: LayoutKind = "tree",
        dropout: ResidualDropout | None = None,
        sharded: ShardedModel | None = None,
    ) -> None:
        super().__init__(model, compute=compute, dropout=dropout, sharded=sharded)
        self.layout: LayoutKind = layout
        self._prepare: Prepare = prepare
        self._body: nn.Module = body_of(model)
        self._takes_positions = _takes(self._body, "position_ids")

    def with_layout(self, layout: LayoutKind) -> Self:
        """The same wrapper of the same model, reading batches in another layout."""
        other = copy.copy(self)
        other.layout = layout
        return other

    def with_kernels(self, prepare: Prepare) -> Self:
        """The same wrapper of the same model, with other attention kernels."""
        other = copy.copy(self)
        other._prepare = prepare
        return other

    def kernel(self, layout: Layout) -> AttentionLayout:
        """The attention kernel for a layout, on the device of the layout."""
        return self._prepare(layout, self.compute)

    @forward_pass
    def hidden(self, batch: PackedBatch) -> Tensor:
        """Last hidden states of all tokens, [T, D] in the format ``compute``."""
        with self.autocast():
            if self.layout == "tree":
                return self._run(batch.ids, batch.positions, batch.layout, batch.layout.trees, batch.seeds)
            threads, seeds, places = _split_into_threads(batch)
            rows = [
                self._run(batch.ids[thread], batch.positions[thread], None, (len(thread),), (seed,))
                for thread, seed in zip(threads, seeds, strict=True)
            ]
            return torch.cat(rows).index_select(0, places)

    def _run(
        self, ids: Tensor, positions: Tensor, layout: Layout | None, sizes: tuple[int, ...], seeds: tuple[int, ...]
    ) -> Tensor:
        """Hidden states [T, D] of one row.

        ids, positions: int64 [T].
        layout: the segments of the row; None for a plain sequence.
        sizes, seeds: tokens and dropout seed of each example in the row.
        """
        if self.dropout is not None:
            if self.model.training:
                self.dropout.begin(sizes, seeds)
            else:
                self.dropout.end()
        extra: dict[str, Any] = {}
        if layout is not None:
            # transformers takes a mask of four dimensions as final and builds none itself.
            extra["layout"] = self.kernel(layout)
            extra["attention_mask"] = ids.new_empty((1, 1, 1, 0), dtype=torch.bool)
        if self._takes_positions:
            extra["position_ids"] = positions[None]
        output = self._body(input_ids=ids[None], use_cache=False, **extra)
        states: Tensor = output.last_hidden_state[0]
        return states


def _takes(module: nn.Module, name: str) -> bool:
    """Whether the forward pass of a module has an argument of this name; recurrent models have no positions."""
    parameters = inspect.signature(module.forward).parameters
    return name in parameters or any(each.kind == each.VAR_KEYWORD for each in parameters.values())


def _split_into_threads(batch: PackedBatch) -> tuple[list[Tensor], list[int], Tensor]:
    """(threads, seeds, places) of the root-to-leaf threads of a batch.

    threads: int64 [tokens of the thread] each, the indices of its tokens in the packed row.
    seeds: for each thread the seed of its example.
    places: int64 [T], for every token of the batch its index among the concatenated threads, in the first that
        contains it.
    """
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

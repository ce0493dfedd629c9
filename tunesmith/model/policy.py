"""The policy: a stock causal model that answers with the log-probabilities of what is trained, and nothing else."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tunesmith.batch.layout import Batch, Layout
from tunesmith.batch.protocols import LogProbabilities, Slopes
from tunesmith.model.attention import prepare
from tunesmith.model.dropout import ResidualDropout
from tunesmith.model.head import target_log_probabilities
from tunesmith.model.normalizer import target_statistics

LayoutKind = Literal["tree", "threads"]


class Policy:
    """A causal model, how it reads a batch, and its optional residual dropout.

    model: loaded with the attention of ``model.attention``. compute: number format of the forward pass; the parameters keep
    theirs. layout: "tree" runs a batch as one flat row; "threads" runs each of its segments as a row of its own, for
    families whose attention does not follow the layout (such a batch may not branch).
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        compute: torch.dtype = torch.float32,
        layout: LayoutKind = "tree",
        dropout: ResidualDropout | None = None,
    ) -> None:
        self.model, self.layout, self.compute, self._dropout = model, layout, compute, dropout
        self._body: nn.Module = model.base_model  # type: ignore[assignment]
        self._head: nn.Linear = model.get_output_embeddings()  # type: ignore[operator]

    @property
    def device(self) -> torch.device:
        return self._head.weight.device

    def parameters(self) -> dict[str, nn.Parameter]:
        """Trainable parameters by name; tied ones once."""
        return {name: value for name, value in self.model.named_parameters() if value.requires_grad}

    def train(self) -> None:
        self.model.train()

    def evaluate(self) -> None:
        """Evaluation mode: no noise of any kind."""
        self.model.eval()
        if self._dropout is not None:
            self._dropout.end()

    def log_probabilities(
        self, batch: Batch, expected_gradient: Tensor | None = None, *, spread: Slopes | None = None
    ) -> LogProbabilities:
        """The vocabulary is projected at the batch's sources only.

        expected_gradient: float32 [N], the gradient of the loss with respect to the log-probabilities where the objective knows
        it beforehand; a hint that saves time and never changes the result (see ``model.head``).
        spread: give ``LogProbabilities.spread`` too; what it says of the gradient is such a hint as well.
        """
        with self.autocast():
            hidden = self.hidden(batch)
        states = hidden.index_select(0, batch.source).to(self.compute)
        if spread is not None:
            return target_statistics(states, self._head.weight, self._head.bias, batch.target, spread)
        found = target_log_probabilities(states, self._head.weight, self._head.bias, batch.target, expected_gradient)
        return LogProbabilities(*found)

    def hidden(self, batch: Batch) -> Tensor:
        """Last hidden states [T, D]."""
        if self.layout == "tree":
            return self._row(batch.ids, batch.positions, batch.layout, batch.seeds)
        assert not batch.layout.branches, "the threads of a tree are cut apart before they come here"
        ends = torch.tensor(batch.layout.sizes).cumsum(0).tolist()
        rows = [
            self._row(batch.ids[end - size : end], batch.positions[end - size : end], None, (seed,))
            for size, end, seed in zip(batch.layout.sizes, ends, batch.seeds, strict=True)
        ]
        return torch.cat(rows)

    def _row(self, ids: Tensor, positions: Tensor, layout: Layout | None, seeds: tuple[int, ...]) -> Tensor:
        if self._dropout is not None:
            sizes = layout.trees if layout else (len(ids),)
            self._dropout.begin(sizes, seeds) if self.model.training else self._dropout.end()
        extra: dict[str, Any] = {}
        if layout is not None:
            # A mask of four dimensions is taken as prepared: transformers then builds none of its own.
            extra["layout"] = prepare(layout, ids.device, self.compute)
            extra["attention_mask"] = ids.new_empty((1, 1, 1, 0), dtype=torch.bool)
        output = self._body(input_ids=ids[None], position_ids=positions[None], use_cache=False, **extra)
        states: Tensor = output.last_hidden_state[0]
        return states

    def autocast(self) -> AbstractContextManager[None]:
        """The number format of the forward pass."""
        if self.compute == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.compute)

    def with_layout(self, layout: LayoutKind) -> Policy:
        """The same model read in another way."""
        return Policy(self.model, compute=self.compute, layout=layout, dropout=self._dropout)

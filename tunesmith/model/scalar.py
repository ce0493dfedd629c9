"""The policy that gives one number at any token: rewards of replies, values of states."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from tunesmith.batch.layout import Batch
from tunesmith.model.dropout import ResidualDropout
from tunesmith.model.policy import LayoutKind
from tunesmith.model.reward_model import head_of
from tunesmith.model.trunk import Trunk


class ScalarPolicy:
    """A trunk with a head of one number, as ``model.reward_model`` makes and loads them; arguments as of ``Policy``.

    The number is computed in float32 whatever the trunk computes in: in bfloat16 two replies of a group often tie.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        compute: torch.dtype = torch.float32,
        layout: LayoutKind = "tree",
        dropout: ResidualDropout | None = None,
    ) -> None:
        self.model, self.compute, self.layout, self._dropout = model, compute, layout, dropout
        self._head = head_of(model)
        body: nn.Module = model.base_model  # type: ignore[assignment]
        self._trunk = Trunk(body, compute=compute, layout=layout, dropout=dropout)

    @property
    def device(self) -> torch.device:
        return self._head.weight.device

    def parameters(self) -> dict[str, nn.Parameter]:
        """Trainable parameters by name."""
        return {name: value for name, value in self.model.named_parameters() if value.requires_grad}

    def train(self) -> None:
        self.model.train()

    def evaluate(self) -> None:
        """Evaluation mode: no noise of any kind."""
        self.model.eval()
        if self._dropout is not None:
            self._dropout.end()

    def scalars(self, batch: Batch, where: Tensor) -> Tensor:
        """float32 [K]: the numbers at the tokens ``where`` of the flat row, int64 [K].

        At ``batch.replies.end`` they are the rewards of the replies, at ``batch.source`` values of the states before each target.
        """
        states = self._trunk.hidden(batch).index_select(0, where).float()
        weight, bias = self._head.weight, self._head.bias
        return linear(states, weight.float(), None if bias is None else bias.float())[:, 0]

    def with_layout(self, layout: LayoutKind) -> ScalarPolicy:
        """The same model read in another way."""
        return ScalarPolicy(self.model, compute=self.compute, layout=layout, dropout=self._dropout)

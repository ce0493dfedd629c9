"""The policy that gives one number at any token: rewards of replies, values of states."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import PreTrainedModel

from tunesmith.batch.packed import Batch
from tunesmith.model.backbone import Backbone, LayoutKind
from tunesmith.model.dropout import ResidualDropout
from tunesmith.model.reward_model import head_of


class ScalarPolicy:
    """A trunk with a head of one number, as ``model.reward_model`` makes and loads them; arguments as of ``Backbone``.

    The number is computed in float32 whatever the trunk computes in: in bfloat16 two replies of a group often tie.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        compute: torch.dtype = torch.float32,
        layout: LayoutKind = "tree",
        dropout: ResidualDropout | None = None,
    ) -> None:
        self.model = model
        self.backbone = Backbone(model, compute=compute, layout=layout, dropout=dropout)
        self._head = head_of(model)

    @property
    def device(self) -> torch.device:
        return self._head.weight.device

    @property
    def compute(self) -> torch.dtype:
        return self.backbone.compute

    @property
    def layout(self) -> LayoutKind:
        return self.backbone.layout

    def parameters(self) -> dict[str, nn.Parameter]:
        """Trainable parameters by name."""
        return self.backbone.parameters()

    def train(self) -> None:
        self.backbone.train()

    def eval(self) -> None:
        """Evaluation mode: no noise of any kind."""
        self.backbone.eval()

    def scalars(self, batch: Batch, where: Tensor) -> Tensor:
        """float32 [K]: the numbers at the tokens ``where`` of the flat row, int64 [K].

        At ``batch.replies.end`` they are the rewards of the replies, at ``batch.source`` values of the states before each target.
        """
        states = self.backbone.hidden(batch).index_select(0, where).float()
        bias: Tensor | None = self._head.bias
        return linear(states, self._head.weight.float(), None if bias is None else bias.float())[:, 0]

    def with_layout(self, layout: LayoutKind) -> ScalarPolicy:
        """The same model read in another way."""
        return ScalarPolicy(self.model, compute=self.compute, layout=layout, dropout=self.backbone.dropout)

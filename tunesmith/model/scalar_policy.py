"""The policy that computes one number at any token: rewards of replies, values of states."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import PreTrainedModel

from tunesmith.batch.packed import PackedBatch
from tunesmith.model.backbone import Backbone, LayoutKind
from tunesmith.model.dropout import ResidualDropout
from tunesmith.model.reward_model import head_of
from tunesmith.model.shard import ShardedModel
from tunesmith.model.wrapper import forward_pass


class ScalarPolicy(Backbone):
    """A backbone with a head of one number, as ``model.reward_model`` makes and loads them; arguments as of
    ``Backbone``.

    The number is computed in float32 whatever the format of the backbone: in bfloat16 two replies of a group often tie.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        compute: torch.dtype = torch.float32,
        layout: LayoutKind = "tree",
        dropout: ResidualDropout | None = None,
        sharded: ShardedModel | None = None,
    ) -> None:
        super().__init__(model, compute=compute, layout=layout, dropout=dropout, sharded=sharded)
        self._head = head_of(model)

    def whole_parameters(self) -> Collection[nn.Parameter]:
        """The head."""
        return list(self._head.parameters())

    @forward_pass
    def scalars(self, batch: PackedBatch, where: Tensor) -> Tensor:
        """float32 [K], the numbers at the tokens ``where`` of the packed row.

        where: int64 [K]. ``batch.replies.end`` gives the rewards of the replies, ``batch.source`` the values of the
            states before each target.
        """
        states = self.hidden(batch).index_select(0, where).float()
        bias: Tensor | None = self._head.bias
        return linear(states, self._head.weight.float(), None if bias is None else bias.float())[:, 0]

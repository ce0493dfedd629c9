"""What all wrappers of a stock transformers model have in common: device, parameters, modes and number format."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn
from transformers import PreTrainedModel

from tunesmith.model.dropout import ResidualDropout, Seq2SeqDropout


class ModelWrapper:
    """A stock model with the number format of its forward pass and its optional residual dropout.

    model: the parameters keep their own number format.
    compute: number format of the forward pass.
    dropout: residual dropout, which is active in training mode only.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        compute: torch.dtype = torch.float32,
        dropout: ResidualDropout | Seq2SeqDropout | None = None,
    ) -> None:
        self.model, self.compute, self.dropout = model, compute, dropout

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return self.model.device

    def parameters(self) -> dict[str, nn.Parameter]:
        """Trainable parameters of the whole model by name; tied ones once."""
        return {name: value for name, value in self.model.named_parameters() if value.requires_grad}

    def train(self) -> None:
        """Training mode of the model as a whole; its modules stay in evaluation mode.

        The training mode of a module adds noise that depends on the batch: dropout, jitter of inputs, random choice of
        experts. Only modules that recompute activations are in training mode, because they recompute in no other.
        """
        self.model.eval()  # type: ignore[no-untyped-call]
        self.model.training = True
        for module in self.model.modules():
            if getattr(module, "gradient_checkpointing", False):
                module.training = True

    def eval(self) -> None:
        """Evaluation mode: no noise of any kind."""
        self.model.eval()  # type: ignore[no-untyped-call]
        if self.dropout is not None:
            self.dropout.end()

    def autocast(self) -> AbstractContextManager[None]:
        """The context in which the forward pass runs in the format ``compute``; weights in it need no cast."""
        if self.compute in (torch.float32, self.model.dtype):
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.compute)

"""The policy of an encoder-decoder: reads inputs with the encoder once, answers with the log-probabilities of the replies."""

from __future__ import annotations

from collections import Counter
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tunesmith.batch.padded import PaddedBatch
from tunesmith.batch.protocols import GradientHint, LogProbabilities, StatisticsGradient
from tunesmith.draws import row_seed
from tunesmith.model.dropout import Seq2SeqDropout
from tunesmith.model.head import target_log_probabilities
from tunesmith.model.logit_statistics import target_statistics


class Seq2SeqPolicy:
    """An encoder-decoder and its optional residual dropout; for objectives and loop the same as ``model.policy.Policy``.

    compute: number format of the forward pass; the parameters keep theirs.
    """

    def __init__(
        self, model: PreTrainedModel, *, compute: torch.dtype = torch.float32, dropout: Seq2SeqDropout | None = None
    ) -> None:
        self.model, self.compute, self._dropout = model, compute, dropout
        self._embedding: nn.Module = model.get_input_embeddings()
        self._encoder: nn.Module = model.get_encoder()
        self._decoder: nn.Module = model.get_decoder()  # type: ignore[no-untyped-call]
        self._head: nn.Linear = model.get_output_embeddings()  # type: ignore[no-untyped-call]
        self._scale = output_scale(model)

    @property
    def device(self) -> torch.device:
        return self._head.weight.device

    def parameters(self) -> dict[str, nn.Parameter]:
        """Trainable parameters by name; tied ones once."""
        return {name: value for name, value in self.model.named_parameters() if value.requires_grad}

    def train(self) -> None:
        self.model.train()

    def eval(self) -> None:
        """Evaluation mode: no noise of any kind."""
        self.model.eval()  # type: ignore[no-untyped-call]
        if self._dropout is not None:
            self._dropout.end()

    def log_probabilities(
        self,
        batch: PaddedBatch,
        expected_gradient: GradientHint = None,
        *,
        statistics: StatisticsGradient | None = None,
    ) -> LogProbabilities:
        """The vocabulary is projected at the batch's sources only; ``expected_gradient`` and ``spread`` as in ``Policy``."""
        with self.autocast():
            hidden = self.hidden(batch)
        states = hidden.flatten(0, 1).index_select(0, batch.source).to(self.compute) * self._scale
        if statistics is not None:
            return target_statistics(states, self._head.weight, self._head.bias, batch.target, statistics)
        found = target_log_probabilities(states, self._head.weight, self._head.bias, batch.target, expected_gradient)
        return LogProbabilities(*found)

    def hidden(self, batch: PaddedBatch) -> Tensor:
        """Last hidden states of the decoder [R, M, D]. What stands in the padding of a reply is never read: it comes after
        the reply, and a decoder looks back only."""
        if self._dropout is not None:
            self._begin_noise(self._dropout, batch)
        mask = None if min(batch.input_sizes) == batch.inputs.shape[1] else batch.read
        embedded_inputs, embedded_starts = self._embedded(batch)
        states = self._encoder(inputs_embeds=embedded_inputs, attention_mask=mask).last_hidden_state
        if len(batch.input_of) != len(batch.inputs):  # several replies to one input; else the order is the same
            states = states.index_select(0, batch.input_of)
            mask = None if mask is None else mask.index_select(0, batch.input_of)
        output = self._decoder(
            inputs_embeds=embedded_starts, encoder_hidden_states=states, encoder_attention_mask=mask, use_cache=False
        )
        found: Tensor = output.last_hidden_state
        return found

    def _embedded(self, batch: PaddedBatch) -> tuple[Tensor, Tensor]:
        """[I, L, D] and [R, M, D], looked up together: every look-up makes a gradient as large as the whole table."""
        inputs, starts = batch.inputs, batch.starts
        found: Tensor = self._embedding(torch.cat([inputs.flatten(), starts.flatten()]))
        first, second = torch.split(found, [inputs.numel(), starts.numel()])
        return first.view(*inputs.shape, -1), second.view(*starts.shape, -1)

    def _begin_noise(self, dropout: Seq2SeqDropout, batch: PaddedBatch) -> None:
        if not self.model.training:
            dropout.end()
            return
        sizes = (batch.input_sizes, batch.reply_sizes)
        owners = (batch.input_owners, batch.reply_owners)
        dropout.begin(sizes, (_row_seeds(owners[0], batch.seeds), _row_seeds(owners[1], batch.seeds)))

    def autocast(self) -> AbstractContextManager[None]:
        """The number format of the forward pass."""
        if self.compute == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.compute)


def output_scale(model: PreTrainedModel) -> float:
    """What the decoder's last states are multiplied by: ``d_model ** -0.5`` in T5 with a tied head (Raffel et al. 2020);
    transformers scales no other family."""
    tied = getattr(model.config, "scale_decoder_outputs", model.config.tie_word_embeddings)
    return float(model.config.d_model**-0.5) if tied and model.config.model_type == "t5" else 1.0


def _row_seeds(owners: tuple[int, ...], seeds: tuple[int, ...]) -> tuple[int, ...]:
    """A seed for every row: that of its example, mixed with the number of the row among the rows of that example."""
    before = Counter[int]()
    found: list[int] = []
    for owner in owners:
        found.append(row_seed(seeds[owner], before[owner]))
        before[owner] += 1
    return tuple(found)

"""The policy of an encoder-decoder: it computes the log-probabilities of the targets of a padded batch."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tunesmith.batch.padded import PaddedBatch
from tunesmith.batch.protocols import GradientHint, LogProbabilities, StatisticsGradient
from tunesmith.draws import row_seed
from tunesmith.model.adapters import head_weight
from tunesmith.model.dropout import Seq2SeqDropout
from tunesmith.model.head import target_log_probabilities
from tunesmith.model.logit_statistics import target_statistics
from tunesmith.model.shard import ShardedModel
from tunesmith.model.wrapper import ModelWrapper, forward_pass


class Seq2SeqPolicy(ModelWrapper):
    """An encoder-decoder with its head; objectives and loop use it like ``model.policy.Policy``.

    model, compute, dropout, sharded: see ``ModelWrapper``.
    """

    dropout: Seq2SeqDropout | None

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        compute: torch.dtype = torch.float32,
        dropout: Seq2SeqDropout | None = None,
        sharded: ShardedModel | None = None,
    ) -> None:
        super().__init__(model, compute=compute, dropout=dropout, sharded=sharded)
        self._embedding: nn.Module = model.get_input_embeddings()
        self._encoder: nn.Module = model.get_encoder()
        self._decoder: nn.Module = model.get_decoder()  # type: ignore[no-untyped-call]
        self._head: nn.Linear = model.get_output_embeddings()  # type: ignore[no-untyped-call]
        self._scale = output_scale(model)

    @forward_pass
    def log_probabilities(
        self,
        batch: PaddedBatch,
        gradient_hint: GradientHint = None,
        *,
        statistics_gradient: StatisticsGradient | None = None,
    ) -> LogProbabilities:
        """The log-probabilities of the N targets of a batch; only hidden states at its sources are projected.

        gradient_hint, statistics_gradient: as in ``Policy.log_probabilities``.
        """
        with self.autocast():
            hidden = self.hidden(batch)
        states = hidden.flatten(0, 1).index_select(0, batch.source).to(self.compute) * self._scale
        weight, bias, target = head_weight(self._head), self._head.bias, batch.target
        if statistics_gradient is not None:
            return target_statistics(states, weight, bias, target, statistics_gradient)
        return LogProbabilities(*target_log_probabilities(states, weight, bias, target, gradient_hint))

    def hidden(self, batch: PaddedBatch) -> Tensor:
        """Last hidden states of the decoder, [R, M, D].

        The decoder needs no mask for the padding of replies: it comes after the reply, and the decoder is causal.
        """
        if self.dropout is not None:
            self._begin_noise(self.dropout, batch)
        mask = None if min(batch.input_sizes) == batch.input_ids.shape[1] else batch.attention_mask
        embedded_inputs, embedded_replies = self._embed(batch)
        states = self._encoder(inputs_embeds=embedded_inputs, attention_mask=mask).last_hidden_state
        if len(batch.input_of) != len(batch.input_ids):  # several replies to one input; otherwise the order is the same
            states = states.index_select(0, batch.input_of)
            mask = None if mask is None else mask.index_select(0, batch.input_of)
        output = self._decoder(
            inputs_embeds=embedded_replies, encoder_hidden_states=states, encoder_attention_mask=mask, use_cache=False
        )
        hidden: Tensor = output.last_hidden_state
        return hidden

    def _embed(self, batch: PaddedBatch) -> tuple[Tensor, Tensor]:
        """Embeddings of inputs [I, L, D] and replies [R, M, D].

        Both are looked up together, because the gradient of every look-up is as large as the whole embedding.
        """
        inputs, replies = batch.input_ids, batch.decoder_input_ids
        embedded: Tensor = self._embedding(torch.cat([inputs.flatten(), replies.flatten()]))
        first, second = torch.split(embedded, [inputs.numel(), replies.numel()])
        return first.view(*inputs.shape, -1), second.view(*replies.shape, -1)

    def _begin_noise(self, dropout: Seq2SeqDropout, batch: PaddedBatch) -> None:
        if not self.model.training:
            dropout.end()
            return
        sizes = (batch.input_sizes, batch.reply_sizes)
        seeds = (_row_seeds(batch.input_owners, batch.seeds), _row_seeds(batch.reply_owners, batch.seeds))
        dropout.begin(sizes, seeds)


def output_scale(model: PreTrainedModel) -> float:
    """The factor of the last decoder states before the head.

    It is ``d_model ** -0.5`` in T5 with a tied head (Raffel et al. 2020); transformers scales no other family.
    """
    tied = getattr(model.config, "scale_decoder_outputs", model.config.tie_word_embeddings)
    return float(model.config.d_model**-0.5) if tied and model.config.model_type == "t5" else 1.0


def _row_seeds(owners: tuple[int, ...], seeds: tuple[int, ...]) -> tuple[int, ...]:
    """A seed for every row, from the seed of its example and the number of the row among the rows of that example."""
    before = Counter[int]()
    found: list[int] = []
    for owner in owners:
        found.append(row_seed(seeds[owner], before[owner]))
        before[owner] += 1
    return tuple(found)

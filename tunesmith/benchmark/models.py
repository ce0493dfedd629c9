"""Opening a model for benchmarks: its weights once, its tokenizer, and its prompt format where chats are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from lm_eval.models.utils import resolve_max_length
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunesmith.benchmark.encoding import ChatEncoder, PlainEncoder
from tunesmith.benchmark.language_model import ModelParts
from tunesmith.benchmark.scoring import AnswerScorer, CausalScorer, Seq2SeqScorer
from tunesmith.benchmark.stock_model import StockLanguageModel
from tunesmith.errors import DataError, UsageError
from tunesmith.generate.engine import Engine
from tunesmith.generate.export_directory import declared_format, find_export
from tunesmith.generate.model_identity import model_fingerprint
from tunesmith.model.attention_choice import use_stock_attention
from tunesmith.model.devices import best_device
from tunesmith.model.load import is_classifier, load_model
from tunesmith.model.policy import Policy
from tunesmith.model.seq2seq import Seq2SeqPolicy
from tunesmith.model.stock_tokenizer import load_stock_tokenizer
from tunesmith.model.vocabulary import rows_of
from tunesmith.text.formats.format import Format
from tunesmith.text.formats.registry import build_format
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tokens.render import Renderer
from tunesmith.verify.self_test import self_test
from tunesmith.verify.self_test_padded import self_test_padded

DtypeName: TypeAlias = Literal["auto", "float32", "bfloat16"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
SELF_TEST_TOKENS = 256  # length of the longest thread in the self-test of the layout


@dataclass(frozen=True, slots=True)
class BenchmarkModel:
    """A model in memory.

    name: the path, as the user wrote it.
    directory: what was opened.
    model, tokenizer: of transformers.
    scorer: log-likelihoods of answers.
    max_length: the largest number of tokens that the model reads at once.
    prefix: the token id in place of an empty context.
    dtype: name of the number format of the forward pass.
    fingerprint: digest of weights, configuration, tokenizer and prompt format.
    """

    name: str
    directory: Path
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    scorer: AnswerScorer
    max_length: int
    prefix: int
    dtype: str
    fingerprint: str

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether the model reads a context by an encoder."""
        return bool(self.model.config.is_encoder_decoder)

    def parts(self, chat: Renderer | None) -> ModelParts:
        """The parts of the language model.

        chat: the renderer of chats; None for texts as they are.
        """
        encoder = ChatEncoder(chat) if chat is not None else self._plain_encoder()
        end = self.tokenizer.eos_token
        return ModelParts(
            encoder,
            self.scorer,
            lambda: Engine(self.model, chat or self._plain_renderer(), self.max_length),
            self.prefix,
            self.max_length,
            None if chat is not None else end,
            self.is_encoder_decoder,
        )

    def chat_renderer(self, format_name: str | None) -> Renderer:
        """The renderer of the prompt format that the directory declares, or that is named. Raises as its loader."""
        renderer = self._renderer(declared_format(self.directory, format_name)[0])
        rows, needed = rows_of(self.model), renderer.tokenizer.size
        if needed > rows:
            what = f"prompt format and tokenizer need {needed} token ids, but the model has {rows}"
            raise DataError(what, where=self.directory, advice="use the prompt format that the model was trained with")
        return renderer

    def stock(self, batch_size: int) -> StockLanguageModel:
        """The model as lm-evaluation-harness uses it by itself; it keeps the stock attention from now on."""
        use_stock_attention(self.model)
        return StockLanguageModel(
            self.model, self.tokenizer, self.scorer, batch_size=batch_size, max_length=self.max_length
        )

    def _plain_encoder(self) -> PlainEncoder:
        return PlainEncoder(self.tokenizer, self.prefix, self.is_encoder_decoder)

    def _plain_renderer(self) -> Renderer:
        return self._renderer(build_format("t5-dolly" if self.is_encoder_decoder else "plain"))

    def _renderer(self, format: Format) -> Renderer:
        return Renderer(format, Tokenizer.load(str(self.directory), format.controls))


def open_benchmark_model(path: str, dtype: DtypeName = "auto") -> BenchmarkModel:
    """Load a model and test that its scores of branches are those of separate texts.

    path: a run, its export, or another model directory.
    dtype: number format; auto is bfloat16 on a CUDA device and float32 elsewhere.
    Raises MissingInputError, DataError, UsageError, RecipeError.
    """
    directory = find_export(path)
    if is_classifier(str(directory)):
        raise UsageError("this is a reward model, which answers no questions", where=path, advice="name an assistant")
    tokenizer = load_stock_tokenizer(directory)
    model = load_model(str(directory))
    device = best_device()
    on_gpu = device.type == "cuda"
    name = ("bfloat16" if on_gpu else "float32") if dtype == "auto" else dtype
    compute = DTYPES[name]
    module: nn.Module = model  # its `to` moves the weights in place
    module.eval()
    module.to(device=device, dtype=compute if on_gpu else torch.float32)
    prefix = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if prefix is None:
        what = "the tokenizer has neither a bos nor an eos token, one of which begins a text"
        raise DataError(what, where=directory, advice="name one in tokenizer_config.json")
    max_length = int(resolve_max_length(model.config, tokenizer))
    scorer = _new_scorer(model, compute, len(tokenizer), max_length)
    digest = model_fingerprint(directory)
    return BenchmarkModel(path, directory, model, tokenizer, scorer, max_length, int(prefix), name, digest)


def _new_scorer(model: PreTrainedModel, compute: torch.dtype, tokens: int, max_length: int) -> AnswerScorer:
    tokens = min(tokens, int(model.get_input_embeddings().num_embeddings))  # type: ignore[arg-type]
    longest = min(max_length, SELF_TEST_TOKENS)
    if model.config.is_encoder_decoder:
        policy = Seq2SeqPolicy(model, compute=compute)
        start = int(model.config.decoder_start_token_id)
        padding = start if model.config.pad_token_id is None else int(model.config.pad_token_id)
        self_test_padded(policy, tokens, longest, longest, start)
        return Seq2SeqScorer(policy, max_length, start=start, padding=padding)
    causal = Policy(model, compute=compute)
    return CausalScorer(causal.with_layout(self_test(causal, tokens, longest).layout), max_length)

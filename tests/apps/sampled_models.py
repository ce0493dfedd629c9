"""Small random models for tests of sampling."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, T5Config, T5ForConditionalGeneration

from tests.text.small_tokenizers import byte_level, t5_like, write_tokenizer
from tunesmith.model.export import ExportInfo, export
from tunesmith.text.formats.registry import build_format
from tunesmith.text.tokenizer.tokenizer import Tokenizer

CONTEXT = 128


def write_causal(directory: Path, format: str = "oasst", seed: int = 3, context: int = CONTEXT) -> Path:
    """A model whose replies often end by themselves."""
    prompt_format, tokenizer = build_format(format), _tokenizer(directory, format)
    torch.manual_seed(seed)
    config = GPTNeoXConfig(
        vocab_size=tokenizer.size, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=context, initializer_range=0.4, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    model = GPTNeoXForCausalLM(config)
    with torch.no_grad():  # end tokens are likely in half of all contexts
        model.lm_head.weight[list(tokenizer.find_ids(prompt_format.stops))] *= 3
    export(directory, model.eval(), tokenizer, prompt_format, ExportInfo(format, {}, 64, {}, "new", "random", 1))
    return directory


def write_t5(directory: Path) -> Path:
    """An encoder-decoder."""
    root = directory.with_name(f"{directory.name}-tokenizer")
    write_tokenizer(root, t5_like(), eos="</s>", unk="<unk>", pad="<pad>")
    format, tokenizer = build_format("t5-dolly"), Tokenizer.load(str(root))
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=tokenizer.size, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, dropout_rate=0.0,
        pad_token_id=tokenizer.pad_id, eos_token_id=tokenizer.eos_id, decoder_start_token_id=tokenizer.pad_id,
    )  # fmt: skip
    model = T5ForConditionalGeneration(config)
    export(directory, model.eval(), tokenizer, format, ExportInfo("t5-dolly", {}, 64, {}, "new", "random", 1))
    return directory


def _tokenizer(directory: Path, format: str) -> Tokenizer:
    root = directory.with_name(f"{directory.name}-tokenizer")
    write_tokenizer(root, byte_level(), eos="<|endoftext|>", pad="<|padding|>")
    return Tokenizer.load(str(root), build_format(format).controls)

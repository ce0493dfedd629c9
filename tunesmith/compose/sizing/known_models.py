"""Configurations of the models that the built-in recipes start from, for plans where these models are not at hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Entries = Mapping[str, Any]


def _pythia(hidden: int, layers: int, heads: int, rows: int) -> Entries:
    """EleutherAI's Pythia: rows of the embedding are padded to a multiple that differs with the size."""
    return {
        "model_type": "gpt_neox",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * hidden,
        "vocab_size": rows,
        "max_position_embeddings": 2048,
        "rotary_pct": 0.25,
        "use_parallel_residual": True,
        "tie_word_embeddings": False,
    }


def _llama(
    hidden: int,
    inner: int,
    layers: int,
    heads: tuple[int, int],
    rows: int,
    *,
    positions: int,
    tied: bool = False,
    **others: Any,
) -> Entries:
    """heads: of queries, and of keys and values."""
    return {
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads[0],
        "num_key_value_heads": heads[1],
        "vocab_size": rows,
        "max_position_embeddings": positions,
        "tie_word_embeddings": tied,
        **others,
    }


PYTHIA_1B = _pythia(2048, 24, 16, 50_304)
PYTHIA_3B = _pythia(2560, 32, 32, 50_304)
PYTHIA_7B = _pythia(4096, 32, 32, 50_432)
PYTHIA_12B = _pythia(5120, 36, 40, 50_688)
LLAMA_13B = _llama(5120, 13_824, 40, (40, 40), 32_000, positions=4096)
LLAMA_70B = _llama(8192, 28_672, 80, (64, 8), 32_000, positions=4096)
FLAN_T5_XXL: Entries = {
    "model_type": "t5",
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10_240,
    "num_layers": 24,
    "num_decoder_layers": 24,
    "num_heads": 64,
    "vocab_size": 32_128,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
    "pad_token_id": 0,
    "decoder_start_token_id": 0,
}

KNOWN_MODELS: Mapping[str, Entries] = {
    "EleutherAI/pythia-1.4b-deduped": PYTHIA_1B,
    "EleutherAI/pythia-2.8b": PYTHIA_3B,
    "EleutherAI/pythia-6.9b": PYTHIA_7B,
    "EleutherAI/pythia-12b": PYTHIA_12B,
    "EleutherAI/pythia-12b-deduped": PYTHIA_12B,
    "andreaskoepf/pythia-12b-pre-2000": {**PYTHIA_12B, "vocab_size": 50_288},
    "meta-llama/Llama-2-13b-hf": LLAMA_13B,
    "allenai/tulu-2-13b": {**LLAMA_13B, "max_position_embeddings": 8192},
    "allenai/tulu-2-70b": {**LLAMA_70B, "max_position_embeddings": 8192},
    "google/flan-t5-xxl": FLAN_T5_XXL,
    "HuggingFaceTB/SmolLM2-135M": _llama(576, 1536, 30, (9, 3), 49_152, positions=8192, tied=True),
    "HuggingFaceTB/SmolLM2-360M": _llama(960, 2560, 32, (15, 5), 49_152, positions=8192, tied=True),
    "meta-llama/Llama-3.2-1B": _llama(2048, 8192, 16, (32, 8), 128_256, positions=131_072, tied=True, head_dim=64),
    "Qwen/Qwen3-0.6B-Base": {
        **_llama(1024, 3072, 28, (16, 8), 151_936, positions=32_768, tied=True, head_dim=128),
        "model_type": "qwen3",
    },
    "google/gemma-3-1b-pt": {
        **_llama(1152, 6912, 26, (4, 1), 262_144, positions=32_768, tied=True, head_dim=256),
        "model_type": "gemma3_text",
    },
}
"""Name on the hub -> the entries of its configuration that decide shapes."""

"""Tiny random models of the causal families of transformers, all with the same sizes as far as the family has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

VOCABULARY = 96
WINDOW = 16  # tokens; threads of the campaign are longer

_WIDTH, _HEADS, _LAYERS = 32, 4, 2
SIZES: Mapping[str, Any] = {
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input"), VOCABULARY),
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "word_embed_proj_dim", "embedding_size", "emb_dim"), _WIDTH),
    **dict.fromkeys(
        ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "num_blocks"), _LAYERS
    ),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads"), _HEADS),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "num_global_key_value_heads"), 2),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "ffn_hidden_size", "n_inner", "decoder_ffn_dim", "dff"), 64),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len", "original_max_position_embeddings"), 128),
    **dict.fromkeys(("head_dim", "global_head_dim", "kv_channels", "rotary_dim", "dim_head", "attention_head_dim"), 8),
    **dict.fromkeys(("qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim", "swa_head_dim", "swa_v_head_dim"), 8),
    **dict.fromkeys(("qk_head_dim",), 16),
    **dict.fromkeys(("kv_lora_rank", "q_lora_rank", "o_lora_rank"), 16),
    **dict.fromkeys(
        ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts", "num_local_experts"), 4
    ),
    **dict.fromkeys(("num_experts_per_tok", "moe_top_k", "moe_k", "num_experts_per_token", "top_k_experts"), 2),
    **dict.fromkeys(("moe_intermediate_size", "expert_ffn_hidden_size", "shared_expert_intermediate_size"), 32),
    **dict.fromkeys(("shared_intermediate_size", "intermediate_size_mlp"), 32),
    **dict.fromkeys(("n_shared_experts", "num_shared_experts", "n_group", "topk_group", "n_groups"), 1),
    **dict.fromkeys(("first_k_dense_replace", "mamba_n_groups", "ssm_n_groups", "mamba_ngroups"), 1),
    **dict.fromkeys(("state_size", "mamba_d_state", "ssm_state_size", "mamba_state_size"), 8),
    **dict.fromkeys(("conv_kernel", "mamba_d_conv", "time_step_rank", "mamba_dt_rank"), 4),
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads", "n_mamba_heads"), 4),
    **dict.fromkeys(("mamba_d_head", "mamba_head_dim"), 16),
    **dict.fromkeys(("mamba_d_ssm", "lru_width"), 64),
    **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads"), 2),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim"), 8),
    **dict.fromkeys(("sliding_window", "attention_window_size", "local_attention", "window_size"), WINDOW),
    **dict.fromkeys(("chunk_size", "mamba_chunk_size", "attention_chunk_size"), WINDOW),
    "num_nextn_predict_layers": 0,
    "hidden_size_per_layer_input": 8,
    "num_kv_shared_layers": 0,
    "rescale_every": 1,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LLAMA3 = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
EXTRA: Mapping[str, Mapping[str, Any]] = {
    "llama": {"rope_parameters": {**LLAMA3, "rope_theta": 5e5, "original_max_position_embeddings": 32}},
    "qwen2": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
    "gpt_neox": {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": 0.5}},
    "mamba2": {"num_heads": 4, "head_dim": 16, "expand": 2},
    "rwkv": {"attention_hidden_size": 32, "context_length": 128},
    "gemma2": {"query_pre_attn_scalar": 8, "final_logit_softcapping": 3.0, "attn_logit_softcapping": 1.0},
    "granite": {"logits_scaling": 6.0, "attention_multiplier": 0.3, "embedding_multiplier": 5.0},
    "cohere": {"logit_scale": 0.25},
    "lfm2": {"layer_types": ["conv", "full_attention"], "block_ff_dim": 64},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 0},
    "bamba": {"attn_layer_indices": [1]},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"]},
    "recurrent_gemma": {"block_types": ["recurrent", "attention"]},
    "nemotron_h": {"layers_block_type": ["mamba", "attention"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": WINDOW},
}
"""Values of single families: those whose meaning the campaign tests, and sizes with other rules."""


def families() -> list[str]:
    """All architectures that transformers loads as causal language models."""
    return list(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def tiny_config(architecture: str, **values: Any) -> PretrainedConfig:
    """The configuration of a tiny model. values: entries of the text configuration that differ."""
    whole = AutoConfig.for_model(architecture)
    text = whole.get_text_config()
    known = text.to_dict() | dict.fromkeys(text.attribute_map)
    sizes = {key: value for key, value in SIZES.items() if key in known}
    for key in ("layer_types", "mlp_layer_types", "num_hidden_layers_types"):
        if isinstance(known.get(key), list) and known[key]:
            found = list(dict.fromkeys(known[key]))
            sizes[key] = (found * _LAYERS)[:_LAYERS] if len(found) <= _LAYERS else found[:_LAYERS]
    if "kv_lora_rank" in known:  # multi-head latent attention: keys and values have as many heads as queries
        sizes["num_key_value_heads"] = _HEADS
    sizes |= {**EXTRA.get(architecture, {}), **values}
    return type(text)(**sizes)


def tiny_model(architecture: str, seed: int = 0, **values: Any) -> PreTrainedModel:
    """A model in float32 and evaluation mode, with weights that are large enough for differences to show."""
    torch.manual_seed(seed)
    config = tiny_config(architecture, **values)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    model.float()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.mul_(2.0)
            elif "sink" in name:
                parameter.normal_()
    return model.eval()  # type: ignore[no-untyped-call,no-any-return]

"""An export as one file for llama.cpp (GGUF): Llama and GPT-NeoX.

The names of tensors come from the package ``gguf``, which llama.cpp's authors publish. Two kinds of weights are stored
in another order: the query and key rows of Llama, since llama.cpp rotates neighbours, and the rows of
``query_key_value`` of GPT-NeoX, which hold query, key and value of one head after the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from tunesmith.errors import DataError, MissingInputError
from tunesmith.files import read_object
from tunesmith.model.directory import CONFIG, GENERATION, read_directory
from tunesmith.model.gguf_vocabulary import read_vocabulary
from tunesmith.model.names import CLASSIFIER

NAMES: Mapping[str, str] = {"llama": "llama", "gpt_neox": "gptneox"}
"""``model_type`` of transformers -> architecture of llama.cpp."""
PLAIN: Mapping[str, Mapping[str, Any]] = {
    "llama": {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False},
    "gpt_neox": {"hidden_act": "gelu", "attention_bias": True},
}
"""What llama.cpp computes, whatever the configuration says."""
NUMBER_TYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


def check_gguf_installed() -> None:
    """Raises MissingInputError without the package ``gguf``."""
    _package()


def _package() -> Any:
    try:
        import gguf
    except ImportError as error:
        advice = "install it: python -m pip install 'tunesmith[gguf]'"
        raise MissingInputError("files for llama.cpp need the package gguf", advice=advice) from error
    return gguf


def write_gguf(directory: Path, target: Path, name: str) -> None:
    """Write the model of an export to one file.

    directory: the export.
    name: of the model, in the file.
    Raises MissingInputError, and DataError for a model or tokenizer that llama.cpp would compute otherwise.
    """
    gguf = _package()
    found = read_directory(directory)
    config = read_object(found.files[CONFIG])
    check_plain(config, found.files[CONFIG])
    writer = gguf.GGUFWriter(target, NAMES[config["model_type"]])
    writer.add_name(name)
    _add_sizes(writer, config)
    _add_vocabulary(writer, directory, config)
    for path in (path for file, path in found.files.items() if file.endswith(".safetensors")):
        with safe_open(path, framework="pt") as weights:
            for key in weights.keys():  # noqa: SIM118
                _add_tensor(writer, gguf, config, key, weights.get_tensor(key))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def check_plain(config: Mapping[str, Any], where: Path) -> None:
    """Raises DataError for a model that llama.cpp does not have, or would compute otherwise."""
    advice = "GGUF files are written for Llama and GPT-NeoX as they were published"
    family = str(config.get("model_type"))
    if family not in NAMES or CLASSIFIER in config["architectures"][0]:
        raise DataError(f"there is no GGUF export of {config['architectures'][0]}", where=where, advice=advice)
    for key, value in PLAIN[family].items():
        if config.get(key, value) != value:
            raise DataError(f"{key} is {config[key]!r}, and llama.cpp has {value!r}", where=where, advice=advice)
    if (kind := config["rope_parameters"].get("rope_type", "default")) != "default":
        raise DataError(f"the positions are scaled ({kind!r})", where=where, advice=advice)


def _add_sizes(writer: Any, config: Mapping[str, Any]) -> None:
    """The sizes of the model and the settings of its layers."""
    heads, rotary = config["num_attention_heads"], config["rope_parameters"]
    size = config.get("head_dim") or config["hidden_size"] // heads
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_rope_dimension_count(int(size * rotary.get("partial_rotary_factor", 1.0)))
    writer.add_rope_freq_base(rotary["rope_theta"])
    if config["model_type"] == "llama":
        writer.add_head_count_kv(config["num_key_value_heads"])
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    else:
        writer.add_parallel_residual(config["use_parallel_residual"])
        writer.add_layer_norm_eps(config["layer_norm_eps"])


def _add_vocabulary(writer: Any, directory: Path, config: Mapping[str, Any]) -> None:
    """Tokens, the tokens that end a reply, and the chat template. Raises DataError."""
    path = directory / "tokenizer.json"
    found = read_vocabulary(read_object(path), config["vocab_size"], path)
    writer.add_tokenizer_model(found.model)
    writer.add_token_list(found.tokens)
    writer.add_token_types([int(kind) for kind in found.kinds])
    if found.model == "gpt2":
        writer.add_tokenizer_pre("gpt-2")
        writer.add_token_merges(found.merges)
    else:
        writer.add_token_scores(found.scores)
        writer.add_add_space_prefix(True)
    generation = read_object(directory / GENERATION)
    ends = generation["eos_token_id"]
    first, *others = ends if isinstance(ends, list) else [ends]
    if len(others) > 1:
        what = f"{len(others) + 1} tokens end a reply, and a GGUF file names two at most"
        raise DataError(what, where=directory / GENERATION, advice="use a prompt format with fewer end tokens")
    writer.add_eos_token_id(first)
    for other in others:
        writer.add_eot_token_id(other)
    if (begin := generation.get("bos_token_id")) is not None:
        writer.add_bos_token_id(begin)
    writer.add_pad_token_id(generation["pad_token_id"])
    writer.add_add_bos_token(False)  # the chat template writes it where training did
    writer.add_add_eos_token(False)
    writer.add_chat_template(read_object(directory / "tokenizer_config.json")["chat_template"])


def _add_tensor(writer: Any, gguf: Any, config: Mapping[str, Any], key: str, tensor: Tensor) -> None:
    """One weight; vectors are stored in float32, since llama.cpp adds and multiplies them so."""
    layers, architecture = config["num_hidden_layers"], NAMES[config["model_type"]]
    kind = next(each for each, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    name = gguf.get_tensor_name_map(kind, layers).get_name(key, try_suffixes=(".weight", ".bias"))
    assert name is not None, f"{key} has no name in GGUF"
    value = rearrange(config, key, tensor)
    kept = (value if value.ndim > 1 else value.float()).contiguous()
    number_type = gguf.GGMLQuantizationType[NUMBER_TYPES[kept.dtype]]
    array = (kept.view(torch.uint8) if kept.dtype == torch.bfloat16 else kept).numpy()  # numpy has no bfloat16
    writer.add_tensor(name, array, raw_dtype=number_type)
    if key.endswith(("embed_in.weight", "embed_tokens.weight")) and config["tie_word_embeddings"]:
        writer.add_tensor("output.weight", array, raw_dtype=number_type)


def rearrange(config: Mapping[str, Any], key: str, tensor: Tensor) -> Tensor:
    """A weight with its rows in the order of llama.cpp."""
    heads, rest = config["num_attention_heads"], tensor.shape[1:]
    if "query_key_value" in key:  # [heads, 3, size, ...] -> [3, heads, size, ...]
        return tensor.view(heads, 3, -1, *rest).transpose(0, 1).reshape(tensor.shape)
    if key.endswith(("q_proj.weight", "k_proj.weight")):  # [heads, 2, size / 2, ...] -> [heads, size / 2, 2, ...]
        count = heads if key.endswith("q_proj.weight") else config["num_key_value_heads"]
        return tensor.view(count, 2, -1, *rest).transpose(1, 2).reshape(tensor.shape)
    return tensor

"""A stock transformers model from a directory, a hub name or a list of sizes. A model directory is data: no pickle, no code."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import nn
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from tunesmith.errors import DataError, MissingInputError, RecipeError
from tunesmith.files import looks_like_path
from tunesmith.model.attention import register
from tunesmith.recipe.families import ENCODER_DECODERS

# Names of rotary settings that published configurations use and transformers still reads into rope_parameters.
ROTARY = ("rotary_pct", "rotary_emb_base", "rope_theta", "partial_rotary_factor")
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
NEITHER = f"neither a causal architecture of transformers nor one of {', '.join(ENCODER_DECODERS)}"
# Dropout comes from model.residual_dropout, whose noise belongs to the example; a model's own would depend on the batch.
OWN_DROPOUT = ("attention_dropout", "hidden_dropout", "attn_pdrop", "resid_pdrop", "embd_pdrop")


OWN_ATTENTION = ("falcon",)  # families that know some attentions by name, and no further ones
CLASSIFIER = "ForSequenceClassification"  # how transformers names the architectures that reward models are of


@dataclass(frozen=True, slots=True)
class Kind:
    """auto: the class of transformers that makes models of this kind. attention: the name that they are made with.
    settings: further entries of their configuration."""

    auto: Any
    attention: str
    settings: Mapping[str, Any] = field(default_factory=dict)


def architecture_of(path: str, revision: str | None = None) -> str:
    """The ``model_type`` of a pretrained model; nothing but its configuration is read.

    Raises MissingInputError or DataError, for a directory those of ``check_weights``.
    """
    if Path(path).is_dir():
        return check_weights(Path(path))
    return str(_configuration_of(path, revision).get("model_type"))


def classifies(path: str, revision: str | None = None) -> bool:
    """Whether a pretrained model is made for classification, as reward models are; raises what ``architecture_of`` raises."""
    architecture_of(path, revision)
    names = _configuration_of(path, revision).get("architectures") or [""]
    return isinstance(names, list) and str(names[0]).endswith(CLASSIFIER)


def _configuration_of(path: str, revision: str | None) -> dict[str, Any]:
    if not Path(path).is_dir() and looks_like_path(path):
        raise MissingInputError("there is no such model directory", where=path, advice="check model.path")
    try:
        content, _ = PretrainedConfig.get_config_dict(path, revision=revision)
    except (OSError, ValueError) as error:
        raise _not_loaded(path, error) from error
    return dict(content)


def load_model(path: str, revision: str | None = None) -> PreTrainedModel:
    """A pretrained model in float32 that writes, causal or encoder-decoder, from a directory or the hub.

    Raises MissingInputError (no such directory or name, no weights) and DataError (pickled, unreadable or missing weights, a
    reward model).
    """
    kind = _kind(architecture_of(path, revision))
    if classifies(path, revision):
        raise DataError(
            "is a reward model: it scores replies and cannot write any",
            where=path,
            advice="name the model that it was made from, or score replies with `tunesmith score`",
        )
    found = read_model(path, revision, kind)
    check_no_missing_weights(found.missing, path)
    return found.model


@dataclass(frozen=True, slots=True)
class Read:
    """A model as it was read. missing: names of weights that were drawn anew. unexpected: of weights that found no place."""

    model: PreTrainedModel
    missing: frozenset[str]
    unexpected: frozenset[str]


def read_model(path: str, revision: str | None, kind: Kind) -> Read:
    """A pretrained model in float32 and what did not fit. Raises MissingInputError."""
    try:
        model, report = kind.auto.from_pretrained(
            path,
            revision=revision,
            attn_implementation=kind.attention,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            **kind.settings,
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, StrictDataclassError) as error:
        raise _not_loaded(path, error) from error
    return Read(settled(model), frozenset(report["missing_keys"]), frozenset(report["unexpected_keys"]))


def check_no_missing_weights(missing: Collection[str], path: str) -> None:
    """Weights that the files do not hold would be noise. Raises DataError."""
    if missing:
        some = ", ".join(sorted(missing)[:3]) + (", ..." if len(missing) > 3 else "")
        raise DataError(
            f"{len(missing)} weights of the model are not in its files ({some})",
            where=path,
            advice="fetch or export the model again; nothing is filled in",
        )


def _kind(architecture: str) -> Kind:
    if architecture in ENCODER_DECODERS:
        return Kind(AutoModelForSeq2SeqLM, "sdpa")
    return Kind(AutoModelForCausalLM, attention_of(architecture, MODEL_FOR_CAUSAL_LM_MAPPING))


def attention_of(architecture: str, classes: Any) -> str:
    """The name of the attention to make a model with: ours, or its own for a family whose code takes none by name, which
    without a mask would look ahead. classes: transformers' table of the models of a kind."""
    name = register()
    if architecture not in CONFIG_MAPPING or CONFIG_MAPPING[architecture] not in classes:
        return name  # refused later, with a reason
    family = classes[CONFIG_MAPPING[architecture]]
    takes_names = family._supports_sdpa or family._supports_attention_backend
    return name if takes_names and architecture not in OWN_ATTENTION else "eager"


def _not_loaded(path: str, error: Exception) -> MissingInputError:
    reason = " ".join(str(error).split())[:300]
    return MissingInputError(
        f"cannot load the model: {reason}", where=path, advice="check the directory or hub name and the connection"
    )


def check_weights(directory: Path) -> str:
    """A directory must hold a configuration and safetensors; weights in a pickle are refused, since opening one runs code.

    Returns the ``model_type`` of the configuration.
    """
    if not (directory / "config.json").is_file():
        raise MissingInputError(
            "no config.json in it", where=directory, advice="model.path names a Hugging Face directory"
        )
    try:
        content = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"not valid JSON: {error}", where=directory / "config.json") from error
    kind = content.get("model_type") if isinstance(content, dict) else None
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in ENCODER_DECODERS:
        # Before transformers could ask whether to run code that the directory brings along.
        raise DataError(
            f"{kind!r} is {NEITHER}",
            where=directory / "config.json",
            advice="code in a model directory is never run",
        )
    if any(directory.glob("*.safetensors")):
        return str(kind)
    pickled = sorted(path.name for pattern in PICKLED for path in directory.glob(pattern))
    if pickled:
        raise DataError(
            f"only pickled weights ({pickled[0]}), which could run code when opened",
            where=directory,
            advice="convert them to safetensors where you trust them",
        )
    raise MissingInputError(
        "no *.safetensors in it", where=directory, advice="model.path names a directory with weights"
    )


def new_model(init: Mapping[str, Any], tokens: int, seed: int, kind: Kind | None = None) -> PreTrainedModel:
    """A model with random weights drawn from ``seed``; ``init`` holds the architecture and the sizes of its configuration.

    tokens: rows of the embedding, unless ``init`` has ``vocab_size``. kind: else one that writes, by the architecture.
    Raises RecipeError on an unknown architecture or size.
    """
    sizes = {"vocab_size": tokens, **{key: value for key, value in init.items() if key != "architecture"}}
    configuration = _configuration(str(init["architecture"]), sizes)
    kind = kind or _kind(str(init["architecture"]))
    configuration.update(dict(kind.settings))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            model = kind.auto.from_config(configuration, attn_implementation=kind.attention)
        except (ValueError, KeyError, ZeroDivisionError, RuntimeError) as error:
            raise RecipeError(f"these sizes make no model: {error}", where="model.init") from error
        if sizes.get("tie_word_embeddings") is False and configuration.is_encoder_decoder:
            _untie(model)
    return settled(model.float())


def _untie(model: PreTrainedModel) -> None:
    """A head of its own, drawn as T5 1.1 draws it: transformers ties the new ones of this family whatever is asked for."""
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    weight = torch.randn_like(head.weight) * head.weight.shape[1] ** -0.5
    head.weight = nn.Parameter(weight)


def _configuration(architecture: str, sizes: Mapping[str, Any]) -> PretrainedConfig:
    known = [*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES]
    known += ENCODER_DECODERS
    if architecture not in known:
        raise RecipeError(
            f"{architecture!r} is {NEITHER}{_nearest(architecture, known)}",
            where="model.init.architecture",
        )
    default = AutoConfig.for_model(architecture)
    allowed = [*default.to_dict(), *default.attribute_map, *ROTARY]
    for key in sizes:
        if key not in allowed:
            raise RecipeError(f"{architecture} has no such size{_nearest(key, allowed)}", where=f"model.init.{key}")
    try:
        configuration: PretrainedConfig = AutoConfig.for_model(architecture, **sizes)
    except (TypeError, ValueError, StrictDataclassError) as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise RecipeError(f"these sizes make no model: {reason}", where="model.init") from error
    return configuration


def _nearest(name: str, known: list[str]) -> str:
    found = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {found[0]!r}?" if found else ""


def settled(model: PreTrainedModel) -> PreTrainedModel:
    """Without dropout of its own; and the configuration of an encoder-decoder says truly whether the head is tied, which
    transformers claims of every T5 (else resizing ties it, and other versions of transformers misread an export), and
    what a reply begins after."""
    if model.config.is_encoder_decoder:
        head: nn.Linear = model.get_output_embeddings()  # type: ignore[no-untyped-call]
        model.config.tie_word_embeddings = head.weight is model.get_input_embeddings().weight
        if getattr(model.config, "decoder_start_token_id", None) is None:
            model.config.decoder_start_token_id = model.config.pad_token_id
    return _without_own_dropout(model)


def _without_own_dropout(model: PreTrainedModel) -> PreTrainedModel:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in ("attention_dropout", "dropout"):  # a number of the module's own, handed to its attention
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    return model

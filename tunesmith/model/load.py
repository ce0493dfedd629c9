"""Stock transformers models from a directory, a hub name or a list of sizes.

A model directory is data: pickled weights are refused, and code in it is never run (``directory``).
"""

from __future__ import annotations

import difflib
import logging
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
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

from tunesmith.errors import DataError, RecipeError, TunesmithError
from tunesmith.model.adapter_files import apply_adapter
from tunesmith.model.attention import register
from tunesmith.model.config_checks import find_config_fault
from tunesmith.model.config_size import check_config_size
from tunesmith.model.configuration import UNSUPPORTED
from tunesmith.model.directory import ModelDirectory, find_model, read_directory
from tunesmith.model.export_manifest import check_weights_unchanged
from tunesmith.model.finite import find_not_finite
from tunesmith.recipe.families import ENCODER_DECODERS
from tunesmith.text.visible import visible

# Names of rotary settings that published configurations use and transformers still reads into rope_parameters.
ROTARY_SIZES = ("rotary_pct", "rotary_emb_base", "rope_theta", "partial_rotary_factor")
FIXED_ATTENTION = ("falcon",)  # families that accept only attentions that they list by name
# Constants that older versions of transformers wrote into the files of causal models, and newer ones compute.
COMPUTED_BUFFERS = ("attn.bias", "attention.bias", ".masked_bias", "rotary_emb.inv_freq")
# Parts of names of weights that read images and sound.
OTHER_MODALITIES = ("vision", "visual", "image", "audio", "speech", "multi_modal", "multimodal")
# Parts of names of attributes of modules. Noise comes from model.residual_dropout only: it belongs to the example,
# whereas the dropout of a model depends on the batch.
DROPOUT_ATTRIBUTES = ("dropout", "pdrop", "layerdrop")


@dataclass(frozen=True, slots=True)
class ModelKind:
    """How transformers builds the models of one kind.

    auto_class: the Auto class, such as AutoModelForCausalLM.
    attention: name of the attention implementation.
    config: further entries of the configuration.
    """

    auto_class: Any
    attention: str
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A pretrained model and the names of weights that did not match its files.

    model: in float32.
    missing: weights of the model that the files do not hold; they are random.
    unexpected: weights in the files that the model does not have.
    """

    model: PreTrainedModel
    missing: frozenset[str]
    unexpected: frozenset[str]


def read_architecture(path: str, revision: str | None = None) -> str:
    """The ``model_type`` of a pretrained model. path: a directory or a hub name. Raises as ``find_model``."""
    return find_model(path, revision).architecture


def read_dtype(path: str, revision: str | None = None) -> str | None:
    """The data type that the configuration of a pretrained model declares, or None. Raises as ``find_model``."""
    content = find_model(path, revision).config.entries
    found = content.get("dtype") or content.get("torch_dtype")
    return found if isinstance(found, str) else None


def is_classifier(path: str, revision: str | None = None) -> bool:
    """Whether a pretrained model is a classification model, as reward models are. Raises as ``find_model``."""
    return find_model(path, revision).is_classifier


def load_model(path: str, revision: str | None = None) -> PreTrainedModel:
    """A pretrained model in float32 that generates text, causal or encoder-decoder.

    path: a directory or a hub name. Raises MissingInputError (no such directory or name, no weights) and DataError
        (pickled, unreadable, missing or unexpected weights, a reward model, a configuration that asks for more than is
        trained here).
    """
    source = find_model(path, revision)
    loaded = read_model(path, revision, language_kind(source, path))
    check_language_model(loaded, path)
    return loaded.model


def language_kind(source: ModelDirectory, path: str) -> ModelKind:
    """How a model is built that generates text. Raises DataError for one that does not, or that is not supported."""
    kind = generating_kind(source.architecture)
    if source.is_classifier:
        raise DataError(
            "this is a reward model: it scores replies and cannot generate any",
            where=path,
            advice="name the model that it was trained from, or score replies with `tunesmith score`",
        )
    if source.config.entries.get("is_encoder_decoder") and kind.auto_class is AutoModelForCausalLM:
        raise DataError(
            f"{source.architecture} is an encoder-decoder, and of these only "
            f"{' and '.join(ENCODER_DECODERS)} are supported",
            where=path,
            advice="use a causal model, T5 or mT5",
        )
    return kind


def check_language_model(loaded: LoadedModel, path: str) -> None:
    """Raises DataError for a configuration that is not trained here, and for missing or unexpected weights."""
    if (fault := find_config_fault(loaded.model.config)) is not None:
        raise DataError(fault[0], where=path, advice=fault[1])
    check_no_missing_weights(loaded.missing, path)
    check_no_unexpected_weights(find_unexpected_weights(loaded), path)


def read_model(path: str, revision: str | None, kind: ModelKind) -> LoadedModel:
    """A pretrained model in float32 and the names of weights that did not match.

    Raises as ``find_model``, and DataError if transformers cannot build it or a weight is not finite.
    """
    source = find_model(path, revision)
    if source.commit is None:
        check_weights_unchanged(Path(path))
    if source.adapter is not None and Path(source.adapter.base).is_dir():
        check_weights_unchanged(Path(source.adapter.base))
    with source.view() as view, quiet_transformers():
        try:
            config = AutoConfig.from_pretrained(str(view), **kind.config)
            check_config_size(source, config, kind.auto_class, kind.attention)
            model, report = kind.auto_class.from_pretrained(
                str(view),
                attn_implementation=kind.attention,
                dtype=torch.float32,
                use_safetensors=True,
                output_loading_info=True,
                **kind.config,
            )
        except TunesmithError:
            raise
        except Exception as error:  # a foreign file makes the library fail in any way
            raise load_error(source, view, error) from error
    model.config.name_or_path = model.name_or_path = path
    given = frozenset[str]() if source.adapter is None else apply_adapter(model, source.adapter)
    check_finite_weights(model, path)
    finalize(model)
    return LoadedModel(model, frozenset(report["missing_keys"]) - given, frozenset(report["unexpected_keys"]))


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No message of transformers is printed in the block: they repeat names from files as they are."""
    log = transformers.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity(logging.CRITICAL + 1)
    log.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()  # type: ignore[no-untyped-call]


def check_finite_weights(model: PreTrainedModel, path: str) -> None:
    """Raises DataError that names the first weight with a number that is not finite."""
    if (name := find_not_finite(model.state_dict())) is not None:
        raise DataError(
            f"the weight {name!r} holds numbers that are not finite (NaN or infinity)",
            where=path,
            advice="fetch or convert the model again, or name another one",
        )


def check_no_missing_weights(missing: Collection[str], path: str) -> None:
    """Weights that the files do not hold would be random. Raises DataError if there are any."""
    if missing:
        raise DataError(
            f"{len(missing)} weights of the model are not in its files ({_list_some(missing)})",
            where=path,
            advice="download or export the model again; missing weights are not filled in",
        )


def find_unexpected_weights(loaded: LoadedModel) -> list[str]:
    """Weights in the files that belong to nothing here: no constants, and no parts for images or sound.

    A model that reads images too may be loaded as its text model, which has no place for the other parts.
    """
    is_part = loaded.model.config.get_text_config() is loaded.model.config
    return sorted(
        name
        for name in loaded.unexpected
        if not name.endswith(COMPUTED_BUFFERS) and not (is_part and any(part in name for part in OTHER_MODALITIES))
    )


def check_no_unexpected_weights(unexpected: Collection[str], path: str) -> None:
    """Weights that the model has no place for would be lost. Raises DataError if there are any."""
    if unexpected:
        raise DataError(
            f"the files hold {len(unexpected)} weights that the model does not have ({_list_some(unexpected)})",
            where=path,
            advice="they were written by other code or for another task; export the model in the form of transformers",
        )


def _list_some(names: Collection[str]) -> str:
    """The first three names in alphabetical order, with an ellipsis for the others."""
    return ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")


def generating_kind(architecture: str) -> ModelKind:
    """How a model that generates text is built."""
    if architecture in ENCODER_DECODERS:
        return ModelKind(AutoModelForSeq2SeqLM, "sdpa")
    return ModelKind(AutoModelForCausalLM, choose_attention(architecture, MODEL_FOR_CAUSAL_LM_MAPPING))


def choose_attention(architecture: str, classes: Any) -> str:
    """The name of the attention implementation to load a model with.

    It is ours, or "eager" for a family whose code accepts no others by name: without a mask those would not be causal.
    classes: transformers' mapping from configurations to the model classes of one kind.
    """
    name = register()
    if architecture not in CONFIG_MAPPING or CONFIG_MAPPING[architecture] not in classes:
        return name  # refused later, with a reason
    family = classes[CONFIG_MAPPING[architecture]]
    accepts_names = family._supports_sdpa or family._supports_attention_backend
    return name if accepts_names and architecture not in FIXED_ATTENTION else "eager"


def load_error(source: ModelDirectory, view: Path, error: Exception) -> DataError:
    """A clear error for any failure of transformers, with the user's name of the model in place of the view's path."""
    text = str(error.__cause__ or error) if isinstance(error, StrictDataclassError) else str(error)
    reason = visible(" ".join(text.replace(str(view), source.name).split()))[:300]
    return DataError(
        f"cannot load the model: {reason or type(error).__name__}",
        where=source.name,
        advice="transformers cannot build a model from these files; fetch the model again",
    )


def read_local_architecture(directory: Path) -> str:
    """The ``model_type`` of the model in a directory, all of whose files may be opened. Raises as ``find_model``."""
    return read_directory(directory).architecture


def new_model(init: Mapping[str, Any], tokens: int, seed: int, kind: ModelKind | None = None) -> PreTrainedModel:
    """A model in float32 with random weights.

    init: the architecture and the sizes of its configuration.
    tokens: rows of the embedding, unless ``init`` has ``vocab_size``.
    seed: the weights depend on it only.
    kind: by default a model that generates text, chosen by the architecture.
    Raises RecipeError for an unknown architecture or size.
    """
    architecture = str(init["architecture"])
    sizes = {"vocab_size": tokens, **{key: value for key, value in init.items() if key != "architecture"}}
    configuration = _make_config(architecture, sizes)
    kind = kind or generating_kind(architecture)
    configuration.update(dict(kind.config))
    with torch.random.fork_rng(devices=[]):  # of the host only: no GPU is opened
        torch.manual_seed(seed)
        try:
            model: PreTrainedModel = kind.auto_class.from_config(configuration, attn_implementation=kind.attention)
        except (ValueError, KeyError, ZeroDivisionError, RuntimeError) as error:
            raise RecipeError(f"no model can be built with these sizes: {error}", where="model.init") from error
        if sizes.get("tie_word_embeddings") is False and configuration.is_encoder_decoder:
            untie_head(model)
    if (fault := find_config_fault(model.config)) is not None:
        raise RecipeError(fault[0], where="model.init", advice="set its key in model.init to false or 0")
    model.float()  # type: ignore[no-untyped-call]
    finalize(model)
    return model


def _correct_tie(model: PreTrainedModel) -> None:
    """Record that the head is separate where files with two different matrices are declared as tied.

    Versions of transformers treat such files differently, so an export would be read as another model.
    """
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()  # type: ignore[no-untyped-call]
    text = model.config.get_text_config()
    if head is not None and getattr(text, "tie_word_embeddings", False) and head.weight is not embedding.weight:
        text.tie_word_embeddings = model.config.tie_word_embeddings = False


def untie_head(model: PreTrainedModel) -> None:
    """Give the model a separate head, initialised as in T5 1.1: transformers ties the head of every new T5."""
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    weight = torch.randn_like(head.weight) * head.weight.shape[1] ** -0.5
    head.weight = nn.Parameter(weight)


def _make_config(architecture: str, sizes: Mapping[str, Any]) -> PretrainedConfig:
    known = [*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, *ENCODER_DECODERS]
    if architecture not in known:
        raise RecipeError(
            f"{architecture!r} is {UNSUPPORTED}{_suggest(architecture, known)}",
            where="model.init.architecture",
        )
    default = AutoConfig.for_model(architecture)
    if (text := default.get_text_config()) is not default:
        raise RecipeError(
            f"{architecture} is made of several models, each with its own sizes",
            where="model.init.architecture",
            advice=f"use its text model, {text.model_type}",
        )
    allowed = [*default.to_dict(), *default.attribute_map, *ROTARY_SIZES]
    for key in sizes:
        if key not in allowed:
            raise RecipeError(f"{architecture} has no such size{_suggest(key, allowed)}", where=f"model.init.{key}")
    try:
        configuration: PretrainedConfig = AutoConfig.for_model(architecture, **sizes)
    except (TypeError, ValueError, StrictDataclassError) as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise RecipeError(f"no model can be built with these sizes: {reason}", where="model.init") from error
    return configuration


def _suggest(name: str, known: list[str]) -> str:
    found = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {found[0]!r}?" if found else ""


def _freeze_other_modalities(model: PreTrainedModel) -> None:
    """Freeze what text does not pass through, in a model that reads images or sound too."""
    text = model.config.get_text_config()
    if text is model.config:
        return
    model.requires_grad_(False)
    inner = [module for module in model.modules() if getattr(module, "config", None) is text]
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    for module in (*inner, *([head] if head is not None else [])):
        module.requires_grad_(True)


def finalize(model: PreTrainedModel) -> None:
    """Switch the dropout of the model off, and correct the configuration of an encoder-decoder.

    transformers records every T5 as tied. Where the head is separate, resizing would tie it, and other versions of
    transformers would misread an export. A missing start token of the decoder becomes the padding token, as in T5.
    """
    if model.config.is_encoder_decoder:
        head: nn.Linear = model.get_output_embeddings()  # type: ignore[no-untyped-call]
        model.config.tie_word_embeddings = head.weight is model.get_input_embeddings().weight
        if getattr(model.config, "decoder_start_token_id", None) is None:
            model.config.decoder_start_token_id = model.config.pad_token_id
    if getattr(model.config, "rescale_every", 0):
        # RWKV divides its weights in place when it evaluates, against overflow in float16; training needs them whole.
        model.config.rescale_every = 0
    _correct_tie(model)
    _freeze_other_modalities(model)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():  # probabilities that a module passes to functions
            if isinstance(value, float) and any(part in name for part in DROPOUT_ATTRIBUTES):
                setattr(module, name, 0.0)

"""The export: a plain Hugging Face directory that stock transformers loads, with prompt format and sampling defaults.

Our own chat and scoring read `tunesmith.json`; other tools get the same prompt format from the chat template. A reward
model is exported in the same way, but without sampling defaults.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel

from tunesmith.errors import StorageError
from tunesmith.files import new_directory, write_file, write_json
from tunesmith.model.adapter_files import PeftAdapter
from tunesmith.model.context import context_length
from tunesmith.model.export_manifest import foreign_files, write_export_manifest
from tunesmith.model.exported_config import write_config
from tunesmith.model.names import ADAPTER, DESCRIPTION
from tunesmith.model.vocabulary import rows_of
from tunesmith.text.formats.format import Format
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tokens.render import Renderer

DEFAULT_CONTEXT = 2048  # model_max_length of a tokenizer whose model sets no limit
PIPELINE = "instruct_pipeline.py"
"""The code of a pipeline for stock transformers, which is a file of this package and is never imported here."""
GREEDY_SETTINGS = ("do_sample", "repetition_penalty", "min_new_tokens", "max_new_tokens")


@dataclass(frozen=True, slots=True)
class ExportInfo:
    """What `tunesmith.json` records about a model.

    format: name of the prompt format.
    options: options of the prompt format.
    max_length: tokens of the longest thread in training.
    sampling: sampling defaults of chat, in the names of transformers.
    base: path or hub name of the model that training started from.
    recipe: name of the recipe.
    steps: optimizer steps of training.
    kind: whether the model generates replies or scores them.
    """

    format: str
    options: Mapping[str, Any]
    max_length: int
    sampling: Mapping[str, Any]
    base: str
    recipe: str
    steps: int
    kind: Literal["assistant", "reward"] = "assistant"


def export(
    directory: Path,
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    format: Format,
    info: ExportInfo,
    dtype: torch.dtype = torch.float32,
    *,
    origin: str = "",
    adapter: PeftAdapter | None = None,
    records: Mapping[str, str] | None = None,
    with_pipeline: bool = False,
) -> Sequence[str]:
    """Write the directory completely or not at all, in place of an existing one.

    dtype: the number format of the weights in the files; the model keeps its own.
    origin: digest of everything that the export is made from, for its manifest.
    adapter: the adapters that ``model`` was merged with; they are written into the directory ``adapter``.
    records: name -> content of further files.
    with_pipeline: whether the export brings the code of a pipeline. A pipeline of stock transformers on it then needs
        ``trust_remote_code``.
    Returns the names of files of the user in the existing directory, which are kept. Raises StorageError.
    """
    extra: dict[str, Any] = {"model_max_length": context_length(model.config) or DEFAULT_CONTEXT}
    template, entries = format.chat_template(), dict[str, Any]()
    if info.kind == "reward":
        if model.config.pad_token_id is not None:
            # Stock transformers finds the end of a reply by skipping this token; its tokenizer has to pad with the
            # same one.
            extra["pad_token"] = tokenizer.decode([model.config.pad_token_id], skip_controls=False)
    else:
        ends = end_tokens(Renderer(format, tokenizer))
        entries = {key: value for key, value in ends.items() if value is not None}
        extra |= _token_names(tokenizer, ends)
    further = dict(records or {})
    if with_pipeline:
        entries["custom_pipelines"] = _pipeline_entry(model)
        further[PIPELINE] = Path(__file__).with_name(PIPELINE).read_text(encoding="utf-8")
    kept = foreign_files(directory)
    with new_directory(directory, kept=kept) as temporary:
        save_model(model, temporary, dtype, entries)
        tokenizer.save(temporary, chat_template=template, extra=extra)
        if info.kind == "assistant":
            start = getattr(model.config, "decoder_start_token_id", None)
            settings = GenerationConfig(  # type: ignore[no-untyped-call]
                **_sampling_settings(info.sampling), **ends, decoder_start_token_id=start
            )
            settings.save_pretrained(temporary)
        write_json(temporary / DESCRIPTION, {"version": 1, **asdict(info)})
        for name, text in further.items():
            write_file(temporary / name, text)
        if adapter is not None:
            (temporary / ADAPTER).mkdir()
            adapter.write(temporary / ADAPTER)
            tokenizer.save(temporary / ADAPTER, chat_template=template, extra=extra)
            write_json(temporary / ADAPTER / DESCRIPTION, {"version": 1, **asdict(info), "rows": rows_of(model)})
        kept = [name for name in kept if not (temporary / name).exists()]
        _set_permissions(temporary)
        write_export_manifest(temporary, origin)
    return kept


def _set_permissions(directory: Path) -> None:
    """Give all files the permissions that the user's umask leaves; safetensors gives its files to their owner only."""
    mode = stat.S_IMODE((directory / DESCRIPTION).stat().st_mode)
    for file in directory.rglob("*"):
        if file.is_file():
            file.chmod(mode)


def _pipeline_entry(model: PreTrainedModel) -> dict[str, Any]:
    """``custom_pipelines`` of config.json: the class of the pipeline, and the Auto class that loads its model."""
    auto = "AutoModelForSeq2SeqLM" if model.config.is_encoder_decoder else "AutoModelForCausalLM"
    implementation = f"{PIPELINE.removesuffix('.py')}.InstructionTextGenerationPipeline"
    return {"text-generation": {"impl": implementation, "pt": [auto]}}


def save_model(
    model: PreTrainedModel,
    directory: Path,
    dtype: torch.dtype = torch.float32,
    entries: Mapping[str, Any] | None = None,
) -> None:
    """Write weights and configuration of a model into a directory that exists.

    dtype: the number format in the files.
    entries: of config.json, in place of those of the model.
    Raises StorageError.
    """
    weights = None if dtype == torch.float32 else _converted(model.state_dict(), dtype)
    try:
        model.save_pretrained(directory, state_dict=weights, safe_serialization=True)
    except SafetensorError as error:  # its form of an error of the disk
        raise StorageError(
            f"the weights cannot be written: {error}", where=directory, advice="free disk space and start again"
        ) from error
    write_config(directory, {"dtype": str(dtype).removeprefix("torch."), **(entries or {})})


def _converted(weights: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """The weights in a number format; tied ones stay one tensor, so that they are written once."""
    found: dict[int, Tensor] = {}
    for value in weights.values():
        if value.is_floating_point():
            found.setdefault(value.data_ptr(), value.to(dtype))
    return {name: found.get(value.data_ptr(), value) for name, value in weights.items()}


def fits(model: PreTrainedModel, dtype: torch.dtype) -> bool:
    """Whether every weight of a model is a finite number in a format; float16 ends at 65,504."""
    largest = torch.finfo(dtype).max
    return all(bool((weight.abs() <= largest).all()) for weight in model.parameters())


def end_tokens(renderer: Renderer) -> dict[str, Any]:
    """The tokens that begin a text, end a reply and pad a batch, in the names of transformers' configurations."""
    tokenizer = renderer.tokenizer
    return {
        "eos_token_id": sorted(renderer.stop_ids) or tokenizer.eos_id,
        "bos_token_id": tokenizer.bos_id,
        "pad_token_id": tokenizer.pad_id if tokenizer.pad_id is not None else tokenizer.eos_id,
    }


def _token_names(tokenizer: Tokenizer, ends: Mapping[str, Any]) -> dict[str, str]:
    """Entries of tokenizer_config.json, so that a tokenizer ends and pads with the tokens of the configurations.

    The end token of a tokenizer that has one stays, since it decides the ids of texts and what a tokenizer is equal to.
    """
    found = {}
    stops = ends["eos_token_id"]
    if isinstance(stops, list) and tokenizer.eos_id is None:
        found["eos_token"] = tokenizer.decode(stops[:1], skip_controls=False)
    if tokenizer.pad_id is None and ends["pad_token_id"] is not None:
        found["pad_token"] = tokenizer.decode([ends["pad_token_id"]], skip_controls=False)
    return found


def _sampling_settings(sampling: Mapping[str, Any]) -> dict[str, Any]:
    """The sampling defaults; without sampling only those that transformers uses then, as it warns about others."""
    if sampling.get("do_sample", True):
        return dict(sampling)
    return {key: value for key, value in sampling.items() if key in GREEDY_SETTINGS}

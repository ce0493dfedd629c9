"""A model that is loaded by rows has the weights, buffers and ties of one that is loaded whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from tests.model.padded import small_t5
from tests.model.rows_cases import CASES, SIZES, VOCABULARY
from tests.model.trees import small_model
from tests.processes import run_cases
from tunesmith.errors import DataError
from tunesmith.model.load import LoadedModel, generating_kind, load_model, new_model, read_model
from tunesmith.model.load_rows import load_rows
from tunesmith.model.reward_model import SINGLE_LABEL, classification_kind

MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": lambda: small_model("llama"),
    "tied llama": lambda: small_model("llama", tied=True),
    "gpt_neox": lambda: small_model("gpt_neox"),
    "t5": small_t5,
    "tied t5": lambda: small_t5(tied=True),
}


def by_rows(path: Path, architecture: str) -> PreTrainedModel | None:
    return load_rows(str(path), None, generating_kind(architecture), lambda loaded: None)


@pytest.mark.parametrize("name", MODELS)
def test_weights_buffers_and_ties_are_those_of_a_model_that_is_loaded_whole(tmp_path: Path, name: str) -> None:
    saved = MODELS[name]().to(torch.bfloat16)
    saved.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1, "the weights are in several files"
    expected, found = load_model(str(tmp_path)), by_rows(tmp_path, saved.config.model_type)
    assert found is not None
    for kind in ("named_parameters", "named_buffers"):
        ours, theirs = (dict(getattr(model, kind)()) for model in (found, expected))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], tensor) and ours[key].dtype == tensor.dtype for key, tensor in theirs.items())
    assert found.config.to_dict() == expected.config.to_dict()
    assert found.training == expected.training
    ids = torch.tensor([[3, 5, 7]])
    inputs = {"input_ids": ids} | ({"decoder_input_ids": ids} if found.config.is_encoder_decoder else {})
    with torch.no_grad():
        assert torch.equal(found(**inputs, use_cache=False).logits, expected(**inputs, use_cache=False).logits)


def test_names_without_the_prefix_of_the_backbone_are_found(tmp_path: Path) -> None:
    small_model("gpt_neox").save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    weights = {name.removeprefix("gpt_neox."): tensor for name, tensor in load_file(file).items()}
    weights["layers.0.attention.rotary_emb.inv_freq"] = torch.ones(4)  # older files have it
    save_file(weights, file, {"format": "pt"})
    found = by_rows(tmp_path, "gpt_neox")
    assert found is not None
    for name, tensor in load_model(str(tmp_path)).state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor)


def change_weights(directory: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Change the tensors of a model with one file in place."""
    file = directory / "model.safetensors"
    weights = load_file(file)
    change(weights)
    save_file(weights, file, {"format": "pt"})


def test_a_model_with_a_weight_of_another_shape_is_not_loaded_by_rows(tmp_path: Path) -> None:
    small_model("llama", tied=True).save_pretrained(tmp_path)
    change_weights(tmp_path, lambda weights: weights.update({"model.norm.weight": torch.ones(7)}))
    assert by_rows(tmp_path, "llama") is None


CHANGES: dict[str, Callable[[dict[str, torch.Tensor]], object]] = {
    "nothing": lambda weights: None,
    "missing": lambda weights: weights.pop("model.norm.weight"),
    "unexpected": lambda weights: weights.update({"other.weight": torch.ones(2)}),
    "older": lambda weights: weights.update({"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}),
    "without prefix": lambda weights: weights.update(
        {name.removeprefix("model."): weights.pop(name) for name in list(weights)}
    ),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("scores", [False, True])
def test_missing_and_unexpected_weights_are_those_of_a_model_that_is_loaded_whole(
    tmp_path: Path, change: str, scores: bool
) -> None:
    small_model("llama").save_pretrained(tmp_path)
    change_weights(tmp_path, CHANGES[change])
    kind = classification_kind("llama", SINGLE_LABEL) if scores else generating_kind("llama")
    expected, found = read_model(str(tmp_path), None, kind), list[LoadedModel]()

    def prepare(loaded: LoadedModel) -> None:
        found.append(loaded)
        for name in loaded.missing:  # as every caller does that does not refuse them: there are no numbers yet
            loaded.model.get_parameter(name).data.zero_()

    load_rows(str(tmp_path), None, kind, prepare)
    assert (found[0].missing, found[0].unexpected) == (expected.missing, expected.unexpected)


@pytest.mark.parametrize("difference", [0, 1])
def test_a_head_in_the_files_is_tied_if_it_is_equal(tmp_path: Path, difference: int) -> None:
    small_model("llama", tied=True).save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"] + difference
    save_file(weights, file, {"format": "pt"})
    found, expected = by_rows(tmp_path, "llama"), load_model(str(tmp_path))
    assert found is not None
    for model in (found, expected):
        assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) == (not difference)
        assert model.config.tie_word_embeddings == (not difference)
    assert torch.equal(found.get_output_embeddings().weight, expected.get_output_embeddings().weight)


def test_a_number_that_is_not_finite_is_an_error(tmp_path: Path) -> None:
    model = small_model("llama")
    with torch.no_grad():
        model.model.norm.weight[3] = float("nan")
    model.save_pretrained(tmp_path)
    with pytest.raises(DataError, match=r"'model.norm.weight' holds numbers that are not finite"):
        by_rows(tmp_path, "llama")


def test_a_process_needs_memory_for_its_rows_only(tmp_path: Path) -> None:
    new_model(SIZES, VOCABULARY, 0).to(torch.bfloat16).save_pretrained(tmp_path / "model", max_shard_size="9MB")
    assert not run_cases(CASES, 2, tmp_path / "processes")

"""An exported directory opens with its own format and sampling; what is wrong with one is said in a line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from tests.text.small_tokenizers import byte_level, write_tokenizer
from tunesmith.errors import DataError, MissingInputError, TunesmithError, UsageError
from tunesmith.generate.export_directory import find_export, open_engine, read_export, read_sampling
from tunesmith.generate.sampling import SamplingParameters
from tunesmith.model.export import ExportInfo, export
from tunesmith.text.formats.registry import build_format
from tunesmith.text.tokenizer.tokenizer import Tokenizer
from tunesmith.text.tree import Message

SAMPLING = {"do_sample": True, "temperature": 0.7, "top_k": 20, "max_new_tokens": 12}


@pytest.fixture
def exported(tmp_path: Path, random_model: Callable[..., PreTrainedModel]) -> Path:
    """A run directory with an export, and nothing else."""
    source = write_tokenizer(tmp_path / "tokenizer", byte_level(), bos="<|endoftext|>", eos="<|endoftext|>")
    format = build_format("oasst", {"predict_next_role": False})
    tokenizer = Tokenizer.load(str(source), format.controls)
    run = tmp_path / "runs" / "one"
    info = ExportInfo("oasst", {"predict_next_role": False}, 64, SAMPLING, "base", "recipe", 3)
    export(run / "export", random_model("llama", rows=448), tokenizer, format, info)
    return run


def test_a_run_and_its_export_open_as_they_were_saved(
    exported: Path, random_model: Callable[..., PreTrainedModel]
) -> None:
    question = [[Message("user", "The cat?")]]
    first, sampling = open_engine(exported)
    second, _ = open_engine(str(exported / "export"))
    assert sampling == SamplingParameters(temperature=0.7, top_k=20, max_new_tokens=12)
    assert first.renderer.format == build_format("oasst", {"predict_next_role": False})
    assert first.complete(question, sampling, 5) == second.complete(question, sampling, 5)
    if not torch.cuda.is_available():
        weights = random_model("llama", rows=448).state_dict()
        assert all(torch.equal(value, weights[name]) for name, value in first.model.state_dict().items())


def test_the_description_is_read_back(exported: Path) -> None:
    info = read_export(exported / "export")
    assert info == ExportInfo("oasst", {"predict_next_role": False}, 64, SAMPLING, "base", "recipe", 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": None}, "'format' is None"),
        ({"format": 3}, "'format' is 3"),
        ({"format": "oast"}, "did you mean 'oasst'"),
        ({"options": []}, "'options' is"),
        ({"options": {"bogus": True}}, "no option 'bogus'"),
        ({"sampling": {"temperature": -1}}, "temperature=-1"),
        ({"sampling": {"temperature": "hot"}}, "temperature='hot'"),
        ({"sampling": {"beams": 4}}, "no setting 'beams'"),
        ({"steps": True}, "'steps' is True"),
    ],
)
def test_a_wrong_description_names_the_file_and_the_entry(exported: Path, change: dict[str, Any], message: str) -> None:
    path = exported / "export" / "tunesmith.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError, match=r"tunesmith\.json") as caught:
        open_engine(exported)
    assert message in str(caught.value)


@pytest.mark.parametrize("content", ["", "{", "[]", "[" * 100_000, "null", "\udcff"])
def test_a_description_that_is_not_an_object_is_refused(exported: Path, content: str) -> None:
    (exported / "export" / "tunesmith.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=r"tunesmith\.json"):
        read_export(exported / "export")


def test_later_entries_of_a_description_do_no_harm(exported: Path) -> None:
    path = exported / "export" / "tunesmith.json"
    path.write_text(json.dumps({"format": "oasst", "colour": "blue"}))
    info = read_export(exported / "export")
    assert info is not None
    assert (info.format, info.options) == ("oasst", {})


def test_a_directory_without_description_needs_a_format(exported: Path) -> None:
    (exported / "export" / "tunesmith.json").unlink()
    with pytest.raises(UsageError, match="--format NAME"):
        open_engine(exported)
    engine, sampling = open_engine(exported, "oasst")
    assert (engine.renderer.format.name, sampling) == ("oasst", SamplingParameters())
    with pytest.raises(DataError, match="format that the model was trained with"):
        open_engine(exported, _too_many_tokens(exported))


def _too_many_tokens(run: Path) -> str:
    """Give the tokenizer so many more tokens that the model has no rows for them."""
    path = run / "export" / "tokenizer.json"
    content = json.loads(path.read_text())
    first = max(token["id"] for token in content["added_tokens"]) + 1
    extra = [dict(content["added_tokens"][0], id=first + i, content=f"<extra{i}>") for i in range(64)]
    path.write_text(json.dumps(content | {"added_tokens": content["added_tokens"] + extra}))
    return "oasst"


def test_another_format_than_the_trained_one_is_refused(exported: Path) -> None:
    with pytest.raises(UsageError, match="trained with prompt format 'oasst', not 'dolly'"):
        open_engine(exported, "dolly")


def test_weights_in_a_pickle_are_refused_unopened(exported: Path) -> None:
    directory = exported / "export"
    (directory / "model.safetensors").unlink()
    (directory / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch canary'\ntR.")
    with pytest.raises(DataError, match="pickled weights"):
        open_engine(exported)


@pytest.mark.parametrize("kind", ["my_own", None, 3, "vit"])
def test_code_in_a_model_directory_is_never_run_nor_asked_about(exported: Path, tmp_path: Path, kind: Any) -> None:
    directory = exported / "export"
    canary = tmp_path / "canary"
    config = json.loads((directory / "config.json").read_text())
    config |= {"model_type": kind, "auto_map": {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}}
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "code.py").write_text(f"open({str(canary)!r}, 'w').close()")
    with pytest.raises(DataError, match="never run"):
        open_engine(exported)
    assert not canary.exists()


def test_a_known_architecture_with_code_is_loaded_without_the_code(exported: Path, tmp_path: Path) -> None:
    directory = exported / "export"
    canary = tmp_path / "canary"
    config = json.loads((directory / "config.json").read_text())
    config |= {"auto_map": {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}}
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "code.py").write_text(f"open({str(canary)!r}, 'w').close()")
    engine, _ = open_engine(exported)
    assert type(engine.model).__module__.startswith("transformers.")
    assert not canary.exists()


def test_a_directory_without_a_model_is_refused_with_the_reason(tmp_path: Path, exported: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "unfinished" / "checkpoints").mkdir(parents=True)
    for name, message in (
        ("nowhere", "no such directory"),
        ("empty", "no config.json"),
        ("unfinished", "no export yet"),
    ):
        with pytest.raises(MissingInputError, match=message):
            find_export(tmp_path / name)
    assert find_export(exported) == find_export(exported / "export")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_damaged_file_is_one_clear_error(exported: Path, name: str) -> None:
    (exported / "export" / name).write_bytes(b"\x00not what it was")
    with pytest.raises(TunesmithError) as caught:
        open_engine(exported)
    assert str(exported) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_null_means_the_default() -> None:
    assert read_sampling({"temperature": None, "top_k": 5}) == SamplingParameters(top_k=5)

"""Our adapters in the files of peft, theirs in ours, and any foreign file: it loads, or is refused in one line."""

from __future__ import annotations

import json
import shutil
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from tests.model.trees import SIZES, VOCABULARY, small_model
from tunesmith.errors import DataError, MissingInputError, TunesmithError
from tunesmith.model.adapter_config import check_adapter_config
from tunesmith.model.adapter_files import peft_adapter
from tunesmith.model.adapters import AdapterSettings, add_adapters, merge_adapters, train_rows
from tunesmith.model.directory import read_directory
from tunesmith.model.load import load_model, new_model
from tunesmith.model.reward_model import load_reward_model, new_reward_model

peft = pytest.importorskip("peft")

SETTINGS = AdapterSettings(4, 8.0, rank_stabilized=True)
IDS = torch.arange(40, 40 + 60).remainder(VOCABULARY).view(3, 20)
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@torch.no_grad()
def log_probabilities(model: PreTrainedModel) -> Tensor:
    model.eval()
    return torch.log_softmax(model(input_ids=IDS).logits.float(), -1)


@torch.no_grad()
def shift(model: PreTrainedModel) -> None:
    draw = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=draw))


GPT2 = {"architecture": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 4}
ARCHITECTURES = (*sorted(SIZES), "gpt2")


def write_adapter(root: Path, *, architecture: str = "llama", tied: bool = False, rows: bool = True) -> Tensor:
    """Write a base and an adapter on it; returns the log-probabilities of the adapted model."""
    tied = tied or architecture == "gpt2"
    base = new_model(GPT2, VOCABULARY, 0) if architecture == "gpt2" else small_model(architecture, tied=tied)
    base.save_pretrained(root / "base")
    add_adapters(base, SETTINGS, 1)
    if rows:
        train_rows(base, VOCABULARY - 30, VOCABULARY - 5)
    shift(base)
    (root / "adapter").mkdir()
    peft_adapter(base, SETTINGS, str(root / "base"), None, "CAUSAL_LM").write(root / "adapter")
    merge_adapters(base)
    return log_probabilities(base)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_peft_computes_the_same_log_probabilities_with_our_adapter(
    architecture: str, tied: bool, tmp_path: Path
) -> None:
    expected = write_adapter(tmp_path, architecture=architecture, tied=tied)
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    assert float((log_probabilities(base) - expected).abs().max()) > 0.01
    with_adapter = peft.PeftModel.from_pretrained(base, tmp_path / "adapter")
    assert float((log_probabilities(with_adapter) - expected).abs().max()) < 1e-5


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_directory_of_adapters_is_the_model_that_they_make_of_their_base(architecture: str, tmp_path: Path) -> None:
    expected = write_adapter(tmp_path, architecture=architecture)
    found = load_model(str(tmp_path / "adapter"))
    assert float((log_probabilities(found) - expected).abs().max()) < 1e-5
    assert {CONFIG, WEIGHTS, "config.json", "model.safetensors"} <= read_directory(
        tmp_path / "adapter"
    ).digests().keys()


def test_an_adapter_that_peft_wrote_is_read(tmp_path: Path) -> None:
    small_model("llama").save_pretrained(tmp_path / "base")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    config = peft.LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=["q_proj", "down_proj"],
        rank_pattern={"down_proj": 2},
        task_type="CAUSAL_LM",
        trainable_token_indices=[3, 9],
    )
    theirs = peft.get_peft_model(base, config)
    shift(theirs)
    expected = log_probabilities(theirs)
    theirs.save_pretrained(tmp_path / "adapter")
    assert float((log_probabilities(load_model(str(tmp_path / "adapter"))) - expected).abs().max()) < 1e-5


def test_rows_of_new_tokens_make_the_embedding_longer(tmp_path: Path) -> None:
    base = small_model("llama")
    base.save_pretrained(tmp_path / "base")
    base.resize_token_embeddings(VOCABULARY + 5, mean_resizing=False)
    add_adapters(base, SETTINGS, 1)
    train_rows(base, VOCABULARY, VOCABULARY + 5, trained=False)
    shift(base)
    (tmp_path / "adapter").mkdir()
    peft_adapter(base, SETTINGS, "../base", None, "CAUSAL_LM").write(tmp_path / "adapter")
    merge_adapters(base)
    found = load_model(str(tmp_path / "adapter"))
    assert found.config.vocab_size == VOCABULARY + 5
    assert float((log_probabilities(found) - log_probabilities(base)).abs().max()) < 1e-5


def test_the_adapter_of_a_reward_model_holds_its_head(tmp_path: Path) -> None:
    small_model("llama").save_pretrained(tmp_path / "base")
    model = new_reward_model({"architecture": "llama", **SIZES["llama"]}, VOCABULARY, 0)
    model.model.load_state_dict(small_model("llama").model.state_dict())
    add_adapters(model, SETTINGS, 1)
    model.score.requires_grad_(True)
    shift(model)
    (tmp_path / "adapter").mkdir()
    peft_adapter(model, SETTINGS, str(tmp_path / "base"), None, "SEQ_CLS").write(tmp_path / "adapter")
    merge_adapters(model)
    found = load_reward_model(str(tmp_path / "adapter"))
    states = [each.state_dict() for each in (found, model)]
    assert states[0].keys() == states[1].keys()
    assert all(float((states[0][name] - states[1][name]).abs().max()) < 1e-6 for name in states[0])
    with pytest.raises(DataError, match="this is a reward model"):
        load_model(str(tmp_path / "adapter"))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sound")
    write_adapter(root)
    return root


@pytest.fixture
def root(sound: Path, tmp_path: Path) -> Path:
    """A base and an adapter that a test may change."""
    shutil.copytree(sound, tmp_path / "root")
    return change(tmp_path / "root", base_model_name_or_path="../base")


def change(root: Path, **entries: Any) -> Path:
    """Set entries of the configuration."""
    path = root / "adapter" / CONFIG
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))
    return root


UNSUPPORTED: list[tuple[dict[str, Any], str]] = [
    ({"peft_type": "IA3"}, "peft_type is 'IA3', and only LORA is supported"),
    ({"use_dora": True}, "the adapter uses 'use_dora', which is not supported"),
    ({"bias": "lora_only"}, "the adapter uses bias 'lora_only'"),
    ({"modules_to_save": ["lm_head"]}, r"the adapter uses modules_to_save \['lm_head'\]"),
    ({"alpha_pattern": {"q_proj": 3}}, "the adapter uses 'alpha_pattern'"),
    ({"init_lora_weights": "pissa"}, "init_lora_weights 'pissa', which changes the weights of the base"),
    ({"layer_replication": [[0, 2]]}, "the adapter uses 'layer_replication'"),
    ({"\x1b[2J": 1}, "the adapter uses"),
    ({"lora_alpha": "8"}, "lora_alpha is '8', but must be a number above 0"),
    ({"r": True}, "r is True, but must be a whole number"),
    ({"use_rslora": "yes"}, "use_rslora is 'yes', but must be true or false"),
    ({"task_type": "TOKEN_CLS"}, "task_type is 'TOKEN_CLS'"),
    ({"trainable_token_indices": [1, 1]}, "trainable_token_indices does not list token ids"),
    ({"trainable_token_indices": None}, r"rows of '.*' are not those of trainable_token_indices"),
    ({"base_model_name_or_path": None}, "the adapter does not name its base model"),
    ({"base_model_name_or_path": "./missing"}, r"the base model './missing' of these adapters is missing"),
    ({"base_model_name_or_path": "a" * 300}, "has too long a name"),
    ({"base_model_name_or_path": "."}, "the base model of these adapters is a directory of adapters"),
]


@pytest.mark.parametrize(("entries", "message"), UNSUPPORTED)
def test_what_is_not_computed_here_is_refused_by_name(
    entries: dict[str, Any], message: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root / "adapter")
    with pytest.raises((DataError, MissingInputError), match=message) as caught:
        load_model(str(change(root, **entries) / "adapter"))
    assert "\x1b" not in str(caught.value)


def rename(root: Path, old: str, new: str) -> None:
    tensors = load_file(root / "adapter" / WEIGHTS)
    save_file({name.replace(old, new): tensor for name, tensor in tensors.items()}, root / "adapter" / WEIGHTS)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("layers.1.mlp.up_proj", "layers.7.mlp.up_proj", "has no linear layer 'model.layers.7.mlp.up_proj'"),
        ("layers.1.mlp.up_proj.lora_A", "layers.1.mlp.up_proj.lora_magnitude_vector", "which is not supported"),
        ("layers.1.mlp.up_proj.lora_A.", "layers.1.mlp.gate_proj.lora_A2.", "which is not supported"),
        ("model.model.embed_tokens", "model.model.norm", "has no embedding or head 'model.norm'"),
    ],
)
def test_tensors_that_do_not_belong_to_the_base_are_refused(old: str, new: str, message: str, root: Path) -> None:
    rename(root, old, new)
    with pytest.raises(DataError, match=message):
        load_model(str(root / "adapter"))


def test_matrices_of_another_size_and_numbers_that_are_not_finite_are_refused(root: Path) -> None:
    path = root / "adapter" / WEIGHTS
    tensors = load_file(path)
    name = next(name for name in tensors if name.endswith("lora_A.weight"))
    save_file({**tensors, name: tensors[name][:, :-1].clone()}, path)
    with pytest.raises(DataError, match="do not fit a layer with"):
        load_model(str(root / "adapter"))
    save_file({**tensors, name: tensors[name] * float("nan")}, path)
    with pytest.raises(DataError, match="not finite"):
        load_model(str(root / "adapter"))
    for wrong in (tensors[name][:0].clone(), tensors[name].to(torch.float8_e4m3fn)):
        save_file({**tensors, name: wrong}, path)
        with pytest.raises(DataError, match="is not a matrix of numbers"):
            load_model(str(root / "adapter"))
    save_file(tensors, path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="the adapter cannot be read"):
        load_model(str(root / "adapter"))


def test_an_adapter_of_a_head_that_is_the_embedding_too_is_refused(tmp_path: Path) -> None:
    write_adapter(tmp_path, tied=True, rows=False)
    path, layer = tmp_path / "adapter" / WEIGHTS, "base_model.model.lm_head"
    hidden = int(SIZES["llama"]["hidden_size"])
    matrices = {f"{layer}.lora_A.weight": torch.ones(2, hidden), f"{layer}.lora_B.weight": torch.ones(VOCABULARY, 2)}
    save_file({**load_file(path), **matrices}, path)
    with pytest.raises(DataError, match="'lm_head', whose weight is also that of the embedding"):
        load_model(str(tmp_path / "adapter"))


def test_a_pickled_adapter_is_never_opened(root: Path) -> None:
    (root / "adapter" / WEIGHTS).rename(root / "adapter" / "adapter_model.bin")
    with pytest.raises(DataError, match="pickled"):
        load_model(str(root / "adapter"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(
    [
        *("peft_type", "base_model_name_or_path", "revision", "task_type", "r", "lora_alpha", "use_rslora", "bias"),
        *("modules_to_save", "trainable_token_indices", "init_lora_weights", "target_modules", "use_dora"),
    ]
)
SOUND = {"peft_type": "LORA", "base_model_name_or_path": "base", "r": 8, "lora_alpha": 16}


@contextmanager
def one_line() -> Iterator[None]:
    """The block ends, or has an error of the user without a character that a terminal would obey."""
    try:
        yield
    except TunesmithError as error:
        if any(unicodedata.category(each) == "Cc" for each in str(error)):
            raise AssertionError(str(error)) from error


@settings(max_examples=100, deadline=None)
@given(entries=st.dictionaries(KEYS | st.text(max_size=12), JSON, max_size=3))
def test_any_configuration_is_read_or_is_one_line(entries: dict[str, Any]) -> None:
    with one_line():
        found = check_adapter_config({**SOUND, **entries}, Path("adapter_config.json"))
        assert found.base
        assert 0 < found.scale(8) < float("inf")


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tokens=JSON | st.lists(st.integers(0, 300), min_size=1, max_size=25))
def test_any_rows_load_or_are_one_line(tokens: Any, root: Path) -> None:
    change(root, trainable_token_indices={"embed_tokens": tokens, "lm_head": tokens})
    with one_line():
        load_model(str(root / "adapter"))

"""Runs that train adapters: they learn, resume to the bit, save little, and export stock models and PEFT files."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from tests.model.trees import small_model
from tests.runs import digests, files_with
from tests.worlds import ppo_recipe, preference_recipe, small_recipe
from tunesmith.compose import train_recipe
from tunesmith.compose.models.adapted import adapter_settings
from tunesmith.compose.models.base_identity import check_base
from tunesmith.compose.run_export import load_checkpoint_model
from tunesmith.errors import MissingInputError, RecipeError, StoppedError, StorageError, TunesmithError
from tunesmith.generate.export_directory import open_engine
from tunesmith.model.actor_critic import backbone_like
from tunesmith.model.adapters import AdapterSettings, add_adapters, features, find_layers
from tunesmith.model.load import load_model
from tunesmith.model.policy import Policy
from tunesmith.model.reward_model import load_reward_model
from tunesmith.recipe.load import LoadedRecipe, load
from tunesmith.train.run import checkpoint

Recipe = Callable[..., LoadedRecipe]
LORA = ["model.adapter={rank: 4, alpha: 8, learning_rate_factor: 3}"]
SHORT = [*LORA, "train.steps=3", "train.evaluate_every=2", "train.save_every=null", "evaluate.show=0"]
BF16 = [*SHORT, "model.dtype=bfloat16", "model.adapter.base=bfloat16"]

CASES: list[tuple[Recipe, str, list[str]]] = [
    (small_recipe, "gpt_neox", [*BF16, "run.export=best", "model.gradient_checkpointing=true"]),
    (small_recipe, "t5", [*SHORT, "train.optimizer={kind: adafactor}"]),
    (small_recipe, "llama", [*SHORT, "train.moments=8bit", "train.optimizer={kind: muon}"]),
    (preference_recipe, "llama", SHORT),
    (preference_recipe, "llama", [*SHORT, "objective={kind: reward}", "model.residual_dropout=0"]),
    (ppo_recipe, "llama", SHORT),
]

BASE_ROWS = 430
PYTHIA = {"hidden_size": 5120, "num_hidden_layers": 36, "intermediate_size": 20480, "num_attention_heads": 40}
LLAMA = {"hidden_size": 5120, "num_hidden_layers": 40, "intermediate_size": 13824, "num_attention_heads": 40}
SHAPES = [("gpt_neox", {**PYTHIA, "vocab_size": 50688}), ("llama", {**LLAMA, "vocab_size": 32000})]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize(("make", "architecture", "words"), CASES)
def test_a_run_that_was_stopped_ends_as_if_never_stopped(
    make: Recipe, architecture: str, words: list[str], tmp_path: Path
) -> None:
    whole = train_recipe(make(tmp_path, [*words, f"run.directory={tmp_path}/a"], architecture=architecture)).directory
    with pytest.raises(StoppedError):
        train_recipe(make(tmp_path, [*words, f"run.directory={tmp_path}/b", "train.stop_after=1"]))
    again = train_recipe(make(tmp_path, [*words, f"run.directory={tmp_path}/b"])).directory
    assert digests(again) == digests(whole)
    saved = load_file(whole / "checkpoints" / "step-000003" / "model.safetensors")
    assert all(".adapter." in name for name in saved if name != "score.weight")


def with_base(root: Path, words: list[str]) -> LoadedRecipe:
    """A recipe that starts from a model directory in place of random weights."""
    if not (root / "base").exists():
        words_of_base = ["train.steps=1", "train.evaluate_every=null", "train.save_every=null", "model.resize=none"]
        run = train_recipe(small_recipe(root, [*words_of_base, f"run.directory={root}/base-run"])).directory
        shutil.copytree(run / "export", root / "base")
    return small_recipe(root, ["model.init=null", f"model.path={root}/base", *words])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on a model directory."""
    return train_recipe(with_base(tmp_path_factory.mktemp("lora"), [*LORA, "train.steps=15"])).directory


def logits(model: PreTrainedModel) -> Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=torch.arange(3, 43)[None]).logits


def test_it_learns_and_saves_only_what_it_trains(run: Path) -> None:
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [record["loss"] for record in records if "gradient_norm" in record]
    assert losses[-1] < losses[0] - 0.3
    rates = [record["learning_rate"] for record in records if "learning_rate" in record]
    assert max(rates) == pytest.approx(3e-2), "three times the rate of the recipe"
    last = run / "checkpoints" / "step-000015"
    saved, state = load_file(last / "model.safetensors"), load_file(last / "optimizer.safetensors")
    assert all(".adapter." in name for name in (*saved, *state))
    facts = json.loads((last / "MANIFEST.json").read_text())["facts"]
    assert facts["base"] == json.loads((run / "manifest.json").read_text())["model"]["digest"]


def test_export_adapter_directory_and_checkpoint_are_the_same_model(run: Path) -> None:
    expected = logits(load_model(str(run / "export")))
    assert float((logits(load_model(str(run.parent / "base"))) - expected[..., :BASE_ROWS]).abs().max()) > 0.1
    assert float((logits(load_model(str(run / "export" / "adapter"))) - expected).abs().max()) < 1e-5
    found = load_checkpoint_model(run, "last", pytest.fail)
    assert float((logits(found.model) - expected).abs().max()) < 1e-5
    engine, _ = open_engine(run / "export" / "adapter")
    assert float((logits(engine.model) - expected).abs().max()) < 1e-5


def test_an_export_names_its_base_without_the_place_of_it(run: Path, tmp_path: Path) -> None:
    assert "manifest.json" in files_with(run, str(run.parent))
    assert files_with(run / "export", str(run.parent)) == []
    for name, key in (("tunesmith.json", "base"), ("adapter/adapter_config.json", "base_model_name_or_path")):
        assert json.loads((run / "export" / name).read_text())[key] == "base"
    assert json.loads((run / "export" / "run-manifest.json").read_text())["model"]["path"] == "base"
    shutil.copytree(run / "export" / "adapter", tmp_path / "adapter")
    with pytest.raises(MissingInputError, match=r"the base model 'base' of these adapters is missing"):
        load_model(str(tmp_path / "adapter"))
    shutil.copytree(run.parent / "base", tmp_path / "adapter" / "base")
    assert torch.equal(logits(load_model(str(tmp_path / "adapter"))), logits(load_model(str(run / "export/adapter"))))


def test_the_finished_run_is_complete_and_a_lost_adapter_is_written_again(run: Path) -> None:
    before = digests(run)
    files = sorted(path.name for path in (run / "export" / "adapter").iterdir())
    (run / "export" / "adapter" / "adapter_model.safetensors").unlink()
    train_recipe(with_base(run.parent, [*LORA, "train.steps=15"]))
    assert digests(run) == before
    assert sorted(path.name for path in (run / "export" / "adapter").iterdir()) == files


def test_a_checkpoint_of_another_base_is_refused(tmp_path: Path) -> None:
    words = [*SHORT, "train.stop_after=1"]
    with pytest.raises(StoppedError):
        train_recipe(with_base(tmp_path, words))
    weights = tmp_path / "base" / "model.safetensors"
    (tmp_path / "base" / "tunesmith-manifest.json").unlink()
    save_file({name: tensor * 1.01 for name, tensor in load_file(weights).items()}, weights, {"format": "pt"})
    with pytest.raises(RecipeError, match="base model is not the one that the run was started with"):
        load_checkpoint_model(tmp_path / "run", "last", pytest.fail)
    with pytest.raises(TunesmithError, match=r"model\.files|files of the model"):
        train_recipe(with_base(tmp_path, words))


def test_adapters_on_another_base_are_refused(run: Path) -> None:
    found = checkpoint.newest(run / "checkpoints", pytest.fail)
    assert found is not None
    check_base(found, found.facts)
    with pytest.raises(StorageError, match="trained on another base model"):
        check_base(found, {**found.facts, "base": "0" * 32})


def test_a_directory_of_adapters_is_where_a_run_and_a_reward_model_start(run: Path, tmp_path: Path) -> None:
    adapter = run / "export" / "adapter"
    words = ["model.init=null", f"model.path={adapter}", f"model.tokenizer={adapter}", *SHORT]
    words = [*words, "model.resize=none", "objective={kind: reward}", "text.format=dolly", "model.residual_dropout=0"]
    reward = train_recipe(preference_recipe(tmp_path, words)).directory
    assert not (reward / "export" / "adapter").exists(), "peft reads no adapters on adapters"
    assert load_reward_model(str(reward / "export")).score.weight.shape[0] == 1
    saved = load_file(reward / "checkpoints" / "step-000003" / "model.safetensors")
    assert "score.weight" in saved


def test_dpo_starts_at_ln_2_and_learns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train_recipe(preference_recipe(tmp_path, [*SHORT, "model.residual_dropout=0"])).directory
    assert "model and reference are equal before the first step (loss 0.6931, mean margin 0)" in capsys.readouterr().err
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [record["loss"] for record in records if "gradient_norm" in record]
    assert losses[0] == pytest.approx(math.log(2), abs=1e-6)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("value", ["shared", "{tmp}/reward-model"])
def test_a_value_function_has_its_head_and_adapters_only(value: str, tmp_path: Path) -> None:
    value = value.format(tmp=tmp_path)
    words = [*SHORT, "train.steps=2", "data.validation=0", "train.evaluate_every=null"]
    run = train_recipe(ppo_recipe(tmp_path, words, value=value)).directory
    names = load_file(run / "checkpoints" / "step-000002" / "value.safetensors")
    assert "head.weight" in names
    adapters = [name for name in names if name.startswith("backbone.")]
    assert all(".adapter." in name for name in adapters)
    assert bool(adapters) == (value != "shared")


def test_a_separate_value_function_shares_the_frozen_weights() -> None:
    model = small_model("llama")
    add_adapters(model, AdapterSettings(4, 8.0), 0)
    backbone = backbone_like(Policy(model))
    own, shared = dict(model.model.named_parameters()), dict(backbone.model.named_parameters())
    for name, parameter in shared.items():
        assert (parameter is own[name]) == (".adapter." not in name), name
    with torch.no_grad():
        for name, parameter in shared.items():
            if ".adapter." in name:
                parameter.add_(0.1)
    states = [each(input_ids=torch.arange(9)[None]).last_hidden_state for each in (model.model, backbone.model)]
    assert float((states[0] - states[1]).detach().abs().max()) > 0.01


@pytest.mark.parametrize(("architecture", "sizes"), SHAPES)
def test_a_checkpoint_has_less_than_a_fiftieth_of_a_base_in_16_bits(architecture: str, sizes: dict[str, int]) -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **sizes))
    base = sum(each.numel() for each in model.parameters())
    keys = load(["sft", "lora"], ["model.path=m", "data.sources.0.path=mine.jsonl"]).recipe.model.adapter
    assert keys is not None
    settings = adapter_settings(keys)
    adapters = sum(settings.rank * sum(features(layer)) for layer in find_layers(model, settings.targets).values())
    assert 3 * 4 * adapters < 0.02 * 2 * base, "float32 weights and two moments"


def test_storage_of_all_weights_is_refused_for_adapters() -> None:
    words = ["model.path=m", "data.sources.0.path=mine.jsonl"]
    with pytest.raises(RecipeError, match=r"train\.weights.*with model\.adapter the trained weights are few"):
        load(["sft", "lora"], [*words, "model.dtype=bfloat16", "train.weights=split"])
    with pytest.raises(RecipeError, match=r"model\.adapter\.base.*needs a forward pass in bfloat16"):
        load(["sft", "lora"], [*words, "model.adapter.base=bfloat16", "model.dtype=float32"])


def test_qlora_without_a_gpu_is_refused_before_the_first_step(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="qlora needs a CUDA GPU"):
        train_recipe(small_recipe(tmp_path, ["model.adapter={kind: qlora}"]))

"""The calls that a card prints run as they are printed; cards of every method and of adapters."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard

from tests.serve.served import LOG, end_models, new_parts, running_server
from tests.worlds import ppo_recipe, preference_recipe, small_recipe
from tunesmith.cli.card import card as card_command
from tunesmith.cli.train import train as train_command
from tunesmith.compose import train_recipe
from tunesmith.generate.export_directory import open_engine
from tunesmith.publish.card.writing import write_card
from tunesmith.recipe.load import LoadedRecipe
from tunesmith.serve.app.settings import ServerSettings
from tunesmith.serve.engine.load import LoadLimits
from tunesmith.serve.engine.models import ServedModels, new_served_model

BRIEF = ("train.steps=2", "train.save_every=2", "train.evaluate_every=null", "data.validation=0")
RECIPES: dict[str, Callable[[Path, list[str]], LoadedRecipe]] = {
    "causal": lambda root, given: small_recipe(root, given),
    "t5": lambda root, given: small_recipe(root, given, architecture="t5"),
    "adapter": lambda root, given: small_recipe(root, [*given, "model.adapter={rank: 2, alpha: 4}"]),
    "dpo": lambda root, given: preference_recipe(root, given),
    "reward": lambda root, given: preference_recipe(root, [*given, "objective={kind: reward}"]),
    "ppo": lambda root, given: ppo_recipe(root, given),
}


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """export("dpo") -> the export of a finished run with its card."""
    torch.set_num_threads(1)

    def build(name: str) -> Path:
        root = tmp_path_factory.mktemp(name)
        given = [f"run.directory={root / 'run'}", *BRIEF, "sampling.max_new_tokens=8", "card.license=mit"]
        return write_card(train_recipe(RECIPES[name](root, given)).directory, lambda text: None).parent

    return cache(build)


def usage(export: Path) -> str:
    text = (export / "README.md").read_text(encoding="utf-8")
    return text[text.index("## Usage") :].split("\n## ")[0]


def printed_examples(export: Path) -> list[str]:
    """The Python code of the card, with the directory of the model in it."""
    found = re.findall(r"```python\n(.*?)```", usage(export), re.DOTALL)
    return [each.replace("DIRECTORY", str(export)) for each in found]


def run_example(example: str) -> str:
    """What an example prints."""
    written = io.StringIO()
    with contextlib.redirect_stdout(written):
        exec(compile(example, "card", "exec"), {})
    return written.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["causal", "t5", "adapter"])
def test_the_printed_calls_run_and_write_a_reply(name: str, export: Callable[[str], Path]) -> None:
    directory = export(name)
    examples = [each for each in printed_examples(directory) if "OpenAI" not in each]
    assert len(examples) == (2 if name == "t5" else 3)
    assert [each for each in examples if not run_example(each).endswith("\n")] == []


@pytest.mark.slow
def test_the_printed_client_gets_a_reply_from_a_server(export: Callable[[str], Path]) -> None:
    engine, sampling = open_engine(export("causal"))
    model = new_served_model("causal", engine, sampling, LoadLimits(), LOG.append)
    model.thread.start()
    models = ServedModels([model])
    (example,) = [each for each in printed_examples(export("causal")) if "OpenAI" in each]
    with running_server(new_parts(models, ServerSettings(port=0))) as address:
        assert run_example(example.replace("http://127.0.0.1:8000", address)).endswith("\n")
    end_models(models)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("adapter", ["low-rank adapters were trained and merged", "| `adapter` | `lora: rank 2, alpha 4,"]),
        ("dpo", ["(DPO)", "| `beta` | `0.1` |"]),
        ("reward", ["## Scoring", "tunesmith score DIRECTORY", "writes no replies"]),
        ("ppo", ["(PPO)", "| `rewards` | `model: path reward-model, scale 3, offset 0; check: path checks.jsonl,"]),
    ],
)
def test_a_card_says_how_its_model_was_trained(name: str, said: list[str], export: Callable[[str], Path]) -> None:
    path = export(name) / "README.md"
    text = path.read_text(encoding="utf-8")
    assert [each for each in said if each not in text] == []
    assert str(path.parent.parent.parent) not in text
    found = ModelCard.load(path).data.to_dict()
    assert found["pipeline_tag"] == ("text-classification" if name == "reward" else "text-generation")
    assert found["license"] == "mit"


def test_training_writes_the_card_and_the_command_writes_it_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_recipe(tmp_path)
    changes = [f"run.directory={tmp_path / 'mine'}", *BRIEF]
    train_command(str(tmp_path / "recipe.yaml"), changes)
    path = tmp_path / "mine" / "export" / "README.md"
    notices = [line for line in capsys.readouterr().err.splitlines() if line.startswith("card: ")]
    assert f"card: written to {path}" in notices
    assert "card: the card has no license: set card.license in the recipe" in notices
    before = path.read_bytes()
    assert re.search(rb"These steps alone took 0:0\d:\d\d \(hours, minutes, seconds\)\.", before)
    path.unlink()
    card_command(tmp_path / "mine")
    captured = capsys.readouterr()
    assert captured.out == f"{path}\n"
    assert "card: the card has no license" in captured.err
    assert path.read_bytes() == before

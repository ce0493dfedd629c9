"""Cards of exports in other places and of other checkpoints, and what `push` refuses: another model, edits by hand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard

from tests.publish.card.card_runs import copy_run
from tests.publish.card.test_usage import run_example
from tests.text.small_tokenizers import byte_level, write_tokenizer
from tests.worlds import small_recipe
from tunesmith.cli.card import card as card_command
from tunesmith.cli.export import export as export_command
from tunesmith.compose import train_recipe
from tunesmith.errors import DataError, MissingInputError, UsageError
from tunesmith.model.load import new_model
from tunesmith.publish.card.found import find_card_faults
from tunesmith.publish.card.writing import write_card
from tunesmith.publish.hub.command import run as push_command
from tunesmith.publish.hub.push import Access

BRIEF = ["train.steps=2", "train.save_every=1", "train.evaluate_every=1", "train.keep=5", "data.validation=4"]
BRIEF += ["train.log_every=1", "sampling.max_new_tokens=8", "card.license=mit"]


def ignore(text: str) -> None:
    pass


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return train_recipe(small_recipe(tmp_path_factory.mktemp("elsewhere"), BRIEF)).directory


@pytest.fixture
def run(trained_run: Path, tmp_path: Path) -> Path:
    return copy_run(trained_run, tmp_path / "run")


def push(directory: Path) -> None:
    """As `tunesmith push DIR hub:me/model --dry-run`."""
    push_command(directory, "hub:me/model", Access(), allowed=(), message="", replace=False, dry_run=True)


def test_a_card_of_another_step_is_reported_by_export_and_refused_by_push(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_card(run, ignore)
    push(run)
    export_command(run, "1")
    printed = capsys.readouterr().err
    assert f"write it again before you publish it: tunesmith card {run}" in printed
    assert "2 optimizer steps" in path.read_text()
    with pytest.raises(DataError, match=rf"written for another model.*write it again: tunesmith card {run}$") as caught:
        push(run)
    assert str(caught.value.where).endswith("README.md")
    write_card(run, ignore)
    text = path.read_text()
    assert "The weights are those after 1 optimizer step of 2 planned" in text
    assert "On the validation data, after step 1" in text
    push(run)
    export_command(run, "1")
    assert "write it again" not in capsys.readouterr().err


def test_push_refuses_what_was_changed_by_hand_and_takes_a_text_without_marks(run: Path) -> None:
    path = write_card(run, ignore)
    text = path.read_text()
    lines = text.splitlines()
    for edited, fault in (
        (text.replace("2 optimizer steps", "9 optimizer steps"), "edited by hand: 'summary'"),
        (text.replace("license: mit", "license: apache-2.0"), "edited by hand: 'front matter'"),
        (text + "\nMine.\n", "edited by hand: 'text at the end'"),
        ("\n".join(line for line in lines if "tunesmith:digests" not in line), "the last line of the card"),
        (text.replace('tunesmith:digests {"', "tunesmith:digests {"), "the last line of the card"),
    ):
        path.write_text(edited)
        with pytest.raises(DataError, match=rf"{fault}.*tunesmith card {run} --force"):
            push(run)
    path.write_text("\n".join(line for line in lines if not line.startswith("<!-- tunesmith:")))
    push(run)


def test_push_refuses_results_that_are_not_those_of_the_card(run: Path) -> None:
    export = write_card(run, ignore).parent
    (export / ".eval_results").mkdir()
    (export / ".eval_results/gsm8k.yaml").write_text("- value: 99\n")
    with pytest.raises(DataError, match="these results are not those of the card; delete the file"):
        push(run)
    (export / ".eval_results/gsm8k.yaml").rename(export / ".eval_results/mine.yaml")
    push(run)


def test_the_card_of_an_export_elsewhere_is_about_that_export(run: Path, tmp_path: Path) -> None:
    before = write_card(run, ignore).read_bytes()
    output = tmp_path / "published"
    export_command(run, "1", output)
    with pytest.raises(MissingInputError, match=f"tunesmith card RUN --output {output}"):
        push(output)
    card_command(run, output)
    text = (output / "README.md").read_text()
    assert "The weights are those after 1 optimizer step of 2 planned" in text
    assert "tunesmith export RUN --step 1 --output DIRECTORY" in text
    assert ModelCard.load(output / "README.md").data.license == "mit"
    push(output)
    assert (run / "export" / "README.md").read_bytes() == before
    card_command(run, run.parent / "run" / ".." / "run" / "export")  # the export of the run, in other words
    assert (run / "export" / "README.md").read_bytes() == before


def test_a_card_is_of_no_other_run_and_of_no_other_directory(run: Path, tmp_path: Path) -> None:
    other = train_recipe(small_recipe(tmp_path / "other", [*BRIEF, "train.learning_rate=0.02"])).directory
    with pytest.raises(UsageError, match=r"this is an export of another run: \S+ is not the same"):
        write_card(run, ignore, output=other / "export")
    with pytest.raises(MissingInputError, match=r"it has no tunesmith.json; write it first: tunesmith export"):
        write_card(run, ignore, output=tmp_path)
    assert not (other / "export" / "README.md").exists()


def test_the_key_that_another_run_has_is_named(run: Path, tmp_path: Path) -> None:
    export_command(run, "last", tmp_path / "out")
    path = tmp_path / "out" / "recipe.yaml"
    path.write_text(path.read_text().replace("learning_rate: 0.01", "learning_rate: 0.02"))
    with pytest.raises(UsageError, match=r"train\.learning_rate is not the same"):
        write_card(run, ignore, output=tmp_path / "out")


def test_an_export_before_weights_were_exchanged_is_one_of_its_run(tmp_path: Path) -> None:
    """A run goes on with split weights in place of float32 ones, which are the same numbers."""
    words, output = [*BRIEF, "model.dtype=bfloat16"], tmp_path / "out"
    run = train_recipe(small_recipe(tmp_path, [*words, "train.weights=float32"])).directory
    export_command(run, "last", output)
    train_recipe(small_recipe(tmp_path, [*words, "train.weights=split", "train.steps=3"]))
    card_command(run, output)
    push(output)
    path = output / "recipe.yaml"
    path.write_text(path.read_text().replace("  weights: float32\n", "  weights: bfloat16-stochastic\n"))
    with pytest.raises(UsageError, match=r"train\.weights is not the same"):
        write_card(run, ignore, output=output)


@pytest.mark.filterwarnings("ignore")
def test_the_printed_pipeline_of_an_export_with_code_runs(run: Path, tmp_path: Path) -> None:
    output = tmp_path / "published"
    export_command(run, "last", output, with_pipeline=True)
    card_command(run, output)
    text = (output / "README.md").read_text()
    (example,) = [each for each in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "import pipeline" in each]
    assert "trust_remote_code=True" in example
    assert run_example(example.replace("DIRECTORY", str(output))).endswith("\n")
    assert "tunesmith export RUN --with-pipeline --output DIRECTORY" in text
    push(output)
    plain = write_card(run, ignore)
    assert "trust_remote_code" not in plain.read_text()
    (output / "README.md").write_text(plain.read_text())
    (fault,) = find_card_faults(output)
    assert fault.what == "the card was written for another model, not for the one next to it"


def test_adapters_alone_get_a_card_that_loads_them_on_their_base(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    torch.set_num_threads(1)
    end, base = "<|endoftext|>", tmp_path / "base"
    write_tokenizer(base, byte_level(), bos=end, eos=end, unk=end)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    new_model({"architecture": "llama", "num_key_value_heads": 2, **sizes}, 1000, seed=1).save_pretrained(base)
    words = [*BRIEF, "model.init=null", f"model.path={base}", f"model.tokenizer={base}", "model.resize=grow"]
    run = train_recipe(small_recipe(tmp_path, [*words, "model.adapter={rank: 2, alpha: 4}"])).directory
    whole = write_card(run, ignore)
    assert "`DIRECTORY/adapter` has the adapters alone" in whole.read_text()
    path = write_card(run, ignore, output=run / "export" / "adapter")
    text = path.read_text()
    assert path == run / "export" / "adapter" / "README.md"
    assert ModelCard.load(path).data.to_dict()["library_name"] == "peft"
    assert "these are low-rank adapters, without the weights of the base model" in text
    assert "custom" not in text
    (example,) = [each for each in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "peft" in each]
    assert run_example(example.replace("DIRECTORY", str(path.parent)).replace("BASE", str(base))).endswith("\n")
    push(path.parent)

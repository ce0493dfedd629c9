"""Cards that do not record their model, of adapters, with results of others, and those that cannot be read."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch

from tests.publish.card.card_runs import copy_run
from tests.publish.card.test_exports_elsewhere import BRIEF, ignore, push
from tests.text.small_tokenizers import byte_level, write_tokenizer
from tests.worlds import small_recipe
from tunesmith.apps.provenance.verify import open_inventory, verify_files
from tunesmith.cli.export import export as export_command
from tunesmith.compose import train_recipe
from tunesmith.errors import DataError
from tunesmith.model.load import new_model
from tunesmith.publish.card.found import LARGEST, find_card_faults
from tunesmith.publish.card.verification import add_card_files
from tunesmith.publish.card.writing import write_card

NOT_RECORDED = "the card does not record its model, so it is not known whether it was written for the one next to it"


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with adapters."""
    torch.set_num_threads(1)
    root, end = tmp_path_factory.mktemp("outdated"), "<|endoftext|>"
    base = root / "base"
    write_tokenizer(base, byte_level(), bos=end, eos=end, unk=end)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    new_model({"architecture": "llama", "num_key_value_heads": 2, **sizes}, 1000, seed=1).save_pretrained(base)
    words = [*BRIEF, "model.init=null", f"model.path={base}", f"model.tokenizer={base}", "model.resize=grow"]
    return train_recipe(small_recipe(root, [*words, "model.adapter={rank: 2, alpha: 4}"])).directory


@pytest.fixture
def run(trained_run: Path, tmp_path: Path) -> Path:
    return copy_run(trained_run, tmp_path / "run")


def without_model(card: Path) -> str:
    """The card as earlier versions wrote it, without the digest of its model."""
    text = re.sub(r', "model": "[0-9a-f]{16}"', "", card.read_text())
    assert text != card.read_text()
    card.write_text(text)
    return text


def findings(directory: Path, name: str) -> list[tuple[str, str]]:
    """State and reason of what `tunesmith verify` finds of a file."""
    found = verify_files(open_inventory(directory, add_card_files))
    return [(each.state, each.reason) for each in found if each.path == name]


def test_a_card_without_its_model_is_published_with_a_notice_until_it_is_written_again(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_card(run, ignore)
    before = path.read_text()
    without_model(path)
    push(run)
    assert f"{NOT_RECORDED}; write it again: tunesmith card {run}\n" in capsys.readouterr().err
    ((state, reason),) = findings(run, "export/README.md")
    assert state == "not covered"
    assert reason.startswith(NOT_RECORDED)
    export_command(run, "last")
    assert f"{NOT_RECORDED}; write it again before you publish it: tunesmith card {run}\n" in capsys.readouterr().err
    path.write_text(path.read_text().replace("2 optimizer steps", "9 optimizer steps"))
    with pytest.raises(DataError, match="edited by hand: 'summary'"):
        push(run)
    assert write_card(run, ignore, force=True).read_text() == before
    push(run)
    assert "write it again" not in capsys.readouterr().err


def test_the_advice_for_an_export_without_its_run_can_be_followed(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "published"
    write_card(run, ignore)
    shutil.copytree(run / "export", output)
    shutil.rmtree(run)
    text = without_model(output / "README.md")
    push(output)
    assert f"{NOT_RECORDED}; write it again: tunesmith card RUN --output {output}; without" in capsys.readouterr().err
    other = re.sub(r'"\} -->\n$', '", "model": "0123456789abcdef"} -->\n', text)
    (output / "README.md").write_text(other)
    with pytest.raises(DataError, match=r"another model.*; without the run, compare it with the model; to publish"):
        push(output)
    lines = [line for line in text.splitlines() if not line.startswith("<!-- tunesmith:")]
    (output / "README.md").write_text("\n".join(lines))
    capsys.readouterr()
    push(output)
    assert "card" not in capsys.readouterr().err


def test_the_card_of_the_adapters_is_kept_and_checked_like_that_of_the_model(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = run / "export" / "adapter"
    command = f"tunesmith card {run} --output {adapter}"
    write_card(run, ignore)
    path = write_card(run, ignore, output=adapter)
    text = path.read_text()
    push(run)
    assert findings(run, "export/adapter/README.md") == []
    path.write_text(text.replace("low-rank", "high-rank"))
    assert [state for state, _ in findings(run, "export/adapter/README.md")] == ["damaged"]
    with pytest.raises(DataError, match=rf"edited by hand.*{command} --force; or, to publish") as caught:
        push(run)
    assert str(caught.value.where) == str(path)
    path.write_text(text)
    (adapter / "notes.txt").write_text("mine")
    capsys.readouterr()
    export_command(run, "1")
    printed = capsys.readouterr().err
    assert f"kept in {run / 'export'}: adapter/README.md" in printed
    assert f"write it again before you publish it: {command}\n" in printed
    assert (path.read_text(), (adapter / "notes.txt").read_text()) == (text, "mine")
    write_card(run, ignore)
    with pytest.raises(DataError, match=rf"written for another model.*; write it again: {command}$"):
        push(run)
    assert "1 optimizer step" in write_card(run, ignore, output=adapter).read_text()
    push(run)


def test_results_of_others_are_replaced_as_the_advice_says(run: Path) -> None:
    results = write_card(run, ignore).parent / ".eval_results"
    results.mkdir()
    for name in ("gsm8k.yaml", "mine.yaml"):
        (results / name).write_text("- value: 99\n")
    with pytest.raises(DataError, match=rf"delete the file, or write it again: tunesmith card {run} --force$"):
        push(run)
    write_card(run, ignore)
    assert (results / "gsm8k.yaml").exists(), "only what it recorded"
    write_card(run, ignore, force=True)
    assert [path.name for path in results.iterdir()] == ["mine.yaml"]
    push(run)


def test_an_edited_card_of_another_model_is_reported_by_export(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_card(run, ignore)
    path.write_text(f"{path.read_text()}\nMine.\n")
    assert [each.kind for each in find_card_faults(path.parent)] == ["edited"]
    export_command(run, "last")
    assert "write it again" not in capsys.readouterr().err
    export_command(run, "1")
    assert [each.kind for each in find_card_faults(path.parent)] == ["edited", "stale"]
    printed = capsys.readouterr().err
    assert "not for the one next to it, and the card was edited by hand: 'text at the end'" in printed
    assert f"write it again before you publish it: tunesmith card {run} --force\n" in printed


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.write_bytes(b"x" * (LARGEST + 1))])
def test_a_card_that_cannot_be_read_is_a_warning_after_the_export(
    make: object, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "published"
    export_command(run, "last", output)
    assert callable(make)
    make(output / "README.md")
    export_command(run, "1", output)
    printed = capsys.readouterr().err
    assert f"exported step 1 to {output}\nwarning: the card of the export cannot be checked: {output}" in printed

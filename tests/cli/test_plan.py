"""`tunesmith plan`: lines of 80 columns, an exit code, JSON, and counts of the user's own data."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.worlds import write_world
from tunesmith.cli import main as command_line
from tunesmith.compose.sizing.command import PlanOptions, plan_recipe
from tunesmith.compose.sizing.hardware import GPUS
from tunesmith.recipe.load import load


def called(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[object, str, str]:
    """(exit code, standard output, standard error)."""
    monkeypatch.setattr(sys, "argv", ["tunesmith", "plan", *words])
    with pytest.raises(SystemExit) as caught:
        command_line.main()
    found = capsys.readouterr()
    return caught.value.code, found.out, found.err


def test_a_run_that_does_not_fit_has_every_line_and_the_cheapest_changes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = called(
        monkeypatch, capsys, "dolly-v2-12b", "--gpu", "h200", "--tokens", "4_000_000".replace("_", "")
    )
    assert code == 78
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "dolly-v2-12b on one H200"
    assert "11,846,072,320 parameters" in out
    for name in ("weights", "gradients", "moments", "activations", "reserve", "together", "checkpoint", "host memory"):
        assert any(line.startswith(f"  {name} ") for line in lines), name
    assert "192.6 GiB   139 % of 139.0 GiB: it does not fit" in out
    assert "14 min   4,000,000 tokens at 4,870 tokens a second" in out
    words = lines[lines.index("to make it fit, append") + 1].split()
    assert words == ["train.moments=8bit"]
    assert load(["dolly-v2-12b"], words).recipe.train.moments == "8bit"
    assert "  2 GPUs\n    104.9 GiB on each; the same result" in out


NAMED = ("weights", "gradients", "moments", "activations", "head", "reserve", "together", "checkpoint", "host memory")


@pytest.mark.parametrize(
    "words",
    [
        ["dolly-v2-3b"],
        ["dolly-v2-12b", "lora"],
        ["dolly-v2-3b", "train.offload=moments"],
        ["flan-t5-dolly-xxl", "one-h200"],
        ["tulu-2.5-13b-uf-rm"],
        ["dolly-v2-3b", "evaluate.replies=200", "evaluate.batch_size=512"],
    ],
    ids=" ".join,
)
def test_every_plan_has_a_line_for_each(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where a line is 0, or where replies need more than a step."""
    _, out, _ = called(monkeypatch, capsys, *words, "--gpu", "h200")
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "model: " in out
    training = " ".join(out.split()).partition("in a forward and backward pass")[2]
    for name in NAMED:
        in_step = name in ("gradients", "activations", "head") and f"{name} " in training
        assert in_step or len([line for line in lines if line.startswith(f"  {name} ")]) == 1, name


def test_a_run_that_fits_has_no_advice(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = called(monkeypatch, capsys, "dolly-v2-3b", "--gpu", "h200")
    assert code == 0
    assert "it fits" in out
    assert "give --tokens" in " ".join(out.split())
    assert "to make it fit" not in out


def test_json_is_for_programs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("oasst-rlhf-pythia-12b", "eight-80gb", "--gpu", "h200", "--gpus", "8", "--json")
    code, out, _ = called(monkeypatch, capsys, *words)
    content = json.loads(out)
    assert code == 0
    assert content["fits"]
    assert content["shard"] == "zero3"
    assert {line["name"] for line in content["memory"]["lines"]} >= {"reference", "reward model", "cache", "gathered"}
    assert content["memory"]["available"] == GPUS["h200"].memory


def test_tokens_and_rows_are_those_of_data_and_tokenizer_that_are_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_world(tmp_path)
    code, out, _ = called(monkeypatch, capsys, str(recipe), "--gpu", "4090", "--json")
    content = json.loads(out)
    assert code == 0
    result = plan_recipe([str(recipe)], PlanOptions(gpu="4090", speed=100.0))
    assert content["tokens"] == result.run.data.tokens
    assert result.run.data.steps == 30
    assert 1000 < content["tokens"] < 20_000
    assert result.run.network.rows % 16 == 0
    assert result.duration.training == pytest.approx(result.run.data.tokens / 100.0)
    assert result.measured


def test_mistakes_are_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = called(monkeypatch, capsys, "dolly-v2-3b", "--gpu", "h20")
    assert code == 64
    assert "no GPU is known as 'h20'; did you mean h200? known are b200, h200" in err
    code, _, err = called(monkeypatch, capsys, "dolly-v2-3b", "model.path=./nowhere", "--gpu", "h200")
    assert code == 66
    assert "there is no such model directory" in err


def test_a_run_that_does_not_exist_yet_has_the_model_of_its_recipe(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = called(monkeypatch, capsys, "oasst-rlhf-pythia-12b", "--gpu", "h200")
    assert "the recipe oasst-sft-4-pythia-12b, which has not run yet" in " ".join(out.split())


def test_readers_and_formats_that_are_chosen_are_planned_as_in_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_world(tmp_path, architecture="llama")
    named = plan_recipe([str(recipe)], PlanOptions("h200"))
    chosen = plan_recipe([str(recipe), "data.sources.0.reader=auto", "text.format=auto"], PlanOptions("h200"))
    assert chosen.run.recipe.data.sources[0].reader == named.run.recipe.data.sources[0].reader == "dolly"
    assert chosen.run.recipe.text.format == "chatml"
    assert chosen.run.data.steps == named.run.data.steps
    code, out, error = called(monkeypatch, capsys, str(recipe), "data.sources.0.reader=auto", "--gpu", "h200")
    assert (code, "it fits" in out, "error" in error) == (0, True, False)


def test_a_run_in_place_of_a_model_is_refused_as_in_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run" / "export").mkdir(parents=True)
    (tmp_path / "run" / "export" / "config.json").write_text("{}")
    code, _, error = called(monkeypatch, capsys, "dolly-v2-3b", f"model.path={tmp_path}/run")
    assert code == 66
    assert f"this is a run; name its export, {tmp_path}/run/export" in error

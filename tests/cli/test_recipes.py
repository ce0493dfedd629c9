"""`recipes`, `show` and `schema`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tunesmith.cli import recipes as commands
from tunesmith.errors import UsageError
from tunesmith.recipe.json_schema import json_schema
from tunesmith.recipe.load import list_catalog, load


def test_recipes_lists_every_recipe_and_layer_with_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    commands.recipes()
    text = capsys.readouterr().out
    for entry in list_catalog():
        assert f"  {entry.name} " in text
        assert entry.about in text
    assert [line for line in text.splitlines() if line.endswith(":")] == [
        f"{line}:" for line in (commands.OWN_DATA, *commands.HEADINGS.values())
    ]


def test_recipes_for_own_data_come_first(capsys: pytest.CaptureFixture[str]) -> None:
    commands.recipes()
    first = capsys.readouterr().out.partition("\n\n")[0]
    heading, *names = [line.split()[0] for line in first.splitlines()]
    assert heading == commands.OWN_DATA.split()[0]
    small = ["gemma-3-1b", "llama-3.2-1b", "qwen3-0.6b", "smollm2-135m", "smollm2-360m"]
    assert names == sorted(["dpo", "ppo", "reward", "sft", *small])
    commands.recipes(["own data", "objective ppo"])
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")] == ["ppo"]


def test_long_descriptions_have_their_own_line_in_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    commands.recipes(["tulu", "ppo"])
    lines = capsys.readouterr().out.splitlines()
    assert "  tulu-2.5-ppo-13b-uf-mean" in lines
    assert max(map(len, lines)) <= 80


def test_recipes_lists_those_that_have_the_words(capsys: pytest.CaptureFixture[str]) -> None:
    commands.recipes(["TULU", "reward model", "70b"])
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert "tulu-2.5-70b-uf-rm" in names
    assert all("70b" in name for name in names)
    with pytest.raises(UsageError, match="no recipe or layer contains the words 'tulu nothing'"):
        commands.recipes(["tulu", "nothing"])


def test_show_prints_a_recipe_that_loads_again_with_the_origin_of_every_value(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["oasst-sft-4-pythia-12b", "tiny", "train.epochs=1"]
    commands.show(words[0], words[1:])
    text = capsys.readouterr().out
    assert "\x1b" not in text
    line = next(line for line in text.splitlines() if line.startswith("  epochs:"))
    assert line.split() == ["epochs:", "1.0", "#", "command", "line"]
    assert all("  # " in line for line in text.splitlines() if not line.rstrip().endswith(":"))
    path = tmp_path / "shown.yaml"
    path.write_text(text)
    assert load([str(path)]).recipe == load(words[:2], words[2:]).recipe


def test_show_colours_origins_in_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    commands.show("dolly-v2-3b")
    assert "\x1b[2m" in capsys.readouterr().out


def test_show_as_json_holds_recipe_and_origins(capsys: pytest.CaptureFixture[str]) -> None:
    commands.show("dolly-v2-3b", as_json=True)
    shown = json.loads(capsys.readouterr().out)
    assert shown["recipe"]["train"]["learning_rate"] == 5e-6
    assert shown["origins"]["train.learning_rate"].startswith("dolly-v2-3b:")


def test_show_prints_placeholders_for_what_only_the_user_knows(capsys: pytest.CaptureFixture[str]) -> None:
    commands.show("sft")
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "path: DIRECTORY_OR_HUB_NAME # missing: append model.path=DIRECTORY_OR_HUB_NAME" in lines
    assert "path: YOUR_FILE # missing: append data.sources.0.path=YOUR_FILE" in lines
    commands.show("sft", as_json=True)
    shown = json.loads(capsys.readouterr().out)
    assert shown["recipe"]["model"]["path"] == "DIRECTORY_OR_HUB_NAME"
    assert shown["origins"]["model.path"] == "missing: append model.path=DIRECTORY_OR_HUB_NAME"


def test_schema_goes_to_the_output_or_to_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commands.schema()
    printed = json.loads(capsys.readouterr().out)
    commands.schema(output=tmp_path / "recipe.schema.json")
    assert capsys.readouterr().out == ""
    assert json.loads((tmp_path / "recipe.schema.json").read_text()) == printed == json_schema()

"""`tunesmith check` on the built-in recipes, with real data and the tokenizers they name; skipped without them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tunesmith.compose import train_recipe
from tunesmith.compose.check.recipe import collect_checks
from tunesmith.recipe.load import load

RECORDS = 100  # of every file, enough for every check; the readers are tested on whole files elsewhere
TREES = 40

DOLLY = ["dolly-v2-3b", "dolly-v2-7b", "dolly-v2-12b"]
PREFERENCES = [  # recipe, file, reader and options
    (
        "tulu-2.5-dpo-13b-uf-overall",
        "preference/ultrafeedback_binarized-400.jsonl",
        "reader: preference-text, options: {ties: drop, on_equal: drop}",
    ),
    (
        "tulu-2.5-dpo-13b-uf-mean",
        "preference/hh_harmless-300.jsonl",
        "reader: hh, options: {on_equal: drop, empty: drop}",
    ),
    ("tulu-2.5-13b-uf-rm", "preference/dpo_en_sharegpt-300.json", "reader: preference-sharegpt"),
    (
        "oasst-rm-pythia-1.4b",
        "oasst/oasst1_en_validation-90.trees.jsonl",
        "reader: oasst, options: {keep: rankings, lang: [en]}",
    ),
]
OASST = ["oasst-sft-1-pythia-12b", "oasst-sft-4-pythia-12b"]


def first_records(path: Path, root: Path, count: int = RECORDS) -> Path:
    """A file with the first records of a JSON or JSON Lines file."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        text = json.dumps(json.loads(text)[:count])
    else:
        text = "".join(text.splitlines(keepends=True)[:count])
    (root / path.name).write_text(text, encoding="utf-8")
    return root / path.name


def dolly_sources(real_data: Callable[[str], Path], root: Path) -> list[str]:
    path = first_records(real_data("dolly/dolly-6000.jsonl"), root)
    return [f"data.sources.0.path={path}", "data.validation=30"]


def oasst_sources(real_data: Callable[[str], Path], root: Path) -> list[str]:
    alpaca = json.loads(real_data("alpaca/alpaca-2000.json").read_text())[:RECORDS]
    (root / "alpaca.json").write_text(json.dumps([row for row in alpaca if row["output"].strip()]))
    trees = first_records(real_data("oasst/oasst1_en_validation-90.trees.jsonl"), root, TREES)
    return [
        f"data.sources=[{{path: {trees}, reader: oasst, options: {{lang: [en]}}}}, "
        f"{{path: {root}/alpaca.json, reader: alpaca, options: {{join: true}}}}]"
    ]


def test_the_built_in_recipe_of_an_encoder_decoder_passes(tmp_path: Path, real_data: Callable[[str], Path]) -> None:
    overrides = [
        *dolly_sources(real_data, tmp_path),
        f"model.tokenizer={real_data('tokenizers/t5')}",
        f"data.cache={tmp_path / 'cache'}",
        "data.workers=0",
    ]
    checked = collect_checks(load(["flan-t5-dolly-xxl", "tiny-t5"], overrides), lambda done, total, label: None)
    assert checked.exit_code == 0, [check for check in checked.report.checks if check.status == "fail"]
    assert {check.status for check in checked.report.checks} & {"pass"}


@pytest.mark.parametrize("name", [*DOLLY, *OASST])
def test_a_built_in_recipe_passes(name: str, tmp_path: Path, real_data: Callable[[str], Path]) -> None:
    sources = dolly_sources if name in DOLLY else oasst_sources
    overrides = [
        *sources(real_data, tmp_path),
        f"model.tokenizer={real_data('tokenizers/pythia')}",
        f"data.cache={tmp_path / 'cache'}",
        "data.workers=0",
    ]
    checked = collect_checks(load([name, "tiny"], overrides), lambda done, total, label: None)
    assert checked.exit_code == 0, [check for check in checked.report.checks if check.status == "fail"]
    statuses = {check.name: check.status for check in checked.report.checks}
    assert statuses["attention"] == "pass"
    assert statuses["batches"] == "pass"
    assert checked.report.facts["texts"]["records"] >= 80


@pytest.mark.parametrize(("recipe", "name", "reading"), PREFERENCES)
def test_a_built_in_recipe_of_preferences_passes(
    recipe: str, name: str, reading: str, tmp_path: Path, real_data: Callable[[str], Path]
) -> None:
    given = preferences(real_data, tmp_path, name, reading, TREES if name.startswith("oasst") else RECORDS)
    checked = collect_checks(load([recipe, "tiny"], given), lambda done, total, label: None)
    assert checked.exit_code == 0, [check for check in checked.report.checks if check.status == "fail"]
    assert checked.report.facts["texts"]["records"] >= TREES


def test_a_recipe_of_ppo_is_checked_against_its_reward_model(
    tmp_path: Path, real_data: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the layer names runs/reward-tiny, which nobody has trained here
    name, reading = "preference/hh_harmless-300.jsonl", "reader: hh, options: {on_equal: drop, empty: drop}"
    given = preferences(real_data, tmp_path, name, reading, TREES)
    recipe = load(["tulu-2.5-ppo-13b-uf-mean", "tiny-ppo"], given)
    (failed,) = collect_checks(recipe, lambda done, total, label: None).report.having("fail")
    assert "runs/reward-tiny: there is no such directory" in failed.summary
    shutil.copytree(_reward_model(tmp_path, given), tmp_path / "runs" / "reward-tiny")
    checked = collect_checks(recipe, lambda done, total, label: None)
    assert checked.exit_code == 0, checked.report.having("fail")


def _reward_model(root: Path, given: Sequence[str]) -> Path:
    """A small one for the tokens of the recipe; what it has learned does not matter."""
    small = ["train.epochs=null", "train.steps=1", "train.batch_size=2", "train.evaluate_every=null"]
    small += ["model.init.hidden_size=32", "model.init.intermediate_size=64", f"run.directory={root / 'trained'}"]
    return train_recipe(load(["tulu-2.5-13b-uf-rm", "tiny"], [*given, *small])).directory


def preferences(
    real_data: Callable[[str], Path], root: Path, name: str, reading: str, count: int = RECORDS
) -> list[str]:
    return [
        f"data.sources=[{{path: {first_records(real_data(name), root, count)}, {reading}}}]",
        f"model.tokenizer={real_data('tokenizers/pythia')}",
        f"data.cache={root / 'cache'}",
        "data.workers=0",
        "data.validation=20",
        f"text.max_length={2048 if 'sharegpt' in name else 1024}",
    ]

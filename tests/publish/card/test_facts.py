"""Facts of a card: no local path, separate validation data, the time of the exported steps, intervals of shares."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.publish.card.card_runs import ENGLISH, GERMAN, ignore
from tests.worlds import ppo_recipe, preference_recipe, small_recipe
from tunesmith.compose import train_recipe
from tunesmith.publish.card.evaluation_sections import evaluation, limitations
from tunesmith.publish.card.reading import read_facts
from tunesmith.publish.card.training_sections import training_data
from tunesmith.publish.card.writing import write_card
from tunesmith.recipe.load import load
from tunesmith.report.intervals import Rate
from tunesmith.report.metric_intervals import share_interval
from tunesmith.train.run.validation import ALL

BRIEF = ["train.steps=2", "train.save_every=1", "train.evaluate_every=1", "train.keep=5", "train.log_every=1"]


def notice(text: str) -> None:
    pass


def validation_rows(root: Path, demonstrations: Path) -> list[dict[str, str]]:
    """Two records in two languages, and one that is in the training data as well."""
    known = json.loads(demonstrations.read_text().splitlines()[0])
    rows = [
        {**known, "instruction": f"{ENGLISH}?", "response": ENGLISH, "context": ""},
        {**known, "instruction": f"{GERMAN}?", "response": GERMAN, "context": ""},
    ]
    shared = {**known, "instruction": "Say one two three four five six seven eight nine.", "context": ""}
    with demonstrations.open("a") as file:
        file.write(json.dumps(shared) + "\n")
    return [*rows, {**shared, "response": "nine"}]


def test_the_limit_of_every_validation_source_is_that_of_its_evaluation(tmp_path: Path) -> None:
    small_recipe(tmp_path)
    sources = [
        f"{{name: {name}, path: {tmp_path}/demonstrations.jsonl, reader: dolly{limit}}}"
        for name, limit in (("few", ", validation_limit: 2"), ("usual", ""))
    ]
    separate = f"data.validation_sources=[{', '.join(sources)}]"
    brief = ["train.steps=1", "train.evaluate_every=null", "train.save_every=null", "data.validation=0", separate]
    run = train_recipe(small_recipe(tmp_path, [*brief, "data.validation_limit=3"])).directory
    text = write_card(run, notice).read_text()
    assert "Validation data are separate:\n\n| source | data | license | records | evaluated |" in text
    assert re.search(r"\| `few` \|.*\| at most 2 \|\n\| `usual` \|.*\| at most 3 \|\n", text)
    facts = read_facts(run, lambda done, total, label: None)
    few, usual = facts.data.separate
    for limits, said in (
        ((None, None), "Validation data are separate:\n\n| source | data | license | records |\n"),
        ((5, 5), "separate, of which at most 5 records of each source are evaluated:\n"),
        ((5, None), "| at most 5 |"),
        ((None, 5), "| all |"),
    ):
        each = (replace(few, limit=limits[0]), replace(usual, limit=limits[1]))
        assert said in training_data(replace(facts, data=replace(facts.data, separate=each))).text


def test_separate_validation_data_are_part_of_the_card(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    small_recipe(tmp_path)
    path = tmp_path / "held" / "out.jsonl"
    path.parent.mkdir()
    rows = validation_rows(tmp_path, tmp_path / "demonstrations.jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    separate = f"data.validation_sources=[{{path: {path}, reader: dolly}}]"
    words = [*BRIEF, "data.validation=0", separate, f"card.licenses={{{path}: cc-by-4.0}}"]
    run = train_recipe(small_recipe(tmp_path, words)).directory
    text = write_card(run, notice).read_text()
    assert "Validation data are separate:\n\n| source | data | license | records |" in text
    assert "| `out` | `out.jsonl` | `cc-by-4.0` | 3 |" in text
    assert "of the separate validation data, detected by py3langid: German 50.0 %, English 50.0 %" in text or (
        "of the separate validation data, detected by py3langid: English 50.0 %, German 50.0 %" in text
    )
    assert "1 record of 61 in the training data have a text of the separate validation data" in text
    assert "language:\n- de" not in text  # nothing of them is in the weights
    before = (run / "data-survey.json").read_bytes()
    path.write_text(path.read_text().replace("nine", "ten"))
    (run / "data-survey.json").unlink()
    text = write_card(run, notice).read_text()
    assert "| `out` | `out.jsonl` | `cc-by-4.0` | not known |" in text
    assert not (run / "data-survey.json").exists()
    assert b"validation_records" in before


def test_no_local_path_is_in_a_card(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    root = tmp_path / "secret project"
    recipe = ppo_recipe(root, BRIEF)
    command = [
        *("tunesmith", "train", f"{root}/recipe.yaml", f"data.sources=[{{path: {root}/demonstrations.jsonl}}]"),
        *("data.cache=~/tunesmith/cache", f"model.path={root}/runs/base/export", "about=/think step/by"),
    ]
    run = train_recipe(recipe, command=command).directory
    text = write_card(run, notice).read_text()
    assert "secret" not in text
    for word in ("recipe.yaml 'data.sources=[{path: demonstrations.jsonl}]'", "data.cache=cache", "model.path=base"):
        assert word in text
    assert "'about=/think step/by'" in text


def test_a_text_that_is_no_path_is_shown_as_it_is(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    run = train_recipe(small_recipe(tmp_path, [*BRIEF, "about=/think step/by"])).directory
    assert "about: /think step/by" in write_card(run, notice).read_text()


def test_the_time_is_that_of_the_exported_steps(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    run = train_recipe(small_recipe(tmp_path, BRIEF)).directory
    lines = [json.loads(line) for line in (run / "timing.jsonl").read_text().splitlines()]
    for line in lines:
        line["seconds"] = 3600.0
    (run / "timing.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "These steps alone took 2:00:00 (" in write_card(run, notice).read_text()
    path = run / "export" / "tunesmith.json"
    path.write_text(path.read_text().replace('"steps": 2', '"steps": 1'))
    assert "These steps alone took 1:00:00 (" in write_card(run, notice).read_text()


@pytest.mark.parametrize("objective", ["{kind: dpo}", "{kind: reward}"])
def test_shares_of_preference_pairs_have_the_intervals_of_diff(tmp_path: Path, objective: str) -> None:
    torch.set_num_threads(1)
    words = [*BRIEF, "data.validation=12", f"objective={objective}"]
    run = train_recipe(preference_recipe(tmp_path, words)).directory
    facts = read_facts(run, ignore)
    section = evaluation(facts)
    assert section is not None
    metrics = facts.training.metrics[ALL]
    name = "rewards/accuracies" if "dpo" in objective else "accuracy"
    interval = share_interval(name, metrics)
    assert interval is not None
    assert "shares have intervals of 95 %" in section.text
    shown = f"{metrics[name]:.1%} ({interval[0]:.1%} to {interval[1]:.1%})".replace("%", " %")
    assert shown in section.text


def test_the_share_of_replies_that_ended_has_an_interval(dolly_run: Path) -> None:
    facts = read_facts(dolly_run, ignore)
    metrics = {ALL: {"stopped": 0.5, "prompts": 8.0, "loss": 2.0}}
    found = limitations(replace(facts, training=replace(facts.training, metrics=metrics)))
    assert found is not None
    low, high = Rate(4, 8).interval()
    assert f"({low:.1%} to {high:.1%}) of the greedy replies".replace("%", " %") in found.text
    assert load([str(dolly_run / "recipe.yaml")]).recipe.name == facts.recipe.name

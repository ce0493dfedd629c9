"""Of two runs the key that was changed is named, with its origin, and only metrics that it can explain point to it."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.runs import train_small_run
from tunesmith.apps.provenance.diff import run
from tunesmith.apps.provenance.differences import Difference
from tunesmith.apps.provenance.effects import KEYS, KINDS, effect_of
from tunesmith.recipe.keys import all_keys

World = Callable[[str], Path]


def compared(first: Path, second: Path) -> dict[str, Any]:
    target = io.StringIO()
    run(first, second, as_json=True, target=target)
    found: dict[str, Any] = json.loads(target.getvalue(), parse_constant=pytest.fail)
    return found


def named(found: dict[str, Any]) -> list[str]:
    """What differs, apart from the directory of the run, whose name is always another one."""
    return [f"{each['kind']} {each['key']}" for each in found["differences"] if each["key"] != "run.directory"]


def explained(found: dict[str, Any]) -> set[str]:
    """The outcomes that differ and can be explained by the first difference."""
    return {row["outcome"] for row in found["outcomes"] if 1 in row["explained_by"]}


TRAINED = {
    "learning rate": ("train.learning_rate=0.02", "recipe train.learning_rate", "training"),
    "seed": ("seed=6", "seed seed", "training"),
    "replies": ("evaluate.max_new_tokens=2", "recipe evaluate.max_new_tokens", "replies"),
    "evaluations": ("train.evaluate_every=4", "recipe train.evaluate_every", None),
    "name": ("name=other", "recipe name", None),
}
"""Setting -> what is named, and an outcome that it changes; None if it changes none."""


def test_json_has_only_what_every_terminal_can_print(finished: World, tmp_path: Path) -> None:
    """A half of a character cannot be encoded, and C1 controls are commands."""
    first, second = finished("sft") / "run", shutil.copytree(finished("sft") / "run", tmp_path / "two")
    text = (second / "recipe.yaml").read_text()
    (second / "recipe.yaml").write_text(text.replace("name: small", 'name: "\\ud800 \\x9b31m \\u202e"'))
    target = io.StringIO()
    run(first, second, as_json=True, target=target)
    assert target.getvalue().isascii()
    assert json.loads(target.getvalue())["differences"][0]["after"] == "\ud800 \x9b31m \u202e"


def test_a_run_with_nan_differs_from_itself_in_nothing(finished: World, tmp_path: Path) -> None:
    first = shutil.copytree(finished("sft") / "run", tmp_path / "one")
    text = (first / "metrics.jsonl").read_text()
    (first / "metrics.jsonl").write_text(text.replace('"loss": ', '"loss": NaN, "other": '))
    second = shutil.copytree(first, tmp_path / "two")
    found = compared(first, second)
    assert not [row for row in found["outcomes"] if row["explained_by"]]
    target = io.StringIO()
    run(first, second, target=target)
    assert "->" not in target.getvalue().partition("what has come out")[2]


@pytest.mark.parametrize("change", TRAINED)
def test_the_key_that_was_changed_is_named(change: str, finished: World) -> None:
    root = finished("sft")
    setting, expected, outcome = TRAINED[change]
    found = compared(root / "run", train_small_run(root, "sft", setting, name=change))
    assert named(found)[0] == expected
    first = found["differences"][0]
    assert (first["after"], first["after_origin"]) == (setting.partition("=")[2], "command line")
    assert first["before_origin"].startswith(("command line", "default", str(root)))
    changed = {row["outcome"] for row in found["outcomes"] if row["before"] != row["after"]} - {"speed"}
    assert changed == (set() if outcome is None else changed | {outcome})
    if outcome is not None:
        assert outcome in explained(found)
    if outcome == "replies":
        assert changed == {"replies"}


def test_a_changed_line_of_data_is_named_by_digest_and_counts(finished: World) -> None:
    root = finished("sft")
    path = root / "demonstrations.jsonl"
    text = path.read_text()
    path.write_text(text + text.splitlines()[0] + "\n")
    found = compared(root / "run", train_small_run(root, "sft", name="more data"))
    path.write_text(text)
    assert named(found)[:2] == ["data data.sources.demonstrations", "data data.content"]
    counts = {each["key"]: (each["before"], each["after"]) for each in found["differences"]}
    assert counts["data.report.sources.demonstrations.records"] == ("60", "61")
    assert counts["data.report.duplicates"] == ("2", "3")


RECORDED: dict[str, tuple[tuple[str, ...], Any, str]] = {
    "package": (("versions", "torch"), "2.0.0", "package torch"),
    "package of a start": (("starts", "0", "packages", "pydantic"), "1.0", "package pydantic"),
    "base weights": (("model", "files", "model.safetensors"), "0" * 64, "base weights model.files.model.safetensors"),
    "tokenizer": (("tokenizer",), "0" * 64, "tokenizer tokenizer"),
    "code": (("code",), "0" * 64, "code code"),
    "GPU": (("hardware", "gpus"), ["NVIDIA H200"], "machine gpus.0"),
    "processor": (("starts", "0", "cpu"), "another", "machine cpu"),
    "reward model": (("auxiliary", "rewards", "sha256"), "0" * 64, "other model rewards.sha256"),
}
"""What cannot be changed in a test without a second machine or installation -> its key in the manifest."""


@pytest.mark.parametrize("change", RECORDED)
def test_what_a_manifest_records_is_named(change: str, finished: World, tmp_path: Path) -> None:
    keys, value, expected = RECORDED[change]
    other = shutil.copytree(finished("sft") / "run", tmp_path / "other")
    manifest = json.loads((other / "manifest.json").read_text())
    place: Any = manifest
    for key in keys[:-1]:
        place = place[int(key)] if isinstance(place, list) else place.setdefault(key, {})
    place[keys[-1]] = value
    (other / "manifest.json").write_text(json.dumps(manifest))
    assert expected in named(compared(finished("sft") / "run", other))


def test_an_edited_recipe_is_named_as_such(finished: World, tmp_path: Path) -> None:
    other = shutil.copytree(finished("sft") / "run", tmp_path / "other")
    path = other / "recipe.yaml"
    path.write_text(path.read_text().replace("clip: 1.0", "clip: 0.5"))
    (first,) = compared(finished("sft") / "run", other)["differences"]
    assert (first["key"], first["before_origin"], first["after_origin"]) == (
        *("train.clip", "default"),
        "recipe.yaml, after the run",
    )


def test_a_section_that_one_run_has_differs_by_its_values(finished: World, tmp_path: Path) -> None:
    """What is null or empty in it is absent in the other one; and a card affects no result."""
    other = shutil.copytree(finished("sft") / "run", tmp_path / "other")
    path = other / "recipe.yaml"
    section = "card:\n  title: null\n  tags: []\n  licenses: {}\n  license: mit"
    assert path.read_text().count("card: null") == 1
    path.write_text(path.read_text().replace("card: null", section))
    found = compared(finished("sft") / "run", other)
    assert [(each["key"], each["before"], each["after"]) for each in found["differences"]] == [
        ("card.license", "", "mit")
    ]
    assert {row["explained_by"] == [] for row in found["outcomes"]} == {True}


def test_the_text_fits_and_escapes(finished: World, tmp_path: Path) -> None:
    other = shutil.copytree(finished("dpo") / "run", tmp_path / "other")
    path = other / "recipe.yaml"
    path.write_text(path.read_text().replace('about: ""', 'about: "\\e[2J' + "long " * 60 + '"'))
    target = io.StringIO()
    run(finished("sft") / "run", other, target=target)
    text = target.getvalue()
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert "  1  recipe " in text
    assert "can be explained by 1" in text


def test_equal_runs_have_no_difference(finished: World) -> None:
    target = io.StringIO()
    run(finished("sft") / "run", finished("sft") / "run", target=target)
    assert "nothing that is recorded differs" in target.getvalue()
    found = compared(finished("sft") / "run", finished("sft") / "run")
    assert found["differences"] == []
    assert {row["explained_by"] == [] for row in found["outcomes"]} == {True}


def test_replies_to_the_same_prompts_have_an_interval(finished: World, tmp_path: Path) -> None:
    first = shutil.copytree(finished("sft") / "run", tmp_path / "one")
    second = shutil.copytree(first, tmp_path / "two")
    for directory, word in ((first, "wrong"), (second, None)):
        path = directory / "predictions" / "step-000004.jsonl"
        records = [json.loads(line) for line in path.read_text().splitlines()]
        replies = [{**each, "reply": word or each["references"][0]} for each in records]
        path.write_text("".join(json.dumps(each) + "\n" for each in replies))
    rows = {row["name"]: row for row in compared(first, second)["outcomes"]}
    low, high = rows["rouge_l"]["difference_interval"]
    assert low > 0.5
    assert high == pytest.approx(1)


def test_the_table_of_effects_names_keys_that_exist() -> None:
    paths = {".".join(key.path) for key in all_keys()}
    assert [key for key in KEYS if key not in paths] == []


@pytest.mark.parametrize(
    ("kind", "key", "effect"),
    [
        ("recipe", "train.learning_rate", "everything"),
        ("recipe", "train.optimizer.betas.0", "everything"),
        ("recipe", "train.best.metrics.0.name", "choice"),
        ("recipe", "evaluate.replies", "replies"),
        ("recipe", "run.directory", "nothing"),
        ("recipe", "card.license", "nothing"),
        ("recipe", "run.export_dtype", "export"),
        ("recipe", "data.sources.3.path", "nothing"),
        ("recipe", "data.sources.3.weight", "everything"),
        ("recipe", "data.sources.3.validation_limit", "evaluation"),
        ("seed", "seed", "everything"),
        ("data", "validation.sources.a", "evaluation"),
        ("data", "data.sources.a", "everything"),
        ("machine", "cpu", "rounding"),
        ("package", "torch", "everything"),
    ],
)
def test_effects(kind: Any, key: str, effect: str) -> None:
    assert effect_of(Difference(kind, key, "a", "b")) == effect
    assert set(KINDS) <= {"machine", "hub"}

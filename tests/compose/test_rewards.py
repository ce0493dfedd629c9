"""Checks next to prompts: what can be read is read, everything else is an error with its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.worlds import ppo_recipe
from tunesmith.compose.check.recipe import collect_checks
from tunesmith.compose.models.reward_sources import read_checks
from tunesmith.data.dataset.rendering import RenderSettings, load_renderer
from tunesmith.errors import DataError
from tunesmith.evaluate.text_match import ListOf, OneOf, check_to_json
from tunesmith.text.tokens.render import Renderer
from tunesmith.text.tree import Message


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    world = tmp_path_factory.mktemp("world")
    ppo_recipe(world)
    return world


@pytest.fixture(scope="module")
def renderer(root: Path) -> Renderer:
    return load_renderer(RenderSettings(str(root / "tokenizer"), "dolly", 200))


def row(check: Any, instruction: str = "Say red.", **more: Any) -> str:
    return json.dumps({"instruction": instruction, "context": "", "response": "red", "check": check, **more}) + "\n"


def test_checks_are_found_by_what_the_model_reads(root: Path, renderer: Renderer) -> None:
    checks = [OneOf(("red", "blue")), ListOf(2, ("a", "b", "c"))]
    path = root / "two.jsonl"
    path.write_text("".join(row(check_to_json(check), f"Say {number}.") for number, check in enumerate(checks)))
    prompts = [tuple(renderer.prompt([Message("user", f"Say {number}.")])) for number in range(2)]
    assert read_checks(str(path), renderer) == dict(zip(prompts, checks, strict=True))


BAD = [None, "x", [], {}, {"one_of": 3}, {"one_of": "red"}, {"one_of": []}, {"one_of": [1]}, {"list_of": ["a"]}]
BAD += [{"list_of": ["a"], "count": "2"}, {"list_of": ["a"], "count": 0}, {"one_of": ["a"], "count": 1}, {"other": 1}]


@pytest.mark.parametrize("check", BAD, ids=json.dumps)
def test_a_check_that_cannot_be_read_names_its_line(check: Any, root: Path, renderer: Renderer) -> None:
    path = root / "bad.jsonl"
    path.write_text(row({"one_of": ["red"]}) + row(check, "Say blue."))
    with pytest.raises(DataError, match=r"bad.jsonl:2: field 'check' is .*; write"):
        read_checks(str(path), renderer)


def test_two_checks_of_one_prompt_are_refused(root: Path, renderer: Renderer) -> None:
    path = root / "twice.jsonl"
    path.write_text(row({"one_of": ["red"]}) * 2)
    assert len(read_checks(str(path), renderer)) == 1
    path.write_text(row({"one_of": ["red"]}) + row({"one_of": ["x"]}))
    with pytest.raises(DataError, match=r"twice.jsonl:2: an earlier record has another check of this prompt"):
        read_checks(str(path), renderer)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["one_of", "list_of", "count", "check", "instruction", "context"]), inner, max_size=3
        )
    ),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(["instruction", "context", "response", "check"]), values, max_size=4) | values)
def test_any_row_is_read_or_refused_with_its_place(root: Path, renderer: Renderer, value: Any) -> None:
    path = root / "any.jsonl"
    path.write_text(row({"one_of": ["red"]}) + json.dumps(value) + "\n")
    try:
        found, refused = len(read_checks(str(path), renderer)), ""
    except DataError as error:
        found, refused = 0, str(error)
    assert found in (1, 2) or "any.jsonl:2" in refused


def test_check_looks_at_the_reward_model_before_anything_is_trained(root: Path) -> None:
    rewards = f"objective.rewards=[{{kind: model, path: {root}/nothing}}]"
    checked = collect_checks(ppo_recipe(root, [rewards]), lambda done, total, label: None)
    assert checked.exit_code == 66
    assert "nothing" in checked.report.checks[-1].summary
    assert collect_checks(ppo_recipe(root), lambda done, total, label: None).exit_code == 0
